"""Every command of docs/coming_from.md runs, on phantoms, and leaves what the page states."""

import shlex

import pytest
from coming_from_tree import PAGE, Tree, commands, make_tree, output_of

#: File that a tool leaves in the folder of --out, or in its OUTPUT_DIR; "*" for any.
LEAVES = {"train": "best_predictions.json", "train-classifier": "metrics.json",
          "evaluate-classifier": "metrics.json", "convert vinbigdata": "instances_val_fold0.json",
          "convert nih": "train_val.csv", "convert-tfrecords": "packed.npy"}


@pytest.fixture(scope="session")
def tree(phantoms, tmp_path_factory) -> Tree:
    """The page's files, made once; outputs of commands stay for those that read them."""
    return make_tree(tmp_path_factory.mktemp("coming_from"), phantoms)


def test_the_page_has_every_system_and_its_commands():
    text = PAGE.read_text(encoding="utf-8")
    for system in ("chestXRay-Detection", "cxr-anomaly-detection", "cxr-pneumonia",
                   "chest-xray-disease-classification", "Zahra-Khazaei/Chest-X-ray"):
        assert system in text
    assert len(commands()) >= 30 and text.count("\n| ") >= 100
    for figure in ("18.41", "18.50", "14.49", ".2934", ".2842", ".986", ".9824", ".7055"):
        assert figure in text


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(), ids=lambda command: command.removeprefix("vindr-det ")[:80])
def test_a_command_of_the_page_runs(tree, command):
    try:
        printed = tree.run(command)
    except AssertionError as error:
        pytest.fail(f"docs/coming_from.md: this command fails, or one that it needs: {error}", pytrace=False)
    words, out = shlex.split(command), output_of(command)
    left = LEAVES.get(words[1], LEAVES.get(" ".join(words[1:3]), ""))
    if not out:
        assert printed.strip(), command
        return
    made = tree.root / out
    assert (made / left).exists(), f"{command}: left no {made / left}"
    assert made.is_file() or any(made.iterdir()), command


def test_of_the_published_figures_none_is_ours():
    """Columns of reference figures say so: what is not measured here is not filled in."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("not measured") >= 3 and "not results of this project" in text

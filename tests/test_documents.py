"""Every fenced command and snippet of the documents runs, on phantoms.

A page's commands run in the page's order, in a copy of one tree. ``GIVEN`` names files that a page takes for
granted, ``NOT_RUN`` what no test can run; of these the options are checked all the same (test_readme.py).
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import HAS_DETECTRON2, ROOT
from page_tree import PREPARED, Tree, make_tree
from pages import PAGES, Block, blocks

from vindr_det.data.coco import read_coco
from vindr_det.files import read_json
from vindr_det.submission import read_submission

#: Beginning of a command or of a page's snippet -> why it is not run here.
NOT_RUN = {
    "git clone": "network", "make ": "builds an environment, runs all tests, or both",
    "pip install": "network", "uv pip install": "network", "conda ": "network", "docker ": "network, Docker",
    "vindr-det serve": "runs until it is ended; tests/serve/test_serve.py starts it",
    "curl ": "asks a service; tests/serve/test_serve.py does",
    "vindr-det annotate from": "an export of the tool; tests/annotation_tools/test_exchange.py reads some",
    "vindr-det listen": "runs until it is ended; tests/pacs/test_service.py starts it",
    "vindr-det .* --num-gpus": "several GPUs",
    "torchrun ": "tests/test_shards.py starts a process as torchrun does",
    "dask ": "a cluster; tests/test_shards.py and tests/test_dask_cluster.py start one",
    "vindr-det .* --dask machine-0": "tests/test_shards.py does, with a cluster",
    "vindr-det .* hf://": "a hub; tests/bundle/test_hub.py runs them on a stand-in",
    "vindr-det train .* MODEL.WEIGHTS torchvision://fasterrcnn": "a download of 167 MB",
    "vindr-det train .* MODEL.WEIGHTS fasterrcnn_resnet50_fpn_coco-258fb6c6.pth": "the same",
    "vindr-det train .* MODEL.WEIGHTS detectron2://": "a download",
    # Its network must be the detector's backbone, which the tree's classifier is not.
    "vindr-det train .* MODEL.WEIGHTS outputs/classifier/fold0.pth":
        "runs in tests/training/test_classifier_backbone.py"}
#: Pages whose snippets have a test of their own.
SNIPPETS_RUN_IN = {"docs/detectron2.md": "tests/detection/test_detectron2_project.py",
                   "docs/python.md": "tests/api/test_python_page.py"}
_DETECTOR = "outputs/vindr_frcnn/model_best.pth"
_FOLD = "datasets/vindr/annotations/instances_val_fold0.json"
_OUT_OF_FOLD = "outputs/vindr_binary_effnet_b2/oof_predictions.csv"
#: Page -> folder of the tree that it makes itself, from other data.
ITS_OWN = {"docs/coming_from.md": "outputs/vindr_binary_effnet_b2"}
#: Page -> file that it takes for granted -> where that comes from in the tree.
GIVEN = {
    "docs/data.md": {"squares": "raw/png256", "some.json": "own/boxes.json", "some/images": "own/images"},
    "docs/classifier.md": {
        "S.csv": "submission.csv", "A.csv": _OUT_OF_FOLD, "B.csv": _OUT_OF_FOLD,
        "train.csv": "datasets/nih/course/train-small.csv",
        "valid.csv": "datasets/nih/course/valid-small.csv", "test.csv": "datasets/nih/course/test.csv"},
    "docs/evaluation.md": {
        "raw/train.csv": "raw/many.csv", "val.json": _FOLD, "other.csv": "val.csv",
        "vinbigdata_model.csv": "val.csv", "nih.json": "datasets/nih/annotations/instances_val_fold0.json"},
    "docs/metric.md": {"val.json": _FOLD, "other.csv": "val.csv"},
    "docs/prediction.md": {
        "some/dicoms": "raw/test", "A.pth": _DETECTOR, "B.pth": _DETECTOR, "moved/vindr": "datasets/vindr",
        "A.csv": "submission.csv", "B.csv": "submission.csv", "test_meta.csv": "raw/test_meta.csv",
        "val.json": _FOLD, "x.dicom": "own/x.dicom"},
    "docs/report.md": {"val.json": _FOLD},
    "docs/gate.md": {
        "some/dicoms": "raw/test", "A.pth": _DETECTOR, "A.csv": "val.csv", "B.csv": "val.csv",
        "val.json": _FOLD, "A_test.csv": "submission.csv", "B_test.csv": "submission.csv",
        "fused.csv": "submission.csv", "test_meta.csv": "raw/test_meta.csv",
        "oof_predictions.csv": _OUT_OF_FOLD},
    "docs/scale.md": {"A.pth": _DETECTOR, "archive": "raw/test"},
    "docs/annotation_tools.md": {"S.csv": "submission.csv", "archive": "raw/test"},
    "docs/pacs.md": {"archive": "hospital"},
    "docs/start_hospital.md": {"model_best.pth": _DETECTOR, "archive": "raw/test",
                               "own_boxes.csv": "raw/test_annotations.csv"},
    "docs/training.md": {"outputs/phantoms/model_best.pth": _DETECTOR,
                         "outputs/vindr_fcos/model_best.pth": _DETECTOR}}


def why_not(block: Block) -> str:
    """Why a block is not run; empty where it is."""
    text = block.text.strip()
    if block.language == "python" and block.page in SNIPPETS_RUN_IN:
        return SNIPPETS_RUN_IN[block.page]
    if block.language == "python" and "detectron2" in text and not HAS_DETECTRON2:
        return "needs Detectron2"
    return next((reason for start, reason in NOT_RUN.items() if re.match(start, text)), "")


@pytest.fixture(scope="session")
def tree(phantoms, tmp_path_factory) -> Tree:
    """Files that all pages share, made once."""
    return make_tree(tmp_path_factory.mktemp("tree"), phantoms)


def names_of(page: str, root: Path) -> dict:
    """What a page's first snippet takes for granted."""
    if page != "README.md" or not HAS_DETECTRON2:
        return {}
    from detectron2.config import get_cfg

    cfg = get_cfg()
    cfg.DATASETS.TRAIN, cfg.DATALOADER.NUM_WORKERS = ("vindr_train_fold0",), 0
    return {"cfg": cfg}


def run(tree: Tree, block: Block, names: dict) -> str:
    """The line that tells how a block failed; empty where it did not."""
    try:
        tree.execute(block.text, names) if block.language == "python" else tree.run(block.text)
    except (Exception, SystemExit) as error:
        return f"{block.text.strip()}\n    {type(error).__name__}: {error}"
    return ""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page in PAGES if not all(map(why_not, blocks(page)))])
def test_what_a_page_has_to_type_runs(tree, page, tmp_path):
    copy = tree.copy(tmp_path / "tree")
    for name, source in GIVEN.get(page, {}).items():
        (copy.root / name).parent.mkdir(parents=True, exist_ok=True)
        (copy.root / name).unlink(missing_ok=True)  # a link to the tree's own
        take = shutil.copytree if (copy.root / source).is_dir() else shutil.copy
        take(copy.root / source, copy.root / name)
    if page in ITS_OWN:
        shutil.rmtree(copy.root / ITS_OWN[page])
    names = names_of(page, copy.root)
    failed = [run(copy, block, names) for block in blocks(page)
              if not why_not(block) and block.text not in PREPARED]
    if any(failed):
        pytest.fail(f"{page}:\n" + "\n".join(filter(None, failed)), pytrace=False)
    if page == "docs/gate.md":
        check_gate(copy.root)


def check_gate(root: Path) -> None:
    """The recipe from a validation fold: its images alone, then those of the test set."""
    records = read_coco(root / _FOLD)
    assert list(read_submission(root / "val.csv")) == [record.image_id for record in records]
    assert read_json(root / "gate.json")["gate"] and read_json(root / "tuned.json")["gate"]
    tested = {path.stem for path in root.glob("datasets/vindr/test/*.png")}
    assert set(read_submission(root / "S.csv")) == tested


def test_of_all_pages_most_runs():
    """The whole of it in numbers; run with -s to see them."""
    every = [block for page in PAGES for block in blocks(page)]
    left_out = [block for block in every if why_not(block)]
    elsewhere = [block for block in left_out if "tests/" in why_not(block)]
    for language in ("shell", "python"):
        number, out, own = (sum(block.language == language for block in group)
                            for group in (every, left_out, elsewhere))
        print(f"{language}: {number} on {len(PAGES)} pages, {number - out} run here, {own} in tests of their "
              f"own, {out - own} not at all")
    assert {"shell", "python"} == {block.language for block in every}
    assert len(every) > 120 and len(left_out) - len(elsewhere) < len(every) / 6


@pytest.mark.parametrize("page", SNIPPETS_RUN_IN)
def test_a_page_with_a_test_of_its_own_is_read_by_it(page):
    assert page in (ROOT / SNIPPETS_RUN_IN[page]).read_text(encoding="utf-8")


@pytest.mark.parametrize("start", NOT_RUN)
def test_what_is_left_out_stands_on_a_page(start):
    assert any(re.match(start, block.text.strip()) for page in PAGES for block in blocks(page))


def test_left_out_make_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for block in blocks(page):
            if block.text.startswith("make "):
                words = [word for word in shlex.split(block.text.split("&&")[0])[1:] if "=" not in word]
                assert set(words) <= targets, block

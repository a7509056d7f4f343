"""What vindr-det predict makes of its options before it reads an image."""

import os
import subprocess
import sys

from conftest import ROOT

from vindr_det.commands import predict
from vindr_det.imaging import original_sizes
from vindr_det.imaging.sizes import read_sizes

REFUSED = (
    ("--workers 0", "argument --workers: 0: expected at least 1"),
    ("--workers two", "argument --workers: two: expected at least 1"),
    ("--limit -1", "--limit -1: expected 0 or more"),
    ("--batch-size 0", "--batch-size 0: expected 1 or more"),
    ("--shard 3/2", "--shard 3/2: expected such as 1/4"),
    ("--shard 1/2 --resume", "--shard 1/2 with --resume: expected one of the two"),
    ("--bundle phantom --gate g.json", "--bundle phantom with --gate: expected one of the two, a bundle"),
    ("--dataset d --ids i.csv", "--dataset d: names all images"),
    ("--images nowhere", "nowhere: no such folder of images"),
)
SCRIPT = """
import sys
from vindr_det.commands.predict import main
from vindr_det.exceptions import InputError
for words in sys.argv[1:]:
    try:
        main([*words.split(), "--out", "s.csv"])
    except InputError as error:
        print(error)
print("torch" in sys.modules)
"""


def test_options_are_refused_before_torch_is_imported(tmp_path):
    result = subprocess.run([sys.executable, "-c", SCRIPT, *(words for words, _ in REFUSED)], check=True,
                            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                            text=True)
    *lines, imported = result.stdout.splitlines()
    for line, (_, message) in zip(lines, REFUSED, strict=True):
        assert line.startswith(message)
    assert imported == "False" and not list(tmp_path.iterdir())


def test_a_table_beside_several_files_is_read_once(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(b"x")
    (tmp_path / "more").mkdir()
    (tmp_path / "more/d.png").write_bytes(b"x")
    (tmp_path / "meta.csv").write_text("image_id,dim0,dim1\na,30,20\nb,30,20\nc,40,20\n")
    read = []
    monkeypatch.setattr(original_sizes, "read_sizes", lambda path: read.append(path) or read_sizes(path))
    named = [str(tmp_path / name) for name in ("c.png", "more", "a.png", "b.png")]
    run = predict._of_several(predict.parse([*named, "--out", str(tmp_path / "s.csv")]))
    assert [source.image_id for source in run.inputs] == ["c", "d", "a", "b"]
    assert run.sizes == {"c": (40, 20), "a": (30, 20), "b": (30, 20)}
    assert read.count(tmp_path / "meta.csv") == 2  # of the files, and beside the folder

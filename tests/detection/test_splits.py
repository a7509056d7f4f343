from types import SimpleNamespace

import pytest

from vindr_det.coco import to_coco
from vindr_det.detection.splits import read_split
from vindr_det.errors import InputError
from vindr_det.files import write_json
from vindr_det.records import Record


def data_set(root):
    """One image named by its UID, whose last number is no suffix."""
    write_json(root / "annotations/instances_all.json", to_coco([Record("1.2.840.7", "1.2.840.7", 9, 9)]))
    (root / "train").mkdir()
    (root / "train/1.2.840.7").write_bytes(b"")
    return SimpleNamespace(VINDR=SimpleNamespace(DATA_ROOT=str(root), KEEP_ASPECT=True))


def test_ids_are_the_texts_of_the_conversion(tmp_path):
    records, _ = read_split("vindr_all", data_set(tmp_path))
    assert [record.image_id for record in records] == ["1.2.840.7"]


@pytest.mark.parametrize("text, message", [
    ("", "prepare.json: not valid JSON"),
    ("[]", "prepare.json: holds \\[\\], expected what prepare_images.py wrote"),
    ('{"keep_aspect": false}', "prepared with keep_aspect False, but VINDR.KEEP_ASPECT is True"),
])
def test_how_the_images_were_prepared(tmp_path, text, message):
    cfg = data_set(tmp_path)
    (tmp_path / "train/prepare.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_split("vindr_all", cfg)

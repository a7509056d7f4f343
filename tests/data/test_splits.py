import json
import shutil
from types import SimpleNamespace

import pytest
from conftest import DEMO

from vindr_det.data.coco import to_coco
from vindr_det.data.splits import (
    loss_records,
    read_split,
    training_records,
    validation_records,
    warn_of_overlap,
)
from vindr_det.detection.loading import load_config
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.structures.records import Record


def data_set(root):
    """One image named by its UID, whose last number is no suffix."""
    write_json(root / "annotations/instances_all.json", to_coco([Record("1.2.840.7", "1.2.840.7", 9, 9)]))
    (root / "train").mkdir()
    (root / "train/1.2.840.7").write_bytes(b"")
    return SimpleNamespace(VINDR=SimpleNamespace(
        LABEL_SET="VinBigData", FINDINGS=(), DATA_ROOT=str(root), IMAGE_ROOT="", PACKED="", KEEP_ASPECT=True))


def test_ids_are_the_texts_of_the_conversion(tmp_path):
    records, _ = read_split("vindr_all", data_set(tmp_path))
    assert [record.image_id for record in records] == ["1.2.840.7"]


def shared(tmp_path, caplog, patient=None):
    """The warning for images a, b, c to train on and c, d to validate on; or other images of one patient."""
    for name, images in (("all", "abc"), ("val_fold0", "de" if patient else "cd")):
        coco = to_coco([Record(image, f"{image}.png", 9, 9) for image in images])
        if patient:
            coco["images"] = [image | {patient: 7} for image in coco["images"]]
        write_json(tmp_path / f"annotations/instances_{name}.json", coco)
    cfg = SimpleNamespace(DATASETS=SimpleNamespace(TRAIN=("vindr_all",)), VINDR=SimpleNamespace(
        DATA_ROOT=str(tmp_path), IMAGE_ROOT="", PACKED="", VALIDATION=("vindr_val_fold0",)))
    caplog.clear()
    warn_of_overlap(cfg)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_images_that_are_trained_and_validated_on_are_logged_once(tmp_path, caplog):
    warned = shared(tmp_path, caplog)
    assert len(warned) == 1 and "1 of the 2 images of VINDR.VALIDATION ('vindr_val_fold0',)" in warned[0]
    assert "the first is c.png" in warned[0]
    for key in ("patient", "patient_id"):
        warned = shared(tmp_path, caplog, key)
        assert len(warned) == 1 and "1 of the 1 patients" in warned[0] and "the first is 7" in warned[0]


def test_folds_share_nothing(phantoms, caplog):
    cfg = SimpleNamespace(DATASETS=SimpleNamespace(TRAIN=("vindr_train_fold0",)), VINDR=SimpleNamespace(
        DATA_ROOT=str(phantoms / "data"), IMAGE_ROOT="", PACKED="", VALIDATION=("vindr_val_fold0",)))
    warn_of_overlap(cfg)
    assert not caplog.records


@pytest.mark.parametrize("text, message", [
    ("", "prepare.json: not valid JSON"),
    ("[]", "prepare.json: holds \\[\\], expected what vindr-det prepare wrote"),
    ('{"keep_aspect": false}', "prepared with keep_aspect False, but VINDR.KEEP_ASPECT is True"),
])
def test_how_the_images_were_prepared(tmp_path, text, message):
    cfg = data_set(tmp_path)
    (tmp_path / "train/prepare.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_split("vindr_all", cfg)


@pytest.mark.parametrize("size, warned", [(64, True), (96, False), (128, False), (None, False)])
def test_images_that_were_prepared_too_small_are_warned_of(tmp_path, caplog, size, warned):
    cfg = data_set(tmp_path)
    cfg.VINDR.IMAGE_SIZE = 96
    (tmp_path / "train/prepare.json").write_text(json.dumps({"keep_aspect": True, "size": size}))
    read_split("vindr_all", cfg)
    assert ("prepared at 64 px, but VINDR.IMAGE_SIZE is 96" in caplog.text) == warned


def test_images_may_lie_elsewhere_than_their_annotations(phantoms, tmp_path):
    shutil.copytree(phantoms / "data/annotations", tmp_path / "written/annotations")
    overrides = ["VINDR.DATA_ROOT", str(tmp_path / "written")]
    with pytest.raises(InputError, match="no such image"):
        validation_records(load_config(DEMO, "torchvision", overrides))
    elsewhere = ["VINDR.IMAGE_ROOT", str(phantoms / "data")]
    cfg = load_config(DEMO, "torchvision", [*overrides, *elsewhere])
    assert {folder for _, folder in validation_records(cfg)} == {phantoms / "data/train"}


def limited(phantoms, limit, *more):
    cfg = load_config(DEMO, "torchvision", [
        "VINDR.DATA_ROOT", str(phantoms / "data"), "VINDR.NORMAL_RATIO", "-1", "VINDR.LIMIT", str(limit),
        "DATASETS.TRAIN", "('vindr_all',)", *more])
    return [record for record, _ in training_records(cfg)], [record for record, _ in validation_records(cfg)]


@pytest.mark.parametrize("limit", [0, 1, 2, 6, 12, 23, 24, 99])
def test_a_limit_keeps_the_share_of_normal_images(phantoms, limit):
    everything, fold = limited(phantoms, 0)
    for records, whole in zip(limited(phantoms, limit), (everything, fold), strict=True):
        assert len(records) == (min(limit, len(whole)) if limit else len(whole))
        normal = sum(record.normal for record in records)
        expected = len(records) * sum(record.normal for record in whole) / len(whole)
        assert abs(normal - expected) <= 1 and normal < len(records)
        order = [record.image_id for record in whole]
        assert [order.index(record.image_id) for record in records] == sorted(
            order.index(record.image_id) for record in records)


def test_a_limit_counts_images_that_teach(phantoms, tmp_path):
    """All findings are unknown on images without boxes, which are not trained on."""
    annotations = tmp_path / "annotations/instances_all.json"
    shutil.copytree(phantoms / "data/annotations", annotations.parent)
    coco = json.loads(annotations.read_text())
    boxed = {box["image_id"] for box in coco["annotations"]}
    for image in coco["images"]:
        if image["id"] not in boxed:
            image["not_exhaustive_category_ids"] = list(range(14))
    annotations.write_text(json.dumps(coco))
    elsewhere = ["VINDR.DATA_ROOT", str(tmp_path), "VINDR.IMAGE_ROOT", str(phantoms / "data")]
    assert 6 < len(boxed) < len(coco["images"])
    for limit in (2, 6, len(boxed)):
        assert len(limited(phantoms, limit, *elsewhere)[0]) == limit


def test_a_limit_draws_by_the_seed(phantoms):
    def ids(*more):
        return [[record.image_id for record in part] for part in limited(phantoms, 10, *more)]

    assert ids() == ids() != ids("SEED", "7")


def test_no_validation(phantoms, caplog):
    cfg = load_config(DEMO, "torchvision", [
        "VINDR.DATA_ROOT", str(phantoms / "data"), "VINDR.VALIDATION", "()"])
    assert validation_records(cfg) == loss_records(cfg) == []
    warn_of_overlap(cfg)
    assert not caplog.records


def test_no_image_is_left_for_the_validation_loss(phantoms, tmp_path):
    """Only normal images, of which NORMAL_RATIO keeps none beside no abnormal ones."""
    annotations = tmp_path / "annotations/instances_all.json"
    shutil.copytree(phantoms / "data/annotations", annotations.parent)
    coco = json.loads(annotations.read_text())
    boxed = {box["image_id"] for box in coco["annotations"]}
    coco["images"] = [image for image in coco["images"] if image["id"] not in boxed]
    write_json(annotations, coco | {"annotations": []})
    cfg = load_config(DEMO, "torchvision", [
        "VINDR.DATA_ROOT", str(tmp_path), "VINDR.IMAGE_ROOT", str(phantoms / "data"),
        "VINDR.VALIDATION", "('vindr_all',)", "VINDR.NORMAL_RATIO", "0.5"])
    with pytest.raises(InputError, match=r"VINDR.VALIDATION \('vindr_all',\): no image is left for the "
                       r"validation loss with VINDR.NORMAL_RATIO 0.5, expected images with boxes"):
        loss_records(cfg)
    cfg.VINDR.NORMAL_RATIO = -1.0
    assert len(loss_records(cfg)) == len(coco["images"])

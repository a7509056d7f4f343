"""An imitation of each release: converted, trained on for a step, predicted and scored, in both engines."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import DEMO, TINIEST

from vindr_det.data.convert import convert
from vindr_det.data.release import Conversion
from vindr_det.detection import engine as engines
from vindr_det.detection.loading import load_config
from vindr_det.files import read_json

IMAGES = [f"0000000{number}_000" for number in range(1, 9)]
CORNERS = [(100 + 20 * i, 150, 500 + 20 * i, 700) for i in range(len(IMAGES))]
EDGES = "x_min,y_min,x_max,y_max"


def lines(path, header, rows):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def meta(folder):
    return lines(folder / "meta.csv", "image_id,dim0,dim1", [(name, 1024, 1024) for name in IMAGES])


def vindr(folder, finding):
    rows = [(name, reader, finding, *box) if i % 4 else (name, reader, "No finding", "", "", "", "")
            for i, (name, box) in enumerate(zip(IMAGES, CORNERS, strict=True)) for reader in ("R1", "R2")]
    table = lines(folder / "a.csv", f"image_id,rad_id,class_name,{EDGES}", rows)
    return {"annotations": table, "meta": meta(folder)}


def nih_boxes(folder):
    labels = [(f"{name}.png", "Mass|Nodule" if i % 4 else "No Finding", 0, i + 1, 5, "M", "PA")
              for i, name in enumerate(IMAGES)]
    boxes = [(f"{name}.png", "Mass", x, y, x2 - x, y2 - y, "", "", "")
             for i, (name, (x, y, x2, y2)) in enumerate(zip(IMAGES, CORNERS, strict=True)) if i % 4]
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    return {"annotations": lines(folder / "b.csv", "Image Index,Finding Label,Bbox [x,y,w,h],,,", boxes),
            "labels": lines(folder / "l.csv", header, labels)}


def chestx_det(folder):
    path = folder / "a.json"
    path.write_text(json.dumps([{"file_name": f"{name}.png", "syms": ["Effusion"] * (i % 4 > 0),
                                 "boxes": [list(box)] * (i % 4 > 0), "polygons": []}
                                for i, (name, box) in enumerate(zip(IMAGES, CORNERS, strict=True))]))
    return {"annotations": path}


def rsna(folder):
    rows = [(name, x, y, x2 - x, y2 - y, 1) if i % 4 else (name, "", "", "", "", 0)
            for i, (name, (x, y, x2, y2)) in enumerate(zip(IMAGES, CORNERS, strict=True))]
    return {"annotations": lines(folder / "a.csv", "patientId,x,y,width,height,Target", rows)}


def siim_covid(folder):
    rows = [(f"{name}_image", f"\"[{{'x': {x}, 'y': {y}, 'width': {x2 - x}, 'height': {y2 - y}}}]\"",
             f"opacity 1 {x} {y} {x2} {y2}", f"s{i}") if i % 4 else (
                 f"{name}_image", "", "none 1 0 0 1 1", f"s{i}")
            for i, (name, (x, y, x2, y2)) in enumerate(zip(IMAGES, CORNERS, strict=True))]
    table = lines(folder / "a.csv", "id,boxes,label,StudyInstanceUID", rows)
    return {"annotations": table, "meta": meta(folder)}


RELEASES = {
    "vindr-cxr": lambda folder: vindr(folder, "Rib fracture"),
    "vindr-pcxr": lambda folder: vindr(folder, "Bronchial thickening"), "nih-boxes": nih_boxes,
    "chestx-det": chestx_det, "rsna": rsna, "siim-covid": siim_covid}


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_a_release_trains_predicts_and_is_scored(engine, tmp_path, release):
    rng = np.random.default_rng(0)
    (tmp_path / "data/images").mkdir(parents=True)
    for name in IMAGES:  # smaller files than the originals, whose pixels boxes count in
        cv2.imwrite(str(tmp_path / f"data/images/{name}.png"), rng.integers(0, 255, (64, 64), np.uint8))
    tables = RELEASES[release](tmp_path)
    convert(release, tmp_path / "data/annotations", Conversion(folds=2), **tables,
            images=tmp_path / "data/images")
    coco = read_json(tmp_path / "data/annotations/instances_val_fold0.json")
    cfg = load_config(DEMO, engine, [
        *TINIEST, "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "VINDR.LABEL_SET", coco["info"]["label_set"],
        "VINDR.DATA_ROOT", str(tmp_path / "data"), "DATASETS.TRAIN", "('own_train_fold0',)", "DATASETS.TEST",
        "('own_val_fold0',)", "VINDR.VALIDATION", "('own_val_fold0',)", "OUTPUT_DIR", str(tmp_path / "out")])
    engines.load(engine).train(cfg)
    merged = {key: value for line in Path(tmp_path / "out/metrics.json").read_text().splitlines()
              for key, value in json.loads(line).items()}
    assert math.isfinite(merged["voc/mAP40"]) and math.isfinite(merged["validation_loss"])
    assert coco["annotations"] and len(coco["images"]) == 4

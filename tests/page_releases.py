"""The tables of other releases that the pages convert, with two images each, named as their authors do."""

import json
import shutil
from pathlib import Path

from vindr_det.structures.label_sets import VINDR_CXR, VINDR_CXR_GLOBAL

EDGES = "x_min,y_min,x_max,y_max"


def write(raw: Path) -> None:
    """Fill the folder of downloads; images are those of the phantoms below it."""
    names = [path.stem for path in sorted((raw / "train").iterdir())]
    tests = [path.stem for path in sorted((raw / "test").iterdir())]
    pictures = raw / "images"
    shutil.copytree(raw / "nih_images", pictures)
    for part in ("train", "test"):
        shutil.copytree(raw / part, raw / "vindr-cxr" / part)
    _vindr_cxr(raw / "vindr-cxr/annotations", names, tests)
    _nih_boxes(raw / "BBox_List_2017.csv", sorted(path.name for path in pictures.iterdir()))
    _challenges(raw, names)
    _chestx_det(raw, sorted(pictures.iterdir()))


def _lines(path: Path, header: str, rows: list[tuple]) -> None:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def _vindr_cxr(folder: Path, names: list[str], tests: list[str]) -> None:
    """Three readers of each training image, one of whom draws on each second image; and a consensus."""
    folder.mkdir()
    readers = ("R1", "R2", "R3")
    _lines(folder / "annotations_train.csv", f"image_id,rad_id,class_name,{EDGES}", [
        (name, reader, "Rib fracture", 20, 30, 60, 70) if at % 2 and reader == "R1"
        else (name, reader, "No finding", "", "", "", "")
        for at, name in enumerate(names) for reader in readers])
    _lines(folder / "annotations_test.csv", f"image_id,class_name,{EDGES}", [
        (name, "No finding", "", "", "", "") for name in tests])
    labels = [*VINDR_CXR.findings, *VINDR_CXR_GLOBAL.classes]
    of_test = [name.replace("Other diseases", "Other disease") for name in labels]

    def values(at: int, reader: str) -> list[int]:
        positive = "Rib fracture" if at % 2 and reader == "R1" else "No finding"
        return [int(label == positive) for label in labels]

    _lines(folder / "image_labels_train.csv", ",".join(["image_id", "rad_ID", *labels]), [
        (name, reader, *values(at, reader)) for at, name in enumerate(names) for reader in readers])
    _lines(folder / "image_labels_test.csv", ",".join(["image_id", *of_test]), [
        (name, *values(0, "R1")) for name in tests])


def _nih_boxes(path: Path, names: list[str]) -> None:
    """A box of Atelectasis, which each second image of the labels has."""
    _lines(path, "Image Index,Finding Label,Bbox [x,y,w,h],,,", [
        (name, "Atelectasis", 10, 12, 30, 40, "", "", "") for name in names[1::2]])


def _challenges(raw: Path, names: list[str]) -> None:
    """RSNA's and SIIM's tables: boxes on each second image."""
    _lines(raw / "stage_2_train_labels.csv", "patientId,x,y,width,height,Target", [
        (name, 20, 30, 40, 50, 1) if at % 2 else (name, "", "", "", "", 0) for at, name in enumerate(names)])
    _lines(raw / "stage_2_detailed_class_info.csv", "patientId,class", [
        (name, "Lung Opacity" if at % 2 else "Normal") for at, name in enumerate(names)])
    _lines(raw / "train_image_level.csv", "id,boxes,label,StudyInstanceUID", [
        (f"{name}_image", "\"[{'x': 20, 'y': 30, 'width': 40, 'height': 50}]\"", "opacity 1 20 30 60 80",
         f"s{at}") if at % 2 else (f"{name}_image", "", "none 1 0 0 1 1", f"s{at}")
        for at, name in enumerate(names)])
    columns = ("Negative for Pneumonia", "Typical Appearance", "Indeterminate Appearance",
               "Atypical Appearance")
    _lines(raw / "train_study_level.csv", ",".join(["id", *columns]), [
        (f"s{at}_study", 1 - at % 2, at % 2, 0, 0) for at in range(len(names))])


def _chestx_det(raw: Path, pictures: list[Path]) -> None:
    """Each part's list of images; files of 1,024 x 1,024 pixels are what the release has."""
    for part, paths in (("train", pictures[:20]), ("test", pictures[20:])):
        (raw / f"ChestX_Det_{part}.json").write_text(json.dumps([
            {"file_name": path.name, "syms": ["Effusion"] * (at % 2),
             "boxes": [[100, 150, 500, 700]] * (at % 2), "polygons": []} for at, path in enumerate(paths)]))

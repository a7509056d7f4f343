"""ChestX-Det, RSNA pneumonia and SIIM-COVID on imitations with the published headers and values."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import one_line

from vindr_det.classification.label_table import read_table
from vindr_det.data.coco import load_coco
from vindr_det.data.convert import convert
from vindr_det.data.release import Conversion
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import CHESTX_DET, CHESTX_DET10, RSNA_PNEUMONIA, SIIM_COVID

TWO = Conversion(folds=2)


def records_of(path):
    return {record.image_id: record for record in load_coco(path)[0]}


def entry(name, syms=(), boxes=(), **more):
    return {"file_name": f"{name}.png", "syms": list(syms), "boxes": [list(box) for box in boxes], **more}


def write(path, entries):
    path.write_text(json.dumps(entries))
    return path


DET = [entry("36200", polygons=[]), entry("36201", polygons=[]), entry(
    "36204", ["Diffuse Nodule", "Effusion", "Effusion"], [[1, 2, 30, 40], [5, 5, 9, 9], [5, 5, 9, 9]],
    polygons=[])]


def test_chestx_det(tmp_path, caplog):
    test = write(tmp_path / "test.json", [
        entry("36199", ["cardiomegaly"], [[0, 0, 1024, 1024]], polygons=[])])
    summary = convert("chestx-det", tmp_path / "out", TWO, annotations=write(tmp_path / "a.json", DET),
                      test_annotations=test)
    train, held = (records_of(tmp_path / f"out/instances_{part}.json") for part in ("train", "test"))
    assert list(train) == ["36200", "36201", "36204"] and train["36200"].normal
    assert train["36204"].label_set is CHESTX_DET and train["36204"].file_name == "36204.png"
    assert train["36204"].truth.boxes.tolist() == [[1, 2, 30, 40], [5, 5, 9, 9]]
    assert held["36199"].truth.labels.tolist() == [CHESTX_DET.id_of("Cardiomegaly")]
    assert "image 36204: the first of 1 repeated boxes" in caplog.text
    assert "3 train images (published: 3025)" in summary
    assert pd.read_csv(tmp_path / "out/labels.csv")["Effusion"].tolist() == [0, 0, 1, 0]


def test_chestx_det10_is_the_list_without_polygons(tmp_path):
    convert("chestx-det", tmp_path / "out", TWO, annotations=write(tmp_path / "a.json", [
        entry("1"), entry("2", ["Mass"], [[1, 2, 3, 4]])]))
    assert records_of(tmp_path / "out/instances_train.json")["2"].label_set is CHESTX_DET10


@pytest.mark.parametrize("entries, message", [
    ([], "expected a JSON list of images"),
    ({"images": [], "annotations": []}, r"looks like a COCO file \(format coco\)"),
    ([{"file_name": "1.png"}], "a.json, entry 1: expected file_name, and lists syms and boxes"),
    ([{**entry("1"), "file_name": " "}], "a.json, entry 1: expected file_name"),
    ([entry("1", ["Mass"])], "image 1.png has 1 syms and 0 boxes"),
    ([entry("1", ["Mass"], [[1, 2, 3]])], "image 1.png has the box .*, expected four numbers"),
    ([entry("1", ["Mas"], [[1, 2, 3, 4]])], "image 1: class 'Mas' is not one of the 10 findings of "
     "ChestX-Det10, expected 'Mass'"),
    ([entry("1", ["Cardiomegaly"], [[1, 2, 3, 4]])], "class 'Cardiomegaly' .* has all classes of this file"),
    ([entry("1", ["Mass"], [[1, 2, 3, 1100]])], "image 1: box .* leaves image 1 of width 1024"),
    ([entry("1"), entry("1")], "image 1 is repeated"),
    ([entry("1", ["Mass"], [[True, 2, 3, 4]])], "image 1.png has the box .*, expected four numbers"),
    ([entry("1", [None], [[1, 2, 3, 4]])], "a.json: image 1: class is empty, expected one of the 10"),
    ([entry("1", [" "], [[1, 2, 3, 4]])], "a.json: image 1: class is empty, expected one of the 10"),
    ([entry("1", ["Mass"], [[1, 2, 3, 10**400]])], r"image 1.png has the box \[1, 2, 3, 10+, expected"),
    ([entry("1"), entry("2", polygons=[])], "a.json, entry 2: image 2.png has some, but entry 1 has no poly"),
    ([*DET, entry("2")], "a.json, entry 4: image 2.png has none, but entry 1 has polygons; expected all"),
])
def test_bad_lists(tmp_path, entries, message):
    with pytest.raises(InputError, match=message):
        convert("chestx-det", tmp_path / "out", TWO, annotations=write(tmp_path / "a.json", entries))
    assert not (tmp_path / "out").exists()


def test_lists_of_two_releases(tmp_path):
    with pytest.raises(InputError, match="b.json: is of another release than .*a.json"):
        convert("chestx-det", tmp_path / "out", TWO, annotations=write(tmp_path / "a.json", DET),
                test_annotations=write(tmp_path / "b.json", [entry("9")]))


RSNA = """patientId,x,y,width,height,Target
0004cfab,,,,,0
00436515,264.0,152.0,213.0,379.0,1
00436515,562.0,152.0,256.0,453.0,1
00313ee0,,,,,0
"""
INFO = """patientId,class
0004cfab,No Lung Opacity / Not Normal
00436515,Lung Opacity
00436515,Lung Opacity
00313ee0,Normal
"""


@pytest.fixture
def rsna(tmp_path):
    def make(boxes=RSNA, info=INFO):
        (tmp_path / "boxes.csv").write_text(boxes)
        (tmp_path / "info.csv").write_text(info)
        return {"annotations": tmp_path / "boxes.csv", "labels": tmp_path / "info.csv"}
    return make


def test_rsna(rsna, tmp_path):
    (tmp_path / "p.csv").write_text("image_id,patient_id\n0004cfab,1\n00436515,2\n00313ee0,1\n")
    summary = convert("rsna", tmp_path / "out", TWO, **rsna(), patients=tmp_path / "p.csv")
    records = records_of(tmp_path / "out/instances_all.json")
    assert list(records) == ["0004cfab", "00313ee0", "00436515"]
    assert [record.normal for record in records.values()] == [True, True, False]
    record = records["00436515"]
    assert record.label_set is RSNA_PNEUMONIA and record.file_name == "00436515.dcm"
    assert record.truth.boxes.tolist() == [[264, 152, 477, 531], [562, 152, 818, 605]]
    assert "3 images (published: 26684)" in summary
    labels = pd.read_csv(tmp_path / "out/labels.csv", dtype={"image_id": str})
    assert labels["Normal"].tolist() == [0, 1, 0] and labels["Lung Opacity"].tolist() == [0, 0, 1]
    assert labels.loc[0, "No Lung Opacity / Not Normal"] == 1
    assert labels.loc[0, "fold"] == labels.loc[1, "fold"] != labels.loc[2, "fold"]
    assert read_table(tmp_path / "out/labels.csv", ["Lung Opacity"]).targets[:, 0].tolist() == [0, 0, 1]


def test_names_of_digits_are_texts(rsna, siim, tmp_path):
    """001 is not 1, and 1e5 and NA are names too."""
    names, studies = ["001", "1", "1e5", "NA"], ["07", "7", "1e2", "2"]
    convert("rsna", tmp_path / "rsna", TWO, annotations=rsna(
        "patientId,x,y,width,height,Target\n" + "".join(f"{name},,,,,0\n" for name in names))["annotations"])
    assert list(records_of(tmp_path / "rsna/instances_all.json")) == names
    tables = siim("id,boxes,label,StudyInstanceUID\n" + "".join(
        f"{name},,none 1 0 0 1 1,{study}\n" for name, study in zip(names, studies, strict=True)),
        STUDIES.splitlines()[0] + "\n" + "".join(f"{study},1,0,0,0\n" for study in studies))
    (tmp_path / "meta.csv").write_text("image_id,dim0,dim1\n" + "".join(f"{name},9,9\n" for name in names))
    convert("siim-covid", tmp_path / "siim", TWO, **tables)
    assert list(records_of(tmp_path / "siim/instances_all.json")) == names


@pytest.mark.parametrize("boxes, info, message", [
    (RSNA.replace("379.0,1", "379.0,2"), INFO, "boxes.csv, row 3: Target 2, expected 0 or 1"),
    (RSNA.replace("0004cfab,,,,,0", "0004cfab,1,2,3,4,0"), INFO, "row 2: image 0004cfab has Target 0"),
    (RSNA + "00436515,,,,,0\n", INFO, "row 6: image 00436515 has Target 0 and a box"),
    (RSNA.replace("213.0,", ","), INFO, "row 3: box .* of image 00436515, expected four finite"),
    (RSNA.replace("213.0,", "913.0,"), INFO, "row 3: box .* leaves image 00436515 of width 1024"),
    (RSNA.replace("0004cfab,", ","), INFO, "row 2: patientId is empty"),
    (RSNA, INFO.replace("Normal\n", "normal-ish\n"), "info.csv, row 2: class .*expected one of Lung Opacity"),
    (RSNA, INFO.replace("00313ee0,Normal\n", ""), "info.csv: image 00313ee0 of .* has no class"),
    (RSNA, INFO.replace("00313ee0,Normal", "00313ee0,Lung Opacity"), "row 5: image 00313ee0 has Target 0"),
    (RSNA, INFO + "00313ee0,Lung Opacity\n", "info.csv, row 6: image 00313ee0 is Lung Opacity, but Normal"),
    (INFO, INFO, r"column x, .* missing; .*looks like RSNA's stage_2_detailed_class_info.csv \(--labels\)"),
])
def test_bad_rsna(rsna, tmp_path, boxes, info, message):
    with pytest.raises(InputError, match=message):
        convert("rsna", tmp_path / "out", TWO, **rsna(boxes, info))
    assert not (tmp_path / "out").exists()


def test_boxes_of_a_smaller_frame(rsna, tmp_path):
    """Boxes of images that were reduced from 1,024 to 640 pixels, and those of the originals."""
    rng = np.random.default_rng(0)
    low, size = rng.uniform(0, 600, (150, 2)), rng.uniform(50, 400, (150, 2))
    for factor, refused in ((640 / 1024, True), (1, False)):
        boxes = np.hstack([low, size]) * factor
        rows = [f"i{i},{','.join(map(str, box))},1" for i, box in enumerate(boxes.round(1).tolist())]
        tables = rsna("patientId,x,y,width,height,Target\n" + "\n".join(rows) + "\n")
        tables.pop("labels")
        if refused:
            with pytest.raises(InputError, match="all 150 boxes end within 58% .* a smaller frame"):
                convert("rsna", tmp_path / "out", TWO, **tables)
        else:
            convert("rsna", tmp_path / "out", TWO, **tables)


IMAGES = '''id,boxes,label,StudyInstanceUID
000a312787f2_image,"[{'x': 789.28836, 'y': 582.43035, 'width': 1026.65662, 'height': 1917.30292}, \
{'x': 2245.91208, 'y': 591.20528, 'width': 1094.66162, 'height': 1761.54944}]",\
opacity 1 789.28836 582.43035 1815.94498 2499.73327 \
opacity 1 2245.91208 591.20528 3340.5737 2352.75472,5776db0cec75
000c3a3f293f_image,,none 1 0 0 1 1,ff0879eb20ed
00112233aabb_image,,none 1 0 0 1 1,5776db0cec75
0022ffee0011_image,,none 1 0 0 1 1,aaaa79eb20ed
'''
STUDIES = """id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance
5776db0cec75_study,0,1,0,0
ff0879eb20ed_study,1,0,0,0
aaaa79eb20ed_study,0,0,0,1
"""
SIZES = "".join(f"{name},3488,4256,train\n" for name in (
    "000a312787f2", "000c3a3f293f", "00112233aabb", "0022ffee0011"))


@pytest.fixture
def siim(tmp_path):
    def make(images=IMAGES, studies=STUDIES):
        (tmp_path / "images.csv").write_text(images)
        (tmp_path / "studies.csv").write_text(studies)
        (tmp_path / "meta.csv").write_text(f"image_id,dim0,dim1,split\n{SIZES}")
        return {"annotations": tmp_path / "images.csv", "labels": tmp_path / "studies.csv",
                "meta": [tmp_path / "meta.csv"]}
    return make


def test_siim_covid(siim, tmp_path):
    convert("siim-covid", tmp_path / "out", TWO, **siim())
    records = records_of(tmp_path / "out/instances_all.json")
    record = records["000a312787f2"]
    assert record.label_set is SIIM_COVID and (record.height, record.width) == (3488, 4256)
    np.testing.assert_allclose(record.truth.boxes, [[789.28836, 582.43035, 1815.94498, 2499.73327], [
        2245.91208, 591.20528, 3340.5737, 2352.75472]], atol=.001)
    # Without boxes: normal where the study is negative; else opacities are unknown there.
    assert records["000c3a3f293f"].normal
    assert [records[name].unknown for name in ("00112233aabb", "0022ffee0011")] == [(0,), (0,)]
    labels = pd.read_csv(tmp_path / "out/labels.csv").set_index("image_id")
    assert labels.loc["00112233aabb", "Typical Appearance"] == 1
    assert np.isnan(labels.loc["00112233aabb", "Opacity"])
    assert labels.loc["000a312787f2", "fold"] == labels.loc["00112233aabb", "fold"]


def test_siim_covid_without_studies(siim, tmp_path, caplog):
    tables = siim()
    tables.pop("labels")
    convert("siim-covid", tmp_path / "out", TWO, **tables)
    records = records_of(tmp_path / "out/instances_all.json")
    assert [name for name, record in records.items() if record.unknown == (0,)] == [
        "000c3a3f293f", "00112233aabb", "0022ffee0011"]
    assert "3 images have no box, and without --labels it is not known" in caplog.text


@pytest.mark.parametrize("images, studies, message", [
    (IMAGES.replace("000c3a3f293f_image,,none", "000c3a3f293f_image,,opacity"), STUDIES,
     "row 3: image 000c3a3f293f has 0 boxes and the label 'opacity 1 0 0 1 1'"),
    (IMAGES.replace("'x': 789.28836", "'z': 789.28836"), STUDIES, "row 2: boxes .*expected a list of boxes"),
    (IMAGES.replace("[{'x': 789", "__import__('os') or [{'x': 789"), STUDIES, "row 2: boxes .*expected"),
    (IMAGES.replace("1026.65662", "9026.65662").replace("1815.94498", "9815.94498"), STUDIES,
     "row 2: box .* leaves image"),
    # The label and the boxes contradict each other, in their number or in a corner; so do box and study.
    (IMAGES.replace("'width': 1026.65662", "'width': 1020.65662"), STUDIES,
     "row 2: image 000a312787f2 has 2 boxes and the label 'opacity 1 789.* and the corners of each box"),
    (IMAGES.replace(" opacity 1 2245.91208 591.20528 3340.5737 2352.75472", ""), STUDIES,
     "row 2: image 000a312787f2 has 2 boxes and the label"),
    (IMAGES.replace("none 1 0 0 1 1,ff0", "nothing,ff0"), STUDIES, "row 3: .* has 0 boxes and the label"),
    (IMAGES.replace("'x': 789.28836", f"'x': {10**400}"), STUDIES, "row 2: boxes .*expected a list of boxes"),
    (IMAGES, STUDIES.replace("5776db0cec75_study,0,1", "5776db0cec75_study,1,0"),
     "images.csv, row 2: image 000a312787f2 has 2 boxes, but its study 5776db0cec75 is 'Negative for Pneu"),
    (IMAGES.replace("000c3a3f293f_image", "_image"), STUDIES, "row 3: id is '_image', expected a name"),
    (IMAGES.replace("000c3a3f293f", "000a312787f2"), STUDIES, "row 3: image 000a312787f2 is repeated"),
    (IMAGES.replace("000c3a3f293f", "000000000000"), STUDIES,
     "meta.csv: 1 images have no size, the first is 000000000000"),
    (IMAGES.replace("000c3a3f293f_image", ""), STUDIES, "row 3: id is empty"),
    (IMAGES, STUDIES.replace("ff0879eb20ed_study,1,0", "ff0879eb20ed_study,1,1"),
     "row 3: study ff0879eb20ed has"),
    (IMAGES, STUDIES.replace("ff0879eb20ed", "000079eb20ed"), "images.csv, row 3: study ff0879eb20ed is not"),
    (STUDIES, STUDIES, r"boxes, label, .*looks like SIIM-COVID's train_study_level.csv \(--labels\)"),
])
def test_bad_siim_covid(siim, tmp_path, images, studies, message):
    with pytest.raises(InputError, match=message):
        convert("siim-covid", tmp_path / "out", TWO, **siim(images, studies))
    assert not (tmp_path / "out").exists()


def test_each_format_has_its_command(tool, rsna, siim, tmp_path):
    result = tool("convert.py", "rsna", "--annotations", rsna()["annotations"], "--to", "yolo", "--folds",
                  "2", "--out", tmp_path / "yolo")
    assert result.returncode == 0 and "YOLO's folders" in result.stdout, result.stderr
    result = tool("convert.py", "siim-covid", "--annotations", siim()["annotations"], "--out",
                  tmp_path / "out")
    assert "original sizes are not known, expected --meta" in one_line(result)
    assert "invalid choice: 'voc'" in one_line(tool("convert.py", "voc"))
    coco = write(tmp_path / "c.json", {"images": []})
    result = tool("convert.py", "rsna", "--annotations", coco, "--out", tmp_path / "out")
    assert "c.json: is JSON, expected RSNA's stage_2_train_labels.csv" in one_line(result)

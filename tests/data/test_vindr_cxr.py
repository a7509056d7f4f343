"""VinDr-CXR and VinDr-PCXR on imitations with the published headers and values."""

import time

import numpy as np
import pandas as pd
import pydicom
import pytest
from conftest import one_line

from vindr_det.classification.label_table import read_table
from vindr_det.data.coco import load_coco
from vindr_det.data.convert import convert
from vindr_det.data.release import Conversion
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import VINDR_CXR, VINDR_CXR_GLOBAL, VINDR_PCXR, VINDR_PCXR_GLOBAL

EDGES = "x_min,y_min,x_max,y_max"
TRAIN = f"""image_id,rad_id,class_name,{EDGES}
a,R10,Rib fracture,10,10,50,50
a,R9,Rib fracture,12,10,50,50
a,R8,No finding,,,,
b,R1,No finding,,,,
b,R2,No finding,,,,
b,R3,enlarged pa,1.5,2,30,40
b,R3,enlarged pa,1.5,2,30,40
"""
TEST = f"image_id,class_name,{EDGES}\nt,Lung cavity,5,5,20,20\nt,Lung cavity,6,6,21,21\nu,No finding,,,,\n"
META = "image_id,dim0,dim1\n" + "".join(f"{name},100,80\n" for name in "abctu")


def label_rows(label_set, other, rows, readers=True):
    columns = [name.replace("Other diseases", other) for name in label_set]
    head = ["image_id", *(["rad_ID"] if readers else []), *columns]
    body = [[image, *([reader] if readers else []), *("1" if name in positive else "0" for name in columns)]
            for image, reader, positive in rows]
    return "\n".join(",".join(row) for row in [head, *body]) + "\n"


@pytest.fixture
def release(tmp_path):
    local = (*VINDR_CXR.findings, *VINDR_CXR_GLOBAL.classes)
    train = [("a", "R10", ["Rib fracture", "Pneumonia"]), ("a", "R9", ["Rib fracture", "Other diseases"]),
             ("a", "R8", ["No finding"]), ("b", "R1", ["No finding"]), ("b", "R2", ["No finding"]),
             ("b", "R3", ["Enlarged PA"]), *(("c", reader, ["No finding"]) for reader in ("R1", "R2", "R3"))]
    test = [("t", "", ["Lung cavity", "Other disease"]), ("u", "", ["No finding"])]
    texts = {"annotations": TRAIN, "test_annotations": TEST, "meta": META,
             "labels": label_rows(local, "Other diseases", train),
             "test_labels": label_rows(local, "Other disease", test, readers=False)}
    for key, text in texts.items():
        (tmp_path / f"{key}.csv").write_text(text)
    return {key: tmp_path / f"{key}.csv" for key in texts}


def test_boxes_that_too_few_readers_drew(release, tmp_path):
    summary = convert("vindr-cxr", tmp_path / "out", Conversion(folds=2, min_readers=2), **release)
    assert "1 images lost all their boxes to --min-readers 2" in summary  # b, on which R3 alone drew


def test_images_of_rare_readers_are_held_out(release, tmp_path):
    convert("vindr-cxr", tmp_path / "out", Conversion(folds=2, frequent=("R8",)), **release)
    assert list(records_of(tmp_path / "out/instances_val_rare_readers.json")) == ["b"]
    assert list(records_of(tmp_path / "out/instances_test.json")) == ["t", "u"]


def test_the_real_table_of_vinbigdata_is_named(data, tmp_path):
    table = data / "vinbig/train.csv.gz"
    for release, message in (("vindr-cxr", "has a column class_id; it looks like VinBigData's"),
                             ("chestx-det", "is a table, expected a list of ChestX-Det; it looks like VinB"),
                             ("vindr-pcxr", "'ILD' .*, expected 'Interstitial lung disease - ILD' or another"
                              "; VinBigData has all classes")):
        with pytest.raises(InputError, match=message):
            convert(release, tmp_path / "out", annotations=table, **(
                {} if release == "chestx-det" else {"meta": [data / "vinbig/train_meta.csv"]}))


def rewrite(path, *changes):
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


def records_of(path):
    return {record.image_id: record for record in load_coco(path)[0]}


def test_both_parts(release, tmp_path):
    convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)
    train, test = (records_of(tmp_path / f"out/instances_{part}.json") for part in ("train", "test"))
    assert list(train) == ["a", "b", "c"] and list(test) == ["t", "u"]
    assert train["a"].label_set is VINDR_CXR and (train["a"].height, train["a"].width) == (100, 80)
    # Two of three readers drew the fracture; their mean by hand.
    assert train["a"].truth.boxes.tolist() == [[11, 10, 50, 50]]
    assert train["a"].truth.scores.round(4).tolist() == [0.6667]
    assert train["a"].readers == (("R10", "R9"),)
    assert train["b"].truth.labels.tolist() == [VINDR_CXR.id_of("Enlarged PA")]
    assert train["c"].normal  # stands in the table of labels only
    assert len(test["t"].truth) == 2 and test["u"].normal  # a consensus is not fused again
    folds = pd.read_csv(tmp_path / "out/folds.csv").set_index("image_id")["fold"]
    assert (folds[["t", "u"]] == -1).all() and set(folds[["a", "b", "c"]]) == {0, 1}
    readers = records_of(tmp_path / "out/instances_readers.json")
    assert list(readers) == ["a", "b", "c"] and len(readers["a"].truth) == 2


def test_labels_of_whole_images(release, tmp_path):
    convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)
    labels = pd.read_csv(tmp_path / "out/labels.csv").set_index("image_id")
    assert set(labels) == {"fold", *VINDR_CXR.findings, *VINDR_CXR_GLOBAL.classes}
    assert labels.loc["a", ["Pneumonia", "Other diseases", "Rib fracture", "No finding"]].tolist() == [
        0.3333, 0.3333, 0.6667, 0.3333]
    assert labels.loc["t", ["Other diseases", "Lung cavity", "No finding"]].tolist() == [1, 1, 0]
    table = read_table(tmp_path / "out/labels.csv", ["Pneumonia", "Tuberculosis"])
    assert table.targets.shape == (5, 2)


def test_without_labels_the_boxes_tell_the_shares(release, tmp_path):
    for key in ("labels", "test_labels"):
        release.pop(key)
    convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)
    labels = pd.read_csv(tmp_path / "out/labels.csv").set_index("image_id")
    assert list(labels.index) == ["a", "b", "t", "u"] and labels.loc["b", "Enlarged PA"] == 0.3333


def test_a_finding_of_the_labels_without_a_box_is_unknown(release, tmp_path, caplog):
    """d has no row in the boxes, R1 names an edema; e has "no finding" there, two name a nodule; f has no
    label at all; of a, R8 alone names a cavity."""
    local = (*VINDR_CXR.findings, *VINDR_CXR_GLOBAL.classes)
    rows = [("a", "R10", ["Rib fracture"]), ("a", "R9", ["Rib fracture"]), ("a", "R8", ["Lung cavity"]),
            ("b", "R1", ["No finding"]), ("b", "R2", ["No finding"]), ("b", "R3", ["Enlarged PA"]),
            ("d", "R1", ["Edema"]), ("d", "R2", ["No finding"]), ("d", "R3", ["No finding"]),
            ("e", "R1", ["Nodule/Mass"]), ("e", "R2", ["Nodule/Mass"]), ("e", "R3", ["No finding"]),
            *(("f", reader, []) for reader in ("R1", "R2", "R3")),
            *(("g", reader, ["Pneumonia"]) for reader in ("R1", "R2", "R3"))]
    release["labels"].write_text(label_rows(local, "Other diseases", rows))
    release["annotations"].write_text(TRAIN + "".join(f"e,R{n},No finding,,,,\n" for n in (1, 2, 3)))
    release["meta"].write_text(META + "d,100,80\ne,100,80\nf,100,80\ng,100,80\n")
    convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)
    records = records_of(tmp_path / "out/instances_train.json")
    unknown = {name: [VINDR_CXR.findings[label] for label in record.unknown]
               for name, record in records.items() if record.unknown}
    assert unknown == {"a": ["Lung cavity"], "d": ["Edema"], "e": ["Nodule/Mass"],
                       "f": list(VINDR_CXR.findings)}
    assert records["g"].normal  # a label of the whole image has no boxes
    assert "labels.csv: 4 images have labels of findings without a box" in caplog.text
    assert "the first is a (Lung cavity)" in caplog.text
    convert("vindr-cxr", tmp_path / "two", Conversion(folds=2, min_readers=2), **release)
    records = records_of(tmp_path / "two/instances_train.json")
    assert [name for name, record in records.items() if record.unknown] == ["e", "f"]


@pytest.mark.parametrize("key, change, message", [
    ("annotations", ("Rib fracture,10", "Rib fractur,10"), "annotations.csv, row 2: class 'Rib fractur' is "
     "not one of the 22 findings of VinDr-CXR, expected 'Rib fracture' or another"),
    ("annotations", ("class_name", "finding"), r"column class_name is missing; .*expected VinDr-CXR's annot"),
    ("annotations", ("image_id,rad_id,class_name", "image_id,class_id,class_name"),
     r"column rad_id is missing; .*looks like VinBigData's train.csv \(format vinbigdata\)"),
    ("annotations", ("a,R10,Rib fracture,10,10,50,50", "a,R10,Rib fracture,10,10,90,50"),
     "row 2: box .* leaves image a of width 80"),
    ("annotations", ("R1,No finding,,,,", "R1,No finding,1,2,3,4"), r"row 5: class 22 \(No finding\) has"),
    ("annotations", ("b,R1", "z,R1"), "row 5: image z is not in .*labels.csv"),
    ("meta", ("b,100,80\n", ""), "meta.csv: 1 images have no size, the first is b"),
    ("test_annotations", ("u,No", "a,No"), "row 4: image a is not in .*test_labels.csv"),
    ("test_labels", ("u,", "a,"), "image u is not in|image a is in test and in train"),
    ("labels", ("c,R3", "c, "), "labels.csv, row 10: rad_id is empty, expected a value"),
    ("labels", ("c,R3", "c,R2"), "row 10: image c is repeated for reader R2"),
    ("labels", ("Tuberculosis", "TB"), r"column Tuberculosis is missing; is this image_labels_train.csv\?"),
    ("labels", ("a,R10,0", "a,R10,2"), "row 2: Aortic enlargement is 2, expected 0, 1 or a blank"),
])
def test_bad_input(release, tmp_path, key, change, message):
    rewrite(release[key], change)
    with pytest.raises(InputError, match=message):
        convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)
    assert not (tmp_path / "out").exists()


def test_an_image_in_both_parts(release, tmp_path):
    rewrite(release["test_labels"], ("u,", "a,"))
    rewrite(release["test_annotations"], ("u,", "a,"))
    with pytest.raises(InputError, match="test_annotations.csv: image a is in test and in train"):
        convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)


def test_a_patient_in_both_parts(release, tmp_path):
    (tmp_path / "p.csv").write_text("image_id,patient_id\na,1\nb,2\nc,3\nt,1\nu,4\n")
    with pytest.raises(InputError, match="leak: patient 1 is in .* and in .*"):
        convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release, patients=tmp_path / "p.csv")


def test_a_blank_label_stays_unknown(release, tmp_path):
    rewrite(release["test_labels"], ("\nu,0", "\nu,"))
    convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)
    labels = pd.read_csv(tmp_path / "out/labels.csv").set_index("image_id")
    assert np.isnan(labels.loc["u", "Aortic enlargement"]) and labels.loc["t", "Aortic enlargement"] == 0


def unknown_names(path):
    return {name: [VINDR_CXR.findings[label] for label in record.unknown]
            for name, record in records_of(path).items() if record.unknown}


def test_a_finding_that_nobody_labeled_is_unknown(release, tmp_path, caplog):
    """c stands in the labels alone, with Pneumonia; Edema is blank of two readers and 0 of one, then blank of
    all. Of b, which has boxes, Lung cyst is blank of all. "No finding" is a label of Edema too."""
    table = pd.read_csv(release["labels"], dtype=str)
    of_c, of_b = table["image_id"] == "c", table["image_id"] == "b"
    table.loc[of_c, ["Pneumonia", "No finding"]] = ["1", "0"]
    table.loc[of_c & (table["rad_ID"] != "R1"), "Edema"] = ""
    table.loc[of_b & (table["rad_ID"] == "R3"), "Lung cyst"] = ""
    table.to_csv(release["labels"], index=False)
    convert("vindr-cxr", tmp_path / "some", Conversion(folds=2), **release)
    assert unknown_names(tmp_path / "some/instances_train.json") == {}
    table.loc[of_c, "Edema"] = ""
    table.loc[of_b, ["Lung cyst", "No finding"]] = ["", "0"]
    table.to_csv(release["labels"], index=False)
    convert("vindr-cxr", tmp_path / "all", Conversion(folds=2), **release)
    assert unknown_names(tmp_path / "all/instances_train.json") == {"b": ["Lung cyst"], "c": ["Edema"]}
    assert not records_of(tmp_path / "all/instances_train.json")["c"].normal
    assert "2 images have labels of findings without a box, or no label of a finding" in caplog.text
    labels = pd.read_csv(tmp_path / "all/labels.csv").set_index("image_id")
    assert labels.loc["c", ["Edema", "Lung cyst"]].isna().tolist() == [True, False]
    # Without columns of the findings the boxes' table tells them of its images, and nothing of c.
    table.drop(columns=list(VINDR_CXR.findings)).to_csv(release["labels"], index=False)
    convert("vindr-cxr", tmp_path / "none", Conversion(folds=2), **release)
    assert unknown_names(tmp_path / "none/instances_train.json") == {"c": list(VINDR_CXR.findings)}


@pytest.mark.parametrize("reader, column, message", [
    (("b", "R3"), "No finding", "labels.csv, row 7: image b has No finding 1 and 1 for Enlarged PA of"),
    (("b", "R1"), "Edema", "labels.csv, row 5: image b has No finding 1 and 1 for Edema of reader R1"),
    (("b", "R1"), "Pneumonia", "row 5: image b has No finding 1 and 1 for Pneumonia of reader R1"),
])
def test_labels_of_a_reader_that_contradict(release, tmp_path, reader, column, message):
    table = pd.read_csv(release["labels"], dtype=str)
    table.loc[(table["image_id"] == reader[0]) & (table["rad_ID"] == reader[1]), column] = "1"
    table.to_csv(release["labels"], index=False)
    with pytest.raises(InputError, match=message):
        convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)
    assert not (tmp_path / "out").exists()


def test_boxes_of_a_reader_who_labels_no_finding(release, tmp_path):
    """Other readers' boxes are no contradiction: R8 of a, and R1 and R2 of b, saw nothing."""
    table = pd.read_csv(release["labels"], dtype=str)
    of_r3 = (table["image_id"] == "b") & (table["rad_ID"] == "R3")
    table.loc[of_r3, ["No finding", "Enlarged PA"]] = ["1", "0"]
    table.to_csv(release["labels"], index=False)
    with pytest.raises(InputError, match="labels.csv, row 7: image b has No finding 1 of reader R3, who has "
                       "a box of Enlarged PA on it in .*annotations.csv"):
        convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)


def test_readers_that_the_boxes_lack_are_named(release, tmp_path, caplog):
    convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)
    assert "no row in" not in caplog.text  # c is in the labels alone
    rewrite(release["labels"], ("a,R8,", "a,R7,"))
    convert("vindr-cxr", tmp_path / "seven", Conversion(folds=2), **release)
    assert ("labels.csv: 1 readings have no row in" in caplog.text
            and "drew nothing; the first is of image a by R7" in caplog.text)


@pytest.mark.parametrize("key, message", [
    ("annotations", "--labels .*labels.csv: expected --annotations too"),
    ("test_annotations", "--test-labels .*test_labels.csv: expected --test-annotations too"),
])
def test_labels_need_the_boxes_of_their_images(release, tmp_path, key, message):
    release.pop(key)
    with pytest.raises(InputError, match=message):
        convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release)


def test_the_other_part_and_the_other_release_are_named(release, tmp_path):
    with pytest.raises(InputError, match=r"column rad_id is missing; .*annotations_test.csv \(--test-annot"):
        convert("vindr-cxr", tmp_path / "out", annotations=release["test_annotations"], meta=release["meta"])
    with pytest.raises(InputError, match=r"class_id is missing; .*VinDr-CXR's annotations_train.csv \("):
        convert("vinbigdata", tmp_path / "out", annotations=release["annotations"], meta=release["meta"])
    with pytest.raises(InputError, match="class 'Rib fracture' is not .*VinDr-PCXR.*; VinDr-CXR has all"):
        convert("vindr-pcxr", tmp_path / "out", annotations=release["annotations"], meta=release["meta"])


def dicom(path, rows=100, columns=80):
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    elements = pydicom.FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    elements.Rows, elements.Columns = rows, columns
    elements.save_as(path)


def test_sizes_by_the_headers_of_the_files(release, tmp_path, tool, caplog):
    release.pop("meta")
    with pytest.raises(InputError, match="sizes are not known, expected --meta"):
        convert("vindr-cxr", tmp_path / "out", **release)
    for name in "abcu":
        dicom(tmp_path / f"images/{'test' if name == 'u' else 'train'}/{name}.dicom")
    with pytest.raises(InputError, match="1 annotated images are missing, the first is t"):
        convert("vindr-cxr", tmp_path / "out", **release, images=tmp_path / "images")
    dicom(tmp_path / "images/test/t.dicom", rows=0)
    convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), **release, images=tmp_path / "images")
    assert "1 annotated images could not be read or prepared and are left out: t" in caplog.text
    assert "t.dicom: has 0 Rows and 80 Columns" in caplog.text
    records = records_of(tmp_path / "out/instances_train.json")
    assert records["a"].file_name == "train/a.dicom" and records["a"].height == 100
    assert list(records_of(tmp_path / "out/instances_test.json")) == ["u"]
    for path in (tmp_path / "images").rglob("*.dicom"):
        path.write_bytes(b"")
    result = tool("convert.py", "vindr-cxr", "--annotations", release["annotations"], "--images",
                  tmp_path / "images", "--out", tmp_path / "none", "--workers", "1")
    assert "none of 2 images has a header that can be read" in one_line(result)
    assert not (tmp_path / "none").exists()


def test_the_real_headers(data, tmp_path):
    names = sorted(path.stem for path in (data / "vinbig/dicom").glob("*.dicom"))
    rows = "".join(f"{name},R1,Edema,1,1,90,90\n{name},R2,No finding,,,,\n" for name in names)
    (tmp_path / "a.csv").write_text(f"image_id,rad_id,class_name,{EDGES}\n{rows}")
    convert("vindr-cxr", tmp_path / "out", Conversion(folds=2), annotations=tmp_path / "a.csv",
            images=data / "vinbig/dicom")
    sizes = pd.read_csv(data / "vinbig/train_meta.csv").set_index("image_id")
    for name, record in records_of(tmp_path / "out/instances_train.json").items():
        assert (record.height, record.width) == (sizes.loc[name, "dim0"], sizes.loc[name, "dim1"])


def test_children(tmp_path, caplog):
    rows = ["a,R1,Bronchial thickening,1,1,30,30", "a,R1,Bronchial thickening,2,1,30,30",
            "b,R2,No finding,,,,",
            "b,R2,Other opacity,1,1,5,5"]
    (tmp_path / "a.csv").write_text("\n".join([f"image_id,rad_ID,class_name,{EDGES}", *rows]) + "\n")
    (tmp_path / "l.csv").write_text(label_rows(
        ("No finding", *VINDR_PCXR_GLOBAL.findings), "",
        [("a", "R1", ["Bronchitis"]), ("b", "R2", ["Other disease"]), ("c", "R1", ["No finding"])]))
    (tmp_path / "m.csv").write_text(META)
    summary = convert("vindr-pcxr", tmp_path / "out", Conversion(folds=2), annotations=tmp_path / "a.csv",
                      labels=tmp_path / "l.csv", meta=[tmp_path / "m.csv"])
    records = records_of(tmp_path / "out/instances_train.json")
    assert records["a"].label_set is VINDR_PCXR
    assert len(records["a"].truth) == 2  # of a single reader: not fused
    assert len(records["b"].truth) == 1 and "1 rows of class 36 (No finding) beside boxes" in caplog.text
    assert "3 train images (published: 7728)" in summary
    assert not (tmp_path / "out/instances_readers.json").exists()
    with pytest.raises(InputError, match="--min-readers 2: each image of .*a.csv has a single"):
        convert("vindr-pcxr", tmp_path / "none", Conversion(min_readers=2), annotations=tmp_path / "a.csv",
                meta=[tmp_path / "m.csv"])
    labels = pd.read_csv(tmp_path / "out/labels.csv").set_index("image_id")
    assert labels.loc["a", ["Bronchitis", "Bronchial thickening", "No finding"]].tolist() == [1, 1, 0]


@pytest.mark.slow
def test_a_release_of_100000_rows_takes_seconds(tmp_path):
    rng = np.random.default_rng(0)
    images = [f"{number:032x}" for number in range(15000)]
    rows = 100_002
    names = np.repeat(np.resize(images, rows // 3), 3)
    corners = rng.uniform(0, 2000, (rows, 2)).round(2)
    frame = pd.DataFrame({"image_id": names, "rad_id": np.resize(["R1", "R2", "R3"], rows),
                          "class_name": rng.choice(VINDR_CXR.findings, rows), "x_min": corners[:, 0],
                          "y_min": corners[:, 1], "x_max": corners[:, 0] + 300, "y_max": corners[:, 1] + 400})
    frame.to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame({"image_id": images, "dim0": 2500, "dim1": 2500}).to_csv(tmp_path / "m.csv", index=False)
    began = time.process_time()
    convert("vindr-cxr", tmp_path / "out", annotations=tmp_path / "a.csv", meta=[tmp_path / "m.csv"])
    assert time.process_time() - began < 10

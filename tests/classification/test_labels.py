import numpy as np
import pandas as pd
import pytest

from vindr_det.classification import splits
from vindr_det.classification.config import defaults
from vindr_det.classification.label_table import read_table, subsample_normals
from vindr_det.classification.splits import read_tables
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import CLASS_NAMES, NIH_LABELS, column_of


def nih(path, rows):
    """rows: (image, patient, labels, fold)."""
    frame = pd.DataFrame([{"image": image, "patient": patient, "fold": fold,
                           **{name: int(name in labels) for name in NIH_LABELS},
                           "No Finding": int(not labels)} for image, patient, labels, fold in rows])
    frame.to_csv(path, index=False)
    return path


ROWS = [("00000001_000.png", 1, [], 0), ("00000001_001.png", 1, ["Mass"], 0),
        ("00000002_000.png", 2, ["Mass", "Nodule"], 1), ("00000003_000.png", 3, [], 1)]


def config(tmp_path, rows=ROWS, **data):
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    for image, *_ in rows:
        (images / image).write_bytes(b"")
    cfg = defaults()
    cfg.DATA.IMAGES, cfg.DATA.LABELS = str(images), str(nih(tmp_path / "labels.csv", rows))
    for key, value in data.items():
        cfg.DATA[key] = str(value) if key != "PARTIAL" else value
    return cfg


def test_a_table_of_nihs(tmp_path):
    table = read_table(nih(tmp_path / "a.csv", ROWS), "nih14")
    assert table.image_ids.tolist() == [row[0][:-4] for row in ROWS] and table.group_kind == "patient"
    assert table.targets.sum(axis=0)[NIH_LABELS.index("Mass")] == 2 and table.targets.shape == (4, 14)
    assert table.normal.tolist() == [True, False, False, True]
    binary = read_table(tmp_path / "a.csv", "abnormal")
    assert binary.targets[:, 0].tolist() == [0, 1, 1, 0] and binary.names == ("abnormal",)


def test_fractions_of_readers_are_soft_targets(tmp_path):
    frame = pd.DataFrame({"image_id": ["a", "b"], **{name: [0.0, 0.0] for name in CLASS_NAMES}})
    frame.loc[0, ["Cardiomegaly", "No finding"]] = [0.6667, 0.3333]
    frame.loc[1, "No finding"] = 1.0
    frame.to_csv(tmp_path / "a.csv", index=False)
    table = read_table(tmp_path / "a.csv", "vindr15")
    assert table.targets[0, 3] == pytest.approx(2 / 3, abs=1e-3) and table.targets[0, 14] > 0.33
    assert table.normal.tolist() == [False, True] and table.group_kind == "image"
    assert read_table(tmp_path / "a.csv", "abnormal").targets[0, 0] == pytest.approx(2 / 3, abs=1e-3)


@pytest.mark.parametrize("text, message", [
    ("name,abnormal\na,1", "no column image_id or image"),
    ("image_id,x\na,1", "has no column abnormal, No finding or No Finding, nor one of a label"),
    ("image_id,abnormal\na,2", "row 2: abnormal is 2, expected 0 to 1, -1 or a blank"),
    ("image_id,abnormal\na,0\nb,-0.5", "row 3: abnormal is -0.5, expected 0 to 1"),
    ("image_id,abnormal\na,1\na,0", "row 3: image a is repeated"),
    ("image_id,abnormal\na,1\n,0", "row 3: image_id is blank, expected an image's name"),
    ("image_id,abnormal,fold\na,1,0\nb,0,", "row 3: fold is blank, expected a whole number from 0"),
    ("image_id,abnormal,fold\na,1,0\nb,0,1.5", "row 3: fold is 1.5, expected a whole number"),
    ("image_id,abnormal,fold\na,1,x\nb,0,1", "row 2: fold is x, expected a whole number"),
    ("image_id,abnormal,fold\na,1,-9\nb,0,1", "row 2: fold is -9, expected a whole number"),
    ("image_id,abnormal,patient\na,1,5\nb,0,", "row 3: patient is blank, expected a name"),
    ("image_id,abnormal,patient\na,1,5\nb,0,   ", "row 3: patient is blank, expected a name"),
    ("image_id,abnormal,Patient Id \na,1,5\nb,0,", "row 3: Patient ID is blank, expected a name"),
    ("image_id,abnormal,patient,Patient ID\na,1,5,5\nb,0,6,7", "row 3: patient is 6, but Patient ID is 7"),
    ("image_id,abnormal,fold\na,1,0\nb,0,inf", "row 3: fold is inf, expected a whole number"),
    ("image_id,abnormal,fold\na,1,0\nb,0,1" + "0" * 400, "row 3: fold is .*0, expected a whole number"),
    ("image_id,abnormal,Fold\na,1,0\nb,0,1.5", "row 3: Fold is 1.5, expected a whole number"),
    ("image_id,abnormal,fold\na,1,True\nb,0,False", "row 2: fold is True, expected a whole number"),
    ("image_id,abnormal,fold\na,1,True\nb,0,1", "row 2: fold is True, expected a whole number"),
    ("image_id,abnormal\na,1\nb," + "9" * 400, "row 3: abnormal is .*9, expected 0 to 1"),
    ("image_id,abnormal\na,inf\nb,1", "row 2: abnormal is inf, expected 0 to 1"),
    ("image_id,abnormal,Cardiomegaly\na,1,1\nb,0,1", "row 3: abnormal is 0, but Cardiomegaly is 1"),
    ("image_id,No finding,Mass\na,1,0\nb,1,1", "row 3: No finding is 1, but Mass is 1"),
    ("image_id,No Finding,abnormal\na,1,0\nb,1,1", "row 3: No Finding is 1, but abnormal is 1"),
    ("image_id,abnormal,No finding\na,1,0\nb,0,0", "row 3: abnormal is 0, but No finding is 0"),
    ("image_id,No finding,No Finding\na,1,1\nb,0,1", "row 3: No finding is 0, but No Finding is 1"),
])
def test_faulty_tables(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "a.csv", "abnormal")


@pytest.mark.parametrize("text", [
    "image_id,No finding,Mass\na,.3333,.6667\nb,1,0", "image_id,abnormal,Mass\na,0,.3333\nb,1,1",
    "image_id,abnormal,Mass\na,1,0\nb,0,-1", "image_id,No finding,Mass\na,0,0\nb,1,",
    "image_id,No finding,No Finding,Mass\na,0,0,1\nb,1,1,0", "image_id,abnormal\na,True\nb,False"])
def test_fractions_other_findings_and_what_is_not_known_contradict_nothing(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    for meaning in ("ignore", "ones"):
        assert len(read_table(tmp_path / "a.csv", "abnormal", meaning, meaning)) == 2


@pytest.mark.parametrize("patient", ["patient", "patient_id", "Patient ID", "Patient Id ", "PatientID",
                                     "subject_id"])
def test_spellings_of_the_columns(tmp_path, patient):
    (tmp_path / "a.csv").write_text(f"Image_ID,abnormal,{patient},FOLD\na.png,1,7,0\nb.png,0,7,1\n")
    table = read_table(tmp_path / "a.csv", "abnormal")
    assert table.groups.tolist() == ["7", "7"] and table.group_kind == "patient"
    assert table.image_ids.tolist() == ["a", "b"] and table.folds.tolist() == [0, 1]


def tables_of(tmp_path, learn, test, monkeypatch):
    """``read_tables`` of two CSVs whose images are all there."""
    monkeypatch.setattr(splits, "_with_images", lambda table, cfg: table)
    cfg = defaults()
    for key, text in (("LABELS", learn), ("TEST", test)):
        (tmp_path / f"{key}.csv").write_text(text)
        cfg.DATA[key] = str(tmp_path / f"{key}.csv")
    return read_tables(cfg)


@pytest.mark.parametrize("learn, test, message", [
    ("image_id,abnormal,fold,patient\na,1,0,5\nb,0,1,6", "image_id,abnormal\nb.png,1",
     "leak: image b is in fold 1 and in DATA.TEST"),
    ("image_id,abnormal,fold\na,1,0\nb,0,1", "image_id,abnormal,patient\nb,1,Q",
     "leak: image b is in fold 1"),
    ("image_id,abnormal,fold,patient\na,1,0,P5\nb,0,1,P6", "image_id,abnormal,patient\nb,1,6",
     "leak: image b"),
    ("image_id,abnormal,fold,patient\na,1,0,0005\nb,0,1,0006", "image_id,abnormal,patient\nc,1,6",
     "leak: patient 6 is in fold 1 and in DATA.TEST"),
    ("image_id,abnormal,fold,patient\na,1,0,5\nb,0,1,6", "image_id,abnormal,Patient_ID\nc,1,6",
     "leak: patient 6 is in fold 1 and in DATA.TEST"),
])
def test_leaks_between_tables_that_write_them_differently(tmp_path, learn, test, message, monkeypatch):
    with pytest.raises(InputError, match=message):
        tables_of(tmp_path, learn, test, monkeypatch)


@pytest.mark.parametrize("learn, test, message", [
    (",patient\na,1,0,5\nb,0,1,6", "\nc,1", "DATA.TEST has no column of patients"),
    ("\na,1,0\nb,0,1", ",patient\nc,1,6", "DATA.LABELS has no column of patients"),
    ("\na,1,0\nb,0,1", "\nc,1", "DATA.LABELS and DATA.TEST have no column of patients"),
    (",patient\na,1,0,5\nb,0,1,6", ",patient\nc,1,7", "")])
def test_unknown_patients_are_warned_of(tmp_path, learn, test, message, monkeypatch, caplog):
    tables_of(tmp_path, f"image_id,abnormal,fold{learn}", f"image_id,abnormal{test}", monkeypatch)
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == bool(message) and all(message in text for text in warned)


def test_a_planted_leak_names_the_patient(tmp_path):
    rows = [*ROWS, ("00000001_002.png", 1, ["Hernia"], 1)]
    with pytest.raises(InputError, match="leak: patient 1 is in fold 0 and in fold 1"):
        read_tables(config(tmp_path, rows))


def test_a_patient_of_the_test_list_may_not_be_trained_on(tmp_path):
    test = nih(tmp_path / "test.csv", [("00000003_001.png", 3, ["Mass"], -1)])
    cfg = config(tmp_path, TEST=test)
    (tmp_path / "images/00000003_001.png").write_bytes(b"")
    with pytest.raises(InputError, match="leak: patient 3 is in fold 1 and in DATA.TEST"):
        read_tables(cfg)


def test_given_lists_instead_of_folds(tmp_path):
    held = nih(tmp_path / "val.csv", [("00000009_000.png", 9, ["Mass"], -1)])
    cfg = config(tmp_path, VALIDATION=held)
    (tmp_path / "images/00000009_000.png").write_bytes(b"")
    tables = read_tables(cfg)
    assert len(tables.table) == 4 and tables.validation.image_ids.tolist() == ["00000009_000"]


def test_images_that_are_not_there(tmp_path):
    cfg = config(tmp_path)
    (tmp_path / "images/00000002_000.png").unlink()
    with pytest.raises(InputError, match="1 of 4 labeled images are missing, the first is 00000002_000"):
        read_tables(cfg)
    cfg.DATA.PARTIAL = True
    assert len(read_tables(cfg).table) == 3
    for image in (tmp_path / "images").iterdir():
        image.rename(image.with_name(f"other_{image.name}"))
    with pytest.raises(InputError, match="none of 4 labeled images is there, the first is 00000001_000"):
        read_tables(cfg)


def test_no_folds_and_no_list(tmp_path):
    with pytest.raises(InputError, match="has no folds, expected a column fold, or DATA.VALIDATION"):
        read_tables(config(tmp_path, [(*row[:3], -1) for row in ROWS]))


def test_subsampling_normals_keeps_all_abnormal_images(tmp_path):
    table = read_table(nih(tmp_path / "a.csv", [(f"{i:08d}_000.png", i, ["Mass"] * (i % 4 == 0), 0)
                                                for i in range(200)]), "nih14")
    fewer = subsample_normals(table, 0.2, seed=1)
    assert (~fewer.normal).sum() == 50 and fewer.normal.sum() == 30
    assert np.array_equal(fewer.image_ids, subsample_normals(table, 0.2, seed=1).image_ids)
    assert not np.array_equal(fewer.image_ids, subsample_normals(table, 0.2, seed=2).image_ids)


@pytest.mark.parametrize("label, column", [
    ("abnormal", "p_abnormal"), ("No finding", "p_no_finding"), ("Nodule/Mass", "p_nodule_mass"),
    ("Pleural_Thickening", "p_pleural_thickening"), ("ILD", "p_ild")])
def test_columns(label, column):
    assert column_of(label) == column


CHEXPERT = "image_id,abnormal\na,1\nb,0\nc,-1\nd,\n"


@pytest.mark.parametrize("uncertain, blank, expected", [
    ("ignore", "ignore", [1, 0, np.nan, np.nan]), ("zeros", "ones", [1, 0, 0, 1]),
    ("ones", "zeros", [1, 0, 1, 0]), ("ones", "ignore", [1, 0, 1, np.nan])])
def test_uncertain_and_blank_labels(tmp_path, uncertain, blank, expected):
    (tmp_path / "a.csv").write_text(CHEXPERT)
    table = read_table(tmp_path / "a.csv", "abnormal", uncertain, blank)
    assert np.array_equal(table.targets[:, 0], expected, equal_nan=True)
    assert table.normal.tolist() == [value == 0 for value in expected]


def test_one_known_finding_makes_an_image_abnormal_and_one_unknown_label_nothing(tmp_path):
    (tmp_path / "a.csv").write_text("image_id,Mass,Edema\na,1,-1\nb,0,-1\nc,0,0\nd,,\n")
    table = read_table(tmp_path / "a.csv", "abnormal")
    assert np.array_equal(table.targets[:, 0], [1, np.nan, 0, np.nan], equal_nan=True)
    assert table.normal.tolist() == [False, False, True, False]
    assert read_table(tmp_path / "a.csv", "abnormal", "zeros", "zeros").targets[:, 0].tolist() == [1, 0, 0, 0]


NO_FINDING = ("image_id,fold,No Finding,Edema,Pleural Effusion\na,0,1,0,\nb,0,0,,1\nc,0,-1,,\nd,1,,,\n"
              "e,1,,1,\nf,1,,-1,1\ng,1,-1,0,1\n")


@pytest.mark.parametrize("uncertain, blank, expected", [
    ("ignore", "ignore", [0, 1, np.nan, np.nan, 1, 1, 1]), ("zeros", "ones", [0, 1, 0, 1, 1, 1, 1]),
    ("ones", "zeros", [0, 1, 1, 0, 1, 1, 1])])
def test_abnormal_of_no_finding(tmp_path, uncertain, blank, expected):
    """zeros and ones are of the label abnormal; a finding that is certainly there decides before them."""
    (tmp_path / "a.csv").write_text(NO_FINDING)
    table = read_table(tmp_path / "a.csv", "abnormal", uncertain, blank)
    assert np.array_equal(table.targets[:, 0], expected, equal_nan=True)
    assert table.normal.tolist() == [value == 0 for value in expected]
    assert table.abnormal.tolist() == [value > 0 for value in expected]  # what is unknown is neither
    assert table[2:5].abnormal.tolist() == [value > 0 for value in expected[2:5]]


def test_labels_by_name(tmp_path):
    table = read_table(nih(tmp_path / "a.csv", ROWS), ["abnormal", "Mass"])
    assert table.names == ("abnormal", "Mass") and table.targets.tolist() == [[0, 0], [1, 1], [1, 1], [0, 0]]


@pytest.mark.parametrize("name, image_id", [
    ("a.png", "a"), ("sub/a.png", "a"), ("a.tif", "a"), (" a ", "a"), ("1.2.840.5", "1.2.840.5"),
    ("N/A", "N/A"),
])
def test_file_names_become_ids_and_ids_stay(tmp_path, name, image_id):
    (tmp_path / "t.csv").write_text(f"image,abnormal,patient\n{name},1,x/p.png\nb,0,y/p.png\n")
    table = read_table(tmp_path / "t.csv", "abnormal")
    assert table.image_ids[0] == image_id
    assert table.groups.tolist() == ["x/p.png", "y/p.png"]  # patients are no files

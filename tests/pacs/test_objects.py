"""Answers as DICOM objects: read back with the same boxes and codes; others' checks find no error."""

import subprocess

import highdicom
import numpy as np
import pydicom
import pytest
from conftest import ROOT
from pacs_files import ACCESSION, BOXES, NAME, PATIENT, answer, in_hospital, problems_of, report, tool
from pydicom.sr.codedict import codes

from vindr_det.exceptions import InputError
from vindr_det.imaging.read import read_image
from vindr_det.pacs.answer import STATEMENT, Algorithm
from vindr_det.pacs.codes import PRIVATE, code_of
from vindr_det.pacs.objects import objects_of, write_object
from vindr_det.pacs.presentation_state import corners_of
from vindr_det.pacs.structured_report import boxes_of
from vindr_det.structures.label_sets import LABEL_SETS, NIH, VINBIGDATA

EDGES = ("x_min", "y_min", "x_max", "y_max")
TOLD = [[box[edge] for edge in EDGES] for box in BOXES[:2]]


@pytest.fixture(scope="module")
def image(phantoms, tmp_path_factory):
    """A phantom of a hospital's archive."""
    source = sorted((phantoms / "raw/test").iterdir())[0]
    return in_hospital(source, tmp_path_factory.mktemp("archive") / "a.dcm")


def saved(tmp_path, told):
    """Kind -> the object as it is read back from its file."""
    for kind, dataset in objects_of(told).items():
        write_object(tmp_path / f"{kind}.dcm", dataset)
    return {path.stem: pydicom.dcmread(path) for path in sorted(tmp_path.glob("*.dcm"))}


def test_the_same_boxes_and_codes_are_read_back(image, tmp_path):
    objects = saved(tmp_path, answer(image))
    assert list(objects) == ["pr", "sc", "sr"]
    regions = boxes_of(objects["sr"])
    assert [box[:2] for box in regions] == [("SCT", "8186001"), (PRIVATE, "AORTA_ENLARGED")]
    assert [box[2] for box in regions] == pytest.approx([0.9, 0.5])
    np.testing.assert_allclose([box[3] for box in regions], TOLD, atol=0.01)
    np.testing.assert_allclose(corners_of(objects["pr"]), TOLD, atol=0.01)
    points = [graphic.GraphicData for layer in objects["pr"].GraphicAnnotationSequence
              for graphic in layer.get("GraphicObjectSequence", [])]
    assert all(data[:2] == data[-2:] and len(data) == 10 for data in points)


def test_the_picture_shows_the_boxes_in_their_colors(image, tmp_path):
    from vindr_det.imaging.palette import color_of

    capture = saved(tmp_path, answer(image))["sc"]
    pixels = capture.pixel_array
    assert pixels.ndim == 3 and capture.PhotometricInterpretation == "RGB"
    plain = saved(tmp_path, answer(image, report(boxes=[])))["sc"].pixel_array
    for label in (3, 0):
        assert (pixels == color_of(label)).all(axis=2).sum() > 50
        assert not (plain == color_of(label)).all(axis=2).any()


def test_objects_are_of_the_images_patient_and_study(image, tmp_path):
    original = pydicom.dcmread(image)
    objects = saved(tmp_path, answer(image))
    series = set()
    for kind, dataset in objects.items():
        assert (dataset.PatientName, dataset.PatientID, dataset.AccessionNumber) == (NAME, PATIENT, ACCESSION)
        assert dataset.StudyInstanceUID == original.StudyInstanceUID
        assert dataset.SOPInstanceUID != original.SOPInstanceUID and dataset.Manufacturer == "vindr_det"
        series.add(dataset.SeriesInstanceUID)
        assert original.SOPInstanceUID in dataset.to_json(), kind
        assert STATEMENT in dataset.to_json(), kind
    assert len(series) == 3 and original.SeriesInstanceUID not in series
    assert objects["sc"].BurnedInAnnotation == "YES" and objects["sc"].ImageType[0] == "DERIVED"
    assert (objects["sr"].PreliminaryFlag, objects["sr"].VerificationFlag) == ("PRELIMINARY", "UNVERIFIED")


@pytest.mark.parametrize("told, kinds, codes_of_report", [
    (report(), ["pr", "sc", "sr"], 2),
    (report(boxes=[]), ["sc", "sr"], 0),
    (report("flagged", reason="lateral; é"), ["pr", "sc", "sr"], 2),
    (report("failed", reason="its pixels are cut"), ["sr"], 0),
])
def test_others_find_no_error(image, tmp_path, told, kinds, codes_of_report):
    objects = saved(tmp_path, answer(image, told))
    assert list(objects) == kinds and len(boxes_of(objects["sr"])) == codes_of_report
    for kind in kinds:
        assert not problems_of(tmp_path / f"{kind}.dcm"), kind
    dump = subprocess.run([tool("dsrdump"), "+Pl", tmp_path / "sr.dcm"], capture_output=True, text=True)
    known = "W: The VR checker does not support this Specific Character Set: ISO_IR 192"
    assert dump.returncode == 0 and not [line for line in dump.stderr.splitlines() if line != known]
    assert ("NOT READ" in dump.stdout) == (told["status"] == "failed")
    assert ("Look at it before" in dump.stdout) == (told["status"] == "flagged")


def test_an_image_that_was_not_read_is_never_without_finding(image, tmp_path):
    """Even where somebody's file has boxes or a score of it."""
    told = report("failed", reason="cut") | {"no_finding": 0.99, "probabilities": {"p_abnormal": 0.01}}
    content = saved(tmp_path, answer(image, told))["sr"].to_json()
    assert "NOT_READ" in content and "no finding" not in content and "p_abnormal" not in content


@pytest.mark.parametrize("photometric, shape", [("MONOCHROME2", "IDENTITY"), ("MONOCHROME1", "INVERSE")])
def test_the_state_shows_the_image_as_it_was(image, tmp_path, photometric, shape):
    path = in_hospital(image, tmp_path / "x.dicom", PhotometricInterpretation=photometric,
                       WindowCenter=[900, 5], WindowWidth=[800, 5], VOILUTFunction="SIGMOID")
    state = saved(tmp_path, answer(path))["pr"]
    assert state.PresentationLUTShape == shape
    voi = state.SoftcopyVOILUTSequence[0]
    assert (voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction) == (900, 800, "SIGMOID")
    assert not problems_of(tmp_path / "pr.dcm")


@pytest.mark.parametrize("changes", [{"WindowCenter": None, "WindowWidth": None},
                                     {"WindowCenter": 60000, "WindowWidth": 2}])
def test_without_a_window_the_state_shows_percentiles(image, tmp_path, changes):
    """As the picture does: its grays follow from the state's window."""
    path = in_hospital(image, tmp_path / "x.dicom", PhotometricInterpretation="MONOCHROME2", **changes)
    voi = saved(tmp_path, answer(path))["pr"].SoftcopyVOILUTSequence[0]
    assert voi.VOILUTFunction == "LINEAR_EXACT" and not problems_of(tmp_path / "pr.dcm")
    unit = (pydicom.dcmread(path).pixel_array - float(voi.WindowCenter)) / float(voi.WindowWidth) + 0.5
    shown = read_image(path)
    assert shown.window == "percentile"
    assert np.abs(np.clip(unit, 0, 1) * 255 - shown.pixels).max() <= 1


def test_pixels_that_are_not_square(image, tmp_path):
    path = in_hospital(image, tmp_path / "x.dicom", PixelSpacing=None, PixelAspectRatio=[2, 1])
    objects = saved(tmp_path, answer(path))
    area = objects["pr"].DisplayedAreaSelectionSequence[0]
    assert list(area.PresentationPixelAspectRatio) == [2000, 1000] == list(objects["sc"].PixelAspectRatio)
    assert list(area.DisplayedAreaBottomRightHandCorner) == [objects["pr"].get("Columns") or
                                                             pydicom.dcmread(path).Columns,
                                                             pydicom.dcmread(path).Rows]
    np.testing.assert_allclose(corners_of(objects["pr"]), TOLD, atol=0.01)
    assert not any(problems_of(tmp_path / f"{kind}.dcm") for kind in objects)


@pytest.mark.parametrize("changes", [
    {"PatientSex": "female"}, {"PatientAge": "Y"}, {"PatientBirthDate": "00000000"}, {"StudyTime": "noon"},
    {"PatientName": "", "PatientID": "", "StudyID": None, "AccessionNumber": None},
    {"PatientName": "Müller^Jürgen", "SpecificCharacterSet": "ISO_IR 100"},
    {"PatientName": "山田^太郎", "SpecificCharacterSet": "ISO_IR 192"},
    {"WindowCenter": "", "WindowWidth": ""}, {"InstanceNumber": None}, {"RescaleSlope": None},
])
def test_headers_in_the_wild(image, tmp_path, changes):
    path = in_hospital(image, tmp_path / "x.dicom", **changes)
    objects = saved(tmp_path, answer(path))
    assert list(objects) == ["pr", "sc", "sr"]
    for kind, dataset in objects.items():
        assert not problems_of(tmp_path / f"{kind}.dcm"), kind
        assert str(dataset.PatientName) == changes.get("PatientName", NAME)


@pytest.mark.parametrize("changes, message", [
    ({"StudyInstanceUID": None}, "has no StudyInstanceUID, expected one"),
    ({"SeriesInstanceUID": ""}, "has no SeriesInstanceUID"),
    ({"SOPInstanceUID": "4b56bc6d"}, "SOPInstanceUID '4b56bc6d' is no UID"),
    ({"StudyInstanceUID": "1." + "2" * 63}, "is no UID"),
])
def test_images_that_no_answer_could_refer_to(image, tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        answer(in_hospital(image, tmp_path / "x.dcm", **changes))
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match="not a DICOM file"):
        answer(tmp_path / "x.png")


def test_the_same_answer_is_the_same_object(image, tmp_path):
    def uids(told=None, **more):
        return {kind: dataset.SOPInstanceUID for kind, dataset in
                objects_of(answer(image, told, **more)).items()}

    first = objects_of(answer(image))
    for kind, dataset in objects_of(answer(image)).items():
        write_object(tmp_path / "again.dcm", dataset)
        write_object(tmp_path / "first.dcm", first[kind])
        assert (tmp_path / "again.dcm").read_bytes() == (tmp_path / "first.dcm").read_bytes(), kind
    others = [uids(report(boxes=BOXES[:1])), uids(score=0.2), uids(algorithm=Algorithm("phantom", "abd"))]
    assert all(not set(uids().values()) & set(other.values()) for other in others)


def test_codes_are_of_the_standard_where_it_has_them():
    for finding, code in [("Pneumothorax", codes.SCT.Pneumothorax), ("Mass", codes.SCT.Mass),
                          ("Nodule", codes.SCT.Nodule), ("Infiltration", codes.DCM.Infiltrate),
                          ("Lung Opacity", codes.DCM.Opacity), ("Effusion", codes.SCT.PleuralEffusion),
                          ("Dextro cardia", codes.SCT.Dextrocardia)]:
        assert code_of(finding)[:3] == (code.value, code.scheme_designator, code.meaning)
    assert code_of("pleural_thickening") == code_of("Pleural thickening")


def test_the_page_has_the_codes_of_the_table():
    page = (ROOT / "docs/pacs.md").read_text(encoding="utf-8")
    for finding in (*VINBIGDATA.findings, *NIH.findings):
        assert f"({code_of(finding).value}, {code_of(finding).scheme})" in page, finding


@pytest.mark.data
@pytest.mark.parametrize("name", ["RG1_J2KI.dcm", "RG2_JLSN.dcm", "Fake_MONOHR1.dcm"])
def test_real_radiographs(data, tmp_path, name):
    objects = saved(tmp_path, answer(data / "dicom_cases/ok" / name))
    assert list(objects) == ["pr", "sc", "sr"]
    assert not [problem for kind in objects for problem in problems_of(tmp_path / f"{kind}.dcm")]
    np.testing.assert_allclose([box[3] for box in boxes_of(objects["sr"])], TOLD, atol=0.01)
    np.testing.assert_allclose(corners_of(objects["pr"]), TOLD, atol=0.01)


@pytest.mark.data
def test_vinbigdata_as_a_hospital_would_have_it(data, tmp_path):
    """MONOCHROME1, JPEG 2000, without a window; as it is published it has no study."""
    source = sorted((data / "vinbig/dicom").iterdir())[0]
    with pytest.raises(InputError, match="has no StudyInstanceUID"):
        answer(source)
    path = in_hospital(source, tmp_path / "x.dicom")
    objects = saved(tmp_path, answer(path))
    assert objects["pr"].PresentationLUTShape == "INVERSE" and "MONOCHROME1" in str(pydicom.dcmread(path))
    assert not [problem for kind in objects for problem in problems_of(tmp_path / f"{kind}.dcm")]


def test_every_finding_has_a_code_of_its_own():
    """The 14 of VinBigData and of NIH are in the table; those of other sets have at least a private code."""
    assert all(code_of(name).source for name in (*VINBIGDATA.findings, *NIH.findings))
    for label_set in LABEL_SETS.values():
        coded = [code_of(name) for name in label_set.findings]
        assert len({code[:2] for code in coded}) == len(coded), label_set.name
        for code in coded:
            highdicom.sr.CodedConcept(*code[:3])
            assert len(code.value) <= 16

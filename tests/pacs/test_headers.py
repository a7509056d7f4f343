"""What answers take from odd headers: lookup tables, texts in any language, patient, study and body part."""

import subprocess

import cv2
import numpy as np
import pydicom
import pytest
from pacs_files import BOXES, NAME, answer, in_hospital, problems_of, report, tool
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from vindr_det.exceptions import InputError
from vindr_det.pacs.codes import code_of
from vindr_det.pacs.objects import objects_of, write_object
from vindr_det.pacs.original import read_original
from vindr_det.pacs.text import fitted


@pytest.fixture(scope="module")
def image(phantoms, tmp_path_factory):
    """A phantom of a hospital's archive, MONOCHROME2 with a window."""
    for source in sorted((phantoms / "raw/test").iterdir()):
        header = pydicom.dcmread(source)
        if header.PhotometricInterpretation == "MONOCHROME2" and "WindowCenter" in header:
            if header.file_meta.TransferSyntaxUID.is_compressed:
                header.decompress()
            header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian  # dcmp2pgm misses others' tables
            path = tmp_path_factory.mktemp("archive") / "a.dcm"
            header.save_as(path, implicit_vr=False)
            return in_hospital(path, path)
    raise AssertionError("no such phantom")


def saved(tmp_path, told, kinds=("sc", "sr", "pr")):
    """Kind -> the object as it is read back from its file."""
    objects = objects_of(told, kinds)
    for kind, dataset in objects.items():
        write_object(tmp_path / f"{kind}.dcm", dataset)
    return {kind: pydicom.dcmread(tmp_path / f"{kind}.dcm") for kind in objects}


def texts_of(dataset):
    return "\n".join(str(element.value) for element in dataset.iterall() if element.VR != "OW")


def shown(path, out, *options):
    """The grays that dcmtk renders."""
    subprocess.run([tool("dcmp2pgm"), *options, path, out], check=True, capture_output=True)
    return cv2.imread(str(out), cv2.IMREAD_UNCHANGED).astype(int)


def table(entries, bits, first=0, dtype="<u2", **more):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, bits])
    item.add_new("LUTData", "OW", np.asarray(entries).astype(dtype).tobytes())
    for key, value in more.items():
        setattr(item, key, value)
    return [item]


def changes_of(case, top):
    """A table of a kind over the values 0 to ``top``."""
    unit, window = np.linspace(0, 1, top + 1), {"WindowCenter": None, "WindowWidth": None}
    if case == "modality of 16 bits":
        return {"ModalityLUTSequence": table(60000 * unit, 16, ModalityLUTType="US"), "RescaleSlope": None,
                "RescaleIntercept": None, "WindowCenter": 30000, "WindowWidth": 60000}
    voi = {"VOI of 8 bits": table(255 * unit**0.5, 8), "VOI of 12 bits": table(4095 * unit**0.5, 12),
           "VOI of 16 bits": table(65535 * unit**0.5, 16), "VOI of packed bytes": table(255 * unit**0.5, 8,
                                                                                       dtype="u1")}
    rescale = {"RescaleSlope": 1, "RescaleIntercept": -top // 2}
    if case == "VOI of signed values":
        return {"VOILUTSequence": table(4095 * unit, 12, first=-top // 2), **rescale, **window}
    return {"VOILUTSequence": voi[case], **window}


@pytest.mark.parametrize("case", ["VOI of 8 bits", "VOI of 12 bits", "VOI of 16 bits", "VOI of packed bytes",
                                  "VOI of signed values", "modality of 16 bits"])
def test_the_state_shows_what_the_lookup_table_shows(image, tmp_path, case):
    """As dcmtk renders the image alone."""
    top = 2 ** pydicom.dcmread(image).BitsStored - 1
    path = in_hospital(image, tmp_path / "x.dcm", **changes_of(case, top))
    saved(tmp_path, answer(path), ["pr"])
    assert not problems_of(tmp_path / "pr.dcm")
    expected = shown(path, tmp_path / "image.pgm")
    grays = shown(path, tmp_path / "state.pgm", "-p", tmp_path / "pr.dcm")
    assert expected.std() > 20 and np.abs(grays - expected).max() <= 1


@pytest.mark.parametrize("key", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("descriptor", [[256], [256, 0]])
def test_a_damaged_descriptor_leaves_the_image_its_report(image, tmp_path, key, descriptor):
    """Its pixels cannot be read; what the report takes of it can."""
    item = table(np.arange(256), 8)
    item[0].LUTDescriptor = descriptor
    path = in_hospital(image, tmp_path / "x.dcm", **{key: item})
    original = read_original(path)
    assert original.uid and key not in original.header


def test_a_spacing_of_one_value_costs_no_answer(image, tmp_path):
    path = in_hospital(image, tmp_path / "x.dcm", PixelSpacing=[0.2])
    assert saved(tmp_path, answer(path)).keys() == {"sc", "sr", "pr"}


@pytest.mark.parametrize("sets, name", [
    ("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "Müller^Jörg=山田^太郎"),
    ("GB18030", "Wang^XiaoDong=王^小东"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"), ("ISO_IR 9999", "X^Y"), (None, "X^Y"),
])
def test_names_of_any_character_set(image, tmp_path, sets, name):
    path = in_hospital(image, tmp_path / "x.dcm", SpecificCharacterSet=sets, PatientName=name)
    for kind, dataset in saved(tmp_path, answer(path)).items():
        assert str(dataset.PatientName) == name and not problems_of(tmp_path / f"{kind}.dcm")
        assert dataset.get("SpecificCharacterSet") == (None if name.isascii() else "ISO_IR 192")
        assert ("ISO_IR 9999" in dataset.to_json()) == (sets == "ISO_IR 9999")


def test_letters_without_a_character_set_are_noted(image, tmp_path):
    path = in_hospital(image, tmp_path / "x.dcm", PatientName="Mueller^Joerg")
    path.write_bytes(path.read_bytes().replace(b"Mueller^Joerg", b"M\xfcller^J\xf6rg  "))
    assert "no character set" in saved(tmp_path, answer(path))["sc"].ImageComments
    assert not read_original(image).notes


def test_findings_in_any_language(image, tmp_path):
    """Also with what DICOM gives a meaning; dciodvfy counts bytes of a meaning, not its 64 characters."""
    name = "Пневмония\\心\n" + 20 * "x"
    told = report(boxes=[BOXES[0] | {"class_name": name}], probabilities={name: 0.5},
                  reason="seitlich: Röntgen\\Bild\nzwei")
    assert len(code_of(80 * "心").meaning) == 64
    objects = saved(tmp_path, answer(image, told | {"status": "flagged"}))
    for kind, dataset in objects.items():
        assert not problems_of(tmp_path / f"{kind}.dcm"), kind
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert "seitlich: Röntgen/Bild zwei" in texts_of(dataset)
    assert all("Пневмония/心 xxx" in texts_of(objects[kind]) for kind in ("sr", "pr"))


@pytest.mark.parametrize("text, vr, expected", [
    ("", "LO", ""), ("a\\b\n c\r\n", "LO", "a/b c"), ("x" * 70, "LO", "x" * 64), ("é\x00\u2028", "SH", "é"),
    ("\udc80a", "LO", "a"), (" P  1 ", "LO", "P  1"), ("a\r\n \n b", "LO", "a b"), (3, "LO", "3"),
    ("a" * 70 + "=b=c=d", "PN", "a" * 64 + "=b=c"),
])
def test_texts_fit_their_elements(text, vr, expected):
    assert fitted(text, vr) == expected


def test_patient_and_study_are_in_each_kind(image, tmp_path):
    values = {"IssuerOfPatientID": "HOSPITAL", "StudyDescription": "Thorax pa", "PatientAge": "066Y"}
    path = in_hospital(image, tmp_path / "x.dcm", TimezoneOffsetFromUTC="+0900", **values)
    for kind, dataset in saved(tmp_path, answer(path)).items():
        assert {key: dataset.get(key) for key in values} == values, kind
        assert dataset.TimezoneOffsetFromUTC == "+0900" and not problems_of(tmp_path / f"{kind}.dcm")


@pytest.mark.parametrize("number, message", [("P" * 80, "PatientID of 80 characters, expected at most 64"),
                                             ("A1\\B2", "PatientID of several values, expected one")])
def test_patients_that_an_answer_could_not_name(image, tmp_path, number, message):
    path = in_hospital(image, tmp_path / "x.dcm", PatientID=number)
    with pytest.raises(InputError, match=message) as error:
        read_original(path)
    assert number not in str(error.value)


@pytest.mark.parametrize("changes, part, side, procedure", [
    ({}, "CHEST", None, "Plain radiography"),
    ({"BodyPartExamined": None}, "CHEST", None, "Plain radiography"),
    ({"BodyPartExamined": "HIP", "Laterality": "L"}, "HIP", "L", "Plain radiography"),
    ({"BodyPartExamined": "HIP"}, "HIP", "", "Plain radiography"),
    ({"BodyPartExamined": "left hip"}, None, "", "Plain radiography"),
    ({"BodyPartExamined": None, "Modality": "MR"}, None, "", "Imaging procedure")])
def test_body_part_and_procedure_are_the_images(image, tmp_path, changes, part, side, procedure):
    objects = saved(tmp_path, answer(in_hospital(image, tmp_path / "x.dcm", **changes)))
    for kind in ("sc", "pr"):
        assert (objects[kind].get("BodyPartExamined"), objects[kind].get("Laterality")) == (part, side)
        assert not problems_of(tmp_path / f"{kind}.dcm")
    assert procedure in str(objects["sr"])


def test_a_lossy_image_has_a_lossy_picture(image, tmp_path):
    path = in_hospital(image, tmp_path / "x.dcm", LossyImageCompression="01", LossyImageCompressionRatio=10,
                       LossyImageCompressionMethod="ISO_10918_1")
    capture = saved(tmp_path, answer(path), ["sc"])["sc"]
    assert (capture.LossyImageCompression, capture.LossyImageCompressionRatio,
            capture.LossyImageCompressionMethod) == ("01", 10, "ISO_10918_1")
    assert not problems_of(tmp_path / "sc.dcm")


@pytest.mark.parametrize("told, kinds, expected", [
    (report("failed", reason="cut"), ["sc"], ["sr"]), (report("failed", reason="cut"), ["sc", "pr"], ["sr"]),
    (report(boxes=[]), ["pr"], ["sr"]), (report(boxes=[]), ["sc", "pr"], ["sc"]), (report(), ["pr"], ["pr"])])
def test_no_image_is_without_an_object(image, told, kinds, expected):
    assert list(objects_of(answer(image, told), kinds)) == expected


def test_boxes_outside_the_image_are_left_out_and_told(image, tmp_path):
    outside = BOXES[1] | {"x_min": 5000.0, "x_max": 6000.0}
    told = answer(image, report(boxes=[BOXES[0], outside]))
    assert [box.finding for box in told.boxes] == ["Cardiomegaly"]
    assert told.remark == "Look at it before you trust it: 1 box outside the image left out"
    assert "FLAGGED" in str(saved(tmp_path, told)["sr"])


def test_the_state_has_the_reason_of_a_flag(image, tmp_path):
    told = answer(image, report("flagged", reason="view LL is lateral"))
    state = saved(tmp_path, told, ["pr"])["pr"]
    texts = [text.UnformattedTextValue for layer in state.GraphicAnnotationSequence
             for text in layer.get("TextObjectSequence", [])]
    assert any("Research" in text and "view LL is lateral" in text for text in texts)
    assert state.PatientName == NAME and not problems_of(tmp_path / "pr.dcm")


def test_another_time_is_another_object(image):
    """Two files with the same UID and other bytes are an error in every archive."""
    told = answer(image)
    later = answer(image, created=told.created.replace(second=59))
    assert told.uid("sr") == answer(image).uid("sr") != later.uid("sr")

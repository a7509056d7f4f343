"""Which images a gate has seen, under whatever name they come back."""

import pytest

from vindr_det.errors import InputError
from vindr_det.files import write_json
from vindr_det.in_sample import as_json, key, refuse_in_sample, shared

A, B = "9a5094b2563a1ef3ff50dc5c7ff71345", "051132a778e61a86eb147c7c6f564dfe"


@pytest.mark.parametrize("given, expected", [
    ("", ""), ("abc", "abc"), (" ABC\n", "abc"), ("train/abc", "abc"), ("C:\\x\\train\\abc.png", "abc"),
    ("abc.dicom", "abc"), ("abc.DCM", "abc"), ("abc.dicom.png", "abc"), ("1.2.840.99", "1.2.840.99"),
    ("00000001_000.png", "00000001_000"),
])
def test_an_id_without_folder_suffix_and_case(given, expected):
    assert key(given) == expected


@pytest.mark.parametrize("fitted, given, seen", [
    ([A], [], False), ([A], [B], False), ([A], [A], True), ([A], [f"train/{A}"], True),
    ([f"train/{A}"], [A], True), ([A], [f"{A}.png", B], True), ([f"{A}.dicom"], [A.upper()], True),
    ([A], [f"train_{A}"], True), ([f"fold0-{A}.png"], [A], True), ([f"a_{A}"], [f"b_{A}"], False),
    (["00000001_000"], ["00000002_000"], False),  # a running number is no id
    (["0001"], ["test_0001"], False),
])
def test_one_image_under_two_names(fitted, given, seen):
    assert shared(fitted, given) == (given[:1] if seen else [])


def test_a_fit_refuses_its_images_and_no_others(tmp_path):
    path = tmp_path / "gate.json"
    write_json(path, {"gate": {}, **as_json([A])})
    refuse_in_sample(path, [B])
    with pytest.raises(InputError, match=f"fitted on 1 of these 2 images, the first is train/{A}"):
        refuse_in_sample(path, [B, f"train/{A}"])


@pytest.mark.parametrize("change", [
    {"images": []}, {"images": [B]}, {"images": None}, {"images": [A]}, {"images": [A, 3]},
    {"images": "x"}, {"images_sha256": None}, {"images": [], "images_sha256": as_json([])["images_sha256"]},
])
def test_a_list_that_is_not_the_fits_is_refused(tmp_path, change):
    path = tmp_path / "gate.json"
    write_json(path, {"gate": {}, **as_json([A, B]), **change})
    with pytest.raises(InputError, match=r"gate.json: lists [0-2] images .* expected those of the fit"):
        refuse_in_sample(path, ["another"])
    write_json(path, [A])
    with pytest.raises(InputError, match="lists 0 images"):
        refuse_in_sample(path, ["another"])

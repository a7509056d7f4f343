"""Which images a gate has seen, under whatever name they come back."""

import time

import numpy as np
import pytest

from vindr_det.data.in_sample import as_json, key, refuse_in_sample, shared
from vindr_det.exceptions import InputError
from vindr_det.files import write_json

A, B = "9a5094b2563a1ef3ff50dc5c7ff71345", "051132a778e61a86eb147c7c6f564dfe"
UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"


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
    ([A], [f"train_{A}"], True), ([f"fold0-{A}.png"], [A], True), ([f"a_{A}"], [f"b_{A}"], True),
    (["00000001_000"], ["00000002_000"], False),  # a running number is no id
    (["0001"], ["test_0001"], False), (["00000001"], ["test_00000001"], False),
    (["train_00000001"], ["test_00000001"], False), (["train_00000001_000"], ["00000001_000"], True),
    (["00000001_000"], ["100000001_000"], False), (["00000001_000"], ["00000001_0001"], False),
    (["1.2.840.113619.2.5"], ["1.2.840.113619.2.5.1"], False),
    (["1.2.840.113619.2.5"], ["1.2.840.113619.2.55"], False),
    (["val_1.2.840.113619.2.5"], ["test_1.2.840.113619.2.5"], True),
    (["abc"], ["abc.raw"], True), (["abc"], ["abcd"], False), (["ab.left"], ["ab.right"], False),
    (["12345-67-89"], ["12345-67-8"], False), ([A], [A[:-1] + "6"], False), (["a" * 8], ["a" * 9], False),
    ([UUID], [UUID.replace("00c0", "00c1")], False), ([UUID], [f"x_{UUID}.npy"], True),
    ([f"fold0{A}"], [f"fold1{A}"], True), ([f"val_{A}-1024"], [f"test-{A}_flip"], True),
])
def test_one_image_under_two_names(fitted, given, seen):
    assert shared(fitted, given) == (given[:1] if seen else [])


@pytest.mark.parametrize("form", [
    "{}.tiff", "{}.bmp", "{}.webp", "{}.npy", "{}.gif", "{}.jp2", "{}.j2k", "{}.pgm", "{}.raw", "{}.ima",
    "{}.dcm.gz", "{}.nii.gz", "{}.PNG.jpg", "{}_0", "{}_flip", "{}-1024", "train{}", "fold0{}", "'{}'",
    '"{}"', "{} (1)", "{}?x=1", "{}\u200b", "val_{}", "x/y_{}.png"])
def test_other_forms_of_an_id(form):
    dashed = "-".join((A[:8], A[8:12], A[12:16], A[16:20], A[20:]))
    for name in (A, A.upper(), dashed):
        given = form.format(name)
        assert shared([A, B], [given]) == [given] and shared([given], [A, B]) == [A]
        assert not shared([B], [given]) and not shared([given], [B])


def test_many_ids_are_compared_at_once():
    """As many as a data set has, of which none is another's."""
    rng = np.random.default_rng(0)
    ids = [rng.bytes(16).hex() for _ in range(18000)]
    began = time.process_time()
    assert not shared(ids[:15000], [f"test_{image_id}.tiff" for image_id in ids[15000:]])
    assert time.process_time() - began < 10


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

"""TFRecord files that are written here by hand: framing, checksums and messages byte by byte."""

import gzip
import struct

import cv2
import numpy as np
import pandas as pd
import pytest

from vindr_det.classification.label_table import read_table
from vindr_det.data.tfrecord_file import read_records
from vindr_det.data.tfrecords import Layout, convert_tfrecords
from vindr_det.exceptions import InputError
from vindr_det.imaging.packed import PackedImages


def crc32c(data):
    """Bit by bit, by the reflected polynomial of Castagnoli."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def framed(data):
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(number):
    digits = []
    while number > 127:
        digits, number = [*digits, number & 127 | 128], number >> 7
    return bytes([*digits, number])


def field(number, data):
    """A field of bytes or of a message."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def feature(value):
    """tf.train.Feature: bytes_list is 1, int64_list is 3, of packed integers."""
    return field(1, field(1, value)) if isinstance(value, bytes) else field(3, field(1, varint(value)))


def example(**features):
    return field(1, b"".join(field(1, field(1, name.encode()) + field(2, feature(value)))
                             for name, value in features.items()))


def jpeg(value, side=32):
    picture = np.full((side, side, 3), value, np.uint8)
    picture[: side // 2] //= 2
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 94])[1].tobytes()


def record(patient, number=0, label=0, **features):
    value = 40 + 20 * patient + number
    return example(**{"image": jpeg(value), "image_idx": b"%08d_%03d.png" % (patient, number),
                      "label": label, **features})


def write(folder, name, records):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"".join(map(framed, records)))
    return folder


LAYOUT = Layout(size=32, folds=2)


@pytest.fixture
def records(tmp_path):
    """Two files of eight patients with two images each, and one with two test images."""
    rows = [record(patient, number, patient % 2) for patient in range(1, 9) for number in (0, 1)]
    folder = write(tmp_path / "records", "train_valid00-9.tfrec", rows[:9])
    write(folder, "train_valid01-7.tfrec", rows[9:])
    return write(folder, "test00-2.tfrec", [record(9), record(10, label=1)])


def test_the_checksum_is_the_published():
    assert crc32c(b"123456789") == 0xE3069283


def test_images_labels_folds_come_back(records, tmp_path):
    summary, damaged = convert_tfrecords(records, tmp_path / "out", LAYOUT)
    assert damaged == 0 and "train_val: 16 images of 8 patients, 8 abnormal\n" in summary
    table = pd.read_csv(tmp_path / "out/train_val.csv", dtype={"image": str})
    assert table["image"].tolist() == [f"{p:08d}_{n:03d}.png" for p in range(1, 9) for n in (0, 1)]
    assert (table["abnormal"] == table["patient"] % 2).all() and set(table["fold"]) == {0, 1}
    assert (table.groupby("patient")["fold"].nunique() == 1).all()
    test = pd.read_csv(tmp_path / "out/test.csv")
    assert test["patient"].tolist() == [9, 10] and test["fold"].tolist() == [-1, -1]
    assert pd.read_csv(tmp_path / "out/damaged.csv").empty
    packed = PackedImages(tmp_path / "out/packed.npy")
    assert len(packed) == 18
    for patient, number in ((1, 0), (8, 1), (10, 0)):
        image, value = packed[f"{patient:08d}_{number:03d}"].astype(int), 40 + 20 * patient + number
        assert abs(image[4:12] - value // 2).max() <= 3 and abs(image[20:28] - value).max() <= 3


def test_training_reads_the_table(records, tmp_path):
    convert_tfrecords(records, tmp_path / "out", LAYOUT)
    table = read_table(tmp_path / "out/train_val.csv", "abnormal")
    assert set(table.image_ids) < set(PackedImages(tmp_path / "out/packed.npy"))
    assert table.group_kind == "patient" and table.targets.sum() == 8


def starts(rows):
    return np.concatenate([[0], np.cumsum([len(framed(row)) for row in rows])]).tolist()


@pytest.mark.parametrize("place, lost, reason", [
    (3, 1, "its length does not have its checksum"), (9, 1, "its length does not have its checksum"),
    (60, 1, "its data do not have their checksum"), (-2, 1, "its data do not have their checksum"),
])
def test_a_changed_byte_costs_its_record_alone(tmp_path, place, lost, reason):
    rows = [record(patient) for patient in range(1, 7)]
    first, end = starts(rows)[2:4]
    data = bytearray(b"".join(map(framed, rows)))
    data[(first if place >= 0 else end) + place] ^= 1
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a-6.tfrec").write_bytes(data)
    _, damaged = convert_tfrecords(tmp_path / "in", tmp_path / "out", LAYOUT)
    assert damaged == lost
    assert pd.read_csv(tmp_path / "out/damaged.csv").to_numpy().tolist() == [["a-6.tfrec", 3, first, reason]]
    assert pd.read_csv(tmp_path / "out/train_val.csv")["patient"].tolist() == [1, 2, 4, 5, 6]


@pytest.mark.parametrize("cut, kept", [(0, 3), (1, 2), (5, 2), (200, 2), (-1, 1)])
def test_a_file_that_ends_early(tmp_path, cut, kept):
    """-1: within the second record."""
    rows = [record(patient) for patient in range(1, 4)]
    data = b"".join(map(framed, rows))
    (tmp_path / "a.tfrec").write_bytes(data[: starts(rows)[1] + 5] if cut < 0 else data[: len(data) - cut])
    read = list(read_records(tmp_path / "a.tfrec"))
    assert [raw.data for raw in read if not raw.problem] == rows[:kept]
    assert len(read) == min(3, kept + 1)


BAD = [
    (b"", "has no feature image"), (b"no message", "is no tf.train.Example"),
    (example(image=jpeg(9), image_idx=b"a.png"), "has no feature label with one value of type int; it has"),
    (record(7, label=2), "label is 2, expected 0 or 1"), (record(7, image_idx=b""), "image_idx is empty"),
    (record(7, image=b"text"), "cannot be decoded as PNG or JPEG"),
    (record(7, image=jpeg(99, 64)[:-20]), "a part of the picture is missing or damaged"),
    (record(1), "image 00000001_000.png was in a.tfrec, record 1 already"),
]


def test_records_without_an_image_are_named_and_left_out(tmp_path, caplog):
    folder = write(tmp_path / "in", "a.tfrec", [record(1), *(data for data, _ in BAD), record(2)])
    _, damaged = convert_tfrecords(folder, tmp_path / "out", LAYOUT)
    table = pd.read_csv(tmp_path / "out/damaged.csv")
    assert damaged == len(table) == len(BAD) and table["record"].tolist() == [*range(2, 2 + len(BAD))]
    for (_, expected), reason, offset in zip(BAD, table["reason"], table["offset"], strict=True):
        assert expected in reason
        assert f"a.tfrec, record {table['record'][table['offset'] == offset].iloc[0]} at byte {offset}: " \
            in caplog.text
    assert pd.read_csv(tmp_path / "out/train_val.csv")["patient"].tolist() == [1, 2]


def test_faulty_folders_are_refused(tmp_path, tool, records):
    with pytest.raises(InputError, match="holds no TFRecord file"):
        convert_tfrecords(tmp_path, tmp_path / "out")
    for content, reason in ((b"", "the files are empty"), (b"PK" * 99, "its length does not")):
        write(tmp_path / "none", "a.tfrec", [])
        (tmp_path / "none/a.tfrec").write_bytes(content)
        with pytest.raises(InputError, match=f"none of its records can be read; the first: {reason}"):
            convert_tfrecords(tmp_path / "none", tmp_path / "out")
    write(records, "train_valid02-5.tfrec", [record(9, 1)])
    with pytest.raises(InputError, match="leak: patient 9 is in train_val and in test"):
        convert_tfrecords(records, tmp_path / "out", LAYOUT)
    assert not (tmp_path / "out").exists()
    run = tool("convert_tfrecords.py", "--records", records, "--out", tmp_path / "out", "--size", 32,
               "--folds", 2, "--test", "none*", "--strict")
    assert run.returncode == 0 and "train_valid02-5.tfrec: holds 1 records, its name tells 5" in run.stderr


def test_names_that_tell_no_patient(tmp_path, caplog):
    rows = [record(number, image_idx=b"%d.jpg" % number) for number in range(4)]
    convert_tfrecords(write(tmp_path / "in", "a.tfrecord", rows), tmp_path / "out", LAYOUT)
    assert pd.read_csv(tmp_path / "out/train_val.csv").columns.tolist() == ["image", "abnormal", "fold"]
    assert "4 of 4 names, such as 0.jpg, tell no patient" in caplog.text


def test_an_odd_name_leaves_the_others_their_patients(records, tmp_path, caplog):
    write(records, "train_valid02-3.tfrec", [
        record(1, image_idx=b"odd.jpg"), record(1, image_idx=b"00000001_007"),
        record(2, image_idx=b"a\\00000002_007.png")])
    convert_tfrecords(records, tmp_path / "out", LAYOUT)
    table = pd.read_csv(tmp_path / "out/train_val.csv", dtype=str)
    patients = [*(str(patient) for patient in range(1, 9) for _ in (0, 1)), "image odd.jpg", "1", "2"]
    assert table["patient"].tolist() == patients
    assert (table.groupby("patient")["fold"].nunique() == 1).all()
    assert "1 of 21 names, such as odd.jpg, tell no patient" in caplog.text
    assert read_table(tmp_path / "out/train_val.csv", "abnormal").group_kind == "patient"
    write(records, "train_valid03-1.tfrec", [record(9, image_idx=b"00000009_003")])
    with pytest.raises(InputError, match="leak: patient 9 is in train_val and in test"):
        convert_tfrecords(records, tmp_path / "leak", LAYOUT)


@pytest.mark.parametrize("count", [1, 9])
def test_a_cut_record_costs_itself_alone(tmp_path, count):
    """Its length ends behind the file, or within the records behind it."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    large = record(1, image=cv2.imencode(".png", noise)[1].tobytes())
    rows = [record(patient) for patient in range(1, 1 + count)]
    content = framed(large)[:700] + b"".join(map(framed, rows))
    assert (len(content) < len(framed(large))) == (count == 1)
    (tmp_path / "a.tfrec").write_bytes(content)
    read = list(read_records(tmp_path / "a.tfrec"))
    assert [raw.data for raw in read if not raw.problem] == rows and len(read) == len(rows) + 1


def test_test_files_are_known_whatever_the_case(records, tmp_path):
    (records / "test00-2.tfrec").rename(records / "Test00-2.tfrec")
    convert_tfrecords(records, tmp_path / "out", LAYOUT)
    assert pd.read_csv(tmp_path / "out/test.csv")["patient"].tolist() == [9, 10]


def test_compressed_files_are_named(records, tmp_path):
    first, second = sorted(records.glob("train*"))
    first.write_bytes(gzip.compress(first.read_bytes()))
    _, damaged = convert_tfrecords(records, tmp_path / "out", LAYOUT)
    reason = "is compressed with gzip, expected it decompressed (gunzip)"
    assert damaged == 1 and pd.read_csv(tmp_path / "out/damaged.csv")["reason"].tolist() == [reason]
    second.write_bytes(gzip.compress(second.read_bytes()))
    with pytest.raises(InputError, match="train_valid00-9.tfrec: no record .* can be read, nor .* 2 files"):
        convert_tfrecords(records, tmp_path / "none", LAYOUT)
    assert not (tmp_path / "none").exists()

"""Sizes by the headers of files, without decoding them."""

import cv2
import numpy as np
import pytest

from vindr_det.exceptions import InputError
from vindr_det.imaging import headers
from vindr_det.imaging.headers import header_sizes, read_size
from vindr_det.parallel import Failure


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg"])
def test_pictures(tmp_path, name):
    cv2.imwrite(str(tmp_path / name), np.zeros((30, 20), np.uint8))
    assert read_size(tmp_path / name) == (30, 20)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG", b"\0" * 128 + b"DICM"])
def test_what_is_no_image(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(InputError, match="a.dcm: "):
        read_size(tmp_path / "a.dcm")


def test_real_files(data):
    """As pydicom decodes them; those without a size are failures, and no other exception ends a run."""
    import pydicom

    sizes = header_sizes(sorted((data / "dicom_cases/ok").iterdir()))
    for path, size in sizes.items():
        whole = pydicom.dcmread(path, force=True)
        assert size == (whole.Rows, whole.Columns), path.name
    broken = header_sizes(sorted((data / "dicom_cases/corrupt").iterdir()))
    assert any(isinstance(size, Failure) for size in broken.values())


def test_in_processes(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "_FEW", 1)
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((10 + number, 7), np.uint8))
    (tmp_path / "5.png").write_bytes(b"x")
    sizes = header_sizes(sorted(tmp_path.iterdir()), workers=2)
    assert [sizes[tmp_path / f"{number}.png"] for number in range(5)] == [(10 + n, 7) for n in range(5)]
    assert "5.png: cannot be decoded" in sizes[tmp_path / "5.png"].reason

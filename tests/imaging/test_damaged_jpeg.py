"""How many damaged JPEG files are read as if they were whole; docs/inputs.md states the share."""

import numpy as np

from vindr_det.exceptions import InputError
from vindr_det.imaging.read import read_image


def is_read(path):
    try:
        read_image(path)
    except InputError:
        return False
    return True


def test_about_a_quarter_of_damaged_streams_is_read_without_an_error(data, tmp_path):
    rng, read = np.random.default_rng(0), []
    for path in sorted((data / "vinbig/images_512").glob("*.jpg"))[:4]:
        for _ in range(25):
            stream = bytearray(path.read_bytes())
            start = int(rng.integers(700, len(stream) - 42))  # behind the headers, before the end marker
            stream[start:start + 40] = rng.bytes(40)
            (tmp_path / "x.jpg").write_bytes(stream)
            read.append(is_read(tmp_path / "x.jpg"))
    assert len(read) == 100 and 0.1 < np.mean(read) < 0.4

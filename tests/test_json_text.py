"""JSON by msgspec against Python's own: the same values to the bit, and the same refusals."""

import json
import random
import struct

import pytest

from vindr_det.exceptions import InputError
from vindr_det.files import read_json
from vindr_det.json_text import loads, loads_as

ODD = [b"", b" ", b"[]", b"-0", b"-0.0", b"1e400", b"1e-400", b"[NaN]", b"[-Infinity]", b"01", b"1.", b".5",
       b"+1", b"1E+05", b"[1,]", b'{"a": 1, "b": 2, "a": 3}', b"18446744073709551616", b"1" + b"0" * 400,
       b"1" + b"0" * 5000, b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\xff"', b'"a\x01"', b'"\\u0000"', b'"\\x"',
       b"\xef\xbb\xbf[1]", b"\xef\xbb\xbf\xef\xbb\xbf[1]", b"[1] x", b"[1]\n", b"\x0c[1]", b"true", b"nul",
       b"{'a': 1}", b"{1: 2}", b"[" * 5000, b"\x00", b"8.5e22", b"9007199254740993", b"5e-324", b"\xe9"]
DOCUMENT = ('[{"image_id": 1, "bbox": [12.5, 1e2, 3, -4.25], "score": 0.5, "t\\u00e9xt": "a\\n\u65e5"}, '
            '{"x": null, "y": [true, false, {}, 12345678901234567890123]}]').encode()


def same(a, b):
    """Whether values are equal, of the same types, with the same keys in the same order."""
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (struct.pack("d", a) == struct.pack("d", b) if isinstance(a, float)
                                   else a == b)


def outcome(read, data):
    """The value, or the error's text."""
    try:
        return read(data)
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__} {error}"


def numbers(rng):
    """Texts of numbers: of any bits, of many digits, large and small."""
    yield from (repr(struct.unpack("d", rng.randbytes(8))[0]) for _ in range(400))
    for _ in range(400):
        digits = "".join(rng.choices("0123456789", k=rng.randint(1, 40))).lstrip("0")
        yield f"0.{digits}0e{rng.randint(-345, 330)}"
        yield f"{digits or 0}.{rng.randint(0, 10**9)}"
        yield f"-{digits or 0}"


def mutations(rng):
    """The document with one to three bytes changed, added or left out."""
    for _ in range(3000):
        data = bytearray(DOCUMENT)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            data[at:at + rng.randint(0, 1)] = rng.choice(b'{}[]",:\\019.eE+-tn \n\x01\xc3\xa9\xff'.decode(
                "latin1")).encode("latin1") * rng.randint(0, 1)
        yield bytes(data)


def test_values_and_refusals_are_those_of_pythons_json():
    rng = random.Random(0)
    for data in [*ODD, DOCUMENT, *mutations(rng), *(text.encode() for text in numbers(rng))]:
        ours, theirs = outcome(loads, data), outcome(lambda data: json.loads(data.decode("utf-8-sig")), data)
        assert same(ours, theirs), data


@pytest.mark.parametrize("data", [b'["a", 1]', b"[1.0]", b"[true]", b"[1", b"[NaN]", b"[" * 5000, b"\xff"])
def test_another_type_is_a_value_error(data):
    assert loads_as(b"\xef\xbb\xbf[1, -2]", list[int]) == [1, -2]
    with pytest.raises(ValueError):
        loads_as(data, list[int])


@pytest.mark.parametrize(("data", "message"), [
    (b"", "not valid JSON .Expecting value: line 1 column 1 .char 0.."),
    (b'{"a": [1,}', "not valid JSON .Expecting value: line 1 column 10"),
    (b"[\xff]", "not valid JSON .'utf-8' codec can't decode byte 0xff in position 1"),
    (b"[" * 100000, "not valid JSON .maximum recursion depth exceeded"),
    (b"1" * 5000, "not valid JSON .Exceeds the limit"),
])
def test_a_file_that_is_no_json_is_refused_in_pythons_words(tmp_path, data, message):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match="a.json: " + message):
        read_json(tmp_path / "a.json")

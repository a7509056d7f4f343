"""Text that fits the element that it is written into, and the character set that it needs."""

import re

from pydicom import Dataset

#: Of texts in any language (PS3.3 C.12.1.1.2).
UTF_8 = "ISO_IR 192"
#: Value representation -> characters at most (PS3.5 6.2), of a name in each of its alphabets.
_LONGEST = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UT": 2**20, "PN": 64}
#: Control characters, halves of characters, separators of lines and paragraphs.
_CONTROL = re.compile(r"[{0}][{0} ]*".format(r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"))
#: Those that the character set does not concern are ASCII.
_TEXTS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")


def fitted(text: object, vr: str) -> str:
    """A text as an element can hold it: without control characters and backslashes, cut to its length.

    A backslash parts values, and line breaks are no part of names (PS3.5 6.1.3, 6.2). Anything else stays as
    it is, since a patient's number is compared letter by letter.

    Args:
        text: of anything.
        vr: value representation, such as ``LO``.

    Returns:
        The text with ``/`` for backslashes and a space for control characters in a row.
    """
    clean = _CONTROL.sub(" ", str(text).replace("\\", "/")).strip()
    parts = clean.split("=")[:3] if vr == "PN" else [clean]
    return "=".join(part[:_LONGEST[vr]].rstrip() for part in parts)


def declare_character_set(dataset: Dataset) -> None:
    """Name the character set of an object: UTF-8 where a text of it needs more than ASCII, else none."""
    texts = (str(element.value) for element in dataset.iterall() if element.VR in _TEXTS)
    if all(text.isascii() for text in texts):
        dataset.pop("SpecificCharacterSet", None)
    else:
        dataset.SpecificCharacterSet = UTF_8

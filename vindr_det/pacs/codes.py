"""Findings as codes: SNOMED CT, RadLex or DICOM's own where they have the finding, else private ones.

The table is ``codes.csv`` beside this module, with the source of each code. A finding that it lacks has a
private code made of its name, so that every label set can be reported.
"""

import csv
import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

from vindr_det.pacs.text import fitted

#: Designator of the private scheme (PS3.16 8.1: a name that begins with 99 is private).
PRIVATE = "99VINDRDET"
_TABLE = Path(__file__).with_name("codes.csv")


class FindingCode(NamedTuple):
    """A coded finding.

    Attributes:
        value: of the code.
        scheme: ``SCT``, ``RADLEX``, ``DCM`` or :data:`PRIVATE`.
        meaning: in words.
        source: where the code is from.
    """

    value: str
    scheme: str
    meaning: str
    source: str = ""


def code_of(finding: str) -> FindingCode:
    """The code of a finding, by its name in any case; ``_`` counts as a space."""
    known = _table().get(_key(finding))
    return known or FindingCode(_private_value(finding), PRIVATE, fitted(finding, "LO") or "unnamed", "none")


@cache
def _table() -> dict[str, FindingCode]:
    with _TABLE.open(encoding="utf-8", newline="") as file:
        return {_key(row["finding"]): FindingCode(row["code"], row["scheme"], row["meaning"], row["source"])
                for row in csv.DictReader(file)}


def _key(finding: str) -> str:
    return " ".join(finding.casefold().replace("_", " ").split())


def _private_value(finding: str) -> str:
    """At most the 16 characters of a CodeValue (SH); names are longer."""
    return f"F{hashlib.sha256(_key(finding).encode()).hexdigest()[:12].upper()}"

"""Which images a gate or a fusion was fitted on, and the refusal to apply it to them.

Other people's files name one image ``abc``, ``train/abc``, ``abc.png`` and ``ABC.dicom``: ids are compared
without folder, suffix and case, and one id may stand behind a prefix of the other (``train_abc``). A digest
of the ids stands beside their list, so that a list that was emptied does not pass for another data set.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vindr_det.errors import InputError
from vindr_det.files import IMAGE_SUFFIXES, read_json

#: Shorter ends of an id, such as a running number, are no id by themselves.
_SHORTEST = 8


def as_json(ids: Sequence[str]) -> dict[str, Any]:
    """What :func:`refuse_in_sample` needs: ``images`` and ``images_sha256``."""
    return {"images": list(ids), "images_sha256": _digest(ids)}


def read_images(path: str | Path, data: Any) -> list[str]:
    """The images in JSON that :func:`as_json` is part of.

    Raises:
        InputError: it holds none, or others than its digest says.
    """
    ids = data.get("images") if isinstance(data, dict) else None
    ids = [one for one in ids if isinstance(one, str)] if isinstance(ids, list) else []
    if not ids or data.get("images_sha256") != _digest(ids):
        raise InputError(f"{path}: lists {len(ids)} images that it was fitted on, expected those of the fit, "
                         "as its images_sha256 has them: what it has seen is not known (--allow-in-sample)")
    return ids


def refuse_in_sample(path: str | Path, ids: Sequence[str]) -> None:
    """The guard of every path that applies what was fitted.

    Args:
        path: JSON of gate.py fit or tune.py.
        ids: of the images that it is to be applied to.

    Raises:
        InputError: one of them was used to fit it, or its list of images is not the one that was written.
    """
    found = shared(read_images(path, read_json(path)), ids)
    if found:
        raise InputError(f"{path}: was fitted on {len(found)} of these {len(ids)} images, the first is "
                         f"{found[0]}; a score on them would flatter it (--allow-in-sample)")


def shared(fitted: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Those of ``ids`` that name an image of ``fitted``, as they stand in ``ids``."""
    known = set(map(key, fitted))
    ends = known.union(*map(_ends, known))
    return [one for one in ids if key(one) in ends or not known.isdisjoint(_ends(key(one)))]


def key(image_id: str) -> str:
    """An id without folder, suffix, blanks and case."""
    name = re.split(r"[/\\]", image_id.strip().casefold())[-1]
    while name.endswith(IMAGE_SUFFIXES):
        name = name[: name.rindex(".")]
    return name


def _ends(name: str) -> Iterator[str]:
    """What stands behind each separator."""
    return (name[at.end():] for at in re.finditer(r"[^0-9a-z]", name) if len(name) - at.end() >= _SHORTEST)


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(map(key, ids))).encode()).hexdigest()

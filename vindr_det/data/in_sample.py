"""Which images a gate or a fusion was fitted on, and the refusal to apply it to them.

Other people's files name one image ``abc``, ``train/abc``, ``abc.png`` and ``ABC.dicom``: ids are compared
without folder, suffix, quotes and case. Behind and before an id of eight characters or more may stand
anything (``train_abc``, ``abc-1024``), and a hash or a UID is the same image whatever stands around it in
both files. Running numbers are no ids. A digest of the ids stands beside their list, so that a list that was
emptied does not pass for another data set.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from vindr_det.exceptions import InputError
from vindr_det.files import IMAGE_SUFFIXES, OTHER_PICTURES, read_json

#: Shorter parts of a name are no id by themselves.
_SHORTEST = 8
_SUFFIXES = (*IMAGE_SUFFIXES, *OTHER_PICTURES, ".npy", ".npz", ".pgm", ".raw", ".ima", ".nii", ".gz")
_HEX = re.compile(r"[0-9a-f]{4,}(?:-[0-9a-f]{4,})*")
_UID = re.compile(r"\d+(?:\.\d+){3,}")
#: Hexadecimal digits of a hash at least, and those of the most common ones.
_HASH, _MD5, _SHA1 = 16, 32, 40


def as_json(ids: Sequence[str]) -> dict[str, Any]:
    """What :func:`refuse_in_sample` needs: ``images`` and ``images_sha256``."""
    return {"images": list(ids), "images_sha256": _digest(ids)}


def read_images(path: str | Path, data: Any) -> list[str]:
    """The images in JSON that :func:`as_json` is part of.

    Raises:
        InputError: it holds none, or others than its digest says.
    """
    ids = data.get("images") if isinstance(data, dict) else None
    ids = [image_id for image_id in ids if isinstance(image_id, str)] if isinstance(ids, list) else []
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
    known, names = set(map(key, fitted)), set(map(key, ids))
    cores, bare = set().union(*map(_cores, known)), set(map(_bare, known))
    same = {name for name in names
            if name in known or name in bare or _bare(name) in known or not cores.isdisjoint(_cores(name))}
    same |= {name for _, name in _standing_in(known, names)}
    same |= {name for name, _ in _standing_in(names, known)}
    return [image_id for image_id in ids if key(image_id) in same]


def key(image_id: str) -> str:
    """An id without folder, suffix, quotes, blanks and case."""
    name = re.split(r"[/\\]", image_id.strip().casefold())[-1]
    name = "".join(filter(str.isprintable, name)).strip(" \"'`")
    while name.endswith(_SUFFIXES):
        name = name[: name.rindex(".")]
    return name


def _bare(name: str) -> str:
    """Without a suffix that nobody knows; a UID's numbers are none."""
    return re.sub(r"\.[a-z][0-9a-z]{0,5}$", "", name)


def _cores(name: str) -> set[str]:
    """Hashes, which dashes may divide, and UIDs in a name."""
    cores = {uid for uid in _UID.findall(name) if len(uid) >= _HASH}
    for run in _HEX.findall(name):
        digits = run.replace("-", "")
        if _MD5 < len(digits) < _SHA1:  # a number stands next to it
            cores |= {digits[:_MD5], digits[-_MD5:]}
        cores.add(digits)
    return {core for core in cores if "." in core or _is_hash(core)}


def _is_hash(digits: str) -> bool:
    """Whether letters and digits mix as in no word and no number."""
    return (len(digits) >= _HASH and not digits.isdigit() and not digits.isalpha()
            and re.fullmatch(r"[0-9a-f]+", digits) is not None)


def _standing_in(parts: Collection[str], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each id of ``parts`` that stands in one of ``names``, with that."""
    tell = {part for part in parts if len(part) >= _SHORTEST
            and not (part.isdigit() and len(part.lstrip("0")) < _SHORTEST)}
    lengths = sorted(set(map(len, tell)))
    for name in names:
        for length in lengths:
            for at in range(len(name) - length + 1):
                part = name[at : at + length]
                if part in tell and (_is_hash(part) or _stands_apart(name, at, at + length)):
                    yield part, name


def _stands_apart(name: str, start: int, stop: int) -> bool:
    """Whether no number and no word goes on beyond; nor a UID, whose numbers have dots between them."""
    return not any(re.fullmatch(r"\d[\d.]|\.\d|[a-z]{2}", name[max(at - 1, 0) : at + 1])
                   for at in (start, stop) if 0 < at < len(name))


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(map(key, ids))).encode()).hexdigest()

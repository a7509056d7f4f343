"""Which images a gate or a fusion was fitted on, so that it is not scored on the same images.

A fit writes the ids of its images into its JSON (:func:`as_json`), with a digest so that a list that was
edited is noticed. Before the fit is applied, these ids are compared with those of the images at hand
(:func:`refuse_in_sample`). Files from different tools name the same image ``abc``, ``train/abc``, ``abc.png``
and ``ABC.dicom``, so ids are compared without folder, suffix, quotes and case. An id of eight characters or
more also matches inside a longer name (``train_abc...``, ``abc...-1024``), and a hash or a UID matches
whatever surrounds it in either name. Running numbers are not matched like that.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from vindr_det.exceptions import InputError
from vindr_det.files import IMAGE_SUFFIXES, OTHER_PICTURES, read_json

#: Shorter ids are not searched for inside other names.
_SHORTEST = 8
_SUFFIXES = (*IMAGE_SUFFIXES, *OTHER_PICTURES, ".npy", ".npz", ".pgm", ".raw", ".ima", ".nii", ".gz")
_HEX = re.compile(r"[0-9a-f]{4,}(?:-[0-9a-f]{4,})*")
_UID = re.compile(r"\d+(?:\.\d+){3,}")
#: Hexadecimal digits: those of a hash at least, of MD5 and of SHA-1.
_HASH, _MD5, _SHA1 = 16, 32, 40


def as_json(ids: Sequence[str]) -> dict[str, Any]:
    """The keys that :func:`refuse_in_sample` reads: ``images`` and ``images_sha256``."""
    return {"images": list(ids), "images_sha256": _digest(ids)}


def read_images(path: str | Path, data: Any) -> list[str]:
    """The ids in JSON that :func:`as_json` is part of.

    Raises:
        InputError: there are none, or they do not match their digest.
    """
    ids = data.get("images") if isinstance(data, dict) else None
    ids = [image_id for image_id in ids if isinstance(image_id, str)] if isinstance(ids, list) else []
    if not ids or data.get("images_sha256") != _digest(ids):
        raise InputError(f"{path}: lists {len(ids)} images that it was fitted on, expected those of the fit, "
                         "by its images_sha256: the images of the fit are not known (--allow-in-sample)")
    return ids


def refuse_in_sample(path: str | Path, ids: Sequence[str]) -> None:
    """Refuse to apply a gate or a fusion to images that it was fitted on.

    Args:
        path: JSON of vindr-det gate fit or tune.
        ids: of the images that it is to be applied to.

    Raises:
        InputError: an image was used for the fit, or the list of its images was changed.
    """
    refuse_images_of(read_json(path), path, ids)


def refuse_images_of(data: Any, path: str | Path, ids: Sequence[str]) -> None:
    """:func:`refuse_in_sample`, from what the file holds.

    Args:
        data: its JSON.
        path: named in errors.
        ids: of the images that it is to be applied to.

    Raises:
        InputError: as of :func:`refuse_in_sample`.
    """
    both = shared(read_images(path, data), ids)
    if both:
        raise InputError(f"{path}: was fitted on {len(both)} of these {len(ids)} images, the first is "
                         f"{both[0]}; a score on them would be too good (--allow-in-sample)")


def shared(fitted: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Those of ``ids`` that name an image of ``fitted``."""
    known, names = set(map(key, fitted)), set(map(key, ids))
    cores, bare = set().union(*map(_cores, known)), set(map(_bare, known))
    same = {name for name in names
            if name in known or name in bare or _bare(name) in known or not cores.isdisjoint(_cores(name))}
    same |= {name for _, name in _ids_inside(known, names)}
    same |= {name for name, _ in _ids_inside(names, known)}
    return [image_id for image_id in ids if key(image_id) in same]


def key(image_id: str) -> str:
    """An id without folder, suffix, quotes, blanks and case."""
    name = re.split(r"[/\\]", image_id.strip().casefold())[-1]
    name = "".join(filter(str.isprintable, name)).strip(" \"'`")
    while name.endswith(_SUFFIXES):
        name = name[: name.rindex(".")]
    return name


def _bare(name: str) -> str:
    """Without an unknown suffix; the numbers of a UID are none."""
    return re.sub(r"\.[a-z][0-9a-z]{0,5}$", "", name)


def _cores(name: str) -> set[str]:
    """The hashes, which may have dashes, and the UIDs in a name."""
    cores = {uid for uid in _UID.findall(name) if len(uid) >= _HASH}
    for run in _HEX.findall(name):
        digits = run.replace("-", "")
        if _MD5 < len(digits) < _SHA1:  # digits of a number beside it
            cores |= {digits[:_MD5], digits[-_MD5:]}
        cores.add(digits)
    return {core for core in cores if "." in core or _is_hash(core)}


def _is_hash(digits: str) -> bool:
    """Whether letters and digits are mixed, as in no word and in no number."""
    return (len(digits) >= _HASH and not digits.isdigit() and not digits.isalpha()
            and re.fullmatch(r"[0-9a-f]+", digits) is not None)


def _ids_inside(parts: Collection[str], names: Collection[str]) -> Iterator[tuple[str, str]]:
    """(id, name) for each id of ``parts`` that is a part of one of ``names``."""
    searched = {part for part in parts if len(part) >= _SHORTEST
            and not (part.isdigit() and len(part.lstrip("0")) < _SHORTEST)}
    lengths = sorted(set(map(len, searched)))
    for name in names:
        for length in lengths:
            for at in range(len(name) - length + 1):
                part = name[at : at + length]
                if part in searched and (_is_hash(part) or _is_separate(name, at, at + length)):
                    yield part, name


def _is_separate(name: str, start: int, stop: int) -> bool:
    """Whether no number, word or UID (numbers with dots) continues beyond either end."""
    return not any(re.fullmatch(r"\d[\d.]|\.\d|[a-z]{2}", name[max(at - 1, 0) : at + 1])
                   for at in (start, stop) if 0 < at < len(name))


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(map(key, ids))).encode()).hexdigest()

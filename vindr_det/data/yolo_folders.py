"""The images of YOLO's folders, each with its text file.

An image without a text file is normal, as for other tools, but only beside others that have one: where no
text file is found, or one lies in another place, nobody knows what the image shows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vindr_det.exceptions import InputError
from vindr_det.files import IMAGE_SUFFIXES, image_id_of, read_text

YAML, CLASSES = "data.yaml", ("classes.txt", "obj.names")
PARTS = ("train", "val", "test")
_TEXT = ".txt"


@dataclass(frozen=True)
class Labels:
    """The images of YOLO's folders.

    Attributes:
        root: the folder of data.yaml.
        source: the file that names the classes.
        names: of the classes.
        label_set: name of the set that data.yaml states; empty where it states none.
        files: image id -> its file and text file; that may be missing.
        parts: image id -> train, val or test; empty where there are no parts.
    """

    root: Path
    source: Path
    names: tuple[str, ...]
    label_set: str
    files: Mapping[str, tuple[Path, Path]]
    parts: Mapping[str, str]


def find_labels(path: Path, images: str | Path | None) -> Labels:
    """What data.yaml names, or a folder without it holds.

    Args:
        path: data.yaml, or the folder with data.yaml or a list of classes.
        images: folder of the images where it is not images/.

    Raises:
        InputError: no names of classes, no images, or images without text files.
    """
    given = path if path.suffix in (".yaml", ".yml") else path / YAML
    if given.is_file():
        return _of_yaml(given)
    root = path
    if not root.is_dir():
        raise InputError(f"{path}: no such folder, expected {YAML} or a folder with {YAML} or {CLASSES[0]}")
    lists = [place / name for place in (root, root / "labels") for name in CLASSES]
    lists = [file for file in lists if file.is_file()]
    if not lists:
        raise InputError(f"{root}: has no {YAML} and no {CLASSES[0]}, expected the names of the classes")
    names = [line.strip() for line in read_text(lists[0]).splitlines() if line.strip()]
    folder = Path(images) if images is not None else root / "images"
    files = _pairs(folder, folder, root / "labels" if (root / "labels").is_dir() else root)
    parts = {name: file.relative_to(folder).parts[0] for name, (file, _) in files.items()}
    whole = all(part in PARTS for part in parts.values())
    for part in dict.fromkeys(parts.values() if whole else ()):
        _require_texts(folder / part, {name: pair for name, pair in files.items() if parts[name] == part})
    return Labels(root, lists[0], _checked_names(lists[0], names), "", files, parts if whole else {})


def _of_yaml(path: Path) -> Labels:
    data, names = _yaml_with_names(path)
    root = path.parent / str(data.get("path") or "")
    root = root if root.is_dir() else path.parent  # a path of another machine
    files: dict[str, tuple[Path, Path]] = {}
    parts: dict[str, str] = {}
    for part in PARTS:
        for folder in _folders(part, data.get(part), root, path):
            pairs = _pairs(folder, *_roots(folder))
            both = next((name for name in pairs if name in files), None)
            if both is not None:
                raise InputError(f"{path}: image {both} is in {part} and in {parts[both]}")
            files |= pairs
            parts |= dict.fromkeys(pairs, part)
    if not files:
        raise InputError(f"{path}: names no folder of images as train, val or test")
    return Labels(path.parent, path, names, str(data.get("label_set") or ""), files,
                  parts if len(set(parts.values())) > 1 else {})


def _yaml_with_names(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """data.yaml, and the names of its classes by their numbers."""
    try:
        data = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict) or not isinstance(data.get("names"), list | dict):
        raise InputError(f"{path}: has no names, expected those of the classes, and folders train, val, test")
    names = data["names"]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"{path}: names has the keys {list(names)}, expected 0 to {len(names) - 1}")
        names = [names[number] for number in range(len(names))]
    if data.get("nc") not in (None, len(names)):
        raise InputError(f"{path}: nc is {data['nc']!r}, but names has {len(names)} classes; expected the "
                         "same")
    return data, _checked_names(path, names)


def _folders(part: str, value: Any, root: Path, path: Path) -> list[Path]:
    """The folders of a part; paths such as ``../train/images`` are below the folder of data.yaml too."""
    folders = []
    names = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: {part} is {value!r}, expected a folder of images, or a list of such")
    for name in names:
        places = [root / name, path.parent / name.removeprefix("../")]
        folder = next((place for place in places if place.is_dir()), None)
        if folder is None:
            raise InputError(f"{path}: {places[0]} is no folder of images")
        folders.append(folder)
    return folders


def _roots(folder: Path) -> tuple[Path, Path]:
    """A folder of images, and the folder of its text files: labels in the place of the last images."""
    parts = list(folder.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return folder, Path(*parts)


def _pairs(folder: Path, root: Path, texts: Path) -> dict[str, tuple[Path, Path]]:
    """Image id -> its file and its text file."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    pairs: dict[str, tuple[Path, Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        name = image_id_of(file)
        if name in pairs:
            raise InputError(f"{file}: image {name} is there twice, the other is {pairs[name][0]}")
        pairs[name] = file, (texts / file.relative_to(root)).with_name(f"{name}{_TEXT}")
    if not pairs:
        raise InputError(f"{folder}: holds no image, expected some ending in {IMAGE_SUFFIXES}")
    _refuse_other_texts(folder, texts, pairs)
    _require_texts(folder, pairs)
    return pairs


def _refuse_other_texts(folder: Path, texts: Path, pairs: Mapping[str, tuple[Path, Path]]) -> None:
    """Refuse text files without an image, and those of images whose text file is expected elsewhere."""
    known = {text for _, text in pairs.values()}
    missing = {name: text for name, (_, text) in pairs.items() if not text.is_file()}
    # Text files may lie beside the images, or beside the folder where this part's are expected.
    near = dict.fromkeys(path for place in (texts, folder, texts.parent) for path in _text_files(
        place, whole=place != texts.parent or place.name == "labels"))
    for path in near:
        if path not in known and path.stem.strip() in missing:
            raise InputError(f"{path}: is not where the labels of an image in {folder} are read, expected "
                             f"{missing[path.stem.strip()]}")
        if path not in known and texts in path.parents:
            raise InputError(f"{path}: has no image in {folder}")


def _text_files(folder: Path, whole: bool) -> list[Path]:
    """Those in a folder, or in the whole of it with its subfolders."""
    found_in = folder.rglob("*") if whole else folder.glob("*")
    return sorted(path for path in found_in if path.suffix.lower() == _TEXT and path.name not in CLASSES)


def _require_texts(folder: Path, pairs: Mapping[str, tuple[Path, Path]]) -> None:
    """Refuse images none of which has a text file: they would all count as normal."""
    if not any(text.is_file() for _, text in pairs.values()):
        first = next(text for _, text in pairs.values())
        raise InputError(f"{folder}: none of its {len(pairs)} images has a text file, the first would be "
                         f"{first}; expected one per image with boxes, or empty ones of normal images")


def _checked_names(path: Path, names: Sequence[Any]) -> tuple[str, ...]:
    others = [name for name in names if isinstance(name, bool) or not isinstance(name, str | int | float)]
    if others:
        raise InputError(f"{path}: class name {others[0]!r}, expected a text; quotes make one of yes and no")
    texts = [str(name).strip() for name in names]
    alike = Counter(" ".join(name.casefold().split()) for name in texts)
    repeated = [name for name, count in alike.items() if count > 1]
    if repeated or "" in texts or not texts:
        raise InputError(f"{path}: class names {texts}, expected each filled in and there once")
    return tuple(texts)

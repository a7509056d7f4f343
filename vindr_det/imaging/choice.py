"""Some of a folder's images: those of a data set, or of a list of ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import Input, printable
from vindr_det.imaging.sizes import Shapes
from vindr_det.tables import read_csv

_COLUMN = "image_id"


@dataclass(frozen=True)
class Choice:
    """The images that a run takes of a folder.

    Attributes:
        source: the data set or the file that names them, for errors.
        wanted: file name below the folder, or image id -> the id that the image gets; empty for its own.
        sizes: image id -> (height, width) of the originals, where the source has them.
    """

    source: str
    wanted: Mapping[str, str]
    sizes: Shapes = field(default_factory=dict)

    @property
    def recursive(self) -> bool:
        """Whether a name leads into a subfolder."""
        return any("/" in name for name in self.wanted)

    def of(self, inputs: Sequence[Input], images: str | Path) -> list[Input]:
        """The wanted inputs, in the order of the source, each once.

        Raises:
            InputError: one of them is not in the folder.
        """
        known = {source.image_id: source for source in inputs} | {source.file: source for source in inputs}
        missing = [name for name in self.wanted if printable(name) not in known]
        if missing:
            raise InputError(f"{self.source}: image {printable(missing[0])} is not in {images} "
                             f"({len(missing)} of {len(self.wanted)} are not)")
        pairs = ((known[printable(name)], image_id) for name, image_id in self.wanted.items())
        return list({source.path: replace(source, image_id=image_id or source.image_id)
                     for source, image_id in pairs}.values())


def choice_of_ids(path: str | Path) -> Choice:
    """The ids, or file names, of a list: one per line, or the column ``image_id`` of a CSV.

    Raises:
        InputError: the file is not there, or holds no id.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"{path}: cannot be read as a list of image ids ({reason})") from error
    ids = [line for line in lines if line]
    if ids and any(mark in ids[0] for mark in ",;\t"):
        ids = read_csv(path, [_COLUMN], dtype={_COLUMN: str})[_COLUMN].tolist()
    ids = [image_id for image_id in (name.strip('"') for name in ids) if image_id != _COLUMN]
    if not ids:
        raise InputError(f"{path}: holds no image id, expected one per line, or a CSV with image_id")
    return Choice(str(path), dict.fromkeys(ids, ""))

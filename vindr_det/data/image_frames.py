"""The images of a release: which of them are there, under which names, and their original sizes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.imaging.headers import header_sizes
from vindr_det.imaging.inputs import Input, list_inputs
from vindr_det.imaging.original_sizes import RASTER_SUFFIXES
from vindr_det.imaging.prepared_folder import failed_images
from vindr_det.imaging.sizes import read_sizes
from vindr_det.parallel import Failure
from vindr_det.tables import read_csv, refuse_first

_MANY = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFrames:
    """Original sizes and files of images.

    Attributes:
        sizes: index image id, columns ``height`` and ``width``: the frame in which boxes count.
        names: image id -> file below the folder of images; empty where no folder is given.
        absent: ids of images that could not be prepared or whose header cannot be read; they are left out.
    """

    sizes: pd.DataFrame
    names: Mapping[str, str] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()


def image_frames(
    wanted: Sequence[str], images: str | Path | None, meta: str | Path | Sequence[str | Path] | None,
    workers: int | None = None, side: int | None = None,
) -> ImageFrames:
    """The frames of the images of a release.

    Args:
        wanted: their ids.
        images: the folder in which each must exist, also in its subfolders; None does not look.
        meta: tables of the original sizes; None takes the release's own size or the files' headers.
        workers: processes that read headers; None takes one per core.
        side: height and width of all images of the release, where it has a single size.

    Raises:
        InputError: an image is missing or has no size, or no header can be read.
    """
    tables = [] if meta is None else [meta] if isinstance(meta, str | Path) else list(meta)
    inputs = {} if images is None else {source.image_id: source for source in list_inputs(images, True)}
    failed = failed_images(*(Path(table).parent for table in tables))
    failed |= {name for name, source in inputs.items() if source.problem}
    if images is not None:
        _require_files(images, [name for name in wanted if name not in inputs and name not in failed])
    if tables:
        sizes = _sizes_of_tables(tables)
    elif side is not None:
        sizes = pd.DataFrame(side, index=pd.Index(list(wanted)), columns=["height", "width"])
    else:
        sources = [inputs[name] for name in wanted if name in inputs and name not in failed]
        sizes = _sizes_of_headers(images, sources, workers)
        failed |= {source.image_id for source in sources}.difference(sizes.index)
    absent = frozenset(failed.intersection(wanted).difference(sizes.index if images is None else ()))
    _log_absent(sorted(absent))
    unsized = [name for name in wanted if name not in sizes.index and name not in absent]
    if unsized:
        raise InputError(f"{', '.join(map(str, tables)) or images}: {len(unsized)} images have no size, the "
                         f"first is {unsized[0]}")
    return ImageFrames(sizes, {name: source.file for name, source in inputs.items()}, absent)


def frames_of_files(files: Mapping[str, Path], workers: int | None = None) -> ImageFrames:
    """The frames of images whose files have the originals' size, by their headers.

    Args:
        files: image id -> its file.
        workers: processes that read headers; None takes one per core.

    Raises:
        InputError: no header can be read.
    """
    sizes = _read_headers(files, workers)
    absent = frozenset(set(files).difference(sizes.index))
    _log_absent(sorted(absent))
    return ImageFrames(sizes, absent=absent)


def _require_files(images: str | Path, missing: Sequence[str]) -> None:
    if missing:
        raise InputError(f"{images}: {len(missing)} annotated images are missing, the first is {missing[0]}")


def _log_absent(absent: Sequence[str]) -> None:
    if absent:
        log.warning("%d annotated images could not be read or prepared and are left out: %s%s", len(absent),
                    ", ".join(absent[:_MANY]), " ..." if len(absent) > _MANY else "")


def _sizes_of_tables(tables: Sequence[str | Path]) -> pd.DataFrame:
    sizes = pd.concat([read_sizes(table) for table in tables])
    repeated = sizes.index[sizes.index.duplicated()]
    if len(repeated):
        raise InputError(f"{tables[-1]}: image_id {repeated[0]} is in another --meta too, expected it once")
    return sizes


def _sizes_of_headers(
    images: str | Path | None, sources: Sequence[Input], workers: int | None
) -> pd.DataFrame:
    if images is None:
        raise InputError("the images' original sizes are not known, expected --meta (image_id,dim0,dim1) or "
                         "--images with the original files")
    resized = next((source for source in sources if source.path.suffix.lower() in RASTER_SUFFIXES), None)
    if resized is not None:
        raise InputError(f"{resized.path}: may be smaller than its original, expected --meta with the "
                         "original sizes (image_id,dim0,dim1)")
    return _read_headers({source.image_id: source.path for source in sources}, workers)


def _read_headers(files: Mapping[str, Path], workers: int | None) -> pd.DataFrame:
    """Heights and widths of the files that can be read; the others are logged."""
    read = header_sizes(list(files.values()), workers)
    failures = [result.reason for result in read.values() if isinstance(result, Failure)]
    for reason in failures[:_MANY]:
        log.warning("%s", reason)
    if failures and len(failures) == len(read):
        raise InputError(f"none of {len(read)} images has a header that can be read; {failures[0]}")
    sizes = {name: size for name, path in files.items() if not isinstance(size := read[path], Failure)}
    return pd.DataFrame.from_dict(sizes, orient="index", columns=["height", "width"])


def read_patients(path: str | Path, image_ids: Sequence[str]) -> NDArray:
    """The patient of each image, in order, from a table of image_id and patient_id.

    Raises:
        InputError: an image is repeated or has no patient.
    """
    table = read_csv(path, ["image_id", "patient_id"])
    refuse_first(path, table["image_id"].duplicated(), lambda i:
                 f"image_id {table['image_id'].iloc[i]} is repeated")
    patients = table.set_index("image_id")["patient_id"].reindex(image_ids)
    missing = patients.index[patients.isna()]
    if len(missing):
        raise InputError(f"{path}: {len(missing)} images have no patient, the first is {missing[0]}")
    return patients.to_numpy()

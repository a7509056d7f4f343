"""NIH ChestX-ray14's tables to labels, boxes and lists of images.

Wang et al., "ChestX-ray8", CVPR 2017: 112,120 frontal images of 30,805 patients, 14 labels mined
from reports, 984 boxes on 880 images. All images are 1024 x 1024 PNGs named
``<patient>_<follow-up>.png``. The lists are those of Tang et al., npj Digital Medicine 2020
("cadlab": 0 normal, 1 abnormal) and of the reproductions of CheXNet ("chexnet": 14 labels).
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.folds import check_disjoint_patients
from vindr_det.data.release import Annotations, Conversion, Release, Table
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of, read_text
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH, NIH_LABELS
from vindr_det.structures.records import Record
from vindr_det.tables import as_numbers, line_of, read_csv, refuse_first, require_columns, without_repeats

NO_FINDING = str(NIH.no_finding)
ABNORMAL = "abnormal"
#: Images with each label in Data_Entry_2017_v2020.csv; the table of another version has others.
PUBLISHED_COUNTS: Mapping[str, int] = {
    "Atelectasis": 11559, "Cardiomegaly": 2776, "Effusion": 13317, "Infiltration": 19894,
    "Mass": 5782, "Nodule": 6331, "Pneumonia": 1431, "Pneumothorax": 5302, "Consolidation": 4667,
    "Edema": 2303, "Emphysema": 2516, "Fibrosis": 1686, "Pleural_Thickening": 3385, "Hernia": 227,
    NO_FINDING: 60361,
}
#: Side of the distributed PNGs, whose pixels BBox_List counts in.
IMAGE_SIDE = 1024

#: In lower case, since tables have "mass" and "No finding" too.
NAMES: Mapping[str, str] = {name.casefold(): name for name in NIH.classes} | {
    "infiltrate": "Infiltration", "pleural thickening": "Pleural_Thickening"}
_ATTENDING = "test_attending"
# Which file of a folder belongs to which part; the two test lists of cadlab hold the same images.
_PARTS = {
    "cadlab": {"train": "*train*.txt*", "val": "*val*.txt*", "test": "*test*consensus*.txt*",
               _ATTENDING: "*test*attending*.txt*"},
    "chexnet": {"train": "*train*.txt*", "val": "*val*.txt*", "test": "*test*.txt*"},
}
LISTS = tuple(_PARTS)
_COLUMNS = {"cadlab": (ABNORMAL,), "chexnet": NIH_LABELS}


def read(
    options: Conversion, labels: str | Path, annotations: str | Path | None = None,
    lists_dir: str | Path | None = None,
) -> Annotations:
    """NIH ChestX-ray14's labels, boxes and published lists, as conversion takes them.

    Args:
        options: ``lists`` names the lists, ``cadlab`` or ``chexnet``.
        labels: Data_Entry_2017.csv or its version of 2020.
        annotations: BBox_List_2017.csv.
        lists_dir: the folder of the lists.

    Raises:
        InputError: a table is faulty, or a patient is in two lists.
    """
    if (options.lists is None) != (lists_dir is None):
        raise InputError("--lists and --lists-dir go together: which lists, and their folder")
    frame = read_labels(labels)
    records = [] if annotations is None else read_boxes(annotations)
    lists = {} if options.lists is None or lists_dir is None else read_lists(lists_dir, options.lists)
    for name, table in lists.items():
        _require_known(f"{options.lists} {name}", table["image"], frame)
    _require_known(str(annotations), [record.file_name for record in records], frame)
    strata = frame[list(NIH.classes)].to_numpy(np.int64)
    return Annotations(frame, strata, frame["patient"].to_numpy(), records, boxes_complete=False, lists=lists)


def _require_known(what: str, images: Iterable[str], frame: pd.DataFrame) -> None:
    missing = pd.Series(images, dtype=object)
    missing = missing[~missing.isin(frame["image"])]
    if len(missing):
        raise InputError(f"{what}: {len(missing)} images are not in the label table, the first is "
                         f"{missing.iloc[0]}")


def summary(
    annotations: Annotations, fold_of: NDArray[np.int64], options: Conversion, out: Path
) -> list[str]:
    """Counts of images, boxes and lists, compared with the published ones, in lines."""
    return [_labels_summary(annotations.labels, options.folds),
            *_boxes_summary(annotations.records, annotations.labels),
            *_lists_summary(annotations.lists, annotations.labels, options.lists)]


def _labels_summary(frame: pd.DataFrame, folds: int) -> str:
    counts = frame[list(NIH.classes)].sum()
    line = f"{len(frame)} images of {frame['patient'].nunique()} patients, {folds} folds by patient"
    differ = [f"{name} {counts[name]} (published: {number})"
              for name, number in PUBLISHED_COUNTS.items() if counts[name] != number]
    if not differ:
        return f"{line}; all 15 label counts are those of the published table of 2020"
    return f"{line}; another version of the table, or a part of it, differs in {', '.join(differ)}"


def _boxes_summary(records: Sequence[Record], frame: pd.DataFrame) -> list[str]:
    if not records:
        return []
    rows = frame.set_index("image")[list(NIH_LABELS)]
    pairs = [(record.file_name, NIH_LABELS[label]) for record in records
             for label in record.truth.labels.tolist()]
    without = sum(rows.loc[image, label] == 0 for image, label in pairs)
    return [f"{len(pairs)} boxes on {len(records)} images, {without} of a label that their image "
            "does not have in the table"]


def _lists_summary(
    lists: Mapping[str, pd.DataFrame], frame: pd.DataFrame, kind: str | None
) -> Iterator[str]:
    for name, table in lists.items():
        line = f"{kind} {name}: {len(table)} images of {table['patient'].nunique()} patients"
        if ABNORMAL in table:
            yield f"{line}, {table[ABNORMAL].sum()} abnormal"
        else:
            yield f"{line}, {disagreements(table, frame)} with other labels than the table's"


#: NIH's published tables, by which they are known.
LABEL_TABLE = Table("NIH's Data_Entry_2017 table", ("Image Index", "Finding Labels", "Patient ID"))
BOX_TABLE = Table("NIH's BBox_List_2017.csv", ("Image Index", "Finding Label"))
RELEASE = Release("nih", NIH, read, summary, {"labels": (LABEL_TABLE,), "annotations": (BOX_TABLE,)})


def read_labels(path: str | Path) -> pd.DataFrame:
    """Data_Entry_2017.csv or its version of 2020.

    Returns:
        One row per image: ``image`` (file name), ``patient`` (int), ``view`` (PA or AP), and a 0/1
        column for each of :data:`vindr_det.structures.label_sets.NIH_LABELS` and for "No Finding".

    Raises:
        InputError: names the row with an unknown label, a repeated image, a label beside "No
            Finding", or a patient who is not the file name's.
    """
    # Two of the header's names hold a comma, so they are four columns; none of them is needed.
    frame = read_csv(path, ["Image Index", "Finding Labels", "Patient ID", "View Position"])
    names = frame["Image Index"]
    refuse_first(path, names.duplicated(), lambda i: f"image {names.iloc[i]} is repeated")
    patients = as_numbers(frame["Patient ID"])
    owners = patient_of(names)
    refuse_first(path, patients != owners, lambda i: f"image {names.iloc[i]} has Patient ID "
            f"{frame['Patient ID'].iloc[i]}, expected the number that its name begins with")
    matrix = label_matrix_of_texts(path, frame["Finding Labels"])
    labels = pd.DataFrame(matrix, columns=list(NIH.classes))
    facts = pd.DataFrame({"image": names, "patient": owners, "view": frame["View Position"]})
    return pd.concat([facts, labels], axis=1)


def patient_of(images: pd.Series) -> pd.Series:
    """The patient of each image, from names such as ``00000013_008.png``; -1 where there is none."""
    numbers = images.str.extract(r"^(\d{8})_\d+\.", expand=False)
    return pd.to_numeric(numbers, errors="coerce").fillna(-1).astype(np.int64)


def label_matrix_of_texts(path: str | Path, texts: pd.Series) -> NDArray[np.int8]:
    """(N, 15) zeros and ones of texts such as "Mass|Nodule", in the order of NIH's classes.

    Raises:
        InputError: names the row with an unknown label, or a label beside "No Finding".
    """
    columns = {name: column for column, name in enumerate(NIH.classes)}
    codes, kinds = pd.factorize(texts)
    rows = np.zeros((len(kinds), len(columns)), np.int8)  # each distinct text once: 836 of 112,120
    for row, text in enumerate(kinds):
        labels = [_label_of(name) for name in text.split("|")]
        unknown = [label for label in labels if label not in columns]
        if unknown or (NO_FINDING in labels and len(labels) > 1):
            first = line_of(path, int(np.flatnonzero(codes == row)[0]))
            raise InputError(f"{path}, row {first}: labels {text!r}, expected some of "
                             f"{'|'.join(NIH_LABELS)}, or {NO_FINDING} alone")
        rows[row, [columns[label] for label in labels]] = 1
    return rows[codes]


def _label_of(text: str) -> str:
    return NAMES.get(text.strip().casefold(), text)


def read_boxes(path: str | Path) -> list[Record]:
    """BBox_List_2017.csv as records of 1024 x 1024 images; class ids are NIH_LABELS' positions.

    Raises:
        InputError: names the row with an unknown label or a box outside the image.
    """
    images, given, corners = read_box_table(path)
    names = given.map(_label_of)
    refuse_first(path, ~names.isin(NIH_LABELS), lambda i: f"label {names.iloc[i]!r}, expected one of "
            f"{', '.join(NIH_LABELS)}")
    boxes = box_ops.xywh_to_xyxy(corners.where(np.isfinite(corners)).to_numpy(float))
    inside = box_ops.clip(boxes, IMAGE_SIDE, IMAGE_SIDE)
    # The published boxes exceed the image by up to a pixel.
    bad = ~((boxes >= -1) & (boxes <= IMAGE_SIDE + 1)).all(axis=1) | ~(box_ops.area(inside) > 0)
    refuse_first(path, bad, lambda i: f"box {corners.iloc[i].tolist()} (x, y, w, h) is none of an image "
            f"of {IMAGE_SIDE} x {IMAGE_SIDE}")
    table = pd.DataFrame(inside)
    table = without_repeats(path, table.assign(image=images, label=names.map(NIH_LABELS.index)))
    records = []
    for image, rows in table.groupby("image"):
        truth = Predictions(rows[[0, 1, 2, 3]].to_numpy(), np.ones(len(rows)), rows["label"].to_numpy(), NIH)
        records.append(Record(image_id_of(str(image)), str(image), IMAGE_SIDE, IMAGE_SIDE, truth))
    return records


def read_box_table(path: str | Path) -> tuple[pd.Series, pd.Series, pd.DataFrame]:
    """BBox_List_2017.csv: image, label and box (x, y, width, height; NaN for no number) of each row.

    Raises:
        InputError: it is not this table.
    """
    frame = read_csv(path, ["Image Index", "Finding Label"])
    # The header is "Bbox [x,y,w,h],,,": its brackets fall apart into four names, then three empty.
    frame = frame.rename(columns={"Bbox [x": "x", "h]": "h"})
    require_columns(path, frame, ["x", "y", "w", "h"])
    return frame["Image Index"], frame["Finding Label"], frame[["x", "y", "w", "h"]].apply(as_numbers)


def read_list(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """A list of ``name 0 1 ...`` lines (also gzipped): ``image``, ``patient`` and 0/1 ``columns``.

    Raises:
        InputError: the number of columns is another, a value is not 0 or 1, or an image is repeated.
    """
    try:
        frame = pd.read_csv(io.StringIO(read_text(path).rstrip()), sep=r"\s+", header=None, dtype=str,
                            skip_blank_lines=False, keep_default_na=False)
    except ValueError as error:
        raise InputError(f"{path}: not a list of names and numbers ({str(error).strip()})") from error
    if frame.shape[1] != len(columns) + 1:
        raise InputError(f"{path}: {frame.shape[1] - 1} numbers per line, expected {len(columns)}: "
                         f"{', '.join(columns)}")
    images, values = frame[0], frame.drop(columns=0).set_axis(list(columns), axis=1)
    refuse_first(path, ~values.isin(["0", "1"]).all(axis=1), lambda i: f"numbers "
            f"{' '.join(map(str, values.iloc[i]))}, expected 0 or 1 each", header=False)
    refuse_first(path, images.duplicated(), lambda i: f"image {images.iloc[i]} is repeated", header=False)
    owners = patient_of(images)
    refuse_first(path, owners < 0, lambda i: f"image {images.iloc[i]}, expected a name such as "
            "00000013_008.png", header=False)
    return pd.concat([pd.DataFrame({"image": images, "patient": owners}), values.astype(int)], axis=1)


def read_lists(folder: str | Path, kind: str) -> dict[str, pd.DataFrame]:
    """The parts of a published split: train, val, test, and for cadlab also test_attending.

    Raises:
        InputError: a part is missing or there twice, a patient is in two of train, val, test, or the two
            test lists of cadlab hold different images.
    """
    parts = {}
    for part, pattern in _PARTS[kind].items():
        files = sorted(p for p in Path(folder).glob(pattern) if _is_of(p, part, kind))
        if len(files) != 1:
            raise InputError(f"{folder}: {len(files)} files match {pattern}, expected one with the "
                             f"{part} part of the {kind} lists")
        parts[part] = read_list(files[0], _COLUMNS[kind])
    check_disjoint_patients({part: parts[part]["patient"] for part in ("train", "val", "test")}, "patient")
    if _ATTENDING in parts:
        _check_attending(folder, parts)
    return parts


def _check_attending(folder: str | Path, parts: Mapping[str, pd.DataFrame]) -> None:
    """The attending radiologist read the images of the test part, and no others."""
    others = ("train", "val", _ATTENDING)
    check_disjoint_patients({part: parts[part]["patient"] for part in others}, "patient")
    images, known = (set(parts[part]["image"]) for part in (_ATTENDING, "test"))
    for name, other, some in ((_ATTENDING, "the test part", images - known),
                              ("test", f"the {_ATTENDING} part", known - images)):
        if some:
            raise InputError(f"{folder}: {name}: image {min(some)} is not in {other}, expected the same "
                             f"images in both ({len(some)} are not)")


def _is_of(path: Path, part: str, kind: str) -> bool:
    """Whether a file belongs to a part; a folder may hold the lists of both kinds, which their names tell."""
    others = [other for other in LISTS if other != kind]
    only = not any(other in path.name for other in others)
    return only and not (part == "val" and "train" in path.name)


def disagreements(given: pd.DataFrame, labels: pd.DataFrame) -> int:
    """Images of a 14-label list whose labels differ from the label table's."""
    both = given.merge(labels, on="image", suffixes=("", "_table"))
    differ = [both[name] != both[f"{name}_table"] for name in NIH_LABELS]
    return int(np.any(differ, axis=0).sum())

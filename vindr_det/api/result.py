"""What a model says about an image."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, expanded, require_path, require_writable, write_text
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.imaging.inputs import Input, require_apart
from vindr_det.imaging.status import FAILED, FLAGGED, Status
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import VINBIGDATA
from vindr_det.submission.image_report import box_rows, image_report, report_text

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

_EDGES = ("x_min", "y_min", "x_max", "y_max")
_PICTURES = (".png", ".jpg", ".jpeg")
#: Findings that a repr names.
_NAMED = 3
#: Of a picture that shows something, in pixels.
_LEAST_SIDE = 64


def require_score(score: float) -> float:
    """Check a threshold.

    Raises:
        InputError: it is not from 0 to 1.
    """
    if isinstance(score, bool) or not isinstance(score, int | float | np.number) or not 0 <= score <= 1:
        raise InputError(f"score {score!r}: expected a number from 0 to 1")
    return float(score)


def require_whole(name: str, value: int | None, least: int) -> None:
    """Check an option; None passes.

    Args:
        name: of the option.
        value: to check.
        least: the smallest that it may be.

    Raises:
        InputError: it is no whole number, or smaller.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise InputError(f"{name} {value!r}: expected a whole number of {least} or more")


def require_flag(name: str, value: object) -> None:
    """Check an option that is on or off: of a text, even "no" would be on.

    Raises:
        InputError: it is not True or False.
    """
    if not isinstance(value, bool | np.bool_):
        raise InputError(f"{name} {value!r}: expected True or False")


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """An image's boxes and probabilities, or why there are none.

    Nothing is known about an image that failed, and a classifier has no boxes: asking for them is an
    :class:`vindr_det.InputError`, never an empty array, which would read as a normal image.

    Attributes:
        row: of the status table.
        source: the file or array; pixels of a file are not kept.
        detections: all boxes after fusion and gate, and "no finding", original pixels; None of a classifier.
        columns: probabilities of the classifier by name; empty without one.
        score: boxes with a lower score are left out.
    """

    row: Status
    source: Input
    detections: Predictions | None
    columns: Mapping[str, float]
    score: float

    @property
    def image_id(self) -> str:
        """The file's stem, or the array's name."""
        return self.row.image_id

    @property
    def status(self) -> str:
        """``ok``, ``flagged`` (read, but look at it before you trust it) or ``failed``."""
        return self.row.status

    @property
    def reason(self) -> str:
        """Why the image is flagged or failed; empty where it is ok."""
        return self.row.reason

    @property
    def uids(self) -> Mapping[str, str]:
        """Study, series and SOP instance UID; empty where the file has none."""
        return self.row.uids

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the original in pixels; None where it is not known."""
        height, width = self.row.height, self.row.width
        return None if height is None or width is None else (height, width)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(N, 4) xyxy in the original's pixels, best score first."""
        return self._shown.boxes

    @property
    def scores(self) -> NDArray[np.float64]:
        """(N,) of the boxes, 0 to 1."""
        return self._shown.scores

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) class ids of the boxes."""
        return self._shown.labels

    @property
    def names(self) -> list[str]:
        """(N,) findings of the boxes."""
        shown = self._shown
        return [shown.label_set.findings[label] for label in shown.labels.tolist()]

    @property
    def probabilities(self) -> dict[str, float]:
        """The classifier's, such as ``p_abnormal``; empty without a classifier."""
        self._require_read()
        return dict(self.columns)

    @property
    def no_finding(self) -> float | None:
        """The score of "no finding" after the gate; None where it is no class, or the gate left it out."""
        every = self._every
        scores = every.scores[every.labels == every.label_set.no_finding_id]
        return float(scores[0]) if len(scores) else None

    @property
    def image(self) -> NDArray[np.uint8]:
        """(H, W) gray, larger is brighter; a file is read again."""
        from vindr_det.imaging.read import read_array, read_image

        self._require_read()
        pixels = self.source.pixels
        return (read_image(self.source.path) if pixels is None else read_array(pixels)).pixels

    def at(self, score: float) -> "Result":
        """The same result with another threshold of the boxes' scores."""
        return replace(self, score=require_score(score))

    def plot(self, longest: int = 900) -> "Image":
        """A picture with the boxes (PIL, RGB).

        Args:
            longest: its longest side in pixels.

        Raises:
            InputError: the image failed, its file is no longer there, or a side below 64 pixels.
        """
        from PIL import Image

        from vindr_det.imaging.drawing import draw, none_note

        require_whole("longest", longest, _LEAST_SIDE)
        notes = [f"{name} {value:.2f}" for name, value in self.probabilities.items()][:_NAMED]
        notes += [f"flagged: {self.reason}"] * (self.status == FLAGGED)
        boxes = Predictions()
        if self.detections is not None:
            boxes, none = self._shown, none_note(self.detections, self.score)
            notes = [none] * bool(none) + notes
        return Image.fromarray(draw(self.image, boxes, frame=self.size, longest=longest,
                                    title=self.image_id, notes=notes))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values; of an image that failed ``boxes`` and ``probabilities`` are None."""
        return image_report(self.row, self._reported, self.columns)

    def to_dataframe(self) -> "pd.DataFrame":
        """A row per box, and one without a class for an image without boxes, whose status says why.

        The columns are those of the table of a run, and the classifier's probabilities.
        """
        return self._table()

    def to_coco(self) -> list[dict[str, Any]]:
        """Entries of COCO's results format, boxes in xywh.

        Raises:
            InputError: the image failed, which the format cannot say, or the model has no boxes.
        """
        shown = self._shown
        name = {} if shown.label_set == VINBIGDATA else {"label_set": shown.label_set.name}
        rows = zip(shown.labels.tolist(), box_ops.xyxy_to_xywh(shown.boxes).tolist(), shown.scores.tolist(),
                   strict=True)
        return [{"image_id": self.image_id, **name, "category_id": label, "bbox": box, "score": score}
                for label, box, score in rows]

    def to_supervision(self) -> Any:
        """The boxes as ``supervision.Detections``, names in ``data["class_name"]``.

        Raises:
            InputError: as of ``boxes``, or supervision is not installed.
        """
        shown = self._shown
        try:
            supervision = import_module("supervision")
        except ImportError as error:
            raise InputError("the package supervision is not installed; "
                             "pip install supervision") from error
        return supervision.Detections(xyxy=shown.boxes, confidence=shown.scores, class_id=shown.labels,
                                      data={"class_name": np.array(self.names, dtype=str)})

    def save(self, path: str | Path) -> Path:
        """Write the picture (.png, .jpg), all values (.json) or the table (.csv); returns the path.

        Raises:
            InputError: another suffix, the path is the image's own or cannot be written, or a picture of an
                image that failed.
        """
        require_path(path, "a file to write")
        if not isinstance(path, str | Path):
            raise InputError(f"{path!r}: expected a path of a file to write")
        path = Path(expanded(path))
        kind = path.suffix.lower()
        if kind not in (*_PICTURES, ".json", ".csv"):
            raise InputError(f"{path}: expected a name that ends in {', '.join(_PICTURES)}, .json or .csv")
        require_writable(path)
        if self.source.pixels is None:
            require_apart([self.source.path], path)
        if kind in _PICTURES:
            picture = self.plot()
            with atomic_path(path) as temporary:
                picture.save(temporary)
        else:
            write_text(path, self._report() if kind == ".json" else
                       self._table(short=True).to_csv(index=False, lineterminator="\n"))
        return path

    def __len__(self) -> int:
        """The number of boxes; as of ``boxes`` an error where there can be none."""
        return len(self._shown)

    def __bool__(self) -> bool:
        """True: an image without boxes is a result as well."""
        return True

    def __repr__(self) -> str:
        if self.status == FAILED:
            return f"<Result {self.image_id}: failed: {self.reason}>"
        parts = [] if self.detections is None else [self._boxes_text()]
        parts += [f"{name} {value:.2f}" for name, value in self.columns.items()][:_NAMED]
        parts += [f"flagged: {self.reason}"] * (self.status == FLAGGED)
        return f"<Result {self.image_id}: {'; '.join(parts)}>"

    def _boxes_text(self) -> str:
        best = [f"{name} {score:.2f}" for name, score in zip(self.names, self.scores, strict=True)][:_NAMED]
        best += ["..."] * (len(self.names) > _NAMED)
        count = len(self.names)
        return f"{count} box{'' if count == 1 else 'es'} from score {self.score:g}" + (
            f" ({', '.join(best)})" if best else "")

    def _repr_png_(self) -> bytes | None:
        """The picture in a notebook; an image that failed has its text alone."""
        if self.status == FAILED:
            return None
        buffer = io.BytesIO()
        self.plot().save(buffer, format="PNG")
        return buffer.getvalue()

    def _table(self, short: bool = False) -> "pd.DataFrame":
        """With the columns of the table of a run; ``short`` as of :func:`box_rows`."""
        import pandas as pd

        from vindr_det.submission.outputs import COLUMNS

        label_set = "" if self.detections is None else self.detections.label_set.name
        head = {"image_id": self.image_id, **self.uids, "label_set": label_set, "status": self.status,
                "reason": self.reason, **self.columns}
        rows = box_rows(self._shown, short) if self.detections is not None else []
        frame = pd.DataFrame([head | row for row in rows or [{}]], columns=[*COLUMNS, *self.columns])
        text = ["class_name", *UIDS]
        return frame.fillna(dict.fromkeys(text, "")).astype(
            {"class_id": "Int64", "score": "float64", **dict.fromkeys(_EDGES, "float64")})

    def _report(self) -> str:
        """As the JSON file of a run, of this image alone."""
        reported = self._reported
        return report_text({} if reported is None else {self.image_id: reported}, [self.row],
                           {self.image_id: self.columns})

    @property
    def _reported(self) -> Predictions | None:
        """The boxes that are shown, and "no finding"."""
        every = self.detections
        if every is None:
            return None
        return every[(every.scores >= self.score) | (every.labels == every.label_set.no_finding_id)]

    @property
    def _every(self) -> Predictions:
        self._require_read()
        if self.detections is None:
            raise InputError(f"{self.row.file}: was classified; a classifier has no boxes, expected a "
                             "detector")
        return self.detections

    @property
    def _shown(self) -> Predictions:
        boxes = self._every.findings()
        return boxes[boxes.scores >= self.score].by_score()

    def _require_read(self) -> None:
        if self.status == FAILED:
            raise InputError(f"{self.row.file}: {self.reason}; nothing is known about this image")

"""CVAT's XML for images, version 1.1, out and in, with the labels of the project.

https://docs.cvat.ai/docs/manual/advanced/formats/format-cvat/ has the form.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from vindr_det.annotation_tools.tasks import (
    Annotated,
    Annotation,
    Drawn,
    Task,
    is_rotated,
    number,
    say_ignored,
)
from vindr_det.exceptions import InputError
from vindr_det.files import read_text, write_json, write_text
from vindr_det.imaging.palette import code_of
from vindr_det.structures.label_sets import LabelSet

PICTURES = "images"
#: The tag of a picture that somebody looked at.
REVIEWED = "reviewed"
_CORNERS = ("xtl", "ytl", "xbr", "ybr")


def write(folder: Path, tasks: Sequence[Task], label_set: LabelSet) -> None:
    """Write ``annotations.xml``, to be uploaded as "CVAT 1.1", and ``labels.json``, the project's labels.

    Args:
        folder: an existing one.
        tasks: the images.
        label_set: of their boxes.
    """
    images = "\n".join(_image(place, task) for place, task in enumerate(tasks))
    write_text(folder / "annotations.xml", '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n'
               f"  <version>1.1</version>\n{images}\n</annotations>\n")
    score = {"name": "score", "mutable": False, "input_type": "text", "values": [""], "default_value": ""}
    labels = [{"name": name, "color": code_of(label), "type": "rectangle", "attributes": [score]}
              for label, name in enumerate(label_set.findings)]
    write_json(folder / "labels.json", [*labels, {"name": REVIEWED, "type": "tag", "attributes": []}])


def _image(place: int, task: Task) -> str:
    head = (f'  <image id="{place}" name={quoteattr(task.picture)} width="{task.shown_width}" '
            f'height="{task.shown_height}">')
    boxes = [_box(name, score, box) for name, score, box in task.rows()]
    return "\n".join([head, *boxes, "  </image>"])


def _box(name: str, score: float, box: Sequence[float]) -> str:
    corners = " ".join(f'{key}="{value:.6f}"' for key, value in zip(_CORNERS, box, strict=True))
    return (f'    <box label={quoteattr(name)} source="auto" occluded="0" {corners} z_order="0">'
            f'<attribute name="score">{score:.4f}</attribute></box>')


def read(path: str | Path, tasks: Sequence[Task]) -> Annotated:
    """The boxes of an ``annotations.xml`` that CVAT exported; a tag tells which images were looked at.

    Args:
        path: the file.
        tasks: that were given to CVAT; its form tells all that is needed.

    Raises:
        InputError: not such a file, an image twice, or a shape that is no upright box.
    """
    annotated: dict[str, Annotation] = {}
    ignored: Counter[str] = Counter()
    for image in _root(path).iter("image"):
        picture = PurePosixPath(image.get("name", "")).name
        if picture in annotated:
            raise InputError(f"{path}: picture {picture} is there twice, expected each once")
        tags = [shape.get("label", "") for shape in image if shape.tag == "tag"]
        annotated[picture] = Annotation([_drawn(path, picture, shape) for shape in image
                                         if shape.tag != "tag"], REVIEWED in tags)
        ignored.update("tag" for tag in tags if tag != REVIEWED)
    say_ignored(path, ignored)
    return annotated


def _root(path: str | Path) -> ElementTree.Element:
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{path}: has a DOCTYPE or an ENTITY, expected CVAT's XML for images 1.1")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InputError(f"{path}: is no XML ({error}), expected CVAT's for images "
                         "1.1") from error
    if root.tag != "annotations" or root.find("track") is not None:
        kind = f"<{root.tag}>{' with tracks' * (root.tag == 'annotations')}"
        raise InputError(f"{path}: holds {kind}, expected CVAT's XML for images 1.1")
    return root


def _drawn(path: str | Path, picture: str, shape: ElementTree.Element) -> Drawn:
    if shape.tag != "box" or is_rotated(path, picture, shape.get("rotation")):
        raise InputError(f"{path}: picture {picture} has a <{shape.tag}>"
                         f"{' that is rotated' * (shape.tag == 'box')}, expected upright boxes")
    return Drawn(shape.get("label", ""), [number(path, picture, shape.get(key)) for key in _CORNERS])

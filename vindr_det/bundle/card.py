"""The model card of a bundle, as Markdown with a hub's header."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from vindr_det.bundle.files import MANIFEST
from vindr_det.exceptions import InputError

_LIMITS = (
    "Not a medical device: not cleared or approved by any authority, and not to be used for diagnosis, "
    "triage or treatment.",
    "Frontal chest X-rays of adults, unless the data below say otherwise. Scores on other hospitals' images, "
    "devices and populations are not known, and are usually lower.",
    "Findings that are not in the list are not detected. An image without boxes is not a normal image.",
    "Scores of boxes are not probabilities of disease.",
)

#: A license that YAML reads as it is.
_PLAIN = re.compile(r"[a-z][a-z0-9.-]*")
#: Metrics that the file has and the card leaves out.
_DETAILS = re.compile(r"(localization|tide|ties|chance)/|froc/(?!sensitivity@)|.*/bias$")


@dataclass(frozen=True)
class CardFacts:
    """What a model card says that the files do not know.

    Attributes:
        title: of the card; the label set's name if empty.
        data: which images the models were trained and measured on, with their terms.
        license: of the weights, as a hub names it, such as ``cc-by-nc-4.0``.
        notice: is said at every use: a warning when the bundle is loaded, and in the status of each image.
    """

    title: str = ""
    data: str = ""
    license: str = ""
    notice: str = ""


def require_facts(facts: CardFacts) -> CardFacts:
    """Check what is to be a single line of the card.

    Raises:
        InputError: a title, license or notice of several lines.
    """
    for name in ("title", "license", "notice"):
        if len((value := getattr(facts, name)).splitlines()) > 1:
            raise InputError(f"--{name} {value!r}: expected a single line")
    return facts


def text(
    files: Mapping[str, bytes], configs: Sequence[Any], measured: Mapping[str, Any], facts: CardFacts
) -> str:
    """The card.

    Args:
        files: name -> bytes of the bundle, the manifest among them.
        configs: of the detectors.
        measured: path of a metrics.json -> its content.
        facts: what the files do not know.
    """
    manifest = json.loads(files[MANIFEST])
    labels = manifest["label_set"]
    title = facts.title or f"Detector of the findings of {labels['name']} on chest X-rays"
    notice = [f"> **{facts.notice}**"] if facts.notice else []
    parts = [
        _header(facts), f"# {title}", *notice,
        f"Made by vindr_det {manifest['vindr_det']}; weights in {manifest['precision']} precision.",
        "## Models",
        _table(list(_models(manifest, configs, files)), ["file", "what", "trained", "image", "weights"]),
        _after_the_models(manifest),
        "## Findings", ", ".join(labels["findings"]) + ".",
        "## Measured", *_measured(manifest, measured),
        "## Data", *_data(manifest, configs, facts),
        "## Limits", "\n".join(f"- {limit}" for limit in _LIMITS),
        "## Use", "```\nvindr-det predict --bundle BUNDLE --images DIR --out S.csv\n```",
        "`BUNDLE` is this folder, or `hf://user/repo`. `vindr-det bundle --help` tells how a bundle is "
        "copied.",
        "## Files",
        f"`{MANIFEST}` has the hashes of all files but itself and this card; each is compared when the "
        "bundle is loaded.",
        _table([[f"`{name}`", len(data), f"`{hashlib.sha256(data).hexdigest()}`"]
                for name, data in files.items()], ["file", "bytes", "SHA-256"]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(facts: CardFacts) -> str:
    name = facts.license if _PLAIN.fullmatch(facts.license) else json.dumps(facts.license)  # JSON is YAML
    license_line = f"license: {name}\n" if facts.license else ""
    return (f"---\nlibrary_name: vindr_det\npipeline_tag: object-detection\n{license_line}"
            "tags:\n- chest-x-ray\n- radiology\n---")


def _table(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _models(
    manifest: Mapping[str, Any], configs: Sequence[Any], files: Mapping[str, bytes]
) -> Iterator[list[str]]:
    for entry, cfg in zip(manifest["detectors"], configs, strict=True):
        backbone = cfg.VINDR.TIMM_MODEL or f"ResNet-{cfg.MODEL.RESNETS.DEPTH}"
        yield [entry["weights"], f"{cfg.MODEL.META_ARCHITECTURE}, {backbone}, {entry['engine']} engine",
               f"{entry['iteration']} iterations of {cfg.SOLVER.IMS_PER_BATCH} images",
               f"{cfg.VINDR.IMAGE_SIZE} px, tested at {cfg.INPUT.MIN_SIZE_TEST}",
               _megabytes(files[entry["weights"]])]
    for entry in (manifest["classifier"] or {"models": []})["models"]:
        yield [entry["weights"], f"classifier of {', '.join(entry['classes'][:3])}"
               + (" ..." if len(entry["classes"]) > 3 else ""), "", f"{entry['size']} px",
               _megabytes(files[entry["weights"]])]


def _megabytes(data: bytes) -> str:
    return f"{len(data) / 1e6:.2f} MB"


def _after_the_models(manifest: Mapping[str, Any]) -> str:
    gate = f"Gate: `{manifest['gate']}`." if manifest["gate"] else "No gate."
    fusion = manifest["fusion"]
    options = "" if fusion is None else " Fusion: " + ", ".join(
        f"{key} {value}" for key, value in fusion.items()) + "."
    return gate + options


def _measured(manifest: Mapping[str, Any], measured: Mapping[str, Any]) -> Iterator[str]:
    for path, values in measured.items():
        yield f"`vindr-det evaluate`, `{path.replace(chr(92), '/').rsplit('/', 1)[-1]}`:"
        yield _table(list(_figures(values)), ["metric", "value", "95 % interval"])
    validated = [[entry["weights"], key, f"{value:.3f}"] for entry in manifest["detectors"]
                 for key, value in entry["metrics"].items() if key.endswith(("mAP40", "coco/AP50"))]
    if validated:
        yield "At the end of the training, on its validation images, which chose the checkpoint:"
        yield _table(validated, ["file", "metric", "value"])
    if not measured:
        yield "Not measured on images that nothing was chosen on."


def _figures(values: Mapping[str, Any]) -> Iterator[list[str]]:
    for key, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            continue
        if _DETAILS.match(key):
            continue
        bounds = values.get(f"{key}/ci95")
        yield [key, f"{value:.3f}", f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""]


def _data(manifest: Mapping[str, Any], configs: Sequence[Any], facts: CardFacts) -> Iterator[str]:
    yield facts.data or "Not described by the maker of this bundle (`--data`)."
    names = [f"`{entry['weights']}`: trained on {', '.join(cfg.DATASETS.TRAIN) or 'nothing named'}, "
             f"validated on {', '.join(cfg.VINDR.VALIDATION) or 'nothing'}"
             for entry, cfg in zip(manifest["detectors"], configs, strict=True)]
    yield "\n".join(f"- {name}" for name in names)

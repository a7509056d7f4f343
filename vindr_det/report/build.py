"""A request to ``vindr-det report``, and the page that answers it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from vindr_det.evaluation.visualize import known_sizes
from vindr_det.exceptions import InputError
from vindr_det.files import require_writable, write_text
from vindr_det.imaging.image_run import ImageResult, ImageRun
from vindr_det.imaging.inputs import require_apart
from vindr_det.imaging.read import read_image
from vindr_det.report import cases as browser
from vindr_det.report import detections, pictures
from vindr_det.report.blocks import Section
from vindr_det.report.cases import Case
from vindr_det.report.choice import Choice, choose
from vindr_det.report.classifier import classifier_section
from vindr_det.report.dataset import data_section
from vindr_det.report.page import Page
from vindr_det.report.provenance import provenance_section
from vindr_det.report.request import ReportRequest, completed
from vindr_det.report.settings import gate_section, ledger_section
from vindr_det.report.sources import Sources, read_sources
from vindr_det.report.training import training_section

#: Bytes of a page.
MAX_BYTES = 25_000_000
#: A picture of fewer bytes shows nothing.
_LEAST_PICTURE = 8_000


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        bytes: of the page.
        sections: titles.
        cases: images of the case browser.
        among: images that they were chosen from.
    """

    bytes: int
    sections: Sequence[str]
    cases: int
    among: int


def write_report(request: ReportRequest) -> Written:
    """Write the page.

    Raises:
        InputError: a faulty file, nothing to report, or more cases than fit the page.
    """
    request = completed(request)
    require_writable(request.out)
    run = pictures.find_images(request)
    _require_out_apart(request, run)
    sources = read_sources(request)
    sections = _sections(sources)
    shown, choice = _cases(sources, run)
    files = [run_path for _, run_path, _ in shown]
    page = Page(request.title or _title(request), [*sections, provenance_section(request, files)])
    text = _with_cases(page, sources, shown, choice)
    write_text(request.out, text)
    return Written(len(text.encode("utf-8")), [section.title for section in page.sections], len(shown), choice.among)


def _title(request: ReportRequest) -> str:
    source = request.run or request.predictions or request.training or request.classifier or request.annotations
    return f"Report: {Path(source or request.parts[0]).name}"


def _require_out_apart(request: ReportRequest, run: ImageRun | None) -> None:
    """Refuse to write over an input."""
    files = [getattr(request, name) for name in ("predictions", "annotations", "meta", "metrics", "gate", "patients")]
    given = {Path(file).resolve() for file in [*files, *request.ledger] if file}
    if Path(request.out).resolve() in given:
        raise InputError(f"--out {request.out}: is an input, expected another name")
    if run is not None:
        require_apart(run.sources, request.out)


def _sections(sources: Sources) -> list[Section]:
    request, values = sources.request, detections.measured(sources)
    classifier_curves = training_section(request.classifier, "classifier-training", "Training of the classifier") \
        if request.classifier and request.classifier != request.training else None
    every = [detections.summary_section(sources, values), detections.classes_section(sources, values),
             detections.curves_section(sources), detections.errors_section(values),
             detections.confusion_section(sources), detections.readers_section(sources),
             classifier_section(request.classifier), gate_section(request.gate),
             training_section(request.training), classifier_curves, data_section(sources),
             ledger_section(request.ledger)]
    return [section for section in every if section is not None]


Shown = tuple[Case, Path, ImageResult]


def _cases(sources: Sources, run: ImageRun | None) -> tuple[list[Shown], Choice]:
    """The cases whose images can be read, with their files and pixels, and how they were chosen."""
    if run is None or not sources.request.cases or (sources.records is None and sources.predictions is None):
        return [], Choice((), 0, {})
    paths = {source.image_id: source.path for source in run.inputs}
    choice = choose(sources, paths.keys())
    if not choice.ids:
        raise InputError(f"{sources.request.images}: holds none of the annotated or predicted images, expected "
                         "files that are named by their ids")
    sizes = _sizes(sources, run)
    results = tqdm(pictures.read_chosen(run, choice.ids, sources.request), total=len(choice.ids), desc="cases",
                   unit="image", disable=None, delay=2)
    shown = [(_case(sources, result, sizes), paths[result.status.image_id], result) for result in results
             if result.image is not None]
    return shown, choice


def _sizes(sources: Sources, run: ImageRun) -> dict[str, tuple[int, int]]:
    """Image id -> (height, width) of the original: of the run's tables, the truth or the prediction's status."""
    predicted = {name: (row.height, row.width) for name, row in sources.statuses.items() if row.height and row.width}
    return {**predicted, **known_sizes(run.sizes, sources.request.annotations)}


def _case(sources: Sources, result: ImageResult, sizes: dict[str, tuple[int, int]]) -> Case:
    status, image = result.status, result.image
    assert image is not None
    height, width = sizes.get(status.image_id) or (image.height, image.width)
    return browser.case_of(sources, status.image_id, height, width)


def _with_cases(page: Page, sources: Sources, shown: Sequence[Shown], choice: Choice) -> str:
    """The page's HTML with as much of each picture as fits."""
    if not shown:
        return page.html()
    request = sources.request
    cases, maps = _with_maps(request, [case for case, _, _ in shown])
    unread = len(choice.ids) - len(shown)
    notes = [choice.note] + [f"{unread} images could not be read and are not shown."] * bool(unread)
    page = replace(page, browser_notes=notes,
                   browser=browser.browser_json(cases, sources.label_set, request.score, request.side))
    used = len(page.html([*[""] * len(cases), *maps]).encode("utf-8"))
    each = (MAX_BYTES - used) // len(cases)
    if each < _LEAST_PICTURE:
        raise InputError(f"--cases {request.cases}: {len(cases)} pictures do not fit a page of "
                         f"{MAX_BYTES // 10**6} MB, expected fewer")
    budget = pictures.Budget(each)
    images = [budget.encode(result.image.pixels) for _, _, result in shown if result.image is not None]
    return page.html([*images, *maps])


def _with_maps(request: ReportRequest, cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
    """The cases with the numbers of their maps among the pictures, and these maps."""
    found_maps = pictures.find_maps(request.maps, [case.image_id for case in cases])
    encoded: list[str] = []
    numbered = []
    for case in cases:
        numbers = {}
        for label, path in found_maps.get(case.image_id, {}).items():
            numbers[label] = len(cases) + len(encoded)
            encoded.append(pictures.encode_map(read_image(path, max_pixels=request.max_pixels).pixels))
        numbered.append(replace(case, maps=numbers))
    return numbered, encoded

"""A request to ``vindr-det report``, and the page that answers it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from vindr_det.evaluation.visualize import known_sizes
from vindr_det.exceptions import InputError
from vindr_det.files import require_writable, write_text
from vindr_det.imaging.image_run import ImageRun
from vindr_det.imaging.inputs import require_apart
from vindr_det.imaging.read import read_image
from vindr_det.report import detections, pictures
from vindr_det.report.blocks import Section
from vindr_det.report.cases import Case, browser_json, case_of
from vindr_det.report.choice import Choice, choose
from vindr_det.report.dataset import data_section
from vindr_det.report.page import Page
from vindr_det.report.provenance import provenance_section
from vindr_det.report.request import FILES, ReportRequest, completed
from vindr_det.report.settings import gate_section, ledger_section
from vindr_det.report.sources import Sources, read_sources
from vindr_det.report.training import training_section

#: Bytes of a page.
MAX_BYTES = 25_000_000
#: A picture of fewer bytes shows nothing.
_LEAST_PICTURE = 8_000
#: Until the image is read; as many digits as most have.
_UNKNOWN_SIZE = (9999, 9999)


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        bytes: of the page.
        sections: titles.
        cases: images of the case browser.
        among: images that they were chosen from.
        absent: annotated or predicted images without a file.
    """

    bytes: int
    sections: Sequence[str]
    cases: int
    among: int
    absent: int = 0


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
    choice, paths = _chosen(sources, run)
    sections = [*_sections(sources),
                provenance_section(_used(sources), [paths[name] for name in choice.ids])]
    page = Page(request.title or _title(request), sections)
    text = _with_cases(page, sources, choice, run) if run is not None and choice.ids else page.html()
    write_text(request.out, text)
    return Written(
        len(text.encode("utf-8")), [section.title for section in sections], len(choice.ids), choice.among,
        len(choice.absent),
    )


def _used(sources: Sources) -> ReportRequest:
    """The request without files that were not needed: no one must believe that a number is of them."""
    request, is_measured = sources.request, sources.matched is not None
    return replace(request, metrics=None if is_measured else request.metrics,
                   patients=request.patients if is_measured and request.bootstrap else None)


def _title(request: ReportRequest) -> str:
    source = (
        request.run or request.predictions or request.training or request.classifier or request.annotations
    )
    return f"Report: {Path(source or request.parts[0]).name}"


def _require_out_apart(request: ReportRequest, run: ImageRun | None) -> None:
    """Refuse to write over an input."""
    files = [getattr(request, name) for name in FILES]
    given = {Path(file).resolve() for file in [*files, *request.ledger] if file}
    if Path(request.out).resolve() in given:
        raise InputError(f"--out {request.out}: is an input, expected another name")
    if run is not None:
        require_apart(run.sources, request.out)


def _sections(sources: Sources) -> list[Section]:
    request, values = sources.request, detections.measured(sources)
    is_apart = request.classifier != request.training
    classifier = None
    if request.classifier is not None:  # its modules take seconds and memory
        from vindr_det.report.classifier import classifier_section

        classifier = classifier_section(request.classifier)
    every = [detections.summary_section(sources, values), detections.classes_section(sources, values),
             detections.curves_section(sources), detections.errors_section(values),
             detections.confusion_section(sources), detections.readers_section(sources),
             classifier, gate_section(request.gate),
             training_section(request.training, classes=sources.classes),
             training_section(request.classifier if is_apart else None, "classifier-training",
                              "Training of the classifier"),
             data_section(sources), ledger_section(request.ledger)]
    return [section for section in every if section is not None]


def _chosen(sources: Sources, run: ImageRun | None) -> tuple[Choice, dict[str, Path]]:
    """The images of the case browser, and image id -> file of all images.

    Raises:
        InputError: none of the images is annotated or predicted.
    """
    if run is None or not sources.request.cases or (sources.records is None and sources.predictions is None):
        return Choice((), 0, {}), {}
    paths = {source.image_id: source.path for source in run.inputs}
    choice = choose(sources, paths.keys())
    if not choice.ids:
        raise InputError(
            f"{sources.request.images}: holds none of the annotated or predicted images, expected "
            "files that are named by their ids"
        )
    return choice, paths


def _with_cases(page: Page, sources: Sources, choice: Choice, run: ImageRun) -> str:
    """The page's HTML with as much of each picture as fits."""
    request, label_set = sources.request, sources.label_set
    sizes = _sizes(sources, run)
    cases = [case_of(sources, name, *sizes.get(name, _UNKNOWN_SIZE)) for name in choice.ids]
    cases, maps = _with_maps(request, cases)

    def with_browser(cases: Sequence[Case]) -> Page:
        return replace(page, browser_notes=choice.notes,
                       browser=browser_json(cases, label_set, request.score, request.side))

    used = len(with_browser(cases).html([*[""] * len(cases), *maps]).encode("utf-8"))
    budget = pictures.Budget((MAX_BYTES - used) // len(cases))
    if budget.each < _LEAST_PICTURE:
        raise InputError(f"--cases {request.cases}: {len(cases)} pictures do not fit a page of "
                         f"{MAX_BYTES // 10**6} MB, expected fewer")
    cases, images = _read_pictures(sources, cases, sizes, budget, run)
    return with_browser(cases).html([*images, *maps])


def _sizes(sources: Sources, run: ImageRun) -> dict[str, tuple[int, int]]:
    """Image id -> (height, width) of the original: of the run's tables, the truth or the status table."""
    predicted = {
        name: (row.height, row.width) for name, row in sources.statuses.items() if row.height and row.width
    }
    return {**predicted, **known_sizes(run.sizes, sources.request.annotations)}


def _read_pictures(
    sources: Sources, cases: Sequence[Case], sizes: Mapping[str, tuple[int, int]], budget: pictures.Budget,
    run: ImageRun,
) -> tuple[list[Case], list[str]]:
    """The cases with their sizes, and a picture of each; empty, with the reason, where none can be shown."""
    results = pictures.read_chosen(run, [case.image_id for case in cases], sources.request)
    bar = tqdm(results, total=len(cases), desc="cases", unit="image", disable=None, delay=2)
    sized, images = [], []
    for case, result in zip(cases, bar, strict=True):
        if result.image is None:
            sized.append(case.unread(result.status.reason))
            images.append("")
            continue
        size = sizes.get(case.image_id)
        height, width = size or (result.image.height, result.image.width)
        case = replace(case, height=height, width=width)
        row = sources.statuses.get(case.image_id)
        told, shown = pictures.other_image(run, result, size, row)
        if not shown:
            case = case.without_picture(f"it would be of another image: {told}")
        elif told:
            case = case.with_notice(f"stretched to the boxes' square: {told}")
        elif row is None:  # else what is odd is in that row
            case = case.with_notice(result.status.reason)
        sized.append(case)
        images.append(budget.encode(result.image.pixels) if shown else "")
    return sized, images


def _with_maps(request: ReportRequest, cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
    """The cases with the numbers of their maps among the pictures, and these maps.

    Raises:
        InputError: a map cannot be read.
    """
    maps_of = pictures.find_maps(request.maps, [case.image_id for case in cases])
    encoded: list[str] = []
    numbered = []
    for case in cases:
        numbers = {}
        for label, path in maps_of.get(case.image_id, {}).items():
            numbers[label] = len(cases) + len(encoded)
            encoded.append(pictures.encode_map(read_image(path, max_pixels=request.max_pixels).pixels))
        numbered.append(replace(case, maps=numbers))
    if request.maps and not encoded:
        raise InputError(f"{request.maps}: holds no map of the cases shown, expected <image_id>.<label>.png")
    return numbered, encoded

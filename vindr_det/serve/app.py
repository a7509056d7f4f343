"""The web application of a bundle."""

import asyncio
from collections.abc import Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from importlib.resources import files
from typing import Annotated, Any

from fastapi import FastAPI, File, HTTPException, Query, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response

from vindr_det.bundle import Bundle
from vindr_det.imaging.palette import code_of
from vindr_det.imaging.status import FAILED
from vindr_det.serve.answers import Answerer, Question
from vindr_det.serve.guards import Guard, Limits
from vindr_det.serve.schema import About, Health, Problem, Report

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_PAGES = {"/": "page.html", "/docs": "docs.html", "/page.css": "page.css", "/page.js": "page.js",
          "/docs.js": "docs.js", "/favicon.ico": "icon.svg"}
#: Of answers that nobody gets.
_CLIENT_LEFT = 499
_DESCRIPTION = """Findings on a chest X-ray. For research; not a medical device. Boxes are in pixels of the
original. An image that was not read is an error (422), never a normal image."""
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "no upload in the form, several, or one that ended early"},
    403: {"model": Problem, "description": "asked by a page of another site"},
    408: {"model": Problem, "description": "the upload took too long"},
    413: {"model": Problem, "description": "the upload is too large"},
    422: {"model": Report, "description": "the image was not read, `reason` says why; or an option is "
                                          "unknown or out of range, `detail` says which"},
    503: {"model": Problem, "description": "too many wait; `Retry-After` says when to try again"}}


def make_app(bundle: Bundle, answerer: Answerer, limits: Limits, names: Collection[str] = ()) -> Guard:
    """The application, behind its checks.

    Args:
        bundle: whose models answer.
        answerer: of its models.
        limits: on uploads.
        names: of this host, as of :class:`Guard`.
    """
    from vindr_det import __version__

    app = FastAPI(title="vindr_det", version=__version__, description=_DESCRIPTION, docs_url=None,
                  redoc_url=None)
    guard = Guard(app, limits, names)
    for path, name in _PAGES.items():
        app.get(path, include_in_schema=False)(_page(name))
    app.exception_handler(RequestValidationError)(_refuse_options)
    _add_state(app, guard, _about(bundle, limits, __version__))
    _add_predict(app, answerer)
    return guard


def _add_state(app: FastAPI, guard: Guard, known: dict[str, Any]) -> None:
    @app.get("/health", response_model=Health)
    async def health() -> Any:
        """Whether the service answers."""
        return {"status": "ok", "busy": guard.busy}

    @app.get("/about", response_model=About)
    async def about() -> Any:
        """What the service runs."""
        return known


def _add_predict(app: FastAPI, answerer: Answerer) -> None:
    worker = ThreadPoolExecutor(2)  # the one reads an image while the models run on the other's

    @app.post("/predict", response_model=Report, responses=_REFUSALS)
    async def predict(
        request: Request,
        file: Annotated[UploadFile, File(description="a DICOM, PNG or JPEG file")],
        score: Annotated[float, Query(ge=0, le=1, description="lower boxes are left out")] = 0.3,
        uids: Annotated[bool, Query(description="add the DICOM UIDs")] = False,
        picture: Annotated[bool, Query(description="add the picture")] = False,
        maps: Annotated[int, Query(ge=0, le=32, description="number of Grad-CAM maps")] = 0,
        compared_score: Annotated[float, Query(ge=0, le=1, description="lower boxes are not compared with "
                                                                       "maps")] = 0.3,
    ) -> Response:
        """Findings on an image."""
        await _require_alone(request)
        question = Question(score, uids, picture, maps, compared_score)
        report = await _result(worker.submit(answerer.answer, file.file, question), request)
        return JSONResponse(report, 422 if report["status"] == FAILED else 200)


async def _require_alone(request: Request) -> None:
    """Refuse what would be ignored: further files, options in the form, unknown ones, and second values."""
    options = [name for name, _ in request.query_params.multi_items()]
    known = [field.name for field in fields(Question)]
    if len(set(options) & set(known)) < len(options):
        raise HTTPException(422, f"expected no other options than {', '.join(known)}, and each of them once")
    if (parts := len((await request.form()).multi_items())) > 1:
        raise HTTPException(400, f"expected one file and nothing else in the form, got {parts} parts; "
                                 "options are in the query")


async def _result(job: Future[dict[str, Any]], request: Request) -> dict[str, Any]:
    """The result of a job, which is not begun if the client leaves before."""
    result, departure = asyncio.wrap_future(job), asyncio.ensure_future(_departure(request))
    await asyncio.wait((result, departure), return_when=asyncio.FIRST_COMPLETED)
    departure.cancel()
    if not result.done() and job.cancel():
        raise HTTPException(_CLIENT_LEFT)
    return await result


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _page(name: str) -> Any:
    content = files("vindr_det.serve").joinpath("static", name).read_bytes()
    kind = _TYPES[name.rpartition(".")[2]]
    return lambda: Response(content, media_type=kind)


def _about(bundle: Bundle, limits: Limits, version: str) -> dict[str, Any]:
    findings = bundle.label_set.findings
    return {"version": version, "bundle": bundle.source, "digest": bundle.digest, "notice": bundle.notice,
            "findings": list(findings), "colors": [code_of(label) for label in range(len(findings))],
            "classifier": list(getattr(bundle.models.classifier, "columns", ())),
            "max_upload_bytes": limits.upload_bytes}


async def _refuse_options(request: Request, error: Exception) -> JSONResponse:
    """What is wrong with options, without the values, which a client may log."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    detail = "; ".join(f"{problem['loc'][-1]}: {problem['msg']}" for problem in problems)
    missing = any(problem["loc"][0] == "body" for problem in problems)
    return JSONResponse({"detail": detail}, 400 if missing else 422)

"""Images of the queue to answers in it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from vindr_det.exceptions import InputError
from vindr_det.imaging import image_run
from vindr_det.limits import MAX_PIXELS
from vindr_det.pacs.answer import Algorithm, Answer
from vindr_det.pacs.objects import KINDS, objects_of
from vindr_det.pacs.original import read_original
from vindr_det.pacs.queue import MOST_TRIES, Queue
from vindr_det.prediction import Models, Outcome, predict_each
from vindr_det.submission.image_report import image_report

log = logging.getLogger(__name__)

#: Images per run, whose reading process is begun once.
_AT_ONCE = 16


@dataclass(frozen=True)
class Answering:
    """What makes answers.

    Attributes:
        models: detectors, classifier, fusion and gate.
        algorithm: what they are called.
        score: boxes with a lower score are left out.
        kinds: of the objects.
        max_pixels: larger images are refused.
    """

    models: Models
    algorithm: Algorithm
    score: float = 0.3
    kinds: Sequence[str] = tuple(KINDS)
    max_pixels: int = MAX_PIXELS


def answer_all(queue: Queue, answering: Answering, stopped: Any, answered: Any) -> None:
    """Answer the images that wait, the oldest first; at most some, so that others are seen soon.

    Args:
        queue: of the images.
        answering: what makes answers.
        stopped: an event that ends it between two images.
        answered: an event that is set after each answer.

    Raises:
        InputError: the disk is full, or the models do not go together.
        OSError: the disk fails.
    """
    keys = _to_answer(queue)
    if not keys:
        return
    run = image_run.joined(image_run.find_files([queue.image(key) for key in keys], answering.max_pixels))
    # A process of its own reads, so that a decoder that crashes on a damaged file does not end the service.
    outcomes = predict_each(run, answering.models, workers=1, allow_inverted=True)
    try:
        for key in keys:
            queue.begin(key)
            _keep(queue, answering, key, next(outcomes))
            answered.set()
            if stopped.is_set():
                return
    except (InputError, OSError):
        queue.end(key)  # of the disk, not of the image
        raise
    except Exception as error:  # the models failed on all of these; each has an answer that says so
        log.error("the models failed: %s", type(error).__name__)


def _to_answer(queue: Queue) -> list[str]:
    """The next images; those at which the service has ended again and again are put aside."""
    keys = queue.unanswered()[:_AT_ONCE]
    for key in keys:
        if queue.tries(key) >= MOST_TRIES:
            log.error("%s: the service has ended %d times at it, see refused/%s.txt", key, MOST_TRIES, key)
            queue.refuse(key, f"the service has ended {MOST_TRIES} times while it answered this image")
    return [key for key in keys if queue.image(key).exists()]


def _keep(queue: Queue, answering: Answering, key: str, outcome: Outcome) -> None:
    status, prediction = outcome
    report = image_report(status, prediction.gated if prediction else None,
                          prediction.output.named if prediction and prediction.output else None, short=True)
    try:
        answer = Answer(read_original(queue.image(key)), report, answering.score, answering.algorithm,
                        datetime.now().replace(microsecond=0))
        objects = objects_of(answer, answering.kinds)
    except InputError as error:
        log.error("%s: no answer can be made, see refused/%s.txt", key, key)
        queue.refuse(key, str(error))
        return
    queue.keep_answer(key, objects)
    log.info("%s: %s, %d boxes, %s", key, status.status, len(answer.boxes), " ".join(objects))

"""The service: images in, answers out, until it is told to end."""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vindr_det.exceptions import InputError
from vindr_det.pacs.predicting import Answering, answer_all
from vindr_det.pacs.queue import Queue
from vindr_det.pacs.receiving import Watcher
from vindr_det.pacs.sending import Destination, Sender

log = logging.getLogger(__name__)

#: Seconds between looks at the watched folder and at what is due to be sent again.
_PAUSE = 1.0
#: Seconds after a failure of the disk.
_AFTER_FAILURE = 10.0


def silence_libraries() -> None:
    """Turn off the log lines and warnings of DICOM's libraries, which have names and UIDs."""
    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom", "highdicom", "dicomweb_client", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def serve(
    queue: Queue, answering: Answering, destinations: Sequence[Destination], watched: Sequence[Path] = (),
    start: Callable[[Callable[[], None]], Any] | None = None, megabytes: int = 256,
) -> None:
    """Answer images until SIGTERM or SIGINT; the image or the answer in hand is finished then.

    Args:
        queue: of the work.
        answering: what makes answers.
        destinations: of the answers.
        watched: folders whose images are answered too.
        start: starts a listener with what it shall call after an image, and returns it; None for none.
        megabytes: per file of the watched folders.
    """
    stopped, received, answered = (threading.Event() for _ in range(3))
    watchers = [Watcher(folder, queue, megabytes) for folder in watched]
    sender = threading.Thread(target=_send, args=(Sender(queue, destinations), stopped, answered))
    with _signals(stopped, received, answered):
        listener = start(received.set) if start else None
        sender.start()
        try:
            _answer(queue, answering, watchers, stopped, received, answered)
        finally:
            stopped.set()
            answered.set()
            if listener is not None:
                listener.shutdown()
            sender.join()
            queue.close()
    log.info("ended")


def _answer(
    queue: Queue, answering: Answering, watchers: Sequence[Watcher], stopped: threading.Event,
    received: threading.Event, answered: threading.Event,
) -> None:
    """Answer what is received, in the main thread, where the models are."""
    while not stopped.is_set():
        received.clear()
        for watcher in watchers:
            watcher.look()
        try:
            answer_all(queue, answering, stopped, answered)
        except (InputError, OSError) as error:  # such as a full disk; what is not answered stays in the queue
            log.error("answering failed: %s", error)
            stopped.wait(_AFTER_FAILURE)
        if not queue.unanswered():
            received.wait(_PAUSE)


def _send(sender: Sender, stopped: threading.Event, answered: threading.Event) -> None:
    while not stopped.is_set():
        answered.clear()
        try:
            sender.send_all(stopped)
        except Exception as error:  # such as a full disk; what is not sent stays in the queue
            log.error("sending failed: %s", type(error).__name__)
        answered.wait(_PAUSE)


@contextmanager
def _signals(*events: threading.Event) -> Iterator[None]:
    """Set events where the program is told to end."""
    def end(number: int, frame: Any) -> None:
        log.info("ending")
        for event in events:
            event.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

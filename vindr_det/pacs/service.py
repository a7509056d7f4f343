"""The service: images in, answers out, until it is told to end."""

import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from vindr_det.exceptions import InputError
from vindr_det.pacs.predicting import Answering, answer_all
from vindr_det.pacs.queue import Queue
from vindr_det.pacs.sending import Destination, Sender

log = logging.getLogger(__name__)

#: Seconds between looks at the sources and at what is due to be sent again.
_PAUSE = 1.0
#: Seconds after a failure of the disk.
_AFTER_FAILURE = 10.0


class Source(Protocol):
    """Where images come from, beside the peers that send them."""

    def look(self) -> bool:
        """Put what is new into the queue; returns whether there was something."""


def silence_libraries() -> None:
    """Turn off the log lines and warnings of DICOM's libraries, which have names and UIDs."""
    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom", "highdicom", "dicomweb_client", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def serve(
    queue: Queue, answering: Answering, destinations: Sequence[Destination], sources: Sequence[Source] = (),
    start: Callable[[Callable[[], None]], Any] | None = None,
) -> None:
    """Answer images until SIGTERM or SIGINT; the image or the answer in hand is finished then.

    Args:
        queue: of the work.
        answering: what makes answers.
        destinations: of the answers.
        sources: of images beside the listener's.
        start: starts a listener with what it shall call after an image, and returns it; None for none.
    """
    stopped, received, answered = (threading.Event() for _ in range(3))
    threads = [threading.Thread(target=_send, args=(Sender(queue, destinations), stopped, answered)),
               *(threading.Thread(target=_look, args=(source, stopped, received)) for source in sources)]
    try:
        with _signals(stopped, received, answered):
            listener = start(received.set) if start else None
            for thread in threads:
                thread.start()
            try:
                _answer(queue, answering, stopped, received, answered)
            finally:
                stopped.set()
                answered.set()
                if listener is not None:
                    listener.shutdown()
                for thread in threads:
                    thread.join()
    finally:
        queue.close()
    log.info("ended")


def _answer(
    queue: Queue, answering: Answering, stopped: threading.Event, received: threading.Event,
    answered: threading.Event,
) -> None:
    """Answer what is received, in the main thread, where the models are."""
    while not stopped.is_set():
        received.clear()
        try:
            answer_all(queue, answering, stopped, answered)
        except (InputError, OSError) as error:  # such as a full disk; what is not answered stays in the queue
            log.error("answering failed: %s", error)
            stopped.wait(_AFTER_FAILURE)
        if not queue.unanswered():
            received.wait(_PAUSE)


def _look(source: Source, stopped: threading.Event, received: threading.Event) -> None:
    while not stopped.is_set():
        try:
            if source.look():
                received.set()
        except Exception as error:  # such as a full disk; what is not in the queue is looked at again
            log.error("looking for images failed: %s", type(error).__name__)
        stopped.wait(_PAUSE)


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

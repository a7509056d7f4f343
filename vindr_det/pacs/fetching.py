"""Images of a DICOMweb server into the queue: found by QIDO-RS, fetched by WADO-RS."""

import logging
import re
import time
import warnings
from collections.abc import Iterator
from datetime import date, timedelta
from io import BytesIO
from typing import Any

from vindr_det.exceptions import InputError
from vindr_det.pacs.queue import Queue, key_of
from vindr_det.pacs.receiving import add_image

log = logging.getLogger(__name__)

#: Of radiographs.
_MODALITIES = ("CR", "DX")
#: Seconds between two looks.
_PAUSE = 10.0
#: Seconds after which an image that cannot be fetched is tried again, at most.
_LONGEST_PAUSE = 3600.0
#: Failures after which that is an error.
_MANY_TRIES = 5


def web_client(option: str, url: str, timeout: int) -> Any:
    """A client of a DICOMweb server.

    Args:
        option: of the command, for errors.
        url: above its ``studies``.
        timeout: seconds that it may be silent.

    Raises:
        InputError: no address of the web.
    """
    from dicomweb_client import DICOMwebClient

    if not re.match(r"https?://[^/\s]+", url):
        raise InputError(f"{option} {url}: expected a URL that begins with http:// or https://")
    client = DICOMwebClient(url, timeout=timeout)
    client.set_http_retry_params(False)
    return client


class WebSource:
    """Takes the radiographs of a server that the queue does not know.

    Args:
        url: above its ``studies``.
        queue: for the images.
        days: of the studies' dates, today included.
        megabytes: per image; larger ones are left out.
        timeout: seconds that the server may be silent.

    Raises:
        InputError: no address of the web.
    """

    def __init__(self, url: str, queue: Queue, days: int, megabytes: int, timeout: int = 60) -> None:
        self._client = web_client("--fetch", url, timeout)
        self._queue, self._days, self._limit = queue, days, megabytes * 2**20
        self._next = 0.0
        self._left_out: set[str] = set()
        self._failed: dict[str, tuple[int, float]] = {}

    def look(self) -> bool:
        """Take what is new; returns whether there was something. A server that is down is asked later.

        Raises:
            InputError: the disk is full.
        """
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _PAUSE
        taken = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for study, series, uid in self._new():
                    taken |= self._try(study, series, uid)
            except InputError:
                raise
            except Exception as error:  # requests raises its own, with the address and more
                log.warning("a server cannot be asked for images: %s", type(error).__name__)
        return taken

    def _new(self) -> Iterator[tuple[str, str, str]]:
        """Study, series and instance of the images that were not received before and are due."""
        today = date.today()
        days = f"{today - timedelta(self._days - 1):%Y%m%d}-{today:%Y%m%d}"
        for modality in _MODALITIES:
            for series in self._client.search_for_series(
                    search_filters={"Modality": modality, "StudyDate": days}, get_remaining=True):
                study, number = _value(series, "0020000D"), _value(series, "0020000E")
                for uid in self._instances(study, number):
                    known = not uid or uid in self._left_out or self._queue.knows(key_of(uid))
                    if not known and self._is_due(uid):
                        yield study, number, uid

    def _instances(self, study: str, series: str) -> list[str]:
        """UIDs of a series; none where the server fails at it, which is tried again as an image is."""
        if not self._is_due(series):
            return []
        try:
            instances = self._client.search_for_instances(study, series, get_remaining=True)
        except Exception as error:
            self._put_off(series, error)
            return []
        self._failed.pop(series, None)
        return [_value(instance, "00080018") for instance in instances]

    def _try(self, study: str, series: str, uid: str) -> bool:
        """Whether an image was taken; one that cannot be fetched is tried again later, after others."""
        try:
            file = self._file(study, series, uid)
        except Exception as error:
            self._put_off(uid, error)
            return False
        self._failed.pop(uid, None)
        if len(file) > self._limit:
            log.warning("%s: left out, more than %d MB", key_of(uid), self._limit >> 20)
        if len(file) > self._limit or add_image(self._queue, file, uid):
            self._left_out.add(uid)
            return False
        return True

    def _file(self, study: str, series: str, uid: str) -> bytes:
        dataset = self._client.retrieve_instance(study, series, uid, (("application/dicom", "*"),))
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        return file.getvalue()

    def _is_due(self, uid: str) -> bool:
        return time.monotonic() >= self._failed.get(uid, (0, 0.0))[1]

    def _put_off(self, uid: str, error: Exception) -> None:
        """Try an image or series again after a pause that doubles; say so at first, and when it fails often.

        Raises:
            ConnectionError: the server is down, or broke off; what it cannot give waits, the rest too.
        """
        tries = self._failed.get(uid, (0, 0.0))[0] + 1
        self._failed[uid] = tries, time.monotonic() + min(_PAUSE * 2**tries, _LONGEST_PAUSE)
        if tries == 1:
            log.warning("%s: cannot be fetched: %s", key_of(uid), type(error).__name__)
        elif tries == _MANY_TRIES:
            log.error("%s: NOT ANSWERED, could not be fetched %d times: %s; it is tried every hour",
                      key_of(uid), tries, type(error).__name__)
        if _is_down(error):
            raise ConnectionError from error


def _is_down(error: Exception) -> bool:
    """Whether a server has not answered at all."""
    from requests import ConnectionError as NotConnected
    from requests import Timeout

    return isinstance(error, NotConnected | Timeout)


def _value(entry: Any, tag: str) -> str:
    """The first value of an element in DICOM's JSON; empty without one."""
    return str((entry.get(tag, {}).get("Value") or [""])[0])

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

    def look(self) -> bool:
        """Take what is new; returns whether there was something. A server that is down is asked later."""
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _PAUSE
        taken = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                for study, series, uid in self._new():
                    self._take(study, series, uid)
                    taken = True
            except InputError:
                raise
            except Exception as error:  # requests raises its own, with the address and more
                log.warning("a server cannot be asked for images: %s", type(error).__name__)
        return taken

    def _new(self) -> Iterator[tuple[str, str, str]]:
        """Study, series and instance of the images that were not received before."""
        today = date.today()
        days = f"{today - timedelta(self._days - 1):%Y%m%d}-{today:%Y%m%d}"
        for modality in _MODALITIES:
            for series in self._client.search_for_series(
                    search_filters={"Modality": modality, "StudyDate": days}, get_remaining=True):
                study, number = _value(series, "0020000D"), _value(series, "0020000E")
                for instance in self._client.search_for_instances(study, number, get_remaining=True):
                    uid = _value(instance, "00080018")
                    if uid and uid not in self._left_out and not self._queue.knows(key_of(uid)):
                        yield study, number, uid

    def _take(self, study: str, series: str, uid: str) -> None:
        dataset = self._client.retrieve_instance(study, series, uid, (("application/dicom", "*"),))
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        if file.tell() > self._limit:
            log.warning("%s: left out, more than %d MB", key_of(uid), self._limit >> 20)
        if file.tell() > self._limit or add_image(self._queue, file.getvalue(), uid):
            self._left_out.add(uid)


def _value(entry: Any, tag: str) -> str:
    """The first value of an element in DICOM's JSON; empty without one."""
    return str((entry.get(tag, {}).get("Value") or [""])[0])

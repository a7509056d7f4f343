"""Answers from the queue to where they belong: a DICOM node, a DICOMweb server, a folder."""

import logging
import re
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pydicom
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE

from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, make_folder
from vindr_det.pacs.fetching import web_client
from vindr_det.pacs.queue import Queue

log = logging.getLogger(__name__)

#: Seconds until the first repetition, and at most; each is twice the one before.
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0
#: A status of C-STORE and a reason of STOW-RS (PS3.7 C.5): SOP class not supported, processing failure, and
#: that the object is there already, which has the same bytes.
_NO_SUCH_CLASS, _NOT_PROCESSED, _KNOWN = 0x0122, 0x0110, 0x0111
_NODE = re.compile(r"([^@]{1,16})@([^@:]+|\[[0-9a-fA-F:]+\]):(\d{1,5})")


class NotSent(Exception):
    """A destination does not have an answer.

    Args:
        reason: without names and UIDs, since it is logged.
        reached: whether it answered at all; one that did not is left alone for a while.
    """

    def __init__(self, reason: str, reached: bool = False) -> None:
        super().__init__(reason)
        self.reached = reached


class Destination(Protocol):
    """Where answers go.

    Attributes:
        name: that the log and the queue know it by.
    """

    name: str

    def send(self, key: str, paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        """Send objects of an answer; those that are there already stay as they are.

        Yields:
            Each object that is settled: with an empty text where it was taken, else the reason why the
            destination will never take it.

        Raises:
            NotSent: some are to be sent again, after all others were tried.
        """


class Node:
    """A DICOM node, by C-STORE.

    Args:
        address: ``AET@host:port``.
        title: AE title to call as.
        timeout: seconds that it may be silent.

    Raises:
        InputError: no such address.
    """

    def __init__(self, address: str, title: str, timeout: int = 60) -> None:
        parts = _NODE.fullmatch(address)
        if parts is None or not 0 < int(parts[3]) < 2**16:
            raise InputError(f"--send {address}: expected AET@host:port, such as PACS@10.0.0.5:104")
        self.name, (self._called, self._host, port) = address, parts.groups()
        self._port = int(port)
        self._entity = AE(ae_title=title)
        for uid in (SecondaryCaptureImageStorage, ComprehensiveSRStorage,
                    GrayscaleSoftcopyPresentationStateStorage):
            self._entity.add_requested_context(uid, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        self._entity.connection_timeout = self._entity.acse_timeout = timeout
        self._entity.dimse_timeout = self._entity.network_timeout = timeout

    def send(self, key: str, paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        """As of :class:`Destination`."""
        association = self._entity.associate(self._host, self._port, ae_title=self._called)
        if not association.is_established:
            raise NotSent("no association")
        later = []
        try:
            accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
            for path in paths:
                status = self._store(association, path, accepted)
                if status == _NO_SUCH_CLASS:
                    yield path, "its class is not accepted"
                elif status in (0, _KNOWN) or status >> 12 == 0xB:  # a warning has stored it
                    yield path, ""
                else:
                    later.append(f"the {path.stem} was refused with status 0x{status:04X}")
        finally:
            association.release()
        if later:
            raise NotSent("; ".join(later), reached=True)

    def _store(self, association: Any, path: Path, accepted: set[str]) -> int:
        """The status of C-STORE (PS3.4 B.2.3)."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
            if dataset.SOPClassUID not in accepted:
                return _NO_SUCH_CLASS
            try:
                answer = association.send_c_store(dataset)
            except (ValueError, RuntimeError) as error:
                raise NotSent(f"the {path.stem} was not taken", reached=association.is_established) from error
        if "Status" not in answer:
            raise NotSent("the association ended")
        return int(answer.Status)


class Web:
    """A DICOMweb server, by STOW-RS.

    Args:
        url: above its ``studies``.
        timeout: seconds that it may be silent.

    Raises:
        InputError: no address of the web.
    """

    def __init__(self, url: str, timeout: int = 60) -> None:
        self._client = web_client("--stow", url, timeout)
        self.name = re.sub(r"//[^/@]*@", "//", url)

    def send(self, key: str, paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        """As of :class:`Destination`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            objects = {path: pydicom.dcmread(path) for path in paths}
            failed = self._store({str(dataset.SOPInstanceUID): dataset for dataset in objects.values()})
        if failed.keys() - {str(dataset.SOPInstanceUID) for dataset in objects.values()}:
            raise NotSent("an object was refused, it is not said which", reached=True)
        reasons = {path: failed[uid] for path, dataset in objects.items()
                   if (uid := str(dataset.SOPInstanceUID)) in failed}
        later = []
        for path in paths:
            reason = reasons.get(path)
            # A server that cannot process any of them may be out of order; of one alone it knows no class.
            if reason == _NO_SUCH_CLASS or (reason == _NOT_PROCESSED and len(reasons) < len(paths)):
                yield path, "its class is not accepted"
            elif reason in (None, _KNOWN):
                yield path, ""
            else:
                later.append(f"the {path.stem} was refused with reason 0x{reason:04X}")
        if later:
            raise NotSent("; ".join(later), reached=True)

    def _store(self, datasets: Mapping[str, pydicom.Dataset]) -> dict[str, int]:
        """UID -> the reason of each that was not stored; where none was the server says so by an error."""
        try:
            return _reasons(self._client.store_instances(list(datasets.values())))
        except Exception as error:  # requests raises its own, with the address and more
            response = getattr(error, "response", None)
            try:
                failed = _reasons(pydicom.Dataset.from_json(response.json()))  # type: ignore[union-attr]
            except Exception:  # it says something else, or nothing
                failed = {}
            if not failed:
                raise NotSent(f"{type(error).__name__}", reached=response is not None) from error
            return dict.fromkeys(datasets, 0) | failed


def _reasons(answer: pydicom.Dataset) -> dict[str, int]:
    """SOP instance UID -> the reason of each object that a server did not store (PS3.3 C.12.1.1.10)."""
    return {str(item.get("ReferencedSOPInstanceUID", "")): int(item.get("FailureReason") or 0)
            for item in answer.get("FailedSOPSequence") or []}


class Folder:
    """A folder.

    Args:
        path: it is made if need be.

    Raises:
        InputError: it is a file, or cannot be made.
    """

    def __init__(self, path: str | Path) -> None:
        self.name, self._folder = str(path), make_folder(path)

    def send(self, key: str, paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        """As of :class:`Destination`; files are ``KEY.sc.dcm`` and so on."""
        for path in paths:
            try:
                with atomic_path(self._folder / f"{key}.{path.name}") as temporary:
                    temporary.write_bytes(path.read_bytes())
            except InputError as error:
                raise NotSent("the folder cannot be written") from error
            yield path, ""


class Sender:
    """Sends what waits in the queue, and again later what a destination does not take.

    Args:
        queue: of the answers.
        destinations: each gets every answer.
    """

    def __init__(self, queue: Queue, destinations: Sequence[Destination]) -> None:
        self._queue, self._destinations = queue, destinations
        self._waits: dict[tuple[str, str], tuple[float, float]] = {}
        self._told: set[tuple[str, str]] = set()

    def send_all(self, stopped: Any) -> None:
        """Send each answer that is due.

        Args:
            stopped: an event that ends it between two answers.
        """
        for key in self._queue.unsent():
            if stopped.is_set():
                return
            sent = [self._send(destination, key) for destination in self._destinations]
            if all(sent):
                self._queue.finish(key)
                log.info("%s: done", key)

    def _send(self, destination: Destination, key: str) -> bool:
        """Whether the destination has the answer now."""
        name = destination.name
        paths = self._queue.objects_for(key, name)
        if not paths:
            return True
        if not all(self._is_due(case) for case in ((name, ""), (name, key))):
            return False
        try:
            self._settle(key, name, destination.send(key, paths))
        except Exception as error:  # of libraries too; an answer that cannot be sent must not hold up others
            refused = error.reached if isinstance(error, NotSent) else True
            reason = error if isinstance(error, NotSent) else type(error).__name__
            seconds = self._wait((name, key if refused else ""))
            log.warning("%s: not sent to %s: %s; again in %.0f s", key, name, reason, seconds)
            return False
        self._waits.pop((name, ""), None)
        self._waits.pop((name, key), None)
        return not self._queue.objects_for(key, name)

    def _settle(self, key: str, name: str, sent: Iterable[tuple[Path, str]]) -> None:
        """Remember what a destination took, and what it never takes if it has anything of the answer.

        Raises:
            NotSent: it has nothing of it, or as of :class:`Destination`.
        """
        refused = {}
        try:
            for path, refusal in sent:
                if refusal:
                    refused[path] = refusal
                else:
                    self._queue.settle(path, name)
        finally:
            has_some = self._queue.has_some(key, name)
            for path, refusal in refused.items() if has_some else ():
                self._queue.settle(path, name, refusal)
                self._tell(name, path.stem, refusal)
        if refused and not has_some:
            kinds = ", ".join(path.stem for path in refused)
            raise NotSent(f"NOT ANSWERED there: it takes no object of the answer ({kinds})", reached=True)

    def _tell(self, name: str, kind: str, refusal: str) -> None:
        """Say once what a destination never takes."""
        if (name, kind) not in self._told:
            self._told.add((name, kind))
            log.warning("%s does not take the %s (%s): it gets the other objects alone", name, kind, refusal)

    def _is_due(self, case: tuple[str, str]) -> bool:
        return time.monotonic() >= self._waits.get(case, (0.0, 0.0))[0]

    def _wait(self, case: tuple[str, str]) -> float:
        """Put a destination, or an answer to it, off for twice as long as before."""
        seconds = min(2 * self._waits.get(case, (0.0, FIRST_WAIT / 2))[1], LONGEST_WAIT)
        self._waits[case] = time.monotonic() + seconds, seconds
        return seconds

"""Images into the queue: what a peer stores by DICOM."""

import logging
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.uid import (
    JPEG2000,
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt

from vindr_det.exceptions import InputError, one_line
from vindr_det.pacs.answer import MANUFACTURER
from vindr_det.pacs.original import original_of
from vindr_det.pacs.queue import Queue, key_of

log = logging.getLogger(__name__)

#: Radiographs, and the captures that films become.
CLASSES = (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation,
           DigitalXRayImageStorageForProcessing, SecondaryCaptureImageStorage)
#: C-ECHO (PS3.4 A.4).
_VERIFICATION = UID("1.2.840.10008.1.1")
#: What the reader decodes, the simplest first.
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, JPEGLossless,
            JPEGLSLossless, RLELossless, JPEG2000, JPEGLSNearLossless, JPEGBaseline8Bit, JPEGExtended12Bit,
            DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
#: Of the answer to C-STORE (PS3.4 B.2.3).
_SUCCESS, _NO_ROOM, _NOT_OF_THE_CLASS, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000


@dataclass(frozen=True)
class Limits:
    """What a peer may do.

    Attributes:
        associations: at a time.
        megabytes: per image; a larger one ends its association.
        callers: AE titles that may call; empty for all.
        timeout: seconds that a peer may be silent.
    """

    associations: int = 10
    megabytes: int = 256
    callers: Sequence[str] = ()
    timeout: int = 60


class Listener:
    """What listens.

    Args:
        entity: that was started.
        port: that it listens at.
    """

    def __init__(self, entity: AE, port: int) -> None:
        self._entity, self.port = entity, port

    def shutdown(self) -> None:
        """Listen no more; a peer that is sending is told, and keeps what was not acknowledged."""
        self._entity.shutdown()


def start_listener(
    queue: Queue, host: str, port: int, title: str, limits: Limits, added: Callable[[], None]
) -> Listener:
    """Start to take images by C-STORE, in threads of their own.

    Args:
        queue: for the images.
        host: address to listen at.
        port: of it.
        title: AE title that peers must call.
        limits: of the peers.
        added: is called after each image.

    Raises:
        InputError: the address cannot be listened at.
    """
    entity = AE(ae_title=title)
    entity.add_supported_context(_VERIFICATION)
    for uid in CLASSES:
        entity.add_supported_context(uid, list(SYNTAXES))
    entity.require_called_aet = True
    entity.require_calling_aet = list(limits.callers)
    entity.maximum_associations = limits.associations
    entity.network_timeout = entity.acse_timeout = entity.dimse_timeout = limits.timeout
    size = _Size(limits.megabytes * 2**20)
    handlers: list[Any] = [(evt.EVT_C_STORE, _on_store, [queue, size, added]), (evt.EVT_DATA_RECV, size.add),
                           (evt.EVT_CONN_CLOSE, size.reset)]
    try:
        server = entity.start_server((host, port), block=False, evt_handlers=handlers)
    except (OSError, OverflowError) as error:
        raise InputError(f"{host}:{port}: cannot be listened at ({one_line(error)})") from error
    return Listener(entity, server.server_address[1] if server else port)


class _Size:
    """Ends an association that sends more than an image may have."""

    def __init__(self, limit: int) -> None:
        self._limit, self._received = limit, dict[int, int]()

    def add(self, event: Any) -> None:
        """Count what was received since the last image."""
        key = id(event.assoc)
        self._received[key] = self._received.get(key, 0) + len(event.data)
        if self._received[key] > self._limit:
            log.warning("refused an image of more than %d MB", self._limit >> 20)
            self.reset(event)
            threading.Thread(target=event.assoc.abort, daemon=True).start()  # not from the reader's thread

    def reset(self, event: Any) -> None:
        """An image is complete, or its association has ended."""
        self._received.pop(id(event.assoc), None)


def _on_store(event: Any, queue: Queue, size: _Size, added: Callable[[], None]) -> int:
    """Keep an image; success is answered when it is safe on the disk."""
    size.reset(event)
    data = event.encoded_dataset()
    try:
        status = add_image(queue, data, str(event.request.AffectedSOPInstanceUID))
    except InputError:
        log.error("an image cannot be kept: is the disk full?")
        return _NO_ROOM
    added()
    return status


def add_image(queue: Queue, data: bytes, uid: str = "") -> int:
    """Add a DICOM file to the queue; returns the status of C-STORE.

    Our own captures, which a PACS may route back to us, are taken and forgotten.

    Args:
        queue: for the image.
        data: the file.
        uid: that its instance must have; empty for any.

    Raises:
        InputError: the disk is full.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True)
            original = original_of(Path("image"), header)
            is_ours = str(header.get("Manufacturer", "")) == MANUFACTURER
    except InputError:
        log.warning("refused an image without study, series or instance")
        return _NOT_OF_THE_CLASS
    except Exception:  # any bytes can arrive
        log.warning("refused an image whose header is damaged")
        return _NOT_UNDERSTOOD
    if uid and original.uid != uid:
        log.warning("refused an image whose instance is not the announced")
        return _NOT_OF_THE_CLASS
    if is_ours or UID(original.header.SOPClassUID) not in CLASSES:
        return _SUCCESS if is_ours else _NOT_OF_THE_CLASS
    key = queue.add(original.uid, data)
    log.info("%s: %s", key or key_of(original.uid), "received" if key else "known already")
    return _SUCCESS

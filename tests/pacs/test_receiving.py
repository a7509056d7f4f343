"""Images into the queue: by dcmtk's storescu and pynetdicom."""

import subprocess
import threading
from dataclasses import replace

import pydicom
import pytest
from pacs_files import ACCESSION, NAME, PATIENT, answer, in_hospital, tool, wait_for
from pydicom.uid import CTImageStorage, JPEG2000Lossless
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from vindr_det.exceptions import InputError
from vindr_det.pacs import receiving
from vindr_det.pacs.objects import objects_of
from vindr_det.pacs.queue import Queue, key_of
from vindr_det.pacs.receiving import SYNTAXES, Limits, start_listener

LIMITS = Limits(associations=2, megabytes=3, timeout=10)


@pytest.fixture(scope="module")
def image(phantoms, tmp_path_factory):
    source = sorted((phantoms / "raw/test").iterdir())[0]
    return in_hospital(source, tmp_path_factory.mktemp("archive") / "a.dcm")


@pytest.fixture
def listening(tmp_path):
    """A queue, and ``listening(limits)`` that starts a listener of it and returns its port."""
    queue, servers, added = Queue(tmp_path / "state"), [], threading.Event()

    def start(limits=LIMITS):
        servers.append(start_listener(queue, "127.0.0.1", 0, "VINDR_DET", limits, added.set))
        return servers[-1].port

    start.queue, start.added = queue, added
    yield start
    for server in servers:
        server.shutdown()
    queue.close()


def associated(port, called="VINDR_DET", title="TEST", contexts=()):
    entity = AE(ae_title=title)
    entity.add_requested_context(Verification)
    for uid, syntax in contexts:
        entity.add_requested_context(uid, syntax)
    return entity.associate("127.0.0.1", port, ae_title=called)


def status_of(port, dataset, **options):
    """The status that storing a data set is answered by; None for no answer."""
    syntax = dataset.file_meta.TransferSyntaxUID
    association = associated(port, contexts=[(dataset.SOPClassUID, syntax)], **options)
    assert association.is_established
    try:
        return association.send_c_store(dataset).get("Status")
    finally:
        association.release()


def test_an_echo_is_answered(listening):
    association = associated(listening())
    assert association.send_c_echo().Status == 0
    association.release()


def test_what_storescu_sends_is_on_the_disk_once(listening, image):
    port, uid = listening(), pydicom.dcmread(image).SOPInstanceUID
    for _ in range(2):
        sent = subprocess.run([tool("storescu"), "-xv", "-aec", "VINDR_DET", "127.0.0.1", str(port), image],
                              capture_output=True, text=True)
        assert sent.returncode == 0, sent.stderr
    assert listening.added.is_set() and listening.queue.unanswered() == [key_of(uid)]
    kept, original = pydicom.dcmread(listening.queue.image(key_of(uid))), pydicom.dcmread(image)
    assert (kept.pixel_array == original.pixel_array).all()
    assert kept.PatientName == original.PatientName


def test_compressed_images_are_kept_as_they_are(listening, image, tmp_path):
    original = pydicom.dcmread(image)
    if original.file_meta.TransferSyntaxUID != JPEG2000Lossless:
        original.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
        original.save_as(tmp_path / "compressed.dcm")
        original = pydicom.dcmread(tmp_path / "compressed.dcm")
    assert status_of(listening(), original) == 0
    kept = pydicom.dcmread(listening.queue.image(key_of(original.SOPInstanceUID)))
    assert kept.file_meta.TransferSyntaxUID == JPEG2000Lossless and kept.PixelData == original.PixelData
    assert len(set(SYNTAXES)) == len(SYNTAXES)


@pytest.mark.parametrize("changes, status", [
    ({"StudyInstanceUID": "x"}, 0xA900), ({"SeriesInstanceUID": ""}, 0xA900)])
def test_images_that_no_answer_could_refer_to_are_refused(listening, image, tmp_path, changes, status):
    dataset = pydicom.dcmread(in_hospital(image, tmp_path / "x.dcm", **changes))
    assert status_of(listening(), dataset) == status
    assert listening.queue.unanswered() == []


def test_other_kinds_of_images_are_not_negotiated(listening):
    association = associated(listening(), contexts=[(CTImageStorage, "1.2.840.10008.1.2.1")])
    assert [context.abstract_syntax for context in association.rejected_contexts] == [CTImageStorage]
    association.release()


def test_our_own_pictures_are_taken_and_forgotten(listening, image):
    """A PACS may route them back; answers to answers would never end."""
    assert status_of(listening(), objects_of(answer(image), ["sc"])["sc"]) == 0
    assert listening.queue.unanswered() == [] and not listening.queue.knows(key_of("x"))


def test_a_full_disk_is_no_success(listening, image, monkeypatch):
    def full(uid, data):
        raise InputError("no space left")

    monkeypatch.setattr(listening.queue, "add", full)
    assert status_of(listening(), pydicom.dcmread(image)) == 0xA700


def test_large_images_end_their_association(listening, image, tmp_path):
    dataset = pydicom.dcmread(image)
    dataset.ImageComments = "x" * (4 * 2**20)
    assert status_of(listening(), dataset) is None
    assert listening.queue.unanswered() == []
    assert status_of(listening(), pydicom.dcmread(image)) == 0  # others are still served


def test_what_an_ended_association_has_sent_is_forgotten(listening, monkeypatch):
    """Else a later one that the system gives the same number would be ended for it."""
    counts = []

    class Seen(receiving._Size):
        def __init__(self, limit):
            super().__init__(limit)
            counts.append(self._received)

    monkeypatch.setattr(receiving, "_Size", Seen)
    association = associated(listening())
    association.send_c_echo()
    assert sum(counts[0].values()) > 0
    association.release()
    wait_for(lambda: not counts[0], 10)


@pytest.mark.parametrize("limits, options, expected", [
    (LIMITS, {}, True), (LIMITS, {"called": "OTHER"}, False),
    (replace(LIMITS, callers=["CT1"]), {}, False),
    (replace(LIMITS, callers=["CT1"]), {"title": "CT1"}, True)])
def test_who_may_call(listening, limits, options, expected):
    association = associated(listening(limits), **options)
    assert association.is_established == expected
    if expected:
        association.release()


def test_an_address_that_is_taken(listening):
    port = listening()
    with pytest.raises(InputError, match=rf"127.0.0.1:{port}: cannot be listened at"):
        start_listener(listening.queue, "127.0.0.1", port, "VINDR_DET", LIMITS, lambda: None)


def test_nothing_that_identifies_is_logged(listening, image, tmp_path, caplog):
    caplog.set_level("DEBUG", "vindr_det")
    port = listening()
    status_of(port, pydicom.dcmread(image))
    status_of(port, pydicom.dcmread(in_hospital(image, tmp_path / "x.dcm", StudyInstanceUID="no")))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("vindr_det")]
    assert len(lines) >= 2
    uids = [pydicom.dcmread(image).SOPInstanceUID, "2.25", NAME, PATIENT, ACCESSION, "Doe"]
    assert not [line for line in lines if any(secret in line for secret in uids)]


def test_a_peer_does_not_keep_the_service_from_ending(tmp_path):
    queue = Queue(tmp_path)
    listener = start_listener(queue, "127.0.0.1", 0, "VINDR_DET", LIMITS, lambda: None)
    association = associated(listener.port)
    assert association.is_established
    listener.shutdown()
    wait_for(lambda: not association.is_established, 10)
    assert not associated(listener.port).is_established
    queue.close()

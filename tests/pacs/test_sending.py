"""Answers to their destinations: a node, a web server and a folder; again where one does not take them."""

import threading

import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pacs_files import answer, free_port, in_hospital, orthanc
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
    Verification,
)

from vindr_det.exceptions import InputError
from vindr_det.pacs import sending
from vindr_det.pacs.objects import objects_of
from vindr_det.pacs.queue import Queue, key_of
from vindr_det.pacs.sending import Folder, Node, NotSent, Sender, Web

NOT_STOPPED = threading.Event()
CLASSES = (SecondaryCaptureImageStorage, ComprehensiveSRStorage, GrayscaleSoftcopyPresentationStateStorage)


@pytest.fixture(scope="module")
def objects(phantoms, tmp_path_factory):
    source = sorted((phantoms / "raw/test").iterdir())[0]
    return objects_of(answer(in_hospital(source, tmp_path_factory.mktemp("archive") / "a.dcm")))


@pytest.fixture
def waiting(tmp_path, objects):
    """A queue with an answer that waits, and its key."""
    queue = Queue(tmp_path / "state")
    key = queue.add("1.2.3", b"image")
    queue.keep_answer(key, objects)
    yield queue, key
    queue.close()


class Peer:
    """A node that keeps the UIDs of what it gets, and answers with the statuses it is given, then success."""

    def __init__(self, port=0, statuses=(), classes=CLASSES):
        self.got, self._statuses = [], list(statuses)
        entity = AE(ae_title="PACS")
        for uid in classes:
            entity.add_supported_context(uid)
        self._server = entity.start_server(("127.0.0.1", port), block=False,
                                           evt_handlers=[(evt.EVT_C_STORE, self._store)])
        self.port = self._server.server_address[1]

    def _store(self, event):
        status = self._statuses.pop(0) if self._statuses else 0
        if status == 0 or status >> 12 == 0xB:
            self.got.append(str(event.request.AffectedSOPInstanceUID))
        return status

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._server.shutdown()


def uids_of(objects):
    return sorted(str(dataset.SOPInstanceUID) for dataset in objects.values())


def test_all_destinations_get_an_answer(waiting, objects, tmp_path):
    queue, key = waiting
    with Peer() as peer:
        node, folder = Node(f"PACS@127.0.0.1:{peer.port}", "US", 10), Folder(tmp_path / "out")
        Sender(queue, [node, folder]).send_all(NOT_STOPPED)
    assert sorted(peer.got) == uids_of(objects)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        f"{key}.{kind}.dcm" for kind in ("pr", "sc", "sr")]
    assert queue.unsent() == [] and (queue.done / key).exists()


def test_a_warning_has_stored_it(waiting, objects):
    queue, _ = waiting
    with Peer(statuses=[0xB000]) as peer:
        Sender(queue, [Node(f"PACS@127.0.0.1:{peer.port}", "US", 10)]).send_all(NOT_STOPPED)
        assert sorted(peer.got) == uids_of(objects) and queue.unsent() == []


def test_what_is_down_gets_it_later(waiting, objects, tmp_path, monkeypatch, caplog):
    """The other destination has it once; the pauses grow."""
    queue, key = waiting
    now = [100.0]
    monkeypatch.setattr(sending.time, "monotonic", lambda: now[0])
    port = free_port()
    node, folder = Node(f"PACS@127.0.0.1:{port}", "US", 5), Folder(tmp_path / "out")
    sender = Sender(queue, [node, folder])
    for _ in range(3):
        sender.send_all(NOT_STOPPED)
        now[0] += 0.5
    waits = [record.args[-1] for record in caplog.records if "not sent" in record.getMessage()]
    assert waits == [1.0, 2.0] and queue.unsent() == [key]
    first = (tmp_path / f"out/{key}.sr.dcm").stat().st_mtime_ns
    with Peer(port) as peer:
        now[0] += 1.0
        sender.send_all(NOT_STOPPED)
        assert peer.got == []  # its pause is not over
        now[0] += 300.0
        sender.send_all(NOT_STOPPED)
        assert sorted(peer.got) == uids_of(objects)
    assert queue.unsent() == [] and (tmp_path / f"out/{key}.sr.dcm").stat().st_mtime_ns == first


def test_an_answer_that_is_refused_does_not_hold_up_others(waiting, objects):
    queue, key = waiting
    other = queue.add("9.9", b"image")
    queue.keep_answer(other, objects)
    with Peer(statuses=[0xA700]) as peer:
        sender = Sender(queue, [Node(f"PACS@127.0.0.1:{peer.port}", "US", 10)])
        sender.send_all(NOT_STOPPED)
        assert queue.unsent() == [key]
        assert sorted(peer.got) == sorted([*uids_of(objects), *(objects[kind].SOPInstanceUID
                                                                for kind in ("sc", "pr"))])


def test_a_damaged_object_does_not_hold_up_others(waiting, objects, caplog):
    queue, key = waiting
    queue.objects(key)[0].write_bytes(b"Doe^Jane")
    other = queue.add("9.9", b"image")
    queue.keep_answer(other, objects)
    with Peer() as peer:
        Sender(queue, [Node(f"PACS@127.0.0.1:{peer.port}", "US", 10)]).send_all(NOT_STOPPED)
    assert queue.unsent() == [key] and (queue.done / other).exists()
    assert "InvalidDicomError" in caplog.text and "Doe" not in caplog.text


def test_what_a_node_never_takes_does_not_hold_up_the_rest(waiting, objects, caplog):
    """No context for states, no class of pictures: the report comes, once, and the rest is noted once."""
    queue, key = waiting
    other = queue.add("9.9", b"image")
    queue.keep_answer(other, objects)
    with Peer(statuses=[0, 0x0122], classes=CLASSES[:2]) as peer:
        Sender(queue, [Node(f"PACS@127.0.0.1:{peer.port}", "US", 10)]).send_all(NOT_STOPPED)
        assert peer.got == [objects[kind].SOPInstanceUID for kind in ("sr", "sr", "sc")]
    assert queue.unsent() == []
    assert [line.split()[0] for line in (queue.done / key).read_text().splitlines()] == ["pr", "sc"]
    assert (queue.done / other).read_text().startswith(f"pr not taken by PACS@127.0.0.1:{peer.port}")
    lines = [record.getMessage() for record in caplog.records if "does not take" in record.getMessage()]
    assert len(lines) == 2 and "the sc" in lines[0] and "the pr" in lines[1]


def test_an_object_that_was_taken_is_not_sent_again(waiting, objects, monkeypatch):
    """A full disk of the node at the second object: the third comes, the second again."""
    now = [100.0]
    monkeypatch.setattr(sending.time, "monotonic", lambda: now[0])
    queue, key = waiting
    with Peer(statuses=[0, 0xA700]) as peer:
        sender = Sender(queue, [Node(f"PACS@127.0.0.1:{peer.port}", "US", 10)])
        sender.send_all(NOT_STOPPED)
        assert [path.stem for path in queue.objects_for(key, f"PACS@127.0.0.1:{peer.port}")] == ["sc"]
        now[0] += 300
        sender.send_all(NOT_STOPPED)
        assert peer.got == [objects[kind].SOPInstanceUID for kind in ("sr", "pr", "sc")]
    assert queue.unsent() == [] and not (queue.done / key).read_text()


def test_a_node_that_takes_nothing_is_asked_again(waiting):
    """It may be set up wrongly, and repaired."""
    queue, key = waiting
    with Peer(classes=[Verification]) as peer:
        Sender(queue, [Node(f"PACS@127.0.0.1:{peer.port}", "US", 10)]).send_all(NOT_STOPPED)
    assert queue.unsent() == [key]


@pytest.mark.parametrize("statuses, taken", [
    ([0x0122] * 3, []), ([0x0122, 0x0122, 0], ["pr"]), ([0x0111] * 3, ["sr", "sc", "pr"])])
def test_an_answer_of_which_nothing_was_taken_is_not_done(waiting, caplog, statuses, taken):
    queue, key = waiting
    with Peer(statuses=statuses) as peer:
        Sender(queue, [Node(f"PACS@127.0.0.1:{peer.port}", "US", 10)]).send_all(NOT_STOPPED)
    assert queue.unsent() == ([] if taken else [key]) and (queue.done / key).exists() == bool(taken)
    assert ("NOT ANSWERED" in caplog.text) == (not taken)
    assert ("gets the other objects alone" in caplog.text) == (taken == ["pr"])


def test_a_report_alone_is_sent_until_it_is_taken(tmp_path, objects, caplog):
    """An image that was not read, and a node without reports."""
    queue, state = Queue(tmp_path / "state"), objects["sr"]
    keys = [queue.add(str(number), b"image") for number in range(2)]
    for key in keys:
        queue.keep_answer(key, {"sr": state})
    with Peer(classes=CLASSES[:1]) as peer:
        Sender(queue, [Node(f"PACS@127.0.0.1:{peer.port}", "US", 10)]).send_all(NOT_STOPPED)
    assert queue.unsent() == keys
    assert all(f"{key}: not sent" in caplog.text for key in keys) and caplog.text.count("NOT ANSWERED") == 2
    queue.close()


def test_what_an_earlier_version_sent_is_not_sent_again(waiting):
    queue, key = waiting
    (queue.answers / key / f"sent-{key_of('A')}").touch()
    assert queue.objects_for(key, "A") == [] and len(queue.objects_for(key, "B")) == 3


def stowed(reasons, status):
    """What a server answers that refuses the objects of some kinds, by ``reasons``."""
    def store(url, data, headers):
        response = requests.Response()
        response.status_code, response.headers["Content-Type"] = status, "application/dicom+json"
        answer = pydicom.Dataset()
        answer.FailedSOPSequence = []
        for uid, reason in reasons.items():
            item = pydicom.Dataset()
            item.ReferencedSOPInstanceUID, item.FailureReason = uid, reason
            answer.FailedSOPSequence.append(item)
        response._content = answer.to_json().encode()
        return response
    return store


@pytest.mark.parametrize("reasons, status, left", [
    ({"pr": 0x0122}, 202, []), ({"pr": 0x0110}, 202, []), ({"pr": 0xA700}, 202, ["pr"]),
    ({"sr": 0xA700, "pr": 0x0122}, 202, ["sr"]), ({"sr": 0x0110, "sc": 0x0110, "pr": 0x0110}, 409,
                                                  ["sr", "sc", "pr"]),
    ({"sr": 0x0122, "sc": 0x0122, "pr": 0xA700}, 409, ["sr", "sc", "pr"]), ({}, 500, ["sr", "sc", "pr"]),
    ({"pr": 0x0122}, 409, ["sr", "sc", "pr"]), ({"": 0x0122}, 202, ["sr", "sc", "pr"]),
    ({"sr": 0x0122, "sc": 0x0122, "pr": 0x0122}, 409, ["sr", "sc", "pr"]), ({"sr": 0x0111}, 202, [])])
def test_what_a_web_server_does_not_take(waiting, objects, monkeypatch, reasons, status, left):
    queue, key = waiting
    web = Web("http://pacs/dicom-web")
    refused = {objects[kind].SOPInstanceUID if kind else "": reason for kind, reason in reasons.items()}
    monkeypatch.setattr(web._client._session, "post",
                        lambda url, data, headers, timeout: stowed(refused, status)(url, data, headers))
    Sender(queue, [web]).send_all(NOT_STOPPED)
    assert [path.stem for path in queue.objects_for(key, web.name)] == left
    assert queue.unsent() == ([key] if left else [])


def test_a_killed_senders_objects_are_the_same(waiting, objects):
    """A crash between the peer's success and our note of it: the same objects come again."""
    queue, key = waiting
    with Peer() as peer:
        node = Node(f"PACS@127.0.0.1:{peer.port}", "US", 10)
        assert [path.stem for path, refusal in node.send(key, queue.objects(key))] == ["sr", "sc", "pr"]
        Sender(queue, [node]).send_all(NOT_STOPPED)
        assert sorted(peer.got) == sorted(2 * uids_of(objects))


def test_a_real_server_has_each_object_once(waiting, objects, tmp_path):
    """By C-STORE and by STOW, found by QIDO, fetched by WADO as it was sent."""
    queue, _ = waiting
    with orthanc(tmp_path / "orthanc") as server:
        Sender(queue, [Node(server["node"], "US", 20), Web(server["web"])]).send_all(NOT_STOPPED)
        assert queue.unsent() == []
        client = DICOMwebClient(server["web"])
        study = str(objects["sr"].StudyInstanceUID)
        assert len(client.search_for_studies(search_filters={"StudyInstanceUID": study})) == 1
        stored = [entry["00080018"]["Value"][0] for entry in client.search_for_instances(study)]
        assert sorted(stored) == uids_of(objects)
        for kind, dataset in objects.items():
            fetched = client.retrieve_instance(study, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
            fetched.pop("PixelData", None)
            sent = pydicom.dcmread(_saved(tmp_path, kind, dataset))
            sent.pop("PixelData", None)
            assert fetched.to_json() == sent.to_json(), kind


def _saved(tmp_path, kind, dataset):
    path = tmp_path / f"{kind}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_a_web_server_that_is_down(waiting):
    queue, key = waiting
    with pytest.raises(NotSent) as error:
        list(Web(f"http://127.0.0.1:{free_port()}/dicom-web").send(key, queue.objects(key)))
    assert not error.value.reached


@pytest.mark.parametrize("address", ["", "PACS", "PACS@host", "PACS@host:0", "PACS@host:99999", "@host:104",
                                     "A_TITLE_THAT_IS_TOO_LONG@host:104", "PACS@host:104:1"])
def test_addresses_that_are_none(address):
    with pytest.raises(InputError, match="expected AET@host:port"):
        Node(address, "US")


@pytest.mark.parametrize("url", ["", "pacs", "ftp://pacs", "http://", "https:///studies"])
def test_urls_that_are_none(url):
    with pytest.raises(InputError, match="expected a URL that begins with http"):
        Web(url)


def test_a_password_is_in_no_log():
    assert Web("https://user:secret@pacs/dicom-web").name == "https://pacs/dicom-web"
    assert key_of("https://pacs/dicom-web")

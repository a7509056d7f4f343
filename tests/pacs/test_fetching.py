"""Images of a DICOMweb server into the queue."""

from datetime import date

import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pacs_files import answer, in_hospital, orthanc

from vindr_det.exceptions import InputError
from vindr_det.pacs import fetching
from vindr_det.pacs.fetching import WebSource
from vindr_det.pacs.objects import objects_of
from vindr_det.pacs.queue import Queue, key_of


class Server:
    """What answers as a client does: a series per image, of which some fail."""

    def __init__(self, paths):
        self.images = {str(header.SOPInstanceUID): header for header in map(pydicom.dcmread, paths)}
        self.errors, self.asked = {}, []

    def search_for_series(self, search_filters, get_remaining):
        return [{"0020000D": {"Value": [header.StudyInstanceUID]}, "0020000E": {"Value": ["9." + uid]}}
                for uid, header in self.images.items() if search_filters["Modality"] == "DX"]

    def search_for_instances(self, study, series, get_remaining):
        self._fail(series)
        return [{"00080018": {"Value": [series.removeprefix("9.")]}}]

    def retrieve_instance(self, study, series, uid, types):
        self.asked.append(uid)
        self._fail(uid)
        return self.images[uid]

    def _fail(self, call):
        if call in self.errors:
            raise self.errors[call]


def refused(status):
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.fixture
def source(phantoms, tmp_path, monkeypatch):
    """A source of a server of three images, its queue, and a clock."""
    server = Server([in_hospital(path, tmp_path / f"{number}.dcm", number)
                     for number, path in enumerate(sorted((phantoms / "raw/test").iterdir())[:3])])
    now = [1000.0]
    monkeypatch.setattr(fetching.time, "monotonic", lambda: now[0])
    queue = Queue(tmp_path / "state")
    source = WebSource("http://pacs", queue, 2, 100)
    source._client = server
    yield source, server, queue, now
    queue.close()


@pytest.mark.parametrize("error", [refused(500), ValueError("no DICOM file"), refused(404)])
def test_an_image_that_cannot_be_fetched_does_not_hold_up_others(source, caplog, error):
    """It is tried again after growing pauses, and never counts as answered."""
    source, server, queue, now = source
    bad = next(iter(server.images))
    server.errors[bad] = error
    times = []
    while now[0] < 6000:
        before = len(server.asked)
        source.look()
        times += [now[0]] * server.asked[before:].count(bad)
        now[0] += 10
    assert set(queue.unanswered()) == {key_of(uid) for uid in server.images if uid != bad}
    assert not queue.knows(key_of(bad)) and [times[0], times[1], times[2]] == [1000, 1020, 1060]
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert "NOT ANSWERED" in caplog.text and bad not in caplog.text
    del server.errors[bad]
    now[0] += 3600
    assert source.look() and queue.knows(key_of(bad))


@pytest.mark.parametrize("call", ["", "9."])
def test_a_server_that_breaks_off_at_an_image_gives_the_others(source, call):
    """Such as one whose process ends at it: the next look begins with another."""
    source, server, queue, now = source
    server.errors[call + next(iter(server.images))] = requests.ConnectionError()
    assert not source.look()
    now[0] += 10
    assert source.look() and len(queue.unanswered()) == 2


def test_a_series_that_cannot_be_listed_does_not_hold_up_others(source):
    source, server, queue, _ = source
    bad = next(iter(server.images))
    server.errors["9." + bad] = requests.JSONDecodeError("no JSON", "", 0)
    assert source.look() and len(queue.unanswered()) == 2


def test_a_full_disk_is_not_held_against_an_image(source, monkeypatch):
    def full(uid, data):
        raise InputError("no space left")

    source, _, queue, now = source
    with monkeypatch.context() as patch:
        patch.setattr(queue, "add", full)
        with pytest.raises(InputError):
            source.look()
    now[0] += 10
    assert source.look() and len(queue.unanswered()) == 3


def test_images_are_fetched_from_a_real_server(phantoms, tmp_path):
    """Radiographs of the last days alone, each once; answers beside them are no images."""
    today = f"{date.today():%Y%m%d}"
    queue, sources = Queue(tmp_path / "state"), sorted((phantoms / "raw/test").iterdir())
    new, old = (in_hospital(sources[number], tmp_path / f"{number}.dcm", number, StudyDate=day)
                for number, day in enumerate([today, "20200101"]))
    with orthanc(tmp_path / "orthanc") as server:
        client = DICOMwebClient(server["web"])
        client.store_instances([pydicom.dcmread(new), pydicom.dcmread(old),
                                *objects_of(answer(new)).values()])
        assert WebSource(server["web"], queue, 2, 100).look()
        key = key_of(pydicom.dcmread(new).SOPInstanceUID)
        assert queue.unanswered() == [key]
        kept = pydicom.dcmread(queue.image(key))
        assert (kept.pixel_array == pydicom.dcmread(new).pixel_array).all()
        assert kept.file_meta.TransferSyntaxUID == pydicom.dcmread(new).file_meta.TransferSyntaxUID
        assert not WebSource(server["web"], queue, 2, 100).look()
    source = WebSource(server["web"], queue, 2, 100)
    assert not source.look()  # the server is down
    queue.close()

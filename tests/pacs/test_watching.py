"""Images into the queue from a watched folder."""

import os

import pydicom
import pytest
from pacs_files import in_hospital

from vindr_det.exceptions import InputError
from vindr_det.pacs import watching
from vindr_det.pacs.queue import Queue, key_of
from vindr_det.pacs.watching import Watcher


@pytest.fixture(scope="module")
def image(phantoms, tmp_path_factory):
    source = sorted((phantoms / "raw/test").iterdir())[0]
    return in_hospital(source, tmp_path_factory.mktemp("archive") / "a.dcm")


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A queue, and a folder to watch, whose files settle at once."""
    monkeypatch.setattr(watching, "_SETTLED", 0)
    monkeypatch.setattr(watching, "_AFTER_FAILURE", 0)
    queue, folder = Queue(tmp_path / "state"), tmp_path / "in"
    folder.mkdir()
    yield queue, folder
    queue.close()


def looked(watcher: Watcher) -> bool:
    """Two looks: the first sees what the second takes."""
    watcher.look()
    return watcher.look()


def test_a_watched_folder(image, tmp_path, watched):
    queue, folder = watched
    (folder / "below").mkdir()
    watcher = Watcher(folder, queue, megabytes=1)
    watcher.look()
    content = image.read_bytes()
    (folder / "note.txt").write_text("no image")
    (folder / "below/growing.dcm").write_bytes(content[:5000])
    watcher.look()
    (folder / "below/growing.dcm").write_bytes(content)
    watcher.look()
    assert queue.unanswered() == []  # it has changed since the last look
    watcher.look()
    key = key_of(pydicom.dcmread(image).SOPInstanceUID)
    assert queue.unanswered() == [key] and queue.image(key).read_bytes() == content
    (folder / "large.dcm").write_bytes(in_hospital(image, tmp_path / "l.dcm", 5).read_bytes() + b"\0" * 2**21)
    Watcher(folder, queue, 1).look()
    watcher.look()
    watcher.look()
    assert queue.unanswered() == [key] and (folder / "below/growing.dcm").read_bytes() == content
    with pytest.raises(InputError, match="no such folder to watch"):
        Watcher(tmp_path / "none", queue, 1)


@pytest.mark.parametrize("error", [InputError("no space left"), OSError(5, "Input/output error")])
def test_an_image_that_a_full_disk_does_not_take_is_taken_later(image, watched, monkeypatch, error):
    def full(uid, data):
        raise error

    queue, folder = watched
    (folder / "a.dcm").write_bytes(image.read_bytes())
    watcher = Watcher(folder, queue, 1)
    with monkeypatch.context() as patch:
        patch.setattr(queue, "add", full)
        with pytest.raises(type(error)):
            looked(watcher)
    assert queue.unanswered() == []
    assert watcher.look() and len(queue.unanswered()) == 1
    assert not watcher.look()


def test_a_file_that_cannot_be_read_does_not_hold_up_others(image, watched, monkeypatch, caplog):
    """It is taken when it can be read."""
    real = watching.read_uids

    def fails(path):
        if path.name == "a.dcm":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    queue, folder = watched
    in_hospital(image, folder / "a.dcm", 1)
    in_hospital(image, folder / "b.dcm", 2)
    watcher = Watcher(folder, queue, 1)
    with monkeypatch.context() as patch:
        patch.setattr(watching, "read_uids", fails)
        looked(watcher)
        watcher.look()
    assert len(queue.unanswered()) == 1
    assert len([line for line in caplog.messages if "cannot be read now" in line]) == 1
    watcher.look()
    assert len(queue.unanswered()) == 2


@pytest.mark.parametrize("replaced", ["written over", "renamed"])
def test_another_image_under_a_known_name_is_taken(image, tmp_path, watched, replaced):
    """Written over with another size or time, or renamed into place with the same size and time."""
    queue, folder = watched
    path, other = folder / "a.dcm", in_hospital(image, tmp_path / "b.dcm", 9)
    path.write_bytes(image.read_bytes())
    watcher = Watcher(folder, queue, 1)
    assert looked(watcher) and not looked(watcher)
    if replaced == "renamed":
        os.utime(other, ns=(0, path.stat().st_mtime_ns))
        other.replace(path)
    else:
        path.write_bytes(other.read_bytes())
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    assert looked(watcher) and not looked(watcher)
    assert sorted(queue.unanswered()) == sorted(
        key_of(pydicom.dcmread(file).SOPInstanceUID) for file in (image, path))

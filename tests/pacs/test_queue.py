"""The service's work on disk: whatever a kill leaves, nothing is lost and nothing is answered twice."""

import os
from itertools import count, takewhile
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from vindr_det.exceptions import InputError
from vindr_det.files import PARTIAL
from vindr_det.pacs import queue as queue_module
from vindr_det.pacs.queue import Queue, key_of

KEY = key_of("1.2.3")


def an_object() -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "2.25.1"
    return dataset


class Killed(BaseException):
    """Ends a step as kill -9 does: nothing after it runs."""


def steps_of(queue: Queue) -> None:
    """All that becomes of an image."""
    queue.add("1.2.3", b"image")
    queue.begin(KEY)
    queue.keep_answer(KEY, {"sr": an_object(), "sc": an_object()})
    for path in queue.objects(KEY):
        queue.settle(path, "pacs", "its class is not accepted" if path.stem == "sc" else "")
    queue.finish(KEY)


def left_by(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} - {".lock"}


def test_an_empty_queue(tmp_path):
    queue = Queue(tmp_path / "state")
    assert (queue.unanswered(), queue.unsent()) == ([], [])


def test_an_image_goes_through(tmp_path):
    queue = Queue(tmp_path)
    assert queue.add("1.2.3", b"image") == KEY and queue.add("1.2.3", b"other") == ""
    assert queue.image(KEY).read_bytes() == b"image" and "1.2.3" not in KEY
    assert (queue.unanswered(), queue.unsent()) == ([KEY], [])
    queue.keep_answer(KEY, {"sr": an_object(), "sc": an_object()})
    assert (queue.unanswered(), queue.unsent()) == ([], [KEY])
    assert [path.name for path in queue.objects(KEY)] == ["sr.dcm", "sc.dcm"]
    queue.settle(queue.objects(KEY)[0], "pacs")
    assert [path.name for path in queue.objects_for(KEY, "pacs")] == ["sc.dcm"]
    assert len(queue.objects_for(KEY, "other")) == 2
    queue.settle(queue.objects(KEY)[1], "pacs", "its class is not accepted")
    assert queue.objects_for(KEY, "pacs") == []
    queue.finish(KEY)
    assert (tmp_path / f"done/{KEY}").read_text() == "sc not taken by pacs: its class is not accepted\n"
    assert (queue.unanswered(), queue.unsent(), queue.add("1.2.3", b"image")) == ([], [], "")
    assert left_by(tmp_path) == {f"done/{KEY}"}


def test_the_oldest_is_first(tmp_path):
    queue = Queue(tmp_path)
    for number, uid in enumerate(("9.1", "9.2", "9.3")):
        os.utime(queue.image(queue.add(uid, b"x")), (number, number))
    assert queue.unanswered() == [key_of(uid) for uid in ("9.1", "9.2", "9.3")]


def ends_at(folder, monkeypatch, last: int) -> bool:
    """Whether the steps have more calls than ``last`` that change the disk, of which the next ones fail."""
    calls = count(1)

    def counted(function):
        def call(*args, **options):
            if next(calls) > last:
                raise Killed
            return function(*args, **options)
        return call

    queue = Queue(folder)
    with monkeypatch.context() as patch:
        for name in ("rename", "replace", "touch", "unlink", "rmdir", "write_bytes", "chmod", "mkdir"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        patch.setattr(queue_module, "_flush", counted(queue_module._flush))
        try:
            steps_of(queue)
        except Killed:
            return True
        finally:
            queue.close()
    return False


def test_killed_at_any_step(tmp_path, monkeypatch):
    """Each call that changes the disk is in turn the last; a new service continues from there."""
    killed = list(takewhile(lambda last: ends_at(tmp_path / str(last), monkeypatch, last), count()))
    assert len(killed) > 20
    for last in killed:
        folder = tmp_path / str(last)
        again = Queue(folder)
        assert not [name for name in left_by(folder) if PARTIAL in name]
        if (again.done / KEY).exists():
            assert left_by(folder) == {f"done/{KEY}"}
        elif again.knows(KEY):
            assert again.image(KEY).read_bytes() == b"image"
            assert again.unanswered() == [KEY] or (again.unsent() == [KEY] and len(again.objects(KEY)) == 2)
        else:  # its sender was not told of success
            assert not left_by(folder)


def test_two_services_cannot_share_a_folder(tmp_path):
    queue = Queue(tmp_path)
    with pytest.raises(InputError, match="another service uses this folder"):
        Queue(tmp_path)
    queue.close()
    Queue(tmp_path).close()


def test_what_cannot_be_answered_is_put_aside(tmp_path):
    queue = Queue(tmp_path)
    queue.add("1.2.3", b"image")
    queue.refuse(KEY, "no study")
    assert (queue.unanswered(), queue.add("1.2.3", b"image")) == ([], "")
    assert (tmp_path / f"refused/{KEY}.txt").read_text() == "no study\n"
    assert (tmp_path / f"refused/{KEY}.dcm").read_bytes() == b"image"


def test_an_image_that_ends_the_service_does_not_hold_up_others(tmp_path):
    for tries in range(3):
        queue = Queue(tmp_path)
        queue.add("1.2.3", b"image")
        queue.add("9.9", b"other")
        assert queue.unanswered() == ([KEY, key_of("9.9")] if not tries else [key_of("9.9"), KEY])
        queue.begin(KEY)
        queue.close()
    queue = Queue(tmp_path)
    assert queue.tries(KEY) == 3 and queue.tries(key_of("9.9")) == 0
    queue.keep_answer(KEY, {"sr": an_object()})
    assert queue.tries(KEY) == 0 and not list((tmp_path / "tried").iterdir())
    queue.close()

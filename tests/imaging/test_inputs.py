"""Every row of docs/inputs.md that speaks of the listing: what is an input, and by which id."""

import logging
import os
import socket
import tempfile
import threading
from contextlib import nullcontext
from pathlib import Path

import pytest

from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images, list_inputs, printable, require_apart

DICOM = bytes(128) + b"DICM" + bytes(20)
OLD_DICOM = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + bytes(20)
IMPLICIT_DICOM = b"\x08\x00\x00\x00\x04\x00\x00\x00\x88\x01\x00\x00" + bytes(20)


def put(folder: Path, name: str | bytes, content: bytes = b"x") -> None:
    path = folder / os.fsdecode(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def problems(folder: Path, **options) -> dict[str, str]:
    return {source.file: source.problem for source in list_inputs(folder, **options)}


@pytest.mark.parametrize("name, content, problem", [
    ("a.png", b"", ""), ("a.JPG", b"x", ""), ("a.dicom", b"x", ""),
    ("IM0001", DICOM, ""), ("1.2.840.10008", DICOM, ""), ("a.ima", DICOM, ""), ("IM2", OLD_DICOM, ""),
    ("IM3", IMPLICIT_DICOM, ""), ("1.2.3", OLD_DICOM, ""), ("x.tmp", OLD_DICOM, ""),
    ("a.tiff", b"II*\0", "TIFF is not read, expected DICOM, PNG or JPEG"),
    ("a.BMP", b"BM", "BMP is not read"), ("a.webp", b"RIFF", "WEBP is not read"),
    ("IM4", bytes(200), "has no suffix and does not begin as a DICOM"),
    ("1.2.4", b"\x89PNG\xff\xfe", "has no suffix and does not begin as a DICOM"), ("IM5", b"", "is empty"),
    ("README", "Über uns\n".encode() * 100, None), ("LICENSE", b"text", None), ("meta.csv", b"a,b", None),
    ("a.zip", b"PK\3\4", None), ("DICOMDIR", DICOM, None), (".hidden.png", b"x", None),
    (".partial-1.png", b"x", None),
])
def test_kinds_of_files(tmp_path, name, content, problem):
    put(tmp_path, "z.png")
    put(tmp_path, name, content)
    listed = problems(tmp_path)
    assert listed.pop("z.png") == ""
    assert (name in listed) == (problem is not None)
    if problem is not None:
        assert listed[name].startswith(problem) and bool(problem) == bool(listed[name])


@pytest.mark.timeout(20)
def test_nothing_that_could_block_is_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.dcm")
    os.mkfifo(tmp_path / "FIFO")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    put(tmp_path, "real.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        listed = problems(tmp_path)
    assert listed == {
        "fifo.dcm": "is a FIFO, expected a file", "FIFO": "is a FIFO, expected a file",
        "zero.png": "is a device, expected a file", "gone.png": "is a link to nothing",
        "link.png": "", "real.png": "", "socket.png": "is a socket, expected a file"}
    assert set(list_images(tmp_path)) == {"link", "real"}
    assert threading.active_count() < 20


def test_folders(tmp_path):
    put(tmp_path, "x.png/inner.png")
    put(tmp_path, "below/b.png")
    put(tmp_path, ".cache/c.png")
    put(tmp_path, "a.png")
    (tmp_path / "below/up").symlink_to(tmp_path)
    elsewhere = tmp_path / ".elsewhere"
    put(elsewhere, "linked.png")
    (tmp_path / "link").symlink_to(elsewhere)
    assert problems(tmp_path) == {
        "a.png": "", "x.png": "is a folder, expected a file; --recursive looks into it"}
    assert problems(tmp_path, recursive=True) == dict.fromkeys(
        ["a.png", "below/b.png", "link/linked.png", "x.png/inner.png"], "")


def test_a_folder_that_cannot_be_listed_is_a_row(tmp_path, monkeypatch):
    put(tmp_path, "a.png")
    put(tmp_path, "shut/b.png")
    real = os.scandir

    def scandir(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert problems(tmp_path, recursive=True) == {
        "a.png": "", "shut": "folder cannot be listed (Permission denied)"}


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="the system has no users to be")
def test_a_folder_that_may_be_listed_but_not_entered_is_rows():
    """Of another user's files the names are known, and nothing else; root must not be who looks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        put(folder, "a.png")
        for inside in ("b.png", "IM1", "notes.txt", "below/c.png"):
            put(folder, f"shut/{inside}")
        folder.chmod(0o755)
        (folder / "shut").chmod(0o644)
        user = os.geteuid()
        try:
            os.seteuid(user or 65534)
            listed, inside = problems(folder, recursive=True), problems(folder / "shut")
        finally:
            os.seteuid(user)
            (folder / "shut").chmod(0o755)
    denied = "cannot be read (Permission denied)"
    assert listed == {"a.png": "", "shut/b.png": denied, "shut/IM1": denied,
                     "shut/below": "folder cannot be listed (Permission denied)"}
    assert inside == {"b.png": denied, "IM1": denied}


def test_a_file_that_may_not_be_read_is_a_row(tmp_path, monkeypatch):
    """Suffixless, so that the listing itself wants to look into it."""
    put(tmp_path, "IM1")
    real = Path.open

    def refuse(self, *args, **kwargs):
        if self.name == "IM1":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    assert problems(tmp_path) == {"IM1": "cannot be read (Permission denied)"}


@pytest.mark.parametrize("names, ids", [
    (["a.png"], ["a"]),
    (["a.dcm", "a.png"], ["a.dcm", "a.png"]),
    (["a.dcm", "more/a.png"], ["a", "more_a"]),
    (["s1/IM1.dcm", "s2/IM1.dcm"], ["s1_IM1", "s2_IM1"]),
    (["a.dcm", "a.png", "b/a.jpg"], ["a.dcm", "a.png", "b_a"]),
    (["a.dcm", "a.tif"], ["a", "a.tif"]),  # what can be read has the first choice
    (["a_b.png", "a/b.png", "b.png"], ["a_b.png", "a_b.png~2", "b"]),
    ([" a .png", "b.png"], ["a", "b"]),
    (["NA.png", "nan.png", "null.dcm", "007.jpg"], ["007", "NA", "nan", "null"]),
    ([b"caf\xe9.png", "new\nline.png", "ünï.png"], ["caf\\udce9", "new\\nline", "ünï"]),
])
def test_ids_are_unique_printable_and_short_where_they_can_be(tmp_path, names, ids):
    for name in names:
        put(tmp_path, name)
    listed = list_inputs(tmp_path, recursive=True)
    assert sorted(source.image_id for source in listed) == sorted(ids)
    assert all(source.path.read_bytes() == b"x" for source in listed)
    assert all(source.file.encode() for source in listed)


def test_shared_names_are_logged(tmp_path, caplog):
    for name in ("a.dcm", "a.png", "b.png", "notes.txt"):
        put(tmp_path, name)
    with caplog.at_level(logging.INFO):
        list_inputs(tmp_path)
    assert "2 images share their name with another and get longer ids; the first, a.dcm" in caplog.text
    assert "1 other files are ignored (1 .txt)" in caplog.text


def test_one_file(tmp_path):
    put(tmp_path, "a.b.png")
    [source] = list_inputs(tmp_path / "a.b.png")
    assert (source.image_id, source.file, source.problem) == ("a.b", "a.b.png", "")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    assert list_inputs(tmp_path / "gone.png")[0].problem == "is a link to nothing"


@pytest.mark.parametrize("make, message", [
    (lambda p: p / "nowhere", "no such folder of images, nor an image"),
    (lambda p: p, "holds no image"),
])
def test_nothing_there(tmp_path, make, message):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=message):
        list_inputs(make(tmp_path))


def test_printable():
    assert printable("a b-ü.png") == "a b-ü.png" and printable("\udce9\t") == "\\udce9\\t"


@pytest.mark.parametrize("images, out, shut", [
    ("in/a.png", "in", True), ("in/a.png", "out", False), ("in/a.png", "in/out", False),
    ("in/a.png", "in/a.png", True), ("in/a.png", "in/s.csv", False), ("in/a.png", "in/a.png/x", False),
    ("link/a.png", "in", True),  # a folder that is a link
    ("links/a.png", "in", True), ("links/a.png", "in/a.png", True),  # a file that is one
    ("links/a.png", "links", True), ("in/a.png", "link", True), ("in/a.png", "../x/in/a.png", True),
])
def test_nothing_is_written_among_what_is_read(tmp_path, images, out, shut):
    root = tmp_path / "x"
    put(root, "in/a.png")
    (root / "link").symlink_to(root / "in")
    (root / "links").mkdir()
    (root / "links/a.png").symlink_to(root / "in/a.png")
    refusal = pytest.raises(InputError, match="--out is among the originals") if shut else nullcontext()
    with refusal:
        require_apart([root / images], root / "elsewhere", root / out)


def test_the_disk_is_asked_once_per_file_whether_it_is_an_output(tmp_path, questions):
    for number in range(60):
        put(tmp_path, f"{number % 3}/{number}.png")
    files = [tmp_path / f"{number % 3}/{number}.png" for number in range(60)]
    questions.clear()
    require_apart(files, tmp_path / "s.csv", tmp_path / "t.csv")
    assert questions.total() < 60 + 16 * (3 + len(tmp_path.parts))  # threads that begin at once ask alike


@pytest.mark.parametrize("recursive", [False, True])
def test_folders_are_listed_in_any_order_and_once(tmp_path, recursive):
    for name in ("b/c/1.png", "a/2.png", "3.png", "b/.hidden/4.png", ".5.png"):
        put(tmp_path, name)
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/itself.txt").symlink_to("itself.txt")
    (tmp_path / "b/x.png").mkdir()
    names = [source.file for source in list_inputs(tmp_path, recursive)]
    assert names == (["3.png", "a/2.png", "b/c/1.png"] if recursive else ["3.png"])

"""Debian's programs of a hospital: dcmtk's commands, and an Orthanc on the loopback address."""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

#: Of the package orthanc-dicomweb.
DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def program(name: str) -> str | None:
    """The path of a command of Debian's packages, not of pynetdicom's script of the same name."""
    paths = (shutil.which(name, path=folder) for folder in os.get_exec_path())
    return next((path for path in paths if path and Path(path).read_bytes()[:2] != b"#!"), None)


def free_port() -> int:
    """A port of the loopback address that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def orthanc(folder: Path) -> Iterator[Mapping[str, str]]:
    """A server with its addresses: ``node`` of DICOM, ``web`` of DICOMweb, ``rest`` of its own interface."""
    folder.mkdir()
    http, dicom = free_port(), free_port()
    options = {"StorageDirectory": str(folder), "IndexDirectory": str(folder), "HttpPort": http,
               "DicomPort": dicom, "DicomAet": "PACS", "RemoteAccessAllowed": False,
               "AuthenticationEnabled": False, "DicomAlwaysAllowStore": True,
               "Plugins": [str(DICOMWEB)] if DICOMWEB.is_file() else []}
    (folder / "options.json").write_text(json.dumps(options))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(["Orthanc", str(folder / "options.json")], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{http}"
    try:
        wait_for(lambda: _answers(f"{address}/system"), 60)
        yield {"node": f"PACS@127.0.0.1:{dicom}", "web": f"{address}/dicom-web", "rest": address}
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5):
            return True
    except OSError:
        return False


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    """Wait until something is true.

    Raises:
        TimeoutError: it is not by then.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} seconds")
        time.sleep(0.1)

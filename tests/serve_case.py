"""A web service in this process, and the image that tests upload to it."""

import csv
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECRET = "Doe^Jane"
STUDY = "1.2.840.99"
LIMITS = {"upload_bytes": 2**20, "upload_seconds": 1.0, "queue": 3, "connections": 20, "head_seconds": 1.5,
          "answer_seconds": 1.5}


def phantom_dicom(folder: Path) -> bytes:
    """A phantom with findings as DICOM with a patient's name."""
    import pydicom

    from vindr_det.phantom import make_dataset

    make_dataset(folder, 2, 6, 384, seed=3, workers=1)
    rows = csv.DictReader((folder / "test_annotations.csv").read_text().splitlines())
    abnormal = next(row["image_id"] for row in rows if row["class_name"] != "No finding")
    dataset = pydicom.dcmread(next((folder / "test").glob(f"{abnormal}.*")))
    dataset.PatientName = dataset.PatientID = SECRET
    dataset.StudyInstanceUID = STUDY
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()


@contextmanager
def serving() -> Iterator[tuple[str, int]]:
    """The address of a service with small limits."""
    from vindr_det.bundle import read_bundle
    from vindr_det.serve.answers import Answerer
    from vindr_det.serve.app import make_app
    from vindr_det.serve.guards import Limits

    bundle = read_bundle("phantom", "cpu")
    app = make_app(bundle, Answerer(bundle.models, 500 * 500), Limits(**LIMITS), ["reading-room"])
    with running(app, **LIMITS) as address:
        yield address


@contextmanager
def running(app: Any, **limits: float) -> Iterator[tuple[str, int]]:
    """The address of an application's server."""
    from vindr_det.serve.guards import Limits
    from vindr_det.serve.service import server_of

    server = server_of(app, Limits(**limits))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(10)

"""Images as a hospital has them, and answers about them."""

import subprocess
import sys
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pydicom
import pytest
from conftest import ROOT

from vindr_det.pacs.answer import Algorithm, Answer, uid_of
from vindr_det.pacs.original import read_original

sys.path.append(str(ROOT / "benchmarks"))
import hospital_servers
from hospital_servers import free_port, program, wait_for  # noqa: F401 # also for the tests

#: Of every patient in these files; none of it may be in a log.
NAME, PATIENT, ACCESSION = "Doe^Jane", "PAT-4711", "ACC-0815"
BOXES = [{"class_id": 3, "class_name": "Cardiomegaly", "score": 0.9, "x_min": 40.25, "y_min": 90.5,
          "x_max": 120.75, "y_max": 150.125},
         {"class_id": 0, "class_name": "Aortic enlargement", "score": 0.5, "x_min": 0.0, "y_min": 0.0,
          "x_max": 20.0, "y_max": 33.3},
         {"class_id": 8, "class_name": "Nodule/Mass", "score": 0.1, "x_min": 5.0, "y_min": 5.0,
          "x_max": 9.0, "y_max": 9.0}]
WHEN = datetime(2026, 1, 2, 3, 4, 5)


def in_hospital(source: Path, out: Path, number: int = 0, **changes) -> Path:
    """A file with a patient, a study and a series; ``changes`` are set last, None takes an element away."""
    dataset = pydicom.dcmread(source, force=True)
    values = {"PatientName": NAME, "PatientID": PATIENT, "PatientBirthDate": "19600102", "PatientSex": "F",
              "StudyDate": "20260101", "StudyTime": "101112", "AccessionNumber": ACCESSION, "StudyID": "S1",
              "ReferringPhysicianName": "House^Gregory", "Modality": "DX", "InstanceNumber": 7,
              "BodyPartExamined": "CHEST",
              "StudyInstanceUID": uid_of("study", str(number)),
              "SOPInstanceUID": uid_of("image", str(number)),
              "SeriesInstanceUID": uid_of("series", str(number)),
              "SOPClassUID": str(dataset.file_meta.MediaStorageSOPClassUID), **changes}
    for key, value in values.items():
        if value is not None:
            setattr(dataset, key, value)
        elif key in dataset:
            delattr(dataset, key)
    dataset.file_meta.MediaStorageSOPInstanceUID = values["SOPInstanceUID"] or ""
    dataset.save_as(out)
    return out


def report(status: str = "ok", boxes=BOXES, reason: str = "", **more) -> dict:
    """An image's entry of S.predictions.json."""
    read = status != "failed"
    return {"image_id": "a", "file": "a.dcm", "status": status, "reason": reason,
            "boxes": boxes if read else None, "probabilities": {"p_abnormal": 0.75} if read else None,
            "no_finding": 0.25 if read else None, **more}


def answer(path: Path, told: dict | None = None, **more) -> Answer:
    values = {"score": 0.3, "algorithm": Algorithm("phantom", "abc"), "created": WHEN, **more}
    return Answer(read_original(path), told or report(), **values)


def tool(name: str) -> str:
    """The path of a command of Debian's packages; the test skips without it."""
    path = program(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def problems_of(path: Path) -> list[str]:
    """What dicom3tools' dciodvfy finds wrong with a file."""
    run = subprocess.run([tool("dciodvfy"), path], capture_output=True, text=True, errors="replace")
    lines = (run.stdout + run.stderr).splitlines()
    return [line for line in lines if line.startswith("Error")] or ["exit status"] * run.returncode


@contextmanager
def orthanc(folder: Path):
    """Debian's Orthanc; yields its addresses: node, web and rest."""
    tool("Orthanc")
    if not hospital_servers.DICOMWEB.is_file():
        pytest.skip("orthanc-dicomweb is not installed")
    with hospital_servers.orthanc(folder) as server:
        yield server

#!/usr/bin/env python
"""Whether vindr-det listen answers every study once while it is killed again and again.

    python benchmarks/listener.py --studies 200 --kills 5

Phantoms with patients and studies are sent by dcmtk's storescu, a file at a time, each until it is
acknowledged, while the service is ended by kill -9 and started again. Its answers go to Debian's Orthanc, by
C-STORE or STOW. At the end Orthanc must hold a report and a picture of each image, and no other answer; the
service's log and the names of its files must hold nothing that identifies a patient. Exit status: 0, or 1 if
anything is wrong.
"""

import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import psutil
import pydicom
from hospital_servers import DICOMWEB, free_port, orthanc, program, wait_for
from pydicom.uid import JPEG2000Lossless

from vindr_det import cli
from vindr_det.exceptions import InputError
from vindr_det.pacs.answer import uid_of
from vindr_det.phantom import make_dataset

_NEEDED = ("storescu", "Orthanc")
#: Images that are sent before their answers are awaited.
_AHEAD = 20
#: Of an image, half a second apart; the service takes less to start again.
_MOST_OFFERS = 200


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--studies", type=int, default=200, help="each has an image")
    parser.add_argument("--kills", type=int, default=5, help="by kill -9")
    parser.add_argument("--size", type=int, default=512, help="longest side of the phantoms in pixels")
    parser.add_argument("--stow", action="store_true", help="send the answers by STOW instead of C-STORE")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    args = parser.parse_args()
    require_programs(args.stow)
    with tempfile.TemporaryDirectory() as folder:
        problems = run(Path(folder), args.studies, args.kills, args.size, args.stow, args.seed)
    for line in problems:
        print(f"WRONG: {line}")
    return int(bool(problems))


def require_programs(stow: bool) -> None:
    """Refuse to begin without Debian's packages dcmtk, orthanc and orthanc-dicomweb."""
    missing = [name for name in _NEEDED if program(name) is None]
    if stow and not DICOMWEB.is_file():
        missing.append(DICOMWEB.name)
    if missing:
        raise InputError(f"{missing[0]} is not installed, expected Debian's packages dcmtk, orthanc and "
                         "orthanc-dicomweb")


def run(folder: Path, studies: int, kills: int, size: int, stow: bool, seed: int) -> list[str]:
    """Send, kill, and count; returns what is wrong."""
    images = make_studies(folder / "images", studies, size)
    with orthanc(folder / "orthanc") as server:
        service = Service(folder, server["web" if stow else "node"], stow)
        began = time.perf_counter()
        service.start()
        ready = time.perf_counter() - began
        offers: Counter[str] = Counter()
        sender = Thread(target=send_until_taken, args=(images, service, offers))
        sender.start()
        times = moments(kills, seed)
        killed_at = service.kill_between(times, studies)
        sender.join()
        service.wait_until_done(studies)
        seconds = time.perf_counter() - began
        status = service.stop()
        problems = wrong_answers(server["rest"], images) + identifiers(folder, images)
    print("| studies | kills | after answers | offered again | start s | seconds | per s | memory MB |\n"
          "|---|---|---|---|---|---|---|---|\n"
          f"| {studies} | {kills} | {', '.join(map(str, killed_at))} | {sum(offers.values()) - studies} | "
          f"{ready:.1f} | {seconds:.0f} | {studies / seconds:.2f} | {service.memory >> 20} |")
    return problems + ([f"the service ended with status {status}"] if status else [])


def moments(kills: int, seed: int) -> list[tuple[float, float]]:
    """Of each kill: after which share of the studies, and how many seconds later."""
    numbers = random.Random(seed)
    shares = sorted(numbers.uniform(0.05, 0.95) for _ in range(kills))
    return [(share, numbers.uniform(0, 1)) for share in shares]


def make_studies(folder: Path, count: int, size: int) -> dict[str, Path]:
    """SOP instance UID -> file, each of a patient and a study of its own."""
    make_dataset(folder / "raw", 1, count, size, seed=5)
    (folder / "sent").mkdir()
    files = {}
    warnings.simplefilter("ignore")
    for number, source in enumerate(sorted((folder / "raw/test").iterdir())):
        dataset = pydicom.dcmread(source)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.StudyInstanceUID = uid_of("study", str(number))
        dataset.SeriesInstanceUID = uid_of("series", str(number))
        dataset.PatientName, dataset.PatientID = f"Surname{number}^Given", f"PATIENT{number}"
        # Values that libraries complain about in their own lines, with the value.
        dataset.PatientBirthDate, dataset.PatientSex = "19600230", "PATIENTSEX"
        dataset.AccessionNumber, dataset.Modality = f"ACCESSION{number}", "DX"
        path = folder / f"sent/{number}.dcm"
        dataset.save_as(path)
        files[str(dataset.SOPInstanceUID)] = path
    return files


class Service:
    """``vindr-det listen`` in a process of its own, started again after each kill.

    Args:
        folder: of its state and its log.
        destination: of the answers.
        stow: whether that is a DICOMweb server.

    Attributes:
        port: that it listens at.
        memory: the most bytes that its process was seen to hold.
        failure: why a study could not be sent; empty while all can.
    """

    def __init__(self, folder: Path, destination: str, stow: bool) -> None:
        self.port, self.memory, self.failure = free_port(), 0, ""
        self.state, self.log = folder / "state", folder / "service.log"
        self._command = [sys.executable, "-m", "vindr_det", "listen", "--bundle", "phantom", "--port",
                         str(self.port), "--state", str(self.state), "--score", "0.2",
                         "--stow" if stow else "--send", destination]

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self.log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_for(self._listens, 300)

    def _listens(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(self.log.read_text())
        with socket.socket() as peer:
            return peer.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def done(self) -> int:
        """Answers that it has sent.

        Raises:
            RuntimeError: a study could not be sent to it.
        """
        if self.failure:
            raise RuntimeError(self.failure)
        self._measure()
        return len(list((self.state / "done").glob("*")))

    def _measure(self) -> None:
        if self._process.poll() is None:
            self.memory = max(self.memory, psutil.Process(self._process.pid).memory_info().rss)

    def kill_between(self, moments: Sequence[tuple[float, float]], studies: int) -> list[int]:
        """Kill it at each moment and start it again; returns how many answers it had sent at each."""
        counts = []
        for share, seconds in moments:
            wait_for(lambda share=share: self.done >= share * studies, 3600)
            time.sleep(seconds)
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            counts.append(self.done)
            self.start()
        return counts

    def wait_until_done(self, studies: int) -> None:
        """Wait until it has answered all."""
        wait_for(lambda: self.done >= studies and not any((self.state / "answers").iterdir()), 3600)

    def stop(self) -> int:
        """End it by SIGTERM; returns its exit status."""
        self._process.terminate()
        return self._process.wait(120)


def send_until_taken(images: Mapping[str, Path], service: Service, offers: Counter[str]) -> None:
    """Send each file until its store is acknowledged, as a modality does; kills fall between them so."""
    for number, (uid, path) in enumerate(images.items()):
        wait_for(lambda number=number: len(list((service.state / "done").glob("*"))) + _AHEAD > number, 3600)
        while True:
            offers[uid] += 1
            syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
            lossless = ["-xv"] if syntax == JPEG2000Lossless else []
            sent = subprocess.run([program("storescu"), *lossless, "-aec", "VINDR_DET", "127.0.0.1",
                                   str(service.port), path], capture_output=True)
            if sent.returncode == 0:
                break
            if offers[uid] > _MOST_OFFERS:
                service.failure = sent.stderr.decode(errors="replace")
                return
            time.sleep(0.5)


def wrong_answers(server: str, images: Mapping[str, Path]) -> list[str]:
    """What is wrong with the answers that a server holds."""
    of_kind: dict[str, Counter[str]] = {}
    for instance in json.load(urlopen(f"{server}/instances")):
        dataset = pydicom.dcmread(BytesIO(urlopen(f"{server}/instances/{instance}/file").read()))
        of_kind.setdefault(dataset.Modality, Counter()).update([original_of(dataset)])
    wrong = []
    for kind in ("SR", "OT", "PR"):
        counts = of_kind.get(kind, Counter())
        lost = [] if kind == "PR" else [uid for uid in images if not counts[uid]]
        more = [uid for uid in counts if counts[uid] > 1 or uid not in images]
        wrong += [f"{kind}: {len(lost)} images without"] * bool(lost)
        wrong += [f"{kind}: {len(more)} images with several"] * bool(more)
        print(f"{kind}: {sum(counts.values())} objects of {len(counts)} images")
    return wrong


def original_of(dataset: pydicom.Dataset) -> str:
    """The image that an answer refers to."""
    if dataset.Modality == "SR":
        evidence = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
        return str(evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
    if dataset.Modality == "PR":
        return str(dataset.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID)
    return str(dataset.SourceImageSequence[0].ReferencedSOPInstanceUID)


def identifiers(folder: Path, images: Mapping[str, Path]) -> list[str]:
    """What identifies a patient or an image in the service's log or its files' names."""
    names = "\n".join(path.name for path in (folder / "state").rglob("*"))
    text = (folder / "service.log").read_text() + names
    secrets = ["Surname", "PATIENT", "ACCESSION", "^Given", "2.25.", *images]
    return [f"{secret!r} in the log or a name" for secret in secrets if secret in text]


if __name__ == "__main__":
    cli.run(lambda argv: main())

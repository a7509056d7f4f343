"""Load on ``vindr-det serve``: clients that upload one image after the other, and others that misbehave.

    python benchmarks/serve_load.py                                 # 16 clients for 60 s, then 2,000 requests
    python benchmarks/serve_load.py --image x.dicom --clients 4 --seconds 10 --requests 100

Prints requests, errors, the median and the 99th percentile of the seconds per answer, and the memory of the
service's processes (PSS where the system tells it, else RSS) before and after. Meanwhile a client sends
uploads that are cut short, larger than the limit, and slower than it. The service runs in a process of its
own, on a free port, with the bundle that ships.
"""

import argparse
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import psutil

from vindr_det import cli

ROOT = Path(__file__).resolve().parent.parent
#: MiB and seconds that the service takes.
LIMIT_MIB, LIMIT_SECONDS = 16, 3
_HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
_KIND = {"Content-Type": "multipart/form-data; boundary=x"}


class Answer(NamedTuple):
    """What became of a request: its status, 0 for none, and the seconds that it took."""

    status: int
    seconds: float


def upload(port: int, content: bytes, path: str = "/predict") -> Answer:
    """Upload an image."""
    began = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request("POST", path, _HEAD + content + b"\r\n--x--\r\n", _KIND)
        answer = connection.getresponse()
        answer.read()
        return Answer(answer.status, time.perf_counter() - began)
    except (OSError, HTTPException):
        return Answer(0, time.perf_counter() - began)
    finally:
        connection.close()


def broken(port: int) -> None:
    """Begin an upload and leave."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"
                           b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + _HEAD)


def slow(port: int) -> int:
    """Begin an upload, send no more, and wait for the status."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"
                           b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + _HEAD)
        return int((connection.recv(64).split() or [0, 0])[1])


def clients(
    port: int, content: bytes, count: int, seconds: float = 1e9, requests: int = 10**9
) -> list[Answer]:
    """Uploads of several clients, each after its last answer, until the time or the number is reached."""
    answers: list[Answer] = []
    end = time.monotonic() + seconds

    def work() -> None:
        while time.monotonic() < end and len(answers) < requests:
            answers.append(upload(port, content))

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def misbehave(port: int, ended: threading.Event, seen: Counter) -> None:
    """Broken, oversized and slow uploads in turn, until ended; counts the answers."""
    while not ended.is_set():
        broken(port)
        seen["broken", "-"] += 1
        seen["oversized", upload(port, bytes(LIMIT_MIB * 2**20)).status] += 1
        seen["slow", slow(port)] += 1


def memory(process: psutil.Process) -> float:
    """MiB of a process and its children."""
    total = 0
    for member in [process, *process.children(recursive=True)]:
        try:
            full = member.memory_full_info()
            total += getattr(full, "pss", full.rss)
        except psutil.Error:  # it ended meanwhile
            continue
    return total / 2**20


def line_of(answers: list[Answer], seconds: float) -> str:
    """Requests, errors and times as a row of a table."""
    good = np.array([answer.seconds for answer in answers if answer.status == 200] or [np.nan])
    counts = Counter(answer.status for answer in answers)
    errors = {status: count for status, count in counts.items() if status != 200}
    return (f"| {len(answers)} | {errors or 0} | {len(good) / seconds:.1f} | {np.percentile(good, 50):.2f} | "
            f"{np.percentile(good, 99):.2f} |")


def default_image(folder: Path) -> Path:
    """A phantom as DICOM, 1024 pixels wide."""
    from vindr_det.phantom import make_dataset

    make_dataset(folder, 1, 1, 1024, seed=0, workers=1)
    return next((folder / "test").iterdir())


def main() -> None:
    """Run the load and print its table."""
    parser = cli.parser(__doc__)
    parser.add_argument("--image", type=Path, help="a phantom of 1024 pixels if not given")
    parser.add_argument("--clients", type=int, default=16, help="that upload at a time")
    parser.add_argument("--seconds", type=float, default=60, help="of the first part")
    parser.add_argument("--requests", type=int, default=2000, help="between the two figures of memory")
    args = parser.parse_args()
    command = [sys.executable, str(ROOT / "tools/serve.py"), "--bundle", "phantom", "--port", "0",
               "--max-upload", str(LIMIT_MIB), "--upload-seconds", str(LIMIT_SECONDS), "--queue", "64"]
    with TemporaryDirectory() as folder, subprocess.Popen(command, stdout=subprocess.PIPE,
                                                          text=True) as service:
        content = (args.image or default_image(Path(folder))).read_bytes()
        assert service.stdout is not None
        port = int(service.stdout.readline().rpartition(":")[2])
        try:
            report(psutil.Process(service.pid), port, content, args)
        finally:
            service.send_signal(signal.SIGTERM)


def report(service: psutil.Process, port: int, content: bytes, args: argparse.Namespace) -> None:
    """Print what happens under load."""
    clients(port, content, args.clients, requests=4 * args.clients)  # until all its threads have begun
    before, seen, ended = memory(service), Counter(), threading.Event()
    rude = threading.Thread(target=misbehave, args=(port, ended, seen))
    rude.start()
    began = time.monotonic()
    answers = clients(port, content, args.clients, args.seconds)
    seconds = time.monotonic() - began
    ended.set()
    rude.join()
    print("| requests | errors | per second | p50 s | p99 s |\n|---|---|---|---|---|")
    print(line_of(answers, seconds))
    print("others:", ", ".join(f"{count} {kind} ({status})" for (kind, status), count in sorted(
        seen.items(), key=str)))
    left = max(0, args.requests - len(answers))
    clients(port, content, args.clients, requests=left)
    print(f"memory: {before:.0f} MiB before, {memory(service):.0f} MiB after "
          f"{max(len(answers), args.requests):,} requests")


if __name__ == "__main__":
    main()

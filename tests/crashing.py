"""Functions that worker processes run, in a module that they can import."""

import os
import signal
import time
from pathlib import Path


class Name(str):
    """Text that a weak reference can be made to."""


def crash_on_b(name: str) -> str:
    """Upper case; "b" takes the process down as a crashing decoder would."""
    if name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return name.upper()


def sleep_a_little(name: str) -> str:
    """Upper case, after so long that a run can be disturbed meanwhile."""
    time.sleep(0.1)
    return name.upper()


def hang(name: str) -> str:
    """A decoder that never ends; the alarm of its process is brought forward."""
    signal.alarm(1)
    while True:
        signal.pause()


def never_end(name: str) -> str:
    """A decoder that never ends, which notes its beginnings in the file of that name."""
    with Path(name).open("a") as notes:
        notes.write("began ")
    while True:
        signal.pause()


def raise_by_name(name: str) -> str:
    """Raise what decoders, disks and operating systems do."""
    import cv2

    from vindr_det.exceptions import InputError

    if name == "cv2":
        cv2.resize(None, (0, 0))
    if name == "unicode":
        "\udce9".encode()
    errors = {"memory": MemoryError("for a test"), "input": InputError("x.png: one line"),
              "permission": PermissionError(13, "Permission denied", str(Path("x.png")))}
    if name in errors:
        raise errors[name]
    return name

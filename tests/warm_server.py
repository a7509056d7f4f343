"""Starts scripts in processes that have the large libraries imported, which takes a new Python seconds.

Reads a JSON object per line from standard input: ``script``, ``arguments``, ``folder``, ``out`` and
``errors`` (files), ``environment``, ``session`` (whether the process leads a session of its own). Writes a
JSON list per line: ``["began", pid]`` after each, and ``["ended", pid, status]`` once the process has ended.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import sys
import threading
import traceback
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "lightning.pytorch", "timm", "albumentations", "pandas",
             "pycocotools.mask", "scipy.stats", "sklearn.metrics", "matplotlib.figure", "detectron2.engine")


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    for library in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    gc.freeze()  # what is imported stays in memory that the processes share
    if request := _serve(requests, replies):
        requests.close()
        replies.close()
        _become(**request)


def _serve(requests, replies) -> dict | None:
    """Fork for each request until standard input ends; returns the request in the new process."""
    running = 0
    while True:
        if select.select([requests], [], [], 0.01 if running else None)[0]:
            line = requests.readline()
            if not line:
                return None
            pid = os.fork()
            if not pid:
                return json.loads(line)
            running += 1
            print(json.dumps(["began", pid]), file=replies)
        while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            running -= 1
            print(json.dumps(["ended", ended[0], os.waitstatus_to_exitcode(ended[1])]), file=replies)


def _become(script, arguments, folder, out, errors, environment, session) -> None:
    if session:
        os.setsid()
    for number, path in enumerate((os.devnull, out, errors)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [script, *arguments]
    sys.path[0] = str(Path(script).parent)
    status = _status_of(script)
    threading._shutdown()  # waits for the threads, as an interpreter that ends
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # to free the libraries' objects one by one would take seconds


def _status_of(script: str) -> int:
    """The exit status of a script, as of an interpreter that runs it."""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    main()

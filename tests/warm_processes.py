"""Scripts as processes of :mod:`warm_server`: like subprocess.run and Popen, seconds earlier.

Where a process that has imported torch cannot be forked safely (macOS, Windows) they are started as usual.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path


class Server:
    """A process of ``warm_server.py``."""

    def __init__(self) -> None:
        self._files = tempfile.TemporaryDirectory()
        self._began, self._ended = [], {}
        self._news = threading.Condition()
        self._count, self._server = 0, None
        if sys.platform.startswith("linux"):
            script = Path(__file__).with_name("warm_server.py")
            self._server = subprocess.Popen([sys.executable, script], text=True, bufsize=1,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """End the server, which has no processes left."""
        if self._server is not None:
            self._server.stdin.close()
            self._server.wait()
        self._files.cleanup()

    def start(self, command: Sequence[object], folder: Path | None = None, environment=None,
              session: bool = False) -> "Process | subprocess.Popen":
        """Begin ``[script, *arguments]``; both streams' texts are in its files ``out`` and ``errors``."""
        self._count += 1
        out, errors = (Path(self._files.name) / f"{self._count}.{kind}" for kind in ("out", "errors"))
        script, *arguments = map(str, command)
        if self._server is None:
            run = subprocess.Popen([sys.executable, script, *arguments], cwd=folder, env=environment,
                                   start_new_session=session, stdout=out.open("w"), stderr=errors.open("w"))
            run.out, run.errors = out, errors
            return run
        request = {"script": script, "arguments": arguments, "folder": str(folder or Path.cwd()),
                   "out": str(out), "errors": str(errors), "session": session,
                   "environment": dict(environment or os.environ)}
        with self._news:
            print(json.dumps(request), file=self._server.stdin)
            self._news.wait_for(lambda: self._began or self._server.poll() is not None)
            return Process(self, self._began.pop(), [script, *arguments], out, errors)

    def run(self, command: Sequence[object], folder: Path | None = None, environment=None,
            timeout: float = 280) -> subprocess.CompletedProcess:
        """As subprocess.run with captured text."""
        process = self.start(command, folder, environment)
        status = process.wait(timeout)
        texts = process.out.read_text(), process.errors.read_text()
        return subprocess.CompletedProcess(process.args, status, *texts)

    def status(self, pid: int, timeout: float | None) -> int | None:
        """The exit status of a process; None if it goes on for longer than ``timeout`` seconds."""
        with self._news:
            self._news.wait_for(lambda: pid in self._ended, timeout)
            return self._ended.get(pid)

    def _listen(self) -> None:
        for line in self._server.stdout:
            kind, pid, *status = json.loads(line)
            with self._news:
                if kind == "began":
                    self._began.append(pid)
                else:
                    self._ended[pid] = status[0]
                self._news.notify_all()


class Process:
    """As subprocess.Popen, with the text of both streams in files."""

    def __init__(self, server: Server, pid: int, args: list[str], out: Path, errors: Path) -> None:
        self.pid, self.args, self.out, self.errors = pid, args, out, errors
        self._server = server

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self._server.status(self.pid, 0)

    def wait(self, timeout: float = 280) -> int:
        """The exit status.

        Raises:
            TimeoutExpired: it goes on; it is killed.
        """
        status = self._server.status(self.pid, timeout)
        if status is None:
            self.send_signal(9)
            raise subprocess.TimeoutExpired(self.args, timeout, self.out.read_text(), self.errors.read_text())
        return status

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(9)

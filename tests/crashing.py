"""Work for worker processes, which must be able to import it."""

import os
import signal


def crash_on_b(name: str) -> str:
    """Upper case; "b" takes the process down as a decoder's fault would."""
    if name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return name.upper()

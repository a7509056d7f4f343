"""The exceptions that users see as a single line: the input is wrong, and where."""

import errno
from collections.abc import Mapping, Sequence

#: Errors of a disk or a folder, which are no bugs of the program.
PLACE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM,
                errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EIO)


class InputError(ValueError):
    """Bad input in one line: the file, the row or key, the value, what was expected.

    The tools print it without a traceback and exit 2; see ``vindr_det.cli``.
    """

    def __init__(self, text: str) -> None:
        # A data loader raises the error of its worker again, with the worker's traceback before the text.
        name = f"{InputError.__module__}.{InputError.__name__}: "
        super().__init__(text.rpartition(name)[2].strip())


class UsageError(InputError):
    """Options that a command does not take.

    Args:
        text: what is wrong with them.
        command: as its parser calls it.
    """

    def __init__(self, text: str, command: str = "") -> None:
        super().__init__(text)
        self.command = command


def one_line(error: BaseException) -> str:
    """The message of a library's exception, without line breaks."""
    return " ".join(str(error).split())


class DivergedError(InputError):
    """A loss that is not finite: the iteration, the images, the losses, and what to try."""

    def __init__(self, iteration: int, image_ids: Sequence[str], losses: Mapping[str, float]) -> None:
        values = ", ".join(f"{key} {value:.4g}" for key, value in losses.items()) or "in the proposals"
        super().__init__(
            f"loss is not finite at iteration {iteration} on images {', '.join(image_ids)} ({values}); "
            "look at these images, lower the learning rate or, in a detector, set SOLVER.CLIP_GRADIENTS")

"""Limits on numbers: pixels of an image, checked before memory is taken for it; sides; seeds; replicates."""

from pathlib import Path

from vindr_det.exceptions import InputError

#: Pixels of the largest image that is read. A 43 x 43 cm detector of 100 µm has 18.5 million, a
#: 35 x 43 cm film scanned at 50 µm 60 million, VinBigData's largest image 11.3 million.
MAX_PIXELS = 100_000_000
#: No height or width in a table is larger; what fits 32 bits.
LARGEST_SIDE = 2**31 - 1
#: Fewer bootstrap replicates do not show a spread.
MIN_REPLICATES = 10
#: The limit of scikit-learn's and numpy's older generators.
LARGEST_SEED = 2**32 - 1
# Bytes of tags, tables and a preview beside the pixels.
_EXTRA_BYTES = 2**24


def require_limit(max_pixels: int) -> None:
    """Check ``--max-pixels``.

    Raises:
        InputError: it is below 1.
    """
    if max_pixels < 1:
        raise InputError(f"--max-pixels {max_pixels}: expected at least 1")


def require_size(path: str | Path, height: int, width: int, max_pixels: int) -> None:
    """Refuse an image of more than ``max_pixels`` pixels.

    Raises:
        InputError: it has more than that.
    """
    if height * width > max_pixels:
        raise InputError(f"{path}: {height} rows and {width} columns are {height * width:,} pixels, "
                         f"expected at most {max_pixels:,} (--max-pixels raises it)")


def require_bytes(path: str | Path, stored: int, decoded: int) -> None:
    """Refuse more data than any coding of ``decoded`` bytes needs.

    No coding of DICOM, PNG or JPEG doubles what it codes.

    Raises:
        InputError: ``stored`` is over twice as much.
    """
    if stored > byte_limit(decoded):
        raise InputError(f"{path}: {stored:,} bytes of pixel data, expected about {decoded:,} by its "
                         "header")


def byte_limit(decoded: int) -> int:
    """The most bytes that a file of ``decoded`` bytes of pixels is read for."""
    return 2 * decoded + _EXTRA_BYTES


def require_seed(seed: int) -> int:
    """The seed, checked.

    Raises:
        InputError: it is not a whole number of 32 bits.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"--seed {seed}: expected a whole number from 0 to {LARGEST_SEED}")
    return seed


def require_replicates(count: int, none: bool = False) -> int:
    """The number of bootstrap replicates, checked.

    Args:
        count: of ``--bootstrap``.
        none: whether 0 (no intervals) is allowed too.

    Raises:
        InputError: too few for an interval.
    """
    if count < MIN_REPLICATES and not (none and count == 0):
        raise InputError(f"--bootstrap {count}: expected {'0, or ' if none else ''}at least "
                         f"{MIN_REPLICATES} replicates")
    return count

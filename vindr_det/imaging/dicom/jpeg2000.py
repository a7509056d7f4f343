"""JPEG 2000 at reduced resolution: a quarter of the pixels costs about a quarter of the time.

The low-pass samples of a wavelet level are not the averages of its blocks of pixels: a sample is located at
the first pixel of its block (T.800 annex F), half a block before the block's center, and the last block may
extend beyond the image. So the wanted picture is not resized from them as if they were pixels: each of its
pixels is the average, over its own cell of the original, of a curve through the samples, in a single step
without blur.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from scipy.sparse import csr_array

from vindr_det.imaging.dicom.stream import StreamHeader

#: A reduced image is at least so many times the target. From here on a picture holds .9 to 1.1 of the
#: fine detail that an average over the whole image has (benchmarks/sharpness.py). At 1.0 times it
#: would be .75, since that average then leaks nothing between neighbors; and the more often the sides
#: were halved, the farther a picture of little more than the target's size is from that average.
_MARGIN = {1: 1.05, 2: 1.35, 3: 1.35}
#: Smaller images (longest side) are quick to decode whole, and their finest detail is anatomy.
_SMALLEST = 1000
# Slope of the cubic through the samples (Keys, IEEE TASSP 29, 1981): the pictures of real images are
# as sharp as with whole decoding, neither less (-.2) nor more (-.5).
_SLOPE = -0.35


def choose_reduction(stream: StreamHeader, shape: tuple[int, int]) -> int:
    """How often the sides can be halved and still give an image of ``shape`` (height, width).

    Returns:
        0 to 3; 0 where the stream is small, holds no levels of the 5/3 wavelet or is not one channel
        of unsigned samples.
    """
    gray = stream.components == 1 and stream.signed is False and 8 <= stream.precision <= 16
    if not gray or not stream.reversible or max(stream.height, stream.width) < _SMALLEST:
        return 0
    for times in sorted(_MARGIN, reverse=True):
        sides = (-(-stream.height // 2**times), -(-stream.width // 2**times))
        if times <= stream.levels and all(
            side >= _MARGIN[times] * wanted for side, wanted in zip(sides, shape, strict=True)
        ):
            return times
    return 0


def low_pass(data: bytes, stream: StreamHeader, times: int) -> NDArray:
    """The decoder's own image at ``times`` halvings, unsigned samples as they are stored.

    Raises:
        OSError, ValueError, SyntaxError: the stream is damaged, or holds fewer levels somewhere.
    """
    image = _RoundedUp(io.BytesIO(data))
    image.reduce = times
    samples = np.asarray(image)
    if samples.dtype != np.uint8:
        # Pillow fills 16 bits from the top, whatever the stream's precision.
        samples = samples.astype(np.uint16, copy=False) >> (16 - stream.precision)
    return samples


class _RoundedUp(Jpeg2KImageFile):
    """Pillow's reader with the size that the standard gives to a reduced image.

    T.800 equation B-15 rounds the sides up, Pillow to the nearest, and then refuses what the
    decoder delivers.
    """

    def load(self):
        if self.tile and self._reduce:
            step = 2**self._reduce
            self._size = tuple(-(-side // step) * step for side in self._size)
        return super().load()


def cell_averages(
    samples: NDArray, stream: StreamHeader, times: int, shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Averages over ``shape`` (rows, columns) equal cells that cover the original exactly.

    Args:
        samples: (ceil(H / 2 ** times), ceil(W / 2 ** times)) of :func:`low_pass`.
        stream: the original's header.
        times: how often its sides were halved.
        shape: of the result.
    """
    rows = _weights(stream.height, shape[0], samples.shape[0], times)
    columns = _weights(stream.width, shape[1], samples.shape[1], times)
    return np.ascontiguousarray((columns @ (rows @ samples.astype(np.float32)).T).T)


def _weights(pixels: int, cells: int, samples: int, times: int) -> csr_array:
    """(cells, samples) weights of each sample in each cell's average, along one side.

    Sample n is located at n * 2 ** times + 1/2 pixels.
    """
    edges = (np.linspace(0, pixels, cells + 1) - 0.5) / 2**times
    width = edges[1] - edges[0]
    taps = int(np.ceil(width)) + 4
    reached = np.floor(edges[:-1]).astype(np.int64)[:, None] + np.arange(taps) - 1
    weights = (_integral(edges[1:, None] - reached) - _integral(edges[:-1, None] - reached)) / width
    column = np.clip(reached, 0, samples - 1)  # the border sample is repeated
    starts = np.arange(0, column.size + 1, taps)
    return csr_array((weights.ravel().astype(np.float32), column.ravel(), starts),
                     shape=(cells, samples))


def _integral(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of Keys' cubic kernel, from 0 to ``x``."""
    a, size = _SLOPE, np.minimum(np.abs(x), 2)
    near = np.minimum(size, 1)
    far = np.maximum(size, 1)
    inner = (a + 2) * near**4 / 4 - (a + 3) * near**3 / 3 + near
    outer = a * (far**4 / 4 - 5 * far**3 / 3 + 4 * far**2 - 4 * far + 17 / 12)
    return np.sign(x) * (inner + outer)

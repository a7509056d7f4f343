"""JPEG 2000 at reduced resolution: a quarter of the pixels costs about a quarter of the time.

The low-pass image of a wavelet level is not yet the average of its blocks of pixels: its samples
stand on the first pixel of each block (T.800 annex F), half a block before the block's middle, and
the last block may reach over the image's end. Taken as they are, every edge would lie up to four
pixels of the original from where it is in an image that was decoded whole. So they are read at the
middles of equal cells that cover the image exactly.
"""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

from vindr_det.dicom.stream import StreamHeader

#: A reduced image is at least so many times the target. Further reductions have lost more of what
#: an average over few of their pixels needs: at 1.3 times, one pixel in 1,000 was 13 grays off.
_MARGIN = {1: 1.0, 2: 1.35, 3: 1.35}
#: Smaller images (longest side) are quick to decode whole, and their finest detail is anatomy.
_SMALLEST = 1000


def choose_reduction(stream: StreamHeader, shape: tuple[int, int]) -> int:
    """How often the sides can be halved and still give an image of ``shape`` (height, width).

    Returns:
        0 to 3; 0 where the stream is small, holds no levels or is not one channel of unsigned
        samples.
    """
    gray = stream.components == 1 and stream.signed is False and 8 <= stream.precision <= 16
    if not gray or max(stream.height, stream.width) < _SMALLEST:
        return 0
    for times in sorted(_MARGIN, reverse=True):
        sides = (-(-stream.height // 2**times), -(-stream.width // 2**times))
        if times <= stream.levels and all(
            side >= _MARGIN[times] * wanted for side, wanted in zip(sides, shape, strict=True)
        ):
            return times
    return 0


def decode_reduced(data: bytes, stream: StreamHeader, times: int) -> NDArray[np.float32]:
    """Averages over equal cells of about ``2 ** times`` pixels a side.

    Returns:
        (ceil(H / 2 ** times), ceil(W / 2 ** times)) that cover the original exactly.

    Raises:
        OSError, ValueError, SyntaxError: the stream is damaged, or holds fewer levels somewhere.
    """
    return _cell_averages(low_pass(data, stream, times), stream, times)


def low_pass(data: bytes, stream: StreamHeader, times: int) -> NDArray:
    """The decoder's own image at ``times`` halvings, unsigned samples as they are stored."""
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


def _cell_averages(samples: NDArray, stream: StreamHeader, times: int) -> NDArray[np.float32]:
    """Averages over as many equal cells as there are samples, by linear interpolation.

    Sample n stands at n * 2 ** times + 1/2 pixels, the middle of cell m of N at (m + 1/2) H / N.
    """
    rows, columns = samples.shape
    mapping = np.zeros((2, 3))
    for axis, (cells, pixels) in enumerate(((columns, stream.width), (rows, stream.height))):
        mapping[axis, axis] = pixels / cells / 2**times
        mapping[axis, 2] = (pixels / cells / 2 - 0.5) / 2**times
    return cv2.warpAffine(samples.astype(np.float32), mapping, (columns, rows),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)

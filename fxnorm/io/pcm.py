"""Samples of uncompressed files, from their bytes.

libsndfile reads a file some KB at a time and a sample at a time, which takes four times as long as what is here, and
calls Python back for each piece of a file that is not on the disk.
"""

import numpy as np

WIDTHS = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}
"""Bytes of a sample by soundfile's name of its format: those of which :func:`decode` knows the samples."""


def decode(content: bytes, subtype: str) -> np.ndarray:
    """Little-endian samples as float32 with full scale 1, as soundfile reads them, bit for bit.

    Args:
        content: of whole samples.
        subtype: a key of :data:`WIDTHS`.
    """
    if subtype == "FLOAT":
        return np.frombuffer(content, "<f4").astype(np.float32, copy=False)
    if subtype == "PCM_16":
        return np.frombuffer(content, "<i2").astype(np.float32) * np.float32(2**-15)
    integers = np.empty(len(content) // 3, "<i4")
    if integers.size:
        # each sample with the first byte of the next, which the shift pushes out; behind the last there is none
        fours = np.ndarray((integers.size - 1,), "<i4", buffer=content, strides=(3,))
        np.left_shift(fours, 8, out=integers[:-1])
        integers[-1] = int.from_bytes(content[-3:], "little", signed=True) << 8
    scaled = np.empty(integers.size, np.float32)
    # exact: a sample has no more digits than a float's
    return np.multiply(integers, np.float32(2**-31), out=scaled, dtype=np.float32, casting="same_kind")

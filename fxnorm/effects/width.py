"""How wide a stereo recording is, and to which side it leans."""

import math

import numpy as np

from fxnorm.runtime.compiled import kernel


def side_to_middle_db(audio: np.ndarray) -> float:
    """Energy of the side over that of the middle of ``audio`` (2, samples), in dB; NaN where one of them is silent."""
    _, _, middle, side = _energies(audio)
    return 10 * math.log10(side / middle) if middle > 0 and side > 0 else math.nan


def right_to_left_db(audio: np.ndarray) -> float:
    """Energy of the right channel over that of the left of ``audio`` (2, samples), in dB; NaN where one is silent."""
    left, right, _, _ = _energies(audio)
    return 10 * math.log10(right / left) if left > 0 and right > 0 else math.nan


def _energies(audio: np.ndarray) -> tuple[float, float, float, float]:
    left, right, middle, side = _sums_of_squares(np.ascontiguousarray(audio, dtype=np.float32))
    return left, right, middle, side


@kernel(fastmath=True, error_model="numpy")
def _sums_of_squares(audio: np.ndarray) -> tuple[float, float, float, float]:
    left = right = middle = side = 0.0
    for n in range(audio.shape[1]):
        a, b = np.float64(audio[0, n]), np.float64(audio[1, n])
        left += a * a
        right += b * b
        middle += (a + b) * (a + b) / 4
        side += (a - b) * (a - b) / 4
    return left, right, middle, side

"""Second-order filter sections, after R. Bristow-Johnson's "Cookbook formulae for audio EQ biquad filters"."""

from typing import Literal

import numpy as np

from fxnorm.constants import SAMPLE_RATE

Response = Literal["low_shelf", "high_shelf", "high_pass"]


def biquad(kind: Response, frequency: float, *, gain_db: float = 0.0, quality: float) -> np.ndarray:
    """One section at 44.1 kHz as scipy's ``sosfilt`` takes it: b0, b1, b2, 1, a1, a2.

    Args:
        kind: the response; a shelf's ``frequency`` is where half its gain in decibels is reached.
        frequency: Hz.
        gain_db: gain of the shelf in dB.
        quality: Q.
    """
    angle = 2 * np.pi * frequency / SAMPLE_RATE
    cosine, alpha = np.cos(angle), np.sin(angle) / (2 * quality)
    if kind == "high_pass":
        numerator = np.array([1 + cosine, -2 * (1 + cosine), 1 + cosine]) / 2
        denominator = np.array([1 + alpha, -2 * cosine, 1 - alpha])
    else:
        # the high shelf is the low shelf mirrored in frequency
        side = 1.0 if kind == "low_shelf" else -1.0
        root = 10 ** (gain_db / 40)
        slope = 2 * np.sqrt(root) * alpha
        above, below = root + 1, root - 1
        numerator = root * np.array(
            [
                above - side * below * cosine + slope,
                2 * side * (below - side * above * cosine),
                above - side * below * cosine - slope,
            ]
        )
        denominator = np.array(
            [
                above + side * below * cosine + slope,
                -2 * side * (below + side * above * cosine),
                above + side * below * cosine - slope,
            ]
        )
    return np.concatenate([numerator, denominator]) / denominator[0]

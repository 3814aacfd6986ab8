"""What an effect did to a signal, done to other signals.

An effect takes its controls (the taps of a filter, the gain at each sample, that of each frame and bin) from a signal.
With these held, it is linear: the tracks that add up to a stem, treated with the stem's controls, add up to the treated
stem.
"""

from collections.abc import Callable

import numpy as np

Control = Callable[[np.ndarray], None]
"""Overwrites another signal, float32 (channels, samples) as long as the first one, with what the first one got."""


def gain(factor: np.float32 | float) -> Control:
    """Multiply all samples by one factor."""

    def apply(audio: np.ndarray) -> None:
        audio *= np.float32(factor)

    return apply

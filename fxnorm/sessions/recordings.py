"""The recordings of a session, wherever their audio lies; each is read when it is needed, and not kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fxnorm.data.recordings import Take
from fxnorm.io import audio


@dataclass(frozen=True)
class Recording:
    """The audio of one track.

    Attributes:
        read: gives its samples, float32 (1 or 2 channels, samples) at 44.1 kHz.
        take: gives when it was recorded.

    Both raise an AudioError that names the track where it cannot be read.
    """

    read: Callable[[], np.ndarray]
    take: Callable[[], Take]


def in_file(path: Path) -> Recording:
    """A recording in a local file of any format that is read."""
    return Recording(lambda: audio.read(path)[0], lambda: Take.of(path))


Progress = Callable[[int, int], None]
"""Called with how many recordings were read, and of how many."""

"""Where the recordings of one song begin, and on which side of a stereo pair each lies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.data.track_names import Side
from fxnorm.io import audio

AT_ONCE = "begin all at once: their time references are those of takes at different times"
SOME_AT_ONCE = "begin all at once: some have time references that differ, others have none"
BY_REFERENCE = "begin by the time references of their files"


@dataclass(frozen=True)
class Take:
    """When a recording was made.

    Attributes:
        reference: its time reference (Broadcast WAV), in samples since midnight at its own rate; None without one.
        length: gives its samples at its own rate, and that rate in Hz.
    """

    reference: int | None
    length: Callable[[], tuple[int, int]]

    @classmethod
    def of(cls, path: Path) -> "Take":
        """Of a local file.

        Raises:
            AudioError: as :func:`fxnorm.io.audio.time_reference`.
        """
        return cls(audio.time_reference(path), lambda: audio.length(path))


def starts(takes: Sequence[Take]) -> tuple[list[int], str]:
    """Where recordings of one song begin, by the time references of Broadcast WAV.

    Recorders stamp a file with the time of day. Of takes that were recorded one after the other these times say
    nothing about the song; so they count only where every recording has one and lies, by it, beside the longest one.

    Returns:
        samples at 44.1 kHz, the first of them 0, and a phrase on how they were found; the phrase is empty where there
        are no time references that differ.

    Raises:
        AudioError: the length of one cannot be told.
    """
    at_once = [0] * len(takes)
    spans: list[tuple[float, float]] = []
    for take in takes:
        if take.reference is not None:
            samples, rate = take.length()
            spans.append((take.reference / rate, (take.reference + samples) / rate))
    if len({begin for begin, _ in spans}) <= 1:
        return at_once, ""
    if len(spans) < len(takes):
        return at_once, SOME_AT_ONCE
    longest = max(spans, key=lambda span: span[1] - span[0])
    if any(end <= longest[0] or begin >= longest[1] for begin, end in spans):
        return at_once, AT_ONCE
    first = min(begin for begin, _ in spans)
    return [round((begin - first) * SAMPLE_RATE) for begin, _ in spans], BY_REFERENCE


def on_side(samples: np.ndarray, side: Side | None) -> np.ndarray:
    """Two channels with a mono recording on one side; a stereo recording, or one of no pair, comes back as it is.

    Args:
        samples: (1 or 2 channels, samples).
        side: of the recording in its stereo pair.
    """
    if side is None or len(samples) > 1:
        return samples
    both = np.zeros((audio.MAX_CHANNELS, samples.shape[1]), np.float32)
    both[0 if side == "left" else 1] = samples[0]
    return both

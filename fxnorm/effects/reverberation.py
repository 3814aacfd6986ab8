"""Reverberation: a stem sent through shelves and an impulse response, added to or mixed with the stem itself.

Training stems get more reverberation than they have, so that the network learns to take it away, and dry recordings
get some before everything else (Martínez-Ramírez et al., ISMIR 2022). The shelves before the impulse response, which
keep the lows and highs of the send down, are known as the Abbey Road trick.
"""

from dataclasses import dataclass

import numpy as np
import scipy  # its parts are loaded at their first use: signal alone takes a second

from fxnorm.effects.controls import Control
from fxnorm.effects.convolution import convolve
from fxnorm.effects.filters import Response, biquad
from fxnorm.effects.levels import checked

_SHELF_GAIN_DB = -30.0
_SHELF_QUALITY = 0.707
_FILTERED_AT_ONCE = 2**14  # samples
_AT_REST = 1e-30  # filter state that is taken for none: ringing on, it would end in denormal numbers, which are slow


@dataclass(frozen=True)
class ReverberationSettings:
    """How much of a stem is sent into an impulse response; the defaults are the published ones for training stems.

    Attributes:
        dry: gain of the stem itself.
        wet: gain of what comes back from the impulse response.
        low_shelf_frequency: Hz, under which the send is turned down by 30 dB; ``None`` is no shelf.
        high_shelf_frequency: Hz, over which the send is turned down by 30 dB; ``None`` is no shelf.
    """

    dry: float = 1.0
    wet: float = 1.0
    low_shelf_frequency: float | None = 600.0
    high_shelf_frequency: float | None = 8_500.0


PRE_REVERBERATION = ReverberationSettings(dry=0.5, wet=0.5, low_shelf_frequency=None, high_shelf_frequency=None)
"""What dry recordings get before everything else."""


def apply(
    audio: np.ndarray,
    sample_rate: int,
    impulse_response: np.ndarray,
    settings: ReverberationSettings | None = None,
    out: np.ndarray | None = None,
    controls: list[Control] | None = None,
) -> np.ndarray:
    """``audio`` (channels, samples) with the reverberation of ``impulse_response`` (1 or 2 channels, samples).

    The impulse response's peak is taken as time 0, so that the wet signal does not come late. A mono one serves all
    channels; of a stereo one mono audio takes the first channel. The tail after the end is cut off. The result is
    written to ``out``, which may be ``audio``, if given. What was done is added to ``controls``, if given.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    settings = settings or ReverberationSettings()
    audio = checked(audio, sample_rate)
    response = checked(impulse_response, sample_rate)
    start = int(np.abs(response).max(axis=0).argmax())
    reverberated = np.empty_like(audio) if out is None else out
    shelves = _shelves(settings)
    for channel, dry in enumerate(audio):
        wet = convolve(_filtered(dry, shelves), response[channel % len(response)], start)
        wet *= np.float32(settings.wet)
        np.multiply(dry, np.float32(settings.dry), out=reverberated[channel])
        reverberated[channel] += wet
        del wet  # else it would be there beside the next channel's

    def same(other: np.ndarray) -> None:
        apply(other, sample_rate, response, settings, out=other)

    if controls is not None:
        controls.append(same)
    return reverberated


def _shelves(settings: ReverberationSettings) -> np.ndarray:
    """Sections (sections, 6) of the filter before the impulse response."""
    frequencies: dict[Response, float | None] = {
        "low_shelf": settings.low_shelf_frequency,
        "high_shelf": settings.high_shelf_frequency,
    }
    sections = [
        biquad(shelf, frequency, gain_db=_SHELF_GAIN_DB, quality=_SHELF_QUALITY)
        for shelf, frequency in frequencies.items()
        if frequency is not None
    ]
    return np.reshape(sections, (-1, 6))


def _filtered(audio: np.ndarray, sections: np.ndarray) -> np.ndarray:
    """``audio`` (samples,) through ``sections``, a part at a time: scipy's filter works in double precision."""
    if len(sections) == 0:
        return audio
    filtered, state = np.empty_like(audio), np.zeros((len(sections), 2))
    for start in range(0, audio.size, _FILTERED_AT_ONCE):
        part = slice(start, start + _FILTERED_AT_ONCE)
        filtered[part], state = scipy.signal.sosfilt(sections, audio[part], zi=state)
        state[np.abs(state) < _AT_REST] = 0
    return filtered

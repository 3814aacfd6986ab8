"""The features of one stem, for every effect, in as few passes over the audio as possible."""

import numpy as np

from fxnorm.constants import MIXTURE, STEMS
from fxnorm.effects import compression, equalization, loudness, programme, spectrum
from fxnorm.effects.levels import checked, is_silent, peaks
from fxnorm.errors import SettingsError
from fxnorm.io import audio as audio_file

EFFECTS = ("equalization", "compression", "panning", "loudness")
"""The effects that are measured, in the order in which they are applied."""

SHAPES: dict[str, tuple[int, ...]] = {
    "equalization": (spectrum.BINS,),
    "compression": (2,),
    "panning": (spectrum.BINS,),
    "loudness": (),
}
"""Shape of each effect's feature."""

Features = dict[str, np.ndarray | float]
"""Features by effect."""


def measure_stem(audio: np.ndarray, sample_rate: int, stem: str, *, residue: bool = False) -> Features:
    """Features of one stem: equalization (32769,), compression (2,), panning (32769,) and loudness in LUFS.

    As the statistics are defined, mono becomes stereo by repetition and 65,536 zeros are put on both sides first. What
    cannot be measured is left out, and does not count in statistics: all features of a stem that carries no programme
    (:mod:`fxnorm.effects.programme`), and the compression of a stem with a channel without onsets. A channel without
    programme beside one that carries it counts as silence.

    Args:
        audio: float32 array (channels, samples).
        sample_rate: Hz, must be 44,100.
        stem: vocals, bass, drums or other.
        residue: measure what carries no programme as well, if its peak passes -50 dBFS and it has a loudness.

    Raises:
        AudioError: another sample rate or shape, or samples that are not finite.
        SettingsError: an unknown stem.
    """
    check_stem(stem)
    audio_file.check(audio, stem)
    audio = checked(audio, sample_rate)
    if is_silent(audio):
        return {}
    if not residue:
        carrying = programme.carried(audio, sample_rate)
        if not carrying.any():
            return {}
        audio = programme.alone(audio, carrying)
    audio = audio_file.to_stereo(audio)
    padded = np.pad(audio, ((0, 0), (spectrum.FFT_SIZE, spectrum.FFT_SIZE)))
    level = loudness.measure(padded, sample_rate)
    if not np.isfinite(level):
        return {}
    magnitude, similarity = spectrum.mean_curves(padded)
    gain = loudness.gain_to(level, equalization.REFERENCE_LOUDNESS, float(peaks(audio).max()))
    features: Features = {
        "equalization": (gain * magnitude).astype(np.float32),
        "panning": similarity.astype(np.float32),
        "loudness": level,
    }
    peak = compression.measure(padded, sample_rate)
    return features if peak is None else features | {"compression": peak}


def measure_mixture(audio: np.ndarray, sample_rate: int) -> Features:
    """The equalization (32769,) of a finished mix, as :func:`measure_stem` defines it, and its loudness in LUFS.

    Of a mix that carries no programme it is nothing; a mono one is measured as it sounds, on both sides.

    Raises:
        AudioError: another sample rate or shape, or samples that are not finite.
    """
    audio_file.check(audio, MIXTURE)
    audio = audio_file.to_stereo(checked(audio, sample_rate))
    level = loudness.measure(audio, sample_rate)
    if not programme.carried(audio, sample_rate).any() or not np.isfinite(level):
        return {}
    padded = np.pad(audio, ((0, 0), (spectrum.FFT_SIZE, spectrum.FFT_SIZE)))
    return {"equalization": equalization.measure(padded, sample_rate), "loudness": level}


def check_stem(stem: str) -> None:
    """Refuse what is no stem.

    Raises:
        SettingsError: an unknown stem.
    """
    if stem not in STEMS:
        raise SettingsError(f"stem: expected one of {', '.join(STEMS)}, found {stem}")

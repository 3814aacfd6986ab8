"""A mix as it is delivered: its level, under a true peak, at a sample rate.

A network mixes at a level of its own. A delivered mix has the loudness that was asked for, or, where none was, the
average loudness of the mixtures that the network was trained on; one gain and a limiter behind it bring it there.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from fxnorm.constants import MIXTURE, SAMPLE_RATE
from fxnorm.effects import loudness, programme
from fxnorm.effects.levels import amplitude
from fxnorm.io import audio as audio_io
from fxnorm.io.files import whole_file
from fxnorm.mixing import limiter
from fxnorm.statistics import DatasetStatistics

DEFAULT_TRUE_PEAK = -1.0
"""dBTP: what streaming services ask for (AES TD1008)."""

BITS = {".wav": ("16", "24", "32f"), ".flac": ("16", "24"), ".mp3": ()}
"""Sample formats of a delivered file, by suffix."""

_SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "32f": "FLOAT"}
_DITHER_SEED = 0


@dataclass(frozen=True)
class Delivery:
    """How a mix shall be delivered.

    Attributes:
        target_loudness: integrated loudness in LUFS (ITU-R BS.1770-4); None for the training mixtures' average.
        true_peak: the highest true peak in dBTP.
        as_is: the network's own level, with neither gain nor limiter.
        sample_rate: Hz.
    """

    target_loudness: float | None = None
    true_peak: float = DEFAULT_TRUE_PEAK
    as_is: bool = False
    sample_rate: int = SAMPLE_RATE

    def target(self, statistics: DatasetStatistics) -> float | None:
        """The loudness in LUFS that a mix is brought to; None if it keeps its own.

        Args:
            statistics: of the training songs; those of versions before, and published ones, lack the mixtures'
                loudness.
        """
        if self.as_is:
            return None
        if self.target_loudness is None and ("loudness", MIXTURE) in statistics:
            return float(statistics.mean("loudness", MIXTURE))
        return self.target_loudness


@dataclass(frozen=True)
class DeliveredMix:
    """A mix at its level.

    Attributes:
        mix: (2, samples) at 44.1 kHz.
        audio: the same at the sample rate of the delivery.
        gains: (samples,), what each sample of the network's mix was multiplied by; None where it was left alone.
        trim: what all samples were multiplied by after resampling, close to 1.
        loudness_lufs: its integrated loudness; minus infinity where it has none.
        true_peak_dbtp: its true peak.
        gain_db: the gain that all of it got, before the limiter.
        reduction_db: the most by which the limiter turned a peak down.
        remark: a sentence where the target is not reached; None otherwise.
    """

    mix: np.ndarray
    audio: np.ndarray
    gains: np.ndarray | None
    trim: float
    loudness_lufs: float
    true_peak_dbtp: float
    gain_db: float
    reduction_db: float
    remark: str | None

    def sentence(self) -> str:
        """Loudness and true peak, in a few words."""
        return f"{self.loudness_lufs:.1f} LUFS, true peak {self.true_peak_dbtp:.1f} dBTP"

    def part(self, part: np.ndarray, sample_rate: int) -> np.ndarray:
        """What a part (2, samples) of the network's mix is in the delivered one; ``part`` is at its level afterwards.

        Parts that add up to the network's mix add up to ``mix`` afterwards, and what is returned to ``audio``.

        Args:
            part: float32 at 44.1 kHz, which is overwritten.
            sample_rate: of the delivery, in Hz.
        """
        if self.gains is not None:
            part *= self.gains
        resampled = audio_io.resample(part, SAMPLE_RATE, sample_rate)
        return resampled if self.trim == 1 else resampled * np.float32(self.trim)


def deliver(
    mix: np.ndarray, delivery: Delivery, statistics: DatasetStatistics, overwrite: bool = False
) -> DeliveredMix:
    """Bring a network's mix to the level and sample rate it is delivered at.

    A mix that carries no programme (:mod:`fxnorm.effects.programme`) is not turned up.

    Args:
        mix: (2, samples) at 44.1 kHz.
        delivery: level and sample rate.
        statistics: of the training songs.
        overwrite: the result may take the place of ``mix``, which saves the memory of one.
    """
    target = delivery.target(statistics)
    level, peak = loudness.measure(mix, SAMPLE_RATE), None
    gain = reduction = 0.0
    gains = remark = None
    if target is not None:
        if np.isfinite(level) and level < target and not programme.carried(mix, SAMPLE_RATE).any():
            remark = f"not turned up to {target:.1f} LUFS, because it carries no programme"
        else:
            leveled = limiter.deliver(mix, level, target, delivery.true_peak, out=mix if overwrite else None)
            mix, gains, gain, reduction = leveled.audio, leveled.gains, leveled.gain_db, leveled.reduction_db
            level, peak = leveled.loudness_lufs, leveled.true_peak_dbtp
            if leveled.shortfall_lu:
                remark = (
                    f"{leveled.loudness_lufs:.1f} LUFS, {leveled.shortfall_lu:.1f} LU under the target of {target:.1f}:"
                    f" to stay under {delivery.true_peak:g} dBTP, the limiter would {leveled.bound}"
                )
    audio, trim = audio_io.resample(mix, SAMPLE_RATE, delivery.sample_rate), 1.0
    if peak is None or audio is not mix:
        peak = limiter.true_peak(audio)
    ceiling = delivery.true_peak - limiter.MARGIN_DB
    if gains is not None and audio is not mix and peak > ceiling:  # by the ripple of the resampling, hundredths of a dB
        trim = float(amplitude(ceiling - peak))
        audio, peak = audio * np.float32(trim), ceiling
    return DeliveredMix(mix, audio, gains, trim, level, peak, gain, reduction, remark)


def encode(mix: np.ndarray, sample_rate: int, suffix: str, bits: str | None = None) -> bytes:
    """The bytes of a delivered file.

    Integers that were asked for are dithered (triangular, one step of the format to either side): Lipshitz,
    Wannamaker and Vanderkooy, "Quantization and dither: a theoretical survey", JAES 40(5), 1992.

    Args:
        mix: (2, samples).
        sample_rate: Hz.
        suffix: ``.wav``, ``.flac`` or ``.mp3``.
        bits: one of ``BITS`` of this suffix; the default is what :func:`fxnorm.io.audio.write` takes, without dither.

    Raises:
        AudioError: as :func:`fxnorm.io.audio.write`.
    """
    if bits is None or bits == "32f":
        return audio_io.encode(mix, sample_rate, suffix, _SUBTYPES.get(bits or ""))
    steps = 2 ** (int(bits) - 1)
    generator = np.random.default_rng(_DITHER_SEED)  # the same mix gives the same bytes
    dither = generator.random(mix.shape, np.float32) - generator.random(mix.shape, np.float32)
    integers = np.clip(np.rint(mix.astype(np.float64) * steps + dither), -steps, steps - 1).astype(np.int32)
    buffer = io.BytesIO()
    container = integers.T << (32 - int(bits))  # libsndfile takes the upper bits
    soundfile.write(buffer, container, sample_rate, subtype=_SUBTYPES[bits], format=suffix[1:].upper())
    return buffer.getvalue()


def write(path: Path, mix: np.ndarray, sample_rate: int, bits: str | None = None) -> None:
    """Write a delivered file in the format that its suffix names; it appears only when it is whole.

    Args:
        path: ``.wav``, ``.flac`` or ``.mp3``.
        mix: (2, samples).
        sample_rate: Hz.
        bits: as :func:`encode` takes them.

    Raises:
        AudioError: as :func:`encode`.
        OutputError: the system refuses to write it.
    """
    content = encode(mix, sample_rate, path.suffix.lower(), bits)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)

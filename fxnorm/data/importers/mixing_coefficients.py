"""With which gains the stems of a song add up to its mixture.

MedleyDB publishes such gains (``mixing_coefficients_version2.yaml``). Its authors searched them between 0.5 and 4, and
many lie at these limits. So gains are held against the audio here: the published ones are used where they explain the
mixture nearly as well as the best ones do, else the best ones are. These also serve songs without published gains. They
are found by non-negative least squares (Lawson and Hanson, "Solving Least Squares Problems", 1974, chapter 23) of the
mixture's samples on those of the stems; where the samples do not line up, because mastering delayed the mixture, of its
energy in windows of 0.5 s on theirs.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.optimize
import soundfile
import soxr

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError, first_line

_WINDOW = 0.5  # seconds
_SAME_DB = 1.0
"""Published gains are kept if their residual is at most this much above that of the best gains …"""
_INAUDIBLE_DB = -40.0
"""… or below this."""
_LINED_UP_DB = -6.0
"""A mixture whose best sum of stems leaves more than a quarter of its energy has other samples than its stems."""
_EQUAL_DB = 0.05
"""A common gain below this is rounding of what was published."""
_DIGITS = 6
"""Of fitted gains: an error of -120 dB, and the same gains on machines that round differently."""
_LOWEST_DB = -200.0


@dataclass(frozen=True)
class Gains:
    """Gains of stems.

    Attributes:
        values: linear, in the order of the stems; 0 for one that the mixture does not contain.
        published: whether they are the published ones.
        residual_db: energy of what remains of the mixture without the weighted sum, relative to the mixture's; None
            where their samples do not line up.
    """

    values: tuple[float, ...]
    published: bool
    residual_db: float | None


@dataclass(frozen=True)
class Measured:
    """What is known of a mixture (index 0) and its n stems.

    Attributes:
        products: (1 + n, 1 + n) inner products of their samples, both channels.
        energies: (windows, 1 + n) sums of squares.
    """

    products: np.ndarray
    energies: np.ndarray


def published(coefficients: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """The gains of a song by the number of the stem, as MedleyDB's own code reads them.

    Args:
        coefficients: ``manual``, ``audio`` and ``stft`` with a gain for each number of a stem: ``manual`` is used if it
            is there and not empty, else the mean of the other two (``MultiTrack._get_mixing_coefficient``).
    """
    if manual := coefficients.get("manual"):
        return dict(manual)
    by_audio, by_stft = coefficients.get("audio") or {}, coefficients.get("stft") or {}
    return {number: (gain + by_stft[number]) / 2 for number, gain in by_audio.items() if number in by_stft}


def gains(measured: Measured, given: Sequence[float] | None) -> Gains:
    """The gains to use.

    Args:
        measured: the audio.
        given: published gains, in the order of the stems; None if there are none. They are relative to each other: a
            common gain brings their sum to the level of the mixture.
    """
    best = _by_samples(measured)
    least = residual_db(measured, best)
    if given is not None:
        values = np.array(given, dtype=np.float64)
        if least > _LINED_UP_DB:
            return Gains(tuple(given), True, None)
        common = _common_gain(measured, values)
        if common > 0 and abs(20 * np.log10(common)) > _EQUAL_DB:
            values = values * common
        residual = residual_db(measured, values)
        if residual <= max(least + _SAME_DB, _INAUDIBLE_DB):
            return Gains(_rounded(values), True, residual)
    if least > _LINED_UP_DB:
        return Gains(_rounded(_by_energies(measured)), False, None)
    return Gains(_rounded(best), False, least)


def residual_db(measured: Measured, values: np.ndarray) -> float:
    """Energy of the mixture minus the weighted sum of stems, relative to the mixture's, in dB; at least -200."""
    weights = np.concatenate(([1.0], -values))
    mixture = measured.products[0, 0]
    if mixture <= 0:
        return 0.0
    ratio = float(weights @ measured.products @ weights) / float(mixture)
    return max(_LOWEST_DB, 10 * float(np.log10(max(ratio, 1e-20))))


def measure(mixture: Path, stems: Sequence[Path]) -> Measured:
    """Read a mixture and its stems side by side, half a second at a time; where their rates differ, at 44.1 kHz.

    Raises:
        AudioError: one cannot be read, has more than two channels, or samples that are not finite.
    """
    with contextlib.ExitStack() as stack:
        sounds = [stack.enter_context(_opened(path)) for path in (mixture, *stems)]
        rates = {int(sound.samplerate) for sound in sounds}
        rate = rates.pop() if len(rates) == 1 else SAMPLE_RATE
        window = max(1, round(_WINDOW * rate))
        products = np.zeros((len(sounds), len(sounds)))
        energies = []
        for parts in itertools.zip_longest(*(_windows(sound, rate, window) for sound in sounds)):
            block = np.zeros((len(sounds), 2, window), np.float32)
            for number, samples in enumerate(parts):
                if samples is not None:
                    block[number, :, : len(samples)] = samples.T  # mono goes to both channels
            flat = block.reshape(len(sounds), -1).astype(np.float64)
            window_products = flat @ flat.T
            products += window_products
            energies.append(np.diag(window_products))
    if not np.isfinite(products).all():
        number = int(np.argmin(np.isfinite(np.diag(products))))
        raise AudioError(f"{(mixture, *stems)[number]}: holds samples that are not finite")
    return Measured(products, np.array(energies).reshape(-1, len(sounds)))


def _windows(sound: soundfile.SoundFile, rate: int, window: int) -> Iterator[np.ndarray]:
    """The samples (window, channels) of a file at ``rate``, one window after the other; the last may be shorter."""
    if sound.samplerate == rate:
        while len(samples := sound.read(window, dtype="float32", always_2d=True)):
            yield samples
        return
    resampler = soxr.ResampleStream(sound.samplerate, rate, sound.channels, dtype="float32")
    waiting = np.zeros((0, sound.channels), np.float32)
    ended = False
    while not ended:
        samples = sound.read(window, dtype="float32", always_2d=True)
        ended = not len(samples)
        waiting = np.concatenate([waiting, resampler.resample_chunk(samples, last=ended)])
        while len(waiting) >= window or (ended and len(waiting)):
            yield waiting[:window]
            waiting = waiting[window:]


def _opened(path: Path) -> soundfile.SoundFile:
    try:
        sound = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
        raise AudioError(f"{path}: not readable as audio ({first_line(error)})") from error
    if sound.channels > 2:
        sound.close()
        raise AudioError(f"{path}: expected 1 or 2 channels, found {sound.channels}")
    return sound


def _by_samples(measured: Measured) -> np.ndarray:
    """Non-negative gains that leave least of the mixture's samples; 1 for silent stems, which add nothing.

    The problem's matrix is the symmetric root of the inner products of the stems, which has their least squares but not
    their millions of rows.
    """
    products, against = measured.products[1:, 1:], measured.products[1:, 0]
    norms = np.sqrt(np.diag(products))
    audible = norms > 0
    values = np.ones(len(norms))
    if not audible.any():
        return values
    scale = norms[audible]
    eigenvalues, vectors = np.linalg.eigh(products[np.ix_(audible, audible)] / np.outer(scale, scale))
    kept = eigenvalues > eigenvalues[-1] * 1e-12  # two equal stems have a 0 among them
    roots = np.sqrt(eigenvalues[kept])
    matrix = roots[:, None] * vectors[:, kept].T
    target = (vectors[:, kept].T @ (against[audible] / scale)) / roots
    values[audible] = scipy.optimize.nnls(matrix, target)[0] / scale
    return values


def _by_energies(measured: Measured) -> np.ndarray:
    """Non-negative gains with which the stems' energies add up to the mixture's, window by window."""
    mixture, stems = measured.energies[:, 0], measured.energies[:, 1:]
    totals = stems.sum(axis=0)
    audible = totals > 0
    values = np.ones(len(totals))
    if audible.any():
        squares = scipy.optimize.nnls(stems[:, audible] / totals[audible], mixture)[0] / totals[audible]
        values[audible] = np.sqrt(squares)
    return values


def _common_gain(measured: Measured, values: np.ndarray) -> float:
    """The gain of the weighted sum that leaves least of the mixture."""
    energy = float(values @ measured.products[1:, 1:] @ values)
    return float(values @ measured.products[1:, 0]) / energy if energy > 0 else 1.0


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values)

"""Whether the stems of a song add up to its mixture, and if not, why: gains, polarity, delays, clock drift.

The mixture is taken for a sum of filtered stems. The filters that explain it best in the sense of least squares solve,
at each frequency, the normal equations of the stems' cross spectra (multiple-input identification; Bendat and Piersol,
"Random Data", 4th edition, 2010, chapter 7). The highest peak of such a filter's impulse response is where the stem
lies in the mixture, and its sign is the polarity. Whatever is concluded from it has to lower the energy that remains.

Finished records do not add up exactly: a compressor and a limiter on the mix bus change the gain all the time. So what
remains is measured a second time with a gain that is followed over time and frequency.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.fft
import scipy.ndimage

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects.spectrum import frames

EXACT_DB = -50.0
"""Residual after one gain under which nothing is looked for. Sums of 16-bit files agree to -70 dB and better."""
UNRELATED_DB = -3.0
"""Residual after the gain was followed over which two recordings have nothing in common; chance leaves -1.5 dB."""

_BLOCK = 1 << 16  # samples of which products are summed at a time
_FOLLOWED_SIZE, _FOLLOWED_HOP = 2048, 1024  # samples, 46 ms: slower than any limiter lets go
_BAND_EDGES_HZ = (0, 100, 200, 400, 800, 1600, 3200, 6400)
_FRAMES_AT_ONCE = 256
_NOTHING = 1e-9  # of the loudest stem's energy: -90 dB
_SEGMENT, _MOST_SEGMENTS, _SHARE = 53_248, 16, 6  # 1.2 s: within one, 100 ppm are 5 samples; a sixth of a short song
_SHORTEST_SEGMENT = 16_384
_FILTER = 4096  # samples; delays up to a quarter of it are seen without a coarse search
_LARGEST_DELAY = _FILTER // 4
_FINE = 4  # values of an impulse response a sample, between which a parabola finds the peak
_RIDGE = 1e-5  # of a stem's mean power, added to it: where it has nothing, no filter is sought
_PEAK, _COARSE_PEAK = 8.0, 12.0  # times the rest's root mean square; noise alone reaches 4.5 and 5.5
_AROUND_PEAK = 24  # samples on both sides that belong to it
_DECIMATION = 8  # of the coarse search
_IMPROVEMENT_DB = 0.5  # of the residual, without which nothing is reported
_PASSES, _OFF_THE_LINE = 3, 16  # each pass leaves a tenth of what the line is off by; samples from it
_FEWEST_POINTS = 3  # delays over time, for a line


@dataclass(frozen=True)
class Fault:
    """A stem, or the mixture against all stems, that is not where or how the mixture has it.

    Attributes:
        stem: its name; None for the mixture against all stems.
        inverted: whether its polarity is inverted.
        delay_samples: by how much it is later than the other side says; negative where it is earlier.
        drift_ppm: by how much its delay grows, in millionths of the time.
    """

    stem: str | None
    inverted: bool = False
    delay_samples: int = 0
    drift_ppm: float = 0.0


@dataclass(frozen=True)
class Sum:
    """Stems against their mixture.

    Attributes:
        gain_db: of the sum of the stems that comes nearest to the mixture; NaN, if that is none or negative.
        residual_db: energy of the difference after that gain, against the mixture's.
        stem_gains: factors of the stems that come nearest together, after faults were corrected.
        best_residual_db: energy of the difference after these.
        followed_residual_db: energy of the difference after the gain of their sum was followed over time and frequency.
        faults: what lowers the residual if it is corrected.
        delays: (seconds, samples) at which the mixture has each stem later than its file, for each place looked at.
    """

    gain_db: float
    residual_db: float
    stem_gains: dict[str, float]
    best_residual_db: float
    followed_residual_db: float
    faults: list[Fault] = field(default_factory=list)
    delays: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def compare(stems: dict[str, np.ndarray], mixture: np.ndarray) -> Sum | None:
    """Compare stems with their mixture.

    Args:
        stems: float32 (2, samples) by name.
        mixture: float32 (2, samples) of the same length.

    Returns:
        None where the mixture is silent or no stem sounds.
    """
    names = [name for name, audio in stems.items() if np.any(audio)]
    signals = [stems[name] for name in names]
    if not names or not np.any(mixture):
        return None
    products = _products([*signals, mixture])
    energies = np.diag(products)[:-1]
    sounding = [number for number, energy in enumerate(energies) if energy > _NOTHING * energies.max()]
    names, signals = [names[number] for number in sounding], [signals[number] for number in sounding]
    products = products[np.ix_([*sounding, -1], [*sounding, -1])]
    gain, residual = _common_gain(products)
    gains, best = _gains(products)
    gain_db = float(20 * np.log10(gain)) if gain > 0 else float("nan")
    if residual <= EXACT_DB and gain > 0:
        return Sum(gain_db, residual, dict(zip(names, map(float, gains), strict=True)), best, min(best, residual))
    places = _Places(signals, mixture)
    faults = _shifted(places, names)
    corrected = [places.moved(number) for number in range(len(names))]
    products = _products_of_parts(corrected, places.mixture_parts)
    gains, best = _gains(products)
    faults += _inverted(products, gains, names)
    followed = _followed(
        (_weighted(stem_parts, gains), part) for *stem_parts, part in zip(*corrected, places.mixture_parts, strict=True)
    )
    return Sum(
        gain_db,
        residual,
        dict(zip(names, map(float, gains), strict=True)),
        best,
        min(best, followed),
        _merged(faults, names, mixture.shape[1]),
        {
            name: [(time / SAMPLE_RATE, lag) for time, lag in found]
            for name, found in zip(names, places.found, strict=True)
        },
    )


def _products(signals: Sequence[np.ndarray]) -> np.ndarray:
    """Inner products of all pairs of signals (channels, samples): (signals, signals)."""
    total = np.zeros((len(signals), len(signals)))
    for start in range(0, signals[0].shape[1], _BLOCK):
        block = np.stack([signal[:, start : start + _BLOCK].ravel() for signal in signals]).astype(np.float64)
        total += block @ block.T
    return total


def _products_of_parts(stems: Sequence[list[np.ndarray]], mixture: list[np.ndarray]) -> np.ndarray:
    """Inner products over all parts of stems and of their mixture."""
    return np.sum([_products(part) for part in zip(*stems, mixture, strict=True)], axis=0)


def _common_gain(products: np.ndarray) -> tuple[float, float]:
    """The factor of the sum of all signals but the last that comes nearest to the last, and the residual in dB."""
    inner, energy, target = products[:-1, -1].sum(), products[:-1, :-1].sum(), products[-1, -1]
    if energy <= 0:
        return 0.0, 0.0
    gain = inner / energy
    return float(gain), _decibels((target - gain * inner) / target)


def _gains(products: np.ndarray) -> tuple[np.ndarray, float]:
    """A factor for each signal but the last that together come nearest to the last, and the residual in dB."""
    gains = np.linalg.lstsq(products[:-1, :-1], products[:-1, -1], rcond=1e-10)[0]
    return gains, _decibels((products[-1, -1] - gains @ products[:-1, -1]) / products[-1, -1])


def _weighted(signals: Sequence[np.ndarray], gains: np.ndarray) -> np.ndarray:
    """The sum of signals with gains, without a copy of them all."""
    total = np.zeros_like(signals[0])
    for signal, gain in zip(signals, gains, strict=True):
        total += np.float32(gain) * signal
    return total


def _decibels(ratio: float) -> float:
    return float(10 * np.log10(max(ratio, 1e-12)))


def _followed(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """Residual in dB of pairs of sum and mixture, with the best gain of every 46 ms and band."""
    edges = np.unique(np.array(_BAND_EDGES_HZ) * _FOLLOWED_SIZE // SAMPLE_RATE)
    left, total = 0.0, 0.0
    for summed, mixture in pairs:
        both = (frames(signal, _FOLLOWED_SIZE, _FOLLOWED_HOP, _FRAMES_AT_ONCE) for signal in (summed, mixture))
        for ours, theirs in zip(*both, strict=True):
            inner = np.add.reduceat((ours.real * theirs.real + ours.imag * theirs.imag).sum(0), edges, axis=-1)
            energy = np.add.reduceat((ours.real**2 + ours.imag**2).sum(0), edges, axis=-1)
            target = np.add.reduceat((theirs.real**2 + theirs.imag**2).sum(0), edges, axis=-1)
            explained = np.square(np.maximum(inner, 0)) / np.maximum(energy, 1e-20)
            left += float(np.maximum(target - explained, 0).sum(dtype=np.float64))
            total += float(target.sum(dtype=np.float64))
    return _decibels(left / total) if total else 0.0


class _Places:
    """Where each stem lies in the mixture, as a line: its lag at the song's start, and how that grows.

    A positive lag says that the mixture has the stem later than its file.
    """

    def __init__(self, stems: Sequence[np.ndarray], mixture: np.ndarray) -> None:
        self.stems, self.mixture = stems, mixture
        self.samples = mixture.shape[1]
        self.length = int(min(_SEGMENT, self.samples // _SHARE))
        count = min(_MOST_SEGMENTS, 2 * self.samples // self.length - 1) if self.length else 0  # short songs' overlap
        self.starts = np.linspace(0, self.samples - self.length, count).astype(int) if count else np.zeros(0, int)
        self.lags, self.slopes = np.zeros(len(stems)), np.zeros(len(stems))
        self.found: list[list[tuple[float, float]]] = [[] for _ in stems]

    @property
    def drifting(self) -> bool:
        return bool(np.any(self.slopes))

    @property
    def mixture_parts(self) -> list[np.ndarray]:
        """The mixture in one part, or in segments where a stem drifts."""
        if not self.drifting:
            return [self.mixture]
        return [self.mixture[:, start : start + self.length] for start in self.starts]

    def moved(self, number: int, still: bool = False) -> list[np.ndarray]:
        """A stem where the mixture has it, in parts as ``mixture_parts``; ``still`` leaves it where it is."""
        if not self.drifting:
            return [_cut(self.stems[number], 0 if still else -round(self.lags[number]), self.samples)]
        if still:
            return [self.stems[number][:, start : start + self.length] for start in self.starts]
        slope = self.slopes[number]
        return [
            _placed(self.stems[number], start, self.length, self.lag(number, start), slope) for start in self.starts
        ]

    def lag(self, number: int, start: int) -> float:
        """Of a segment's middle."""
        return float(self.lags[number] + self.slopes[number] * (start + self.length / 2))


def _cut(audio: np.ndarray, start: int, samples: int) -> np.ndarray:
    """Samples from ``start`` on, which may lie before the first; silence outside."""
    if start >= 0 and start + samples <= audio.shape[1]:
        return audio[:, start : start + samples]
    inside = audio[:, max(start, 0) : max(start + samples, 0)]
    before = min(max(-start, 0), samples)
    return np.pad(inside, ((0, 0), (before, samples - before - inside.shape[1])))


def _placed(audio: np.ndarray, start: int, samples: int, lag: float, slope: float) -> np.ndarray:
    """``samples`` of the mixture's time from ``start`` on, of audio that lies ``lag`` later there in their middle."""
    if not slope:
        return _cut(audio, int(start - round(lag)), samples)
    first = int(start - lag - abs(slope) * samples) - 2
    part = _cut(audio, first, samples + 2 * int(abs(slope) * samples) + 6)
    times = np.arange(samples) * (1 - slope) + (start - lag + slope * samples / 2 - first)
    # cubic: a line between two samples would take the high frequencies
    return np.stack([scipy.ndimage.map_coordinates(channel, times[np.newaxis], order=3) for channel in part])


def _shifted(places: _Places, names: list[str]) -> list[Fault]:
    """Find where the stems lie in the mixture, leave it in ``places``, and return those that should lie elsewhere."""
    if places.length < _SHORTEST_SEGMENT // 2:
        return []
    _locate(places)
    found = []
    for number in range(len(names)):
        middle = places.lag(number, (places.samples - places.length) // 2)
        growth = places.slopes[number] * places.samples
        if abs(middle) < 0.5 and abs(growth) < 1:
            places.lags[number] = places.slopes[number] = 0.0
            continue
        if not _lowers_residual(places, number):
            places.lags[number] = places.slopes[number] = 0.0
    for number, name in enumerate(names):
        if places.lags[number] or places.slopes[number]:
            at_start = places.lags[number] if places.slopes[number] else round(places.lags[number])
            found.append(Fault(name, False, -round(at_start), -1e6 * float(places.slopes[number])))
    return found


def _lowers_residual(places: _Places, number: int) -> bool:
    """Whether less remains of the mixture with a stem where it was found than with it where its file has it."""
    parts = [places.moved(other) for other in range(len(places.stems))]

    def residual() -> float:
        return _gains(_products_of_parts(parts, places.mixture_parts))[1]

    corrected = residual()
    parts[number] = places.moved(number, still=True)
    return residual() - corrected >= _IMPROVEMENT_DB


def _locate(places: _Places) -> None:
    """Set lags and slopes by following each stem from segment to segment, and again along the lines that were found."""
    lags = _coarse(places)
    lines = [(0.0, float(lag)) for lag in lags]
    for passed in range(_PASSES):
        places.found = _follow(places, lines, adapting=passed == 0)
        lines = [_fitted(points, line) for points, line in zip(places.found, lines, strict=True)]
        if not any(slope for slope, _ in lines):
            break
    for number, (slope, intercept) in enumerate(lines):
        places.slopes[number], places.lags[number] = slope, intercept if places.found[number] else 0.0


def _fitted(points: Sequence[tuple[float, float]], before: tuple[float, float]) -> tuple[float, float]:
    """Slope and intercept of the lags of a stem; the slope is 0 where they do not change for sure."""
    if not points:
        return before
    times, found = np.array(points).T
    if len(times) >= _FEWEST_POINTS:
        slope, intercept = _line(points)
        spread = np.median(np.abs(found - slope * times - intercept))
        if abs(slope) * (times[-1] - times[0]) > max(2.0, 4 * spread):
            return slope, intercept
    return 0.0, float(np.median(found))


def _follow(places: _Places, lines: Sequence[tuple[float, float]], adapting: bool) -> list[list[tuple[float, float]]]:
    """(time, lag) of each stem, both in samples, at each segment in which it is seen.

    Args:
        places: the stems and their mixture.
        lines: slope and intercept of the lags that are expected.
        adapting: whether the lags that are found replace what is expected.
    """
    count, half = len(places.stems), places.length / 2
    points: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    slopes = [slope for slope, _ in lines]
    current = [intercept for _, intercept in lines]
    for start in places.starts:
        for number in range(count):
            line = _expected(points[number], lines[number]) if adapting else lines[number]
            slopes[number], current[number] = line[0], line[1] + line[0] * (start + half)
            if abs(slopes[number]) * places.length < 1:
                slopes[number], current[number] = 0.0, round(current[number])
        mixture = places.mixture[:, start : start + places.length]
        if not np.any(mixture):
            continue
        stems = [
            _placed(stem, start, places.length, current[number], slopes[number])
            for number, stem in enumerate(places.stems)
        ]
        for number, response in enumerate(_responses(stems, mixture)):
            peak = None if response is None else _peak(response)
            if peak is not None and (adapting or abs(peak) <= _OFF_THE_LINE):
                points[number].append((start + half, current[number] + peak))
    return points


def _expected(points: Sequence[tuple[float, float]], before: tuple[float, float]) -> tuple[float, float]:
    """Slope and intercept of the lags that follow some points."""
    if len(points) >= 2:
        return _line(points)
    return (0.0, points[0][1]) if points else before


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and intercept of a line through points, of which some may be far off (Theil-Sen)."""
    times, values = np.array(points).T
    i, j = np.triu_indices(len(times), 1)
    slope = float(np.median((values[j] - values[i]) / (times[j] - times[i])))
    return slope, float(np.median(values - slope * times))


def _responses(stems: Sequence[np.ndarray], mixture: np.ndarray) -> list[np.ndarray | None]:
    """Impulse responses from stems to the mixture, circular, ``_FINE`` values a sample; None for a silent stem."""
    sounding = [number for number, stem in enumerate(stems) if np.any(stem)]
    cross: np.ndarray | None = None
    both = np.concatenate([*(stems[number] for number in sounding), mixture])
    for spectra in frames(both, _FILTER, _FILTER // 4, 64):
        # (signals, channels, frames, bins) to (bins, signals, channels and frames): channels are further observations
        shaped = spectra.reshape(-1, 2, *spectra.shape[1:]).transpose(3, 0, 1, 2)
        shaped = shaped.reshape(shaped.shape[0], shaped.shape[1], -1)
        part = shaped @ shaped.conj().transpose(0, 2, 1)
        cross = part if cross is None else cross + part
    responses: list[np.ndarray | None] = [None] * len(stems)
    if cross is None:
        return responses
    inputs = cross[:, :-1, :-1].transpose(0, 2, 1).astype(np.complex128)
    diagonal = np.arange(len(sounding))
    inputs[:, diagonal, diagonal] += _RIDGE * inputs[:, diagonal, diagonal].real.mean(axis=0) + 1e-20
    transfer = np.linalg.solve(inputs, cross[:, -1, :-1, None])[..., 0]
    for position, number in enumerate(sounding):
        responses[number] = np.fft.irfft(transfer[:, position], _FILTER * _FINE)
    return responses


def _peak(response: np.ndarray) -> float | None:
    """Where a circular impulse response is highest, in samples; None where that is not clear."""
    size = len(response)
    index = int(np.argmax(np.abs(response)))
    lag = ((index + size // 2) % size - size // 2) / _FINE
    rest = np.abs((np.arange(size) - index + size // 2) % size - size // 2) > _AROUND_PEAK * _FINE
    height = abs(response[index])
    if abs(lag) > _LARGEST_DELAY or height < _PEAK * np.sqrt(np.mean(np.square(response[rest]))):
        return None
    before, after = (abs(response[(index + step) % size]) for step in (-1, 1))
    curvature = before - 2 * height + after
    return lag + (0.5 * (before - after) / curvature / _FINE if curvature < 0 else 0.0)


def _coarse(places: _Places) -> np.ndarray:
    """Lags too large for the filters, up to a quarter of the song, to 8 samples.

    They are peaks of the cross-correlation of all of the song, whitened (GCC-PHAT; Knapp and Carter, "The generalized
    correlation method for estimation of time delay", IEEE TASSP, 1976).
    """
    mixture = _thinned(places.mixture)
    size = scipy.fft.next_fast_len(2 * len(mixture), real=True)
    target = scipy.fft.rfft(mixture, size)
    lags, sure = np.zeros(len(places.stems)), np.zeros(len(places.stems), bool)
    for number, stem in enumerate(places.stems):
        cross = target * scipy.fft.rfft(_thinned(stem), size).conj()
        cross /= np.abs(cross) + 1e-6 * np.abs(cross).max() + 1e-30
        correlation = np.abs(scipy.fft.irfft(cross, size))
        most = len(mixture) // 4
        correlation[most : size - most] = 0.0
        index = int(np.argmax(correlation))
        lag = ((index + size // 2) % size - size // 2) * _DECIMATION
        near = max(
            correlation[: _LARGEST_DELAY // _DECIMATION].max(), correlation[-_LARGEST_DELAY // _DECIMATION :].max()
        )
        level = np.sqrt(np.sum(np.square(correlation)) / (2 * most))
        sure[number] = correlation[index] > _COARSE_PEAK * level
        if sure[number] and correlation[index] > 2 * near:
            lags[number] = lag
    if sure.any() and np.all(lags[sure] != 0):  # the mixture is shifted, and with it what is not found
        lags[~sure] = np.median(lags[sure])
    return lags


def _thinned(audio: np.ndarray) -> np.ndarray:
    mono = audio.sum(axis=0)
    return mono[: len(mono) // _DECIMATION * _DECIMATION].reshape(-1, _DECIMATION).mean(axis=1)


def _inverted(products: np.ndarray, gains: np.ndarray, names: list[str]) -> list[Fault]:
    """Stems with a negative factor, without which more would remain."""
    best = _gains(products)[1]
    found = []
    for number, name in enumerate(names):
        others = [other for other in range(len(products)) if other != number]
        without = _gains(products[np.ix_(others, others)])[1] if len(names) > 1 else 0.0
        if gains[number] < 0 and without - best >= _IMPROVEMENT_DB:
            found.append(Fault(name, inverted=True))
    return found


def _merged(faults: list[Fault], names: list[str], samples: int) -> list[Fault]:
    """One fault of the mixture instead of the same one of all stems."""
    inverted = [fault for fault in faults if fault.inverted]
    shifted = [fault for fault in faults if not fault.inverted]
    if len(names) > 1 and len(inverted) == len(names):
        inverted = [Fault(None, inverted=True)]
    delays = [fault.delay_samples for fault in shifted]
    drifts = [fault.drift_ppm for fault in shifted]
    growth = abs(float(np.median(drifts or [0.0]))) * 1e-6 * samples
    alike = len(shifted) == len(names) > 1 and np.ptp(drifts) <= 0.1 * abs(np.median(drifts))
    alike = alike and np.ptp(delays) <= 2 + 0.1 * growth
    if alike:
        shifted = [Fault(None, False, -round(float(np.median(delays))), -float(np.median(drifts)))]
    return shifted + inverted

"""Compiled loops of the metrics: what has to be done for every bin of every frame, or every sample, of whole songs."""

import numpy as np

from fxnorm.runtime.compiled import kernel

_PRODUCTS = 16  # powers multiplied before one logarithm is taken of all: from 1e-10 to 1e15 each, they stay in range
_SCREENED = 64  # samples whose highest bounds what lies between them


@kernel(nogil=False, fastmath=True, error_model="numpy")
def magnitudes(spectra: np.ndarray) -> np.ndarray:
    """Magnitude of complex64 ``spectra`` (channels, frames, bins), float32."""
    values = np.empty(spectra.shape, dtype=np.float32)
    for channel in range(spectra.shape[0]):
        for frame in range(spectra.shape[1]):
            spectrum, row = spectra[channel, frame], values[channel, frame]
            for k in range(spectrum.size):
                row[k] = np.sqrt(spectrum[k].real ** 2 + spectrum[k].imag ** 2)
    return values


@kernel(nogil=False, fastmath=True, error_model="numpy")
def shape_of_spectrum(
    magnitude: np.ndarray, bin_hertz: float, roll_off: float, power_floor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centroid, bandwidth and roll-off in Hz, and flatness, of ``magnitude`` (channels, frames, bins).

    As librosa defines them: the bandwidth is the second moment, the flatness the geometric over the arithmetic mean of
    the power, which counts as ``power_floor`` where it is less.
    """
    channels, frames, bins = magnitude.shape
    centroid = np.zeros((channels, frames))
    bandwidth, rolled, flatness = np.zeros_like(centroid), np.zeros_like(centroid), np.zeros_like(centroid)
    for channel in range(channels):
        for frame in range(frames):
            row = magnitude[channel, frame]
            total = first = second = power = logarithms = 0.0
            product = 1.0
            for k in range(bins):
                value = float(row[k])
                total += value
                first += k * value
                second += float(k) * k * value
                squared = max(value * value, power_floor)
                power += squared
                product *= squared
                if k % _PRODUCTS == _PRODUCTS - 1:
                    logarithms += np.log(product)
                    product = 1.0
            logarithms += np.log(product)
            flatness[channel, frame] = np.exp(logarithms / bins) / (power / bins)
            if total > 0:
                mean = first / total
                centroid[channel, frame] = mean * bin_hertz
                bandwidth[channel, frame] = np.sqrt(max(second / total - mean * mean, 0.0)) * bin_hertz
            reached, k = float(row[0]), 0
            while reached < roll_off * total and k < bins - 1:
                k += 1
                reached += float(row[k])
            rolled[channel, frame] = k * bin_hertz
    return centroid, bandwidth, rolled, flatness


@kernel(nogil=False, fastmath=True, error_model="numpy")
def mean_of_extremes(magnitude: np.ndarray, order: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the ``count`` highest and lowest of the bins ``order`` of ``magnitude`` (channels, frames, bins).

    The bins are visited in ``order``, which should be a shuffled one: the extremes found so far then rarely change.
    """
    channels, frames, _ = magnitude.shape
    highest, lowest = np.zeros((channels, frames)), np.zeros((channels, frames))
    top, bottom = np.empty(count), np.empty(count)
    for channel in range(channels):
        for frame in range(frames):
            row = magnitude[channel, frame]
            top[:], bottom[:] = -np.float64(1e300), np.float64(1e300)
            for k in order:
                value = float(row[k])
                if value > top[0]:
                    _insert(top, value)
                if -value > -bottom[0]:
                    _insert_below(bottom, value)
            highest[channel, frame], lowest[channel, frame] = top.mean(), bottom.mean()
    return highest, lowest


@kernel(nogil=False)
def _insert(ascending: np.ndarray, value: float) -> None:
    """Put ``value`` in its place, and drop the first."""
    k = 1
    while k < ascending.size and ascending[k] < value:
        ascending[k - 1] = ascending[k]
        k += 1
    ascending[k - 1] = value


@kernel(nogil=False)
def _insert_below(descending: np.ndarray, value: float) -> None:
    k = 1
    while k < descending.size and descending[k] > value:
        descending[k - 1] = descending[k]
        k += 1
    descending[k - 1] = value


@kernel(nogil=False, fastmath=True, error_model="numpy")
def off_centre(spectra: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Root mean square of ``1 - phi`` over bands of bins, (bands, frames), of complex ``spectra`` (2, frames, bins).

    ``phi = 2 |L| |R| / (|L|² + |R|²)``; a silent bin counts as centred.
    """
    frames, bins = spectra.shape[1:]
    values = np.zeros((starts.size, frames))
    squares = np.zeros(bins)
    for frame in range(frames):
        for k in range(bins):
            left, right = spectra[0, frame, k], spectra[1, frame, k]
            power_left = left.real**2 + left.imag**2
            power_right = right.real**2 + right.imag**2
            energy = power_left + power_right
            # 1 - phi without its cancellation near 1
            difference = np.sqrt(power_left) - np.sqrt(power_right)
            squares[k] = (difference * difference / energy) ** 2 if energy > 0 else 0.0
        for band in range(starts.size):
            values[band, frame] = np.sqrt(squares[starts[band] : stops[band]].mean())
    return values


@kernel(nogil=False, fastmath=True, error_model="numpy")
def highest_between_samples(audio: np.ndarray, phases: np.ndarray) -> float:
    """Highest absolute value of ``audio`` (channels, samples) and of its interpolations by FIRs ``phases`` (any, taps).

    Stretches whose samples are too low to pass what was found already are left out.
    """
    taps = phases.shape[1]
    most = 0.0
    for phase in phases:
        most = max(most, np.abs(phase).sum())
    highest = np.abs(audio).max()
    for channel in audio:
        padded = np.zeros(channel.size + 2 * (taps - 1), dtype=channel.dtype)
        padded[taps - 1 : taps - 1 + channel.size] = channel
        for start in range(0, channel.size + taps - 1, _SCREENED):
            stop = min(start + _SCREENED, channel.size + taps - 1)
            if most * np.abs(padded[start : stop + taps - 1]).max() <= highest:
                continue
            for phase in phases:
                for n in range(start, stop):
                    value = np.float32(0.0)
                    for tap in range(taps):
                        value += phase[tap] * padded[n + taps - 1 - tap]
                    highest = max(highest, abs(value))
    return highest

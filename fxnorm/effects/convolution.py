"""Convolution by fast transforms, block by block, so that long audio takes no more memory than its result."""

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from fxnorm.effects.levels import sounding
from fxnorm.effects.spectrum import excerpt
from fxnorm.runtime.compiled import kernel

_KERNELS_PER_BLOCK = 8  # a block is at least this many kernels long: little of it is overlap
_SAMPLES_AT_ONCE = 2**17  # transformed in one call, as many as fit the cache


def convolve(audio: np.ndarray, kernel: np.ndarray, start: int) -> np.ndarray:
    """``audio`` (samples,) convolved with ``kernel`` (taps,), float32 (samples,).

    Where no sample of the audio is in reach of the kernel, the result is silence: the rounding noise of the transforms
    is taken out there.

    Args:
        audio: float32 (samples,); outside of it there is silence.
        kernel: (taps,).
        start: the tap that is taken as time 0: the first sample of the full convolution that is kept.
    """
    overlap = kernel.size - 1
    block = 2 ** int(np.ceil(np.log2(_KERNELS_PER_BLOCK * kernel.size)))
    advance, at_once = block - overlap, max(1, _SAMPLES_AT_ONCE // block)
    response = scipy.fft.rfft(kernel, block).astype(np.complex64)
    result = np.zeros_like(audio)
    first, stop = sounding(audio[None])
    for position in range(max(0, first - start), min(audio.size, stop + overlap - start), at_once * advance):
        part = excerpt(audio[None], position + start - overlap, at_once * advance + overlap)[0]
        spectra = scipy.fft.rfft(sliding_window_view(part, block)[::advance])
        spectra *= response
        convolved = scipy.fft.irfft(spectra, overwrite_x=True)[:, overlap:].reshape(-1)
        result[position : position + convolved.size] = convolved[: audio.size - position]
    _silence_gaps(audio, result, start, overlap - start)
    return result


@kernel()
def _silence_gaps(audio: np.ndarray, result: np.ndarray, before: int, after: int) -> None:
    """Zero what is not within ``before`` samples before or ``after`` samples after a sample that is not zero."""
    silent_from = 0
    for n in range(audio.size):
        if audio[n] != 0:
            if n - before > silent_from:
                result[silent_from : n - before] = 0
            silent_from = n + after + 1
    result[silent_from:] = 0

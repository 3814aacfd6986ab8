"""Time of comparing 20 s of stereo, and of its spectral features against librosa's, on one core."""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import time
from collections.abc import Callable

import librosa
import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects.spectrum import window
from fxnorm.evaluation import compare_mixes
from fxnorm.evaluation.metrics import FRAME, HOP, spectral_features

SECONDS = 20
REPEATS = 5
TARGET_SECONDS = 1.5


def fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs, after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def librosa_features(audio: np.ndarray) -> None:
    """The same features as :func:`spectral_features`, by librosa."""
    magnitude = np.abs(librosa.stft(audio, n_fft=FRAME, hop_length=HOP, window=window(FRAME), center=False))
    spectrum = {"S": magnitude, "sr": SAMPLE_RATE, "n_fft": FRAME}
    librosa.feature.spectral_centroid(**spectrum)
    librosa.feature.spectral_bandwidth(**spectrum)
    librosa.feature.spectral_rolloff(**spectrum)
    librosa.feature.spectral_contrast(**spectrum, fmin=250, n_bands=4)
    librosa.feature.spectral_flatness(S=magnitude)


def main() -> None:
    generator = np.random.default_rng(0)
    mix, reference = (
        (0.1 * generator.standard_normal((2, SECONDS * SAMPLE_RATE))).astype(np.float32) for _ in range(2)
    )
    seconds = fastest(lambda: compare_mixes(mix, reference, SAMPLE_RATE))
    print(f"compare_mixes, {SECONDS} s of stereo: {seconds:.2f} s (target: under {TARGET_SECONDS} s)")
    ours, theirs = fastest(lambda: spectral_features(mix)), fastest(lambda: librosa_features(mix))
    print(f"spectral features: {ours:.2f} s, librosa's {theirs:.2f} s, {theirs / ours:.1f} times as fast")


if __name__ == "__main__":
    main()

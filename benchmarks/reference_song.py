"""A mix that is brought to a song that is far louder: time and memory, beside those of the delivery alone.

    python benchmarks/reference_song.py [--seconds 600]

The mix is strokes over noise, the song is the same with a quarter of the dynamics and another spectrum, so that
equalizer, compressor and limiter all have much to do. Times are of the processor, on one core, for a second of the mix;
memory is the most that the process ever had.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import argparse
import resource
import time

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.mixing.delivery import Delivery, deliver
from fxnorm.mixing.reference import Reference, deliver_to
from fxnorm.statistics import DatasetStatistics

TARGET_LUFS = -9.0


def strokes(seconds: int, floor: float, seed: int) -> np.ndarray:
    """Noise with strokes over a floor, (2, samples), a second repeated with another level each time."""
    generator = np.random.default_rng(seed)
    second = generator.standard_normal((2, SAMPLE_RATE)).astype(np.float32)
    second *= np.exp(-12 * (np.arange(SAMPLE_RATE, dtype=np.float32) / SAMPLE_RATE % 0.5)) + np.float32(floor)
    levels = 0.05 + 0.05 * generator.random(seconds, np.float32)
    return np.concatenate([level * second for level in levels], axis=1)


def megabytes() -> float:
    """The most memory that the process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    seconds = parser.parse_args().seconds
    song = np.cumsum(strokes(30, 0.5, 1), axis=1) * np.float32(0.02)
    song -= song.mean(axis=1, keepdims=True)
    reference, statistics = Reference.of(song + strokes(30, 0.5, 2), "song"), DatasetStatistics()
    deliver_to(reference, strokes(4, 0.05, 0), Delivery(TARGET_LUFS), statistics)  # compiles
    mix = strokes(seconds, 0.05, 0)
    for name in ("the delivery alone", "with a reference"):
        start = time.process_time()
        if name == "the delivery alone":
            deliver(mix, Delivery(TARGET_LUFS), statistics)
        else:
            deliver_to(reference, mix, Delivery(TARGET_LUFS), statistics)
        taken = (time.process_time() - start) / seconds
        print(f"{name}: {taken:.3f} s for a second of the mix; the process had up to {megabytes():.0f} MB")


if __name__ == "__main__":
    main()

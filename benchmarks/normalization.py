"""Time and memory of measuring and normalizing a song, on one core; and of its parts beside the usual libraries' ones.

    python benchmarks/normalization.py [--song FOLDER] [--seconds 180] [--long]

The song is the six rendered seconds of the tests, repeated, or that of a folder. Times are seconds per second of song,
all four stems, the fastest of some runs: of the processor's time, which other programs disturb less. Memory is the peak
of a process of its own that reads, measures, normalizes and writes a song as the stages do, Python included.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyloudnorm
import scipy.signal

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import compression, compressor, equalization, loudness, onsets, panning
from fxnorm.effects.convolution import convolve
from fxnorm.io import audio
from fxnorm.normalization.normalizer import ORDER, EffectNormalizer
from fxnorm.statistics import DatasetStatistics, measure_stem

DATA = Path(__file__).parent.parent / "tests" / "data" / "effects"
REPEATS = 3
TARGET_NORMALIZE, TARGET_MEASURE = 0.028, 0.020  # a tenth, and a fifth, of what the reference implementation takes
TARGET_MEMORY = 1.0
MEASURES: dict[str, Callable[[np.ndarray, int], object]] = {
    "equalization": equalization.measure,
    "compression": compression.measure,
    "panning": panning.measure,
    "loudness": loudness.measure,
}


def fastest(run: Callable[[], object]) -> float:
    """Processor seconds of the fastest of some runs, after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def repeated(samples: np.ndarray, seconds: float) -> np.ndarray:
    length = round(seconds * SAMPLE_RATE)
    return np.ascontiguousarray(np.tile(samples, (1, -(-length // samples.shape[1])))[:, :length])


def long_song(arguments: tuple[Path, float, Path]) -> tuple[float, float]:
    """Seconds for one song from files to files, with reverberation, and the most memory that took, in GB."""
    folder, seconds, temporary = arguments
    chain = EffectNormalizer(DatasetStatistics.load(DATA / "musdb18_statistics.npz"), ORDER)
    start = time.process_time()
    for stem in STEMS:
        path = temporary / f"{stem}.wav"
        audio.write(path, repeated(audio.read(next(folder.glob(f"{stem}.*")))[0], seconds))
        measure_stem(audio.read(path)[0], SAMPLE_RATE, stem)
        audio.write(path, chain.normalize(audio.read(path)[0], SAMPLE_RATE, stem), subtype="PCM_24")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return time.process_time() - start, peak


def exhaustive_search(samples: np.ndarray, limit: float, settings: compression.CompressionSettings) -> None:
    """The compressor's setting by trying all thresholds in order, which the search must agree with."""
    samples = samples * np.float32(10 ** (-10 / 20) / np.abs(samples).max())
    smoothing = compressor.smoothing(settings.attack_ms), compressor.smoothing(settings.release_ms)
    level, result = compressor.levels(samples), np.empty_like(samples)
    for threshold in np.arange(-10, -40.5, -0.5):
        compressor.compress(samples, level, threshold, settings.lowest_ratio, *smoothing, result)
        peaks = np.maximum.reduceat(np.abs(result), onsets.detect(result))
        levels = 20 * np.log10(peaks + 1e-30)
        if levels[levels > np.percentile(levels, 75)].mean() < limit:
            break


def compare_parts(samples: np.ndarray, statistics: DatasetStatistics) -> None:
    """Parts of the chain beside what they replace, on the same audio."""
    taps = scipy.signal.firwin2(1001, [0, 0.5, 1], [1, 2, 0.5])
    settings, target = compression.PUBLISHED_SETTINGS["vocals"], statistics.target("compression", "vocals")
    one, wide = samples[:1], samples[0].astype(np.float64)
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "loudness, and pyloudnorm's": (
            lambda: loudness.measure(samples, SAMPLE_RATE),
            lambda: meter.integrated_loudness(samples.T),
        ),
        "zero-phase filter, and scipy's filtfilt": (
            lambda: convolve(samples[0], np.convolve(taps, taps), 1000),
            lambda: scipy.signal.filtfilt(taps, 1, wide),
        ),
        "compressor search, and trying all": (
            lambda: compression.match(one, SAMPLE_RATE, target, settings),
            lambda: exhaustive_search(samples[0], target.sum(), settings),
        ),
    }
    for name, (ours, theirs) in pairs.items():
        fast, slow = fastest(ours), fastest(theirs)
        print(f"  {name}: {fast:.3f} s and {slow:.3f} s, {slow / fast:.1f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--song", type=Path, default=DATA / "song", help="folder with a file of each stem")
    parser.add_argument("--seconds", type=float, default=180.0, help="length that the song is repeated or cut to")
    parser.add_argument("--long", action="store_true", help="also a song of 20 minutes, which takes a while")
    arguments = parser.parse_args()
    statistics = DatasetStatistics.load(DATA / "musdb18_statistics.npz")
    chain = EffectNormalizer(statistics)
    paths = {stem: next(arguments.song.glob(f"{stem}.*")) for stem in STEMS}
    stems = {stem: repeated(audio.read(path)[0], arguments.seconds) for stem, path in paths.items()}

    def per_second(run: Callable[[str, np.ndarray], object]) -> float:
        return sum(fastest(lambda: run(*stem)) for stem in stems.items()) / arguments.seconds  # noqa: B023

    def normalizing(chain: EffectNormalizer) -> float:
        return per_second(lambda stem, samples: chain.normalize(samples, SAMPLE_RATE, stem))

    print(f"{arguments.seconds:g} s of song, four stems, one core; seconds per second of song")
    print(f"  normalize       {normalizing(chain):.4f}, target: at most {TARGET_NORMALIZE}")
    for effect in ORDER:
        print(f"    {effect:<14}{normalizing(EffectNormalizer(statistics, (effect,))):.4f}", flush=True)
    print(f"  precise         {normalizing(EffectNormalizer(statistics, precise=True)):.4f}")
    measuring = per_second(lambda stem, samples: measure_stem(samples, SAMPLE_RATE, stem))
    print(f"  measure         {measuring:.4f}, target: at most {TARGET_MEASURE}")
    for effect, measure in MEASURES.items():
        print(f"    {effect:<14}{per_second(lambda _, samples: measure(samples, SAMPLE_RATE)):.4f}")  # noqa: B023
    compare_parts(stems["vocals"], statistics)
    for minutes in (5, 20) if arguments.long else (5,):
        with (
            tempfile.TemporaryDirectory() as temporary,
            multiprocessing.get_context("spawn").Pool(1) as pool,  # a process of its own has a peak of its own
        ):
            (found,) = pool.map(long_song, [(arguments.song, 60.0 * minutes, Path(temporary))])
        target = f", target: at most {TARGET_MEMORY} GB" if minutes == 5 else ""
        print(
            f"song of {minutes} minutes, files to files: {found[0]:.1f} s, peak {found[1]:.2f} GB{target}", flush=True
        )


if __name__ == "__main__":
    main()

"""A large recording session: what it takes to sort its tracks and to sum them, before the network.

    python benchmarks/sessions.py [--tracks 100] [--seconds 240]

Writes a session of noise that swells, 24 bit, mono and every fourth track stereo, of which each file is a link to one
of four. Times are of the processor, on one core, for a second of a track; memory is the most that the process ever had.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import loudness, programme
from fxnorm.sessions import session, stems, table
from fxnorm.statistics import DatasetStatistics, measure_stem

TARGET_SECONDS = 0.03
NAMES = ("Kick", "Snare", "Tom", "Bass", "Gtr", "Piano", "Vox", "BV", "Synth", "Strings")


def swelling(seconds: int, channels: int, seed: int) -> np.ndarray:
    """Noise (samples, channels)."""
    generator = np.random.default_rng(seed)
    time_seconds = np.arange(seconds * SAMPLE_RATE, dtype=np.float32) / SAMPLE_RATE
    white = generator.standard_normal((time_seconds.size, channels), np.float32)
    return np.asarray(0.1 * white * (0.6 + 0.4 * np.sin(6 * time_seconds))[:, None])


def write_session(folder: Path, tracks: int, seconds: int) -> None:
    """A folder of so many tracks."""
    (folder / "session").mkdir()
    for number in range(min(4, tracks)):
        soundfile.write(folder / f"{number}.wav", swelling(seconds, 1 + number // 3, number), SAMPLE_RATE, "PCM_24")
    for number in range(tracks):
        name = f"{number:03d}_{NAMES[number % len(NAMES)]}{number // len(NAMES)}.wav"
        os.link(folder / f"{number % 4}.wav", folder / "session" / name)


def compiled() -> DatasetStatistics:
    """Statistics of noise; what is measured is compiled on the way."""
    statistics = DatasetStatistics()
    for number, stem in enumerate(STEMS):
        samples = np.ascontiguousarray(swelling(3, 2, number).T)
        statistics.add(stem, measure_stem(samples, SAMPLE_RATE, stem))
        loudness.measure(samples, SAMPLE_RATE)
        programme.carried(samples, SAMPLE_RATE)
    return statistics


def memory_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=240)
    options = parser.parse_args()
    statistics = compiled()
    total_seconds = options.tracks * options.seconds
    with tempfile.TemporaryDirectory() as temporary:
        write_session(Path(temporary), options.tracks, options.seconds)
        folder = session.Folder.open(Path(temporary) / "session")
        start = time.process_time()
        rows = session.proposed(folder, statistics).table.tracks
        sorting = (time.process_time() - start) / total_seconds
        print(f"sorting: {sorting:.4f} s a second and track, {memory_gb():.2f} GB")
        used = table.Table(tracks=[row.model_copy(update={"use": True}) for row in rows])  # copies of each other
        start = time.process_time()
        stems.sum_groups(used, folder.recordings())
        summing = (time.process_time() - start) / total_seconds
        print(f"summing: {summing:.4f} s a second and track, {memory_gb():.2f} GB")
    if sorting + summing > TARGET_SECONDS:
        sys.exit(f"expected at most {TARGET_SECONDS} s a second and track together")


if __name__ == "__main__":
    main()

"""Time and memory of importing a song, on one core.

    python benchmarks/importing.py [--seconds 180]

The song has five stereo files of 16 bit, as MUSDB18-HQ's have, at 48 kHz, so that each is resampled, and then at the
library's own rate. Times are seconds of the processor per second of song, of the import of one song from files to
files, once more when it is there already, and of the same with links. Memory is the peak of a process of its own,
Python included.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import argparse
import multiprocessing
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data.importers import kinds, write
from fxnorm.data.importers.plan import Options

KIND = "musdb18-hq"
OTHER_RATE = 48_000
TARGET = 0.030


def make_song(folder: Path, seconds: float, sample_rate: int) -> None:
    """Five files of noise."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in (*STEMS, MIXTURE):
        samples = 0.1 * generator.standard_normal((round(seconds * sample_rate), 2))
        soundfile.write(folder / f"{name}.wav", samples, sample_rate, subtype="PCM_16")


def run(arguments: tuple[Path, Path, bool]) -> tuple[float, float, float]:
    """Seconds of the processor, seconds of the clock, and the most memory in GB, of one import."""
    source, root, link = arguments
    start, clock = time.process_time(), time.monotonic()
    write.write(kinds.plan(KIND, source, Options()), KIND, source, root, link, workers=1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return time.process_time() - start, time.monotonic() - clock, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0, help="length of the song")
    seconds = parser.parse_args().seconds
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        for rate in (OTHER_RATE, SAMPLE_RATE):
            source, root = Path(name) / f"source-{rate}", Path(name) / "data"
            make_song(source / "train" / "Artist - Title", seconds, rate)
            for what, link in (("imported", False), ("there already", False), ("linked", True)):
                if link and rate != SAMPLE_RATE:
                    continue
                with context.Pool(1) as pool:
                    times = pool.map(run, [(source, root, link)])[0]
                target = f" (at most {TARGET})" if rate == OTHER_RATE and what == "imported" else ""
                print(
                    f"{rate} Hz, {what:<14} {times[0] / seconds:.4f} s of one core{target}, {times[1] / seconds:.4f} s"
                    f" by the clock, per second of song; {times[2]:.2f} GB"
                )
            shutil.rmtree(root)


if __name__ == "__main__":
    main()

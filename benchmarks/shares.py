"""Time and memory of a session's mix with the share of each track, against the same mix with the stems' parts alone.

    python benchmarks/shares.py [--tracks 24] [--seconds 60] [--sizes demo|published] [--repeats 1] [--json FILE]

Each mix is made by the command in a process of its own, on one core, Python and PyTorch included. Memory is given
without the pages of the file that the tracks lie in, which the system takes back as soon as it needs them, and with
them. The shares of each group are added up and held against its part.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import argparse
import json
import resource
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from parts import _alone, _relative_db, loop, prepare

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.io import audio
from fxnorm.mixing.parts import read_description

TARGET_DB = -80.0
NAMES = ("LeadVox", "Bass", "Kick", "Gtr", "BV", "Snare", "Keys", "Tom")


def write_session(folder: Path, tracks: int, seconds: float) -> None:
    """A folder of so many tracks, mono and every fourth stereo."""
    length = round(seconds * SAMPLE_RATE)
    for number in range(tracks):
        samples = loop(number % 6)[: 2 if number % 4 == 3 else 1]
        name = f"{number:02d}_{NAMES[number % len(NAMES)]}{number // len(NAMES)}.wav"
        shifted = np.roll(samples, 5_000 * number, axis=1)
        audio.write(folder / "session" / name, np.resize(shifted, (len(samples), length)), subtype="PCM_24")


def mix(folder: Path, shares: bool) -> dict[str, float]:
    """Seconds and peak memory of one mix."""
    from fxnorm.cli import main as command

    out = ["--stems-out", str(folder / "parts"), *(["--tracks-out"] if shares else [])]
    session = ["--tracks", str(folder / "session"), "--output", str(folder / "mix.wav")]
    done, anonymous = threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.05):
            status = Path("/proc/self/status").read_text().split()
            anonymous.append(int(status[status.index("RssAnon:") + 1]))

    watching = threading.Thread(target=watch)
    watching.start()
    start, busy = time.perf_counter(), time.process_time()
    command.main(["mix", str(folder / "mixer"), *session, *out], standalone_mode=False)
    found = {"seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}
    done.set()
    watching.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found | {"peak_gigabytes": max(anonymous) * 1024 / 1e9, "with_the_file_gigabytes": peak * 1024 / 1e9}


def worst_error_db(folder: Path) -> float:
    """The highest error of the sum of a group's shares, in dB under its part."""
    description, found = read_description(folder / "parts"), []
    for stem in STEMS:
        part = audio.read(folder / "parts" / description.stems[stem].file, None)[0]
        total = -part
        for file in description.shares_of(stem).values():
            total += audio.read(folder / "parts" / file, None)[0]
        found.append(_relative_db(total, part))
    return max(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--tracks", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sizes", choices=["demo", "published"], default="demo")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _alone(prepare, folder, 1.0, arguments.sizes)
        write_session(folder, arguments.tracks, arguments.seconds)
        runs: dict[str, list[dict[str, float]]] = {"parts": [], "shares": []}
        for _ in range(arguments.repeats):
            for kind, measured in runs.items():
                measured.append(_alone(mix, folder, kind == "shares"))
        result = {kind: {key: min(run[key] for run in found) for key in found[0]} for kind, found in runs.items()}
        error = _alone(worst_error_db, folder)
        taken = sum(path.stat().st_size for path in (folder / "parts" / "tracks").rglob("*.wav"))
    ratio = result["shares"]["processor_seconds"] / result["parts"]["processor_seconds"]
    for kind, figures in result.items():
        print(f"{kind}: " + ", ".join(f"{value:.2f} {key}" for key, value in figures.items()))
    print(f"shares: {ratio:.2f} times the processor_seconds, {taken / 1e9:.2f} GB; error {error:.0f} dB", end=" ")
    print(f"(target {TARGET_DB:g} dB)")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({**result, "ratio": ratio, "error_db": error, "bytes": taken}, indent=2))


if __name__ == "__main__":
    main()

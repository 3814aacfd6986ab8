"""Many short sessions: how much of the machine's throughput ``fxnorm mix-all`` reaches.

    python benchmarks/catalogue.py [--sessions 200] [--seconds 10] [--turns 1]

Writes sessions of eight tracks of noise that swells, mono, 24 bit, each a link to one of 32 files, and an untrained
network of the demo's size. By turns, as many processes as there are cores do the bare work in plain loops (read and
sort the tracks, sum, normalize, mix, deliver, encode, write), without records, table, page or the measures of drift,
and ``fxnorm mix-all`` does all of its work. Both include the start of their processes. Times are of the wall, and of
the processor, which other work on the machine changes less.
"""

import argparse
import functools
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

TARGET = 0.9
RATE = 44_100
TRACKS = ("01_Kick", "02_Snare", "03_OH_L", "04_OH_R", "05_Bass", "06_Gtr", "07_LeadVox", "08_Keys")
_VARIANTS = 4

BARE = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from fxnorm import Mixer
from fxnorm.mixing.mix_files import mix_samples
from fxnorm.mixing.options import MixOptions
from fxnorm.sessions.session import open_session
from fxnorm.sessions.stems import sum_groups

mixer, output, *sessions = sys.argv[1:]
loaded = Mixer.load(mixer)
for session in map(Path, sessions):
    opened = open_session(session, loaded.recipe.statistics)
    stems = sum_groups(opened.table, opened.recordings).stems
    options = MixOptions(dry=True, song=session.name)
    mix_samples(loaded, stems, options, Path(output) / f"{session.name}.flac")
"""


def swelling(seconds: int, seed: int) -> np.ndarray:
    """Noise (samples,)."""
    generator = np.random.default_rng(seed)
    times = np.arange(seconds * RATE, dtype=np.float32) / RATE
    white = generator.standard_normal(times.size, np.float32)
    return np.asarray(0.1 * white * (0.6 + 0.4 * np.sin((4 + seed % 5) * times)))


def write_sessions(folder: Path, count: int, seconds: int) -> list[Path]:
    """So many folders of tracks."""
    for number in range(_VARIANTS * len(TRACKS)):
        soundfile.write(folder / f"{number}.wav", swelling(seconds, number), RATE, "PCM_24")
    sessions = [folder / f"sessions/Song {number:03d}" for number in range(count)]
    for number, session in enumerate(sessions):
        session.mkdir(parents=True)
        for place, track in enumerate(TRACKS):
            os.link(folder / f"{number % _VARIANTS * len(TRACKS) + place}.wav", session / f"{track}.wav")
    return sessions


def write_mixer(folder: Path) -> Path:
    """An untrained Mixer of the demo's size; what it computes with is compiled on the way."""
    import torch

    from fxnorm import Mixer, models
    from fxnorm.constants import STEMS
    from fxnorm.effects.impulse_responses import ImpulseResponses
    from fxnorm.mixing.delivery import Delivery, deliver
    from fxnorm.normalization.recipe import Recipe
    from fxnorm.settings import Settings
    from fxnorm.statistics import DatasetStatistics, measure_mixture, measure_stem

    statistics = DatasetStatistics()
    for song in range(2):
        for number, stem in enumerate(STEMS):
            audio = np.tile(swelling(4, 10 * song + number), (2, 1)) * np.array([[1], [0.8]], np.float32)
            statistics.add(stem, measure_stem(audio, RATE, stem))
        statistics.add("mixture", measure_mixture(audio, RATE))
    settings = Settings.load(Path(__file__).parents[1] / "params.yaml")
    impulse_responses = ImpulseResponses.synthesized(), ImpulseResponses.synthesized(0.5)
    recipe = Recipe(statistics, settings.normalize, *impulse_responses, {"digest": "noise"})
    network = models.build(settings.train.network, **settings.train.sizes).eval()
    mixer = Mixer(recipe, network, settings.train.run_in_seconds, torch.device("cpu"))
    mixed = mixer.mix({stem: swelling(3, 50 + number)[None] for number, stem in enumerate(STEMS)}, RATE, dry=True)
    deliver(mixed, Delivery(), statistics)
    mixer.save(folder / "mixer")
    return folder / "mixer"


def bare(mixer: Path, sessions: list[Path], output: Path, processes: int) -> None:
    """The work alone."""
    output.mkdir()
    shares = [sessions[number::processes] for number in range(processes)]
    started = [
        subprocess.Popen([sys.executable, "-c", BARE, str(mixer), str(output), *map(str, share)]) for share in shares
    ]
    statuses = [process.wait() for process in started]
    if any(statuses):
        sys.exit("the bare work failed")


def mix_all(mixer: Path, sessions: Path, output: Path, processes: int) -> None:
    """The command."""
    command = [sys.executable, "-m", "fxnorm", "mix-all", str(sessions), str(output), "--mixer", str(mixer)]
    subprocess.run([*command, "--workers", str(processes)], check=True, stdout=subprocess.DEVNULL)


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of the wall, and of the processor in all processes that ``work`` starts."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--turns", type=int, default=1)
    options = parser.parse_args()
    processes = len(os.sched_getaffinity(0))
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))
    totals = {"bare": np.zeros(2), "mix-all": np.zeros(2)}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        mixer, sessions = write_mixer(folder), write_sessions(folder, options.sessions, options.seconds)
        for turn in range(options.turns):
            outputs = {name: folder / f"{name} {turn}" for name in totals}
            works = {
                "bare": functools.partial(bare, mixer, sessions, outputs["bare"], processes),
                "mix-all": functools.partial(mix_all, mixer, folder / "sessions", outputs["mix-all"], processes),
            }
            for name in works if turn % 2 == 0 else reversed(works):
                wall, used = timed(works[name])
                totals[name] += wall, used
                print(f"{name}: {wall:.1f} s, {used:.1f} s of the processor", flush=True)
            for session in sessions:
                contents = [(output / f"{session.name}.flac").read_bytes() for output in outputs.values()]
                if contents[0] != contents[1]:
                    sys.exit(f"{session.name}: the mixes differ")
            for output in outputs.values():
                shutil.rmtree(output)
    wall, used = totals["bare"] / totals["mix-all"]
    print(f"{options.sessions} sessions of {options.seconds} s, {processes} processes, {options.turns} turns:")
    print(f"mix-all has {100 * wall:.1f} % of the bare throughput, {100 * used:.1f} % by time of the processor")
    if wall < TARGET:
        sys.exit(f"expected at least {100 * TARGET:.0f} %")


if __name__ == "__main__":
    main()

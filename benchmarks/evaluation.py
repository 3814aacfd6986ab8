"""What evaluating a song costs beside mixing it, on one core: metrics, pictures, and what the report plays.

    python benchmarks/evaluation.py [--seconds 40] [--networks crafx2] [--json FILE]

One song of the demo's rendering is mixed by networks of the published sizes with random weights, which take as long as
trained ones, behind the whole effect normalization, and measured with the two sums. All times are of the processor, in
the same run, so that their ratios depend little on what else runs. Songs are evaluated one to a core, so a ratio
for one song on one core is that of a whole evaluation.
"""

import os
import sys

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from fxnorm import models
from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.demo.dataset import render_dataset
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.evaluation.songs import measure_all, mix_all, write_listening, write_pictures
from fxnorm.mixing.mixer import Mixer
from fxnorm.normalization.recipe import Recipe
from fxnorm.settings import NormalizeSettings
from fxnorm.statistics import DatasetStatistics, measure_mixture, measure_stem

RUN_IN_SECONDS = {"crafx2": 30.0, "wave_u_net": 0.0}
TARGET_SHARE = 0.2
EXCERPT_SECONDS = 20.0
Result = TypeVar("Result")


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """What ``run`` returns, and the processor's seconds."""
    start = time.process_time()
    result = run()
    return result, time.process_time() - start


def song_of(seconds: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Stems and mixture: a rendered song, repeated to this length."""
    with tempfile.TemporaryDirectory() as folder:
        render_dataset(Path(folder), songs={"train": 0, "val": 0, "test": 1, "dry": 0}, seconds=(20.0, 21.0), workers=1)
        (song,) = dataset.songs(Path(folder) / "wet", "test")
        stems, mixture = song.read_stems(), song.read_mixture()
    samples = round(seconds * SAMPLE_RATE)
    repeats = -(-samples // mixture.shape[1])
    long = {name: np.tile(audio, repeats)[:, :samples] for name, audio in {**stems, MIXTURE: mixture}.items()}
    reference = long.pop(MIXTURE)
    return long, reference


def save_mixers(
    folder: Path, networks: list[str], stems: dict[str, np.ndarray], mixture: np.ndarray
) -> dict[str, Path]:
    """Mixers of published size with random weights, whose statistics are the song's own."""
    statistics = DatasetStatistics()
    for stem in STEMS:
        statistics.add(stem, measure_stem(stems[stem], SAMPLE_RATE, stem))
    statistics.add(MIXTURE, measure_mixture(mixture, SAMPLE_RATE))
    rooms = ImpulseResponses.synthesized(), ImpulseResponses.synthesized(1.0)
    recipe = Recipe(statistics, NormalizeSettings(), *rooms, {})
    folders = {}
    for name in networks:
        torch.manual_seed(0)
        folders[name] = folder / name
        network = models.build(name).eval()
        Mixer(recipe, network, RUN_IN_SECONDS[name], torch.device("cpu")).save(folders[name])
    return folders


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--networks", nargs="+", choices=list(RUN_IN_SECONDS), default=["crafx2"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stems, mixture = song_of(arguments.seconds)
    with tempfile.TemporaryDirectory() as folder:
        mixers = save_mixers(Path(folder), arguments.networks, stems, mixture)
        short = {name: audio[:, : 5 * SAMPLE_RATE] for name, audio in stems.items()}
        warm = mix_all("song", short, mixers, False, mixture[:, : 5 * SAMPLE_RATE])  # compiles and loads
        statistics = Mixer.load(mixers[arguments.networks[0]], torch.device("cpu")).recipe.statistics
        measure_all(warm, short, statistics)
        write_pictures(warm, Path(folder) / "warm")
        write_listening(warm, Path(folder) / "warm", 2.0)
        mixes, mixing = timed(lambda: mix_all("song", stems, mixers, False, mixture))
        _, metrics = timed(lambda: measure_all(mixes, stems, statistics))
        _, pictures = timed(lambda: write_pictures(mixes, Path(folder)))
        _, listening = timed(lambda: write_listening(mixes, Path(folder), EXCERPT_SECONDS))
    total = mixing + metrics + pictures + listening
    found = {"mixing": mixing, "metrics": metrics, "pictures": pictures, "files and excerpts": listening}
    print(f"{arguments.seconds:g} s, systems {', '.join(name for name in mixes if name != 'reference')}")
    print(f"  {'metrics over mixing':<20}{metrics / mixing:.0%}, all but mixing over mixing {total / mixing - 1:.0%}")
    for name, seconds in found.items():
        aim = f" (target: under {TARGET_SHARE:.0%})" if name == "metrics" else ""
        print(f"  {name:<20}{seconds / arguments.seconds:.3f} s of processor per s of song, {seconds / total:.0%}{aim}")
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"seconds": arguments.seconds, **found}, indent=2) + "\n", encoding="utf-8"
        )

    return 0 if metrics / total < TARGET_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())

"""Time and memory of a mix with its parts against a mix alone, from files to files.

    python benchmarks/parts.py [--seconds 60] [--sizes demo|published] [--repeats 1] [--json FILE]

Each mix is made in a process of its own, whose peak memory is given, Python and PyTorch included; mixes with and
without parts take turns. The parts are added up and held against the mix, and mixed again without a change.
"""

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from fxnorm import Mixer, models
from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.effects.features import measure_mixture
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.io import audio
from fxnorm.mixing.mix_files import PartsOut, mix_files
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.parts import Change, read_description, remix
from fxnorm.normalization.recipe import Recipe
from fxnorm.settings import NormalizeSettings
from fxnorm.statistics import DatasetStatistics, measure_stem

TARGET_RATIO, TARGET_GIGABYTES, TARGET_DB = 1.3, 2.0, -80.0
RUN_IN_SECONDS = {"demo": 5.0, "published": 30.0}
_LOOP_SECONDS = 20


def loop(number: int) -> np.ndarray:
    """Strokes of noise over a tone, (2, samples), other ones for each stem."""
    generator = np.random.default_rng(number)
    time_ = np.arange(_LOOP_SECONDS * SAMPLE_RATE) / SAMPLE_RATE
    strokes = np.exp(-(4 + 2 * number) * (time_ % (0.4 + 0.1 * number)))
    tone = np.sin(2 * np.pi * 110 * 2**number * time_) * (0.6 + 0.4 * np.sin(time_))
    return np.asarray(0.1 * strokes * (generator.standard_normal((2, time_.size)) + tone), dtype=np.float32)


def prepare(folder: Path, seconds: float, sizes: str) -> None:
    """A Mixer whose network is untrained, and a song."""
    statistics = DatasetStatistics()
    stems = {stem: loop(number) for number, stem in enumerate(STEMS)}
    for stem, samples in stems.items():
        statistics.add(stem, measure_stem(samples, SAMPLE_RATE, stem))
    statistics.add(MIXTURE, measure_mixture(np.asarray(sum(stems.values())), SAMPLE_RATE))
    effects = {"effects": ["reverberation", "equalization", "compression", "panning", "loudness"]}
    responses = ImpulseResponses.synthesized(), ImpulseResponses.synthesized(0.5)
    recipe = Recipe(statistics, NormalizeSettings.model_validate(effects), *responses, {"digest": "strokes"})
    demo = yaml.safe_load((Path(__file__).parents[1] / "params.yaml").read_text())["train"]["sizes"]
    network = models.build("crafx2", **(demo if sizes == "demo" else {}))
    Mixer(recipe, network.eval(), RUN_IN_SECONDS[sizes], torch.device("cpu")).save(folder / "mixer")
    length = round(seconds * SAMPLE_RATE)
    for stem, samples in stems.items():
        audio.write(folder / f"{stem}.wav", np.resize(samples, (2, length)), subtype="PCM_24")


def mix(folder: Path, parts: bool) -> dict[str, float]:
    """Seconds and peak memory of one mix."""
    options = MixOptions.for_file(folder / "mix.wav", target_loudness=-14.0)
    mixer = Mixer.load(folder / "mixer")
    sources = {stem: folder / f"{stem}.wav" for stem in STEMS}
    out = PartsOut(folder / "parts", "mixer") if parts else None
    start, busy = time.perf_counter(), time.process_time()
    mix_files(mixer, sources, options, folder / "mix.wav", parts=out, reported=False)
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - busy,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def errors(folder: Path) -> dict[str, float]:
    """How far the sum of the parts, and a mix of them again, lie from the mix, in dB under it."""
    description = read_description(folder / "parts")
    mixed = audio.read(folder / "parts" / "mix.wav", None)[0]
    total = -mixed
    for part in description.stems.values():
        total += audio.read(folder / "parts" / part.file, None)[0]
    options = MixOptions.for_file(folder / "again.wav", sample_rate=description.sample_rate)
    again = remix(folder / "parts", Change({}), options).audio - mixed
    return {name: _relative_db(error, mixed) for name, error in (("sum", total), ("again", again))}


def _relative_db(error: np.ndarray, signal: np.ndarray) -> float:
    energies = [sum(float(np.square(channel, dtype=np.float64).sum()) for channel in part) for part in (error, signal)]
    return float(10 * np.log10((energies[0] + 1e-30) / energies[1]))


def _alone(function: Any, *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sizes", choices=list(RUN_IN_SECONDS), default="demo")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _alone(prepare, folder, arguments.seconds, arguments.sizes)
        found: dict[str, list[dict[str, float]]] = {"alone": [], "with parts": []}
        for _ in range(arguments.repeats):
            found["alone"].append(_alone(mix, folder, False))
            found["with parts"].append(_alone(mix, folder, True))
        result = {kind: {key: min(run[key] for run in runs) for key in runs[0]} for kind, runs in found.items()}
        result["error_db"] = _alone(errors, folder)
    ratios = {key: result["with parts"][key] / result["alone"][key] for key in ("seconds", "processor_seconds")}
    for kind in found:
        print(f"{kind}: " + ", ".join(f"{value:.2f} {key}" for key, value in result[kind].items()))
    print("with parts: " + ", ".join(f"{value:.2f} times the {key}" for key, value in ratios.items()))
    print(f"targets: {TARGET_RATIO} times, {TARGET_GIGABYTES} GB, {TARGET_DB} dB; errors: {result['error_db']}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result | {"ratios": ratios}, indent=2))


if __name__ == "__main__":
    main()

"""Mixers that differ, reports on them, and what stands beside them in a registry or before them in a pipeline."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fxnorm.evaluation.catalogue import DECISIVE, RESIDUAL
from fxnorm.evaluation.comparison import SplitMetrics
from fxnorm.evaluation.results import (
    METRICS_FILE,
    MIXER_FILE,
    TABLE_FILE,
    TEST_DATA_FILE,
    measuring_code,
    write_table,
)
from fxnorm.mixing.mixer import WEIGHTS_FILE, mixer_digest
from fxnorm.registry import served_model
from fxnorm.statistics import DatasetStatistics
from tests.project import REPOSITORY


def carry_little(monkeypatch: pytest.MonkeyPatch, folder: Path, example: bool = True) -> None:
    """Let what this process registers have few of the package's files and a short example.

    It loads again what it registers, and has imported the other files. What another process registers is whole, as
    everywhere else.

    Args:
        monkeypatch: puts everything back, and the path on which loaded models have found their code.
        folder: where the few are, or are to be.
        example: whether there is one, which MLflow mixes before a version is there.
    """
    package = folder / "fxnorm"
    if not package.is_dir():
        shutil.copytree(REPOSITORY / "serving", package / "serving", ignore=shutil.ignore_patterns("__pycache__"))
        (package / "__init__.py").touch()
    contents = served_model.contents
    fewer: dict[str, Any] = {"code_paths": [str(package)]} | ({} if example else {"input_example": None})
    monkeypatch.setattr(served_model, "contents", lambda mixer: contents(mixer) | fewer)
    monkeypatch.setattr(served_model, "_EXAMPLE_SECONDS", 0.25)
    monkeypatch.setattr(sys, "path", [*sys.path])


def changed(mixer: Path, target: Path, seed: int) -> Path:
    """A copy of a Mixer that mixes in another way."""
    shutil.copytree(mixer, target)
    generator = torch.Generator().manual_seed(seed)
    weights = load_file(target / WEIGHTS_FILE)
    noisy = {name: values + 0.05 * torch.randn(values.shape, generator=generator) for name, values in weights.items()}
    save_file(noisy, target / WEIGHTS_FILE)
    return target


def averages_of(statistics: DatasetStatistics) -> DatasetStatistics:
    """The averages of statistics alone, as published ones are.

    The sums behind them take longer to read and to write than a song of a second to normalize.
    """
    return DatasetStatistics.of_averages({key: statistics.mean(*key) for key in statistics})


def keep_averages(statistics: Path, target: Path) -> None:
    """Write those of a file."""
    averages_of(DatasetStatistics.load(statistics)).save(target)


def report(
    folder: Path,
    mixer: Path,
    loss: float,
    songs: str = "some songs",
    baseline: float = 10.0,
    deviations: Sequence[float] = (0.0,) * 8,
) -> Path:
    """As ``fxnorm evaluate`` leaves it, of a CRAFx2 with this loss, on a song for each deviation from it."""
    systems = {"input_sum": 0.0, "normalized_sum": baseline, "crafx2": loss}
    folder.mkdir()
    metrics = {"test_wet": {system: {DECISIVE: value} for system, value in systems.items()}}
    metrics["test_wet"]["input_sum"][RESIDUAL] = 0.0  # the sum of wet stems is the reference
    (folder / METRICS_FILE).write_text(json.dumps(metrics))
    table = {
        f"song {number}": {"normalized_sum": {DECISIVE: baseline}, "crafx2": {DECISIVE: loss + deviation}}
        for number, deviation in enumerate(deviations)
    }
    write_table({"test_wet": SplitMetrics(table)}, folder / TABLE_FILE)
    (folder / TEST_DATA_FILE).write_text(json.dumps({"test_wet": {"digest": songs}}))
    (folder / MIXER_FILE).write_text(json.dumps({"digest": mixer_digest(mixer), "code": measuring_code()}))
    return folder

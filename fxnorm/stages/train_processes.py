"""Stage 3 as one call, whether it takes one process or one for each of a node's accelerators."""

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from fxnorm.errors import FxnormError
from fxnorm.settings import Settings
from fxnorm.stages import train


def run(
    settings: Settings, normalized: Path, output: Path, checkpoints: str, curve: Path, processes: int = 1
) -> dict[str, float]:
    """Train as :func:`fxnorm.stages.train.run` does, in so many processes of this machine.

    Args:
        settings: of all stages.
        normalized: what stage 2 wrote.
        output: the Mixer directory.
        checkpoints: a folder or ``s3://BUCKET/KEY`` to go on from after an interruption.
        curve: a ``.csv`` file for the loss over epochs.
        processes: how many; with more than one, torchrun starts them.

    Returns:
        the best validation loss and its step.

    Raises:
        FxnormError: what the stage raises; of several processes, that they failed, after their own words.
    """
    if processes == 1:
        train.run(settings, normalized, output, checkpoints, curve, None)
    else:
        with tempfile.TemporaryDirectory() as folder:
            params = Path(folder) / "params.yaml"
            params.write_text(yaml.safe_dump(settings.model_dump(mode="json", by_alias=True)), encoding="utf-8")
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
            command = ["-m", "fxnorm", "train", str(normalized), str(output), "--params", str(params)]
            command += ["--checkpoints", checkpoints, "--curve", str(curve)]
            done = subprocess.run([*torchrun, str(processes), *command], check=False)
            if done.returncode:
                raise FxnormError(f"training in {processes} processes ended with status {done.returncode}")
    with open(curve, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["validation_loss"]]
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    return {"validation.best_loss": float(best["validation_loss"]), "validation.best_step": float(best["step"])}

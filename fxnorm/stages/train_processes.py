"""Stage 3 as one call, whether it takes one process or one for each of a node's accelerators."""

import contextlib
import csv
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from fxnorm.errors import FxnormError, StoppedError
from fxnorm.settings import Settings
from fxnorm.stages import train
from fxnorm.training.interruption import Interruption

_POLL_SECONDS = 0.5


def run(
    settings: Settings,
    normalized: Path,
    output: Path,
    checkpoints: str,
    curve: Path,
    processes: int = 1,
    plots: Path | None = None,
) -> dict[str, float]:
    """Train as :func:`fxnorm.stages.train.run` does, in so many processes of this machine.

    Args:
        settings: of all stages.
        normalized: what stage 2 wrote.
        output: the Mixer directory.
        checkpoints: a folder or ``s3://BUCKET/KEY`` to go on from after an interruption.
        curve: a ``.csv`` file for the loss over epochs.
        processes: how many; with more than one, torchrun starts them.
        plots: a folder of pictures of the earlier stages to keep with the experiment, if there is one.

    Returns:
        the best validation loss and its step.

    Raises:
        StoppedError: SIGTERM or SIGINT came.
        FxnormError: what the stage raises; of several processes, that they failed, after their own words.
    """
    if processes == 1:
        train.run(settings, normalized, output, checkpoints, curve, plots)
    else:
        with tempfile.TemporaryDirectory() as folder:
            params = Path(folder) / "params.yaml"
            params.write_text(yaml.safe_dump(settings.model_dump(mode="json", by_alias=True)), encoding="utf-8")
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
            command = ["-m", "fxnorm", "train", str(normalized), str(output), "--params", str(params)]
            command += ["--checkpoints", checkpoints, "--curve", str(curve)]
            command += ["--plots", str(plots)] if plots is not None else []
            status, signal_number = _run([*torchrun, str(processes), *command])
            if signal_number:
                raise StoppedError(f"training in {processes} processes: stopped, not finished", signal_number)
            if status:
                raise FxnormError(f"training in {processes} processes ended with status {status}")
    with open(curve, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["validation_loss"]]
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    return {"validation.best_loss": float(best["validation_loss"]), "validation.best_step": float(best["step"])}


def _run(command: Sequence[str]) -> tuple[int, int]:
    """The status of a command, to which a signal that comes meanwhile is passed on, and that signal; 0 for none."""
    with Interruption() as interruption, subprocess.Popen(command, start_new_session=True) as process:
        passed_on = False
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL_SECONDS), interruption.signal_number
            if interruption.signal_number and not passed_on:
                process.send_signal(interruption.signal_number)
                passed_on = True

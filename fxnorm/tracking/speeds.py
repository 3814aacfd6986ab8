"""How fast trainings were, as their MLflow runs tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fxnorm.tracking import searches

_METRIC = "train/examples_per_second"
_DECISIVE = ("train.network", "train.task", "train.sequence_seconds", "train.precision")
_SIZES = "train.sizes."


@dataclass(frozen=True)
class Speed:
    """Of a training.

    Attributes:
        examples_per_second: at its end, of all processes together.
        run: its MLflow run's id.
        device: what it trained on, as PyTorch has it, and in how many processes.
    """

    examples_per_second: float
    run: str
    device: str


def newest(params: Mapping[str, Any]) -> Speed | None:
    """The speed of the newest training of the same network on examples of the same length; None if there is none.

    Args:
        params: the settings that decide, by their names in MLflow.

    Raises:
        FxnormError: the tracking server does not answer or refuses.
    """
    wanted = _decisive(params)
    conditions = [f"params.`{name}` = '{wanted[name]}'" for name in _DECISIVE if name in wanted]
    for run in searches.newest(" and ".join([f"metrics.`{_METRIC}` > 0", *conditions])):
        if _decisive(run.data.params) == wanted:
            device = f"{run.data.tags.get('device', 'an unknown device')} x {run.data.tags.get('processes', 1)}"
            return Speed(float(run.data.metrics[_METRIC]), str(run.info.run_id), device)
    return None


def _decisive(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in params.items() if name in _DECISIVE or name.startswith(_SIZES)}

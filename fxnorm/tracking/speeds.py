"""How fast trainings were, as their MLflow runs tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import mlflow

from fxnorm.tracking.errors import as_user_error, server
from fxnorm.tracking.runs import configure

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
    configure()
    client = mlflow.MlflowClient()
    wanted = _decisive(params)
    conditions = [f"params.`{name}` = '{wanted[name]}'" for name in _DECISIVE if name in wanted]
    condition = " and ".join([f"metrics.`{_METRIC}` > 0", *conditions])
    with as_user_error(f"{server()}: cannot be searched for earlier trainings"):
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        token: str | None = None
        while True:
            page = client.search_runs(
                experiments, condition, order_by=["attributes.start_time DESC"], max_results=100, page_token=token
            )
            for run in page:
                if _decisive(run.data.params) == wanted:
                    device = f"{run.data.tags.get('device', 'an unknown device')} x {run.data.tags.get('processes', 1)}"
                    return Speed(float(run.data.metrics[_METRIC]), str(run.info.run_id), device)
            token = page.token
            if not token:
                return None


def _decisive(params: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in params.items() if name in _DECISIVE or name.startswith(_SIZES)}

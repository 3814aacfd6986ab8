"""Which MLflow run holds the evaluation of a Kubeflow run."""

import os
import re
from dataclasses import dataclass

from fxnorm.errors import SettingsError, printable
from fxnorm.tracking import searches
from fxnorm.tracking.runs import DESCRIPTION_TAG

VARIABLE = "FXNORM_KUBEFLOW_RUN"
"""Environment variable with the id of the Kubeflow run that a task belongs to."""
_TAG = "kubeflow.run"
_ID = re.compile(r"[A-Za-z0-9-]{1,100}")


@dataclass(frozen=True)
class Evaluated:
    """An MLflow run with an evaluation.

    Attributes:
        address: of its page, below that of MLflow.
        name: of the run.
        verdicts: a sentence on each split, in Markdown; empty where there is none.
    """

    address: str
    name: str
    verdicts: str


def tags() -> dict[str, str]:
    """Of an MLflow run that is written to in a task of a Kubeflow run."""
    kubeflow_run = os.environ.get(VARIABLE)
    return {_TAG: kubeflow_run} if kubeflow_run else {}


def evaluated_by(kubeflow_run: str) -> Evaluated | None:
    """The newest MLflow run that a Kubeflow run's evaluation was written to; None if there is none.

    Raises:
        SettingsError: it is no id of a Kubeflow run.
        FxnormError: the tracking server does not answer or refuses.
    """
    if not _ID.fullmatch(kubeflow_run):
        raise SettingsError(f"{printable(kubeflow_run)}: no id of a Kubeflow run")
    run = next(searches.newest(f"tags.`{_TAG}` = '{kubeflow_run}'"), None)
    if run is None:
        return None
    address = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    return Evaluated(address, str(run.info.run_name), run.data.tags.get(DESCRIPTION_TAG, ""))

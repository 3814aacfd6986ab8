"""MLflow runs that fit a condition, in all experiments of the tracking server."""

from collections.abc import Iterator

import mlflow
from mlflow.entities import Run

from fxnorm.tracking.errors import as_user_error, server
from fxnorm.tracking.runs import configure

_RUNS_OF_A_PAGE = 100


def newest(condition: str) -> Iterator[Run]:
    """The runs, the newest first; asked for as far as they are looked at.

    Args:
        condition: in MLflow's language, with nothing in it that would end a quote.

    Raises:
        FxnormError: the tracking server does not answer or refuses.
    """
    configure()
    client = mlflow.MlflowClient()
    token: str | None = None
    while True:
        with as_user_error(f"{server()}: runs cannot be looked up"):
            experiments = [experiment.experiment_id for experiment in client.search_experiments()]
            page = client.search_runs(
                experiments,
                condition,
                order_by=["attributes.start_time DESC"],
                max_results=_RUNS_OF_A_PAGE,
                page_token=token,
            )
        yield from page
        token = page.token
        if not token:
            return

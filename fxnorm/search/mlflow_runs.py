"""The MLflow runs of a search: one for the study, with a nested one for each trial."""

from collections.abc import Mapping
from pathlib import Path

from fxnorm.tracking.runs import DESCRIPTION_TAG, PARENT_TAG, Experiment, TrackedRun, configure, is_alive

STATE_TAG = "search.state"
"""Of a trial's run: complete, pruned or failed."""
_STUDY_TAG, _TRIAL_TAG, _BEST = "search.study", "search.trial", "best"


def study_run(run_id: str | None, name: str, settings: str, tags: Mapping[str, str]) -> str:
    """The id of the run of a study: the one it has, if the tracking server knows it, or a new one.

    Args:
        run_id: of the run it has, if any.
        name: of the study.
        settings: those that its trials have in common, YAML.
        tags: what else is known of it.
    """
    configure()
    if run_id and is_alive(run_id):
        return run_id
    experiment = Experiment(name=f"search {name}", tags={_STUDY_TAG: name, **tags}, settings=settings)
    return TrackedRun.begin(experiment).run_id


def trial_tags(parent: str, study: str, number: int) -> dict[str, str]:
    """Tags of the run of a trial: MLflow's pages show it within its parent's."""
    return {PARENT_TAG: parent, _STUDY_TAG: study, _TRIAL_TAG: str(number)}


def trial_ended(run_id: str | None, state: str) -> None:
    """Note in a trial's run how it ended; a run that its process left open is closed."""
    configure()
    if run_id is None or not is_alive(run_id):
        return
    run = TrackedRun(run_id)
    run.set_tags({STATE_TAG: state})
    if state == "complete":
        with run:
            pass


def study_ended(
    run_id: str, number: int, value: float, params: Mapping[str, str], trials: int, table: str, files: list[Path]
) -> None:
    """Note in the run of a study its best trial.

    MLflow does not change the parameters of a run. Those of a study that was gone on with, and has found better ones,
    stand in its tags alone.

    Args:
        run_id: of the study's run.
        number: of the best trial.
        value: its loss.
        params: what it varies.
        trials: how many have ended.
        table: the best trials, Markdown.
        files: to keep with the run.
    """
    configure()
    with TrackedRun(run_id) as run:
        best = {f"{_BEST}.{name}": text for name, text in params.items()}
        known = {name: text for name, text in run.params().items() if name.startswith(f"{_BEST}.")}
        if not known:
            run.set_params(best)
        run.set_tags({f"{_BEST}.trial": str(number), DESCRIPTION_TAG: table, **best})
        run.log(trials, {"validation/best_loss": value})
        for file in files:
            run.add_file(file)

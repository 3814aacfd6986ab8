"""What a search ends with: the best trial's Mixer and settings, what these change, a table, and pictures."""

import csv
import math
import shutil
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState

from fxnorm.errors import FxnormError
from fxnorm.io import locks
from fxnorm.io.files import whole_file, whole_folder
from fxnorm.mixing.mixer import CONTENTS
from fxnorm.search import mlflow_runs, params_file
from fxnorm.search.params_file import Base
from fxnorm.search.space import Choices
from fxnorm.search.study import PARENT, REASON, Study
from fxnorm.search.trials import MIXER, Work

BEST_SETTINGS, BEST_DIFF, TABLE = "best.yaml", "best.diff", "trials.csv"
HISTORY, IMPORTANCE = "history.png", "importance.png"
_SHOWN = 10  # trials of the table on the terminal
_LONGEST_VALUE = 40  # characters in a table
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_COLOURS = {"complete": "#0072B2", "pruned": "#999999", "best": "#D55E00"}  # Okabe and Ito (2008)


@dataclass(frozen=True)
class Result:
    """The best trial, and where its files are.

    Attributes:
        number: of the trial.
        value: its loss.
        mixer: its Mixer; None if that lies on another machine.
        elsewhere: the machine whose folder has it then.
        lines: a table of the best trials.
        markdown: the same.
    """

    number: int
    value: float
    mixer: Path | None
    elsewhere: str
    lines: list[str]
    markdown: str


def write(work: Work, base: Base) -> Result:
    """Write the best trial's Mixer and settings, the table and the pictures into the study's folder.

    Raises:
        FxnormError: no trial was trained to its end.
    """
    study = work.study
    with locks.held(study.folder, "-result", wait=True):
        trials = study.finished()
        found = study.best(1)
        if not found:
            reasons = [str(trial.user_attrs[REASON]) for trial in trials if REASON in trial.user_attrs]
            why = f"; the last one failed: {reasons[-1]}" if reasons else ""
            raise FxnormError(f"{study.name}: none of {len(trials)} trials was trained to its end{why}")
        (best,) = found
        values = values_of(study, best)
        after = best_settings(study, base, values)
        files = {BEST_SETTINGS: after, BEST_DIFF: params_file.unified_diff(base.text, after, base.name)}
        for name, text in files.items():
            with whole_file(study.folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="")
        _write_table(study, trials)
        pictures = _draw(study)
        mixer = _copied(work, best)
        markdown = "\n".join(_rows(study, " | ", "| ", " |", rule=True)) + "\n"
        params = {name: _text(value) for name, value in values.items()}
        parent = study.once(PARENT, lambda run_id: run_id or "")
        if parent:
            kept = [*(study.folder / name for name in (*files, TABLE)), *pictures]
            assert best.value is not None
            mlflow_runs.study_ended(parent, best.number, best.value, params, len(trials), markdown, kept)
    assert best.value is not None
    elsewhere = "" if study.is_here(best) else str(best.user_attrs.get("place", "")).partition(" ")[2]
    return Result(best.number, best.value, mixer, elsewhere, _rows(study, "  "), markdown)


def values_of(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    """What a trial varies, as params.yaml has it."""
    values: dict[str, Any] = {}
    for name, part in study.space.space.items():
        if name in trial.params:
            value = trial.params[name]
            values[name] = part.choices[part.labels().index(value)] if isinstance(part, Choices) else value
    return values


def best_settings(study: Study, base: Base, values: dict[str, Any]) -> str:
    """The text of the settings file with what the best trial has otherwise."""
    changed = dict(base.overrides) | values
    complete = study.space.settings(base.settings, values).model_dump(mode="json", by_alias=True)
    given: dict[str, Any] = {}
    for name, value in changed.items():
        parts = name.split(".")
        # an item of a list that the file leaves at its default: the file gets the whole list
        numbers = [index for index, part in enumerate(parts) if part.isdecimal()]
        if numbers and not _has(params_file.content(base.text), parts[: numbers[0]]):
            list_name = ".".join(parts[: numbers[0]])
            given[list_name] = _at(complete, parts[: numbers[0]])
        else:
            given[name] = value
    return params_file.edited(base.text, given, base.name)


def _has(content: Any, parts: list[str]) -> bool:
    for part in parts:
        if not isinstance(content, dict) or part not in content:
            return False
        content = content[part]
    return True


def _at(content: Any, parts: list[str]) -> Any:
    for part in parts:
        content = content[part]
    return content


def _copied(work: Work, best: FrozenTrial) -> Path | None:
    target = work.study.folder / MIXER
    with tempfile.TemporaryDirectory() as folder, work.study.storage.exclusive():
        if not work.copy_mixer(best.number, Path(folder)):
            if target.is_dir():
                shutil.rmtree(target)  # of a trial that was the best before
            return None
        with whole_folder(target, CONTENTS.refuse_others) as temporary:
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
    return target


def _write_table(study: Study, trials: list[FrozenTrial]) -> None:
    names = list(study.space.space)
    with whole_file(study.folder / TABLE) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["trial", "state", "loss", "validations", "minutes", *names, "reason"])
        writer.writeheader()
        for trial in trials:
            values = values_of(study, trial)
            writer.writerow(
                {"trial": trial.number, "state": _STATES[trial.state], "loss": trial.value,
                 "validations": len(trial.intermediate_values), "minutes": _minutes(trial),
                 "reason": trial.user_attrs.get(REASON, ""), **{name: _text(value) for name, value in values.items()}}
            )  # fmt: skip


def _minutes(trial: FrozenTrial) -> str:
    if trial.datetime_start is None or trial.datetime_complete is None:
        return ""
    return f"{(trial.datetime_complete - trial.datetime_start).total_seconds() / 60:.2f}"


def _rows(study: Study, between: str, before: str = "", after: str = "", rule: bool = False) -> list[str]:
    """The best trials, a line each, with a line of titles; columns are as wide as they have to be."""
    names = list(study.space.space)
    table = [["trial", "loss", *names]]
    for trial in study.best(_SHOWN):
        values = values_of(study, trial)
        table.append(
            [str(trial.number), f"{trial.value:.5g}", *(_text(values[name])[:_LONGEST_VALUE] for name in names)]
        )
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if rule:
        table.insert(1, ["-" * width for width in widths])
    lines = [
        before + between.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + after
        for row in table
    ]
    return [line.rstrip() for line in lines]


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else params_file.flow(value)


def _draw(study: Study) -> list[Path]:
    """The pictures that there is something for."""
    complete = study.best(len(study.finished()))
    drawn = [_saved(study.folder / HISTORY, lambda axes: _draw_history(study, axes))]
    if len(complete) > 1 and len({trial.value for trial in complete}) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            importance = optuna.importance.get_param_importances(study.optuna_study)
        drawn.append(_saved(study.folder / IMPORTANCE, lambda axes: _draw_importance(importance, axes)))
    return drawn


def _saved(path: Path, draw: Callable[[Axes], None]) -> Path:
    figure = Figure(figsize=(7.0, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    return path


def _draw_history(study: Study, axes: Axes) -> None:
    lowest, steps = math.inf, []
    trials = study.finished()
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        name = _STATES[state]
        points = [(trial.number, trial.value) for trial in trials if trial.state == state and trial.value is not None]
        if points:
            axes.plot(*zip(*points, strict=True), "o", color=_COLOURS[name], label=name, markersize=5)
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            lowest = min(lowest, trial.value)
        if math.isfinite(lowest):
            steps.append((trial.number, lowest))
    axes.step(*zip(*steps, strict=True), where="post", color=_COLOURS["best"], label="best so far")
    axes.set(xlabel="trial", ylabel="best validation loss")
    axes.legend(fontsize="small")


def _draw_importance(importance: dict[str, float], axes: Axes) -> None:
    names = list(reversed(importance))
    axes.barh(names, [importance[name] for name in names], color=_COLOURS["complete"])
    axes.set(xlabel="share of what makes a trial one of the best (PED-ANOVA)", xlim=(0, 1))

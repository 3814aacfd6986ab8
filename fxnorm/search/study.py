"""A study: its trials in the storage, who works on which, and which is next.

A trial that a process works on is ``RUNNING``. One whose process is gone is recognized without waiting where both
lie on one machine: the process held the lock of the trial's folder, and the system let go of it. Of another machine's
process, it is what no longer counts on: each notes a new number every few seconds.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning, OptunaError
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from fxnorm.errors import FxnormError, SettingsError
from fxnorm.io import locks
from fxnorm.io.files import whole_file
from fxnorm.search.space import Choices, Range, Space
from fxnorm.search.storage import Storage

PLACE_FILE = "place"
TRIALS = "trials"
COMMON, PARENT = "common", "mlflow_run"
"""Attributes of a study: what all trials share, and the MLflow run that theirs belong to."""
PLACE, SLOT, OWNER, BEAT, RUN, REASON, ENDS = (
    "place", "slot", "owner", "beat", "mlflow_run", "reason", "ends",
)  # fmt: skip
"""Attributes of a trial: the folder of the study that it is done in, the task of a pipeline that does it, the process,
what that counts, the trial's MLflow run, why it failed, how often its process was ended from outside."""

BEAT_SECONDS = 20.0
GRACE_SECONDS = 180.0
"""After so long without a new number another machine's process counts as gone."""
MOST_ENDS = 3
"""How often a trial's process may end alone from the same checkpoint, as it does when memory runs out."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """A trial that this process works on.

    Attributes:
        number: of the trial, from 0.
        values: what it varies, by dotted names.
        folder: for its checkpoints, curve and Mixer; locked until the trial is let go of.
        run_id: the MLflow run that it began in, if it did.
    """

    trial: optuna.Trial
    number: int
    values: dict[str, Any]
    folder: Path
    run_id: str | None
    lock: contextlib.ExitStack


@dataclass
class Study:
    """A study as one process sees it.

    Args:
        storage: where it is kept.
        name: there.
        space: what it varies.
        folder: of the study on this machine.
        slot: the task of a pipeline that this process is; a task that is started anew takes its trial up at once.
    """

    storage: Storage
    name: str
    space: Space
    folder: Path
    slot: str | None = None
    optuna_study: optuna.Study = field(init=False)
    _owner: str = field(default_factory=lambda: f"process {os.getpid()} on {socket.gethostname()} {uuid.uuid4().hex}")
    _seen: dict[int, tuple[str, float]] = field(default_factory=dict)

    def open(self, common: dict[str, Any]) -> None:
        """Make the study, or see that its trials are comparable with those that are to come.

        Raises:
            SettingsError: its trials so far are of another space, of other settings or songs.
        """
        with self.storage.exclusive():
            self.optuna_study = optuna.create_study(
                storage=self.storage.rdb, study_name=self.name, pruner=_pruner(self.space), load_if_exists=True
            )
            before = self.optuna_study.user_attrs.get(COMMON)
            if before is None:
                self.optuna_study.set_user_attr(COMMON, common)
        if before is not None and before != common:
            names = [name for name in (common | before) if common.get(name) != before.get(name)]
            names.sort(key=lambda name: not name.startswith("space "))
            raise SettingsError(
                f"{self.name}: its trials so far are of another {names[0]}, which could not be compared; expected the"
                " settings, space and songs that it began with, or another output"
            )
        self._place()

    def claim(self) -> Claim | None:
        """The next trial for this process, for :meth:`held`; None if there is none now."""
        return self.storage.patiently(self._claim)

    def _claim(self) -> Claim | None:
        with self.storage.exclusive():
            trials = self.trials()
            for frozen in trials:
                if frozen.state == TrialState.RUNNING and self._is_abandoned(frozen):
                    return self._taken(optuna.Trial(self._drawing(frozen.number), frozen._trial_id))
            waiting = [frozen.number for frozen in trials if frozen.state == TrialState.WAITING]
            if not waiting and len(trials) >= self.space.trials:
                return None
            study = self._drawing(min(waiting, default=len(trials)))
            if not waiting:  # made with its attributes, so that it is recognized if this process ends right now
                mine = {PLACE: self._place(), SLOT: self.slot, OWNER: self._owner}
                study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=mine))
            return self._taken(study.ask())

    def _taken(self, trial: optuna.Trial) -> Claim:
        folder = self.folder_of(trial.number)
        with contextlib.ExitStack() as stack:
            stack.enter_context(locks.held(folder))
            for name, value in ((PLACE, self._place()), (SLOT, self.slot), (OWNER, self._owner)):
                trial.set_user_attr(name, value)
            values = {name: _suggested(trial, name, part) for name, part in self.space.space.items()}
            return Claim(trial, trial.number, values, folder, trial.user_attrs.get(RUN), stack.pop_all())

    def process_ended(self, number: int) -> None:
        """Note that a process of this machine was ended from outside, not with all others: its trial may be at fault.

        One that ends its process each time has failed.
        """
        owner = f"process {number} on {socket.gethostname()} "
        with self.storage.exclusive():
            for frozen in self.trials():
                if frozen.state == TrialState.RUNNING and str(frozen.user_attrs.get(OWNER)).startswith(owner):
                    folder = self.folder_of(frozen.number)
                    checkpoint = max((path.name for path in folder.glob("checkpoints/*/step-*.pt")), default="")
                    last, count = frozen.user_attrs.get(ENDS) or ("", 0)
                    count = count + 1 if last == checkpoint else 1
                    optuna.Trial(self.optuna_study, frozen._trial_id).set_user_attr(ENDS, [checkpoint, count])
                    if count == MOST_ENDS:
                        self._tell(frozen.number, None, f"its process was ended from outside {count} times")

    @contextlib.contextmanager
    def held(self, claim: Claim) -> Iterator[None]:
        """While the block lasts, show other processes that this one works on the trial."""
        stopped = threading.Event()

        def count() -> None:
            number = 0
            while not stopped.wait(BEAT_SECONDS):
                number += 1
                try:
                    claim.trial.set_user_attr(BEAT, f"{self._owner} {number}")
                except (OptunaError, SQLAlchemyError) as error:
                    _log.debug("trial %d: %s", claim.number, error)  # the next one may arrive

        thread = threading.Thread(target=count, daemon=True)
        with claim.lock:
            thread.start()
            try:
                yield
            finally:
                stopped.set()
                thread.join()

    def tell(self, claim: Claim, value: float | None, reason: str | None = None) -> None:
        """Note how a trial ended: with its value; pruned, with neither; or failed, for a reason.

        Raises:
            FxnormError: another process has taken the trial over.
        """

        def request() -> None:
            with self.storage.exclusive():
                frozen = self.trials()[claim.number]
                if frozen.user_attrs.get(OWNER) != self._owner:
                    raise FxnormError(
                        f"{self.name}: trial {claim.number} was taken over by {frozen.user_attrs.get(OWNER)}, as this"
                        " process had not been heard of for minutes"
                    )
                if not frozen.state.is_finished():
                    self._tell(claim.number, value, reason)

        self.storage.patiently(request)

    def _tell(self, number: int, value: float | None, reason: str | None) -> None:
        study = self.optuna_study
        if reason is not None:
            optuna.Trial(study, self.trials()[number]._trial_id).set_user_attr(REASON, reason)
            study.tell(number, state=TrialState.FAIL)
        elif value is None:
            study.tell(number, state=TrialState.PRUNED)
        else:
            study.tell(number, value)

    def should_prune(self, claim: Claim, number: int, value: float) -> bool:
        """Note the loss of a validation; whether the trial is to be ended.

        A validation that is done again after an interruption has been noted before.
        """

        def request() -> bool:
            noted = self.trials()[claim.number].intermediate_values
            if number not in noted:
                claim.trial.report(value, number)
            return number >= max(noted, default=number) and claim.trial.should_prune()

        return self.storage.patiently(request)

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.optuna_study.get_trials(deepcopy=False)

    def finished(self) -> list[FrozenTrial]:
        """Those that have ended in any way."""
        return [trial for trial in self.storage.patiently(self.trials) if trial.state.is_finished()]

    def is_over(self) -> bool:
        """Whether as many trials have ended as were asked for."""
        return len(self.finished()) >= self.space.trials

    def best(self, count: int) -> list[FrozenTrial]:
        """The complete trials with the lowest losses, the lowest first."""
        complete = [trial for trial in self.finished() if trial.state == TrialState.COMPLETE]
        return sorted(complete, key=lambda trial: (trial.value, trial.number))[:count]

    def is_here(self, trial: FrozenTrial) -> bool:
        """Whether a trial was done in this folder."""
        return trial.user_attrs.get(PLACE) == self._place()

    def folder_of(self, number: int) -> Path:
        """For checkpoints, curve and Mixer of a trial."""
        return self.folder / TRIALS / f"{number:04d}"

    def once(self, name: str, make: Callable[[str | None], str]) -> str:
        """An attribute of the study that one process makes, from what it was before."""
        with self.storage.exclusive():
            study = self.optuna_study
            before = study.user_attrs.get(name)
            value = make(before)
            if value != before:
                study.set_user_attr(name, value)
            return value

    def _drawing(self, number: int) -> optuna.Study:
        """Optuna's study with a sampler of its own for a trial: processes do not draw the same, and what is drawn
        depends on the trials so far alone."""
        self.optuna_study.sampler = _sampler(self.space, number)
        return self.optuna_study

    def _place(self) -> str:
        """A name for the folder of the study on this machine, which another machine's folder does not have."""
        file = self.folder / PLACE_FILE
        if not file.is_file():
            with locks.held(file, wait=True):
                if not file.is_file():
                    with whole_file(file) as temporary:
                        temporary.write_text(uuid.uuid4().hex, encoding="utf-8")
        return f"{file.read_text(encoding='utf-8')} {socket.gethostname()}"

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        attributes = trial.user_attrs
        if attributes.get(OWNER) == self._owner:
            return True  # it was not told that it had it, as the database did not answer
        if self.slot is not None and attributes.get(SLOT) == self.slot:
            return True
        if attributes.get(PLACE) == self._place():
            try:
                with locks.held(self.folder_of(trial.number)) as held:
                    if held:
                        return True
            except locks.LockedError:
                return False
        beat, now = json.dumps([attributes.get(OWNER), attributes.get(BEAT)]), time.monotonic()
        if self._seen.get(trial.number, ("", 0.0))[0] != beat:
            self._seen[trial.number] = beat, now
        return now - self._seen[trial.number][1] > GRACE_SECONDS


def _suggested(trial: optuna.Trial, name: str, part: Choices | Range) -> Any:
    if isinstance(part, Choices):
        labels = part.labels()
        chosen = trial.suggest_categorical(name, labels)
        return next(value for value, label in zip(part.choices, labels, strict=True) if label == chosen)
    if part.whole:
        step = 1 if part.step is None else int(part.step)
        return trial.suggest_int(name, int(part.low), int(part.high), step=step, log=part.log)
    return trial.suggest_float(name, part.low, part.high, step=part.step, log=part.log)


def _sampler(space: Space, number: int) -> optuna.samplers.BaseSampler:
    settings = space.sampler.model_dump(exclude={"name", "seed"})
    seed = (space.sampler.seed * 1_000_003 + number) % 2**32
    samplers: dict[str, Callable[..., optuna.samplers.BaseSampler]] = {
        "tpe": optuna.samplers.TPESampler,
        "random": optuna.samplers.RandomSampler,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return samplers[space.sampler.name](seed=seed, **settings)


def _pruner(space: Space) -> optuna.pruners.BasePruner:
    settings = space.pruner.model_dump(exclude={"name"})
    pruners: dict[str, Callable[..., optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": optuna.pruners.MedianPruner,
        "percentile": optuna.pruners.PercentilePruner,
        "successive_halving": optuna.pruners.SuccessiveHalvingPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
    }
    return pruners[space.pruner.name](**settings)

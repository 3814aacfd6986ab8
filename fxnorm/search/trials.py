"""One trial after the other: normalization, a training, and what remains of it."""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from fxnorm.errors import DivergedError, FxnormError, PrunedError, SettingsError, first_line
from fxnorm.io import object_store
from fxnorm.io.folders import files_below
from fxnorm.search import mlflow_runs
from fxnorm.search.prepared import Songs
from fxnorm.search.space import Space
from fxnorm.search.study import PARENT, RUN, Claim, Study
from fxnorm.settings import Settings
from fxnorm.stages import train

MIXER, CHECKPOINTS, CURVE = "mixer", "checkpoints", "loss.csv"
"""In the folder of a trial."""
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Work:
    """What the trials of a study are made from.

    Attributes:
        study: that they belong to.
        base: the settings that are not varied.
        songs: what they learn from.
        normalized: a folder for normalized songs, which other studies share.
        keep: how many of the best keep their Mixer.
        checkpoints: ``s3://BUCKET/KEY`` for checkpoints, and the Mixers of the best, that outlive this machine; else
            they lie in the study's folder.
    """

    study: Study
    base: Settings
    songs: Songs
    normalized: Path
    keep: int = 1
    checkpoints: str | None = None
    _tidied: set[int] = field(default_factory=set)

    @property
    def space(self) -> Space:
        """What is varied."""
        return self.study.space

    def to_the_end(self) -> None:
        """Do trials until as many have ended as were asked for; wait for those of others, and take up what they leave.

        Raises:
            StoppedError: SIGTERM or SIGINT came during a training, which goes on from its checkpoint.
            FxnormError: something that all trials need is not there or does not fit.
        """
        while not self.study.is_over():
            if self.one() is None:
                time.sleep(_POLL_SECONDS)

    def one(self) -> int | None:
        """Do the next trial; gives its number, or None if there is none to be begun now.

        Raises:
            StoppedError: likewise.
            FxnormError: likewise.
        """
        claim = self.study.claim()
        if claim is None:
            return None
        with self.study.held(claim):
            value, reason = self._result(claim)
            self.study.tell(claim, value, reason)
        self._report(claim, value, reason)
        self.tidy()
        return claim.number

    def _result(self, claim: Claim) -> tuple[float | None, str | None]:
        """The trial's loss; or neither, if it was pruned; or the reason why it failed."""
        value, reason, state = None, None, "pruned"
        try:
            value, state = self._trained(claim), "complete"
            self._store_mixer(claim, value)
        except PrunedError:
            pass
        except (DivergedError, SettingsError, torch.OutOfMemoryError) as error:
            reason, state = first_line(error), "failed"
        mlflow_runs.trial_ended(self._run_of(claim), state)
        return value, reason

    def _trained(self, claim: Claim) -> float:
        mixer, curve = claim.folder / MIXER, claim.folder / CURVE
        checkpoints = str(claim.folder / CHECKPOINTS) if self.checkpoints is None else self._stored(claim.number)
        settings = self.space.settings(self.base, claim.values)
        normalized = self.songs.normalized(settings, self.normalized)
        trial = train.Trial(
            f"trial {claim.number}",
            mlflow_runs.trial_tags(self._parent(), self.study.name, claim.number),
            self._run_of(claim),
            lambda run_id: self.study.storage.patiently(lambda: claim.trial.set_user_attr(RUN, run_id)),
            lambda number, loss: self._validated(claim, number, loss),
        )
        return train.run(settings, normalized, mixer, checkpoints, curve, None, trial).best_validation_loss

    def _validated(self, claim: Claim, number: int, loss: float) -> None:
        if self.study.should_prune(claim, number, loss):
            raise PrunedError(f"trial {claim.number}: pruned after validation {number}")

    def _run_of(self, claim: Claim) -> str | None:
        run_id = claim.trial.user_attrs.get(RUN)
        return None if run_id is None else str(run_id)

    def _parent(self) -> str:
        """The study's MLflow run, which is begun with the first trial."""
        return self.study.once(
            PARENT,
            lambda run_id: mlflow_runs.study_run(
                run_id, self.study.name, self.base.to_yaml(), {"data.digest": self.songs.digest}
            ),
        )

    def _report(self, claim: Claim, value: float | None, reason: str | None) -> None:
        said = f"{value:.4g}" if value is not None else f"failed: {reason}" if reason is not None else "pruned"
        count = len(self.study.finished())
        tqdm.write(f"search: trial {claim.number}: {said} ({count} of {self.space.trials} trials have ended)")

    def tidy(self) -> None:
        """Remove checkpoints and Mixers of trials that have ended and are not among the best."""
        with self.study.storage.exclusive():
            kept = {trial.number for trial in self.study.best(self.keep)}
            for trial in self.study.finished():
                if trial.number not in kept:
                    folder = self.study.folder_of(trial.number)
                    for name in (MIXER, CHECKPOINTS):
                        if (folder / name).is_dir():
                            shutil.rmtree(folder / name)
        if self.checkpoints is not None:
            for trial in self.study.finished():
                if trial.number not in kept | self._tidied:
                    store = object_store.Folder(self._stored(trial.number))
                    for stored in store.below():
                        store.remove(stored.name)
                    self._tidied.add(trial.number)

    def copy_mixer(self, number: int, target: Path) -> bool:
        """Copy the Mixer of a trial into an existing folder; whether it is here, or in the store."""
        source = self.study.folder_of(number) / MIXER
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
            return True
        if self.checkpoints is None:
            return False
        store = object_store.Folder(f"{self._stored(number)}/{MIXER}")
        found = store.below()
        for stored in found:
            path = target / stored.name
            if not path.resolve().is_relative_to(target.resolve()):
                raise FxnormError(f"{store.address}/{stored.name}: no name of a file in a Mixer")
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download(stored.name, path)
        return bool(found)

    def _store_mixer(self, claim: Claim, value: float) -> None:
        """Bring the Mixer of a trial to the store, if it may be one of the best."""
        best = self.study.best(self.keep)
        if self.checkpoints is None or (len(best) >= self.keep and value > (best[-1].value or 0.0)):
            return
        mixer = claim.folder / MIXER
        store = object_store.Folder(f"{self._stored(claim.number)}/{MIXER}")
        for file in files_below(mixer):
            store.upload(file, file.relative_to(mixer).as_posix())

    def _stored(self, number: int) -> str:
        assert self.checkpoints is not None
        return f"{self.checkpoints.rstrip('/')}/{self.study.name}/{number:04d}"

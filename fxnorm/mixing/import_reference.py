"""What the method's authors published, from a clone of their repository to a Mixer directory.

The repository holds the average effects of MUSDB18's training songs and, for each experiment, the weights of a network.
Nothing in it is executed or unpickled: its settings, which are Python, are not read either. What cannot be read off the
weights is given here for the experiments that it has.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fxnorm.data import provenance
from fxnorm.data.importers import musdb
from fxnorm.data.provenance import Share, TrainedOn
from fxnorm.errors import FxnormError, ModelError, SettingsError, printable
from fxnorm.io import outputs
from fxnorm.mixing import import_weights
from fxnorm.mixing.mixer import CONTENTS
from fxnorm.settings import Settings
from fxnorm.statistics import import_reference_statistics

REPOSITORY = "https://github.com/sony/FxNorm-automix"
LICENCE = "MIT"
"""Of the repository, its weights included."""
DEFAULT_EXPERIMENT = "ours_S_Lb"
"""The published CRAFx2, trained with the loss Lb."""

AVERAGES = Path("trainings/features/features_MUSDB18.npy")
_RESULTS = Path("trainings/results")
_WEIGHTS = ("best_model_for_mixture_valid_stereo_loss_mean.params", "current_model_for_mixture.params")
"""The best in validation, which the repository's own inference takes, before the last."""

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)
_MOST_LISTED = 500  # characters

_MUSDB18 = TrainedOn(shares=(Share(dataset="MUSDB18", licence=musdb.LICENCE, commercial=False, train=86, val=14),))
"""By the settings of all published experiments. The split is the one of the dataset's own tools."""


@dataclass(frozen=True)
class _Experiment:
    """What is known of a published experiment beside its weights, under the reference's names."""

    config: Mapping[str, Any] = field(default_factory=dict)
    learnt: TrainedOn = _MUSDB18


_EXPERIMENTS = {
    DEFAULT_EXPERIMENT: _Experiment(),
    "ours_S_pretrained": _Experiment({"PRETRAIN": True}),
    "wun_S_Lb": _Experiment(),
}
_OTHER = _Experiment(learnt=TrainedOn())


@dataclass(frozen=True)
class Origin:
    """Where an imported Mixer is from.

    Attributes:
        experiment: its name in the repository.
        weights: SHA-256 of the file of the weights.
        averages: SHA-256 of the file of the averages.
    """

    experiment: str
    weights: str
    averages: str

    def __str__(self) -> str:
        return f"experiment {self.experiment} of {REPOSITORY} ({LICENCE} licence), weights with SHA-256 {self.weights}"


def run(
    settings: Settings,
    clone: Path,
    output: Path,
    experiment: str = DEFAULT_EXPERIMENT,
    impulse_responses: Path | None = None,
    pre_impulse_responses: Path | None = None,
) -> tuple[str, Origin]:
    """Write the Mixer directory of a published experiment; of the front-end that was trained alone, that alone.

    Args:
        settings: of all stages: the normalization's, and the Mixer's run-in.
        clone: of the method's reference repository.
        output: the Mixer directory.
        experiment: a folder in the clone's ``trainings/results``.
        impulse_responses: a folder of impulse responses for the reverberation; synthesized ones otherwise, because
            those of the publication are private.
        pre_impulse_responses: likewise for the pre-reverb of dry recordings.

    Returns:
        a description of what was written, and where it is from.

    Raises:
        FxnormError: a file is missing, not readable or not what it should be; the text names it.
    """
    outputs.check([clone, impulse_responses, pre_impulse_responses], [outputs.Folder(output, CONTENTS.refuse_others)])
    averages, weights = _files(clone, experiment)
    known = _EXPERIMENTS.get(experiment, _OTHER)
    written = import_weights.write(
        settings,
        weights,
        output,
        import_reference_statistics(averages),
        known.config,
        impulse_responses,
        pre_impulse_responses,
    )
    provenance.leave_in(output, known.learnt)
    return written, Origin(experiment, _sha256(weights), _sha256(averages))


def refuse_without_mixer(experiment: str) -> None:
    """Refuse to register an experiment that is a front-end alone, before anything is imported.

    Raises:
        FxnormError: it is one.
    """
    if _EXPERIMENTS.get(experiment, _OTHER).config.get("PRETRAIN"):
        raise FxnormError(f"--experiment {experiment}: is a front-end alone, which mixes nothing; it is not registered")


def _files(clone: Path, experiment: str) -> tuple[Path, Path]:
    """The averages and the weights of an experiment, which are there, within the clone, and no pointers to others.

    Raises:
        SettingsError: the experiment is no name of a folder.
        ModelError: a file is missing, leads out of the clone, or is a pointer.
    """
    if not _NAME.fullmatch(experiment):
        raise SettingsError(f"--experiment {printable(experiment)}: expected the name of a folder in {_RESULTS}")
    folder = _RESULTS / experiment
    weights = next((folder / name for name in _WEIGHTS if (clone / folder / name).is_file()), None)
    missing = [] if (clone / AVERAGES).is_file() else [str(AVERAGES)]
    if weights is None:
        missing.append(str(folder / _WEIGHTS[-1]))
    if weights is None or missing:
        there = "" if (clone / folder).is_dir() else _experiments_of(clone)
        raise ModelError(f"{clone}: expected a clone of {REPOSITORY}, found no {' and no '.join(missing)}{there}")
    for file in (clone / AVERAGES, clone / weights):
        if not file.resolve().is_relative_to(clone.resolve()):
            raise ModelError(f"{file}: is a link that leads out of {clone}")
        with open(file, "rb") as opened:
            if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise ModelError(
                    f"{file}: is a pointer of Git LFS, not the file; 'git lfs pull' in {clone} brings that"
                )
    return clone / AVERAGES, clone / weights


def _experiments_of(clone: Path) -> str:
    folder = clone / _RESULTS
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return f"; {_RESULTS} has {printable(', '.join(names), _MOST_LISTED)}" if names else ""


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Stage 3: a network that mixes normalized stems as the dataset's mixes are mixed; the result is a Mixer.

Started by ``torchrun``, it trains in several processes, of which the first writes and reports. Its other task is a
front-end for that network (``train.task: front_end``), whose result is what ``train.initial_weights`` takes.
"""

import contextlib
import csv
import functools
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from fxnorm import models
from fxnorm.data import dataset, provenance, published, shards
from fxnorm.data.demo_names import is_of_the_demo
from fxnorm.data.parallel import available_cores
from fxnorm.data.splits import read_splits
from fxnorm.data.versions import code_version
from fxnorm.errors import DatasetError, FxnormError, StoppedError
from fxnorm.io import addresses, locks, object_store, outputs
from fxnorm.io.blocks import BlockCache
from fxnorm.io.files import whole_file, whole_folder
from fxnorm.io.folders import cache_folder, without_foreign
from fxnorm.mixing.mixer import CONTENTS, FRONT_END_PREFIX, WEIGHTS_FILE, Mixer, mixer_digest, write_weights
from fxnorm.mixing.static_mix import StaticMix
from fxnorm.models import MixingNetwork
from fxnorm.normalization.recipe import RECIPE_FOLDER, SETTINGS_FILE, Recipe
from fxnorm.registry import stored_weights
from fxnorm.settings import ResourcesSettings, Settings, TrainSettings
from fxnorm.tracking.runs import NETWORK_TAG, Experiment, TrackedRun, file_beside, is_alive, source_tags
from fxnorm.training import checkpoints as checkpoint_files
from fxnorm.training import initial_weights, launcher, loop, preflight
from fxnorm.training.checkpoints import Checkpoints
from fxnorm.training.distributed import Processes
from fxnorm.training.interruption import Interruption
from fxnorm.training.reverberation import Reverberation
from fxnorm.training.tasks import Task, new_network, task

_log = logging.getLogger(__name__)

_SECTIONS = ("statistics", "normalize", "train")
_PUBLISHED_STEPS = {"crafx2": 497_600, "wave_u_net": 321_600}
"""With the warm-up's; of the experiments in ``configs/``."""
_PUBLISHED_SETTINGS = {
    "crafx2": "fxnorm settings --output params.yaml",
    "wave_u_net": "fxnorm settings configs/wave_u_net_lb.yaml --output params.yaml",
}
_SMALL_NETWORK, _SHORT_TRAINING = 0.25, 0.1  # of the published; the demo's are 0.05 and 0.0005


@dataclass(frozen=True)
class Trial:
    """A training as one of many of a search.

    Attributes:
        name: of its MLflow run.
        tags: of that run, beside those of any training.
        run_id: the run that it began in on another machine, if it did.
        began: takes the run's id.
        validated: takes the number and the loss of each validation, and may end the training.
    """

    name: str
    tags: Mapping[str, str]
    run_id: str | None
    began: Callable[[str], None]
    validated: loop.Validated


def run(
    settings: Settings,
    normalized: Path,
    output: Path,
    checkpoints: str,
    curve: Path,
    plots: Path | None,
    trial: Trial | None = None,
) -> loop.Outcome:
    """Train a network and write its Mixer directory, or a front-end and write its weights.

    Args:
        settings: of all stages, because they are the parameters of the experiment that this run opens.
        normalized: what stage 2 wrote, with the splits ``train`` and ``val``.
        output: the Mixer directory; beside it, ``OUTPUT-run.json`` names the MLflow run.
        checkpoints: a folder or ``s3://BUCKET/KEY`` to go on from after an interruption; each run has its own in it.
        curve: a ``.csv`` file for the loss over epochs.
        plots: a folder of pictures of the earlier stages to keep with the experiment, if there is one.
        trial: what a search adds, if it is one of its trainings.

    Raises:
        StoppedError: SIGTERM or SIGINT came; a checkpoint was written, and no output.
        DivergedError: the loss is not a number.
        FxnormError: something that the run needs is not there or does not fit.
    """
    with Interruption() as interruption, Processes.joined() as processes:
        return _run(settings, normalized, output, checkpoints, curve, plots, processes, interruption, trial)


def run_processes(
    settings: Settings,
    normalized: Path,
    output: Path,
    checkpoints: str,
    curve: Path,
    processes: int = 1,
    plots: Path | None = None,
) -> dict[str, float]:
    """Train as :func:`run` does, in ``processes`` processes of this machine.

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
        FxnormError: what the stage raises; of several processes, that they failed, after their own messages.
    """
    if processes == 1:
        run(settings, normalized, output, checkpoints, curve, plots)
    else:
        with tempfile.TemporaryDirectory() as folder:
            params = Path(folder) / "params.yaml"
            params.write_text(yaml.safe_dump(settings.model_dump(mode="json", by_alias=True)), encoding="utf-8")
            command = ["-m", "fxnorm", "train", str(normalized), str(output), "--params", str(params)]
            command += ["--checkpoints", checkpoints, "--curve", str(curve)]
            command += ["--plots", str(plots)] if plots is not None else []
            status, signal_number = launcher.run(processes, command)
            if signal_number:
                raise StoppedError(f"training in {processes} processes: stopped, not finished", signal_number)
            if status:
                raise FxnormError(f"training in {processes} processes ended with status {status}")
    with open(curve, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["validation_loss"]]
    best = min(rows, key=lambda row: float(row["validation_loss"]))
    return {"validation.best_loss": float(best["validation_loss"]), "validation.best_step": float(best["step"])}


def _run(
    settings: Settings,
    normalized: Path,
    output: Path,
    checkpoint_parent: str,
    curve: Path,
    plots: Path | None,
    processes: Processes,
    interruption: Interruption,
    trial: Trial | None,
) -> loop.Outcome:
    local = [] if object_store.is_address(checkpoint_parent) else [Path(checkpoint_parent)]
    processes.from_first(
        lambda: outputs.check(
            [normalized, plots, _local(settings.train.initial_weights)],
            [outputs.Folder(output, CONTENTS.refuse_others)],
            [curve, file_beside(output)],
            local,
        )
    )
    recipe = _recipe(normalized)
    published.refuse_other(normalized, recipe.digest(normalized / RECIPE_FOLDER))
    cache = _cache(settings.resources) if published.is_published(normalized) else None
    splits = read_splits(normalized, ("train", "val"), cache)
    training_songs, validation_songs = splits.values()
    if not any(song.mixture for song in training_songs):
        raise DatasetError(f"{normalized / 'train'}: expected songs with a mixture to learn from, found none")
    if processes.first and (lacking := shards.lacking(normalized)):
        _log.warning(
            "%s: %d songs of other shards are not there (%s, …): training does without",
            normalized,
            len(lacking),
            lacking[0],
        )
    train, resources = settings.train, settings.resources
    # of its own accord PyTorch would take every core of the machine that a container has a part of
    torch.set_num_threads(resources.threads or min(torch.get_num_threads(), available_cores()))
    network = new_network(train)
    with stored_weights.opened(train.initial_weights) as initial:
        if initial is not None:
            initial_weights.load(network, initial)
        learnt = provenance.trained_on(normalized / RECIPE_FOLDER, splits, initial)
    own_songs = not all(is_of_the_demo(song.name) for song in training_songs)
    if processes.first and trial is None and train.task == "mix" and own_songs:
        _warn_of_small(train, network)
    work = task(network, train)
    preflight.check(train, resources, work, processes)  # before the data is hashed

    def checkpoints_name() -> str:
        digests = [dataset.digest(training_songs), dataset.digest(validation_songs)]
        if train.reverberation:
            digests.append(recipe.digest(normalized / RECIPE_FOLDER))
        if train.initial_weights is not None:
            digests.append(initial_weights.digest(network))
        return checkpoint_files.name_of(loop.identity(train, *digests))

    with contextlib.ExitStack() as stack:
        name = processes.from_first(checkpoints_name)
        checkpoints = stack.enter_context(checkpoint_files.opened(checkpoint_parent, name, resources.keep_checkpoints))
        processes.from_first(lambda: _claim(stack, checkpoints, output))
        processes.from_first(checkpoints.fetch)
        experiment = _experiment(settings, recipe, learnt, processes, trial)
        tracked = stack.enter_context(_tracked(experiment, checkpoints, processes, trial))
        outcome = loop.train(
            work,
            train,
            training_songs,
            validation_songs,
            checkpoints,
            _curves(tracked),
            resources=resources,
            processes=processes,
            interruption=interruption,
            reverberation=Reverberation.of(recipe, train.reverberation) if train.reverberation else None,
            validated=None if trial is None else trial.validated,
            before_checkpoint=tracked.send if tracked is not None else lambda: None,
        )
        if tracked is None:
            return outcome
        _write_curve(outcome, curve)
        if train.task == "mix":
            static_mix = StaticMix.fit(training_songs)
            Mixer(recipe, network.eval(), train.run_in_seconds, processes.device).save(output)
            static_mix.save(output)
        else:
            _save_front_end(work, output)
        provenance.leave_in(output, learnt)
        if train.task == "front_end":  # no model that could be registered, and yet to be found by the run
            for file in (output / WEIGHTS_FILE, output / provenance.TRAINED_ON_FILE):
                if file.is_file():
                    tracked.add_file(file, stored_weights.FRONT_END_FOLDER)
        tracked.leave_beside(output, mixer_digest(output) if train.task == "mix" else None)
        best = {"validation.best_loss": outcome.best_validation_loss, "validation.best_step": outcome.best_step}
        _curves(tracked)(outcome.steps, best)
        tracked.add_file(curve)
        if plots is not None:
            with without_foreign(plots) as ours:
                tracked.add_folder(ours, "plots")
        return outcome


def _cache(resources: ResourcesSettings) -> BlockCache | None:
    """Where this machine keeps what it reads of a store."""
    most_bytes = int(resources.cache_gb * 1e9)
    if most_bytes == 0:
        return None
    folder = cache_folder() if resources.cache_folder is None else Path(resources.cache_folder)
    cache = BlockCache(folder, most_bytes)
    cache.prepare()
    return cache


def _local(weights: str | None) -> Path | None:
    return None if weights is None or addresses.is_address(weights) else Path(weights)


def _warn_of_small(train: TrainSettings, network: MixingNetwork) -> None:
    """Log what is small of a training that is both far smaller and far shorter than the published one.

    ``params.yaml`` has the demo's sizes, and it is easily forgotten that they are meant for the demo's songs.
    """
    if train.network not in _PUBLISHED_STEPS:
        return
    steps = len(loop.learning_rates(train))
    published = _published_parameters(train.network)
    if _parameters(network) >= _SMALL_NETWORK * published or steps >= _SHORT_TRAINING * _PUBLISHED_STEPS[train.network]:
        return
    _log.warning(
        "train: %s with %s parameters, for %s steps; the published one has %s, for %s steps. Sizes such as the demo's"
        " show that the path works and not what the method can do; '%s' writes the published ones",
        train.network,
        f"{_parameters(network):,}",
        f"{steps:,}",
        f"{published:,}",
        f"{_PUBLISHED_STEPS[train.network]:,}",
        _PUBLISHED_SETTINGS[train.network],
    )


@functools.cache
def _published_parameters(network: str) -> int:
    with torch.random.fork_rng(devices=[]):  # draws weights, which those of a training must not depend on
        return _parameters(models.build(network))


def _parameters(network: MixingNetwork) -> int:
    return sum(values.numel() for values in network.parameters())


def _claim(stack: contextlib.ExitStack, checkpoints: Checkpoints, output: Path) -> None:
    """Keep other runs from the checkpoints and the output until this one ends, however it ends."""
    for folder in (checkpoints.folder, output):
        stack.enter_context(locks.held(folder))
    stack.callback(checkpoints.release)


def _recipe(normalized: Path) -> Recipe:
    """The recipe beside the stems; without it there would be no Mixer that treats other stems as these were."""
    folder = normalized / RECIPE_FOLDER
    if normalized.is_dir() and not (folder / SETTINGS_FILE).is_file():
        raise DatasetError(
            f"{normalized}: expected normalized stems with a {RECIPE_FOLDER} folder; for stems as they are"
            f" run 'fxnorm statistics {normalized} statistics.npz', then 'fxnorm normalize {normalized} statistics.npz"
            " NORMALIZED', and train on NORMALIZED"
        )
    return Recipe.load(folder)


@contextlib.contextmanager
def _tracked(
    experiment: Experiment, checkpoints: Checkpoints, processes: Processes, trial: Trial | None
) -> Iterator[TrackedRun | None]:
    """The MLflow run, in the first process alone; a training that goes on goes on in the run that it began in.

    So does one that is repeated and finds that it is over: the same training twice is one run.
    """
    if not processes.first:
        yield None
        return
    tracked = TrackedRun.resume(checkpoints.folder, experiment)
    if tracked is not None:
        tracked.go_on()
    else:
        if trial is not None and trial.run_id is not None and is_alive(trial.run_id):
            tracked = TrackedRun(trial.run_id)
            tracked.experiment = experiment
            tracked.go_on()
        else:
            tracked = TrackedRun.begin(experiment)
        tracked.leave_in(checkpoints.folder)
        checkpoints.publish()
    if trial is not None:
        trial.began(tracked.run_id)
    if tracked.is_finished():
        with tracked.adding():
            yield tracked
        return
    with tracked:
        tracked.watch_system()
        yield tracked


def _experiment(
    settings: Settings, recipe: Recipe, learnt: provenance.TrainedOn, processes: Processes, trial: Trial | None
) -> Experiment:
    """What the run begins with; the stages before count as they were, whatever their settings are now."""
    # the format is how files are kept, of which a recipe says nothing
    normalized = recipe.settings.model_copy(update={"format": settings.normalize.format})
    train, used = settings.train, settings.model_copy(update={"normalize": normalized})
    params = {name: str(value) for name, value in used.flat(*_SECTIONS).items()}
    tags = (
        {f"data.{key}": value for key, value in recipe.data.items()}
        | source_tags(learnt)
        | {
            "device": str(processes.device),
            "processes": str(processes.count),
            NETWORK_TAG: train.network,
        }
        | ({} if trial is None else dict(trial.tags))
    )
    objective = f"loss {train.loss}" if train.task == "mix" else "front-end"
    return Experiment(
        name=f"{train.network} {objective} seed {train.seed}" if trial is None else trial.name,
        params=params,
        tags={**code_version(), **tags},
        settings=used.to_yaml(),
        data={f"wet/{'+'.join(recipe.settings.splits)}": recipe.data},
    )


def _curves(tracked: TrackedRun | None) -> loop.Log:
    """Takes values to the run, ``train.loss`` as ``train/loss``: MLflow's pages draw those of one word together."""
    if tracked is None:
        return lambda step, values: None
    return lambda step, values: tracked.log(step, {name.replace(".", "/", 1): value for name, value in values.items()})


def _save_front_end(work: Task, output: Path) -> None:
    with whole_folder(output, CONTENTS.refuse_others) as folder:
        state = work.module.state_dict()
        weights = {f"{FRONT_END_PREFIX}{name}": value.detach().cpu() for name, value in state.items()}
        write_weights(weights, folder / WEIGHTS_FILE)


def _write_curve(outcome: loop.Outcome, path: Path) -> None:
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", "learning_rate", "train_loss", "validation_loss"])
        writer.writeheader()
        writer.writerows(outcome.curve)

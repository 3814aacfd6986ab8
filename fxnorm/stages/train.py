"""Stage 3: a network that mixes normalized stems as the dataset's mixes are mixed; the result is a Mixer."""

import csv
from pathlib import Path

import torch

from fxnorm import dataset, models
from fxnorm.errors import DatasetError
from fxnorm.files import whole_file
from fxnorm.mixer import Mixer, default_device
from fxnorm.recipe import Recipe
from fxnorm.settings import Settings
from fxnorm.stages.normalize import RECIPE_FOLDER
from fxnorm.tracking import NETWORK_TAG, TrackedRun
from fxnorm.training import loop


def run(settings: Settings, normalized: Path, output: Path, checkpoints: Path, curve: Path, plots: Path | None) -> None:
    """Train a network and write its Mixer directory.

    Args:
        settings: of all stages, because they are the parameters of the experiment that this run opens.
        normalized: what stage 2 wrote, with the splits ``train`` and ``val``.
        output: the Mixer directory.
        checkpoints: a folder to go on from after an interruption.
        curve: a ``.csv`` file for the loss over epochs.
        plots: a folder of pictures of the earlier stages to keep with the experiment, if there is one.
    """
    recipe = Recipe.load(normalized / RECIPE_FOLDER)
    training_songs = dataset.songs(normalized, "train")
    validation_songs = dataset.songs(normalized, "val")
    if not any(song.mixture for song in training_songs):
        raise DatasetError(f"{normalized / 'train'}: expected songs with a mixture to learn from, found none")
    train = settings.train
    if train.threads:
        torch.set_num_threads(train.threads)
    torch.manual_seed(train.seed)
    network = models.build(train.network, **train.sizes)
    device = default_device()
    name = f"{train.network} loss {train.loss} seed {train.seed}"
    tags = {f"data.{key}": value for key, value in recipe.data.items()} | {
        "device": str(device),
        NETWORK_TAG: train.network,
    }
    params = settings.model_copy(update={"normalize": recipe.settings}).flat("statistics", "normalize", "train")
    with TrackedRun.start(name, params, tags) as run:
        outcome = loop.train(network, train, training_songs, validation_songs, checkpoints, device, run.log)
        _write_curve(outcome, curve)
        mixer = Mixer(recipe, network.eval(), train.run_in_seconds, device)
        mixer.save(output)
        run.leave_in(output)
        run.log(
            outcome.steps,
            {"validation.best_loss": outcome.best_validation_loss, "validation.best_step": outcome.best_step},
        )
        run.add_file(curve)
        if plots is not None:
            run.add_folder(plots, "plots")


def _write_curve(outcome: loop.Outcome, path: Path) -> None:
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["step", "learning_rate", "train_loss", "validation_loss"])
        writer.writeheader()
        writer.writerows(outcome.curve)

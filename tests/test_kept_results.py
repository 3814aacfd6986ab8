"""Kept results: what is old is never taken for new, and what is unchanged is not done again.

Kind: a result that an earlier run left (songs, checkpoints, a champion's metric, Kubeflow's cache) does not know what
made it: which code, packages, settings and input. Here are files that somebody else put in its place, too.
"""

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from fxnorm import models
from fxnorm.data import dataset
from fxnorm.data.dataset import Song
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.evaluation import songs as evaluated_songs
from fxnorm.io import audio
from fxnorm.normalization.normalizer import EffectNormalizer
from fxnorm.normalization.recipe import Recipe
from fxnorm.settings import NormalizeSettings, ResourcesSettings, StatisticsSettings, TrainSettings
from fxnorm.stages import normalize, statistics
from fxnorm.training import loop
from fxnorm.training.checkpoints import Checkpoints
from fxnorm.training.distributed import Processes
from fxnorm.training.interruption import Interruption
from fxnorm.training.tasks import task
from tests import prefork, stores
from tests.conftest import SIZES, noise
from tests.folders import contents
from tests.mixers import changed, keep_averages
from tests.project import REPOSITORY

pytestmark = pytest.mark.system

MakeSong = Callable[..., Path]
QUICK = NormalizeSettings(effects=("loudness",))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Songs are done here: processes of their own would take seconds to start."""

    def map_songs(function: Callable[[Song], Any], songs: Sequence[Song], *_: object) -> tuple[list[Any], list[Any]]:
        return [(song, function(song)) for song in songs], []

    for stage in ("statistics", "normalize"):
        monkeypatch.setattr(f"fxnorm.stages.{stage}.map_songs", map_songs)


@pytest.fixture
def wet(make_song: MakeSong, tmp_path: Path) -> Path:
    make_song("wet/train/A", seconds=0.6, seed=1)
    make_song("wet/val/B", seconds=0.6, seed=2)
    make_song("wet/test/C", seconds=0.6, seed=3)
    audio.write(tmp_path / "short rooms/short.wav", noise(0.05))
    return tmp_path / "wet"


@pytest.fixture(scope="module")
def targets(mixer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("targets") / "statistics.npz"
    keep_averages(mixer_folder / "statistics.npz", file)
    return file


def normalized(wet: Path, targets: Path, output: Path, settings: NormalizeSettings = QUICK, **options: Any) -> set[str]:
    """Normalize; the songs that were done, by the new folders that they lie in."""
    before = inodes(output)
    # short ones: synthesizing and writing many takes its time
    rooms = dict.fromkeys(("impulse_responses", "pre_impulse_responses"), wet.parent / "short rooms")
    normalize.run(settings, wet, targets, output, **(rooms | options))
    return {song for song, inode in inodes(output).items() if before.get(song) != inode}


def inodes(output: Path) -> dict[str, int]:
    return {folder.name: folder.stat().st_ino for folder in output.glob("*/?")}


def other_code(monkeypatch: pytest.MonkeyPatch, name: str, gain: float = 1.0) -> None:
    """Let the code be other code, which makes stems louder by ``gain``."""
    plain = EffectNormalizer.normalize

    def louder(*arguments: Any, **options: Any) -> np.ndarray:
        return np.float32(gain) * plain(*arguments, **options)

    monkeypatch.setattr("fxnorm.data.versions.code_digest", lambda *_: name)
    monkeypatch.setattr(EffectNormalizer, "normalize", louder)


def test_songs_of_other_code_are_done_again_and_known_when_they_come_back(
    wet: Path, targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, cache = tmp_path / "normalized", tmp_path / "cache"
    assert normalized(wet, targets, output) == {"A", "B"}
    assert normalized(wet, targets, output) == set()
    ours = contents(output)
    os.chmod(output / "train/A/bass.wav", 0o444)  # as DVC leaves what it links to its cache
    shutil.copytree(output, cache, copy_function=os.link)
    with monkeypatch.context() as patch:
        other_code(patch, "other", gain=0.5)
        assert normalized(wet, targets, output) == {"A", "B"}
        theirs = contents(output)
        assert theirs["train/A/bass.wav"] != ours["train/A/bass.wav"]
        assert contents(cache) == ours, "nothing was written through a link"
        assert normalized(wet, targets, output) == set()
        # dvc checkout brings the songs of the first code, while the second one is what normalizes
        shutil.rmtree(output)
        shutil.copytree(cache, output, copy_function=os.link)
        assert normalized(wet, targets, output) == {"A", "B"}
        assert contents(output) == theirs
    assert normalized(wet, targets, output) == {"A", "B"}, "git checkout alone: the songs are the other code's"
    assert contents(output) == ours
    shutil.rmtree(output)
    shutil.copytree(cache, output, symlinks=True)
    assert normalized(wet, targets, output) == set(), "both of one code again"


def test_code_that_makes_the_same_leaves_the_same_bytes_and_vouches_for_them(
    wet: Path, targets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "normalized"
    normalized(wet, targets, output)
    ours = contents(output)
    with monkeypatch.context() as patch:
        other_code(patch, "other")
        assert normalized(wet, targets, output) == {"A", "B"}
        assert contents(output) == ours
    assert normalized(wet, targets, output) == set(), "back at the first code, which made the very same"
    monkeypatch.setattr("fxnorm.data.versions.packages_of", lambda *_: {"numpy": "0"})
    assert normalized(wet, targets, output) == {"A", "B"}, "other packages may compute otherwise"


def overwrite(song: Path) -> None:
    samples, rate = audio.read(song / "bass.wav")
    audio.write(song / "bass.wav", 0.9 * samples, rate, subtype="PCM_24")


def one_byte(song: Path) -> None:
    with open(song / "mixture.wav", "r+b") as file:
        file.seek(-3, os.SEEK_END)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    "damage",
    [
        overwrite,
        one_byte,
        lambda song: (song / "bass.wav").unlink(),
        lambda song: (song / "digest").write_text("another"),
        lambda song: shutil.copy(song / "bass.wav", song / "drums.wav"),
        shutil.rmtree,
        lambda song: shutil.rmtree(song.parents[1]),
        lambda song: shutil.rmtree(song.parents[2] / ".normalized-done"),
    ],
)
def test_normalized_files_that_are_not_what_was_made_are_made_again(
    wet: Path, targets: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    output = tmp_path / "normalized"
    normalized(wet, targets, output)
    before = contents(output)
    damage(output / "train/A")
    assert "A" in normalized(wet, targets, output)
    assert contents(output) == before


def with_settings(**values: Any) -> NormalizeSettings:
    return QUICK.model_copy(update=values)


@pytest.mark.parametrize(
    ("settings", "again"),
    [
        (with_settings(splits=("train", "val", "test")), {"C"}),
        (with_settings(splits=("train",)), set()),
        (with_settings(seed=5), set()),  # nothing is drawn
        (with_settings(panning_limit_hz=dict(reversed(QUICK.panning_limit_hz.items()))), set()),
        (with_settings(panning_limit_hz={**QUICK.panning_limit_hz, "bass": 1000.0}), {"A", "B"}),
        (with_settings(effects=("panning", "loudness")), {"A", "B"}),
    ],
)
def test_settings_count_for_what_a_stem_depends_on(
    wet: Path, targets: Path, tmp_path: Path, settings: NormalizeSettings, again: set[str]
) -> None:
    output = tmp_path / "normalized"
    normalized(wet, targets, output)
    assert normalized(wet, targets, output, settings) == again


def test_impulse_responses_count_where_they_are_heard(wet: Path, targets: Path, tmp_path: Path) -> None:
    output, rooms = tmp_path / "normalized", tmp_path / "rooms"
    rooms.mkdir()
    ImpulseResponses.synthesized(0.3, seed=9).save(rooms)
    reverberated = with_settings(effects=("reverberation", "loudness"))
    assert normalized(wet, targets, output, reverberated) == {"A", "B"}
    assert normalized(wet, targets, output, reverberated, pre_impulse_responses=rooms) == set(), "of dry songs"
    assert normalized(wet, targets, output, reverberated, impulse_responses=rooms) == {"A", "B"}
    assert normalized(wet, targets, output, reverberated, impulse_responses=rooms, dry=True) == {"A", "B"}
    heard = {"impulse_responses": rooms, "pre_impulse_responses": rooms}
    assert normalized(wet, targets, output, reverberated, **heard, dry=True) == {"A", "B"}


def test_a_recipe_with_another_split_is_the_same_way_to_normalize(mixer_folder: Path) -> None:
    recipe = Recipe.load(mixer_folder)
    more = Recipe(**{**vars(recipe), "settings": recipe.settings.model_copy(update={"splits": ("test",)})})
    assert more.digest(mixer_folder) == recipe.digest(mixer_folder)


@pytest.mark.parametrize("what", ["code_digest", "packages_of"])
def test_features_of_other_code_or_packages_are_measured_again(
    wet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    kept = tmp_path / "songs"
    songs = dataset.songs(wet, "train")
    first = statistics._measure(songs, 1, False, kept)
    assert statistics._measure(songs, 1, False, kept) == first
    monkeypatch.setattr(f"fxnorm.data.versions.{what}", lambda *_: "another")
    assert statistics._measure(songs, 1, False, kept) != first
    assert len(list(kept.iterdir())) == 2


def test_statistics_that_were_stopped_in_other_code_begin_anew(
    wet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / ".s.npz.songs"
    (song,) = dataset.songs(wet, "train")
    statistics._measure([song], 1, False, kept)
    (left,) = kept.iterdir()
    left.write_bytes(b"features of the code that was")
    monkeypatch.setattr("fxnorm.data.versions.code_digest", lambda *_: "another")
    statistics.run(StatisticsSettings(), wet, tmp_path / "s.npz")
    assert (tmp_path / "s.npz").is_file()


def test_a_mixer_in_the_place_of_another_is_evaluated_as_itself(
    wet: Path, mixer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def measure(mixes: dict[str, np.ndarray], *_: object) -> tuple[evaluated_songs.MetricsBySystem, ...]:
        done.append("song")
        return {name: {"peak": float(np.abs(mix).max())} for name, mix in mixes.items()}, {}

    monkeypatch.setattr(evaluated_songs, "measure_all", measure)
    monkeypatch.setattr(evaluated_songs, "write_pictures", lambda *_: None)
    place = tmp_path / "mixer"
    shutil.copytree(mixer_folder, place)
    (song,) = dataset.songs(wet, "test")

    def evaluated(**options: Any) -> evaluated_songs.Result:
        defaults: dict[str, Any] = {
            "mixers": {"crafx2": place},
            "dry": frozenset(),
            "excerpt_seconds": 1.0,
            "folder": tmp_path / "kept",
        }
        return evaluated_songs.evaluate(song, evaluated_songs.EvaluationTask(**(defaults | options)))

    first = evaluated()
    assert evaluated() == first
    assert len(done) == 1
    others = [evaluated(excerpt_seconds=0.5), evaluated(dry=frozenset([song.folder]))]
    monkeypatch.setattr("fxnorm.data.versions.code_digest", lambda *_: "another")
    others.append(evaluated())
    monkeypatch.undo()
    monkeypatch.setattr(evaluated_songs, "measure_all", measure)
    monkeypatch.setattr(evaluated_songs, "write_pictures", lambda *_: None)
    shutil.rmtree(place)
    changed(mixer_folder, place, 1)
    others.append(evaluated())
    assert len({result.folder for result in [first, *others]}) == len(done) == 5
    assert others[-1].metrics()["crafx2"] != first.metrics()["crafx2"], "the very process had read the other Mixer"


def test_a_song_that_moves_from_training_to_validation_makes_another_run(tmp_path: Path) -> None:
    digests = [dataset.digest([]), "one"]
    settings = TrainSettings()
    assert loop.identity(settings, *digests) != loop.identity(settings, *reversed(digests))


def test_a_training_that_goes_on_with_other_packages_says_so(
    normalized_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values: dict[str, Any] = {"sizes": SIZES, "sequence_seconds": 0.1, "batch_size": 1}
    values |= {"batches_per_epoch": 1, "warm_up_batches": 1, "schedule": [{"epochs": 1, "learning_rate": 1e-3}]}
    settings = TrainSettings.model_validate(values)

    def train() -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "fxnorm"):
            loop.train(
                task(models.build("crafx2", **SIZES), settings),
                settings,
                dataset.songs(normalized_folder, "train"),
                dataset.songs(normalized_folder, "val")[:1],
                Checkpoints(tmp_path / "checkpoints", 2),
                lambda step, values: None,
                resources=ResourcesSettings(loader_workers=0),
                processes=Processes(torch.device("cpu")),
                interruption=Interruption(),
            )
        return [record.getMessage() for record in caplog.records]

    assert train() == []
    assert train() == [], "the same packages"
    monkeypatch.setattr(loop, "packages_of", lambda *_: {"numpy": np.__version__, "torch": "99.1"})
    (line,) = train()
    assert line.startswith("train: goes on at step 2 with torch 99.1 instead of 2.")


CACHED = {"list-songs", "check", "merge-checks", "statistics", "merge-statistics", "normalize"} | {
    f"divide-{stage}" for stage in ("check", "statistics", "normalize")
}


def test_kubeflows_cache_is_asked_with_the_code_of_the_image() -> None:
    pipeline, *_ = yaml.safe_load_all((REPOSITORY / "pipeline/pipeline.yaml").read_text())
    dags = {name: component["dag"] for name, component in pipeline["components"].items() if "dag" in component}
    tasks = {
        task["taskInfo"]["name"]: task
        for dag in [pipeline["root"]["dag"], *dags.values()]
        for task in dag["tasks"].values()
        if task.get("cachingOptions", {}).get("enableCache") and "exec" not in task
    }
    cached = {name: task for name, task in tasks.items() if name in CACHED}
    assert len(cached) == len(CACHED)
    assert "resolve" not in tasks, "what tells of the code is asked each time"
    assert all("code" in task["inputs"]["parameters"] for task in cached.values())


# --- the library itself with a line changed, in processes as a user starts them


class Library:
    """A copy of the library whose lines are changed, and its command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # with what Numba compiled
        shutil.copytree(REPOSITORY / "fxnorm", folder / "library/fxnorm", ignore=shutil.ignore_patterns("node_modules"))
        stores.new_database(folder / "mlflow.db")

    def change(self, name: str, old: str, new: str) -> None:
        file = self.folder / "library/fxnorm" / name
        text = file.read_text()
        assert text.count(old) == 1
        file.write_text(text.replace(old, new))

    def run(self, *command: object) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.folder / "library")}
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{self.folder / 'mlflow.db'}"
        done = subprocess.run(
            [str(prefork.programs() / "fxnorm"), *map(str, command)],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def test_a_changed_smoothing_is_heard_and_a_changed_comment_is_not(wet: Path, targets: Path, tmp_path: Path) -> None:
    library = Library(tmp_path)
    command = ("normalize", wet, targets, "normalized", "--workers", 1, "--set", "normalize.effects=[panning]")
    library.run(*command)
    before, done = contents(tmp_path / "normalized"), inodes(tmp_path / "normalized")
    library.change(
        "statistics/dataset_statistics.py",
        "_PANNING_SMOOTHING = 501  # bins",
        "_PANNING_SMOOTHING = 501  # bins of the FFT",
    )
    library.run(*command)
    assert inodes(tmp_path / "normalized") == done
    library.change("statistics/dataset_statistics.py", "_PANNING_SMOOTHING = 501", "_PANNING_SMOOTHING = 51")
    library.run(*command)
    assert contents(tmp_path / "normalized")["train/A/bass.wav"] != before["train/A/bass.wav"]


def test_a_changed_loss_is_learnt_from_and_a_changed_comment_is_not(normalized_folder: Path, tmp_path: Path) -> None:
    library = Library(tmp_path)
    values = {"sizes": SIZES, "sequence_seconds": 0.25, "batch_size": 1, "batches_per_epoch": 2, "warm_up_batches": 1}
    values |= {"schedule": [{"epochs": 1, "learning_rate": 1e-2}]}
    resources = {"loader_workers": 0, "threads": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"train": values, "resources": resources}))
    command = ("train", normalized_folder, "mixer", "--checkpoints", "checkpoints")
    library.run(*command)
    first = (tmp_path / "mixer-loss.csv").read_text()
    library.change("losses.py", "FFT_SIZE = 4_096", "# in samples\nFFT_SIZE = 4_096")
    assert "goes on at step 3 of 3" in library.run(*command)
    library.change("losses.py", "FFT_SIZE = 4_096", "FFT_SIZE = 2_048")
    assert "goes on" not in library.run(*command)
    assert (tmp_path / "mixer-loss.csv").read_text() != first
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2, "whoever goes back finds the first"

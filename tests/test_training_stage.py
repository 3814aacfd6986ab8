"""``fxnorm train``: its tasks and settings, what it starts from, what it tells MLflow, and what it says of mistakes."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file
from torch.nn import functional

from fxnorm import Mixer
from fxnorm.cli import main
from fxnorm.data import dataset, provenance
from fxnorm.data.provenance import Share, Source
from fxnorm.errors import SettingsError
from fxnorm.io import audio
from fxnorm.mixing.mixer import mixer_digest
from fxnorm.normalization.recipe import RECIPE_FOLDER
from fxnorm.settings import ResourcesSettings
from fxnorm.stages import train as stage
from fxnorm.tracking import runs
from fxnorm.training import loop, preflight
from tests.commands import fxnorm, the_line
from tests.conftest import SIZES, noise

pytestmark = pytest.mark.system

TINY = {
    "sizes": dict(SIZES),
    "sequence_seconds": 0.25,
    "batch_size": 2,
    "batches_per_epoch": 3,
    "warm_up_batches": 1,
    "schedule": [{"epochs": 2, "learning_rate": 1e-3}],
}
RESOURCES = {"checkpoint_every": 2, "loader_workers": 0}

Train = Callable[..., Result]
Trained = Callable[[str], str]


def run(output: str, status: int = 0, source: str = "normalized", **settings: Any) -> Result:
    """``fxnorm train SOURCE OUTPUT`` in this folder, with tiny settings."""
    resources = {key: settings.pop(key) for key in ResourcesSettings.model_fields if key in settings}
    content = {"train": TINY | settings, "resources": RESOURCES | resources}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    result = CliRunner().invoke(main, ["train", source, output])
    assert result.exit_code == status, result.output
    assert Path(output).exists() == (status == 0)
    return result


@pytest.fixture
def train(normalized_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """``fxnorm train normalized OUT`` in an empty folder, with tiny settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    Path("normalized").symlink_to(normalized_folder)
    return run


@pytest.fixture(scope="module")
def made(normalized_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which such a training has ended, of a Mixer ``out``, and what it said."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setattr(torch, "compile", lambda *_, **options: pytest.fail("on a processor nothing is compiled"))
        Path("normalized").symlink_to(normalized_folder)
        return folder, run("out").output


@pytest.fixture
def trained(made: tuple[Path, str], train: Train) -> Trained:
    """``train(OUT)`` as the first of a test, without the seconds; gives what it says."""
    folder, said = made

    def copy(output: str) -> str:
        database, old, new = Path("mlflow.db"), str(folder), str(Path.cwd())
        shutil.copy(folder / database, database)
        with contextlib.closing(sqlite3.connect(database)) as store, store:
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                store.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (old, new))
        shutil.copytree(folder / "mlartifacts", "mlartifacts")
        for name in ("", "-checkpoints", "-loss.csv", "-run.json"):
            found = folder / f"out{name}"
            (shutil.copytree if found.is_dir() else shutil.copy)(found, f"{output}{name}")
        runs.configure()  # clients that the test makes are of its own store
        return said

    return copy


def curve(output: str) -> list[list[str]]:
    return [line.split(",") for line in Path(f"{output}-loss.csv").read_text().splitlines()[1:]]


def weights(output: str) -> dict[str, torch.Tensor]:
    return load_file(f"{output}/weights.safetensors")


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def without_note(mixer: str) -> Path:
    """A copy of a Mixer that does not say what it learnt from."""
    copy = Path(f"{mixer}-without-note")
    shutil.copytree(mixer, copy, ignore=shutil.ignore_patterns(provenance.TRAINED_ON_FILE))
    return copy


def run_id_of(mixer: str) -> str:
    return str(json.loads(Path(f"{mixer}-run.json").read_text())["run_id"])


def checkpoints(output: str) -> list[int]:
    return sorted(int(path.stem[5:]) for path in Path(f"{output}-checkpoints").glob("*/step-*.pt"))


def test_a_front_end_learns_to_rebuild_stems_and_a_network_takes_it_over(train: Train) -> None:
    train("front_end", task="front_end", batches_per_epoch=8, schedule=[{"epochs": 3, "learning_rate": 1e-2}])
    losses = [float(row[-1]) for row in curve("front_end")]
    assert losses[-1] < 0.95 * losses[0]
    learnt = weights("front_end")
    assert learnt.keys() == {"front_end.filters", "front_end.smoothing"}
    still = [{"epochs": 1, "learning_rate": 0.0}]
    train("mixer", initial_weights="front_end", schedule=still)
    train("fresh", schedule=still)
    taken, fresh = weights("mixer"), weights("fresh")
    for name, value in taken.items():
        assert torch.equal(value, learnt.get(name, fresh[name])), name
    assert not torch.equal(taken["front_end.filters"], fresh["front_end.filters"])


def test_a_network_starts_from_another_runs_weights(train: Train, trained: Trained, normalized_folder: Path) -> None:
    trained("first")
    assert not Path("first", provenance.TRAINED_ON_FILE).exists(), "of unknown origin"
    Path("noted").mkdir()
    for name in ("train", "val"):
        Path("noted", name).symlink_to(normalized_folder / name)
    shutil.copytree(normalized_folder / RECIPE_FOLDER, Path("noted", RECIPE_FOLDER))
    known = Source(dataset="Slakh", licence="CC-BY-4.0", commercial=True)
    songs = {split: dataset.songs("noted", split) for split in ("train", "val")}
    first = f"train/{songs['train'][0].name}"
    provenance.note(Path("noted", RECIPE_FOLDER), {first: known})
    train("second", source="noted", initial_weights="first", schedule=[{"epochs": 1, "learning_rate": 0.0}])
    others = Share(train=len(songs["train"]) - 1, val=len(songs["val"]))
    shares = (Share(**known.model_dump(), train=1), others, Share(initial_weights=True))
    assert provenance.read(Path("second")).shares == shares
    run = mlflow.MlflowClient().get_run(run_id_of("second"))
    assert run.data.tags["data.datasets"] == "Slakh, unknown"
    assert run.data.tags["data.licences"] == "CC-BY-4.0, unknown"
    assert mixer_digest(Path("second")) == mixer_digest(without_note("second"))
    assert same(weights("second"), weights("first"))
    (best,) = Path("first-checkpoints").glob("*/best.safetensors")
    assert same(load_file(best), weights("first"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"initial_weights": "nowhere"}, "train.initial_weights: nowhere: cannot be read"),
        ({"initial_weights": "{mixer}", "sizes": SIZES | {"filters": 16}}, "does not fit train.network crafx2"),
        ({"initial_weights": "{mixer}", "network": "wave_u_net", "sizes": {}}, "does not fit train.network wave"),
        (
            {"task": "front_end", "network": "wave_u_net", "sizes": {}},
            "train.task: front_end needs train.network crafx2",
        ),
        ({"task": "both"}, "train.task: input should be 'mix' or 'front_end'"),
        ({"precision": "half"}, "train.precision: input should be 'auto', 'float32' or 'bfloat16'"),
        ({"reverberation": 1.5}, "train.reverberation: input should be less than or equal to 1"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    train: Train, mixer_folder: Path, settings: dict[str, Any], said: str
) -> None:
    if settings.get("initial_weights") == "{mixer}":
        settings = settings | {"initial_weights": str(mixer_folder)}
    assert said in the_line(train("out", status=1, **settings))


def test_a_training_of_the_demos_sizes_says_so_unless_it_learns_from_the_demos_songs(
    train: Train, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = [line for line in trained("out").splitlines() if line.startswith("warning: ")]
    assert "for 7 steps; the published one has 2,752,817, for 497,600 steps" in line
    assert "'fxnorm settings --output params.yaml' writes the published ones" in line
    before = weights("out")
    shutil.rmtree("out-checkpoints")
    monkeypatch.setattr(stage, "is_of_the_demo", lambda name: True)
    assert "warning: " not in train("out").output
    assert same(weights("out"), before)


def test_dvc_is_told_which_weights_a_training_begins_with(mixer_folder: Path, trained: Trained) -> None:
    def noted(path: Path | None) -> str:
        chosen = "null" if path is None else path
        result = fxnorm("initial-weights", "weights.json", "--set", f"train.initial_weights={chosen}")
        assert result.exit_code == 0, result.output
        return Path("weights.json").read_text()

    copy = Path(shutil.copytree(mixer_folder, "copy"))
    assert noted(None) != noted(mixer_folder) == noted(copy) == noted(copy / "weights.safetensors")
    shutil.rmtree(copy)
    trained("copy")
    assert noted(copy) != noted(mixer_folder)
    missing = fxnorm("initial-weights", "weights.json", "--set", "train.initial_weights=nowhere")
    assert the_line(missing) == "fxnorm: train.initial_weights: nowhere: no such file"


def test_training_ends_when_some_epochs_have_not_made_it_better(train: Train) -> None:
    parts = [{"epochs": 2, "learning_rate": 1e-3}, {"epochs": 20, "learning_rate": 0.0}]
    train("out", early_stopping_epochs=3, schedule=parts)
    losses = [float(row[-1]) for row in curve("out")]
    best = losses.index(min(losses))
    assert len(losses) == best + 1 + 3 < 22
    before = weights("out")
    shutil.rmtree("out")
    result = train("out", early_stopping_epochs=3, schedule=parts)
    assert "goes on at step" in result.output
    assert same(weights("out"), before), "started again, it is over at once"


def test_a_compiled_network_leaves_the_same_names_and_goes_on_uncompiled(
    train: Train, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[object] = []
    compile_for_real = torch.compile

    def compile_without_a_compiler(function: Callable[..., Any], **options: Any) -> Any:
        compiled.append(function)
        return compile_for_real(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", compile_without_a_compiler)
    trained("plain")
    train("compiled", compile=True)
    assert compiled
    ours, theirs = weights("plain"), weights("compiled")
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(value, theirs[name], atol=1e-5) for name, value in ours.items())
    (folder,) = Path("compiled-checkpoints").glob("*")
    (folder / "step-000000007.pt").unlink()
    shutil.rmtree("compiled")
    assert "goes on at step 6" in train("compiled", compile=False).output


def test_bfloat16_rounds_the_networks_arithmetic_and_leaves_weights_and_loss_alone(
    train: Train, trained: Trained
) -> None:
    trained("exact")
    train("rounded", precision="bfloat16")
    exact, rounded = float(curve("exact")[-1][-1]), float(curve("rounded")[-1][-1])
    assert 0 < abs(exact - rounded) < 0.05 * exact
    assert {value.dtype for value in weights("rounded").values()} == {torch.float32}


def test_a_processor_that_convolves_wrongly_in_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    preflight.check_bfloat16()
    convolve = functional.conv1d

    def wrong(audio: torch.Tensor, filters: torch.Tensor) -> torch.Tensor:
        return convolve(audio, filters) * (2 if audio.dtype == torch.bfloat16 else 1)

    monkeypatch.setattr(functional, "conv1d", wrong)
    with pytest.raises(SettingsError, match=r"train\.precision: PyTorch's convolutions in bfloat16 are wrong"):
        preflight.check_bfloat16()


def test_the_newest_checkpoints_are_kept_as_many_as_are_wanted(train: Train) -> None:
    train("out", keep_checkpoints=3, checkpoint_every=1)
    assert checkpoints("out") == [5, 6, 7]


def test_a_run_whose_newest_checkpoint_is_damaged_goes_on_from_the_one_before(train: Train, trained: Trained) -> None:
    trained("out")
    before = weights("out")
    (newest,) = Path("out-checkpoints").glob("*/step-000000007.pt")
    newest.write_bytes(newest.read_bytes()[:1000])
    shutil.rmtree("out")
    result = train("out")
    assert f"{newest}: not readable as a checkpoint" in result.output
    assert "going on from step-000000006.pt, the one before" in result.output
    assert "goes on at step 6 of 7" in result.output
    assert same(weights("out"), before)


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have this process sent SIGINT the first time that a method of the loop begins."""

    def at(method: str) -> None:
        original = getattr(loop._Run, method)

        def interrupted(self: loop._Run, *arguments: Any) -> Any:
            monkeypatch.setattr(loop._Run, method, original)
            os.kill(os.getpid(), signal.SIGINT)
            return original(self, *arguments)

        monkeypatch.setattr(loop._Run, method, interrupted)

    return at


@pytest.mark.parametrize(("method", "step"), [("_train_step", 1), ("_validation_loss", 1)])
def test_an_interrupted_training_goes_on_in_the_same_mlflow_run(
    train: Train, trained: Trained, interrupt: Callable[[str], None], method: str, step: int
) -> None:
    trained("whole")
    interrupt(method)
    assert f"stopped by SIGINT after step {step} of 7, not finished" in the_line(train("out", status=130, seed=0), 130)
    client = mlflow.MlflowClient()
    (run,) = [run for run in runs_of(client) if run.info.status != "FINISHED"]
    assert run.info.status == "KILLED"
    train("out")
    assert same(weights("out"), weights("whole"))
    found = runs_of(client)
    assert len(found) == 2
    assert {run.info.status for run in found} == {"FINISHED"}
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "validation/loss")]
    assert steps == [1, 4, 7], "each point once, of both parts"
    for name in ("train/loss", "train/examples_per_second", "train/hours_left", "train/gradient_norm"):
        assert len(client.get_metric_history(run.info.run_id, name)) == 7


def test_a_training_that_is_repeated_is_the_same_run_and_the_same_mixer_in_any_run(
    train: Train, trained: Trained
) -> None:
    trained("out")
    client = mlflow.MlflowClient()
    first, content = run_id_of("out"), files_in("out")
    ended = client.get_run(first).info
    (Path("out") / "weights.safetensors").unlink()
    train("out")
    assert (run_id_of("out"), files_in("out")) == (first, content)
    assert client.get_run(first).info == ended, "its duration is the training's"
    assert len(runs_of(client)) == 1
    shutil.rmtree("out-checkpoints")
    train("out")
    assert run_id_of("out") != first
    assert files_in("out") == content, "nothing that follows from a Mixer depends on its run"
    repeated = run_id_of("out")
    train("out", run_in_seconds=2.0)
    assert len(runs_of(client)) == 3, "a run has one value of a parameter"
    assert client.get_run(run_id_of("out")).data.params["train.run_in_seconds"] == "2.0"
    assert client.get_run(repeated).data.tags["mixer.digest"] != mixer_digest(Path("out"))


def files_in(folder: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def runs_of(client: mlflow.MlflowClient) -> list[Any]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments))


def test_a_tracking_server_that_does_not_answer_for_a_while_stops_nothing_and_misses_nothing(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, calls = mlflow.MlflowClient.log_batch, 0

    def fail_twice(client: mlflow.MlflowClient, run_id: str, **what: Any) -> None:
        nonlocal calls
        calls += "metrics" in what
        if "metrics" in what and calls <= 2:
            raise MlflowException("no answer\nafter 7 tries")
        send(client, run_id, **what)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", fail_twice)
    monkeypatch.setattr(runs, "_FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(runs, "_RETRY_SECONDS", 0.0)
    assert train("out").output.count("MLflow: metrics cannot be sent (no answer)") == 2
    client = mlflow.MlflowClient()
    (run,) = runs_of(client)
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")] == list(range(1, 8))


def test_other_settings_are_another_run_and_leave_the_first_ones_checkpoints(train: Train, trained: Trained) -> None:
    trained("out")
    first = weights("out")
    shutil.rmtree("out")
    assert "goes on" not in train("out", seed=1).output
    assert not same(weights("out"), first)
    shutil.rmtree("out")
    changed = {"loader_workers": 1, "threads": 1, "checkpoint_every": 3, "run_in_seconds": 1.0}
    assert "goes on at step 7 of 7" in train("out", **changed).output, "how it is computed may change"
    assert same(weights("out"), first)


def test_a_file_that_vanishes_during_the_training_is_named_in_one_line(train: Train, normalized_folder: Path) -> None:
    Path("normalized").unlink()
    shutil.copytree(normalized_folder, "normalized")
    lengths = loop.RandomCrops.__init__

    def vanish(self: loop.RandomCrops, *arguments: Any) -> None:
        lengths(self, *arguments)
        for song in ("A", "B"):
            (Path("normalized/train") / song / "bass.wav").unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.RandomCrops, "__init__", vanish)
        line = the_line(train("out", status=1, loader_workers=1))
    assert line.startswith("fxnorm: normalized/train/")
    assert "bass.wav: cannot be read any more" in line


def test_reverberation_on_the_fly_is_learnt_with(train: Train, trained: Trained) -> None:
    trained("dry")
    train("reverberated", reverberation=1.0)
    assert not same(weights("dry"), weights("reverberated"))


def test_two_folders_of_stems_become_a_mixer_by_the_three_commands_that_train_names(
    train: Train, normalized_folder: Path
) -> None:
    for split, name in (("train", "A"), ("train", "B"), ("val", "C")):
        shutil.copytree(normalized_folder / split / name, Path("data") / split / name)
        for stem in ("vocals", "bass", "drums", "other", "mixture"):
            audio.write(Path("data") / split / name / f"{stem}.wav", noise(2.0, 0.2, seed=ord(name) + len(stem)))
    line = the_line(train("mixer", status=1, source="data"))
    commands = [part.split() for part in line.split("'")[1::2]]
    assert [command[1] for command in commands] == ["statistics", "normalize"]
    for command in commands:
        done = CliRunner().invoke(main, [*command[1:], "--workers", "1"])
        assert done.exit_code == 0, done.output
    train("mixer", source="NORMALIZED")
    assert Mixer.load("mixer").mix({"vocals": noise(0.5)}, 44_100).shape == (2, 22_050)

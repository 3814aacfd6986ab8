"""``fxnorm search``: what a space may vary, trials that are shared, killed and gone on with, and what is left."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import optuna
import pytest
import torch
import yaml
from safetensors.torch import load_file

from fxnorm import components
from fxnorm.errors import FxnormError, SettingsError
from fxnorm.search import params_file, study
from fxnorm.search.params_file import edited, unified_diff
from fxnorm.search.prepared import Songs
from fxnorm.search.space import Choices, Space
from fxnorm.search.storage import Storage, address
from fxnorm.search.study import Study
from fxnorm.settings import Settings
from fxnorm.stages import normalize
from tests import prefork, servers
from tests.commands import fxnorm, the_line
from tests.conftest import SIZES
from tests.project import REPOSITORY
from tests.waiting import until

TRAIN = {
    "sizes": dict(SIZES),
    "sequence_seconds": 0.25,
    "batch_size": 2,
    "batches_per_epoch": 2,
    "warm_up_batches": 1,
    "schedule": [{"epochs": 2, "learning_rate": 1e-3}],
}
RESOURCES = {"checkpoint_every": 1, "loader_workers": 0, "threads": 1}
RATE = "train.schedule.0.learning_rate"


def space(**content: Any) -> dict[str, Any]:
    varied = {RATE: {"low": 1e-4, "high": 1e-2, "log": True}}
    return {"trials": 3, "sampler": {"name": "random"}, "pruner": {"name": "none"}, "space": varied} | content


# what a space may be


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"trails": 3}, "trails: unknown key; expected one of trials, sampler, pruner, space"),
        ({"trials": 0}, "trials: input should be greater than 0, found 0"),
        ({"space": {}}, "space: dictionary should have at least 1 item"),
        ({"sampler": {"name": "grid"}}, "sampler: input tag 'grid'"),
        ({"sampler": {"name": "tpe", "gamma": 1}}, "sampler.gamma: unknown key"),
        ({"pruner": {"name": "percentile"}}, "pruner.percentile: expected a value, found none"),
        ({"space": {"train.batch_size": {"low": 2}}}, "space.train.batch_size.high: expected a value, found none"),
        ({"space": {"train.batch_size": {"low": 4, "high": 2}}}, "expected low to be no greater than high"),
        ({"space": {"train.batch_size": {"low": 1, "high": 4, "step": 2}}}, "a whole number of steps above low"),
        ({"space": {"train.weight_decay": {"low": 0, "high": 1.0, "log": True}}}, "expected low above 0"),
        ({"space": {"train.seed": {"choices": [1, 1]}}}, "expected each choice once"),
        ({"space": {"train.batch_size": {"low": True, "high": 4}}}, "expected a number"),
        ({"space": {"train.loss": {"choices": ["a", "b"]}}}, "space.train.loss: changes what the validation loss is"),
        (
            {"space": {"resources.threads": {"low": 1, "high": 2}}},
            "resources.threads: changes no validation loss",
        ),
        ({"space": {"register.margin": {"low": 0.0, "high": 1.0}}}, "register.margin: changes no validation loss"),
        (
            {"space": {RATE: {"low": 0.1, "high": 0.2}, "train.schedule": {"choices": [[]]}}},
            f"space.{RATE}: lies in train.schedule",
        ),
    ],
)
def test_a_mistake_in_a_space_is_one_line_that_names_file_and_key(content: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Space.of(space(**content), "space.yaml")
    assert str(caught.value).startswith("space.yaml: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("varied", "said"),
    [
        ({"train.batchsize": {"low": 1, "high": 2}}, "train.batchsize: unknown key; did you mean 'batch_size'"),
        ({"train.batch_size": {"low": 0, "high": 2}}, "with train.batch_size=0: train.batch_size: input should be"),
        ({"train.sizes.filters": {"low": 7, "high": 8}}, "crafx2.filters: expected an even number, found 7"),
        ({"train.sizes.filtres": {"choices": [8]}}, "did you mean 'filters'"),
        ({"train.schedule.4.epochs": {"low": 1, "high": 2}}, "expected a number below 1, the items of train.schedule"),
        (
            {"train.sizes": {"choices": [{}, {"kernel": 5}]}, "train.network": {"choices": ["wave_u_net", "crafx2"]}},
            "train.sequence_seconds",
        ),
    ],
)
def test_trials_that_could_not_be_trained_are_refused_before_the_first(varied: dict[str, Any], said: str) -> None:
    base = Settings.of({"train": TRAIN})
    with pytest.raises(SettingsError) as caught:
        Space.of(space(space=varied)).check(base, "space.yaml")
    assert str(caught.value).startswith("space.yaml: ")
    assert said in str(caught.value)


def test_choices_may_be_lists_and_mappings_and_whole_numbers_stay_whole() -> None:
    schedules = [[{"epochs": 1, "learning_rate": 0.1}], [{"epochs": 2, "learning_rate": 0.1}]]
    varied = {"train.schedule": {"choices": schedules}, "train.batch_size": {"low": 2, "high": 8, "step": 2}}
    read = Space.of(space(space=varied))
    varied_schedule = read.space["train.schedule"]
    assert isinstance(varied_schedule, Choices)
    trial: Any = optuna.trial.FixedTrial({"train.schedule": varied_schedule.labels()[1], "train.batch_size": 4})
    values = {name: study._suggested(trial, name, part) for name, part in read.space.items()}
    assert values == {"train.schedule": schedules[1], "train.batch_size": 4}
    settings = read.settings(Settings.of({"train": TRAIN}), values)
    assert [part.epochs for part in settings.train.schedule] == [2]


# changes of params.yaml

PARAMS = """\
# the demo's
train:   # all of it
  sizes:
    filters: 32  # even
  sizes_of_others: {a: 1}
  schedule:
    # first
    - {epochs: 6, learning_rate: 1.0e-3}   # fast
    - {epochs: 2, learning_rate: 3.0e-4}
  empty:

  seed: 0
# the end
"""


@pytest.mark.parametrize(
    ("values", "changed"),
    [
        ({"train.seed": 7}, ["-  seed: 0", "+  seed: 7"]),
        ({"train.sizes.filters": 64}, ["-    filters: 32  # even", "+    filters: 64  # even"]),
        ({"train.sizes.skip": 8}, ["+    skip: 8"]),
        ({"train.sizes_of_others.b": [1]}, ["-  sizes_of_others: {a: 1}", "+  sizes_of_others: {a: 1, b: [1]}"]),
        (
            {RATE: 0.002},
            [
                "-    - {epochs: 6, learning_rate: 1.0e-3}   # fast",
                "+    - {epochs: 6, learning_rate: 0.002}   # fast",
            ],
        ),
        ({"train.empty": None}, ["-  empty:", "+  empty: null"]),
        ({"train.empty.a.b": 1}, ["-  empty:", "+  empty: {a: {b: 1}}"]),
        ({"normalize.effects": ["panning"]}, ["+normalize: {effects: [panning]}"]),
        ({"train.batch_size": 4}, ["+  batch_size: 4"]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_change_leaves_all_other_bytes_of_the_file_and_git_and_patch_apply_it(
    values: dict[str, Any], changed: list[str], end: str, tmp_path: Path
) -> None:
    before = PARAMS.replace("\n", end)
    after = edited(before, values)
    diff = unified_diff(before, after, "params.yaml")
    lines = [line.removesuffix("\r") for line in diff.split("\n") if line[:1] in ("-", "+") and line[1:2] not in "-+"]
    assert [line for line in lines if not line.startswith(("---", "+++"))] == changed
    for command in (["git", "apply", "best.diff"], ["patch", "-p1", "--binary", "-i", "best.diff"]):
        (tmp_path / "params.yaml").write_bytes(before.encode())
        (tmp_path / "best.diff").write_bytes(diff.encode())
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        assert (tmp_path / "params.yaml").read_bytes() == after.encode()


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "train: {seed: 1}", "train:\n  schedule:\n  - {epochs: 1}\n\n\n# x"]
)
def test_a_change_of_any_file_gives_what_was_asked_for(text: str) -> None:
    values = {
        "train.schedule": [{"epochs": 1, "learning_rate": 0.5}] * 2,
        "train.sizes.filters": 8,
        "normalize.seed": 3,
    }
    found = yaml.safe_load(edited(text, values))
    assert found["train"]["schedule"] == values["train.schedule"]
    assert (found["train"]["sizes"], found["normalize"]) == ({"filters": 8}, {"seed": 3})
    assert params_file.unified_diff(text, text, "params.yaml") == ""


def test_a_value_that_others_share_is_not_changed_alone() -> None:
    with pytest.raises(SettingsError, match="cannot be changed in place"):
        edited("a: &x {b: 1}\nc: *x\n", {"c.b": 2})


# who does which trial


def opened(folder: Path, storage: Storage, slot: str | None = None, **content: Any) -> Study:
    """As another process sees it."""
    found = Study(storage, "study", Space.of(space(**content)), folder, slot)
    folder.mkdir(parents=True, exist_ok=True)
    found.open({"songs": "these"})
    return found


@contextlib.contextmanager
def stored(tmp_path: Path, kind: str) -> Iterator[Callable[[], Storage]]:
    """What gives a new connection to a storage."""
    with contextlib.ExitStack() as stack:
        given = str(tmp_path / "study.db")
        if kind == "postgresql":
            given = stack.enter_context(servers.postgresql(tmp_path / "postgresql.log")).replace("+psycopg2", "")

        def connected() -> Storage:
            storage = Storage(address(given))
            stack.callback(storage.close)  # the server waits for it
            return storage

        yield connected


@pytest.mark.system
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_and_machines_never_take_the_same_trial_nor_one_too_many_and_take_up_what_was_left(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stored(tmp_path, kind) as connected:
        storage = connected()
        done: list[int] = []

        def work(folder: Path) -> None:
            mine = opened(folder, connected(), trials=12)
            while (claim := mine.claim()) is not None:
                with mine.held(claim):
                    assert not mine.should_prune(claim, 0, 1.0)
                    mine.tell(claim, float(claim.number))
                done.append(claim.number)

        threads = [threading.Thread(target=work, args=(tmp_path / machine,)) for machine in "aabc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(done) == list(range(12))
        first = opened(tmp_path / "a", storage, trials=14)
        assert [trial.number for trial in first.best(2)] == [0, 1]
        rates = [trial.params[RATE] for trial in first.finished()]
        assert len(set(rates)) == 12, "each process draws otherwise"
        here, slot = first.claim(), "run/3"
        other = opened(tmp_path / "b", storage, slot, trials=14)
        assert here is not None
        there = other.claim()
        assert there is not None and (here.number, there.number) == (12, 13)
        assert opened(tmp_path / "a", storage, trials=14).claim() is None, "both are worked on"
        here.lock.close()  # as the system does when a process ends
        again = opened(tmp_path / "a", storage, trials=14).claim()
        assert again is not None and (again.number, again.values) == (12, here.values)
        with pytest.raises(FxnormError, match="trial 12 was taken over by"):
            first.tell(here, 1.0)
        there.lock.close()
        task = opened(tmp_path / "c", storage, slot, trials=14).claim()
        assert task is not None and task.number == 13, "the task that was started anew"
        watching = opened(tmp_path / "d", storage, trials=14)
        assert watching.claim() is None
        monkeypatch.setattr(study, "GRACE_SECONDS", 0.0)
        gone = watching.claim()
        assert gone is not None and gone.number in (12, 13), "of machines that were not heard of any more"


def test_a_trial_that_ends_its_process_each_time_fails(tmp_path: Path) -> None:
    storage = Storage(address(str(tmp_path / "study.db")))
    for count in range(study.MOST_ENDS):
        claim = opened(tmp_path, storage, trials=1).claim()
        assert claim is not None and claim.number == 0, count
        claim.lock.close()
        opened(tmp_path, storage, trials=1).process_ended(os.getpid())
    last = opened(tmp_path, storage, trials=1)
    assert last.claim() is None
    assert last.finished()[0].user_attrs["reason"] == "its process was ended from outside 3 times"


def test_trials_that_could_not_be_compared_with_those_so_far_are_refused(tmp_path: Path) -> None:
    storage = Storage(address(str(tmp_path / "study.db")))
    opened(tmp_path, storage)
    with pytest.raises(SettingsError, match="its trials so far are of another songs"):
        Study(storage, "study", Space.of(space()), tmp_path).open({"songs": "others"})


def test_a_storage_that_does_not_answer_is_one_line_without_its_password() -> None:
    given = f"postgresql://me:s%2Fecret@127.0.0.1:{servers.free_port()}/study?sslpassword=hidden"
    with pytest.raises(FxnormError, match=r"postgresql.*://me:.*@127.0.0.1") as caught:
        Storage(address(given))
    assert "\n" not in str(caught.value)
    assert not [word for word in ("ecret", "hidden") if word in str(caught.value)]
    with pytest.raises(SettingsError, match=r"expected postgresql://.*found mysql"):
        address("mysql://me:secret@host/study")


# whole searches

Search = Callable[..., str]


@pytest.fixture
def search(normalized_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Search:
    """``fxnorm search space.yaml normalized out`` in an empty folder, with tiny settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.delenv("FXNORM_SEARCH_STORAGE", raising=False)
    Path("normalized").symlink_to(normalized_folder)
    Path("params.yaml").write_text(f"# tiny\n{yaml.safe_dump({'train': TRAIN, 'resources': RESOURCES})}")

    def run(*options: str, status: int = 0, **content: Any) -> str:
        Path("space.yaml").write_text(yaml.safe_dump(space(**content)))
        result = fxnorm("search", "space.yaml", "normalized", "out", *options)
        return the_line(result) if status else (result.output if result.exit_code == 0 else pytest.fail(result.output))

    return run


def trials(folder: str = "out") -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=folder, storage=f"sqlite:///{folder}/study.db").get_trials()


@pytest.mark.system
def test_a_search_leaves_the_best_mixer_the_change_of_settings_and_nested_runs(search: Search) -> None:
    pruner = {"name": "percentile", "percentile": 0.0, "n_startup_trials": 1}
    varied = {RATE: {"choices": [0.003, 0.0, 1e12]}, "train.sizes.skip": {"choices": [8]}}
    output = search(pruner=pruner, space=varied, trials=3, sampler={"name": "random", "seed": 4})
    ended = trials()
    states = [trial.state.name for trial in ended]
    assert set(states) == {"COMPLETE", "PRUNED", "FAIL"}, states
    complete = [trial for trial in ended if trial.state.name == "COMPLETE"]
    best = min(complete, key=lambda trial: trial.values)
    assert best.params[RATE] == 0.003
    assert list(best.intermediate_values) == [0, 1, 2]
    assert min(best.intermediate_values.values()) == best.value
    for trial in ended:
        if trial.state.name == "PRUNED":
            step = max(trial.intermediate_values)
            losses = [other.intermediate_values[step] for other in complete if other.number < trial.number]
            assert trial.intermediate_values[step] > min(losses)
        elif trial.state.name == "FAIL":
            assert "not a number" in trial.user_attrs["reason"] or "nan" in trial.user_attrs["reason"]
    kept = sorted(str(path.parent) for path in Path("out").rglob("weights.safetensors"))
    assert kept == ["out/mixer", f"out/trials/{best.number:04d}/mixer"]
    assert [path.parts[2] for path in Path("out/trials").glob("*/checkpoints")] == [f"{best.number:04d}"]
    assert f"out/best.diff: what trial {best.number} changes" in output
    # the settings say what was trained
    result = fxnorm("train", "normalized", "again", "--params", "out/best.yaml")
    assert result.exit_code == 0, result.output
    ours, again = load_file("out/mixer/weights.safetensors"), load_file("again/weights.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in ours.items())
    before = Path("params.yaml").read_text()
    subprocess.run(["git", "apply", "out/best.diff"], check=True)
    assert Path("params.yaml").read_text() == Path("out/best.yaml").read_text() != before
    # MLflow
    client = mlflow.MlflowClient()
    found = client.search_runs(["1"])
    (parent,) = [run for run in found if run.data.tags.get("mlflow.runName") == "search out"]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["best.train.schedule.0.learning_rate"] == "0.003"
    assert parent.data.metrics["validation/best_loss"] == best.value
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files >= {"best.yaml", "best.diff", "trials.csv", "history.png"}
    nested = {run.info.run_name: run for run in found if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}
    assert set(nested) == {f"trial {trial.number}" for trial in ended}
    expected = {"COMPLETE": ("FINISHED", "complete"), "PRUNED": ("KILLED", "pruned"), "FAIL": ("FAILED", "failed")}
    for trial in ended:
        run = nested[f"trial {trial.number}"]
        assert (run.info.status, run.data.tags["search.state"]) == expected[trial.state.name]
        assert run.info.run_id == trial.user_attrs["mlflow_run"]
        assert run.data.params["train.schedule"] == f"2 x {trial.params[RATE]:g}"
    # there is nothing left to do, and nothing is done again
    assert "train:" not in search(pruner=pruner, space=varied, trials=3, sampler={"name": "random", "seed": 4})
    # more of another space could not be compared
    assert "are of another space train.s" in search(space={RATE: {"choices": [0.1]}}, status=1)


@pytest.mark.system
def test_normalized_songs_are_shared_by_trials_that_do_not_change_them(
    tmp_path: Path, make_song: Callable[..., Path]
) -> None:
    for number, split in enumerate(("train", "val")):
        make_song(f"data/wet/{split}/Song {number}", seconds=3.0, seed=number)
    base = Settings.of({"normalize": {"effects": ["loudness"]}, "train": TRAIN})
    songs = Songs.of(tmp_path / "data", base, ["normalize.effects"])
    one = songs.normalized(base, tmp_path / "normalized")
    assert (one / "train/Song 0/vocals.wav").is_file()
    times = {path: path.stat().st_mtime_ns for path in one.rglob("*")}
    other_training = Settings.of({"normalize": {"effects": ["loudness"]}, "train": TRAIN | {"seed": 1}})
    assert songs.normalized(other_training, tmp_path / "normalized") == one
    assert times == {path: path.stat().st_mtime_ns for path in one.rglob("*")}
    panned = Settings.of({"normalize": {"effects": ["panning"]}, "train": TRAIN})
    assert songs.normalized(panned, tmp_path / "normalized") != one
    with pytest.raises(SettingsError, match=r"space.normalize.effects: the songs of .* are normalized already"):
        Songs.of(one, base, ["normalize.effects"])


def begun() -> set[str]:
    """The folders of trials that have a checkpoint."""
    return {path.parts[2] for path in Path("out/trials").glob("*/checkpoints/*/step-*.pt")}


FORKING = """
import multiprocessing, sys
from fxnorm.search import run
from fxnorm.cli import main

forking = multiprocessing.get_context("fork")  # workers are spared the imports
multiprocessing.get_context = lambda method=None: forking
main(["search", *sys.argv[1:]])
"""


@pytest.mark.system
def test_a_search_whose_processes_are_killed_goes_on_with_each_trial_where_it_was(
    search: Search, tmp_path: Path
) -> None:
    Path("params.yaml").write_text(yaml.safe_dump({"train": TRAIN | {"batches_per_epoch": 6}, "resources": RESOURCES}))
    Path("space.yaml").write_text(yaml.safe_dump(space(trials=3)))
    Path("forking.py").write_text(FORKING)
    command = [str(prefork.programs() / "python"), "-m", "runpy", "forking", "space.yaml", "normalized", "out"]
    command += ["--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    with open("log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, start_new_session=True)
    try:
        until(lambda: process.poll() is not None or len(begun()) >= 2, Path("log").read_text)
        assert process.poll() is None, Path("log").read_text()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()  # until none is left that could write
    left = [trial for trial in trials() if trial.state.name == "RUNNING"]
    assert len({trial.user_attrs["owner"] for trial in trials()}) == 2
    left_begun = begun() & {f"{trial.number:04d}" for trial in left}
    output = search(trials=3)
    # those with a checkpoint: a process may have taken its next trial meanwhile
    assert output.count("goes on at step") >= len(left_begun) > 0
    ended = trials()
    assert [trial.state.name for trial in ended] == ["COMPLETE"] * 3
    assert Path("out/importance.png").is_file()
    for trial in left:
        after = ended[trial.number]
        assert (after.params, after.user_attrs["mlflow_run"]) == (trial.params, trial.user_attrs["mlflow_run"])
    client = mlflow.MlflowClient()
    runs = client.search_runs(["1"])
    assert len(runs) == 4 and {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if "search.trial" in run.data.tags:
            steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
            assert steps == sorted(set(steps)) and steps[-1] == 13, "none twice"


@pytest.mark.system
def test_the_tasks_of_a_pipeline_do_a_trial_each_and_bring_the_best_mixer(
    normalized_folder: Path,
    s3_environment: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    tracking = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name, value in (s3_environment | tracking).items():
        monkeypatch.setenv(name, value)
    part = tmp_path / "part"
    shutil.copytree(normalized_folder, part)
    for song in part.glob("[tv]*/*"):
        (song / "digest").write_text("of what it was made\n")
    monkeypatch.setenv("FXNORM_SEARCH_STORAGE", str(tmp_path / "study.db"))

    def artifact(name: str) -> Any:
        logged: dict[str, float] = {}
        return SimpleNamespace(path=str(tmp_path / name), logged=logged, log_metric=logged.__setitem__)

    songs = artifact("songs")
    given = {
        "space": json.dumps({"trials": 2, "space": {"train.seed": {"low": 0, "high": 9}}}),
        "statistics_settings": {},
        "normalize_settings": {},
        "train_settings": TRAIN | {"batch_size": 2.0},  # as Kubeflow hands it over
        "resources_settings": RESOURCES,
        "output": "s3://fxnorm/search",
        "name": "pipeline",
        "storage": "",
    }
    parts = [SimpleNamespace(path=str(part))]
    begin = components.begin_search.python_func
    assert begin(normalized=parts, songs=songs, **given) == ["0", "1"]
    assert len([*Path(songs.path).glob("[tv]*/*/*.wav")]) == 25, "songs in artifacts"
    normalize.publish(part, "s3://fxnorm/songs")
    songs, given["name"] = artifact("stored"), "stored"
    names = begin(normalized=parts, songs=songs, **given)
    assert names == ["0", "1"]
    assert not [*Path(songs.path).glob("[tv]*/*/*.wav")], "they stay in the store"
    trial = components.search_trial.python_func
    metrics = [artifact("metrics") for _ in names]
    done = [
        trial(songs=songs, trial=name, run="run", metrics=metric, **given)
        for name, metric in zip(names, metrics, strict=True)
    ]
    assert done == [0, 1]
    assert trial(songs=songs, trial="2", run="run", metrics=artifact("metrics"), **given) == -1
    mixer, settings, table, summary = (artifact(name) for name in ("mixer", "settings", "table", "summary"))
    components.collect_search.python_func(
        songs=songs, done=done, mixer=mixer, settings=settings, metrics=summary, table=table, **given
    )
    losses = [metric.logged["validation.best_loss"] for metric in metrics]
    assert summary.logged["validation.best_loss"] == min(losses)
    assert Path(mixer.path, "weights.safetensors").is_file()
    assert "batch_size: 2\n" in Path(settings.path, "best.yaml").read_text()
    assert Path(table.path).read_text().splitlines()[2].startswith(f"| {losses.index(min(losses))} ")
    stored = servers.s3_client(s3_environment).list_objects_v2(Bucket="fxnorm", Prefix="search/")["Contents"]
    assert {item["Key"].split("/")[2] for item in stored} == {f"{losses.index(min(losses)):04d}"}

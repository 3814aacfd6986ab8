"""``fxnorm train`` as real processes: signalled, killed, in pairs; what remains is what an undisturbed run leaves."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from fxnorm import Mixer
from fxnorm.errors import FxnormError, SettingsError
from fxnorm.io import locks
from fxnorm.settings import Settings
from fxnorm.stages import train
from fxnorm.training.distributed import Processes
from tests import prefork, servers, stores
from tests.commands import fxnorm
from tests.conftest import SIZES
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.system

SETTINGS = {
    "sizes": dict(SIZES),
    "sequence_seconds": 0.25,
    "batch_size": 2,
    "batches_per_epoch": 4,
    "warm_up_batches": 2,
    "schedule": [{"epochs": 7, "learning_rate": 1e-3}],
}
RESOURCES = {
    "checkpoint_every": 1,
    "loader_workers": 0,  # a process that reads takes seconds to start; who waits for signals sets one
    "threads": 1,
}
STEPS = 2 + 7 * 4


class Project:
    """A folder with normalized songs and settings, in which commands run as a user would run them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
        self.environment |= {
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "PYTHONUNBUFFERED": "1",
        }

    def set(self, **values: object) -> None:
        content: dict[str, dict[str, object]] = {"train": {**SETTINGS}, "resources": {**RESOURCES}}
        for key, value in values.items():
            content["resources" if key in RESOURCES else "train"][key] = value
        (self.folder / "params.yaml").write_text(yaml.safe_dump(content))

    def start(self, *command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(prefork.programs() / "python"), *command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str) -> str:
        process = self.start(*command)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        return output

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """This process in the folder, with the environment of those that are started there."""
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield

    def train(self, output: str, *options: str) -> str:
        """In this process, which has imported already what takes a new one seconds; nothing disturbs it."""
        with self.here():
            result = fxnorm("train", "normalized", output, *options)
        assert result.exit_code == 0, result.output
        return result.output

    def weights(self, output: str) -> dict[str, Tensor]:
        return load_file(self.folder / output / "weights.safetensors")

    def checkpoint(self, parent: str) -> Path:
        """The newest one."""
        return max((self.folder / parent).glob("*/step-*.pt"))

    def wait_for_step(self, parent: str, step: int) -> None:
        """Until it has a checkpoint of that step or, as the oldest are removed, of a later one."""
        first = f"step-{step:09d}.pt"
        until(lambda: any(path.name >= first for path in (self.folder / parent).glob("*/step-*.pt")))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, normalized_folder: Path) -> Project:
    folder = tmp_path_factory.mktemp("project")
    (folder / "normalized").symlink_to(normalized_folder)
    stores.new_database(folder / "mlflow.db")
    return Project(folder)


@pytest.fixture(scope="module")
def undisturbed(project: Project) -> dict[str, Tensor]:
    """The weights that a run ends with that nothing happened to."""
    project.set()
    project.train("undisturbed")
    return project.weights("undisturbed")


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_a_run_told_to_end_leaves_a_checkpoint_and_no_mixer_and_goes_on(
    project: Project, undisturbed: dict[str, Tensor]
) -> None:
    project.set(loader_workers=1)
    process = project.start("-m", "fxnorm", "train", "normalized", "told")
    project.wait_for_step("told-checkpoints", 3)
    training = int(locks.lock_file(project.folder / "told").read_text().split()[1])
    os.killpg(training, signal.SIGTERM)  # its readers get it too, as from a batch system
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "Traceback" not in output
    stopped_at = int(project.checkpoint("told-checkpoints").stem.removeprefix("step-"))
    assert 3 <= stopped_at < STEPS
    (line,) = [line for line in output.splitlines() if line.startswith("fxnorm: ")]
    assert f"stopped by SIGTERM after step {stopped_at} of {STEPS}, not finished" in line
    assert not (project.folder / "told").exists()
    project.set()
    assert "goes on at step" in project.train("told")
    assert_same(project.weights("told"), undisturbed)


TRAINING = """
import os, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from fxnorm import models
from fxnorm.data import dataset
from fxnorm.settings import Settings
from fxnorm.training import loop
from fxnorm.training.checkpoints import Checkpoints
from fxnorm.training.distributed import Processes
from fxnorm.training.interruption import Interruption
from fxnorm.training.tasks import task

torch.set_num_threads(1)
output = Path(sys.argv[1])

def train(processes, output, spoil=lambda network: None, **resources):
    every = Settings.load("params.yaml")
    settings = every.train
    torch.manual_seed(settings.seed)
    network = models.build(settings.network, **settings.sizes)
    spoil(network)
    songs = [dataset.songs("normalized", split) for split in ("train", "val")]
    with Interruption() as interruption:
        loop.train(
            task(network, settings), settings, *songs, Checkpoints(output), lambda step, values: None,
            resources=every.resources.model_copy(update=resources), processes=processes, interruption=interruption,
        )
    if processes.first:
        save_file(network.state_dict(), output / "weights.safetensors")
"""
"""A training without the stage round it, which takes seconds to start."""

KILLER = """
import io, random, threading
import torch._dynamo  # each attempt would import it for itself

def die_while_writing(content, file):
    whole = io.BytesIO()
    save(content, whole)
    file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

def save_and_be_killed_soon(content, file):
    global left
    save(content, file)
    left -= 1
    if left == 0:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    elif left < 0:  # of a faster machine
        os.kill(os.getpid(), signal.SIGKILL)

save, generator = torch.save, random.Random(0)
for left in (1, 2, 3, 4, 7, 5, None, "end"):
    delay = generator.uniform(0, 0.06)  # a step takes some 40 ms, a part of it the checkpoint
    process = os.fork()  # every attempt is a process of its own, spared the imports
    if process == 0:
        if left is None:
            torch.save = die_while_writing
        elif left != "end":
            torch.save = save_and_be_killed_soon
        train(Processes(torch.device("cpu")), output)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    print("\\nENDED", status, "half a checkpoint" if list(output.glob(".step-*")) else "")
"""


def test_a_run_killed_at_any_moment_ends_with_the_same_weights(
    project: Project, undisturbed: dict[str, Tensor]
) -> None:
    project.set()
    (project.folder / "killer.py").write_text(TRAINING + KILLER)
    output = project.run("-m", "runpy", "killer", "killed")
    ends = [line for line in output.splitlines() if line.startswith("ENDED")]
    assert len(ends) == 8
    assert all(line.startswith("ENDED -9") for line in ends[:-1]), "killed before it ended"
    assert ends[-2:] == ["ENDED -9 half a checkpoint", "ENDED 0 "]
    assert_same(load_file(project.folder / "killed/weights.safetensors"), undisturbed)


def torchrun(*command: str) -> tuple[str, ...]:
    return ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command)


def first_gradient(project: Project, output: str) -> dict[int, Tensor]:
    """The gradient of the first step, by the parameter's number: Adam's first moment is a tenth of it."""
    (path,) = (project.folder / output).glob("step-000000001.pt")
    moments = torch.load(path, weights_only=True)["state"]["optimizer"]["state"]
    return {number: 10 * moment["exp_avg"] for number, moment in moments.items()}


SHARED_BATCHES = """
from fxnorm.errors import FxnormError, StoppedError
from fxnorm.training.data import RandomCrops

def without_dropout(network):
    network.latent_mixer.recurrent.dropout = 0.0  # each process draws its own

crop = RandomCrops.__getitem__

def signal_to_one(network):
    def crop_and_be_told(self, number):
        os.kill(os.getpid(), signal.SIGTERM)
        return crop(self, number)

    if processes.rank == 1:
        RandomCrops.__getitem__ = crop_and_be_told

def broken_in_one(network):
    if processes.rank == 1:
        RandomCrops.__getitem__ = lambda self, number: (torch.full((8, 11025), torch.nan), torch.zeros(2, 11025))

if os.environ["RANK"] == "0":
    train(Processes(torch.device("cpu")), output / "one", without_dropout)
try:
    with Processes.joined() as processes:
        train(processes, output, without_dropout)
        train(processes, output / "parts", without_dropout, accumulation=2)
        try:
            train(processes, output / "stopped", signal_to_one)
        except StoppedError as error:
            print("STOPPED:", processes.rank, error, flush=True)  # before the other one ends, and torchrun both
        train(processes, output / "broken", broken_in_one)
except FxnormError as error:
    print("SAID:", error)
"""


def test_two_processes_take_the_gradient_that_one_takes_and_stop_together_at_a_signal_to_one_and_at_a_broken_loss(
    project: Project,
) -> None:
    project.set(
        loss="a",  # which is no mean over examples
        batch_size=4,
        warm_up_batches=0,
        batches_per_epoch=1,
        schedule=[{"epochs": 1, "learning_rate": 0.0}],
        gradient_norm=1e9,
        weight_decay=0.0,
        loader_workers=0,
    )
    (project.folder / "shared.py").write_text(TRAINING + SHARED_BATCHES)
    process = project.start(*torchrun("-m", "runpy", "shared", "two"))
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0, "the second process ends with status 1"
    assert output.count("SAID: training: the loss is nan at step 1 (songs: ") == 1, output
    assert not list((project.folder / "two/broken").glob("step-*"))
    for rank in (0, 1):
        assert f"STOPPED: {rank} training: stopped by SIGTERM after step 1 of 1" in output
    assert (project.folder / "two/stopped/step-000000001.pt").is_file()
    one = first_gradient(project, "two/one")
    whole = torch.cat([gradient.flatten() for gradient in one.values()])
    assert whole.norm() > 0.01
    for shared, rounding in (("two", 1e-5), ("two/parts", 1e-4)):  # one example alone is convolved in another way
        two = first_gradient(project, shared)
        difference = torch.cat([(two[number] - gradient).flatten() for number, gradient in one.items()])
        assert difference.norm() < rounding * whole.norm(), shared


TRAIN_ON_TWO = """
import sys
from pathlib import Path
from fxnorm.errors import FxnormError
from fxnorm.settings import Settings
from fxnorm.stages import train

try:
    train.run_processes(
        Settings.load("params.yaml"), Path("normalized"), Path("node"), "node-checkpoints", Path("node.csv"), 2
    )
except FxnormError as error:
    sys.exit(f"SAID: {error}")
"""


def test_the_training_of_a_node_with_two_accelerators_is_one_call(
    project: Project, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "node.py").write_text(TRAIN_ON_TWO)
    project.set()
    process = project.start("-m", "runpy", "node")
    project.wait_for_step("node-checkpoints", 3)
    os.kill(process.pid, signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert "SAID: training in 2 processes: stopped, not finished" in output
    assert output.count("fxnorm: training: stopped by SIGTERM after step") == 1, "both had the time to save"
    assert not (project.folder / "node").exists()
    capfd.readouterr()
    places = (Path("normalized"), Path("node"), "node-checkpoints", Path("node.csv"))
    monkeypatch.setattr(sys, "executable", str(prefork.programs() / "python"))
    with project.here():
        best = train.run_processes(Settings.load("params.yaml"), *places, 2)
    assert sum(text.count("goes on at step") for text in capfd.readouterr()) == 1
    assert 0 < best["validation.best_step"] <= STEPS
    assert Mixer.load(project.folder / "node").network.config["filters"] == SIZES["filters"]
    with open(project.folder / "node.csv", encoding="utf-8") as file:
        assert len(file.readlines()) == 1 + 8, "the curve of both parts"


def test_processes_that_fail_are_an_error_that_tells_their_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    places = (tmp_path / "normalized", tmp_path / "out", str(tmp_path / "checkpoints"), tmp_path / "loss.csv")
    with pytest.raises(FxnormError, match="training in 2 processes ended with status 1"):
        train.run_processes(Settings(), *places, processes=2)


def test_a_batch_that_the_processes_cannot_share_evenly_is_refused() -> None:
    two = Processes(torch.device("cpu"), rank=1, count=2)
    assert two.equal_part(4, "train.batch_size") == 2
    with pytest.raises(SettingsError, match="expected a multiple of the 2 processes, found 3"):
        two.equal_part(3, "train.batch_size")


def test_a_killed_run_goes_on_on_another_machine_from_the_checkpoints_in_an_object_store(
    project: Project, undisturbed: dict[str, Tensor], s3_environment: dict[str, str], tmp_path: Path
) -> None:
    project.set()
    elsewhere = Project(tmp_path)
    (tmp_path / "normalized").symlink_to(project.folder / "normalized")
    (tmp_path / "params.yaml").write_bytes((project.folder / "params.yaml").read_bytes())
    for machine in (project, elsewhere):
        machine.environment |= s3_environment | {"MLFLOW_TRACKING_URI": project.environment["MLFLOW_TRACKING_URI"]}
    command = ("-m", "fxnorm", "train", "normalized", "moved", "--checkpoints", "s3://fxnorm/moved")
    process = project.start(*command)
    store = servers.s3_client(s3_environment)

    def stored() -> list[str]:
        return [item["Key"] for item in store.list_objects_v2(Bucket="fxnorm", Prefix="moved/").get("Contents", [])]

    until(lambda: process.poll() is not None or any(key.rpartition("/")[2] >= "step-000000009.pt" for key in stored()))
    assert process.poll() is None, process.communicate()[0]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    steps = [key for key in stored() if "/step-" in key]
    assert 1 <= len(steps) <= 3, "the newest two, and perhaps one about to be removed"
    output = elsewhere.train("moved", "--checkpoints", "s3://fxnorm/moved")
    assert "goes on at step" in output
    assert_same(elsewhere.weights("moved"), undisturbed)
    assert [key.rpartition("/")[2] for key in stored()] == [
        "best.safetensors",
        "mlflow_run.json",  # the same training once more is the same run
        "step-000000029.pt",
        "step-000000030.pt",
    ]

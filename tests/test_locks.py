"""Two runs that write to one place: the second is refused at once, shards share it, and a dead run's lock is gone.

The kind: files of a run that lives are nobody else's to remove, replace or take for leftovers.
"""

import errno
import fcntl
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fxnorm.cli import main
from fxnorm.constants import STEMS
from fxnorm.data import shards
from fxnorm.io import audio, locks
from fxnorm.io.locks import LockedError, held
from tests.conftest import noise
from tests.folders import contents
from tests.mixers import keep_averages

pytestmark = pytest.mark.system

HOLDER = """
import sys
from pathlib import Path
from fxnorm.io.locks import held
with held(Path(sys.argv[1]), *sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.read()  # until this process is ended
"""
Fxnorm = Callable[..., Result]
EFFECTS = (
    "--workers", "1", "--set", "normalize.effects=[loudness]",
    # a short one: synthesizing and writing many takes seconds
    "--impulse-responses", "{made}/rooms", "--pre-impulse-responses", "{made}/rooms",
)  # fmt: skip


@contextmanager
def another_process_holds(place: Path, *part: str) -> Iterator["subprocess.Popen[str]"]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", HOLDER, str(place), *part]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_second_is_refused_in_one_line_that_says_who_the_first_is_and_a_killed_one_holds_nothing(
    tmp_path: Path,
) -> None:
    place = tmp_path / "output"
    with another_process_holds(place) as process:
        with pytest.raises(LockedError) as caught, held(place):
            pass
        assert str(caught.value).startswith(f"{place}: another run is at work there (process {process.pid} on ")
        assert "\n" not in str(caught.value)
        (tmp_path / "link").symlink_to(place)
        with pytest.raises(LockedError), held(tmp_path / "link"):
            pass
        with held(tmp_path / "another"):
            pass
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with held(place) as is_held:
            assert is_held
    assert [path.name for path in tmp_path.iterdir()] == ["link"], "nothing stays"


def test_a_lock_file_that_a_dead_run_left_is_no_lock(tmp_path: Path) -> None:
    locks.lock_file(tmp_path / "output").write_text("process 1 on elsewhere\n")
    place = tmp_path / "output"
    with held(place), pytest.raises(LockedError, match=f"process {os.getpid()} on"), held(place, shared=True):
        pass
    with held(place, shared=True), held(place, shared=True), pytest.raises(LockedError), held(place):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_the_file_system_has_no_locks_that_is_said_once_and_nobody_is_refused(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, kind: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for _ in range(2):
        with held(tmp_path / "a") as one, held(tmp_path / "a") as two:
            assert not one and not two
    assert caplog.text.count("no locks here") == 1


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wet dataset of short songs, and its statistics."""
    folder = tmp_path_factory.mktemp("made")
    for number, song in enumerate(("train/A", "train/B", "val/C")):
        for index, name in enumerate((*STEMS, "mixture")):
            audio.write(folder / "wet" / song / f"{name}.wav", noise(1.0, 0.2, 10 * number + index))
    audio.write(folder / "rooms/short.wav", noise(0.05))
    measured = ["statistics", f"{folder}/wet", f"{folder}/measured.npz", "--workers", "1"]
    assert CliRunner().invoke(main, measured).exit_code == 0
    keep_averages(folder / "measured.npz", folder / "s.npz")
    return folder


@pytest.fixture
def fxnorm(made: Path) -> Fxnorm:
    def run(command: str, *arguments: object, status: int = 0) -> Result:
        result = CliRunner().invoke(main, [command, *(str(argument).format(made=made) for argument in arguments)])
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.mark.parametrize(
    "command, place",
    [
        (("normalize", "{made}/wet", "{made}/s.npz", "{out}", *EFFECTS), "out"),
        (("normalize", "{made}/wet", "{made}/s.npz", "{out}", *EFFECTS, "--shard", "1/2"), "out"),
        (("statistics", "{made}/wet", "{out}"), "out"),
        (("merge-normalized", "{out}", "{made}/normalized"), "out"),
    ],
)
def test_a_stage_whose_output_another_run_writes_is_refused_and_writes_nothing(
    made: Path, fxnorm: Fxnorm, tmp_path: Path, command: tuple[str, ...], place: str
) -> None:
    if not (made / "normalized").exists():
        fxnorm("normalize", made / "wet", made / "s.npz", made / "normalized", *EFFECTS)
    with held(tmp_path / place):
        result = fxnorm(*(part.format(made=made, out=tmp_path / "out") for part in command), status=1)
    (line,) = [line for line in result.output.splitlines() if line.startswith("fxnorm: ")]
    assert f"{tmp_path / 'out'}: another run is at work there (process {os.getpid()} on" in line
    assert list(tmp_path.iterdir()) == []


def test_shards_on_one_shared_folder_leave_each_others_songs_in_hand_and_the_recipe_alone(
    made: Path, fxnorm: Fxnorm, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    fxnorm("normalize", made / "wet", made / "s.npz", whole, *EFFECTS)
    normalized = functools.partial(fxnorm, "normalize", made / "wet", made / "s.npz", out, *EFFECTS)
    normalized("--shard", "1/3")
    recipe = (out / "recipe").stat().st_ino
    with held(out, shared=True), held(out, "-shard-1-of-3"):  # as the first one has them while it works
        in_hand = out / "train/.A.temporary"
        in_hand.mkdir()
        normalized("--shard", "2/3")
        assert in_hand.is_dir()
        assert (out / "recipe").stat().st_ino == recipe
        line = normalized("--shard", "2/3", "--set", "normalize.seed=3", status=1).output
        assert "other shards are at work there with another recipe" in line
        assert "another run is at work" in normalized("--shard", "1/3", status=1).output, "the same one twice"
        assert "another run is at work" in normalized(status=1).output
    assert shards.lacking(out) == ["val/C"]
    normalized("--shard", "3/3")
    assert not in_hand.exists(), "nobody's any more"
    assert shards.lacking(out) == []
    (out / ".songs.json").unlink()
    assert contents(out) == contents(whole)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".lock"]


@pytest.fixture(scope="module")
def parts(made: Path) -> list[Path]:
    folders = [made / f"part {number}" for number in (1, 2, 3)]
    for number, folder in enumerate(folders, start=1):
        arguments = [f"{made}/wet", f"{made}/s.npz", str(folder), *EFFECTS, "--shard", f"{number}/3"]
        arguments = [argument.format(made=made) for argument in arguments]
        assert CliRunner().invoke(main, ["normalize", *arguments]).exit_code == 0
    return folders


@pytest.mark.parametrize("links", [True, False])
def test_parts_are_put_together_as_if_done_in_one_go_and_stand_alone(
    made: Path, parts: list[Path], fxnorm: Fxnorm, tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(errno.EXDEV, "another file system")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    fxnorm("normalize", made / "wet", made / "s.npz", whole, *EFFECTS)
    result = fxnorm("merge-normalized", merged, *parts)
    assert "not there" not in result.output
    assert contents(merged) == contents(whole)
    assert not [path for path in merged.rglob("*") if path.is_symlink()]
    shared = (merged / "train/A/bass.wav").stat().st_nlink > 1
    assert shared == links


def test_what_cannot_be_put_together_is_one_line_and_writes_nothing(
    made: Path, parts: list[Path], fxnorm: Fxnorm, tmp_path: Path
) -> None:
    merged = tmp_path / "merged"
    lacking = fxnorm("merge-normalized", merged, *parts[:2]).output
    assert "not there: val/C: of a shard that is not among the parts" in lacking
    assert shards.lacking(merged) == ["val/C"]
    other, fewer = tmp_path / "other", tmp_path / "fewer"
    fxnorm("normalize", made / "wet", made / "s.npz", other, *EFFECTS, "--shard", "3/3", "--set", "normalize.seed=9")
    shutil.copytree(made / "wet", tmp_path / "wet")
    audio.write(tmp_path / "wet/val/C/bass.wav", np.zeros((2, 100), np.float32))
    fxnorm("normalize", tmp_path / "wet", made / "s.npz", fewer, *EFFECTS, "--shard", "3/3")
    before = contents(tmp_path)
    for arguments, said in [
        ((tmp_path / "new", parts[0], parts[1], other), "was normalized in another way"),
        ((tmp_path / "new", parts[0], parts[1], fewer), "was normalized from other songs"),
        ((tmp_path / "new", parts[0], parts[0]), "another shard has this song as well"),
        ((tmp_path / "new", parts[0], tmp_path / "nothing"), "expected normalization.json"),
        ((merged, *parts), "expected a folder that is not there yet"),
        ((parts[0] / "new", *parts), "expected a folder outside of"),
    ]:
        (line,) = fxnorm("merge-normalized", *arguments, status=1).output.strip().splitlines()
        assert said in line
    assert contents(tmp_path) == before
    assert not (parts[0] / "new").exists() and not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", ["checkpoints", "output"])
def test_a_second_training_is_refused_before_it_touches_the_firsts_checkpoints(
    normalized_folder: Path, tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fxnorm.training import loop
    from fxnorm.training.checkpoints import name_of

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop, "identity", lambda *_: "one")
    run = tmp_path / "checkpoints" / name_of("one") if place == "checkpoints" else tmp_path / "output"
    (tmp_path / "checkpoints").mkdir()
    with another_process_holds(run):
        arguments = ["train", str(normalized_folder), "output", "--checkpoints", "checkpoints"]
        settings = ["--set", "resources.loader_workers=0", "--set", "train.sizes={filters: 8}"]
        result = CliRunner().invoke(main, arguments + settings)
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("fxnorm: ")]
    assert "another run is at work there (process" in line
    assert not (tmp_path / "mlflow.db").exists() and not list(tmp_path.rglob("*.pt"))

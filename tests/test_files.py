"""Files and folders that are whole or not there, on file systems that refuse things, under long names, on a full disk.

The kinds: a file system that cannot do what only makes things safer is no failure; whatever keeps the content from
being written is one line that names the file, leaves the old content whole and nothing half-written beside it.
"""

import contextlib
import errno
import functools
import os
import resource
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fxnorm import Mixer
from fxnorm.cli import main
from fxnorm.data import dataset, parallel
from fxnorm.demo import dataset as demo
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.errors import AudioError, DatasetError, FxnormError, OutputError
from fxnorm.evaluation import plots
from fxnorm.io import audio, files
from fxnorm.io.files import whole_file, whole_folder, write_json
from fxnorm.listening_test import tables
from fxnorm.statistics import DatasetStatistics
from fxnorm.training.checkpoints import BEST_FILE, Checkpoints
from tests.conftest import noise


def replaceable(folder: Path) -> None:
    """Whatever is in a folder may be replaced."""


def fill(folder: Path, text: str) -> None:
    for name in ("one", "two", "three/four"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def texts(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.rglob("*") if path.is_file()}


def replace(folder: Path, text: str) -> None:
    with whole_folder(folder, replaceable) as temporary:
        fill(temporary, text)


# ---- names


@pytest.mark.parametrize(
    "name",
    ["x" * 246 + ".wav", "ü" * 123 + ".wav", "音" * 83 + ".flac", "a." + "s" * 250, "." + "h" * 250, "x" * 255],
)
def test_a_name_as_long_as_the_system_takes_is_written(tmp_path: Path, name: str) -> None:
    assert 250 <= len(os.fsencode(name)) <= 255
    with whole_file(tmp_path / name) as temporary:
        temporary.write_bytes(b"whole")
    assert (tmp_path / name).read_bytes() == b"whole"
    (tmp_path / name).unlink()
    for text in ("old", "new"):
        replace(tmp_path / name, text)
    assert texts(tmp_path / name) == {"new"}
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(os.fsencode(files.beside(tmp_path / name, ".songs").name)) <= 255


@pytest.mark.parametrize("path", ["x" * 256, "ü" * 128, "/".join(["y" * 200] * 25), "file/x", "file/x/y"])
def test_a_name_that_the_system_does_not_take_is_one_line(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("not a folder")
    for write in (lambda: write_json(tmp_path / path, 1), lambda: replace(tmp_path / path, "new")):
        with pytest.raises(OutputError, match="cannot be written") as caught:
            write()
        assert str(caught.value).startswith(f"{tmp_path / path}: ")
        assert "\n" not in str(caught.value)


# ---- file systems


def fail_of_folders(number: int) -> Callable[[int], None]:
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    return fail


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF, errno.ENOSYS])
def test_a_file_system_that_does_not_sync_folders_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "fsync", fail_of_folders(number))
    write_json(tmp_path / "file.json", 1)
    for text in ("old", "new"):
        replace(tmp_path / "folder", text)
    assert texts(tmp_path / "folder") == {"new"}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EISDIR, errno.EPERM])
def test_a_file_system_that_does_not_open_folders_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> int:
        if os.path.isdir(path) and "dir_fd" not in options and threading.current_thread() is threading.main_thread():
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        write_json(tmp_path / "file.json", 1)
        with whole_folder(tmp_path / "folder") as temporary:
            fill(temporary, "new")
    assert texts(tmp_path / "folder") == {"new"}


@pytest.mark.parametrize("refused", ["chmod", "utime", "umask"])
def test_what_only_sets_rights_and_times_is_not_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """The umask belongs to the whole process: to ask for it by setting it would leave it at 0 for other threads."""
    mask = os.umask(0o027)
    try:

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), "somewhere")

        monkeypatch.setattr(os, refused, refuse)
        write_json(tmp_path / "file.json", 1)
        replace(tmp_path / "folder", "new")
        files.copy_file(tmp_path / "file.json", tmp_path / "copy.json")
    finally:
        monkeypatch.undo()
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "file.json").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_files_content_that_does_not_reach_the_disk_is_a_failure_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    write_json(tmp_path / "file.json", 1)
    replace(tmp_path / "folder", "old")

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    for path, write in (
        ("file.json", lambda: write_json(tmp_path / "file.json", 2)),
        ("folder", lambda: replace(tmp_path / "folder", "new")),
    ):
        with pytest.raises(OutputError, match=f"{path}: cannot be written .{os.strerror(number)}"):
            write()
    assert (tmp_path / "file.json").read_text() == "1\n"
    assert texts(tmp_path / "folder") == {"old"}
    assert {path.name for path in tmp_path.iterdir()} == {"file.json", "folder"}


# ---- replacing


def no_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchange", lambda one, other: False)


def test_a_reader_finds_a_folder_at_any_moment(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    replace(folder, "0")
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            folder.stat()  # fails where there is none for a moment

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(50):
            replace(folder, str(number))
            assert reader.is_alive(), "it found no folder"
    finally:
        done.set()
        reader.join()


def test_without_an_exchange_the_old_folder_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_exchange(monkeypatch)
    for text in ("old", "new"):
        replace(tmp_path / "folder", text)
    assert texts(tmp_path / "folder") == {"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EBUSY])
def test_where_the_new_folder_does_not_get_its_name_the_old_one_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    no_exchange(monkeypatch)
    replace(tmp_path / "folder", "old")
    rename = os.rename

    def fail(source: Path, target: Path) -> None:
        if target.name == "folder" and not source.name.endswith(".old"):
            raise OSError(number, os.strerror(number), str(source), None, str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OutputError, match="folder: cannot be written"):
        replace(tmp_path / "folder", "new")
    assert texts(tmp_path / "folder") == {"old"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_of_a_containers_image_that_cannot_be_renamed_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_exchange(monkeypatch)
    replace(tmp_path / "folder", "old")
    rename = os.rename

    def fail(source: Path, target: Path) -> None:
        if source.name == "folder":
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source), None, str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    replace(tmp_path / "folder", "new")
    assert texts(tmp_path / "folder") == {"new"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def killed_at(moment: str, folder: Path) -> None:
    """A process of its own replaces ``folder``, without an exchange, and is killed at a moment."""
    process = os.fork()
    if process == 0:
        files._exchange = lambda first, second: False
        rename, remove = os.rename, files.remove

        def die() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        def rename_or_die(source: Path, target: Path) -> None:
            if moment == "between" and target.name == "folder":
                die()
            rename(source, target)

        def remove_or_die(path: Path) -> None:
            if moment == "after" and path.name.endswith(".old"):
                die()
            remove(path)

        os.rename, files.remove = rename_or_die, remove_or_die  # type: ignore[assignment]
        with whole_folder(folder, replaceable) as temporary:
            fill(temporary, "killed")
            if moment == "within":
                die()
        os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(process, 0)[1])


@pytest.mark.parametrize(("moment", "left"), [("within", "old"), ("between", None), ("after", "killed")])
def test_what_a_killed_process_left_is_cleared_up_and_the_old_folder_is_not_lost(
    tmp_path: Path, moment: str, left: str | None
) -> None:
    folder = tmp_path / "folder"
    replace(folder, "old")
    killed_at(moment, folder)
    assert len(list(tmp_path.iterdir())) >= 2
    assert folder.exists() == (left is not None)
    with pytest.raises(KeyboardInterrupt), whole_folder(folder, replaceable):
        raise KeyboardInterrupt  # nothing new comes
    assert texts(folder) == {left or "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_a_living_process_writes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    others = [".folder.abcd1234", ".file.abcd1234.json", ".folder.fxnorm-mine", ".file.json.swp"]
    for name in others:
        (tmp_path / name).write_text("somebody's")
    with whole_file(tmp_path / "file.json") as file, whole_folder(tmp_path / "folder", replaceable) as folder:
        for name in ("file.json", "folder"):
            process = os.fork()
            if process == 0:
                with contextlib.suppress(BaseException):
                    if name == "folder":
                        replace(tmp_path / name, "other")
                    else:
                        write_json(tmp_path / name, "other")
                os._exit(0)
            os.waitpid(process, 0)
        assert file.exists()
        assert folder.exists()
        file.write_text("mine")
    assert (tmp_path / "file.json").read_text() == "mine"
    assert all((tmp_path / name).read_text() == "somebody's" for name in others)


def test_a_file_that_a_killed_process_was_writing_is_removed_by_the_next(tmp_path: Path) -> None:
    process = os.fork()
    if process == 0:
        with whole_file(tmp_path / "file.json"):
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    os.waitpid(process, 0)
    assert len(list(tmp_path.iterdir())) == 1
    write_json(tmp_path / "file.json", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"]


def test_a_folder_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    replace(tmp_path / "disk/folder", "old")
    (tmp_path / "link").symlink_to("disk/folder")
    replace(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert texts(tmp_path / "disk/folder") == {"new"}
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["folder"]


# ---- a disk that is full


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], contextlib.AbstractContextManager[None]]]:
    """A block in which no file can grow beyond some bytes: the system refuses in the middle, as a full disk does."""

    @contextlib.contextmanager
    def limit(most: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit  # type: ignore[return-value]


def published_statistics() -> DatasetStatistics:
    return DatasetStatistics.load(Path(__file__).parent / "data/effects/musdb18_statistics.npz")


def write_demo_song(path: Path) -> None:
    with whole_file(path) as temporary:
        demo._write_wav(temporary, (noise(2.0) * 32767).astype(np.int16))


WRITERS: dict[str, Callable[[Path], object]] = {
    "a.wav": lambda path: audio.write(path, noise(2.0)),
    "pcm.wav": lambda path: audio.write(path, noise(2.0), subtype="PCM_24"),
    "a.flac": lambda path: audio.write(path, noise(2.0)),
    "a.mp3": lambda path: audio.write(path, noise(12.0)),
    "statistics.npz": lambda path: published_statistics().save(path),
    "a.json": lambda path: write_json(path, list(range(30_000))),
    "a.csv": lambda path: tables.write([{"a": "x" * 1000}] * 200, path),
    "step-000000001.pt": lambda path: Checkpoints(path.parent).save(1, {"w": torch.zeros(100_000)}),
    BEST_FILE: lambda path: Checkpoints(path.parent).save_best({"w": torch.zeros(100_000)}, 1, 0.5),
    "rooms": lambda path: ImpulseResponses.synthesized(1.0, 2).save(path),
    "a.png": lambda path: plots.plot_waveforms({str(i): noise(4.0, seed=i) for i in range(9)}, 44_100, path),
    "a.svg": lambda path: plots.plot_waveforms({str(i): noise(4.0, seed=i) for i in range(9)}, 44_100, path),
    "demo.wav": write_demo_song,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_fills_up_in_the_middle_is_one_line_and_leaves_the_old_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], full_disk: Callable[..., Any], name: str
) -> None:
    path = tmp_path / name
    if name != "rooms":
        path.write_text("old")
    with full_disk(20_000), pytest.raises(FxnormError) as caught:
        WRITERS[name](path)
    assert str(caught.value).startswith(str(path))
    assert "File too large" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == "", "no trace of a library"
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [(name, "old")] * (name != "rooms")


def test_a_mixer_is_not_half_replaced_by_a_full_disk(
    mixer_folder: Path, tmp_path: Path, full_disk: Callable[..., Any]
) -> None:
    mixer = Mixer.load(mixer_folder, torch.device("cpu"))
    mixer.save(tmp_path / "mixer")
    before = {path: path.read_bytes() for path in (tmp_path / "mixer").rglob("*") if path.is_file()}
    with full_disk(20_000), pytest.raises(OutputError, match=r"/mixer/statistics\.npz: cannot be written .File too"):
        mixer.save(tmp_path / "mixer")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def _write_for(song: dataset.Song, folder: Path) -> None:
    with whole_file(folder / song.name) as temporary:
        temporary.write_bytes(bytes(100_000))


def test_a_full_disk_stops_a_pool_though_songs_with_errors_are_left_out(
    make_song: Callable[..., Path], tmp_path: Path, full_disk: Callable[..., Any]
) -> None:
    make_song("dataset/train/A", seconds=0.1)
    songs = dataset.songs(tmp_path / "dataset")
    work = functools.partial(_write_for, folder=tmp_path)
    with full_disk(20_000), pytest.raises(OutputError, match=r"A: cannot be written .File too large"):
        parallel.map_songs(work, songs, "write", 1, skip_errors=True)
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


# ---- what cannot be read, and what comes without anybody catching it


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
def test_an_input_that_cannot_be_read_is_named(
    make_song: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    folder = make_song(seconds=0.1)
    (song,) = dataset.songs(folder.parent)

    def refuse(path: Any, *_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(AudioError, match=f"bass.wav: cannot be read .{os.strerror(number)}"):
        audio.read(song.stems["bass"])
    with pytest.raises(DatasetError, match=f"vocals.wav: cannot be read .{os.strerror(number)}"):
        song.digest()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EROFS, "Read-only file system", "reports/x"), "fxnorm: reports/x: Read-only file system"),
        (PermissionError(errno.EACCES, "Permission denied", "data/train"), "fxnorm: data/train: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "fxnorm: No space left on device"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found"), "fxnorm: No usable temporary"),
    ],
)
def test_a_systems_error_that_nobody_caught_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: OSError, said: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("fxnorm.data.dataset.Layout.read", fail)
    result = CliRunner().invoke(main, ["check", str(tmp_path)])
    assert result.exit_code == 1
    assert result.output.startswith(said)
    assert result.output.count("\n") == 1


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    for write in (whole_file, whole_folder):
        with pytest.raises(FileNotFoundError, match="absent"), write(tmp_path / "output"):
            (tmp_path / "absent").read_text()
        with pytest.raises(ConnectionRefusedError), write(tmp_path / "output"):
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert list(tmp_path.iterdir()) == []

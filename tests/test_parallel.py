"""Work over songs that is interrupted, fails or loses a process: it ends at once, and leaves nothing half done behind.

The kind: whatever ends the work (Ctrl-C, SIGTERM, SIGKILL, a defect, a worker that the system killed) ends all of it,
and what was finished before stays. Real processes, with songs that do no more than sleep.
"""

import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fxnorm.data import dataset, parallel
from fxnorm.data.dataset import Song
from fxnorm.data.parallel import map_songs
from fxnorm.errors import DatasetError, FxnormError
from fxnorm.runtime.signals import Terminated
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.system

PROGRAM = """
import functools, os, signal, sys, time
from pathlib import Path

import fxnorm.cli
from fxnorm.cli import main
from fxnorm.data.dataset import Song
from fxnorm.errors import DatasetError
from fxnorm.io.files import whole_folder
from fxnorm.data.parallel import map_songs

def work(song, output):
    with whole_folder(output / song.name) as folder:
        (folder / "process").write_text(str(os.getpid()))
        if song.name == "quick":
            return
        while not (output / "quick").is_dir():  # which another process may begin later than this one
            time.sleep(0.01)
        if song.name.startswith("lost"):
            os.kill(os.getpid(), getattr(signal, song.name.split()[1]))
        if song.name == "defect":
            raise ZeroDivisionError("a defect")
        if song.name == "unreadable":
            raise Unreadable(1, 2)
        if song.name == "error":
            raise DatasetError("a user's error")
        time.sleep(3600)  # whoever waits for this does not end in time

class Unreadable(Exception):
    def __init__(self, one, two):
        super().__init__("not for another process")

@main.command()
def work_on_songs():
    output = Path(sys.argv[2])
    songs = [Song(name, Path("songs") / name, {}, None) for name in sys.argv[4:]]
    fxnorm.data.parallel._seconds_or_zero = lambda song: 0.0
    map_songs(functools.partial(work, output=output), songs, "work", int(sys.argv[3]))

if __name__ == "__main__":
    main(["work-on-songs"])
"""
SLEEPING = ("quick", *(f"song {number}" for number in range(6)))

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A command in a process group of its own, which works on songs in so many workers."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    (tmp_path / "output").mkdir()
    started: list[subprocess.Popen[str]] = []

    def run(workers: int, *songs: str) -> "subprocess.Popen[str]":
        command = [sys.executable, str(program), "--", str(tmp_path / "output"), str(workers), *songs]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment, cwd=tmp_path
        )
        started.append(process)
        return process

    yield run
    for process in started:
        for worker in group(process.pid):
            os.kill(worker, signal.SIGKILL)


def group(leader: int) -> list[int]:
    """The living processes of a group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(process_group) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def in_hand(tmp_path: Path) -> int:
    """How many songs are being worked on: their folders have temporary names."""
    return len(list((tmp_path / "output").glob(".song*/process")))


def only_line(output: str) -> str:
    assert "Traceback" not in output, output
    (line,) = [line for line in output.replace("\r", "\n").splitlines() if line.startswith("fxnorm: ")]
    return line


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "to_group, number", [(True, signal.SIGINT), (False, signal.SIGTERM), (True, signal.SIGTERM)], ids=str
)
def test_a_signal_ends_all_songs_at_once_in_one_line_and_keeps_what_is_finished(
    start: Start, tmp_path: Path, workers: int, to_group: bool, number: signal.Signals
) -> None:
    process = start(workers, *SLEEPING)
    until(lambda: in_hand(tmp_path) == workers and (tmp_path / "output/quick").is_dir())
    (os.killpg if to_group else os.kill)(process.pid, number)
    _, output = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + number
    assert only_line(output) == f"fxnorm: stopped by {number.name}; work: 1 of 7 songs were finished"
    until(lambda: not group(process.pid))
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["quick"]


def test_a_second_signal_does_not_break_off_the_cleaning_up(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from fxnorm.runtime.signals import terminable
with terminable():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        Path({str(tmp_path / "cleaned up")!r}).touch()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGTERM, "")
    assert (tmp_path / "cleaned up").exists()


def test_processes_end_with_one_that_was_killed(start: Start, tmp_path: Path) -> None:
    process = start(2, *SLEEPING)
    until(lambda: in_hand(tmp_path) == 2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    until(lambda: not group(process.pid))
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["quick"], "they cleaned up"


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    "song, said",
    [
        ("defect", "ZeroDivisionError: a defect\nin songs/defect"),
        ("unreadable", "not for another process\nin songs/unreadable"),
        ("error", "fxnorm: a user's error"),
    ],
)
def test_a_song_that_fails_in_whatever_way_ends_the_others(
    start: Start, tmp_path: Path, workers: int, song: str, said: str
) -> None:
    process = start(workers, "quick", song, *SLEEPING[1:])
    _, output = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert said in output
    assert ("Traceback" in output) == (song != "error")
    assert [path.name for path in (tmp_path / "output").iterdir()] == ["quick"]
    until(lambda: not group(process.pid))


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGSEGV"])
def test_a_process_that_was_ended_from_outside_is_one_line_with_the_songs_in_hand(
    start: Start, tmp_path: Path, number: str
) -> None:
    process = start(2, "quick", f"lost {number}", *SLEEPING[1:])
    _, output = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    line = only_line(output)
    assert line.startswith("fxnorm: work: a process was ended from outside, as the system does when memory runs out")
    assert f"songs/lost {number}" in line and "song 5" not in line
    assert "fewer --workers" in line
    left = {path.name.split(".")[1] if path.name[0] == "." else path.name for path in (tmp_path / "output").iterdir()}
    assert left <= {"quick", f"lost {number}"}, "only what was killed itself could not clean up"


def songs(*names: str) -> list[Song]:
    return [Song(name, Path(name), {}, None) for name in names]


@pytest.fixture
def no_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_seconds_or_zero", lambda song: 0.0)


@pytest.mark.parametrize(
    "error", [OSError(38, "Function not implemented"), ImportError("no sem_open"), FileNotFoundError(2, "/dev/shm")]
)
def test_where_processes_have_no_semaphores_songs_are_done_one_after_the_other(
    error: Exception, no_lengths: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("fxnorm.data.parallel.ProcessPoolExecutor", refuse)
    done, failed = map_songs(lambda song: song.name, songs("A", "B"), "work", 2)
    assert [result for _, result in done] == ["A", "B"] and not failed
    assert "work: this machine cannot run processes side by side" in caplog.text


def test_one_worker_is_this_process_with_one_thread_and_threads_come_back(
    no_lengths: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from threadpoolctl import threadpool_info, threadpool_limits

    with threadpool_limits(2):
        torch.set_num_threads(2)
        try:

            def threads(song: Song) -> tuple[int, int, int, str]:
                most = max(pool["num_threads"] for pool in threadpool_info())
                return os.getpid(), torch.get_num_threads(), most, os.environ["OMP_NUM_THREADS"]

            monkeypatch.setenv("OMP_NUM_THREADS", "7")
            ((_, found),), _ = map_songs(threads, songs("A"), "work", 4)
            assert found == (os.getpid(), 1, 1, "1")
            assert torch.get_num_threads() == 2
            assert os.environ["OMP_NUM_THREADS"] == "7"
        finally:
            torch.set_num_threads(1)


def test_errors_that_are_skipped_are_listed_and_others_are_not_skipped(no_lengths: None) -> None:
    def work(song: Song) -> str:
        if song.name == "bad":
            raise DatasetError("bad")
        if song.name == "defect":
            raise ValueError
        return song.name

    done, failed = map_songs(work, songs("A", "bad", "B"), "work", 1, skip_errors=True)
    assert [song.name for song, _ in done] == ["A", "B"]
    assert [(song.name, reason) for song, reason in failed] == [("bad", "bad")]
    with pytest.raises(ValueError):
        map_songs(work, songs("defect", "A"), "work", 1, skip_errors=True)


def test_a_programs_own_way_with_sigterm_is_left_to_it(no_lengths: None) -> None:
    def own(number: int, frame: object) -> None:
        raise FxnormError("the program's own")

    before = signal.signal(signal.SIGTERM, own)
    try:
        with pytest.raises(FxnormError, match="own"):
            map_songs(lambda song: os.kill(os.getpid(), signal.SIGTERM), songs("A"), "work", 1)
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(Terminated):
        map_songs(lambda song: os.kill(os.getpid(), signal.SIGTERM), songs("A"), "work", 1)
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interrupted_hash_of_a_dataset_does_not_wait_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, waited_for, over = [], [], threading.Event()

    def digest(song: Song) -> str:
        begun.append(song)
        if song.name == "0":
            raise KeyboardInterrupt
        if not over.wait(PATIENCE):
            waited_for.append(song)
        return ""

    monkeypatch.setattr(Song, "digest", digest)
    try:
        with pytest.raises(KeyboardInterrupt):
            dataset.digest(songs(*map(str, range(500))))
        assert not waited_for and len(begun) < 400
    finally:
        over.set()


def killed_in_company(item: str, folder: Path) -> str:
    """Gives the item; one of "alone" ends its process whenever it comes, one of "crowd" the first time."""
    if item.startswith("alone") or (item.startswith("crowd") and not (folder / item).exists()):
        (folder / item).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_process_that_the_system_ends_costs_its_item_alone_and_the_others_are_done(tmp_path: Path) -> None:
    items = ["crowd", "a", "alone", "b", "c"]  # the first of them begins in company, whatever the others do
    found = {}
    work = functools.partial(killed_in_company, folder=tmp_path)
    for index, future in parallel.each_surviving(work, items, 2, "work"):
        assert items[index] not in found
        found[items[index]] = future.exception() or future.result()
    lost = found.pop("alone")
    assert isinstance(lost, parallel.LostError)
    assert str(lost).startswith("alone: its process was ended from outside, alone as well")
    assert found == {item: item for item in items if item != "alone"}


def test_items_in_hand_need_no_more_than_there_is_or_are_alone() -> None:
    loads = [5.0, 2.0, 2.0, 1.0]
    work = parallel._Work(str, ["large", "b", "c", "d"], range(4), 3, loads, 4.0)
    assert work.fits(0, [])
    assert not work.fits(1, [0])
    assert work.fits(2, [1])
    assert not work.fits(3, [1, 2])
    assert not parallel._Work(str, ["a", "b", "c"], range(3), 2).fits(2, [0, 1])
    assert 0 < parallel.available_memory() < float("inf")

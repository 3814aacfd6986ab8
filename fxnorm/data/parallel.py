"""Work over songs in parallel processes, with a progress bar.

An error, Ctrl-C or SIGTERM ends all of it at once: songs in progress are given up and clean up behind them, the others
never begin. Processes end with the one that started them, whatever ends that.
"""

import contextlib
import logging
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Generic, TypeVar

import joblib
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from fxnorm.data.dataset import Song
from fxnorm.errors import FxnormError, OutputError
from fxnorm.runtime import log
from fxnorm.runtime.signals import SIGNALS, Terminated, signals_blocked, terminable

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_WORKERS_THREAD_SETTINGS = (*_THREAD_SETTINGS, "NUMBA_NUM_THREADS")
_GRACE_SECONDS = 3
"""Time that a process has to clean up when it is ended; a compiled function that it runs has to return first."""

_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""A container's limit and what it uses, of both versions of Linux' control groups."""

_log = logging.getLogger(__name__)


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, within the limit of a container or a batch system."""
    return int(joblib.cpu_count())


def available_memory() -> float:
    """Bytes that this process and its own may still use, within the limit of a container; infinite if unknown."""
    free = [_meminfo_available()]
    for limit, used in _CGROUP_FILES:
        try:
            free.append(float(Path(limit).read_text()) - float(Path(used).read_text()))
        except (OSError, ValueError):  # no such group, or its limit is 'max'
            continue
    return max(0.0, min(free))


def _meminfo_available() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    return math.inf


def map_songs(
    function: Callable[[Song], Result],
    songs: Sequence[Song],
    description: str,
    workers: int | None = None,
    skip_errors: bool = False,
) -> tuple[list[tuple[Song, Result]], list[tuple[Song, str]]]:
    """``function`` of every song, each in one of ``workers`` processes; with one worker, in this process.

    Args:
        function: takes a song; picklable, if there is more than one worker.
        songs: the songs.
        description: text of the progress bar.
        workers: processes; the default is one a core.
        skip_errors: leave out a song that fails with a user's error instead of stopping at it.

    Returns:
        songs with their results, and songs that were left out with the reason, both in the order of ``songs``.

    Raises:
        FxnormError: the first song's error, if errors are not skipped; or a process was ended from outside. What other
            songs finished by then is kept by ``function`` itself, if it writes anything.
        KeyboardInterrupt, Terminated: with a note of how many songs were finished.
    """
    results: dict[int, Result] = {}
    failures: dict[int, str] = {}
    workers = min(workers or available_cores(), len(songs))
    bar = tqdm(total=len(songs), desc=description, unit="song", dynamic_ncols=True, mininterval=0.5, disable=not songs)
    with bar, contextlib.closing(each(function, songs, workers, description)) as done:
        done_seconds = 0.0
        try:
            for index, future in done:
                try:
                    results[index] = future.result()
                except FxnormError as error:
                    if not skip_errors or isinstance(error, OutputError):  # a full disk is no song's fault
                        raise
                    failures[index] = str(error)
                done_seconds += _seconds_or_zero(songs[index])
                advance(bar, done_seconds)
        except (KeyboardInterrupt, Terminated) as error:
            error.add_note(f"{description}: {len(results)} of {len(songs)} songs were finished")
            raise
    return (
        [(songs[index], results[index]) for index in sorted(results)],
        [(songs[index], failures[index]) for index in sorted(failures)],
    )


def each(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str
) -> Generator[tuple[int, "Future[Result]"], None, None]:
    """``function`` of every item, as they are done: the item's number, and a future that has a result or an error.

    Whoever stops taking them has to close the iterator (``contextlib.closing``); items in progress are given up then.

    Args:
        function: takes an item; picklable, if there is more than one worker, as are the items.
        items: what is to be done; a song or whatever has a ``folder`` is named by it.
        workers: processes; with one, or where the system has no semaphores for processes to share, it is done in this.
        description: beginning of the errors' texts.

    Raises:
        FxnormError: a process was ended from outside, or none can be started.
    """
    work = _Work(function, items, range(len(items)), workers)
    with terminable(), contextlib.ExitStack() as stack:
        pool = stack.enter_context(_pool(workers, description)) if workers > 1 else None
        if pool is None:
            yield from _here(work)
            return
        try:
            yield from _in_processes(pool, work, description)
        except _BrokenError as error:
            raise _ended_from_outside(description, items, error.in_hand) from error


def each_surviving(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    description: str,
    loads: Sequence[float] = (),
    capacity: float = math.inf,
) -> Generator[tuple[int, "Future[Result]"], None, None]:
    """As :func:`each`, always in processes of their own, and none that is lost ends the others' work.

    Where a process is ended from outside, the items that were in hand are done again, one at a time in a new process,
    which has all the memory. One that ends this process too gets an error of its own. If none does, they were too many
    at a time, and half as many processes go on.

    Args:
        function: as in :func:`each`.
        items: likewise.
        workers: processes; where the system has no semaphores for them to share, items are done in this one.
        description: beginning of the errors' texts.
        loads: what each item needs of ``capacity``, such as memory; an item waits until there is enough of it, or
            nothing else in hand.
        capacity: what items in hand may need together.

    Raises:
        FxnormError: no process can be started.
    """
    done: set[int] = set()
    with terminable():
        while waiting := [index for index in range(len(items)) if index not in done]:
            suspects: list[int] = []
            with contextlib.ExitStack() as stack:
                pool = stack.enter_context(_pool(min(workers, len(waiting)), description))
                work = _Work(function, items, waiting, workers, loads, capacity)
                try:
                    for index, future in _in_processes(pool, work, description) if pool is not None else _here(work):
                        done.add(index)
                        yield index, future
                except _BrokenError as error:
                    suspects = error.in_hand
            lost = False
            for index in suspects:
                future = _alone(function, items, index, description)
                lost = lost or isinstance(future.exception(), LostError)
                done.add(index)
                yield index, future
            workers = workers if lost else max(1, workers // 2)


@dataclass(frozen=True)
class _Work(Generic[Item, Result]):
    """What is to be done: the items of ``order``, at most so many at a time, with at most so much load."""

    function: Callable[[Item], Result]
    items: Sequence[Item]
    order: Sequence[int]
    workers: int
    loads: Sequence[float] = ()
    capacity: float = math.inf

    def fits(self, index: int, in_hand: Iterable[int]) -> bool:
        """Whether an item can be done beside others."""
        numbers = [index, *in_hand]
        if len(numbers) == 1:
            return True
        return len(numbers) <= self.workers and (
            not self.loads or sum(self.loads[number] for number in numbers) <= self.capacity
        )


class LostError(FxnormError):
    """The process that did an item was ended from outside."""


class _BrokenError(Exception):
    """A process was ended from outside while some items were in hand."""

    def __init__(self, in_hand: list[int]) -> None:
        super().__init__(in_hand)
        self.in_hand = sorted(in_hand)


def _here(work: _Work[Item, Result]) -> Generator[tuple[int, "Future[Result]"], None, None]:
    """Items one after the other in this process."""
    with _one_thread():
        for index in work.order:
            future: Future[Result] = Future()
            try:
                future.set_result(work.function(work.items[index]))
            except Exception as error:
                future.set_exception(_naming(error, work.items[index]))
            yield index, future


def _alone(function: Callable[[Item], Result], items: Sequence[Item], index: int, description: str) -> "Future[Result]":
    """One item in a process of its own."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(_pool(1, description))
        work = _Work(function, items, [index], 1)
        try:
            ((_, future),) = _in_processes(pool, work, description) if pool is not None else _here(work)
            return future
        except _BrokenError:
            lost: Future[Result] = Future()
            lost.set_exception(
                LostError(
                    f"{_name(items[index])}: its process was ended from outside, alone as well, as the system does when"
                    " memory runs out"
                )
            )
            return lost


def _in_processes(
    pool: ProcessPoolExecutor, work: _Work[Item, Result], description: str
) -> Generator[tuple[int, "Future[Result]"], None, None]:
    waiting = list(reversed(work.order))
    in_hand: dict[Future[Result], int] = {}
    while True:
        # no more are handed out than there are processes, so that none begins after an error
        while waiting and work.fits(waiting[-1], in_hand.values()):
            index = waiting.pop()
            try:
                with signals_blocked():  # a new process inherits this, and is not hit before it is prepared
                    in_hand[pool.submit(_work, work.function, work.items[index])] = index
            except BrokenProcessPool as error:
                raise _BrokenError([*in_hand.values(), index]) from error
            except OSError as error:
                raise FxnormError(f"{description}: no process can be started ({error.strerror or error})") from error
        if not in_hand:
            return
        finished, _ = wait(in_hand, return_when=FIRST_COMPLETED)
        lost = [future for future in finished if isinstance(future.exception(), BrokenProcessPool)]
        for future in finished.difference(lost):
            yield in_hand.pop(future), future
        if lost:
            raise _BrokenError(list(in_hand.values())) from lost[0].exception()


@contextlib.contextmanager
def _pool(workers: int, description: str) -> Iterator[ProcessPoolExecutor | None]:
    """Processes that end with the block, at once if it ends by an error; None where the system has none to give."""
    # spawned, not forked: a fork of a process that runs threads (PyTorch, NumPy's BLAS) can hang
    context = multiprocessing.get_context("spawn")
    parent_end, worker_end = context.Pipe()
    try:
        pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_prepare, initargs=(worker_end, log.is_shown())
        )
    except (OSError, ImportError, NotImplementedError) as error:  # AWS Lambda, or no /dev/shm
        reason = " ".join(str(error).split())
        _log.warning("%s: this machine cannot run processes side by side (%s); one at a time", description, reason)
        yield None
        return
    with _settings_of_one_thread(_WORKERS_THREAD_SETTINGS):
        try:
            yield pool
            pool.shutdown()
        except BaseException:
            parent_end.close()
            worker_end.close()
            pool.shutdown(cancel_futures=True)
            raise


def _prepare(end: Connection, warnings_shown: bool) -> None:
    """In a new process: leave signals to the process that started it.

    SIGTERM, and the end of that process, end this one; a song in progress cleans up before. The library's warnings are
    shown if that process shows them.
    """
    if warnings_shown:
        log.show_warnings(beside_a_bar=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    threading.Thread(target=_end_at, args=(end,), daemon=True).start()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _end_at(end: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        end.recv_bytes()  # nothing is ever sent: it is closed, by hand or by the system
    signal.alarm(_GRACE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def _work(function: Callable[[Item], Result], item: Item) -> Result:
    try:
        with terminable():
            return function(item)
    except Terminated as error:
        # raised, it would be the item's error, and the pool would give this process the next item
        os._exit(error.status)
    except Exception as error:
        _naming(error, item)
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # the process that waits for it could not read it, and would wait for ever
            raise RuntimeError("".join(traceback.format_exception(error))) from None
        raise


def _naming(error: Exception, item: object) -> Exception:
    """Adds the name of the item to the notes of a defect; a user's error names it itself."""
    if not isinstance(error, FxnormError):
        error.add_note(f"in {_name(item)}")
    return error


def _name(item: object) -> str:
    return str(getattr(item, "folder", item))


def _ended_from_outside(description: str, items: Sequence[Item], in_hand: Sequence[int]) -> FxnormError:
    names = ", ".join(_name(items[index]) for index in sorted(in_hand))
    return FxnormError(
        f"{description}: a process was ended from outside, as the system does when memory runs out; in hand were"
        f" {names}; fewer --workers need less memory"
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """While it holds, this process computes as those do that :func:`_pool` starts."""
    with _settings_of_one_thread(_THREAD_SETTINGS), threadpool_limits(1):
        torch = sys.modules.get("torch")
        threads = torch.get_num_threads() if torch is not None else 0
        try:
            if torch is not None:
                torch.set_num_threads(1)
            yield
        finally:
            if torch is not None:
                torch.set_num_threads(threads)


def _settings_of_one_thread(names: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    """While it holds, libraries that are loaded take one thread each: processes already use every core."""
    return environment(dict.fromkeys(names, "1"))


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """While it holds, this process and those that are started have these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def advance(bar: tqdm, done_seconds: float) -> None:
    """One item more on a bar, which shows how much audio was done in a second; ``done_seconds`` is all so far."""
    elapsed = bar.format_dict["elapsed"] or 1e-9
    bar.set_postfix_str(f"{done_seconds / elapsed:.1f} s of audio/s", refresh=False)
    bar.update()


def _seconds_or_zero(song: Song) -> float:
    """A song's length for the bar; a file that cannot be opened is reported by the worker."""
    try:
        return song.seconds
    except FxnormError:
        return 0.0

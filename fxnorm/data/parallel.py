"""Work over songs in parallel processes, with a progress bar.

An error, Ctrl-C or SIGTERM ends all of it at once: songs in progress are given up and clean up behind them, the others
never begin. Processes end with the one that started them, whatever ends that.
"""

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import TypeVar

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

_log = logging.getLogger(__name__)


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, within the limit of a container or a batch system."""
    return int(joblib.cpu_count())


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
                elapsed = bar.format_dict["elapsed"] or 1e-9
                bar.set_postfix_str(f"{done_seconds / elapsed:.1f} s of audio/s", refresh=False)
                bar.update()
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
    with terminable(), contextlib.ExitStack() as stack:
        pool = stack.enter_context(_pool(workers, description)) if workers > 1 else None
        if pool is not None:
            yield from _in_processes(pool, function, items, workers, description)
            return
        stack.enter_context(_one_thread())
        for index, item in enumerate(items):
            future: Future[Result] = Future()
            try:
                future.set_result(function(item))
            except Exception as error:
                future.set_exception(_naming(error, item))
            yield index, future


def _in_processes(
    pool: ProcessPoolExecutor,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int,
    description: str,
) -> Generator[tuple[int, "Future[Result]"], None, None]:
    waiting = iter(enumerate(items))
    in_hand: dict[Future[Result], int] = {}
    while True:
        # no more are handed out than there are processes, so that none begins after an error
        while len(in_hand) < workers and (following := next(waiting, None)) is not None:
            index, item = following
            try:
                with signals_blocked():  # a new process inherits this, and is not hit before it is prepared
                    in_hand[pool.submit(_work, function, item)] = index
            except BrokenProcessPool as error:
                raise _ended_from_outside(description, items, [*in_hand.values(), index]) from error
            except OSError as error:
                raise FxnormError(f"{description}: no process can be started ({error.strerror or error})") from error
        if not in_hand:
            return
        finished, _ = wait(in_hand, return_when=FIRST_COMPLETED)
        for future in finished:
            if isinstance(future.exception(), BrokenProcessPool):
                raise _ended_from_outside(description, items, list(in_hand.values())) from future.exception()
        for future in finished:
            yield in_hand.pop(future), future


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


@contextlib.contextmanager
def _settings_of_one_thread(names: Sequence[str]) -> Iterator[None]:
    """While it holds, libraries that are loaded take one thread each: processes already use every core."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _seconds_or_zero(song: Song) -> float:
    """A song's length for the bar; a file that cannot be opened is reported by the worker."""
    try:
        return song.seconds
    except FxnormError:
        return 0.0

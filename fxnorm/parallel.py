"""Work over songs in parallel processes, with a progress bar."""

import contextlib
import functools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import TypeVar

import joblib
from tqdm import tqdm

from fxnorm import log
from fxnorm.dataset import Song
from fxnorm.errors import FxnormError

Result = TypeVar("Result")

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


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
    """``function`` of every song, each in one of ``workers`` processes.

    Args:
        function: picklable; takes a song.
        songs: the songs.
        description: what the progress bar says.
        workers: processes; the default is one a core.
        skip_errors: leave out a song that fails with a user's error instead of stopping at it.

    Returns:
        songs with their results, and songs that were left out with the reason, both in the order of ``songs``.

    Raises:
        FxnormError: the first song's error, if errors are not skipped; what other songs finished by then is kept
            by ``function`` itself, if it writes anything.
    """
    if not songs:
        return [], []
    results: dict[int, Result] = {}
    failures: dict[int, str] = {}
    workers = min(workers or available_cores(), len(songs))
    # spawned, not forked: a fork of a process that runs threads (PyTorch, NumPy's BLAS) can hang
    context = multiprocessing.get_context("spawn")
    with (
        _one_thread_a_worker(),
        ProcessPoolExecutor(workers, mp_context=context, initializer=_show_warnings()) as pool,
        tqdm(total=len(songs), desc=description, unit="song", dynamic_ncols=True, mininterval=0.5) as bar,
    ):
        futures = {pool.submit(function, song): index for index, song in enumerate(songs)}
        done_seconds = 0.0
        for future in as_completed(futures):
            index = futures[future]
            try:
                results[index] = future.result()
            except FxnormError as error:
                if not skip_errors:
                    _cancel(futures)
                    raise
                failures[index] = str(error)
            done_seconds += _seconds_or_zero(songs[index])
            elapsed = bar.format_dict["elapsed"] or 1e-9
            bar.set_postfix_str(f"{done_seconds / elapsed:.1f} s of audio/s", refresh=False)
            bar.update()
    return (
        [(songs[index], results[index]) for index in sorted(results)],
        [(songs[index], failures[index]) for index in sorted(failures)],
    )


@contextlib.contextmanager
def _one_thread_a_worker() -> Iterator[None]:
    """While it holds, child processes start with one thread each: processes already use every core."""
    before = {name: os.environ.get(name) for name in _THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _show_warnings() -> Callable[[], None] | None:
    """What has a worker show the library's warnings, if this process shows them."""
    return functools.partial(log.show_warnings, beside_a_bar=True) if log.is_shown() else None


def _cancel(futures: Iterable[Future[Result]]) -> None:
    for future in futures:
        future.cancel()


def _seconds_or_zero(song: Song) -> float:
    """The bar's share of a song; a file that cannot be opened is for the worker to report."""
    try:
        return song.seconds
    except FxnormError:
        return 0.0

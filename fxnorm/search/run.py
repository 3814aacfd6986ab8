"""A search from its beginning to its result, in this process or in several of this machine."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch
from tqdm import tqdm

from fxnorm.data.parallel import environment
from fxnorm.errors import FxnormError, StoppedError
from fxnorm.io import object_store, outputs
from fxnorm.runtime import log
from fxnorm.runtime.signals import SIGNALS, Terminated, signals_blocked, terminable
from fxnorm.search import prepared, result
from fxnorm.search.params_file import Base
from fxnorm.search.prepared import Songs
from fxnorm.search.result import Result
from fxnorm.search.space import Space
from fxnorm.search.storage import Storage, address
from fxnorm.search.study import PLACE_FILE, TRIALS, Study
from fxnorm.search.trials import MIXER, Work

DATABASE = "study.db"
_CONTENTS = outputs.Contents(
    "a search",
    rf"{DATABASE}(?:-journal|-wal|-shm)?|{PLACE_FILE}|{TRIALS}/.*|{MIXER}/.*|{result.BEST_SETTINGS}|{result.BEST_DIFF}"
    rf"|{result.TABLE}|{result.HISTORY}|{result.IMPORTANCE}|\.[^/]*\.lock",
)
_LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Plan:
    """All that a process needs to take part in a search.

    Attributes:
        space: what is varied.
        base: the settings that are not.
        songs: what trials learn from.
        output: the folder of the study on this machine; its name is the study's.
        storage: its address; None for a file in ``output``.
        keep: how many of the best trials keep their Mixer.
        checkpoints: ``s3://BUCKET/KEY`` for the trials' checkpoints; None for ``output``.
        slot: the task of a pipeline that the process is.
    """

    space: Space
    base: Base
    songs: Songs
    output: Path
    storage: str | None = None
    keep: int = 1
    checkpoints: str | None = None
    slot: str | None = None

    def check(self, data: Path, source: str) -> None:
        """Refuse places that nothing could be written to, before anything is.

        Args:
            data: where the songs are from.
            source: the file of the space.

        Raises:
            SettingsError: an address is none.
            OutputError: ``output`` is no place to write to.
        """
        outputs.named_after(self.output, "")
        outputs.check(
            [data, self.base.settings.train.initial_weights, self.base.name, source],
            [outputs.Folder(self.output, _CONTENTS.refuse_others, whole=False)],
        )
        address(self._storage)
        if self.checkpoints is not None:
            object_store.split(self.checkpoints)

    @property
    def _storage(self) -> str:
        return str(self.output / DATABASE) if self.storage is None else self.storage

    def open(self) -> Work:
        """The study's trials, to be done by this process.

        Raises:
            SettingsError: its trials so far could not be compared with those of this plan.
            FxnormError: the storage does not answer.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        study = Study(Storage(address(self._storage)), self.output.name, self.space, self.output, self.slot)
        study.open(self.space.identity(self.base.settings) | {"songs": self.songs.digest})
        normalized = self.output.parent / prepared.FOLDER
        return Work(study, self.base.settings, self.songs, normalized, self.keep, self.checkpoints)


def run(plan: Plan, workers: int = 1) -> Result:
    """Do trials until as many have ended as were asked for, and write what the best one is.

    Args:
        plan: of the search; other machines with the same storage take part in it.
        workers: processes on this machine.

    Raises:
        StoppedError: SIGTERM or SIGINT came; the same goes on.
        FxnormError: something that all trials need is not there, or none was trained to its end.
    """
    work = plan.open()
    if workers == 1:
        work.to_the_end()
    elif not work.study.is_over():
        _Workers(plan, work.study, workers).to_the_end()
    work.tidy()
    return result.write(work, plan.base)


class _Workers:
    """Processes that do trials, each the next one; they end with the process that started them."""

    def __init__(self, plan: Plan, study: Study, count: int) -> None:
        self._study = study
        self._processes: dict[SpawnProcess, Connection] = {}
        context = multiprocessing.get_context("spawn")  # a fork of a process that runs threads can hang
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(plan, theirs, log.is_shown()))
            variables = {"TQDM_DISABLE": "1", **_accelerator(number)}  # all bars are on one line
            with environment(variables), signals_blocked():
                process.start()
            theirs.close()
            self._processes[process] = ours

    def to_the_end(self) -> None:
        """Wait for them.

        Raises:
            StoppedError: a signal came.
            FxnormError: the first error of a process; or all were ended from outside.
        """
        total = self._study.space.trials
        try:
            with tqdm(desc="search", unit="trial", total=total, dynamic_ncols=True) as bar:
                while self._processes:
                    wait([process.sentinel for process in self._processes], _LOOK_SECONDS)
                    for process in [process for process in self._processes if not process.is_alive()]:
                        self._refuse_failure(process)
                    self._show(bar)
        except BaseException as error:
            self._stop()
            if not isinstance(error, KeyboardInterrupt | Terminated):
                raise
            number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
            raise StoppedError(
                f"search: stopped by {number.name}, {len(self._study.finished())} of {total} trials have ended; the"
                " same command goes on",
                number,
            ) from error
        if not self._study.is_over():
            raise FxnormError("search: all workers were ended from outside, as the system does when memory runs out;"
                              " the same command goes on")  # fmt: skip

    def _refuse_failure(self, process: SpawnProcess) -> None:
        end = self._processes.pop(process)
        process.join()
        status = process.exitcode or 0
        if status > 0:
            said = end.recv() if end.poll() else "search: a worker ended with a defect, whose trace is above"
            raise FxnormError(said)
        if status < 0:
            name = signal.Signals(-status).name
            assert process.pid is not None
            self._study.process_ended(process.pid)
            tqdm.write(f"search: a worker was ended from outside ({name}); its trial goes on in another", sys.stderr)

    def _show(self, bar: tqdm) -> None:
        bar.n = len(self._study.finished())
        best = self._study.best(1)
        bar.set_postfix_str(f"best {best[0].value:.4g} of trial {best[0].number}" if best else "", refresh=True)

    def _stop(self) -> None:
        for process in self._processes:
            process.terminate()  # a training writes its checkpoint
        for process, end in self._processes.items():
            process.join()
            end.close()


def _accelerator(number: int) -> dict[str, str]:
    """The variable that gives a worker a CUDA device of its own, as long as there are as many."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [str(device) for device in range(torch.cuda.device_count())] if visible is None else visible.split(",")
    return {"CUDA_VISIBLE_DEVICES": devices[number % len(devices)]} if devices else {}


def _work(plan: Plan, end: Connection, warnings_shown: bool) -> None:
    """In a new process: do trials, and say in one line what went wrong."""
    if warnings_shown:
        log.show_warnings(beside_a_bar=True)
    threading.Thread(target=_end_at, args=(end,), daemon=True).start()
    try:
        with terminable():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            plan.open().to_the_end()
    except FxnormError as error:
        _say(end, str(error))
        sys.exit(error.exit_status)
    except (KeyboardInterrupt, Terminated) as error:
        _say(end, "search: a worker was stopped; the same command goes on")
        sys.exit(Terminated.status if isinstance(error, Terminated) else 128 + signal.SIGINT)


def _say(end: Connection, text: str) -> None:
    with contextlib.suppress(OSError):  # whoever would listen is gone
        end.send(text)


def _end_at(end: Connection) -> None:
    """End this process as SIGTERM does when the one that started it is gone, however that ended."""
    try:
        end.recv_bytes()  # nothing is ever sent
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)

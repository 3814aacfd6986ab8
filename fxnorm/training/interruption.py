"""Signals that request the end of a training run: they are noted, and the run ends where it can be resumed.

A node that is taken away sends SIGTERM and, some seconds later, SIGKILL; Ctrl-C sends SIGINT. Further ones of the same
kind change nothing: batch systems and ``torchrun`` pass the same signal on more than once.
"""

import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

from fxnorm.runtime.signals import SIGNALS

Item = TypeVar("Item")


class Interruption:
    """While the ``with`` block lasts, SIGTERM and SIGINT do not end the process but are noted in ``signal_number``.

    Python lets the main thread alone handle signals; in another thread nothing is noted, and they end the process.
    """

    def __init__(self) -> None:
        self.signal_number = 0
        """The first signal that came; 0 for none."""
        self._before: dict[signal.Signals, Any] = {}
        self._waiting = False

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def before_signals(self, items: Iterator[Item]) -> Iterator[Item]:
        """The items of an iterator that may wait for minutes, as songs of a store that does not answer do.

        At a signal it ends, while it waits too.
        """
        while True:
            try:
                self._waiting = True
                if self.signal_number:
                    return
                item = next(items)
            except (StopIteration, _SignalledError):
                return
            finally:
                self._waiting = False
            yield item

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = self.signal_number or number
        if self._waiting:
            self._waiting = False
            raise _SignalledError


class _SignalledError(BaseException):
    """A signal came while nothing else was done than to wait; no handler of errors is to take it for one."""


def leave_to(trainer: int, worker: int) -> None:
    """In a process that reads data: leave the handling of signals to the training process, ``trainer``.

    Signals to a whole group of processes (Ctrl-C, a batch system) reach the readers too, whose end would be an error in
    the middle of the step that is to be finished. SIGTERM from the training process itself ends them as ever.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    threading.Thread(target=_obey, args=(trainer,), daemon=True).start()


def _obey(trainer: int) -> None:
    while True:
        received = signal.sigwaitinfo(SIGNALS)
        if received.si_signo == signal.SIGTERM and received.si_pid == trainer:
            os._exit(0)

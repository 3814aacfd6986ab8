"""SIGTERM as an error of Python, so that what is begun is cleaned up before the process ends; and blocking signals."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""The signals that request the end of a process."""


class Terminated(SystemExit):
    """SIGTERM came. Not caught, it ends the process without a traceback, with the status that a shell gives for it."""

    status = 128 + signal.SIGTERM

    def __init__(self) -> None:
        super().__init__(self.status)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Within the block SIGTERM raises :class:`Terminated` in the main thread, unless the program handles it itself.

    It does so once: another one must not break off the cleaning up. A process of songs sends itself one when a signal
    to the whole group has ended the process that started it.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Within the block no signal comes, neither here nor, until they do otherwise, in processes that it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated

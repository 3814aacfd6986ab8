"""Waiting for what other threads and processes do: for the condition itself, and far longer than it ever takes."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 300
"""Seconds, for what takes seconds on a machine with nothing else to do: one that is slow and busy is no failure."""

Found = TypeVar("Found")


def until(condition: Callable[[], Found], said: Callable[[], str] = str, seconds: float = PATIENCE) -> Found:
    """Wait until ``condition`` gives something true, and give that.

    Raises:
        AssertionError: it does not; with what ``said`` gives, such as a log.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, said()
        time.sleep(0.02)
    return found

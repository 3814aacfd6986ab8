"""Work that is done one after the other in a thread of its own, told of while it is done, and cancelled."""

import threading
import time
from collections import deque
from collections.abc import Callable

from fxnorm.page.refusal import Refused


class Cancelled(Exception):  # noqa: N818  nothing went wrong
    """Raised within a job whose user does not want it any more."""


class Job:
    """Something to do.

    Args:
        work: does it; calls :meth:`report` often, and handles its own errors.
        changed: called whenever somebody who looks sees something else.
    """

    def __init__(self, work: Callable[["Job"], None], changed: Callable[[], None]) -> None:
        self.position = 0
        self.phase = "waiting"
        self.fraction = 0.0
        self._work = work
        self._changed = changed
        self._began = 0.0
        self._cancelled = threading.Event()
        self._over = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether it has begun and not ended."""
        return self._began > 0 and not self._over.is_set()

    @property
    def is_cancelled(self) -> bool:
        """Whether its user does not want it any more."""
        return self._cancelled.is_set()

    @property
    def seconds_left(self) -> float | None:
        """How long it takes yet, by how long the first part took; None where too little is done to tell."""
        if not self.is_running or self.fraction < 0.05:
            return None
        return round((time.monotonic() - self._began) * (1 - self.fraction) / self.fraction, 1)

    def report(self, phase: str, fraction: float) -> None:
        """Tell how far it is: what is done, and which part of the whole has been.

        Raises:
            Cancelled: nobody wants it any more.
        """
        if self._cancelled.is_set():
            raise Cancelled
        self.phase, self.fraction = phase, min(max(fraction, 0.0), 1.0)
        self._changed()

    def cancel(self) -> None:
        """Ask it to end."""
        self._cancelled.set()

    def moved(self, position: int) -> None:
        """It has another place in the queue."""
        if position != self.position:
            self.position = position
            self._changed()

    def wait(self, seconds: float) -> bool:
        """Whether it is over within so many seconds."""
        return self._over.wait(seconds)

    def run(self) -> None:
        """Do it, in the thread that calls this."""
        self._began = time.monotonic()
        try:
            self._work(self)
        except Refused:
            pass  # what it was done for is gone
        finally:
            self._over.set()
            self._changed()


class Queue:
    """Jobs in the order in which they came.

    Args:
        name: of the thread.
        most: that wait while another one is done.
    """

    def __init__(self, name: str, most: int) -> None:
        self._most = most
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None
        self._condition = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def add(self, job: Job) -> None:
        """Have a job done after those that wait.

        Raises:
            Refused: too many wait.
        """
        with self._condition:
            if len(self._waiting) >= self._most:
                raise Refused(503, f"{len(self._waiting)} wait already; try again later")
            self._waiting.append(job)
            self._tell()
            self._condition.notify()

    def remove(self, job: Job) -> bool:
        """Whether a job was taken out because it had not begun."""
        with self._condition:
            if job not in self._waiting:
                return False
            self._waiting.remove(job)
            self._tell()
            return True

    def close(self) -> None:
        """Begin nothing more, and ask what is being done to end."""
        with self._condition:
            self._closed = True
            self._waiting.clear()
            if self._current is not None:
                self._current.cancel()
            self._condition.notify()
        self._thread.join()

    def _tell(self) -> None:
        for number, job in enumerate(self._waiting):
            job.moved(number + (self._current is not None))

    def _run(self) -> None:
        while True:
            with self._condition:
                self._current = None
                self._tell()
                while not self._waiting and not self._closed:
                    self._condition.wait()
                if self._closed:
                    return
                self._current = self._waiting.popleft()
                self._current.moved(0)
                self._tell()
            self._current.run()

"""Until when a request has to be answered; the server sets it, the model checks it between the parts of a mix."""

import math
import time
from contextvars import ContextVar

from fxnorm.errors import FxnormError


class OutOfTimeError(FxnormError):
    """A request's time is over, or its client has disconnected."""


class Deadline:
    """A moment some seconds from now, or sooner if :meth:`give_up` is called."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, 0 when there are none."""
        return max(0.0, self._end - time.monotonic())

    def give_up(self) -> None:
        """End the time now, because the client has disconnected."""
        self._end = -math.inf

    def check(self, _done: float = 0.0) -> None:
        """Called with a mix's progress.

        Raises:
            OutOfTimeError: the time is over.
        """
        if self.remaining() == 0:
            raise OutOfTimeError(
                f"not mixed within {self.seconds:.0f} s; send less at once, or give the server more time"
            )


CURRENT: ContextVar[Deadline | None] = ContextVar("deadline", default=None)
"""The deadline of the request that is being served; none where the model is used without a server."""

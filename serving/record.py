"""What is noted of one request while it is served: the time of each phase, what was mixed, and how it ended."""

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from fxnorm.mixing.mixer import Mixer
from fxnorm.mixing.report import MixReport
from fxnorm.monitoring.records import PHASES, STATUSES, LoggedRequest, LoggedSong, Phase, Reason

_UNKNOWN = "unknown"
_DECIMALS = 4
_BY_STATUS: dict[int, Reason] = {200: "mixed", 400: "request", 401: "token", 408: "slow", 413: "size", 415: "type",
                                 500: "defect", 503: "busy", 504: "time"}  # fmt: skip
"""What a status means unless a reason was noted: these are the limiter's own."""


@dataclass
class RequestRecord:
    """A request.

    Attributes:
        arrived: the time of day.
        status: that was sent; 0 before.
        reason: why, where its status alone does not tell.
        left: its client disconnected before the answer.
        version: of the model that mixed.
    """

    arrived: datetime = field(default_factory=lambda: datetime.now(UTC))
    status: int = 0
    reason: Reason | None = None
    left: bool = False
    version: str = _UNKNOWN
    phases: dict[Phase, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    songs: list[LoggedSong] = field(default_factory=list)
    _start: float = field(default_factory=time.perf_counter)
    _mark: float = 0.0

    def mark(self) -> None:
        """A phase begins here that :meth:`until_here` ends, perhaps in another thread."""
        self._mark = time.perf_counter()

    def until_here(self, phase: Phase) -> None:
        """Count the time since the last mark; without one, nothing."""
        if self._mark:
            self.phases[phase] += time.perf_counter() - self._mark
            self._mark = 0.0

    @contextlib.contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Count the time of the block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.phases[phase] += time.perf_counter() - start

    def note(self, seconds: float, report: MixReport) -> None:
        """Note a song of so many seconds that was mixed."""
        self.songs.append(LoggedSong(seconds=seconds, loudness_lufs=report.stem_loudness_lufs, drift=report.drift))

    def finished(self) -> LoggedRequest:
        """All of it, when the answer has gone."""
        reason = "left" if self.left else self.reason or _BY_STATUS.get(self.status, "other")
        return LoggedRequest(
            time=self.arrived,
            status=STATUSES["left"] if self.left else self.status,
            reason=reason,
            seconds=round(time.perf_counter() - self._start, _DECIMALS),
            phases={phase: round(seconds, _DECIMALS) for phase, seconds in self.phases.items()},
            songs=self.songs,
            version=self.version,
        )


@dataclass
class TimedMixer(Mixer):
    """A Mixer that notes how long normalization and network take."""

    record: RequestRecord

    @classmethod
    def of(cls, mixer: Mixer, record: RequestRecord) -> "TimedMixer":
        """The same Mixer, for one request."""
        return cls(mixer.recipe, mixer.network, mixer.run_in_seconds, mixer.device, record)

    def normalize(self, *arguments: Any, **options: Any) -> np.ndarray:
        """As the Mixer's."""
        with self.record.phase("normalize"):
            return super().normalize(*arguments, **options)

    def mix_normalized(self, *arguments: Any, **options: Any) -> np.ndarray:
        """As the Mixer's."""
        with self.record.phase("network"):
            return super().mix_normalized(*arguments, **options)


RECORD: ContextVar[RequestRecord | None] = ContextVar("record", default=None)
"""The request that is being served; none where the model is used without a server."""

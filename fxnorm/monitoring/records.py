"""The endpoint's request log: one JSON object a line, as the endpoint writes it and ``fxnorm monitor`` reads it.

A line has no audio, no name of a song or file, and nothing of who asked.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from fxnorm.constants import STEMS
from fxnorm.effects.features import EFFECTS
from fxnorm.errors import DatasetError, system_reason

Phase = Literal["wait", "decode", "normalize", "network", "encode"]
PHASES: tuple[Phase, ...] = get_args(Phase)
"""Of a request: waiting for its turn, reading the request and its audio files, the effect normalization, the network,
and bringing the mix to its level, its file and the answer."""

Reason = Literal[
    "mixed", "request", "audio", "token", "slow", "size", "type", "left", "busy", "store", "time", "model", "defect",
    "other",
]  # fmt: skip
STATUSES: dict[Reason, int] = {
    "mixed": 200, "request": 400, "audio": 400, "token": 401, "slow": 408, "size": 413, "type": 415, "left": 499,
    "busy": 503, "store": 503, "time": 504, "model": 500, "defect": 500,
}  # fmt: skip
"""How a request can end, and its status; ``other`` comes with any status, 499 is sent to nobody."""

_LONGEST_LINE = 100_000  # characters; eight songs take 6,000
_SHOWN = 3
_Number = Annotated[float, Field(allow_inf_nan=False)]


class LoggedSong(BaseModel):
    """A song of a request: seconds of audio, loudness in LUFS by stem, and drift by effect and stem."""

    model_config = ConfigDict(extra="ignore")

    seconds: _Number
    loudness_lufs: dict[str, _Number | None] = {}
    drift: dict[str, dict[str, _Number | None]] = {}


class LoggedRequest(BaseModel):
    """A line of the log."""

    model_config = ConfigDict(extra="ignore")  # a newer endpoint may say more

    time: AwareDatetime
    """When it arrived."""
    status: int
    reason: str
    seconds: _Number
    """From its arrival to its answer."""
    phases: dict[str, _Number]
    songs: list[LoggedSong] = []
    """Those that were mixed."""
    version: str
    """Of the registered model."""


@dataclass
class RequestLog:
    """What was read of a log.

    Attributes:
        requests: by time.
        damaged: file and line of each line that is none of the endpoint's.
    """

    requests: list[LoggedRequest] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "RequestLog":
        """The log, with the older files beside it that the endpoint's rotation left (``LOG.1`` and so on).

        Raises:
            DatasetError: it cannot be read.
        """
        log = cls()
        for file in [*reversed(_older(path)), path]:
            try:
                with open(file, encoding="utf-8", errors="replace") as lines:
                    # in pieces: a file that is no log may be one line of gigabytes
                    log._read(file.name, iter(partial(lines.readline, _LONGEST_LINE), ""))
            except OSError as error:
                raise DatasetError(f"{file}: cannot be read as a request log ({system_reason(error)})") from error
        log.requests.sort(key=lambda request: request.time)
        return log

    def _read(self, name: str, lines: Iterator[str]) -> None:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                self.requests.append(LoggedRequest.model_validate(json.loads(line)))
            except (ValueError, RecursionError, ValidationError):
                self.damaged.append(f"{name}:{number}")

    def between(self, since: datetime, until: datetime) -> list[LoggedRequest]:
        """The requests that arrived from ``since`` on and before ``until``."""
        return [request for request in self.requests if since <= request.time < until]

    def damage(self) -> str | None:
        """A sentence on the lines that were left out; None if there are none."""
        if not self.damaged:
            return None
        shown = ", ".join(self.damaged[:_SHOWN]) + (", …" if len(self.damaged) > _SHOWN else "")
        return f"{len(self.damaged)} damaged lines were left out: {shown}"


def _older(path: Path) -> list[Path]:
    """The files that were rotated, the newest first."""
    found: list[Path] = []
    while (older := path.with_name(f"{path.name}.{len(found) + 1}")).is_file():
        found.append(older)
    return found


def drift_keys() -> list[tuple[str, str]]:
    """The pairs of effect and stem that drift is measured of."""
    return [(effect, stem) for effect in EFFECTS for stem in STEMS]

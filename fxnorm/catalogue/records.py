"""What is known of each session that was done: what it was made from, what was made, and its row of the table.

A record lies beside the mixes and travels with them. It decides whether a mix is kept: the same Mixer, options and
code, the same files, and the mix still there as it was made. Files are known by their times and sizes, as ``make`` and
DVC do it; where these differ, as after a copy, by their content.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fxnorm.catalogue.find import Found
from fxnorm.catalogue.targets import RECORDS


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Drift(_Strict):
    """How far a stem lies from the training songs, in the effect in which it lies farthest."""

    effect: str
    spreads: float
    """Of the training songs; minus where the stem has less."""


class Row(_Strict):
    """A session as the table and the page show it."""

    session: str
    status: Literal["mixed", "failed"]
    kind: Literal["tracks", "stems"]
    file: str | None = None
    """The mix, below the folder of all mixes."""
    seconds: float | None = None
    loudness_lufs: float | None = None
    true_peak_dbtp: float | None = None
    remark: str | None = None
    """Where the loudness asked for was not reached."""
    drift: dict[str, Drift] = {}
    """By stem."""
    groups: dict[str, int] = {}
    """How many tracks were mixed, by group."""
    warnings: tuple[str, ...] = ()
    message: str | None = None
    """Why it was not mixed."""


class Record(_Strict):
    """A session that was done.

    Attributes:
        format: of this file.
        key: a hash of Mixer, options, code and place, and what it was computed on.
        stamps: of the session's files, by their paths in its folder.
        content: a hash of their contents.
        outputs: hashes of what was made, by path.
        output_stamps: likewise, their stamps.
        row: of the table.
    """

    format: Literal[1] = 1
    key: str
    stamps: dict[str, str]
    content: str | None = None
    outputs: dict[str, str] = {}
    output_stamps: dict[str, str] = {}
    row: Row

    def is_of(self, key: str, session: Found) -> bool:
        """Whether it is of a mix of the same files by their names, made in the same way."""
        return self.row.status == "mixed" and self.key == key and set(self.stamps) == set(stamps_of(session))

    def is_current(self, key: str, session: Found, output_stamps: Mapping[str, str]) -> bool:
        """Whether nothing has been touched since; a look at times and sizes alone."""
        return (
            self.is_of(key, session)
            and self.stamps == stamps_of(session)
            and {name: output_stamps.get(name) for name in self.outputs} == self.output_stamps
        )


def stamps_of(session: Found) -> dict[str, str]:
    """What a session's files are known by."""
    return {file.name: f"{file.size} {file.stamp}" for file in session.files}


def file_of(session: str) -> str:
    """Where the record of a session lies."""
    return f"{RECORDS}/{hashlib.sha256(session.encode()).hexdigest()[:32]}.json"


def dumped(record: Record) -> bytes:
    """The bytes of a record's file."""
    return (record.model_dump_json(indent=1) + "\n").encode()


def parsed(content: bytes | None) -> Record | None:
    """A record from its file; None for a damaged one, or one of another version, whose session is done again."""
    if content is None:
        return None
    try:
        return Record.model_validate_json(content)
    except ValidationError:
        return None


def counted(rows: Sequence[Row]) -> dict[str, int]:
    """How many sessions are in which state."""
    failed = sum(row.status == "failed" for row in rows)
    return {"mixed": len(rows) - failed, "failed": failed}

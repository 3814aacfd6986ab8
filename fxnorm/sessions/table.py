"""The table of a session's tracks, ``tracks.yaml``: which group each belongs to, and how it goes into the mix.

It is written to be edited. The first line of the file is a comment with a hash of the rest, by which an edited table is
recognized: nothing overwrites one unasked.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fxnorm.data.track_names import Side, side_of, source_of
from fxnorm.errors import DatasetError, OutputError, printable, system_reason
from fxnorm.io import bounded
from fxnorm.io.files import whole_file

TABLE_FILE = "tracks.yaml"
"""The table's name in a session's folder."""

MOST_TRACKS = 1_000
BY_REVIEW = ("guess", "heard", "word", "hand")
"""What decided a track's group, from what a person should look at first on."""

_MOST_GAIN_DB = 60.0
_LONGEST_NAME = 1_024
_MOST_VALUES = 25 * MOST_TRACKS
_SHOWN = 200  # characters of a name in an error
_FIRST_LINE = "# made by 'fxnorm tracks', to be edited; sha256 of the rest: "
_HELP = """\
# group: vocals, bass, drums or other    by: word of the name, heard, guess (look here first) or hand
# source: tracks of one group and source are summed, then brought to one loudness with the group's other sources
# pair: the other half of a stereo pair, side: left or right    gain_db: on top of that    use: false leaves it out
# balance: loudness, or as_is for the files' own levels
"""


class Track(BaseModel):
    """A line of the table.

    Attributes:
        file: path below the session's folder.
        group: the stem that it goes into.
        by: what decided that: a word of the name, what was heard, a guess, or a person's hand.
        source: what plays. The tracks of one source, such as the microphones of a drum, are summed first. Left out, it
            follows from the name.
        pair: file of the other half of a stereo pair.
        side: the channel of a half; left out, it follows from the name or from the other half's.
        gain_db: in the mix, on top of the balance.
        use: whether it is mixed.
        why: a remark, such as the reason why it is not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    file: Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)]
    group: Literal["vocals", "bass", "drums", "other"]
    by: Literal["word", "heard", "guess", "hand"] = "hand"
    source: Annotated[str, Field(max_length=_LONGEST_NAME)] = ""
    pair: str | None = None
    side: Side | None = None
    gain_db: Annotated[float, Field(ge=-_MOST_GAIN_DB, le=_MOST_GAIN_DB, allow_inf_nan=False)] = 0.0
    use: bool = True
    why: str = ""

    @field_validator("why", "source", mode="before")
    @classmethod
    def _without_null(cls, value: Any) -> Any:
        return "" if value is None else value


class Table(BaseModel):
    """All tracks of a session.

    Attributes:
        folder: the session's, as seen from the table's own.
        mixture: path of a finished mix below the folder; it is not mixed.
        balance: ``loudness`` brings the sources of a group to one loudness; ``as_is`` leaves the files' own levels.
        tracks: one a file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    folder: Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)] = "."
    mixture: str | None = None
    balance: Literal["loudness", "as_is"] = "loudness"
    tracks: Annotated[list[Track], Field(min_length=1, max_length=MOST_TRACKS)]

    @property
    def used(self) -> list[Track]:
        """The tracks that are mixed."""
        return [track for track in self.tracks if track.use]


def parse(content: Any, name: str) -> Table:
    """A table out of plain values, checked by itself; its pairs name each other and have sides.

    Args:
        content: what the file holds.
        name: of the file, for errors.

    Raises:
        DatasetError: one line an error, with the file's name and the key.
    """
    try:
        table = Table.model_validate(content)
    except ValidationError as error:
        raise DatasetError("\n".join(f"{name}: {line}" for line in _misfits(error, content))) from error
    completed, problems = _completed(table.tracks)
    problems += [
        f"{printable(file, _SHOWN)}: leaves the folder"
        for file in [*(track.file for track in table.tracks), *filter(None, [table.mixture])]
        if not is_within(file)
    ]
    if problems:
        raise DatasetError("\n".join(f"{name}: {line}" for line in problems))
    return table.model_copy(update={"tracks": completed})


def read(path: Path) -> Table:
    """The table in a YAML file; whether the files are there is not looked at.

    Raises:
        DatasetError: it cannot be read, is no YAML, or as :func:`parse`.
    """
    try:
        content = bounded.read_yaml(path, _MOST_VALUES)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({system_reason(error)})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not readable as YAML ({printable(_yaml_reason(error), _SHOWN)})") from error
    return parse(content, str(path))


def is_within(file: str) -> bool:
    """Whether a path, as a table has it, stays below the folder; links are not looked at."""
    return not PurePosixPath(file).is_absolute() and ".." not in PurePosixPath(file).parts and "\0" not in file


def text(table: Table) -> str:
    """The table as YAML, guesses first, then what was heard, each in the order of the tracks."""
    ordered = sorted(table.tracks, key=lambda track: BY_REVIEW.index(track.by))
    lines = [] if table.folder == "." else [f"folder: {_flow(table.folder)}"]
    lines += [f"mixture: {_flow(table.mixture)}", f"balance: {table.balance}", "tracks:"]
    lines += [f"  - {_flow(_row(track))}" for track in ordered]
    rest = _HELP + "\n".join(lines) + "\n"
    return f"{_FIRST_LINE}{hashlib.sha256(rest.encode()).hexdigest()}\n{rest}"


def write(table: Table, path: Path) -> None:
    """Write the table, whole or not at all.

    Raises:
        OutputError: the system refuses to write it.
    """
    content = text(table)
    with whole_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def refuse_edited(path: Path) -> None:
    """Refuse to overwrite a file that this module did not write, or that was edited since.

    Raises:
        OutputError: it is one.
    """
    if not path.exists():
        return
    try:
        first, _, rest = path.read_bytes().partition(b"\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({system_reason(error)})") from error
    if first.decode("utf-8", "replace") != _FIRST_LINE + hashlib.sha256(rest).hexdigest():
        raise OutputError(f"{path}: was edited, or is no table of tracks; --force overwrites it")


def _row(track: Track) -> dict[str, Any]:
    row: dict[str, Any] = {"file": track.file, "group": track.group, "by": track.by, "source": track.source}
    if track.pair is not None:
        row |= {"pair": track.pair, "side": track.side}
    row |= {"gain_db": track.gain_db, "use": track.use}
    return row | ({"why": track.why} if track.why else {})


def _flow(value: Any) -> str:
    dumped = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=float("inf"))
    return re.sub(r"\n\.\.\.\n$", "", dumped).strip()


def _completed(tracks: Sequence[Track]) -> tuple[list[Track], list[str]]:
    """Tracks with sources, pairs that name each other, and sides; and what keeps them from it."""
    problems: list[str] = []
    by_file: dict[str, Track] = {}
    for track in tracks:
        if track.file in by_file:
            problems.append(f"{printable(track.file, _SHOWN)}: file: is named twice")
        by_file[track.file] = track
    others, said = _others(by_file)
    problems += said
    completed = []
    for track in tracks:
        update: dict[str, Any] = {"source": track.source or source_of(track.file)}
        other = others.get(track.file)
        if other is not None:
            side = _side_in_pair(track, by_file[other])
            if side is None and track.file < other:  # once a pair
                shown = f"{printable(track.file, _SHOWN)}: side"
                problems.append(f"{shown}: expected one left and one right, of it and {printable(other, _SHOWN)}")
            update |= {"pair": other, "side": side}
        completed.append(track.model_copy(update=update))
    return completed, problems


def _others(by_file: Mapping[str, Track]) -> tuple[dict[str, str], list[str]]:
    """file -> the other half of its pair, in both directions."""
    others: dict[str, str] = {}
    problems = []
    for track in by_file.values():
        if track.pair is None:
            continue
        shown = f"{printable(track.file, _SHOWN)}: pair"
        if track.pair not in by_file:
            problems.append(f"{shown}: {printable(track.pair, _SHOWN)} is not in the table")
        elif track.pair == track.file:
            problems.append(f"{shown}: is the file itself")
        elif by_file[track.pair].group != track.group:
            problems.append(f"{shown}: {printable(track.pair, _SHOWN)} is of another group")
        else:
            for one, two in ((track.file, track.pair), (track.pair, track.file)):
                if others.setdefault(one, two) != two:
                    problems.append(f"{shown}: {printable(one, _SHOWN)} is half of another pair already")
    return others, problems


def _side_in_pair(track: Track, other: Track) -> Side | None:
    """The side of one half of a pair; None where the sides of the two are not known, or are the same."""
    own, its = (half.side or side_of(half.file) for half in (track, other))
    opposite: dict[Side, Side] = {"left": "right", "right": "left"}
    if own is None and its is not None:
        own = opposite[its]
    return own if own is not None and its in (None, opposite[own]) else None


def _misfits(error: ValidationError, content: Any) -> Iterator[str]:
    """A line for each value that does not fit, with its key and, in a list of tracks, the name of the file."""
    for found in error.errors(include_url=False, include_context=False):
        where = list(found["loc"])
        key = ".".join(map(str, where))
        if len(where) > 1 and where[0] == "tracks" and isinstance(where[1], int):
            row = content["tracks"][where[1]]
            file = row.get("file") if isinstance(row, dict) else None
            named = printable(file, _SHOWN) if isinstance(file, str) else f"track {where[1] + 1}"
            key = ": ".join([named, ".".join(map(str, where[2:]))]).removesuffix(": ")
        if found["type"] == "extra_forbidden":
            keys = Track.model_fields if len(where) > 1 else Table.model_fields
            message, value = f"unknown key, expected some of {', '.join(keys)}", ""
        else:
            message = found["msg"].lower()
            value = "" if found["type"] == "missing" else f", found {printable(repr(found['input']))}"
        yield f"{printable(key, 2 * _SHOWN) + ': ' if key else ''}{message}{value}"


def _yaml_reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem or error.context}"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def missing_from(table: Table, there: Collection[str]) -> list[str]:
    """A line for each file that the table names and that is not there."""
    named = [track.file for track in table.tracks] + [file for file in [table.mixture] if file is not None]
    return [f"{printable(file, _SHOWN)}: no such file" for file in named if file not in there]

"""The rows of a session's table as the page has them: with files' ids, and with what a person decided before."""

from typing import Any

from fxnorm.sessions import table as tables
from fxnorm.sessions.table import Table, Track

_OPPOSITE = {"left": "right", "right": "left"}


def as_json(table: Table | None, ids: dict[str, str]) -> dict[str, Any] | None:
    """A table as the page reads it, with the files' ids for their names."""
    if table is None:
        return None
    rows = [
        track.model_dump() | {"file": ids[track.file], "pair": ids.get(track.pair or "")}
        for track in table.tracks
        if track.file in ids
    ]
    return {"balance": table.balance, "mixture": ids.get(table.mixture or ""), "tracks": rows}


def decided(row: dict[str, Any], before: Track | None) -> dict[str, Any]:
    """A row of the page with what the table keeps beside it.

    A person decided the group of a row that says so (``by: hand``), and of one that is sorted otherwise than before.
    """
    if before is None:
        return row | {"by": "hand"}
    same = all(row[key] == getattr(before, key) for key in ("group", "pair", "side", "source"))
    why = before.why if row["use"] == before.use and same else ""
    return row | {"by": before.by if same and row["by"] != "hand" else "hand", "why": why}


def without(table: Table, name: str) -> Table | None:
    """A table without a file; None where nothing is left."""
    rows = [track for track in table.tracks if track.file != name]
    rows = [track.model_copy(update={"pair": None}) if track.pair == name else track for track in rows]
    mixture = None if table.mixture == name else table.mixture
    return table.model_copy(update={"tracks": rows, "mixture": mixture}) if rows else None


def with_given(given: Table, proposed: Table) -> Table:
    """A table that came with the session, and the rows of files that it does not name, which are not mixed."""
    named = {track.file for track in given.tracks} | {given.mixture}
    others = [
        track.model_copy(update={"use": False, "pair": None, "why": "not in the session's table"})
        for track in proposed.tracks
        if track.file not in named
    ]
    return given.model_copy(update={"folder": ".", "tracks": [*given.tracks, *others]})


def with_hand(proposed: Table, before: Table) -> Table:
    """A table with the rows that a person decided before, and the gains and choices of all.

    A pair that a person made or parted stays so: where the proposal has one with the same file, that one is left out.
    """
    known = {track.file: track for track in before.tracks}
    found = []
    for track in proposed.tracks:
        old = known.get(track.file)
        if old is None:
            found.append(track)
        elif old.by == "hand":
            found.append(old)
        else:
            found.append(track.model_copy(update={"gain_db": old.gain_db, "use": track.use and old.use}))
    paired = _with_pairs(found)
    changed = {"tracks": [row.model_dump() for row in paired], "balance": before.balance, "mixture": proposed.mixture}
    return tables.parse(changed, "table")


def _with_pairs(tracks: list[Track]) -> list[Track]:
    """Tracks whose pairs name each other: first those of a person, then others that are left."""
    by_file = {track.file: track for track in tracks}
    updates: dict[str, dict[str, Any]] = {track.file: {"pair": None} for track in tracks}
    for track in sorted(tracks, key=lambda track: track.by != "hand"):
        other = by_file.get(track.pair or "")
        if other is None or other.group != track.group or updates[track.file]["pair"] or updates[other.file]["pair"]:
            continue
        # a row that a person decided is in no pair that it does not name
        if other.pair == track.file or (track.by == "hand" and other.by != "hand"):
            updates[track.file]["pair"] = other.file
            updates[other.file] = {"pair": track.file, "side": _OPPOSITE.get(track.side or "")}
    return [track.model_copy(update=updates[track.file]) for track in tracks]


def mix_alike(first: Table, second: Table) -> bool:
    """Whether two tables give the same stems."""

    def essence(table: Table) -> tuple[str, list[dict[str, Any]]]:
        kept = {"file", "group", "source", "pair", "side", "gain_db"}
        return table.balance, sorted(
            (track.model_dump(include=kept) for track in table.used), key=lambda row: row["file"]
        )

    return essence(first) == essence(second)

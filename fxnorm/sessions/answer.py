"""Which track went into which stem, as reports and the endpoint tell it."""

from typing import Any

from fxnorm.sessions.table import Table

Groups = dict[str, dict[str, Any]]
"""By file: ``group``, ``by`` what, ``source``, ``use`` and ``why``."""


def groups_of(table: Table) -> Groups:
    """The groups of a table's tracks, in its order."""
    return {track.file: track.model_dump(include={"group", "by", "source", "use", "why"}) for track in table.tracks}

"""The tracks of a session for ``fxnorm mix``: sorted, summed to stems, and what was done told."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxnorm.cli.tracks import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from fxnorm.sessions.answer import Groups
    from fxnorm.statistics import DatasetStatistics


def inputs_of(tracks: Path | None) -> list[Path]:
    """The files that no output may overwrite: those of the session's folder, and its table."""
    if tracks is None:
        return []
    from fxnorm.sessions.session import files_of

    return files_of(tracks)


def summed(
    tracks: Path, statistics: "DatasetStatistics | None" = None
) -> "tuple[dict[str, np.ndarray], Groups, dict[str, tuple[str, float]]]":
    """The stems of a session; which track went into which, and of those that are mixed, group and gain in its sum.

    What is left out is told on stderr.
    """
    from fxnorm.sessions.answer import groups_of
    from fxnorm.sessions.proposal import summary
    from fxnorm.sessions.session import open_session
    from fxnorm.sessions.stems import sum_groups

    with contextlib.ExitStack() as stack:
        session = open_session(tracks, statistics, progress_bar(stack, "listen"))
    with contextlib.ExitStack() as stack:
        stems = sum_groups(session.table, session.recordings, progress_bar(stack, "tracks"))
    for sentence in [*session.warnings, *stems.findings]:
        click.echo(sentence, err=True)
    click.echo(f"{session.name}: {summary(session.table)}", err=True)
    shares = {track.file: (str(track.group), stems.gains_db[track.file]) for track in session.table.used}
    return stems.stems, groups_of(session.table), shares

"""The tracks of a session for ``fxnorm mix``: sorted, summed to stems, and what was done told."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxnorm.cli.tracks import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from fxnorm.mixing.shares import TrackSignals
    from fxnorm.sessions.answer import Groups
    from fxnorm.sessions.session import Session
    from fxnorm.sessions.stems import SessionStems
    from fxnorm.statistics import DatasetStatistics


def inputs_of(tracks: Path | None) -> list[Path]:
    """The files that no output may overwrite: those of the session's folder, and its table."""
    if tracks is None:
        return []
    from fxnorm.sessions.session import files_of

    return files_of(tracks)


@dataclass(frozen=True)
class Summed:
    """A session that was summed to stems."""

    session: "Session"
    sums: "SessionStems"

    @property
    def stems(self) -> "dict[str, np.ndarray]":
        """The stems."""
        return self.sums.stems

    @property
    def groups(self) -> "Groups":
        """Which track went into which."""
        from fxnorm.sessions.answer import groups_of

        return groups_of(self.session.table)

    @property
    def gains(self) -> dict[str, tuple[str, float]]:
        """Group and gain in dB of each track that is mixed."""
        gains_db = self.sums.gains_db
        return {track.file: (str(track.group), gains_db[track.file]) for track in self.session.table.used}

    def signals(self, folder: Path, sample_rate: int) -> "TrackSignals":
        """The tracks as they are in the stems, in a file beside the ``folder`` that their shares go to."""
        from fxnorm.io.audio import to_stereo
        from fxnorm.mixing import shares
        from fxnorm.sessions.stems import placed

        samples = max(stem.shape[1] for stem in self.stems.values())
        stems = {file: stem for file, (stem, _) in self.gains.items()}
        signals = shares.room(stems, samples, folder, sample_rate)
        rows = dict(zip(signals.files, signals.audio, strict=True))
        with contextlib.ExitStack() as stack:
            progress = progress_bar(stack, "tracks again")
            for file, start, track in placed(self.session.table, self.session.recordings, self.sums, progress):
                rows[file][:, start : start + track.shape[1]] = to_stereo(track)
        return signals


def summed(tracks: Path, statistics: "DatasetStatistics | None" = None) -> Summed:
    """The stems of a session; what is left out is told on stderr."""
    from fxnorm.sessions.proposal import summary
    from fxnorm.sessions.session import open_session
    from fxnorm.sessions.stems import sum_groups

    with contextlib.ExitStack() as stack:
        session = open_session(tracks, statistics, progress_bar(stack, "listen"))
    with contextlib.ExitStack() as stack:
        sums = sum_groups(session.table, session.recordings, progress_bar(stack, "tracks"))
    for sentence in [*session.warnings, *sums.findings]:
        click.echo(sentence, err=True)
    click.echo(f"{session.name}: {summary(session.table)}", err=True)
    return Summed(session, sums)

"""``fxnorm tracks``: which group each track of a raw session belongs to."""

import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fxnorm.sessions.recordings import Progress
    from fxnorm.sessions.table import Table
    from fxnorm.statistics import DatasetStatistics

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("folder", type=_FOLDER)
@click.option("--output", type=_FILE, metavar="FILE", help="Write the table here (tracks.yaml), to be edited.")
@click.option("--mixer", metavar="MIXER", help="Compare tracks with the groups of the songs that this one learnt from.")
@click.option("--force", is_flag=True, help="Overwrite a table that was edited.")
def tracks(folder: Path, output: Path | None, mixer: str | None, force: bool) -> None:
    """Sort the tracks of a recording session in FOLDER into vocals, bass, drums and other.

    The words of their names decide, then what is heard: silence, copies, and with --mixer which group a track sounds
    like. What is a guess stands first. 'fxnorm mix --tracks' takes the folder or the table. Exit status 1 if something
    is left to decide: a file that cannot be read, or two for one side of a stereo pair.
    """
    from fxnorm.io import outputs
    from fxnorm.sessions import session, table
    from fxnorm.sessions.proposal import summary

    opened = session.Folder.open(folder)
    if output is not None:
        outputs.check([mixer, *(folder / name for name in opened.audio)], files=[output])
        if not force:
            table.refuse_edited(output)
    with contextlib.ExitStack() as stack:
        proposal = session.proposed(opened, statistics_of(mixer), progress_bar(stack, "listen"))
    for line in _lines(proposal.table):
        click.echo(line)
    click.echo(summary(proposal.table))
    for warning in opened.warnings():
        click.echo(warning, err=True)
    if output is not None:
        relative = os.path.relpath(folder.resolve(), output.absolute().parent.resolve())
        table.write(proposal.table.model_copy(update={"folder": Path(relative).as_posix()}), output)
        click.echo(f"{output}: the table")
    if proposal.problems:
        click.echo("\n".join(f"fxnorm: {problem}" for problem in proposal.problems), err=True)
        sys.exit(1)


def statistics_of(mixer: str | None) -> "DatasetStatistics | None":
    """The statistics of a Mixer, a directory, default or models:/NAME@ALIAS; a directory's network is not loaded."""
    if mixer is None:
        return None
    if mixer.startswith("models:/"):
        from fxnorm.registry.registered import open_mixer

        return open_mixer(mixer).recipe.statistics
    from fxnorm.mixing.shipped import directory_of
    from fxnorm.normalization.recipe import STATISTICS_FILE
    from fxnorm.statistics import DatasetStatistics

    return DatasetStatistics.load(directory_of(mixer) / STATISTICS_FILE)


def progress_bar(stack: contextlib.ExitStack, what: str) -> "Progress":
    """A bar over tracks, which appears with the first of them and goes with the stack."""
    from tqdm import tqdm

    bars: list[tqdm] = []

    def show(done: int, total: int) -> None:
        if not bars:
            bars.append(stack.enter_context(tqdm(total=total, desc=what, unit="track", leave=False, disable=None)))
        bars[0].update(done - bars[0].n)

    return show


def _lines(table: "Table") -> list[str]:
    """The table for a reader: what to look at first comes first, what is set aside last."""
    from fxnorm.errors import printable
    from fxnorm.sessions.table import BY_REVIEW

    ordered = sorted(table.tracks, key=lambda track: (not track.use, BY_REVIEW.index(track.by)))
    rows = [("group", "by", "source", "track", "")]
    for track in ordered:
        side = "" if track.pair is None else f" ({track.side} of {printable(track.pair)})"
        remark = track.why if track.use else f"set aside: {track.why}"
        rows.append(
            (track.group if track.use else "-", track.by, printable(track.source), printable(track.file) + side, remark)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join([*map(str.ljust, row[:3], widths), *row[3:]]).rstrip() for row in rows]

"""``fxnorm listening-test``: reads options and calls :mod:`fxnorm.listening_test`."""

from pathlib import Path
from typing import Any

import click

from fxnorm.errors import SettingsError

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(path_type=Path)


@click.group("listening-test")
def listening_test() -> None:
    """Have people compare mixes: a page to publish, and the statistics of their answers."""


def _parse_starts(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[float | None, dict[str, float]]:
    """The start for all songs, if one is given, and the starts of single songs."""
    everywhere, songs = None, {}
    for value in values:
        song, equals, text = value.rpartition("=")
        try:
            seconds = float(text)
        except ValueError as error:
            raise SettingsError(f"--start {value}: expected SECONDS or SONG=SECONDS") from error
        if equals:
            songs[song] = seconds
        else:
            everywhere = seconds
    return everywhere, songs


@listening_test.command()
@click.argument("mixes", type=_FOLDER)
@click.argument("output", type=_FOLDER)
@click.option("--stems", type=_FOLDER, help="A dataset with the songs' stems, to be heard as references.")
@click.option("--system", "systems", multiple=True, help="Compare these mixes only; repeatable.")
@click.option("--title", default="Listening test", show_default=True, help="What participants see.")
@click.option("--seconds", default=25.0, show_default=True, help="Length of the excerpts.")
@click.option(
    "--start",
    "starts",
    multiple=True,
    callback=_parse_starts,
    metavar="[SONG=]SECONDS",
    help="Where the excerpts, or that of one song, begin; default: each song's loudest part. Repeatable.",
)
@click.option(
    "--repeats", default=1, show_default=True, help="How many songs are rated twice; participants do not know."
)
@click.option("--loudness", default=-23.0, show_default=True, help="LUFS of every mix; less where peaks demand it.")
@click.option(
    "--minimum-listening", default=5.0, show_default=True, help="Seconds each mix has to be heard before the next song."
)
@click.option("--post-to", metavar="URL", help="Where answers are posted to as JSON; they can be downloaded too.")
@click.option("--key", "key_file", type=_FILE, help="The key file; default: OUTPUT-key.json.")
@click.option(
    "--seed", type=click.IntRange(0), help="For tests only: draws identifiers and repeats; default: drawn as well."
)
def build(
    mixes: Path,
    output: Path,
    stems: Path | None,
    starts: tuple[float | None, dict[str, float]],
    minimum_listening: float,
    key_file: Path | None,
    **options: Any,
) -> None:
    """Make a static page, the folder OUTPUT, that compares MIXES: SONG/SYSTEM.flac, as 'fxnorm evaluate' writes them.

    Publish OUTPUT on any web server, or open its index.html. Keep the key file: it alone lists which mix is whose.
    """
    from fxnorm.io import outputs
    from fxnorm.listening_test import build as stage

    settings = stage.BuildSettings(
        start_seconds=starts[0], song_starts=starts[1], minimum_listening_seconds=minimum_listening, **options
    )
    key_file = key_file or outputs.named_after(output, "-key.json")
    built = stage.build(mixes, output, key_file, settings, stems)
    songs, twice = len(built.key.songs), len(built.key.trials) - len(built.key.songs)
    why = f" (held down by the true peak of {built.limited_by})" if built.limited_by else ""
    click.echo(
        f"{output / 'index.html'}: {songs} songs, {twice} of them twice, by {', '.join(built.key.systems)};"
        f" {built.key.loudness:.1f} LUFS{why}"
    )
    for title, mix in built.withheld.items():
        click.echo(f"no song has the reference '{title}': it is the mix {mix}, which it would give away")
    if settings.seed is not None:
        click.echo("--seed: for tests only; whoever finds it by trying can tell which mix is whose", err=True)
    click.echo(f"{key_file}: the key; keep it, and keep it from participants")


def _most_repeat_difference() -> float:
    """The library's own default, which is not looked up before it is needed: its import costs a second."""
    from fxnorm.listening_test.consistency import MOST_REPEAT_DIFFERENCE

    return MOST_REPEAT_DIFFERENCE


@listening_test.command()
@click.argument("results", type=_FOLDER)
@click.argument("output", type=_FOLDER)
@click.option("--key", "key_file", type=_FILE, help="What 'build' wrote beside the page; default: RESULTS/key.json.")
@click.option("--normalize", is_flag=True, help="In standard deviations from each participant's mean, not in points.")
@click.option(
    "--max-repeat-difference",
    type=float,
    default=_most_repeat_difference,
    help="Leave out who rates the same mix differently by more points than this, on average; guessing gives 33;"
    " default: 25.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a file that cannot be used: stop, or leave it out and list it at the end.",
)
def analyse(
    results: Path, output: Path, key_file: Path | None, normalize: bool, max_repeat_difference: float, on_error: str
) -> None:
    """Analyse the answers in RESULTS (one .json file a participant): statistics, figures and tables in OUTPUT."""
    from fxnorm.listening_test import analyse as stage

    analysis = stage.analyse(
        results,
        output,
        key_file or results / "key.json",
        normalize,
        max_repeat_difference,
        skip_errors=on_error == "skip",
    )
    for verdict in analysis.verdicts:
        click.echo(verdict)
    for reason in analysis.left_out.values():
        click.echo(f"left out: {reason}", err=True)
    if analysis.consistencies:
        for answers, consistency, excluded in zip(
            analysis.answers, analysis.consistencies, analysis.excluded, strict=True
        ):
            if excluded:
                click.echo(
                    f"excluded: {answers.path.name}: the same mix differs by {consistency.same_mix:.1f} points",
                    err=True,
                )
    click.echo(f"{output / stage.REPORT_FILE}: the report")

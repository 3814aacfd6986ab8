"""``fxnorm mix-all``: every session and song below a folder or a prefix of a store to a mix."""

import sys
from typing import TYPE_CHECKING, Any

import click

from fxnorm.cli.options import bits as bits_option
from fxnorm.cli.options import shard as shard_option

if TYPE_CHECKING:
    from fxnorm.stages.mix_all import Summary

CHAMPION = "models:/fxnorm-automix@champion"


@click.command("mix-all")
@click.argument("sessions")
@click.argument("output")
@click.option(
    "--mixer", default=CHAMPION, show_default=True, metavar="MIXER", help="A directory, default, or models:/NAME@ALIAS."
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["flac", "wav", "mp3"]),
    default="flac",
    show_default=True,
    help="Of the mixes.",
)
@click.option(
    "--dry/--wet",
    default=None,
    help="All are recordings without effects, or stems of finished mixes. Default: stems are wet, tracks are dry.",
)
@click.option("--seed", type=int, help="Draws the normalization's impulse responses; default: the training's seed.")
@click.option(
    "--target-loudness",
    type=float,
    metavar="LUFS",
    help="Bring each mix there by a gain and a limiter; default: the training mixtures' average.",
)
@click.option("--true-peak", type=float, metavar="DBTP", help="The highest true peak; default: -1.")
@click.option("--as-is", is_flag=True, default=None, help="The network's own level, with neither gain nor limiter.")
@bits_option
@click.option("--sample-rate", type=int, metavar="HZ", help="Of the mixes; default: 44100.")
@click.option("--parts", is_flag=True, help="Also write what each stem contributes, beside each mix; see remix.")
@shard_option
@click.option("--workers", default=0, show_default="by cores and memory", help="Parallel processes.")
def mix_all(
    sessions: str,
    output: str,
    mixer: str,
    output_format: str,
    parts: bool,
    shard: tuple[int, int] | None,
    workers: int,
    **options: Any,
) -> None:
    """Mix every session and song below SESSIONS into OUTPUT; each is a folder, or s3://BUCKET/PREFIX.

    A song is a folder of stems called vocals, bass, drums and other; a session any other folder of tracks, sorted as by
    'fxnorm tracks', or by its tracks.yaml. OUTPUT gets the mixes in folders like those of SESSIONS, a table (mixes.csv)
    and a page to hear them (index.html). What was mixed before is not mixed again, so a run that was stopped goes on
    when it is started again. A session that cannot be mixed is listed, and the others are mixed; exit status 1 then.
    """
    from fxnorm.mixing.options import MixOptions
    from fxnorm.stages import mix_all as stage

    given = {name: value for name, value in options.items() if value is not None}
    chosen = MixOptions.of(given | {"output_format": output_format})
    with stage.mixer_directory(mixer) as folder:
        summary = stage.run(
            folder, sessions, output, chosen, mixer_name=mixer, parts=parts, workers=workers, shard=shard
        )
    _report(summary, output, shard)
    if summary.failed:
        sys.exit(1)


def _report(summary: "Summary", output: str, shard: tuple[int, int] | None) -> None:
    for note in summary.notes:
        click.echo(note, err=True)
    mixed = len(summary.rows) - len(summary.failed)
    kept = f", {summary.kept} of them before" if summary.kept else ""
    click.echo(f"{output}: {mixed} of {len(summary.rows)} sessions mixed{kept}")
    if summary.failed:
        where = "" if shard is not None else f"; {output}/mixes.csv lists them"
        count = "1 session" if len(summary.failed) == 1 else f"{len(summary.failed)} sessions"
        click.echo(f"fxnorm: {count} not mixed{where}", err=True)

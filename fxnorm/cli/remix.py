"""``fxnorm remix``: another mix of the parts that ``fxnorm mix --stems-out`` wrote, without a network."""

import math
from pathlib import Path

import click

from fxnorm.cli.options import bits as bits_option
from fxnorm.errors import SettingsError, printable


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--gain", "gains", multiple=True, metavar="NAME=DB", help="Turn a stem or track up or down; repeatable.")
@click.option("--mute", multiple=True, metavar="NAME", help="Leave a stem or track out; repeatable.")
@click.option("--solo", multiple=True, metavar="NAME", help="Leave all others out; repeatable.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="The mix, .wav, .flac or .mp3.")
@click.option(
    "--target-loudness",
    type=float,
    metavar="LUFS",
    help="Bring the mix there by a gain and a limiter; default: as it comes out, under the true peak.",
)
@click.option("--true-peak", type=float, metavar="DBTP", help="The highest true peak; default: the first mix's.")
@bits_option
@click.option("--sample-rate", type=int, metavar="HZ", help="Of the mix; default: that of DIR.")
def remix(
    folder: Path,
    gains: tuple[str, ...],
    mute: tuple[str, ...],
    solo: tuple[str, ...],
    output: Path,
    target_loudness: float | None,
    true_peak: float | None,
    bits: str | None,
    sample_rate: int | None,
) -> None:
    """Mix the parts in DIR, what 'fxnorm mix --stems-out' wrote, again: without a change it is the same mix.

    NAME is a stem or, where --tracks-out was given as well, a track of the session by its file.
    """
    from fxnorm.io import outputs
    from fxnorm.mixing import parts
    from fxnorm.mixing.delivery import write
    from fxnorm.mixing.options import MixOptions

    description = parts.read_description(folder)
    options = MixOptions.for_file(
        output,
        target_loudness=target_loudness,
        true_peak=true_peak,
        bits=bits,
        sample_rate=sample_rate or description.sample_rate,
    )
    change = parts.Change.of(_parsed(gains), set(mute), set(solo), description.stems, description.tracks)
    outputs.check([folder], files=[output])
    delivered = parts.remix(folder, change, options)
    write(output, delivered.audio, options.sample_rate, options.bits)
    seconds = delivered.audio.shape[1] / options.sample_rate
    click.echo(
        f"{output}: {seconds:.1f} s, {delivered.sentence()}, peaks turned down by up to {delivered.reduction_db:.1f} dB"
    )
    if delivered.remark is not None:
        click.echo(f"{output}: {delivered.remark}", err=True)


def _parsed(gains: tuple[str, ...]) -> dict[str, float]:
    """Gains in dB by stem or track."""
    parsed: dict[str, float] = {}
    for item in gains:
        name, equals, text = item.rpartition("=")  # a file's name may have the sign too
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (name and equals and math.isfinite(value)):
            raise SettingsError(f"--gain {printable(item)}: expected STEM=DB, such as vocals=+1.5")
        if name in parsed:
            raise SettingsError(f"--gain {printable(item)}: {printable(name)} has a gain already")
        parsed[name] = value
    return parsed

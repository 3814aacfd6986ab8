"""Options that several commands have."""

import click

workers = click.option("--workers", default=0, show_default="one a core", help="Parallel processes.")
bits = click.option(
    "--bits",
    type=click.Choice(["16", "24", "32f"]),
    help="Of a sample, integers with dither; default: 32f for .wav, 24 without dither for .flac.",
)
on_error = click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a song that cannot be used: stop, or leave it out and list it at the end.",
)


def _parse_shard(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    from fxnorm.data.dataset import parse_shard

    return None if value is None else parse_shard(value)


shard = click.option(
    "--shard",
    callback=_parse_shard,
    metavar="NUMBER/COUNT",
    help="Only this part of the songs, such as 2/8: for several machines.",
)

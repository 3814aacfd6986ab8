"""Options that several commands have."""

import click

workers = click.option("--workers", default=0, show_default="one a core", help="Parallel processes.")
on_error = click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="At a song that cannot be used: stop, or leave it out and list it at the end.",
)

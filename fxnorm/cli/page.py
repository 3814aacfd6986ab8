"""``fxnorm page``: the page for musicians, on this machine."""

from pathlib import Path

import click

from fxnorm.constants import DEFAULT_MIXER

_HOST, _PORT = "127.0.0.1", 5005


@click.command()
@click.option(
    "--mixer", metavar="MIXER", help="A directory, models:/NAME@ALIAS, or default, the one that comes with the package."
)
@click.option("--endpoint", metavar="URL", help="Have a served model mix, in place of a Mixer here.")
@click.option("--host", default=_HOST, show_default=True, help="The address to listen at.")
@click.option("--port", default=_PORT, show_default=True, type=click.IntRange(0, 65_535), help="0: any that is free.")
@click.option(
    "--allow-host",
    "allowed",
    multiple=True,
    metavar="NAME",
    help="Another name that the page is opened by; repeatable.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep sessions here, also when the server ends; default: a temporary folder.",
)
@click.option(
    "--keep-hours",
    default=24.0,
    show_default=True,
    type=click.FloatRange(0.01, 24 * 365),
    help="Remove a session that nobody used for so long.",
)
def page(
    mixer: str | None,
    endpoint: str | None,
    host: str,
    port: int,
    allowed: tuple[str, ...],
    folder: Path | None,
    keep_hours: float,
) -> None:
    """Serve a page on which sessions are dropped, mixed, listened to and taken away, until Ctrl-C."""
    if mixer is not None and endpoint is not None:
        raise click.UsageError("expected either --mixer or --endpoint, found both")
    from fxnorm.cli.opened import open_mixer
    from fxnorm.page.making import Engine
    from fxnorm.page.server import is_loopback, serve

    if not is_loopback(host) and not allowed:
        raise click.UsageError(f"--host {host}: expected --allow-host with the name that the page is opened by as well")
    if endpoint is None:
        name = mixer or DEFAULT_MIXER
        engine = Engine(name, mixer=open_mixer(name))
    else:
        engine = Engine(endpoint, endpoint=endpoint)

    def ready(address: str) -> None:
        click.echo(f"{address}: the page; Ctrl-C ends it")
        if not is_loopback(host):
            click.echo("others can open it: put a server with TLS and a login before it", err=True)

    serve(engine, host, port, allowed, keep_hours, folder, ready)

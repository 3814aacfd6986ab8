"""``fxnorm monitor``: whether what an endpoint is asked for has moved."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

_LENGTH = re.compile(r"(\d{1,6})([dh])")
_UNITS = {"d": "days", "h": "hours"}
_DEFAULT = timedelta(days=7)
STATUSES = {"unchanged": 0, "moved": 3, "too few": 4}
"""Exit status by verdict; 1 is an error and 2 a wrong option, as of any command."""


class _Moment(click.ParamType):
    """A time, or how long ago; so long before the end of the log."""

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        if isinstance(value, datetime | timedelta):
            return value
        text = str(value)
        if match := _LENGTH.fullmatch(text):
            return timedelta(**{_UNITS[match[2]]: int(match[1])})
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(
                f"{text!r}: expected a time such as 2026-10-01 or 2026-10-01T12:00+02:00, or 7d or 24h", param, ctx
            )


class _Period(click.ParamType):
    """Two times with a slash between, as ISO 8601 writes it."""

    name = "FROM/TO"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[datetime, datetime]:
        try:
            since, until = (datetime.fromisoformat(text).astimezone(UTC) for text in str(value).split("/"))
        except (ValueError, OverflowError):
            self.fail(f"{value!r}: expected two times, such as 2026-10-01/2026-10-08", param, ctx)
        if since >= until:
            self.fail(f"{value!r}: expected the earlier time first", param, ctx)
        return since, until


@click.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--since", type=_Moment(), help="Begin of the period: a time, or how long before its end; default: 7d.")
@click.option("--until", type=_Moment(), help="Its end: a time, or how long before the last request; default: that.")
@click.option("--baseline", type=_Period(), help="Compare with this period; default: as long, right before.")
@click.option("--json", "report", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures here.")
@click.pass_context
def monitor(
    context: click.Context,
    log: Path,
    since: datetime | timedelta | None,
    until: datetime | timedelta | None,
    baseline: tuple[datetime, datetime] | None,
    report: Path | None,
) -> None:
    """Say whether the inputs of an endpoint have moved, by its request LOG (FXNORM_REQUEST_LOG).

    A period is compared with the songs that the model was trained on and with the period before: errors, throughput,
    durations, loudness and drift of the stems. The exit status is 0 if nothing changed, 3 if it is time to train again,
    and 4 if there were too few requests to tell.
    """
    from fxnorm.errors import DatasetError
    from fxnorm.io import outputs
    from fxnorm.io.files import write_json
    from fxnorm.monitoring.comparison import compare
    from fxnorm.monitoring.records import RequestLog

    outputs.refuse_inputs([report], [log])
    found = RequestLog.read(log)
    if damage := found.damage():
        click.echo(f"{log}: {damage}", err=True)
    last = found.requests[-1].time + timedelta(seconds=1) if found.requests else datetime.now(UTC)
    until = until if isinstance(until, datetime) else last - (until or timedelta())
    since = since if isinstance(since, datetime) else until - (since or _DEFAULT)
    if since >= until:
        raise DatasetError(f"--since {since:%Y-%m-%d %H:%M %Z}: expected a time before {until:%Y-%m-%d %H:%M %Z}")
    before = baseline or (since - (until - since), since)
    comparison = compare((since, until, found.between(since, until)), (*before, found.between(*before)))
    if report is not None:
        write_json(report, comparison.as_dict() | {"damaged": found.damaged})
    for line in comparison.lines():
        click.echo(line)
    click.echo(comparison.sentence)
    context.exit(STATUSES[comparison.verdict])

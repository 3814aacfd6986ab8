"""What ``fxnorm mix`` has to do with a reference and with alternatives: what is asked for, and what is printed."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fxnorm.mixing.alternatives import Made
    from fxnorm.mixing.reference import Reference, ReferenceMatch


def read_reference(source: str | None) -> "Reference | None":
    """The song that mixes are brought to, measured."""
    if source is None:
        return None
    from fxnorm.mixing.reference import Reference

    return Reference.read(source)


def comparison_files(output: Path, alternatives: int | None) -> list[Path]:
    """The comparison of alternatives as an output that is checked before the work."""
    if alternatives is None:
        return []
    from fxnorm.mixing.alternatives import comparison_file

    return [comparison_file(output)]


def report_match(output: Path, match: "ReferenceMatch | None") -> None:
    """Print how near a mix is to its reference, and what was not reached."""
    if match is None:
        return
    from fxnorm.mixing.reference import table

    click.echo(f"{output}: brought to {match.song}:")
    for line in table(match):
        click.echo(line)
    for remark in match.remarks:
        click.echo(f"{output}: {remark}", err=True)


def report_alternatives(output: Path, made: "Made") -> None:
    """Print what was made besides the first mix, and how it compares."""
    from fxnorm.mixing.alternatives import comparison_file

    for line in made.comparison.lines():
        click.echo(line)
    for number, mix in enumerate(made.comparison.alternatives, 1):
        if number > 1:
            click.echo(f"{output.with_name(mix.file)}: {mix.why}; {mix.sentence}")
        for remark in mix.remarks if number > 1 else ():
            click.echo(f"{output.with_name(mix.file)}: {remark}", err=True)
    for sentence in made.comparison.left_out:
        click.echo(f"{output}: left out: {sentence}", err=True)
    click.echo(f"{comparison_file(output)}: the comparison")

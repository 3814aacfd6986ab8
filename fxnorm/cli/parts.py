"""What ``fxnorm mix`` has to do with the parts of a mix: where they go, and what is printed of them."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fxnorm.io.outputs import Folder
    from fxnorm.mixing.mix_files import PartsOut
    from fxnorm.mixing.parts import Description


def folders(stems_out: Path | None) -> "list[Folder]":
    """The folder of parts as an output that is checked before the work."""
    if stems_out is None:
        return []
    from fxnorm.io.outputs import Folder
    from fxnorm.mixing.parts import CONTENTS

    return [Folder(stems_out, CONTENTS.refuse_others)]


def asked_for(stems_out: Path | None, mixer: str, session: str | None) -> "PartsOut | None":
    """Where parts go, if they shall be written."""
    if stems_out is None:
        return None
    from fxnorm.mixing.mix_files import PartsOut

    return PartsOut(stems_out, mixer, session is not None)


def report(folder: Path, description: "Description") -> None:
    """Print what was done to each stem."""
    from fxnorm.mixing.treatment import table

    treatments = {stem: part.treatment for stem, part in description.stems.items()}
    click.echo(f"{folder}: {', '.join(treatments)}, before and after:")
    for line in table(treatments):
        click.echo(line)
    for stem, treatment in treatments.items():
        click.echo(f"{stem}: {treatment.sentence}")

"""``fxnorm import``: datasets in their publishers' layouts, brought into the library's."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fxnorm.cli.options import on_error as on_error_option
from fxnorm.cli.options import workers as workers_option
from fxnorm.data.importers.kinds import KINDS
from fxnorm.errors import SettingsError, printable

if TYPE_CHECKING:
    from fxnorm.data.importers.plan import Options, Plan
    from fxnorm.data.importers.write import Imported

_FOLDER = click.Path(file_okay=False, path_type=Path)
_FILE = click.Path(path_type=Path)
_MOST_LISTED = 10
_LONGEST_LINE = 2_000  # characters

_KINDS = "\n".join(f"  {name:<11} {kind.description}" for name, kind in KINDS.items())


@click.command(
    "import",
    help="Import the songs of SOURCE, a dataset of a KIND, into FOLDER/wet and FOLDER/dry.\n\n"
    f"\b\n{_KINDS}\n\n"
    "FOLDER/import.json says where each song is from, what its stems are made of and under which licence it is. A song"
    " that is there already is not made again; started again after an interruption, the import goes on.",
)
@click.argument("kind", type=click.Choice(list(KINDS)), metavar="KIND")
@click.argument("source", type=_FILE)
@click.argument("folder", type=_FOLDER)
@click.option(
    "--mapping",
    multiple=True,
    metavar="FILE|NAME",
    help="Which group a recording belongs to: a YAML file, which comes before the built-in tables, or the name of one"
    " of these; both if given twice.",
)
@click.option("--split", type=_FILE, metavar="FILE", help="Songs of train, val and test (YAML); else the published.")
@click.option("--link", is_flag=True, help="Let stems that are files already be links to them instead of copies.")
@click.option("--metadata", type=_FOLDER, metavar="DIR", help="Metadata that lie apart from the audio.")
@click.option("--exclude-bleed", is_flag=True, help="Leave out what the metadata mark as having bleed.")
@workers_option
@on_error_option
def import_data(
    kind: str,
    source: Path,
    folder: Path,
    mapping: tuple[str, ...],
    split: Path | None,
    link: bool,
    metadata: Path | None,
    exclude_bleed: bool,
    workers: int,
    on_error: str,
) -> None:
    from fxnorm.data.importers import kinds, write
    from fxnorm.io import outputs

    outputs.check([source, *mapping, split, metadata], places=[folder])
    options = _options(mapping, split, metadata, exclude_bleed, workers)
    plan = kinds.plan(kind, source, options)
    imported = write.write(plan, kind, source, folder, link, workers or None, skip_errors=on_error == "skip")
    _report(plan, imported, folder)


def _options(
    mapping: tuple[str, ...], split: Path | None, metadata: Path | None, exclude_bleed: bool, workers: int
) -> "Options":
    from fxnorm.data.importers import tables
    from fxnorm.data.importers.plan import Labels, Options
    from fxnorm.data.parallel import available_cores

    files = [Path(name) for name in mapping if Path(name).is_file()]
    names = [name for name in mapping if not Path(name).is_file()]
    if len(files) > 1 or len(names) > 1:
        raise SettingsError(f"--mapping {mapping[1]}: expected one file, one name of a built-in table, or both")
    return Options(
        labels=tables.read_mapping(files[0]) if files else Labels(),
        table=names[0] if names else "",
        splits=tables.read_splits(split) if split is not None else {},
        metadata=metadata,
        exclude_bleed=exclude_bleed,
        workers=workers or available_cores(),
    )


def _report(plan: "Plan", imported: "Imported", folder: Path) -> None:
    """What was imported, what was not, what to know, and what to do next."""
    from fxnorm.data.importers.provenance import PLACES, PROVENANCE_FILE

    counts = {f"{part}/{split}": 0 for part, split in PLACES}
    for key in imported.songs:
        counts[key.rpartition("/")[0]] += 1
    songs = ", ".join(f"{count} in {place}" for place, count in counts.items() if count)
    click.echo(f"{plan.dataset}: {songs}; {len(imported.written)} written, the others were there")
    for what, keys in (
        ("moved to its split", imported.moved),
        ("removed, no longer part of the import", imported.removed),
        ("kept, though the source no longer has this song", imported.kept),
    ):
        _list(what, keys)
    _list("left out", [f"{item.name}: {item.reason}" for item in imported.left_out])
    _list("failed", [f"{song}: {reason}" for song, reason in imported.failed.items()], all_of_them=True)
    for remark in plan.remarks:
        click.echo(f"note: {remark}", err=True)
    twins = Counter(record.follows for record in imported.songs.values() if record.follows)
    for dataset, count in twins.items():
        click.echo(f"note: {dataset} has {count} of these songs too: they are in its splits", err=True)
    remarks = {
        key: (*record.remarks, *record.findings)
        for key, record in imported.songs.items()
        if record.remarks or record.findings
    }
    _list("note", [f"{key}: {'; '.join(lines)}" for key, lines in remarks.items()])
    if imported.trained_on:
        _list("in train or val too, in its finished form, so a result on it is no test", imported.trained_on)
    commercial = {True: "commercial use allowed", False: "no commercial use", None: "commercial use: unknown"}
    click.echo(f"licence: {plan.licence} ({commercial[plan.commercial]})")
    click.echo(f"{folder / PROVENANCE_FILE}: where each song is from")
    for part in ("wet", "dry"):
        if any(key.startswith(f"{part}/") for key in imported.songs):
            click.echo(f"next: fxnorm check {folder / part}")


def _list(what: str, lines: "list[str] | tuple[str, ...]", all_of_them: bool = False) -> None:
    shown = lines if all_of_them else lines[:_MOST_LISTED]
    for line in shown:
        click.echo(f"{what}: {printable(line, _LONGEST_LINE)}", err=True)
    if len(shown) < len(lines):
        click.echo(f"{what}: {len(lines) - len(shown)} more, see import.json", err=True)

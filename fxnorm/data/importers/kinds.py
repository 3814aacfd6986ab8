"""The kinds of datasets that can be imported. A kind's module is imported when it is asked for."""

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from fxnorm.data.importers.plan import Labels, Options, Plan, plain_song
from fxnorm.errors import SettingsError, printable

MAPPING, SPLIT, METADATA, EXCLUDE_BLEED = "--mapping", "--split", "--metadata", "--exclude-bleed"
_MOST_NAMED = 5


@dataclass(frozen=True)
class Kind:
    """A layout that datasets are published in.

    Attributes:
        module: that reads it: ``plan(source: Path, options: Options) -> Plan``.
        description: of what is read, for the command's help.
        uses: the options that concern it; others are refused.
        tables: built-in tables of groups besides the default one, by the names that ``--mapping`` takes.
    """

    module: str
    description: str
    uses: tuple[str, ...] = (SPLIT,)
    tables: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "musdb18": Kind("musdb18", "MUSDB18: one .stem.mp4 a song"),
    "musdb18-hq": Kind("musdb18_hq", "MUSDB18-HQ: one folder of WAV files a song"),
    "dsd100": Kind("dsd100", "DSD100: folders Mixtures and Sources"),
    "moisesdb": Kind(
        "moisesdb", "MoisesDB: one folder with data.json a song", (MAPPING, SPLIT, EXCLUDE_BLEED), ("official",)
    ),
    "medleydb": Kind(
        "medleydb",
        "MedleyDB 1 and 2: stems weighted by mixing coefficients, raw tracks to dry/test",
        (MAPPING, SPLIT, METADATA, EXCLUDE_BLEED),
    ),
    "slakh": Kind("slakh", "Slakh2100 and BabySlakh: synthesized, for trying things out", (MAPPING, SPLIT)),
    "cambridge": Kind("cambridge", "Mixing Secrets: raw multitracks, zip or folder, to dry/test", (MAPPING,)),
    "folders": Kind("folders", "one folder a stem, or song folders of any file names with --mapping", (MAPPING, SPLIT)),
}
"""By the names that ``fxnorm import`` takes."""


def plan(kind: str, source: Path, options: Options) -> Plan:
    """What a source of a kind holds, and what is to be made of it.

    Raises:
        SettingsError: there is no such kind, it has no such table, or an option does not concern it.
        DatasetError: the source is none of this kind, or its metadata cannot be used.
    """
    if kind not in KINDS:
        raise SettingsError(f"{kind}: expected one of {', '.join(KINDS)}")
    _refuse_unused(kind, options)
    module = importlib.import_module(f"fxnorm.data.importers.{KINDS[kind].module}")
    made = cast(Callable[[Path, Options], Plan], module.plan)(source, options)
    return replace(made, remarks=(*made.remarks, *_unknown_songs(made, options)))


def _refuse_unused(kind: str, options: Options) -> None:
    """An option that is passed over without a word would look as if it had been obeyed."""
    uses, tables = KINDS[kind].uses, KINDS[kind].tables
    if options.table and MAPPING in uses and options.table not in tables:
        expected = " or ".join(("a file", *tables))
        raise SettingsError(
            f"{MAPPING} {options.table}: no such file, and no built-in table of {kind}; expected {expected}"
        )
    given = {
        MAPPING: options.labels != Labels() or options.table,
        SPLIT: options.splits,
        METADATA: options.metadata,
        EXCLUDE_BLEED: options.exclude_bleed,
    }
    for option, value in given.items():
        if value and option not in uses:
            raise SettingsError(f"{option}: does not concern {kind}, which has {', '.join(uses)}")


def _unknown_songs(made: Plan, options: Options) -> list[str]:
    """Songs that the user's files name and the source does not have, maybe by a typing error."""
    known = {plain_song(name) for song in made.songs for name in (song.name, song.original)}
    known |= {plain_song(item.name) for item in (*made.left_out, *made.broken)}
    files: Mapping[str, Iterable[str]] = {"file of splits": options.splits, "mapping": options.labels.songs}
    remarks = []
    for file, songs in files.items():
        if unknown := [song for song in songs if plain_song(song) not in known]:
            named = ", ".join(printable(song) for song in unknown[:_MOST_NAMED])
            more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
            remarks.append(f"the {file} names songs that are not imported: {named}{more}")
    return remarks

"""The kinds of datasets that can be imported. A kind's module is imported when it is asked for."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fxnorm.data.importers.plan import Options, Plan
from fxnorm.errors import SettingsError


@dataclass(frozen=True)
class Kind:
    """A layout that datasets are published in.

    Attributes:
        module: that reads it: ``plan(source: Path, options: Options) -> Plan``.
        description: of what is read, for the command's help.
        tables: built-in tables of groups besides the default one, by the names that ``--mapping`` takes.
    """

    module: str
    description: str
    tables: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "musdb18": Kind("musdb18", "MUSDB18: one .stem.mp4 a song"),
    "musdb18-hq": Kind("musdb18_hq", "MUSDB18-HQ: one folder of WAV files a song"),
    "dsd100": Kind("dsd100", "DSD100: folders Mixtures and Sources"),
    "moisesdb": Kind("moisesdb", "MoisesDB: one folder with data.json a song", ("official",)),
    "medleydb": Kind("medleydb", "MedleyDB 1 and 2: stems weighted by mixing coefficients, raw tracks to dry/test"),
    "slakh": Kind("slakh", "Slakh2100 and BabySlakh: synthesized, for trying things out"),
    "cambridge": Kind("cambridge", "Mixing Secrets: raw multitracks, zip or folder, to dry/test"),
    "folders": Kind("folders", "one folder a stem, or song folders of any file names with --mapping"),
}
"""By the names that ``fxnorm import`` takes."""


def plan(kind: str, source: Path, options: Options) -> Plan:
    """What a source of a kind holds, and what is to be made of it.

    Raises:
        SettingsError: there is no such kind, or it has no such table.
        DatasetError: the source is none of this kind, or its metadata cannot be used.
    """
    if kind not in KINDS:
        raise SettingsError(f"{kind}: expected one of {', '.join(KINDS)}")
    if options.table and options.table not in KINDS[kind].tables:
        expected = " or ".join(("a file", *KINDS[kind].tables))
        raise SettingsError(
            f"--mapping {options.table}: no such file, and no built-in table of {kind}; expected {expected}"
        )
    module = importlib.import_module(f"fxnorm.data.importers.{KINDS[kind].module}")
    return cast(Callable[[Path, Options], Plan], module.plan)(source, options)

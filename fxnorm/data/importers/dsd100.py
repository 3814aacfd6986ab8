"""DSD100: ``Mixtures/{Dev,Test}/NNN - ARTIST - TITLE/mixture.wav``, the stems likewise in ``Sources``.

MUSDB18 took over all of its songs. They are called here as they are there, without the number, so that an import of
both into one folder finds them.
"""

import re
from pathlib import Path

from fxnorm.constants import MIXTURE, STEMS
from fxnorm.data.importers import musdb
from fxnorm.data.importers.plan import LeftOut, Member, Options, Plan, PlannedSong
from fxnorm.data.importers.sources import Source
from fxnorm.errors import DatasetError

_MIXTURES, _SOURCES = "Mixtures", "Sources"
_SPLITS = {"Dev": "train", "Test": "test"}
_NUMBER = re.compile(r"\d+ - ")


def plan(root: Path, options: Options) -> Plan:
    """The songs of DSD100.

    Raises:
        DatasetError: the folder has no such songs.
    """
    source = Source.open(root)
    songs: list[PlannedSong] = []
    left_out: list[LeftOut] = []
    mixtures, stems = (
        {name: {path.name: path for path in source.folders(folder)} for name, folder in _splits(source, part).items()}
        for part in (_MIXTURES, _SOURCES)
    )
    for folder, split in _SPLITS.items():
        for original in sorted({*mixtures.get(folder, ()), *stems.get(folder, ())}):
            found = [path for part in (mixtures, stems) if (path := part.get(folder, {}).get(original)) is not None]
            files = {path.name: path for place in found for path in source.files(place)}
            if missing := [f"{group}.wav" for group in (*STEMS, MIXTURE) if f"{group}.wav" not in files]:
                left_out.append(LeftOut(f"{folder}/{original}", f"has no {', '.join(missing)}"))
                continue
            name = _NUMBER.sub("", original, count=1)
            place, reason = options.split((name, original), split, "the published split")
            songs.append(
                PlannedSong(
                    name=name,
                    original=f"{folder}/{original}",
                    part="wet",
                    split=place,
                    split_reason=reason,
                    members=tuple(Member(files[f"{group}.wav"], f"{group}.wav", group) for group in (*STEMS, MIXTURE)),
                    mixture="file",
                )
            )
    if not songs:
        raise DatasetError(
            f"{root}: expected DSD100, {_MIXTURES}/Dev/NNN - ARTIST - TITLE/mixture.wav and the stems likewise in"
            f" {_SOURCES}, found none"
        )
    return Plan("DSD100", musdb.LICENCE, commercial=False, songs=tuple(songs), left_out=tuple(left_out))


def _splits(source: Source, part: str) -> dict[str, Path]:
    folders = {path.name: path for path in source.folders()}
    return {path.name: path for path in source.folders(folders[part])} if part in folders else {}

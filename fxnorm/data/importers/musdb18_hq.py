"""MUSDB18-HQ: ``{train,test}/ARTIST - TITLE/{mixture,drums,bass,other,vocals}.wav``."""

from pathlib import Path

from fxnorm.constants import MIXTURE, STEMS
from fxnorm.data.importers import musdb
from fxnorm.data.importers.plan import LeftOut, Member, Options, Plan, PlannedSong
from fxnorm.data.importers.sources import Source
from fxnorm.errors import DatasetError

_FILES = (*STEMS, MIXTURE)


def plan(root: Path, options: Options) -> Plan:
    """The songs of MUSDB18-HQ.

    Raises:
        DatasetError: the folder has no such songs.
    """
    source = Source.open(root)
    songs: list[PlannedSong] = []
    left_out: list[LeftOut] = []
    for split in (folder for folder in source.folders() if folder.name in musdb.SPLITS):
        for folder in source.folders(split):
            files = {path.name: path for path in source.files(folder)}
            members = tuple(
                Member(files[f"{group}.wav"], f"{group}.wav", group) for group in _FILES if f"{group}.wav" in files
            )
            if not members:
                continue
            if missing := [f"{group}.wav" for group in _FILES if f"{group}.wav" not in files]:
                left_out.append(LeftOut(source.name(folder), f"has no {', '.join(missing)}"))
                continue
            place, reason = options.split((folder.name,), *musdb.split(folder.name, split.name))
            songs.append(
                PlannedSong(
                    name=folder.name,
                    original=f"{split.name}/{folder.name}",
                    part="wet",
                    split=place,
                    split_reason=reason,
                    members=members,
                    mixture="file",
                    remarks=musdb.remarks(folder.name),
                )
            )
    if not songs:
        raise DatasetError(f"{root}: expected MUSDB18-HQ, train/ARTIST - TITLE/mixture.wav and its stems, found none")
    return Plan(
        dataset="MUSDB18-HQ",
        licence=musdb.LICENCE,
        commercial=False,
        songs=tuple(songs),
        left_out=tuple(left_out),
        remarks=musdb.missing_validation(song.name for song in songs),
    )

"""MUSDB18: ``{train,test}/ARTIST - TITLE.stem.mp4``, five AAC streams in one file (Native Instruments' Stems)."""

from pathlib import Path

from fxnorm.constants import MIXTURE
from fxnorm.data.importers import musdb
from fxnorm.data.importers.plan import Member, Options, Plan, PlannedSong
from fxnorm.data.importers.sources import Source
from fxnorm.errors import DatasetError

_SUFFIX = ".stem.mp4"
_STREAMS = (MIXTURE, "drums", "bass", "other", "vocals")
"""The audio streams of a file in their order."""

_REMARK = (
    "MUSDB18 is coded with loss: its audio ends at 16 kHz, and the stems do not add up exactly to the mixtures; keep it"
    " out of statistics that are measured on MUSDB18-HQ"
)


def plan(root: Path, options: Options) -> Plan:
    """The songs of MUSDB18, and of its excerpts of 7 s.

    Raises:
        DatasetError: the folder has no such songs.
    """
    source = Source.open(root)
    songs = [
        _song(source, path, split.name, options)
        for split in source.folders()
        if split.name in musdb.SPLITS
        for path in source.files(split)
        if path.name.lower().endswith(_SUFFIX)
    ]
    if not songs:
        raise DatasetError(f"{root}: expected MUSDB18, train/ARTIST - TITLE{_SUFFIX}, found none")
    return Plan(
        dataset="MUSDB18",
        licence=musdb.LICENCE,
        commercial=False,
        songs=tuple(songs),
        remarks=(_REMARK, *musdb.missing_validation(song.name for song in songs)),
    )


def _song(source: Source, path: Path, folder: str, options: Options) -> PlannedSong:
    name = path.name[: -len(_SUFFIX)]
    split, reason = options.split((name,), *musdb.split(name, folder))
    return PlannedSong(
        name=name,
        original=f"{folder}/{name}",
        part="wet",
        split=split,
        split_reason=reason,
        members=tuple(Member(path, path.name, group, stream=stream) for stream, group in enumerate(_STREAMS)),
        mixture="file",
        remarks=musdb.remarks(name),
    )

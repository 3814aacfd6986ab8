"""Slakh2100 and BabySlakh: synthesized songs, ``{train,validation,test}/TrackNNNNN`` or ``TrackNNNNN`` alone.

``metadata.yaml`` lists the stems; their files have its keys as names. Source: ``ethman/slakh-utils`` and
``mirdata/datasets/slakh.py``.
"""

import re
from pathlib import Path

from pydantic import BaseModel

from fxnorm.constants import MIXTURE
from fxnorm.data.importers.plan import SKIP, LeftOut, Member, Options, Plan, PlannedSong
from fxnorm.data.importers.sources import Source, read_yaml
from fxnorm.errors import DatasetError

_SPLITS = {"train": "train", "validation": "val", "test": "test"}
"""``omitted``, which has songs of other splits once more, is none of them."""

_METADATA = "metadata.yaml"
_TRACK = re.compile(r"Track(\d+)")
_LAST_OF_TRAIN, _LAST_OF_VALIDATION = 1500, 1875
_SUFFIXES = (".flac", ".wav")
_DRUMS = 128  # as a program number
_BASS = range(32, 40)

_REMARK = (
    "the mixes of Slakh hold no mixing decision: every stem was brought to one loudness, panned nowhere and added up;"
    " a network that is trained on them learns to undo nothing"
)


class _Stem(BaseModel):
    audio_rendered: bool | None = None
    is_drum: bool = False
    program_num: int = -1
    inst_class: str = ""
    midi_program_name: str = ""


class _Metadata(BaseModel):
    audio_dir: str = "stems"
    stems: dict[str, _Stem]


def plan(root: Path, options: Options) -> Plan:
    """The songs of Slakh2100 (any of its forms), or of BabySlakh, which has no folders of splits.

    Raises:
        DatasetError: the folder has no such songs.
    """
    source = Source.open(root)
    songs: list[PlannedSong] = []
    left_out: list[LeftOut] = []
    broken: list[LeftOut] = []
    splits: dict[Path, str | None] = {path: _SPLITS[path.name] for path in source.folders() if path.name in _SPLITS}
    for place, split in (splits or {root: None}).items():
        for folder in source.folders(place):
            if not _TRACK.fullmatch(folder.name):
                continue
            try:
                song = _song(source, folder, split, options)
            except DatasetError as error:
                broken.append(LeftOut(folder.name, str(error)))
                continue
            if isinstance(song, LeftOut):
                left_out.append(song)
            else:
                songs.append(song)
    if not songs and not broken:
        raise DatasetError(
            f"{root}: expected Slakh, train/Track00001/{_METADATA} or Track00001/{_METADATA}, found none"
        )
    return Plan(
        dataset="Slakh2100" if splits else "BabySlakh",
        licence="CC-BY-4.0",
        commercial=True,
        songs=tuple(songs),
        left_out=tuple(left_out),
        broken=tuple(broken),
        remarks=(_REMARK,),
    )


def _song(source: Source, folder: Path, published: str | None, options: Options) -> PlannedSong | LeftOut:
    path = source.file(folder / _METADATA)
    if path is None:
        return LeftOut(source.name(folder), f"has no {_METADATA}")
    metadata = read_yaml(path, _Metadata)
    name = folder.name
    members: list[Member] = []
    left_out: list[LeftOut] = []
    remarks: list[str] = []
    skipped = False
    for key, stem in metadata.stems.items():
        label = stem.midi_program_name or stem.inst_class
        files = [source.file_in(folder, f"{metadata.audio_dir}/{key}{suffix}", path) for suffix in _SUFFIXES]
        audio = next((file for file in files if file is not None), None)
        if audio is None:
            left_out.append(LeftOut(key, "has no audio"))
            if stem.audio_rendered:
                remarks.append(f"{key}: missing, though {_METADATA} says that it has audio; the mixture has it")
            continue
        group = options.labels.group((name,), key, stem.midi_program_name, stem.inst_class) or _group(stem)
        if group == SKIP:
            left_out.append(LeftOut(key, f"the mapping leaves {label} out"))
            skipped = True
            continue
        members.append(Member(audio, key, group, label))
    if not members:
        return LeftOut(source.name(folder), "has no stem with audio")
    mixes = [source.file(folder / f"mix{suffix}") for suffix in _SUFFIXES]
    mix = next((file for file in mixes if file is not None), None)
    if mix is not None and not skipped:
        members.append(Member(mix, mix.name, MIXTURE))
    split, reason = options.split(
        (name,), *(_by_number(name) if published is None else (published, "the published split"))
    )
    return PlannedSong(
        name=name,
        original=name,
        part="wet",
        split=split,
        split_reason=reason,
        members=tuple(members),
        mixture="file" if members[-1].group == MIXTURE else "sum",
        left_out=tuple(left_out),
        remarks=tuple(remarks),
    )


def _group(stem: _Stem) -> str:
    """The bands of ``slakh-utils`` (``submixes/band.yaml``), folded: there are no vocals."""
    if stem.is_drum or stem.program_num == _DRUMS:
        return "drums"
    return "bass" if stem.program_num in _BASS else "other"


def _by_number(track: str) -> tuple[str, str]:
    match = _TRACK.fullmatch(track)
    number = int(match[1]) if match else 0
    split = "train" if number <= _LAST_OF_TRAIN else "val" if number <= _LAST_OF_VALIDATION else "test"
    return split, "the published split, by the song's number"

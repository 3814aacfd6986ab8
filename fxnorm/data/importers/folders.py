"""Folders in the form that people convert to: one folder a stem, or one a song, with or without splits above.

- ``{vocals,bass,drums,other[,mixture]}/NAME.wav``: files of one name are one song ("type 2" of
  ``ZFTurbo/Music-Source-Separation-Training``);
- ``SONG/FILE``, also in folders of the song: the user's mapping says which group a file belongs to. A file that has the
  name of a group needs no mapping; of several such files of one group, the one that lies highest is taken.

What lies beside these folders is not read, and said to be left out.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fxnorm.constants import MIXTURE, STEMS
from fxnorm.data.dataset import split_name
from fxnorm.data.importers.plan import SKIP, Labels, LeftOut, Member, Options, Plan, PlannedSong, plain_label
from fxnorm.data.importers.sources import Source
from fxnorm.errors import DatasetError, SettingsError
from fxnorm.io import audio

_GROUPS = (*STEMS, MIXTURE)
_FEWEST_STEMS = 2  # folders that are called so, for one folder a stem


def plan(root: Path, options: Options) -> Plan:
    """The songs of a folder.

    Raises:
        DatasetError: it has no songs in one of the two forms.
    """
    source = Source.open(root)
    songs: list[PlannedSong] = []
    left_out: list[LeftOut] = []
    remarks: list[str] = []
    places = list(_places(source))
    for place, split, reason in places:
        stems = _stem_folders(source, place)
        if sum(name in STEMS for name in stems) >= _FEWEST_STEMS:
            songs.extend(_of_stem_folders(source, place, stems, split, reason, options))
            left_out.extend(_beside(source, place, list(stems.values()), "the folders of stems"))
            if options.labels != Labels():
                remarks.append(f"{place}: the folders say which stems the files are; the mapping is not used")
            continue
        for folder in source.folders(place):
            found = _of_song_folder(source, folder, split, reason, options)
            if isinstance(found, LeftOut):
                left_out.append(found)
            elif found is not None:
                songs.append(found)
        left_out.extend(_loose(source, place))
    if [place for place, _, _ in places] != [source.root]:
        left_out.extend(_beside(source, source.root, [place for place, _, _ in places], "the folders of splits"))
    if not songs:
        tried = f"; {left_out[0].name}: {left_out[0].reason}" if left_out else ""
        raise DatasetError(
            f"{root}: expected one folder a stem ({', '.join(STEMS)}) with files of equal names, or song folders with"
            f" a --mapping of their files, found neither{tried}"
        )
    return Plan(
        dataset=root.resolve().name,
        licence="unknown",
        commercial=None,
        songs=tuple(songs),
        left_out=tuple(left_out),
        remarks=tuple(remarks),
    )


def _places(source: Source) -> Iterator[tuple[Path, str, str]]:
    """The folders in which songs lie, with their split and where it is from."""
    splits: list[tuple[Path, str]] = []
    for folder in source.folders():
        try:
            splits.append((folder, split_name(folder.name)))
        except SettingsError:
            continue
    if not splits:
        yield source.root, "train", "no split is known"
    for folder, split in splits:
        yield folder, split, f"the folder {folder.name}"


def _stem_folders(source: Source, place: Path) -> dict[str, Path]:
    """The folders that are called as stems or the mixture; the first one of each name."""
    found: dict[str, Path] = {}
    for path in source.folders(place):
        if plain_label(path.name) in _GROUPS:
            found.setdefault(plain_label(path.name), path)
    return found


def _beside(source: Source, place: Path, read: Sequence[Path], what: str) -> Iterator[LeftOut]:
    """Audio in a place that holds folders of one kind and lies in none of them."""
    for folder in source.folders(place):
        if folder not in read and _audio(_files_below(source, folder)):
            yield LeftOut(source.name(folder), f"lies beside {what} and is none of them")
    yield from _loose(source, place)


def _loose(source: Source, place: Path) -> Iterator[LeftOut]:
    for path in _audio(source.files(place)):
        yield LeftOut(source.name(path), "lies in no song's folder")


def _of_stem_folders(
    source: Source, place: Path, stems: dict[str, Path], split: str, reason: str, options: Options
) -> Iterator[PlannedSong]:
    files: dict[str, dict[str, list[Path]]] = {}
    for group, folder in stems.items():
        for path in _audio(source.files(folder)):
            files.setdefault(path.stem, {}).setdefault(group, []).append(path)
    for name, groups in sorted(files.items()):
        if not any(group in STEMS for group in groups):
            continue
        members = [
            Member(groups[group][0], source.name(groups[group][0]), group) for group in _GROUPS if group in groups
        ]
        left_out = [
            LeftOut(source.name(path), f"{paths[0].name} is there too")
            for paths in groups.values()
            for path in paths[1:]
        ]
        original = source.name(place / name) if place != source.root else name
        yield _planned(name, original, members, left_out, options.split((name, original), split, reason))


def _of_song_folder(
    source: Source, folder: Path, split: str, reason: str, options: Options
) -> PlannedSong | LeftOut | None:
    """A song; why a folder with audio is none; None for a folder without audio."""
    paths = list(_audio(_files_below(source, folder)))
    if not paths:
        return None
    original = source.name(folder)
    members: list[Member] = []
    left_out: list[LeftOut] = []
    called: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: (len(path.parts), audio.AUDIO_SUFFIXES.index(path.suffix.lower()))):
        called.setdefault(plain_label(path.stem), path)
    for path in paths:
        name = path.relative_to(folder).as_posix()
        group = options.labels.group(
            (folder.name, original), name, str(Path(name).with_suffix("")), path.name, path.stem
        )
        if group is None and (label := plain_label(path.stem)) in _GROUPS:
            if path != called[label]:  # a copy in another format or folder, which would be added to it
                first = called[label].relative_to(folder).as_posix()
                left_out.append(LeftOut(name, f"{first} is there too, and no mapping says which is meant"))
                continue
            group = label
        if group is None:
            left_out.append(LeftOut(name, "no mapping has a group for it"))
        elif group == SKIP:
            left_out.append(LeftOut(name, "the mapping leaves it out"))
        else:
            members.append(Member(path, name, group))
    if not any(member.group in STEMS for member in members):
        return LeftOut(original, f"no mapping has a group for any of its files, such as {left_out[0].name}")
    return _planned(folder.name, original, members, left_out, options.split((folder.name, original), split, reason))


def _planned(
    name: str, original: str, members: list[Member], left_out: list[LeftOut], split: tuple[str, str]
) -> PlannedSong:
    has_mixture = any(member.group == MIXTURE for member in members)
    remarks = [] if has_mixture else ["has no mixture: the sum of its stems is taken for it"]
    if any("mapping" in item.reason for item in left_out):
        remarks.append(f"without {', '.join(item.name for item in left_out)}")
    return PlannedSong(
        name=name,
        original=original,
        part="wet",
        split=split[0],
        split_reason=split[1],
        members=tuple(members),
        mixture="file" if has_mixture else "sum",
        left_out=tuple(left_out),
        remarks=tuple(remarks),
    )


def _files_below(source: Source, folder: Path) -> Iterator[Path]:
    yield from source.files(folder)
    for within in source.folders(folder):
        yield from _files_below(source, within)


def _audio(paths: Iterator[Path] | list[Path]) -> list[Path]:
    """The files that are audio by their suffix; of one name, the preferred format first."""
    found = [path for path in paths if path.suffix.lower() in audio.AUDIO_SUFFIXES]
    return sorted(found, key=lambda path: (path.with_suffix(""), audio.AUDIO_SUFFIXES.index(path.suffix.lower())))

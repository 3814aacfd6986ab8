"""Before stage 1: songs put into the folders ``train``, ``val`` and ``test``, by chance but the same each time."""

import hashlib
import os
from pathlib import Path

from fxnorm.data.dataset import Layout, Song, plain_name
from fxnorm.errors import DatasetError, SettingsError


def run(root: Path, val: int = 0, test: int = 0) -> dict[str, list[str]]:
    """Move songs of a dataset into ``val`` and ``test``, and those that lie beside the splits into ``train``.

    Which ones is decided by a hash of their names, so it is the same on every machine. Nothing is copied; a run that
    was stopped goes on when it is started again with the same numbers.

    Args:
        root: a folder of songs, or one with ``train`` and whichever other splits stay as they are.
        val: how many songs go into ``val``; 0 leaves it as it is.
        test: likewise for ``test``.

    Returns:
        split -> names of the songs that were moved there.

    Raises:
        DatasetError: a split to be made has songs of its own already, or there are too few songs.
        SettingsError: ``val`` and ``test`` are both 0, or one is negative.
    """
    if min(val, test) < 0 or not val + test:
        raise SettingsError(f"{root}: expected a number of songs for val or test, found val {val} and test {test}")
    layout = Layout.read(root)
    for problem in layout.problems.values():
        raise DatasetError(problem)
    sizes = {split: number for split, number in (("val", val), ("test", test)) if number}
    free = [*layout.flat, *layout.splits.get("train", [])]
    moved_before = [song for split in sizes for song in layout.splits.get(split, [])]
    drawn = sorted([*free, *moved_before], key=_draw)
    if len(drawn) <= val + test:
        raise DatasetError(f"{root}: expected more than {val + test} songs, so that train has some, found {len(drawn)}")
    split_of = {song.folder: "train" for song in drawn[val + test :]}
    for split, number in sizes.items():
        split_of |= {song.folder: split for song in drawn[:number]}
        del drawn[:number]
        for song in layout.splits.get(split, []):
            if split_of.get(song.folder) != split:
                raise DatasetError(f"{song.folder}: expected no songs in {split} yet; remove what is there first")
    return _move(free, layout, split_of)


def _move(songs: list[Song], layout: Layout, split_of: dict[Path, str]) -> dict[str, list[str]]:
    targets = {song.folder: layout.folder_of(split_of[song.folder]) / song.name for song in songs}
    targets = {folder: target for folder, target in targets.items() if folder != target}
    for folder, target in targets.items():
        if target.exists():
            raise DatasetError(f"{target}: there is something already; expected room for {folder}")
    moved: dict[str, list[str]] = {}
    for folder, target in targets.items():
        target.parent.mkdir(exist_ok=True)
        os.rename(folder, target)
        moved.setdefault(split_of[folder], []).append(target.name)
    return moved


def _draw(song: Song) -> str:
    return hashlib.sha256(plain_name(song.name).encode()).hexdigest()

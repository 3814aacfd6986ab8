"""A user's files for an import: which group a recording belongs to, and which split a song."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fxnorm.constants import MIXTURE, STEMS
from fxnorm.data.dataset import SPLITS
from fxnorm.data.importers.plan import SKIP, Labels, plain_song
from fxnorm.data.importers.sources import plain_yaml
from fxnorm.errors import DatasetError, printable

GROUPS = (*STEMS, MIXTURE, SKIP)
_LABELS, _SONGS = "labels", "songs"


def read_mapping(path: Path) -> Labels:
    """A table of groups (``--mapping``): a YAML file with ``labels``, ``songs`` or both.

    Raises:
        DatasetError: no YAML, another shape, or a group that there is not: one line with the file and the key.
    """
    content = _mapping(path, plain_yaml(path), "")
    for key in content:
        if key not in (_LABELS, _SONGS):
            raise DatasetError(f"{path}: {printable(str(key))}: expected {_LABELS} or {_SONGS}")
    songs = _mapping(path, content.get(_SONGS) or {}, _SONGS)
    return Labels(
        labels=_groups(path, content.get(_LABELS) or {}, _LABELS),
        songs={str(song): _groups(path, table, f"{_SONGS}: {song}") for song, table in songs.items()},
    )


def read_splits(path: Path) -> dict[str, str]:
    """Which song goes where (``--split``): a YAML file with a list of songs for ``train``, ``val`` and ``test``.

    Returns:
        song -> split.

    Raises:
        DatasetError: no YAML, another shape, a split that there is not, or a song in two of them.
    """
    found: dict[str, str] = {}
    splits: dict[str, str] = {}
    for split, songs in _mapping(path, plain_yaml(path), "").items():
        if split not in SPLITS:
            raise DatasetError(f"{path}: {printable(str(split))}: expected a split, one of {', '.join(SPLITS)}")
        if not isinstance(songs, list) or not all(isinstance(song, str | int | float) for song in songs):
            raise DatasetError(f"{path}: {split}: expected a list of songs, found {printable(repr(songs))}")
        for song in map(str, songs):
            if splits.setdefault(plain_song(song), split) != split:
                raise DatasetError(f"{path}: {printable(song, 200)}: in {splits[plain_song(song)]} and in {split}")
            found[song] = split
    return found


def _mapping(path: Path, content: Any, key: str) -> Mapping[Any, Any]:
    if not isinstance(content, dict):
        where = f"{printable(key, 200)}: " if key else ""
        raise DatasetError(f"{path}: {where}expected keys with values, found {printable(repr(content))}")
    return content


def _groups(path: Path, content: Any, key: str) -> dict[str, str]:
    table = _mapping(path, content, key)
    for label, group in table.items():
        if group not in GROUPS:
            raise DatasetError(
                f"{path}: {printable(f'{key}: {label}', 200)}: expected one of {', '.join(GROUPS)},"
                f" found {printable(repr(group))}"
            )
    return {str(label): str(group) for label, group in table.items()}

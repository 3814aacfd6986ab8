"""The songs of all shards of a normalization together: a note in each shard's output, to find missing ones."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fxnorm.data import published
from fxnorm.errors import DatasetError
from fxnorm.io.files import write_json

SONGS_FILE = ".songs.json"
"""In the output of a shard: the names of the songs of all shards by split, so that an error can name missing ones."""

_SONGS = TypeAdapter(dict[str, list[str]])


def note(folder: Path, names: dict[str, list[str]]) -> None:
    """Leave in ``folder`` the names of the songs of all shards together, by split."""
    write_json(folder / SONGS_FILE, names)


def noted(parts: Sequence[Path]) -> dict[str, list[str]]:
    """By split the names of the songs of all shards together, as the notes in ``parts`` list them; a part may lack its
    note.

    Raises:
        DatasetError: a note is not as :func:`note` writes it.
    """
    names: dict[str, list[str]] = {}
    for file in (part / SONGS_FILE for part in parts):
        if file.is_file():
            try:
                songs_by_split = _SONGS.validate_json(file.read_bytes())
            except ValidationError as error:
                raise DatasetError(f"{file}: expected songs by split, as 'fxnorm normalize' writes them") from error
            for split, songs in songs_by_split.items():
                names[split] = sorted({*names.get(split, []), *songs})
    return names


def lacking(folder: Path, names: dict[str, list[str]] | None = None) -> list[str]:
    """``SPLIT/SONG`` of the songs that a folder lacks of ``names``; without these, of those that its own note has."""
    expected = noted([folder]) if names is None else names
    listing = published.read(folder)
    stored = {} if listing is None else listing.songs
    return [
        f"{split}/{name}"
        for split, songs in expected.items()
        for name in songs
        if name not in stored.get(split, ()) and not (folder / split / name).is_dir()
    ]

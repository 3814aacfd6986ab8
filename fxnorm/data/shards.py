"""The songs of all shards of a normalization together: a note in each shard's output, to find missing ones.

A shard that has its own songs alone does not know the version of the dataset. It notes what its songs are, and where
all notes are together, so is the version.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from fxnorm.data import published
from fxnorm.data.dataset import digest_of
from fxnorm.errors import DatasetError
from fxnorm.io import bounded
from fxnorm.io.files import write_json

PART_FILE = ".part.json"
"""In the output of a shard that has its own songs alone: their hashes."""
SONGS_FILE = ".songs.json"
"""In the output of a shard: the names of the songs of all shards by split, so that an error can name missing ones."""

_SONGS = TypeAdapter(dict[str, list[str]])
_LARGEST_PART = 2**28  # bytes: a song takes some 120


class Whole(BaseModel):
    """What the songs of a shard are a part of.

    Attributes:
        counts: how many songs there are in each split, in the order in which the splits are read.
        dvc: the hash by which DVC tracks the dataset.
    """

    model_config = ConfigDict(frozen=True)

    counts: dict[str, int]
    dvc: str


class _Part(BaseModel):
    """The note of a shard that has its own songs alone."""

    whole: Whole
    digests: dict[str, dict[str, str]]


def note_part(folder: Path, whole: Whole, digests: Mapping[str, Mapping[str, str]]) -> None:
    """Leave in ``folder`` the hashes of a shard's songs, by split and name, and what they are a part of."""
    by_split = {split: dict(songs) for split, songs in digests.items()}
    write_json(folder / PART_FILE, _Part(whole=whole, digests=by_split).model_dump())


def version_of_all(parts: Sequence[Path]) -> dict[str, str] | None:
    """The version of the dataset that all parts are of, as :func:`fxnorm.data.versions.data_version` has it.

    None if the parts have no notes of :func:`note_part`.

    Raises:
        DatasetError: notes are of other datasets, a song is in two parts or in none, or a note is damaged.
    """
    notes = {part: _part(part / PART_FILE) for part in parts if (part / PART_FILE).is_file()}
    if not notes:
        return None
    first, *_ = notes.values()
    found: dict[str, dict[str, str]] = {split: {} for split in first.whole.counts}
    for part in parts:
        if part not in notes or notes[part].whole != first.whole:
            raise DatasetError(f"{part}: was normalized from other data than {parts[0]}")
        for split, digests in notes[part].digests.items():
            if both := found[split].keys() & digests.keys():
                raise DatasetError(f"{part}: another shard has {split}/{min(both)} as well")
            found[split] |= digests
    for split, count in first.whole.counts.items():
        if len(found[split]) != count:
            raise DatasetError(
                f"{parts[0]}: {count} songs of {split} in all shards expected, found {len(found[split])}"
            )
    in_order = (song for split in found for song in sorted(found[split].items()))
    return {"digest": digest_of(in_order), "dvc": first.whole.dvc}


def _part(file: Path) -> _Part:
    try:
        return _Part.model_validate(bounded.read_json(file, _LARGEST_PART))
    except (OSError, ValueError) as error:  # a ValidationError is a ValueError
        raise DatasetError(f"{file}: expected the hashes of songs, as fxnorm writes them") from error


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

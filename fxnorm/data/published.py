"""Normalized songs that are in an object store, and in their folder a list by which they are read from there.

Objects are named by what they hold, below a name of the recipe, so that none is ever overwritten with another. A song
is the same wherever it lies: its digest comes from the hashes in the list, its samples from :mod:`fxnorm.io.remote`.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data.dataset import SPLITS, Layout, Song
from fxnorm.errors import DatasetError, SettingsError, printable
from fxnorm.io import audio, locks, object_store
from fxnorm.io.blocks import BlockCache
from fxnorm.io.files import copy_file, whole_file
from fxnorm.io.remote import RemoteFile
from fxnorm.io.remote import read as read_remote

STORED_FILE = "stored.json"
"""In a normalized folder: the songs that are in the store."""

_LARGEST = 2**30  # bytes of stored.json: a song takes some 800
_UPLOADS = 8  # at one time
_RECIPE_DIGITS = 16  # of the recipe's digest, in the names of objects
_FILES = rf"(?:{'|'.join((*STEMS, MIXTURE))})\.(?:wav|flac)"

_Split = Annotated[str, Field(pattern=f"^(?:{'|'.join(SPLITS)})$")]
_SongName = Annotated[str, Field(pattern=r"^[^/\x00]+$")]


class Content(NamedTuple):
    """A file of a song: SHA-256, bytes, samples, and the store's mark of the object (empty in a folder)."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(gt=0)]
    samples: Annotated[int, Field(gt=0)]
    tag: str


class StoredSong(BaseModel):
    """A song: what it was made of and how, as ``fxnorm normalize`` notes it, and its files by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: str
    files: dict[Annotated[str, Field(pattern=f"^{_FILES}$")], Content]


class Listing(BaseModel):
    """What is in ``stored.json``: where the songs are, the digest of their recipe, and the songs by split."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    address: str
    recipe: str
    songs: dict[_Split, dict[_SongName, StoredSong]] = {}


@dataclass(frozen=True, kw_only=True)
class PublishedSong(Song):
    """A song whose files are in the store; its paths name them, where they lay before.

    Attributes:
        address: of the objects.
        contents: of its files, by their names.
        blocks: the cache through which they are read, if there is one.
    """

    address: str
    contents: Mapping[str, Content]
    blocks: BlockCache | None

    @property
    def seconds(self) -> float:
        return max(content.samples for content in self.contents.values()) / SAMPLE_RATE

    @property
    def cache(self) -> BlockCache | None:
        return self.blocks

    def samples_of(self, path: Path) -> int:
        return self.contents[path.name].samples

    def remote(self, path: Path) -> RemoteFile:
        """The object of one of the song's files."""
        content = self.contents[path.name]
        address = f"{self.address}/{_name_of(path.name, content.sha256)}"
        return RemoteFile(address, content.size, content.sha256, content.tag)

    def size_of(self, path: Path) -> int:
        return self.contents[path.name].size

    def digest_of(self, path: Path) -> bytes:
        return bytes.fromhex(self.contents[path.name].sha256)

    def read_file(self, path: Path) -> np.ndarray:
        file = self.remote(path)
        return audio.decode(read_remote(file, self.blocks), file.address)[0]


def read(folder: Path) -> Listing | None:
    """The list in a normalized folder; None if its songs are all there themselves.

    Raises:
        DatasetError: the file is not as :func:`publish` writes it.
    """
    file = folder / STORED_FILE
    if not file.is_file():
        return None
    if file.stat().st_size > _LARGEST:
        raise DatasetError(f"{file}: {file.stat().st_size} bytes, expected at most {_LARGEST}")
    try:
        return Listing.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        detail = printable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 200)
        raise DatasetError(f"{file}: expected stored songs, as 'fxnorm publish' lists them ({detail})") from error


def is_published(folder: Path) -> bool:
    """Whether songs of a normalized folder are in a store."""
    return (folder / STORED_FILE).is_file()


def refuse_other(folder: Path, recipe: str) -> None:
    """Refuse a list of songs that were normalized with another recipe than the one beside it.

    Args:
        folder: a normalized folder.
        recipe: the digest of the recipe in it.

    Raises:
        DatasetError: the list is of another; or as :func:`read`.
    """
    listing = read(folder)
    if listing is not None and listing.recipe != recipe:
        raise DatasetError(
            f"{folder / STORED_FILE}: its songs were normalized with another recipe than the one in {folder}; take the"
            " list and the recipe that 'fxnorm publish' left together"
        )


def write(folder: Path, listing: Listing) -> None:
    """Leave a list in a normalized folder; songs by name."""
    listing.songs = {split: dict(sorted(songs.items())) for split in SPLITS if (songs := listing.songs.get(split))}
    with whole_file(folder / STORED_FILE) as temporary:
        temporary.write_text(listing.model_dump_json() + "\n", encoding="utf-8")


def add_to(layout: Layout, cache: BlockCache | None) -> None:
    """Add the stored songs of a normalized folder to those that are there themselves, which count first.

    Raises:
        DatasetError: as :func:`read`.
    """
    listing = read(layout.root)
    if listing is None:
        return
    for split in SPLITS:
        stored = listing.songs.get(split)
        if not stored:
            continue
        local = layout.splits.get(split, [])
        names = {song.name for song in local}
        songs = [
            _song(layout.root / split / name, song, listing.address, cache)
            for name, song in stored.items()
            if name not in names
        ]
        layout.splits[split] = sorted([*local, *songs], key=lambda song: song.folder)
    for split in [name for name in SPLITS if name in layout.splits]:
        layout.splits[split] = layout.splits.pop(split)


def merged(folders: Sequence[Path]) -> Listing | None:
    """The lists of several normalized folders as one; None if none has any.

    Raises:
        DatasetError: they are at several places, or of several recipes, or have a song in common.
    """
    whole: Listing | None = None
    for folder in folders:
        listing = read(folder)
        if listing is None:
            continue
        if whole is None:
            whole = Listing(address=listing.address, recipe=listing.recipe)
        if (listing.address, listing.recipe) != (whole.address, whole.recipe):
            raise DatasetError(f"{folder / STORED_FILE}: its songs are in {listing.address}, others in {whole.address}")
        for split, songs in listing.songs.items():
            together = whole.songs.setdefault(split, {})
            if common := together.keys() & songs.keys():
                raise DatasetError(f"{folder / STORED_FILE}: another shard has {split}/{min(common)} as well")
            together.update(songs)
    return whole


def keep(folder: Path, names: Mapping[str, Iterable[str]]) -> None:
    """Take from the list of a folder what is not among ``names``, by split; their objects stay."""
    with locks.held(folder, "-stored", wait=True):
        listing = read(folder)
        if listing is None:
            return
        kept = {split: set(songs) for split, songs in names.items()}
        songs = {
            split: {name: song for name, song in of_split.items() if name in kept.get(split, ())}
            for split, of_split in listing.songs.items()
        }
        if songs != listing.songs:
            listing.songs = songs
            write(folder, listing)


def drop(folder: Path, names: Mapping[str, Iterable[str]]) -> None:
    """Take ``names``, by split, from the list of a folder; their objects stay."""
    listing = read(folder)
    if listing is not None:
        gone = {split: set(songs) for split, songs in names.items()}
        keep(folder, {split: set(songs) - gone.get(split, set()) for split, songs in listing.songs.items()})


def upload(folder: Path, address: str, recipe: str, digests: Mapping[Path, str]) -> list[Song]:
    """Put the songs that are in a normalized folder into a store and into the folder's list.

    An object that is there already is not sent again.

    Args:
        folder: with songs by split.
        address: ``s3://BUCKET/PREFIX``, or an absolute path.
        recipe: the digest of the recipe.
        digests: of the songs, by their folders: what they were made of.

    Returns:
        the songs, which are in the store now.

    Raises:
        SettingsError: ``address`` is none.
        DatasetError: a song is not what training reads, or the folder's other songs are at another place.
        StoreError: the store does not answer or refuses.
    """
    place = _place(address, recipe)
    listing = read(folder) or Listing(address=place.address, recipe=recipe)
    if (listing.address, listing.recipe) != (place.address, recipe):
        raise DatasetError(f"{folder / STORED_FILE}: its songs are in {listing.address}; expected that place, or none")
    splits = Layout.read(folder).splits
    files = [path for songs in splits.values() for song in songs for path in song.files]
    contents: dict[Path, Content] = {}
    pool = ThreadPoolExecutor(_UPLOADS)
    try:
        sent = pool.map(place.send, files)
        for path, content in zip(files, tqdm(sent, f"publish {place.address}", len(files), unit="file"), strict=True):
            contents[path] = content
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an error or Ctrl-C does not wait for all the others
    for split, songs in splits.items():
        listed = listing.songs.setdefault(split, {})
        for song in songs:
            stored = {path.name: contents[path] for path in song.files}
            listed[song.name] = StoredSong(digest=digests[song.folder], files=stored)
    write(folder, listing)
    return [song for songs in splits.values() for song in songs]


class _Place:
    """Where objects go: a store, or a folder."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._store = object_store.Folder(address) if object_store.is_address(address) else None

    def send(self, path: Path) -> Content:
        """Put a file there, unless it is there."""
        size, samples = path.stat().st_size, _samples(path)
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        name = _name_of(path.name, sha256)
        if self._store is None:
            target = Path(self.address, name)
            if not target.is_file() or target.stat().st_size != size:
                with whole_file(target) as temporary:
                    copy_file(path, temporary)
            return Content(sha256, size, samples, "")
        stored = self._store.stored(name)
        if stored is None or stored.size != size:
            self._store.upload(path, name)
            stored = self._store.stored(name)
        if stored is None or stored.size != size:
            raise DatasetError(f"{self.address}/{name}: is not there as it was sent; is something else at work there?")
        return Content(sha256, size, samples, stored.tag)


def _place(address: str, recipe: str) -> _Place:
    address = address.rstrip("/")
    if object_store.is_address(address):
        object_store.split(address)
    elif not Path(address).is_absolute():
        raise SettingsError(f"{address}: expected s3://BUCKET/PREFIX or an absolute path")
    return _Place(f"{address}/{recipe[:_RECIPE_DIGITS]}")


def _name_of(file: str, sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}{Path(file).suffix}"


def _samples(path: Path) -> int:
    if re.fullmatch(_FILES, path.name) is None:
        raise DatasetError(f"{path}: expected WAV or FLAC, as 'fxnorm normalize' writes them")
    samples, sample_rate = audio.length(path)
    if sample_rate != SAMPLE_RATE:
        raise DatasetError(f"{path}: expected {SAMPLE_RATE} Hz, found {sample_rate}; run 'fxnorm normalize' first")
    return samples


def _song(folder: Path, stored: StoredSong, address: str, cache: BlockCache | None) -> PublishedSong:
    paths = {Path(name).stem: folder / name for name in stored.files}
    return PublishedSong(
        folder.name,
        folder,
        {stem: paths[stem] for stem in STEMS if stem in paths},
        paths.get(MIXTURE),
        address=address,
        contents=stored.files,
        blocks=cache,
    )

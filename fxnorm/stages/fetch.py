"""Stage 0, on clusters: which songs a git revision has, and single songs from DVC's remote storage.

DVC tracks a folder by one small object that lists its files with their hashes, and a remote has each file under its
hash. So a task reads the list, and then the files of its own songs alone, each once: several at a time, checked by
their hashes, and from a folder of earlier ones where it has such a folder.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import soundfile
from tqdm import tqdm

from fxnorm.data import splits
from fxnorm.data.dataset import Song, shard_names, shard_of
from fxnorm.data.dvc_file import note_fetched, parse
from fxnorm.data.listing import LISTING_FILE, ListedFile, Listing
from fxnorm.data.provenance import PROVENANCE_FILE, RECORD_FILE
from fxnorm.errors import DatasetError
from fxnorm.io import audio, object_store
from fxnorm.io.files import whole_file
from fxnorm.settings import Settings

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem

__all__ = ["LISTING_FILE", "Looked", "divide", "list_songs", "look_at", "refuse_unfit", "resolve", "songs"]

CACHE_VARIABLE = "FXNORM_DATA_CACHE"
"""A folder that several tasks see, for files by their hashes; without it each task brings its own."""

WET, IMPULSE_RESPONSES = "wet", "impulse_responses"

_HEADED = (".wav", ".flac")
_HEAD_BYTES = 2**16
_WIDTHS = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
_AT_ONCE = 16  # files: a store answers in some 10 ms, and one connection brings some 50 MB a second
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Looked:
    """The size of a song or file in bytes, and its length in seconds."""

    bytes: int
    seconds: float


def resolve(repository: str, revision: str) -> str:
    """The commit that a branch, tag or commit of a git repository stands for.

    Raises:
        DatasetError: the repository or the revision is not there.
    """
    # DVC takes a second to import, and no other stage needs it
    from dvc.api import DVCFileSystem

    with _as_user_error(f"{repository} at {revision}"):
        return str(DVCFileSystem(repository, rev=revision).repo.get_rev())


def list_songs(repository: str, revision: str, path: str = "data", remote: str = "") -> Listing:
    """The songs of a tracked folder of a repository at a revision; none of its files is read.

    Args:
        repository: address or folder of a git repository with DVC.
        revision: branch, tag or commit.
        path: a folder that ``PATH.dvc`` tracks.
        remote: name of the DVC remote; the repository's default one if empty.

    Raises:
        DatasetError: the repository, revision, path or remote is not there, or the remote lacks the list.
    """
    from dvc.api import DVCFileSystem

    tracked_by = f"{path}.dvc"
    where = f"{repository} at {revision}"
    with _as_user_error(where):
        files = DVCFileSystem(repository, rev=revision, remote=remote or None)
        try:
            content = files.read_bytes(tracked_by)
        except FileNotFoundError as error:
            raise DatasetError(f"{where}: no {tracked_by}; 'dvc add {path}' makes it") from error
        tracked = parse(content, PurePosixPath(path).name, f"{where}: {tracked_by}")
        name = remote or tracked.remote or ""
        stores = _stores(files.repo, name, tracked.objects)
        listed = _listed(files, stores, path, tracked.hash)
    return Listing.of(repository, revision, path, name, tracked.hash, tracked.objects, listed)


def divide(listing: Listing, settings: Settings, stage: str, shards: int) -> list[str]:
    """The names of a stage's shards, such as ``2/8``: as many as wanted, and at most as many as it has songs.

    Args:
        listing: of all songs.
        settings: which splits the stages read.
        stage: ``check``, ``statistics`` or ``normalize``.
        shards: how many are wanted.

    Raises:
        DatasetError: songs that the stage needs are missing or unclear.
        SettingsError: a split has a name of none.
    """
    wet = listing.layout(WET)
    if stage == "check":
        chosen = wet.present(settings.check.splits)
    elif stage == "statistics":
        chosen = wet.of(settings.statistics.split)
    else:
        chosen = [song for part in splits.songs_of(wet, settings.normalize.splits).values() for song in part]
    return shard_names(chosen, shards)


def refuse_unfit(listing: Listing, settings: Settings, tested: bool = True) -> None:
    """Refuse now what a task would refuse after hours; what lies there unused is logged.

    Two songs are the same where files of theirs have one hash; such files alone are read, to see that they are not
    silence.

    Args:
        listing: of all songs.
        settings: which splits the stages read.
        tested: whether an evaluation follows.

    Raises:
        DatasetError: songs that a stage needs are missing or unclear, or a song is in two splits.
        SettingsError: a split has a name of none.
    """
    for stage in ("statistics", "normalize"):
        divide(listing, settings, stage, 1)
    wet = listing.layout(WET)
    source = _Source(listing)
    for name, layout in listing.layouts.items() if tested else [(WET, wet)]:
        if tested:
            layout.of(settings.evaluate.split)
        layout.log_unused()
        if layout.splits:
            every = [file for song in layout.songs for file in song.files]
            by_path = {file: listing.files[listing.name_of(file)].md5 for file in every}
            digests = {file: bytes.fromhex(md5) for file, md5 in by_path.items() if md5 is not None}
            of = None if name == WET else settings.evaluate.split
            splits.refuse_shared(layout.splits, layout.root, of, digests, source.is_audible)


def look_at(listing: Listing, songs: Sequence[Song]) -> list[Looked]:
    """The bytes and the length of songs: of WAV and FLAC only their first bytes are read.

    Raises:
        DatasetError: a file cannot be brought, or is no audio.
    """
    source = _Source(listing)
    names = [listing.name_of(path) for song in songs for path in song.files]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        looked = dict(zip(names, pool.map(source.look_at, names), strict=True))
    by_song = [[looked[listing.name_of(path)] for path in song.files] for song in songs]
    return [Looked(sum(one.bytes for one in files), max(one.seconds for one in files)) for files in by_song]


@contextlib.contextmanager
def songs(
    listing: Listing,
    wanted: Mapping[str, Sequence[str]],
    shard: tuple[int, int] | None = None,
    for_normalization: bool = False,
    cache: Path | None = None,
) -> Iterator[Path]:
    """Bring songs; gives a folder with those and nothing else, which is there while the block runs.

    Args:
        listing: of all songs.
        wanted: the splits of each dataset, by any of their names: those that there are, and all if none is named.
        shard: (number, of how many), from 1: only this part of them.
        for_normalization: impulse responses too, and where the songs are from.
        cache: a folder for files by their hashes, where those that are there are not read again; else the one that the
            variable ``FXNORM_DATA_CACHE`` names, if it does.

    Raises:
        DatasetError: there is no such dataset, or a file cannot be brought, or is not what DVC tracks.
    """
    chosen: list[Song] = []
    for dataset, names in wanted.items():
        chosen += shard_of(listing.layout(dataset).present(names), shard)
    files = [listing.name_of(file) for song in chosen for file in song.files]
    if for_normalization:
        files += _records(listing, chosen) + listing.below(IMPULSE_RESPONSES)
    if cache is None and os.environ.get(CACHE_VARIABLE):
        cache = Path(os.environ[CACHE_VARIABLE])
    with tempfile.TemporaryDirectory(prefix="fxnorm-") as folder:
        root = Path(folder, listing.name)
        root.mkdir()
        objects = _Source(listing).bring(files, cache or Path(folder, ".objects"))
        for name, file in objects.items():
            link = root / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.absolute())
        note_fetched(root, listing.hash, files)
        yield root


def _records(listing: Listing, chosen: Sequence[Song]) -> list[str]:
    """The files that tell where songs are from, as :func:`fxnorm.data.provenance.sources_of` reads them."""
    folders = {listing.name_of(song.folder) for song in chosen}
    records = [f"{folder}/{RECORD_FILE}" for folder in sorted(folders)]
    present = [record for record in records if record in listing.files]
    together = next((name for name in (f"{WET}/{PROVENANCE_FILE}", PROVENANCE_FILE) if name in listing.files), None)
    return present if together is None or len(present) == len(records) else [*present, together]


class _Source:
    """Where the files of a listing come from."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._opened: tuple[DVCFileSystem, list[Any]] | None = None

    def bring(self, names: Iterable[str], store: Path) -> dict[str, Path]:
        """Files by their names, each in a folder by its hash; one that is there already is not read again.

        Raises:
            DatasetError: one cannot be brought, or is not what DVC tracks.
        """
        places = {name: store / self._place(self._listing.files[name]) for name in names}
        lacking = {place: name for name, place in places.items() if not _is_whole(place, self._listing.files[name])}
        there = len(set(places.values())) - len(lacking)
        if lacking:
            with _as_user_error(f"{self._listing.repository} at {self._listing.commit}"):
                self._open()
                self._bring_all(lacking)
            sizes = sum(place.stat().st_size for place in lacking)
            _log.info("fetch: %d files, %.1f MB; %d were there", len(lacking), sizes / 1e6, there)
        return places

    def look_at(self, name: str) -> Looked:
        """A file's size and length."""
        file = self._listing.files[name]
        with _as_user_error(f"{self._listing.repository} at {self._listing.commit}"):
            stores = self._open()[1] if file.md5 is not None and Path(name).suffix.lower() in _HEADED else []
        for store in stores:
            place = store.oid_to_path(file.md5)
            with contextlib.suppress(FileNotFoundError), _as_user_error(self._listing.repository):
                size = int(store.fs.info(place)["size"])
                seconds = _seconds_of_head(store.fs.fs.cat_file(place, start=0, end=_HEAD_BYTES), size)
                if seconds is not None:
                    return Looked(size, seconds)
        with tempfile.TemporaryDirectory(prefix="fxnorm-") as folder:
            link = Path(folder, Path(name).name)
            link.symlink_to(self.bring([name], Path(folder, ".objects"))[name])
            return Looked(link.stat().st_size, audio.duration_seconds(link))

    def is_audible(self, song: Song, path: Path) -> bool:
        """Whether a file of a layout is more than silence."""
        with tempfile.TemporaryDirectory(prefix="fxnorm-") as folder:
            name = self._listing.name_of(path)
            # the suffix tells the format
            link = Path(folder, path.name)
            link.symlink_to(self.bring([name], Path(folder, ".objects"))[name])
            return splits.is_audible(song, link)

    def _bring_all(self, lacking: Mapping[Path, str]) -> None:
        pool = ThreadPoolExecutor(_AT_ONCE)
        try:
            waiting = [pool.submit(self._bring_one, place, name) for place, name in lacking.items()]
            for done in tqdm(as_completed(waiting), "fetch", len(waiting), unit="file", mininterval=1.0):
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _bring_one(self, place: Path, name: str) -> None:
        file = self._listing.files[name]
        with whole_file(place) as temporary:
            self._get(file, temporary)
            self._check(file, temporary)

    def _open(self) -> tuple["DVCFileSystem", list[Any]]:
        """DVC's file system at the commit, and the object databases that may have the files by their hashes."""
        if self._opened is None:
            from dvc.api import DVCFileSystem

            one = self._listing
            files = DVCFileSystem(one.repository, rev=one.commit, remote=one.remote or None)
            self._opened = files, _stores(files.repo, one.remote, one.objects)
        return self._opened

    def _get(self, file: ListedFile, target: Path) -> None:
        files, stores = self._open()
        for store in stores if file.md5 is not None else ():
            with contextlib.suppress(FileNotFoundError):
                store.fs.get_file(store.oid_to_path(file.md5), str(target))
                return
        # not by its hash: a remote that keeps versions, or data that were imported from another repository
        files.get_file(f"{self._listing.path}/{file.path}", str(target))

    def _check(self, file: ListedFile, found: Path) -> None:
        """Compare what came with what DVC tracks, as what is made of it will be known by that."""
        from dvc_data.hashfile.hash import file_md5

        if file.md5 is not None:
            same = file_md5(str(found), name=self._listing.objects or "md5") == file.md5
        else:  # of a file that was imported from a store that keeps versions, DVC has no MD5, but its size
            same = found.stat().st_size == file.size
        if not same:
            name = f"{self._listing.path}/{file.path}"
            raise DatasetError(f"{name}: its content is not what DVC tracks; the remote's copy is damaged")

    def _place(self, file: ListedFile) -> str:
        if file.md5 is not None:
            return f"md5/{file.md5[:2]}/{file.md5[2:]}"
        name = hashlib.sha256(f"{self._listing.hash}/{file.path}".encode("utf-8", "surrogatepass")).hexdigest()
        return f"other/{name[:2]}/{name[2:]}"


def _seconds_of_head(head: bytes, size: int) -> float | None:
    """The length of a WAV or FLAC file, by its first bytes and its size; None if they do not tell."""
    try:
        information = soundfile.info(io.BytesIO(head))
    except soundfile.LibsndfileError:
        return None
    if information.format == "FLAC":
        return float(information.frames / information.samplerate)
    width = _WIDTHS.get(information.subtype)
    return None if width is None else size / (width * information.channels * information.samplerate)


def _is_whole(place: Path, file: ListedFile) -> bool:
    """Whether a file was brought before; it has its name since it was whole."""
    return place.is_file() and file.size in (None, place.stat().st_size)


def _stores(repo: Any, remote: str, objects: str | None) -> list[Any]:
    """DVC's object databases with files by a kind of hash: the repository's cache, if it is here, and the remote."""
    from dvc.config import RemoteConfigError

    if objects is None:
        return []
    stores = [repo.cache.local if objects == "md5" else repo.cache.legacy]
    with contextlib.suppress(RemoteConfigError):  # one that keeps versions, or none: DVC's own file system tells
        stores.append(repo.cloud.get_remote_odb(remote or None, "fetch", hash_name=objects))
    return [store for store in stores if store is not None]


def _listed(files: "DVCFileSystem", stores: Sequence[Any], path: str, digest: str) -> list[ListedFile]:
    """The files of a folder, by DVC's list of them where it has one by the folder's hash."""
    for store in stores:
        with contextlib.suppress(FileNotFoundError), store.fs.open(store.oid_to_path(digest), "rb") as file:
            return _of_list(file.read(), path, digest)
    tracked = files.find(path, detail=True)
    if not tracked:
        raise DatasetError(f"{path}: expected files, found none that DVC tracks")
    return [
        ListedFile(
            PurePosixPath(name).relative_to(path).as_posix(),
            information["dvc_info"].get("md5"),
            information["dvc_info"].get("size"),
        )
        for name, information in tracked.items()
    ]


def _of_list(content: bytes, path: str, digest: str) -> list[ListedFile]:
    if f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}.dir" != digest:
        raise DatasetError(f"{path}: the list of its files is not what DVC tracks; the remote's copy is damaged")
    try:
        listed = [ListedFile(one["relpath"], one["md5"], one.get("size")) for one in json.loads(content)]
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected DVC's list of its files, found something else") from error
    if not listed:
        raise DatasetError(f"{path}: expected files, found none that DVC tracks")
    return listed


@contextlib.contextmanager
def _as_user_error(prefix: str) -> Iterator[None]:
    """Raise errors of DVC and git as a :class:`DatasetError`: ``prefix``, then the texts of all causes."""
    from botocore.exceptions import BotoCoreError
    from dvc.exceptions import DvcException
    from dvc_data.index.index import DataIndexDirError
    from scmrepo.exceptions import SCMError

    object_store.send_required_checksums_only()
    try:
        yield
    except (DvcException, DataIndexDirError, SCMError, BotoCoreError, OSError) as error:
        cause: BaseException | None = error
        reasons = []
        while cause is not None:  # the text of the outermost is often no more than "error"
            reasons.append(" ".join(str(cause).split()) or type(cause).__name__)
            cause = cause.__cause__
        raise DatasetError(f"{prefix}: cannot be fetched ({': '.join(dict.fromkeys(reasons))})") from error

"""The hash of a tracked folder in ``NAME.dvc``, and whether the folder still has that hash.

DVC writes one of several hashes there (https://dvc.org/doc/user-guide/project-structure/dvc-files): ``md5`` as a rule;
``files``, each with hashes of its own, where a remote keeps versions; ``etag`` or ``checksum`` where another store's
hash was taken; and for data that was imported and not downloaded only the hash of the source, under ``deps``.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from fxnorm.data.dataset import Song
from fxnorm.errors import DatasetError
from fxnorm.io.files import write_json
from fxnorm.io.folders import files_below

_HASHES = ("md5", "sha256", "etag", "checksum", "version_id")
"""Keys under which a hash may be found, in the order of preference: hashes of the content first."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedFolder:
    """A folder as ``NAME.dvc`` describes it.

    Attributes:
        hash: of the folder's content.
        files: path below the folder -> MD5, where the file lists them; empty where it does not.
        sizes: path below the folder -> bytes, likewise.
        count: number of files, if that is known.
        size: bytes of all of them, if that is known.
        objects: the kind of hash by which a plain remote has the folder's list and its files, ``md5`` or that of DVC 2,
            ``md5-dos2unix``; None where it may not have them so.
        remote: the one that the file names, if it does.
    """

    hash: str
    files: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    count: int | None = None
    size: int | None = None
    objects: str | None = None
    remote: str | None = None


def parse(content: bytes, name: str, where: str) -> TrackedFolder:
    """The description of the folder ``name`` in the ``.dvc`` file beside it.

    Args:
        content: of the file.
        name: of the folder.
        where: the file, for errors.

    Raises:
        DatasetError: it is no such file, does not track the folder, or has no hash of it; one line.
    """
    try:
        stage = yaml.safe_load(content.decode("utf-8"))
        outs = [out for out in stage["outs"] if Path(stage.get("wdir", "."), out["path"]) == Path(name)]
        sources = stage.get("deps") or []
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        conflict = " with a merge conflict in it" if b"<<<<<<<" in content else ""
        raise DatasetError(f"{where}: expected a file that 'dvc add' writes, found another{conflict}") from error
    if not outs:
        raise DatasetError(f"{where}: expected {name} among what it tracks, found it is not")
    for entry in (outs[0], *sources):
        try:
            tracked = _read(entry)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(f"{where}: expected a hash of {name}, found something else") from error
        if tracked is not None:
            in_objects = entry is outs[0] and tracked.hash == entry.get("md5") and tracked.hash.endswith(".dir")
            objects = str(entry.get("hash") or "md5-dos2unix") if in_objects else None
            return replace(tracked, objects=objects, remote=outs[0].get("remote"))
    raise DatasetError(f"{where}: expected a hash of {name} ({', '.join(_HASHES)} or files), found none")


def version_of(root: Path, songs: Iterable[Song]) -> str | None:
    """The hash by which DVC knows the folder that songs are from, if it is one that DVC tracks.

    The file is ``NAME.dvc`` beside ``root`` or beside the nearest folder above it that has one. In a stage that DVC
    runs, DVC has just checked that the folder has this hash. Elsewhere the folder may have changed since it was
    tracked; so the songs' files are compared with DVC's list of files and hashes, or, where there is no such list
    (a copy without DVC's cache), the number and size of all files. If they differ, or if the file cannot be used, that
    is logged in one line and the result is None. Of a folder with some of the songs alone, :func:`note_fetched` has
    left the hash.
    """
    absolute = root.absolute()
    for folder in [absolute, *absolute.parents][:-1]:
        if (fetched := _fetched_file(folder)).is_file():
            return _version_of_fetched(fetched, folder, songs)
        file = folder.with_name(f"{folder.name}.dvc")
        if file.is_file():
            break
    else:
        return None
    try:
        tracked = parse(file.read_bytes(), folder.name, str(file))
        difference = None if _in_dvc_stage(file) else _difference(folder, tracked, list(songs))
    except OSError as error:
        _log.warning("%s: cannot be read (%s); the data's version is not noted", file, error.strerror or error)
        return None
    except DatasetError as error:
        _log.warning("%s; the data's version is not noted", error)
        return None
    if difference is not None:
        _log.warning("%s: is of other data than lies there now (%s); its hash is not noted", file, difference)
        return None
    return tracked.hash


def note_fetched(folder: Path, digest: str, files: Iterable[str]) -> None:
    """Note beside a folder that single files of what DVC tracks were brought there, each with the content it tracks.

    Args:
        folder: the folder.
        digest: of all that DVC tracks there.
        files: those that were brought, as paths below the folder.
    """
    sizes = {name: (folder / name).stat().st_size for name in files}
    write_json(_fetched_file(folder), {"hash": digest, "sizes": sizes})


def _fetched_file(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.fetched.json")


def _version_of_fetched(file: Path, folder: Path, songs: Iterable[Song]) -> str | None:
    try:
        content = json.loads(file.read_bytes())
        digest, sizes = str(content["hash"]), dict(content["sizes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{file}: expected what was fetched, as fxnorm notes it, found something else") from error
    for path in (path.absolute() for song in songs for path in song.files):
        name = path.relative_to(folder).as_posix()
        if sizes.get(name) != path.stat().st_size:
            _log.warning("%s: differs from what was fetched; the data's version is not noted", path)
            return None
    return digest


def _read(entry: dict[str, Any]) -> TrackedFolder | None:
    """The description in an entry of ``outs`` or ``deps``; None if it has no hash."""
    for key in _HASHES:
        if entry.get(key):
            return TrackedFolder(str(entry[key]), count=entry.get("nfiles"), size=entry.get("size"))
    if entry.get("files"):
        return _of_files(entry["files"])
    for remote in (entry.get("cloud") or {}).values():  # one file, whose remote keeps versions
        return _read(remote)
    revision = (entry.get("repo") or {}).get("rev_lock")
    return TrackedFolder(str(revision)) if revision else None


def _of_files(files: Sequence[dict[str, Any]]) -> TrackedFolder:
    by_path = {str(each["relpath"]): each for each in files}
    hashes = {path: str(read.hash) for path, each in by_path.items() if (read := _read(each)) is not None}
    if len(hashes) < len(files):
        raise ValueError("a file without a hash")
    all_md5 = all(each.get("md5") for each in files)
    # where all are MD5, the very hash that DVC has for such a folder without versions
    listed = [{"md5" if all_md5 else "hash": hashes[path], "relpath": path} for path in sorted(hashes)]
    digest = hashlib.md5(json.dumps(listed, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
    sizes = {path: int(each["size"]) for path, each in by_path.items() if "size" in each}
    return TrackedFolder(f"{digest}.dir", hashes if all_md5 else {}, sizes, len(files))


def _in_dvc_stage(file: Path) -> bool:
    """Whether this process is a stage of ``dvc repro`` in the repository of a ``.dvc`` file."""
    root = os.environ.get("DVC_ROOT") if os.environ.get("DVC_STAGE") else None
    return root is not None and file.resolve().is_relative_to(Path(root).resolve())


def _difference(folder: Path, tracked: TrackedFolder, songs: Sequence[Song]) -> str | None:
    """The first difference between the folder on disk and DVC's description of it, or None."""
    files = tracked.files or _listed_in_cache(folder, tracked.hash)
    if files or tracked.sizes:
        read = {path.absolute().relative_to(folder).as_posix(): path for song in songs for path in song.files}
        song_folders = {song.folder.parent.absolute().relative_to(folder).as_posix() for song in songs}
        for name in files or tracked.sizes:
            if not (folder / name).is_file() and Path(name).parent.parent.as_posix() in song_folders:
                return f"{name} is missing"
        with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
            for name, digest_or_size in zip(read, pool.map(_md5 if files else _size, read.values()), strict=True):
                if digest_or_size != (files or tracked.sizes).get(name):
                    return f"{name} differs"
        return None
    everything = [path for path in folder.rglob("*") if path.is_file()]
    without_foreign = files_below(folder)
    for unit, expected, total in (("files", tracked.count, len), ("bytes", tracked.size, _bytes)):
        if expected is not None and expected not in (total(everything), total(without_foreign)):
            return f"{expected} {unit} tracked, {total(everything)} found"
    return None


def _listed_in_cache(folder: Path, digest: str) -> dict[str, str]:
    """Path -> MD5 of what DVC's cache lists under a folder's hash; empty if the list is not in the usual place."""
    if not digest.endswith(".dir"):
        return {}
    for root in folder.parents:
        for cache in (root / ".dvc/cache/files/md5", root / ".dvc/cache"):
            listing = cache / digest[:2] / digest[2:]
            if listing.is_file():
                return {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_bytes())}
    return {}


def _md5(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size


def _bytes(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)

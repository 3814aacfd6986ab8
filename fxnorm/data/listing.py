"""What a tracked dataset holds, known from DVC's list of its files: its songs, and by which hash each file is found.

A task on a cluster works on some of the songs. It finds out from a listing which these are, and brings their files
alone. Songs and splits are those of :class:`fxnorm.data.dataset.Layout`, which sees the names of all files.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from fxnorm.data.dataset import Layout, Song, Unused
from fxnorm.data.shards import Whole
from fxnorm.data.splits import songs_of
from fxnorm.errors import DatasetError, first_line, printable
from fxnorm.io import bounded
from fxnorm.io.files import write_packed_json
from fxnorm.io.folders import entries

DATASETS = ("wet", "dry")
"""The datasets in a tracked folder."""
LISTING_FILE = "listing.json.gz"

_LARGEST = 2**32  # bytes of the JSON: a song takes some 700
_SCHEMA = 1


@dataclass(frozen=True)
class ListedFile:
    """A file that DVC tracks.

    Attributes:
        path: below the tracked folder.
        md5: of its content; None where DVC has no such hash, as of a store that keeps versions.
        size: bytes, where they are known.
    """

    path: str
    md5: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Listing:
    """The files of a folder that a repository tracks at a commit, and the songs that they are.

    Attributes:
        repository: its address.
        commit: of the repository.
        path: the tracked folder in it.
        remote: name of the DVC remote; empty for the default one.
        hash: by which DVC tracks the folder.
        objects: the kind of hash by which a remote has its files; see :class:`fxnorm.data.dvc_file.TrackedFolder`.
        files: by their paths below the folder.
        layouts: of the datasets ``wet`` and ``dry``, those that there are. Their paths begin with the folder's name,
            and lead to nothing.
    """

    repository: str
    commit: str
    path: str
    remote: str
    hash: str
    objects: str | None
    files: Mapping[str, ListedFile]
    layouts: Mapping[str, Layout] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        repository: str,
        commit: str,
        path: str,
        remote: str,
        digest: str,
        objects: str | None,
        files: Iterable[ListedFile],
    ) -> "Listing":
        """The listing of these files.

        Raises:
            DatasetError: a name leads out of the folder, or cannot be one of a file.
        """
        by_path = {file.path: file for file in files}
        for name in by_path:
            if not _is_below(name):
                raise DatasetError(f"{path}: {printable(repr(name), 200)}: no name of a file below it")
        layouts = _layouts(PurePosixPath(path).name, by_path)
        return cls(repository, commit, path, remote, digest, objects, by_path, layouts)

    @property
    def name(self) -> str:
        """Of the tracked folder."""
        return PurePosixPath(self.path).name

    def layout(self, dataset: str) -> Layout:
        """The songs of ``wet`` or ``dry``.

        Raises:
            DatasetError: there is no such dataset.
        """
        if dataset not in self.layouts:
            raise DatasetError(f"{self.path}/{dataset}: no such folder; expected a dataset")
        return self.layouts[dataset]

    def whole(self, names: Sequence[str]) -> Whole:
        """What shards of some splits of ``wet`` are a part of.

        Raises:
            DatasetError: a split or its songs are missing.
        """
        counts = {name: len(songs) for name, songs in songs_of(self.layout("wet"), names).items()}
        return Whole(counts=counts, dvc=self.hash)

    def name_of(self, path: Path) -> str:
        """A path of a layout as one below the tracked folder."""
        return path.as_posix().removeprefix(f"{self.name}/")

    def below(self, folder: str) -> list[str]:
        """The files in a folder and the folders below it."""
        return [name for name in self.files if name.startswith(f"{folder}/")]

    def save(self, file: Path) -> None:
        """Write it: the same bytes for the same listing."""
        content = {
            "schema": _SCHEMA,
            **{name: getattr(self, name) for name in ("repository", "commit", "path", "remote", "hash", "objects")},
            "files": [[one.path, one.md5, one.size] for one in self.files.values()],
            "layouts": {name: _layout_as_json(layout) for name, layout in self.layouts.items()},
        }
        write_packed_json(file, content)

    @classmethod
    def load(cls, file: Path) -> "Listing":
        """Read what :meth:`save` wrote.

        Raises:
            DatasetError: it is not there, or something else.
        """
        try:
            content = bounded.read_packed_json(file, _LARGEST)
            if content["schema"] != _SCHEMA:
                raise ValueError(f"schema {content['schema']}")
            return cls(
                **{name: content[name] for name in ("repository", "commit", "path", "remote", "hash", "objects")},
                files={name: ListedFile(name, md5, size) for name, md5, size in content["files"]},
                layouts={name: _layout_of_json(layout) for name, layout in content["layouts"].items()},
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            detail = printable(first_line(error), 200)
            raise DatasetError(f"{file}: expected a listing of songs as fxnorm writes it ({detail})") from error


def _is_below(name: str) -> bool:
    parts = name.split("/")
    return all(part not in ("", ".", "..") for part in parts) and "\0" not in name


def _layouts(name: str, files: Mapping[str, ListedFile]) -> dict[str, Layout]:
    """What :class:`Layout` makes of the names, from empty files with them.

    The working directory is changed meanwhile, so that paths in layouts and errors begin with the folder's name.
    """
    with tempfile.TemporaryDirectory(prefix="fxnorm-", ignore_cleanup_errors=True) as folder:
        root = Path(folder, name)
        _lay_out(root, (file for file in files if file.partition("/")[0] in DATASETS))
        with contextlib.chdir(folder):
            present = [Path(name, dataset) for dataset in DATASETS]
            return {path.name: Layout.read(path) for path in present if path.is_dir() and entries(path)}


def _lay_out(root: Path, names: Iterable[str]) -> None:
    made = set[str]()
    for name in names:
        path = f"{root}/{name}"
        parent = path.rpartition("/")[0]
        try:
            if parent not in made:
                os.makedirs(parent, exist_ok=True)
                made.add(parent)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as error:
            shown = printable(repr(name), 200)
            raise DatasetError(f"{root.name}: {shown}: cannot be a file here ({error.strerror})") from error


def _layout_as_json(layout: Layout) -> dict[str, Any]:
    return {
        "root": layout.root.as_posix(),
        "splits": {
            split: [layout.folders[split].name, [_song_as_json(song) for song in songs]]
            for split, songs in layout.splits.items()
        },
        "flat": [_song_as_json(song) for song in layout.flat],
        "unused": [[one.path.as_posix(), one.reason, one.holds_audio, one.is_file] for one in layout.unused],
        "problems": {path.as_posix(): text for path, text in layout.problems.items()},
    }


def _song_as_json(song: Song) -> list[Any]:
    stems = {stem: path.name for stem, path in song.stems.items()}
    mixture = None if song.mixture is None else song.mixture.name
    return [song.folder.name, stems, mixture, [path.name for path in song.other_mixtures]]


def _layout_of_json(content: Mapping[str, Any]) -> Layout:
    root = Path(content["root"])
    return Layout(
        root,
        {
            split: [_song_of_json(root / folder, *song) for song in songs]
            for split, (folder, songs) in content["splits"].items()
        },
        [_song_of_json(root, *song) for song in content["flat"]],
        [Unused(Path(path), reason, audio, is_file) for path, reason, audio, is_file in content["unused"]],
        {Path(path): text for path, text in content["problems"].items()},
        {split: root / folder for split, (folder, _) in content["splits"].items()},
    )


def _song_of_json(
    parent: Path, name: str, stems: Mapping[str, str], mixture: str | None, others: Sequence[str]
) -> Song:
    folder = parent / name
    return Song(
        name,
        folder,
        {stem: folder / file for stem, file in stems.items()},
        None if mixture is None else folder / mixture,
        tuple(folder / file for file in others),
    )

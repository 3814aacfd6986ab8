"""Files of users in a folder, distinguished from those that an operating system, an editor or a download left there.

All of the library lists folders with these functions, so that no such file is taken for audio, for a listener's answers
or for a part of what a result depends on. ``.dvcignore`` lists the same names for DVC.
"""

import contextlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_NAMES = frozenset({
    "__macosx", "icon\r", "network trash folder", "temporary items",  # macOS
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "folder.htt",  # Windows
    "$recycle.bin", "recycler", "system volume information", "found.000",
    "lost+found",  # Linux's file systems
    "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot",  # network stores
    "__pycache__", "node_modules", "cvs",  # tools
})  # fmt: skip
"""Without upper case. Names that begin with a dot are left out anyway: ``._a.wav``, ``.DS_Store``, ``.~lock.a#``,
``.a.wav.swp``, ``.ipynb_checkpoints``, and the temporary names of :mod:`fxnorm.io.files`."""

_CACHE_HOME = "XDG_CACHE_HOME"

_FILE_STARTS = ("~$", "~syncthing~", "~wrl")
_FILE_ENDS = (
    "~", ".tmp", ".temp", ".part", ".partial", ".filepart", ".crdownload", ".download", ".opdownload", ".aria2",
    ".!ut", ".swp", ".swo", ".bak", ".orig", ".rej", ".lock",
)  # fmt: skip
"""Of files alone: a song may well be called ``Suite, second.part``."""


_LITTER = re.compile(r"\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.directory|\.nfs[0-9a-f]+")


def is_litter(name: str) -> bool:
    """Whether a file manager or a network share left a file of this name, so that it may go with its folder.

    These are fewer than :func:`is_foreign` passes over: a backup or a hidden file is no input, but may be a user's
    only copy.
    """
    return _LITTER.fullmatch(name) is not None


def is_foreign(name: str, folder: bool = False) -> bool:
    """Whether a file or folder of this name was left by a system, an editor or a download, or is hidden.

    Args:
        name: without the folders above.
        folder: whether a folder has the name.
    """
    plain = unicodedata.normalize("NFC", name).casefold()
    if plain.startswith(".") or plain in _NAMES:
        return True
    if folder:
        return False
    return plain.startswith(_FILE_STARTS) or plain.endswith(_FILE_ENDS) or (plain[:1] == "#" and plain[-1:] == "#")


def is_foreign_path(path: str) -> bool:
    """Whether :func:`is_foreign` holds for a file or for a folder above it.

    Args:
        path: parts with ``/`` between; ``.`` and ``..`` are no folders.
    """
    *above, file = PurePosixPath(path).parts
    return is_foreign(file) or any(is_foreign(part, folder=True) for part in above if part not in (".", ".."))


def cache_folder() -> Path:
    """Where what can be made again is kept for the user: ``$XDG_CACHE_HOME/fxnorm``, or ``~/.cache/fxnorm``."""
    return Path(os.environ.get(_CACHE_HOME) or Path.home() / ".cache") / "fxnorm"


@contextlib.contextmanager
def task_folder() -> Iterator[Path]:
    """A folder for the files of a task, on the disk for temporary files and removed at its end.

    The cache of songs in a store is in it too, where the environment names no other place.
    """
    with tempfile.TemporaryDirectory() as name:
        is_elsewhere = _CACHE_HOME in os.environ
        os.environ.setdefault(_CACHE_HOME, str(Path(name) / "cache"))
        try:
            yield Path(name)
        finally:
            if not is_elsewhere:
                del os.environ[_CACHE_HOME]


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, by name, without what is foreign."""
    return sorted(path for path in folder.iterdir() if not is_foreign(path.name, path.is_dir()))


def files_below(folder: Path) -> list[Path]:
    """The files in a folder and in the folders below it, by path, without what is foreign or lies in such a folder.

    Links to files count; links to folders are not followed. A folder that is not there has none.
    """
    return sorted(_walk(folder))


@contextlib.contextmanager
def without_foreign(folder: Path) -> Iterator[Path]:
    """A folder of the same name with links to its files alone, for what takes whole folders, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="fxnorm-") as temporary:
        linked = Path(temporary) / folder.name
        linked.mkdir()
        for file in files_below(folder):
            link = linked / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file.absolute())
        yield linked


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not is_foreign(name, folder=True)]
        yield from (Path(parent) / name for name in files if not is_foreign(name))

"""Files that are either whole or not there: write under a temporary name, move into place when done.

What a file holds is on the disk before it gets its name, so a machine that loses its power leaves no empty file either.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fxnorm.errors import FxnormError


def _new_file_mode() -> int:
    """The permission bits a plain ``open`` would give; ``mkstemp`` alone makes files nobody else can read."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _to_disk(path: Path) -> None:
    """Have the system write a file's content, or a folder's names, to the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that becomes ``path`` when the block ends well, and vanishes if it does not.

    The suffix is kept, because writers such as soundfile and NumPy choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(_new_file_mode())
        _to_disk(temporary)
        os.replace(temporary, path)
        _to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """For a block that writes a file that a user named.

    Raises:
        FxnormError: the system refuses to write it; one line that names it.
    """
    try:
        yield
    except OSError as error:
        raise FxnormError(f"{path}: cannot be written ({error.strerror or error})") from error


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """As :func:`whole_file`, for a folder; an older folder of that name is replaced."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(_new_file_mode() | 0o111)
        for content in [*temporary.rglob("*"), temporary]:
            _to_disk(content)
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
        _to_disk(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """``content`` as indented JSON; NaN and infinity are refused, because JSON has no word for them."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")

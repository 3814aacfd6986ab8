"""Where a command may write, decided before its work begins: nothing is deleted that it did not make.

An output is no input, holds none and lies in none. A folder is new, empty, or an older output of the same command,
which is recognized by the names in it or, where those can be any, by a list of them that the command left there. The
working folder is never an output.
"""

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fxnorm.errors import OutputError, system_reason
from fxnorm.io.files import (
    is_temporary,
    real_folder,
    recover,
    refuse_filled,
    refuse_working_folder,
    remove,
    write_json,
    writing,
)
from fxnorm.io.folders import is_litter

MARKER = ".fxnorm.json"
"""Lists what a command made in a folder in which names can be any."""

_PICTURES = (".png", ".svg", ".pdf")
_LONGEST_NAME = 255  # bytes


@dataclass(frozen=True)
class Contents:
    """The files that a command makes in a folder, by which an older output is distinguished from any other folder.

    Attributes:
        description: of such a folder, in errors, such as "a Mixer".
        names: a regular expression for the paths of its files within the folder.
        foreign: for names that other folders may have too: looks into the folder; returns the first file that is not
            the command's.
        listed_by: who leaves a list of what it made there (:func:`mark`), which then decides.
    """

    description: str
    names: str
    foreign: Callable[[Path], str | None] = lambda folder: None
    listed_by: str | None = None

    def refuse_others(self, folder: Path) -> None:
        """Refuse a folder that holds anything that the command did not make.

        Raises:
            OutputError: it does; the text names the first such file.
        """
        listed = None if self.listed_by is None else _listed(folder, self.listed_by)
        foreign_name = next((name for name in _files(folder) if not self._makes(name, listed)), None)
        if foreign_name is None and listed is None and any(_files(folder)):
            foreign_name = self.foreign(folder)
        if foreign_name is not None:
            raise OutputError(
                f"{folder}: holds {foreign_name}, which is no part of {self.description}; expected a new or"
                f" empty folder, or {self.description}"
            )

    def _makes(self, name: str, listed: set[str] | None) -> bool:
        return name in listed or name == MARKER if listed is not None else bool(re.fullmatch(self.names, name))


def mark(folder: Path, made_by: str) -> None:
    """List what is in ``folder`` as made by a command; the same content gives the same bytes."""
    write_json(folder / MARKER, {"made_by": made_by, "names": [name for name in files_in(folder) if name != MARKER]})


def files_in(folder: Path) -> list[str]:
    """The paths of all files below ``folder``, sorted, but for those that are being written and those of systems.

    A symbolic link counts as a file, whatever it leads to.
    """
    return sorted(_files(folder))


def _files(folder: Path) -> Iterator[str]:
    """What :func:`files_in` gives, one at a time: the first foreign one is enough to refuse a large folder."""
    if not folder.exists():
        return
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not is_temporary(name)]
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        within = os.path.relpath(parent, folder)
        for name in [*files, *links]:
            if not is_temporary(name) and not is_litter(name):
                yield os.path.normpath(os.path.join(within, name)).replace(os.sep, "/")


@dataclass(frozen=True)
class Folder:
    """A folder that a command writes.

    Attributes:
        path: as the user named it.
        refuse: raises an error if an older one holds what must not be lost; the default is anything at all.
        whole: whether it is replaced as a whole, and not only added to or changed.
    """

    path: Path
    refuse: Callable[[Path], None] = refuse_filled
    whole: bool = True


def check(
    inputs: Iterable[str | Path | None],
    folders: Sequence[Folder] = (),
    files: Iterable[Path | None] = (),
    places: Iterable[Path] = (),
) -> None:
    """Refuse outputs of a command that would overwrite other files, or that cannot be written.

    Args:
        inputs: files and folders that the command reads; addresses that are no paths, and None, are passed over.
        folders: those that the command writes.
        files: those that the command writes.
        places: folders that the command adds something to, and removes nothing from but that.

    Raises:
        OutputError: the first that cannot be an output; one line.
    """
    read = [Path(path) for path in inputs if path is not None]
    written = [path for path in files if path is not None]
    for folder in folders:
        with writing(folder.path):
            _check_folder(folder, read)
    for file in written:
        with writing(file):
            _check_file(file, read)
    for target in places:
        with writing(target):
            _check_added_to(target, read)
    for number, file in enumerate(written):
        for folder in folders:
            _refuse_within(file, folder.path)
        for other in written[:number]:
            if os.path.realpath(file) == os.path.realpath(other) or _same(file, other):
                raise OutputError(f"{file}: is another output of this command as well; expected two files")
    for target in places:
        for folder in folders:
            _refuse_within(target, folder.path)


def refuse_inputs(outputs: Iterable[Path | None], inputs: Iterable[str | Path | None]) -> None:
    """Refuse outputs that are inputs, or folders that hold one.

    Raises:
        OutputError: the first of them.
    """
    for output in outputs:
        for read in inputs:
            if output is not None and read is not None:
                _refuse_relation(output, Path(read), lies=False)


def check_picture(path: Path | None) -> None:
    """Refuse the name of a picture whose suffix is not that of a supported format.

    Raises:
        OutputError: the suffix is another.
    """
    if path is not None and path.suffix.lower() not in _PICTURES:
        raise OutputError(f"{path}: expected a file name that ends in {' or '.join(_PICTURES)}")


def named_after(output: Path, suffix: str) -> Path:
    """The name of what a command leaves beside the folder ``output``.

    Raises:
        OutputError: ``output`` is spelled without a name, such as ``.``.
    """
    if output.name in ("", ".."):
        refuse_working_folder(output)
        raise OutputError(f"{output}: expected a folder with a name, found {output}")
    return output.with_name(f"{output.name}{suffix}")


def remove_outputs(folder: Path, names: str) -> None:
    """Remove the files and folders of ``folder`` whose names match, and the folder if nothing else is in it."""
    if folder.is_dir():
        for name in os.listdir(folder):
            if re.fullmatch(names, name) or is_temporary(name):
                remove(folder / name)
        with contextlib.suppress(OSError):  # other files in it stay
            folder.rmdir()


def _check_folder(folder: Folder, inputs: Sequence[Path]) -> None:
    refuse_working_folder(folder.path)
    target = real_folder(folder.path)
    if folder.whole and os.path.ismount(target):
        raise OutputError(
            f"{folder.path}: a file system is mounted there, so it cannot be replaced; name a folder in it"
        )
    for read in inputs:
        _refuse_relation(folder.path, read)
    _probe(target if folder.whole else target / "new", folder.path)
    recover(target)
    folder.refuse(folder.path)


def _check_file(file: Path, inputs: Sequence[Path]) -> None:
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(file).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(file))
        if not stat.S_ISREG(mode):
            raise OutputError(f"{file}: expected the name of a file, found a device or a pipe")
    for read in inputs:
        _refuse_relation(file, read)
    _probe(file, file)


def _check_added_to(target: Path, inputs: Sequence[Path]) -> None:
    real = real_folder(target)
    for read in inputs:
        _refuse_relation(target, read, holds=False)
    _probe(real / "new", target)


def _refuse_within(path: Path, folder: Path) -> None:
    """Refuse an output in a folder that is made as a whole."""
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise OutputError(f"{path}: lies in {folder}, another output of this command; name a place outside of it")


def _refuse_relation(output: Path, read: Path, holds: bool = True, lies: bool = True) -> None:
    """By what the file system knows, not by spelling: links, mounts and upper case have other names for one thing."""
    identity = _identity(read)
    if identity is None:
        return
    if _identity(output) == identity:
        raise OutputError(f"{output}: is an input of this command, {read}; name another place for what is made")
    if holds and output.is_dir() and _identity(output) in _identities_above(read):
        raise OutputError(f"{output}: holds an input of this command, {read}; name another place for what is made")
    if lies and read.is_dir() and identity in _identities_above(output):
        raise OutputError(f"{output}: lies in an input of this command, {read}; name a place outside of it")


def _same(first: Path, second: Path) -> bool:
    return _identity(first) is not None and _identity(first) == _identity(second)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _identities_above(path: Path) -> set[tuple[int, int]]:
    """Of all folders that ``path`` really lies in."""
    above = Path(os.path.realpath(path)).parents
    return {identity for folder in above if (identity := _identity(folder)) is not None}


def _probe(path: Path, named: Path) -> None:
    """Write something where ``path`` is going to be, or in the nearest folder above it that is there.

    Raises:
        OutputError: the system refuses; the text names ``named``, which is what the user gave.
    """
    try:
        if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with contextlib.suppress(FileNotFoundError):
            os.lstat(path)
        folder = path.parent
        while not os.path.lexists(folder):
            folder = folder.parent
        probe = folder / f".fxnorm.fxnorm-{os.urandom(4).hex()}"
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(probe)
    except OSError as error:
        raise OutputError(f"{named}: cannot be written ({system_reason(error)})") from error


def _listed(folder: Path, made_by: str) -> set[str] | None:
    """The names in a folder's marker; None if it has none, or that of another command."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return {str(name) for name in marker["names"]} if marker["made_by"] == made_by else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _raise(error: OSError) -> None:
    raise error

"""Looking into a source: folders, files that metadata name, and metadata themselves.

A source may come from anywhere. Nothing outside of it is read, whatever a link or a path in its metadata says, and
metadata are read within the bounds of :mod:`fxnorm.io.bounded`. Files that systems leave (``._a.wav``, ``__MACOSX``)
are passed over everywhere.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from fxnorm.errors import DatasetError, first_line, printable, system_reason
from fxnorm.io import bounded
from fxnorm.io.folders import entries

Shape = TypeVar("Shape", bound=BaseModel)

LARGEST_METADATA = 2**24  # bytes
_MOST_VALUES = 1_000_000
"""Of a YAML file with metadata: a table of all songs of a dataset has some 10,000."""


@dataclass(frozen=True)
class Source:
    """The folder that a dataset lies in.

    Attributes:
        root: as the user named it; a link is followed, and nothing outside of where it leads to is read.
    """

    root: Path

    @classmethod
    def open(cls, root: Path) -> "Source":
        """A source that is there.

        Raises:
            DatasetError: it is no folder.
        """
        if not root.is_dir():
            raise DatasetError(
                f"{root}: expected the folder of a dataset, found {'a file' if root.exists() else 'nothing'}"
            )
        return cls(root)

    def name(self, path: Path) -> str:
        """The path of a file or folder within the source, with ``/``."""
        return path.relative_to(self.root).as_posix()

    def folders(self, folder: Path | None = None) -> list[Path]:
        """The folders in a folder, by default in the source itself, by name.

        Raises:
            DatasetError: one is a link that leaves the source, or the system does not let the folder be read.
        """
        return [path for path in self._entries(folder) if path.is_dir()]

    def files(self, folder: Path | None = None) -> list[Path]:
        """The files in a folder, likewise."""
        return [path for path in self._entries(folder) if path.is_file()]

    def file(self, path: Path, named_in: Path | None = None) -> Path | None:
        """A file within the source, or None where there is none.

        Args:
            path: of the file, as metadata or a layout have it.
            named_in: the file with metadata that names it, for the text of the error.

        Raises:
            DatasetError: the path leaves the source.
        """
        self._refuse_leaving(path, named_in)
        return path if path.is_file() else None

    def file_in(self, folder: Path, name: str, named_in: Path) -> Path | None:
        """The file that metadata call ``name``, in a folder of the source; None where there is none.

        Raises:
            DatasetError: the name is that of a file outside of the source, or no name of a file.
        """
        if "\0" in name or not name:
            raise DatasetError(f"{named_in}: expected the name of a file, found {printable(repr(name))}")
        return self.file(folder / name, named_in)

    def _entries(self, folder: Path | None) -> list[Path]:
        folder = self.root if folder is None else folder
        try:
            found = entries(folder)
        except OSError as error:
            raise DatasetError(f"{folder}: cannot be read ({system_reason(error)})") from error
        for path in found:
            if path.is_symlink():
                self._refuse_leaving(path, None)
        return found

    def _refuse_leaving(self, path: Path, named_in: Path | None) -> None:
        """By where a path really leads: through links, and through ``..``."""
        if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self.root)):
            return
        if named_in is None:
            target = printable(os.readlink(path) if path.is_symlink() else os.path.realpath(path), 200)
            raise DatasetError(f"{path}: leads to {target}, which leaves the source {self.root}")
        name = printable(os.path.relpath(path, named_in.parent), 200)
        raise DatasetError(f"{named_in}: {name} leaves the source {self.root}")


def read_yaml(path: Path, shape: type[Shape]) -> Shape:
    """Metadata in YAML.

    Args:
        path: the file.
        shape: a pydantic model of what it holds; keys that the model does not have should be ignored.

    Raises:
        DatasetError: it cannot be read, is no YAML or of another shape; one line that names the file.
    """
    return _shaped(path, shape, plain_yaml(path))


def read_json(path: Path, shape: type[Shape], most_bytes: int = LARGEST_METADATA) -> Shape:
    """Metadata in JSON; as :func:`read_yaml`. A file of more than ``most_bytes`` is not read."""
    return _shaped(path, shape, plain_json(path, most_bytes))


def plain_yaml(path: Path) -> Any:
    """What a YAML file holds, of any shape.

    Raises:
        DatasetError: it cannot be read, or is no YAML.
    """
    try:
        return bounded.read_yaml(path, _MOST_VALUES)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({system_reason(error)})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not readable as YAML ({_reason(error)})") from error


def plain_json(path: Path, most_bytes: int = LARGEST_METADATA) -> Any:
    """What a JSON file of at most ``most_bytes`` holds, of any shape.

    Raises:
        DatasetError: it cannot be read, or is no JSON.
    """
    try:
        return bounded.read_json(path, most_bytes)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({system_reason(error)})") from error
    except ValueError as error:
        raise DatasetError(f"{path}: not readable as JSON ({_reason(error)})") from error


def _shaped(path: Path, shape: type[Shape], content: Any) -> Shape:
    try:
        return shape.model_validate(content)
    except ValidationError as error:
        raise DatasetError(f"{path}: {misfit(error)}") from error


def misfit(error: ValidationError) -> str:
    """The first thing in which content differs from a shape, in one line with its key."""
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    found = printable(repr(first["input"]))
    return f"{printable(key) + ': ' if key else ''}{first['msg'].lower()}, found {found}"


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {printable(str(error.problem or error.context), 200)}"
    return printable(first_line(error), 200)

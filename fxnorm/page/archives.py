"""Files out of a zip archive that came from a browser: as many and as large as the limits allow, whatever it says."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from fxnorm.data.importers.archives import extract
from fxnorm.errors import DatasetError, first_line, printable
from fxnorm.io import bounded
from fxnorm.io.folders import is_foreign_path
from fxnorm.page import labels
from fxnorm.page.refusal import Refused

_ENTRY_BYTES = 1_200  # of an entry in an archive's directory: its name, and some more


def unpack(archive: Path, most_files: int, most_bytes: int, place_of: Callable[[str, int], Path | None]) -> None:
    """Unpack the files of an archive.

    Args:
        archive: the zip file.
        most_files: the most files that it may hold, those that are passed over included.
        most_bytes: of all of them together.
        place_of: gives the file to write for a label and a size; None where it shall be passed over.

    Raises:
        Refused: it is no zip archive, is encrypted or damaged, holds too much, or a name leaves the folder.
    """
    try:
        with open(archive, "rb") as file:
            bounded.refuse_large_directory(file, _ENTRY_BYTES * most_files)
            with zipfile.ZipFile(file) as opened:
                members = [member for member in opened.infolist() if not member.is_dir()]
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise Refused(422, f"not readable as a zip archive ({printable(first_line(error), 200)})") from error
    if len(members) > most_files:
        raise Refused(422, f"{len(members)} files, expected at most {most_files}")
    if (total := sum(member.file_size for member in members)) > most_bytes:
        raise Refused(422, f"{total} bytes when unpacked, expected at most {most_bytes}")
    names = [labels.label(member.filename) for member in members]  # all of them, before one is unpacked
    for member, name in zip(members, _below_common_folder(names), strict=True):
        place = place_of(name, member.file_size)
        if place is None:
            continue
        try:
            extract(archive, member.filename, place)
        except DatasetError as error:
            raise Refused(422, str(error).removeprefix(f"{archive}: ")) from error


def _below_common_folder(names: list[str]) -> list[str]:
    """The names without the folder that all of them lie in, as a dropped folder's are; ``__MACOSX`` is beside it."""
    tops = {name.partition("/")[0] for name in names if "/" in name and not is_foreign_path(name)}
    if len(tops) != 1 or any("/" not in name for name in names if not is_foreign_path(name)):
        return names
    return [name.removeprefix(f"{next(iter(tops))}/") for name in names]

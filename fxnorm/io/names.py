"""Names that people chose, as a part of an address: of a folder, a file, an artifact, an object's key, a link, a URL.

A song may be called ``Who Are You?``, and what follows the question mark of an address is no part of the path. So only
plain names stand in addresses as they are; others get a name made of what is plain in them and of a short hash.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePath

from fxnorm.errors import DatasetError, printable

SONG_FILE = "song.json"
"""In a folder that is not called as its song is: the song's name."""

_LONGEST_BYTES = 100
"""A temporary name beside it, or a suffix, must fit into the 255 bytes of a file system as well."""
_SLUG_LETTERS = 60
_HASH_DIGITS = 12
_PLAIN_SIGNS = " -_.,()'"
# devices of Windows, whatever suffix follows
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_HASHED_NAME = re.compile(rf".*-[0-9a-f]{{{_HASH_DIGITS}}}")
_PLAIN_CATEGORIES = ("L", "N")
"""Of Unicode: letters and digits of every script."""


def address_part(name: str) -> str:
    """A name as one part of an address: itself if it is plain, else a readable beginning of it and a hash.

    Plain are letters, digits, blanks and ``-_.,()'`` in Unicode's composed form (NFC), neither beginning nor ending
    with a sign that a shell, a file system or a web server treats in its own way. The parts of two names differ; those
    of :func:`addresses` do so also where upper and lower case are one.
    """
    # a plain name that ends as those made here do could be the part of another name
    return name if _is_plain(name) and not _HASHED_NAME.fullmatch(name) else hashed_part(name)


def hashed_part(name: str) -> str:
    """A readable beginning of a name, and a hash of all of it, in characters that are safe everywhere."""
    decomposed = unicodedata.normalize("NFKD", name)
    ascii_letters = decomposed.encode("ascii", "ignore").decode("ascii")
    slug = re.sub(r"[^A-Za-z0-9]+", "-", ascii_letters)[:_SLUG_LETTERS].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_DIGITS]
    return f"{slug or 'song'}-{digest}"


def addresses(names: Iterable[str]) -> dict[str, str]:
    """name -> :func:`address_part`, or its hashed form where another name differs in upper and lower case alone."""
    names = list(dict.fromkeys(names))
    alike: dict[str, int] = {}
    for name in names:
        alike[_folded(name)] = alike.get(_folded(name), 0) + 1
    return {name: address_part(name) if alike[_folded(name)] == 1 else hashed_part(name) for name in names}


def is_address_of(part: str, name: str) -> bool:
    """Whether a part of an address, as it was made here or by versions that knew names alone, is that of a name."""
    return part in (name, address_part(name), hashed_part(name))


def check_text(name: str, what: str = "a song's folder") -> None:
    """Refuse the name of a song's folder that is no text, before the work: no table and no page could have it.

    Args:
        name: of the folder, or of what else.
        what: it is the name of.

    Raises:
        DatasetError: the file system has other bytes there than those of UTF-8.
    """
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DatasetError(f"{printable(name)}: expected {what} with a name in UTF-8; rename it") from error


def song_of(folder: Path) -> str:
    """The name of the song that a folder is of: that in its :data:`SONG_FILE`, or the folder's own.

    Raises:
        DatasetError: the file does not contain a name that a song's folder can have.
    """
    file = folder / SONG_FILE
    if not file.is_file():
        return folder.name
    try:
        name = json.loads(file.read_text(encoding="utf-8"))["name"]
    except (ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name or "/" in name:
        raise DatasetError(f"{file}: expected the name of a song, as 'fxnorm evaluate' writes it, found none")
    return name


def file_part(name: str) -> str:
    """A name of a file or folder that is there as it stands in an address; a suffix stays, and so does a safe name."""
    if _is_plain(name):
        return name
    suffix = PurePath(name).suffix
    return hashed_part(name) + (suffix if re.fullmatch(r"\.[A-Za-z0-9]{1,10}", suffix) else "")


def _is_plain(name: str) -> bool:
    return (
        0 < len(name.encode("utf-8", "surrogateescape")) <= _LONGEST_BYTES
        and all(_is_plain_letter(letter) for letter in name)
        and ".." not in name
        and name[0] not in " -."
        and name[-1] not in " ."
        and unicodedata.is_normalized("NFC", name)
        and not _RESERVED.fullmatch(name)
    )


def _is_plain_letter(letter: str) -> bool:
    if letter.isascii():
        return letter.isalnum() or letter in _PLAIN_SIGNS
    return unicodedata.category(letter).startswith(_PLAIN_CATEGORIES)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()

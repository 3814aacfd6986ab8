"""What the browser calls a file: a label to sort by and to show. No path on this machine is ever made of one."""

import re

from fxnorm.errors import printable
from fxnorm.page.refusal import Refused

_LONGEST = 1_024
_DRIVE = re.compile(r"[A-Za-z]:")


def label(name: str) -> str:
    """A name within a dropped folder in the form ``FOLDER/FILE``.

    Raises:
        Refused: it is empty, too long, not printable, or leaves the folder.
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
    shown = printable(name)
    if not parts or len(name) > _LONGEST:
        raise Refused(422, f"{shown}: expected a name of 1 to {_LONGEST} characters")
    if not name.isprintable():  # lone surrogates are not
        raise Refused(422, f"{shown}: expected a name of printable characters")
    if ".." in parts or _DRIVE.match(parts[0]):
        raise Refused(422, f"{shown}: leaves the folder")
    return "/".join(parts)


def download_name(session: str, suffix: str) -> str:
    """What a file that is taken away is called."""
    plain = "".join(letter if letter.isprintable() and letter not in '/\\:*?"<>|' else "_" for letter in session)
    return f"{plain.strip(' .')[:100] or 'mix'}{suffix}"

"""Where the mix of each session goes: a safe path that mirrors that of the session."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from fxnorm.errors import printable
from fxnorm.io.names import address_part, addresses, hashed_part

TABLE_FILE, PAGE_FILE, RECORDS = "mixes.csv", "index.html", ".mixes"
"""What else lies in the folder of all mixes."""
PARTS_SUFFIX = " parts"

_SHOWN = 200  # characters of a name


@dataclass(frozen=True)
class Targets:
    """Where mixes go.

    Attributes:
        files: by session the path of its mix.
        notes: a sentence for each name that would be another one's.
    """

    files: dict[str, str]
    notes: tuple[str, ...]


def parts_of(file: str) -> str:
    """The folder of a mix's parts, beside the mix."""
    return str(PurePosixPath(file).with_suffix("")) + PARTS_SUFFIX


def targets(names: Iterable[str], suffix: str, root: str) -> Targets:
    """A path for each session, no two of which are one file for any file system.

    Args:
        names: of the sessions: paths of their folders.
        suffix: of the mixes.
        root: what a session without a name of its own, which is the folder itself, is called.
    """
    paths = {name: PurePosixPath(name or root).parts for name in names}
    prefixes = sorted({parts[:length] for parts in paths.values() for length in range(1, len(parts) + 1)})
    siblings: dict[tuple[str, ...], list[str]] = {}
    for prefix in prefixes:
        siblings.setdefault(prefix[:-1], []).append(prefix[-1])
    safe: dict[tuple[str, ...], str] = {}
    notes = []
    for above, children in siblings.items():
        for name, part in addresses(children).items():
            safe[(*above, name)] = part
            if part != address_part(name):
                others = [other for other in children if other != name and other.casefold() == name.casefold()]
                shown = [printable("/".join((*above, one)), _SHOWN) for one in (name, *others)]
                notes.append(f"{' and '.join(shown)}: one name for some file systems; {shown[0]} is called {part}")
    folders = {parts[:length] for parts in paths.values() for length in range(1, len(parts))}
    own = {name.casefold() for name in (TABLE_FILE, PAGE_FILE, RECORDS)}
    for folder in folders:
        if len(folder) == 1 and safe[folder].casefold() in own:
            safe[folder] = hashed_part(folder[0])
            notes.append(f"{printable(folder[0], _SHOWN)}: the name of a file made here; it is called {safe[folder]}")
    files = {}
    for name, parts in paths.items():
        within, last = [safe[parts[:length]] for length in range(1, len(parts))], safe[parts]
        taken = {safe[folder].casefold() for folder in folders if folder[:-1] == parts[:-1]}
        if taken & {f"{last}{suffix}".casefold(), f"{last}{PARTS_SUFFIX}".casefold()}:
            last = hashed_part(parts[-1])
            notes.append(f"{printable(name, _SHOWN)}: a folder has the name of its mix; that is called {last}{suffix}")
        files[name] = "/".join([*within, last + suffix])
    return Targets(files, tuple(notes))

"""The server's processes: several where MLflow's server was started with ``--workers``, which share a folder then.

Each has a model, a limiter and a queue of its own. What they tell each other goes through files: the values of metrics,
and which version was asked for last.
"""

import multiprocessing
import os
import shutil
import stat
import tempfile
from pathlib import Path

from fxnorm.errors import FxnormError

_NAME = "fxnorm-workers"


def shared_folder() -> Path | None:
    """The folder of this server's workers; None where this process is the only one.

    Raises:
        FxnormError: somebody else's folder has its name.
    """
    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return None
    temporary = Path(tempfile.gettempdir())
    _remove_left_behind(temporary)
    folder = temporary / f"{_NAME}-{os.getuid()}-{parent.pid}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # anyone can make a folder of any name in a temporary one
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise FxnormError(f"{folder}: expected a folder of this user's own for the server's workers, found another's")
    return folder


def _remove_left_behind(temporary: Path) -> None:
    """Remove the folders of this user's servers that have ended."""
    for folder in temporary.glob(f"{_NAME}-{os.getuid()}-*"):
        if not is_alive(folder.name.rpartition("-")[2]):
            shutil.rmtree(folder, ignore_errors=True)


def is_alive(process: str) -> bool:
    """Whether a process is there, by its number as text."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (ValueError, PermissionError):
        return True
    return True

"""Which code and which data a result is from."""

import functools
import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import fxnorm
from fxnorm import dataset, dvc_file
from fxnorm.dataset import Song

_DIRTY = "-dirty"


def code_version() -> dict[str, str]:
    """Tags for the commit that the code is of, and whether a tracked file differs from it.

    In an image it is the one that ``FXNORM_COMMIT`` names, as ``git describe --dirty`` does; else that of the working
    directory's repository. Outside of both there is no version to tell, and the result is empty; where git cannot tell
    whether a file differs, ``git.dirty`` is left out.
    """
    described = os.environ.get("FXNORM_COMMIT")
    if described:
        commit, differs = described.removesuffix(_DIRTY), described.endswith(_DIRTY)
        return {**_commit(commit), **_dirty(differs)}
    found = _git("rev-parse", "HEAD")
    if found is None:
        return {}
    # DVC writes dvc.lock after each stage, so in a pipeline it always differs
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!dvc.lock")
    return {**_commit(found), **({} if changes is None else _dirty(bool(changes)))}


@functools.cache
def code_digest(*parts: str) -> str:
    """A hash of this library's sources: results that were kept are those of another code if it differs.

    Args:
        parts: modules (``audio.py``) and packages (``effects``) that count; default: all.
    """
    root = Path(fxnorm.__file__).parent
    total = hashlib.sha256()
    roots = [root / part for part in parts] or [root]
    for path in sorted(path for found in roots for path in ([found] if found.is_file() else found.rglob("*.py"))):
        total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def data_version(root: Path, songs: Iterable[Song]) -> dict[str, str]:
    """The hash of the songs' names and contents and, where DVC tracks them, the hash by which it does.

    DVC's is that of :func:`fxnorm.dvc_file.version_of`.
    """
    songs = list(songs)
    tracked = dvc_file.version_of(root, songs)
    return {"digest": dataset.digest(songs)} | ({} if tracked is None else {"dvc": tracked})


def _commit(commit: str) -> dict[str, str]:
    return {"mlflow.source.git.commit": commit, "git.commit": commit}


def _dirty(differs: bool) -> dict[str, str]:
    return {"git.dirty": str(differs).lower()}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()

"""Stage 0, on clusters: the datasets of a git revision, brought from DVC's remote storage."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tqdm import tqdm

from fxnorm.data.dvc_file import parse
from fxnorm.errors import DatasetError
from fxnorm.io import object_store, outputs
from fxnorm.io.files import whole_folder

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem


_CONTENTS = outputs.Contents(
    "data that were fetched", r"(?!)", listed_by="fetch"
)  # by their list alone: their names can be any


def resolve(repository: str, revision: str) -> str:
    """The commit that a branch, tag or commit of a git repository stands for.

    Raises:
        DatasetError: the repository or the revision is not there.
    """
    # DVC takes a second to import, and no other stage needs it
    from dvc.api import DVCFileSystem

    with _as_user_error(f"{repository} at {revision}"):
        return str(DVCFileSystem(repository, rev=revision).repo.get_rev())


def run(repository: str, revision: str, output: Path, path: str = "data", remote: str = "") -> str:
    """Bring a tracked folder of a repository at a revision into ``output/NAME``, with its ``NAME.dvc`` beside it.

    Args:
        repository: address or folder of a git repository with DVC.
        revision: branch, tag or commit.
        output: the folder to write, whole or not at all; an older one is replaced.
        path: what to bring: a folder that ``PATH.dvc`` tracks.
        remote: name of the DVC remote; the repository's default one if empty.

    Returns:
        the hash by which DVC tracks the folder.

    Raises:
        DatasetError: the repository, revision, path or remote is not there, or the remote lacks a file.
        OutputError: ``output`` holds something else, or cannot be written.
    """
    outputs.check([], [outputs.Folder(output, _CONTENTS.refuse_others)])
    outputs.refuse_inputs([output], [repository])
    from dvc.api import DVCFileSystem
    from fsspec.callbacks import TqdmCallback

    tracked = f"{path}.dvc"
    with _as_user_error(f"{repository} at {revision}"):
        files = DVCFileSystem(repository, rev=revision, remote=remote or None)
        try:
            content = files.read_bytes(tracked)
        except FileNotFoundError as error:
            raise DatasetError(f"{repository} at {revision}: no {tracked}; 'dvc add {path}' makes it") from error
        name = Path(path).name
        digest = parse(content, name, f"{repository} at {revision}: {tracked}").hash
        with whole_folder(output, _CONTENTS.refuse_others) as folder:
            target = folder / name
            target.with_name(f"{target.name}.dvc").write_bytes(content)
            tqdm.write(f"fetch: {path} of {repository} at {revision}")
            files.get(path, str(target), recursive=True, callback=TqdmCallback(tqdm_kwargs={"desc": "fetch"}))
            _check(files, path, target)
            outputs.mark(folder, "fetch")
    return digest


def _check(files: "DVCFileSystem", path: str, target: Path) -> None:
    """Compare what came with the hashes that DVC tracks, as what is made of it will be known by those.

    Of a file that was imported from a store that keeps versions, DVC has no MD5, but its size.
    """
    tracked_files = files.find(path, detail=True)
    if not tracked_files:
        raise DatasetError(f"{path}: expected files, found none that DVC tracks")
    for name, information in tqdm(tracked_files.items(), "check", unit="file", delay=2.0, leave=False):
        known = information["dvc_info"]
        with open(target / PurePosixPath(name).relative_to(path), "rb") as file:
            if known.get("md5"):
                same = hashlib.file_digest(file, "md5").hexdigest() == known["md5"]
            else:
                same = os.fstat(file.fileno()).st_size == known.get("size")
            if not same:
                raise DatasetError(f"{name}: its content is not what DVC tracks; the remote's copy is damaged")


@contextlib.contextmanager
def _as_user_error(prefix: str) -> Iterator[None]:
    """Raise errors of DVC and git as a :class:`DatasetError`: ``prefix``, then the texts of all causes."""
    from botocore.exceptions import BotoCoreError
    from dvc.exceptions import DvcException
    from dvc_data.index.index import DataIndexDirError
    from scmrepo.exceptions import SCMError

    object_store.send_required_checksums_only()
    try:
        yield
    except (DvcException, DataIndexDirError, SCMError, BotoCoreError, OSError) as error:
        cause: BaseException | None = error
        reasons = []
        while cause is not None:  # the text of the outermost is often no more than "error"
            reasons.append(" ".join(str(cause).split()) or type(cause).__name__)
            cause = cause.__cause__
        raise DatasetError(f"{prefix}: cannot be fetched ({': '.join(dict.fromkeys(reasons))})") from error

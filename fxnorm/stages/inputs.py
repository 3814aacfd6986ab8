"""Before stage 1, under DVC: which of the optional inputs exist, and whether all that are needed do.

DVC refuses a dependency that is missing. So stages do not depend on optional folders but on what is written here about
them: the same bytes as long as nothing in them changes.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fxnorm.constants import WEIGHTS_FILE
from fxnorm.data.dataset import SPLITS, Layout, file_digest
from fxnorm.effects import impulse_responses
from fxnorm.errors import DatasetError
from fxnorm.io.files import write_json
from fxnorm.io.folders import files_below

WET, DRY, IMPULSE_RESPONSES = "wet", "dry", "impulse_responses"


def run(data: Path, output: Path) -> None:
    """Check that the stages will find what they need, and note the contents of the optional folders.

    Args:
        data: the folder with ``wet``, and perhaps ``dry`` and ``impulse_responses``.
        output: the folder for ``dry.json`` and ``impulse_responses.json``.

    Raises:
        DatasetError: a split of ``wet`` is missing, or has another name than the pipeline's stages depend on; or
            something lies in ``impulse_responses`` that would not be used.
    """
    _check_wet(Layout.read(data / WET))
    impulse_responses.folders_in(data / IMPULSE_RESPONSES)
    for name in (DRY, IMPULSE_RESPONSES):
        write_json(output / f"{name}.json", _contents(data / name))


def note_initial_weights(path: str | None, output: Path) -> None:
    """Write a hash of the weights that a training begins with: the settings name the file, so DVC cannot.

    Args:
        path: what an earlier run wrote, its folder or a file; None for a training that begins with random weights.
        output: the file; the same bytes for the same weights, wherever they lie.

    Raises:
        DatasetError: they are not there.
    """
    if path is None:
        write_json(output, {"weights": None})
        return
    file = Path(path, WEIGHTS_FILE) if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise DatasetError(f"train.initial_weights: {file}: no such file")
    write_json(output, {"weights": file_digest(file).hex()})


def _check_wet(layout: Layout) -> None:
    if not layout.splits:
        raise DatasetError(
            f"{layout.root}: expected the folders {', '.join(SPLITS)} with songs, found none of them;"
            f" 'fxnorm split {layout.root} --val N --test N' makes them of a folder of songs"
        )
    for split in SPLITS:
        layout.of(split)
        folder = layout.folder_of(split)
        if folder.name != split:
            raise DatasetError(f"{folder}: expected the name {split}, by which dvc.yaml has it; rename the folder")


def _contents(folder: Path) -> dict[str, str]:
    """Path -> hash of every file in a folder; none where there is no such folder."""
    files = files_below(folder)
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter's lock
        digests = pool.map(file_digest, files)
        return {path.relative_to(folder).as_posix(): digest.hex() for path, digest in zip(files, digests, strict=True)}

"""What tells one Mixer from another."""

import hashlib
from pathlib import Path

from fxnorm.mixer import MIXER_FILE, WEIGHTS_FILE
from fxnorm.recipe import files_of


def mixer_digest(folder: Path) -> str:
    """A hash of all that the Mixer in ``folder`` is, wherever and in whichever run it was made."""
    total = hashlib.sha256()
    for path in sorted([folder / MIXER_FILE, folder / WEIGHTS_FILE, *files_of(folder)]):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()

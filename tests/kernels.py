"""What Numba has compiled, for other copies of the code: compiling it takes half a minute of a core for each."""

import shutil
from pathlib import Path

from tests.project import REPOSITORY


def bring(folder: Path) -> None:
    """Leave it beside the code of the models below ``folder``; Numba takes it where the code is the same."""
    package = REPOSITORY / "fxnorm"
    for code in folder.rglob("code/fxnorm"):
        for file in package.rglob("__pycache__/*.nb[ic]"):
            target = code / file.relative_to(package)
            if target.parents[1].is_dir():
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, target)

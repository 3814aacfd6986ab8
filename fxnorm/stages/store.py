"""Where results go: the MLflow store, in a file that the last stage depends on.

DVC does not know that results went to one store and are wanted in another, nor that a store was emptied. So the file
changes when ``register`` has something to do: with the address, the experiment, and whether the store still has the
last result.
"""

import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fxnorm.errors import DatasetError
from fxnorm.io.files import write_json
from fxnorm.registry import aliases, registered
from fxnorm.tracking import runs

_LOST = "lost"


def run(output: Path, registration: Path | None = None) -> dict[str, Any]:
    """Write which store results go to.

    Args:
        output: the file; it stays as it is while the results are in the store that it names.
        registration: what stage 5 wrote, if it ran: that the store still has this is looked up.

    Returns:
        what stands in the file: addresses without credentials, the experiment, when that was made, and how often
        the store has lost what was registered.

    Raises:
        FxnormError: the store does not answer.
    """
    store: dict[str, Any] = dict(runs.store())
    before = _read(output) if output.is_file() else {}
    lost = before.get(_LOST, 0) if store.items() <= before.items() else 0
    # a registration in another store, which the file named before, is not one that this store can lose
    if store.items() <= before.items() and registration is not None and registration.is_file():
        missing = _missing(_read(registration))
        if missing:
            tqdm.write(f"{registration}: {missing}; it is to be registered again")
            lost += 1
    content = {**store, _LOST: lost}
    if content != before:
        write_json(output, content)
    return content


def _missing(registration: dict[str, Any]) -> str | None:
    """What the registry lacks of a registration, if anything."""
    name, number, alias = (str(registration.get(key)) for key in ("name", "version", "alias"))
    version = aliases.version(name, number)
    if version is None or not registered.is_whole(version):
        return f"{name} version {number} is not in the registry any more"
    return None if aliases.version_at(name, alias) else f"no version of {name} is @{alias} any more"


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DatasetError(f"{file}: expected a JSON object, as fxnorm writes it, found something else")
    return content

"""A search in the tasks of a pipeline: begun once, a trial each, and its result.

Tasks share the storage and a place for checkpoints and Mixers, an S3 store or a folder; nothing else stays.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from fxnorm.errors import FxnormError, SettingsError
from fxnorm.io import object_store
from fxnorm.search import result
from fxnorm.search.params_file import Base
from fxnorm.search.prepared import Songs
from fxnorm.search.result import Result
from fxnorm.search.run import Plan
from fxnorm.search.space import Space
from fxnorm.search.storage import VARIABLE
from fxnorm.settings import Settings


@contextmanager
def planned(
    space: str,
    sections: Mapping[str, Any],
    songs: Path,
    output: str,
    name: str,
    storage: str,
    slot: str | None = None,
) -> Iterator[Plan]:
    """The plan of a search; what is not in the storage or ``output`` goes with the block.

    Args:
        space: as ``SPACE.yaml`` has it; JSON.
        sections: of the settings.
        songs: normalized.
        output: ``s3://BUCKET/PREFIX``, or a folder that all tasks see.
        name: of the study.
        storage: its address; empty for that of the environment, or else a file in ``output``.
        slot: the task that this process is.
    """
    settings = Settings.of(dict(sections))
    complete = settings.model_dump(mode="json", by_alias=True)
    # Kubeflow makes fractions of whole numbers
    given = {section: {key: complete[section][key] for key in values} for section, values in sections.items()}
    base = Base(settings, text=yaml.safe_dump(given, sort_keys=False))
    is_stored = object_store.is_address(output)
    address = storage or os.environ.get(VARIABLE)
    if is_stored and not address:
        raise SettingsError(f"storage: expected an address, or {VARIABLE}, as {output} is no folder for a file")
    with TemporaryDirectory() as temporary:
        work = Path(temporary)
        read = Space.of(json.loads(space))
        read.check(base.settings, "space")
        plan = Plan(
            read,
            base,
            Songs.of(songs, base.settings, [*read.space]),
            (work / "search" if is_stored else Path(output)) / name,
            storage=address or None,
            checkpoints=output if is_stored else None,
            slot=slot,
        )
        plan.check(songs, "space")
        yield plan


def begin(plan: Plan) -> list[str]:
    """Make the study, or go on with it; gives a name for each trial that is to be done."""
    work = plan.open()
    return [str(number) for number in range(plan.space.trials - len(work.study.finished()))]


def one(plan: Plan) -> tuple[int, float]:
    """Do a trial, if there is one to be begun.

    Returns:
        its number, or -1; its loss, or not a number.
    """
    work = plan.open()
    number = work.one()
    if number is None:
        return -1, math.nan
    value = work.study.trials()[number].value
    return number, math.nan if value is None else value


def collect(plan: Plan) -> Result:
    """Write the result of a search.

    Raises:
        FxnormError: trials have not ended, or the best one's Mixer is nowhere.
    """
    work = plan.open()
    ended = len(work.study.finished())
    if not work.study.is_over():
        raise FxnormError(f"{work.study.name}: {ended} of {plan.space.trials} trials have ended; the same run goes on")
    found = result.write(work, plan.base)
    if found.mixer is None:
        raise FxnormError(f"{work.study.name}: the Mixer of trial {found.number} is neither here nor in the store")
    return found

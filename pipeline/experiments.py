"""The published experiments as parameters of the pipeline: settings, and the pre-training that they begin with."""

from pathlib import Path
from typing import Any

from fxnorm.errors import SettingsError
from fxnorm.settings import read_yaml

FOLDER = Path(__file__).parents[1] / "configs"
"""In the package and in a checkout alike: ``fxnorm/configs`` is a link to ``configs``."""

PRETRAINING = "pretraining"
"""The experiment that trains a front-end, which the others of CRAFx2 begin with."""


def names() -> list[str]:
    """Of the experiments that the pipeline can run, as far as their files are there."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != PRETRAINING)


def parameters(name: str) -> dict[str, Any]:
    """``settings`` of an experiment, and ``pretraining`` where it begins with a front-end that was trained alone.

    Raises:
        SettingsError: there is no such experiment, or it trains a front-end alone.
    """
    if name == PRETRAINING:
        raise SettingsError(f"--experiment {name}: trains a front-end alone; {', '.join(names())} begin with it")
    file = FOLDER / f"{name}.yaml"
    if not is_published(name):
        known = f"expected one of {', '.join(names())}" if names() else "this installation has no files of any"
        raise SettingsError(f"--experiment {name}: no published experiment; {known}")
    settings = read_yaml(file)
    train = dict(settings.get("train") or {})
    begins = train.pop("initial_weights", None) is not None
    found = {"settings": {**settings, "train": train}}
    return found | ({"pretraining": read_yaml(FOLDER / f"{PRETRAINING}.yaml")["train"]} if begins else {})


def is_published(name: str) -> bool:
    """Whether an experiment is one that was published."""
    return name == PRETRAINING or name in names()

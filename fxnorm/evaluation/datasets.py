"""The datasets that a network is tested on: ``test_wet`` and ``test_dry``."""

from pathlib import Path

from fxnorm.data.dataset import Layout, Song
from fxnorm.errors import DatasetError
from fxnorm.io.folders import entries


def layouts_of(data: Path) -> dict[str, Layout]:
    """The datasets of ``test_wet`` and ``test_dry``, those that exist; an empty folder is none."""
    kinds = kinds_of(data)
    if not kinds:
        return {"test_wet": Layout.read(data)}
    return {f"test_{kind}": Layout.read(data / kind) for kind in kinds}


def kinds_of(data: Path) -> list[str]:
    """Which of ``wet`` and ``dry`` exist; neither where ``data`` is one wet dataset by itself."""
    return [kind for kind in ("wet", "dry") if (data / kind).is_dir() and entries(data / kind)]


def songs_of(data: Path, split: str, name: str) -> list[Song]:
    """The songs of ``test_wet`` or ``test_dry``.

    Raises:
        DatasetError: ``data`` has none.
    """
    layouts = layouts_of(data)
    if name not in layouts:
        raise DatasetError(f"{data}: expected songs of {name}, found {', '.join(layouts)}")
    return layouts[name].of(split)

"""How stems are normalized, as one thing that can be kept: statistics, settings and impulse responses.

``normalize`` leaves a recipe beside the stems it made, ``train`` takes it along into the Mixer directory, and so the
stems of a new song go through exactly what the training stems went through.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.errors import ModelError, first_line, printable
from fxnorm.io import bounded
from fxnorm.io.files import write_json
from fxnorm.io.folders import files_below
from fxnorm.io.outputs import Contents
from fxnorm.normalization.normalizer import REVERBERATION, EffectNormalizer
from fxnorm.settings import NormalizeSettings
from fxnorm.statistics import DatasetStatistics

RECIPE_FOLDER = "recipe"
"""Beside the stems that were normalized by it."""

STATISTICS_FILE = "statistics.npz"
SETTINGS_FILE = "normalization.json"
_IMPULSE_RESPONSES = "impulse_responses"
_NOT_OF_THE_RECIPE = {"format"}
"""Settings that change no sample of a stem: how files are kept, and not how they are made."""
_TEXTS = TypeAdapter(dict[str, str])
_REVERB, _PRE_REVERB = f"{_IMPULSE_RESPONSES}/reverb", f"{_IMPULSE_RESPONSES}/pre_reverb"

FILES = rf"statistics\.npz|normalization\.json|sources\.json|{_IMPULSE_RESPONSES}/(?:reverb|pre_reverb)/[^/]+\.wav"
"""A regular expression for the paths of a recipe's files."""

CONTENTS = Contents("a recipe", FILES)


@dataclass(frozen=True)
class Recipe:
    """Statistics, settings and impulse responses of a normalization.

    Args:
        statistics: the targets.
        settings: effects and their settings.
        impulse_responses: for the reverberation of the chain.
        pre_impulse_responses: for the pre-reverb of dry recordings.
        data: what is known of the version of the dataset that the statistics and the training stems are from.
    """

    statistics: DatasetStatistics
    settings: NormalizeSettings
    impulse_responses: ImpulseResponses
    pre_impulse_responses: ImpulseResponses
    data: dict[str, str]

    def normalizer(self) -> EffectNormalizer:
        """The effect chain with these targets."""
        return EffectNormalizer(
            self.statistics,
            effects=self.settings.effects,
            impulse_responses=self.impulse_responses,
            pre_impulse_responses=self.pre_impulse_responses,
            panning_limit=self.settings.panning_limit_hz,
            precise=self.settings.precise,
        )

    def save(self, folder: Path) -> None:
        """Write the recipe into an existing folder."""
        self.statistics.save(folder / STATISTICS_FILE)
        self.impulse_responses.save(folder / _REVERB)
        self.pre_impulse_responses.save(folder / _PRE_REVERB)
        settings = self.settings.model_dump(mode="json", exclude=_NOT_OF_THE_RECIPE)
        write_json(folder / SETTINGS_FILE, {"settings": settings, "data": self.data})

    @classmethod
    def load(cls, folder: Path) -> "Recipe":
        """Read what :meth:`save` wrote.

        Raises:
            ModelError: the folder holds no recipe, or one with unknown settings.
        """
        file = folder / SETTINGS_FILE
        if not file.is_file():
            raise ModelError(f"{folder}: expected {SETTINGS_FILE} as 'fxnorm normalize' and 'fxnorm train' leave it")
        try:
            content = bounded.read_json(file)
            settings = NormalizeSettings.model_validate(content["settings"])
            data = _TEXTS.validate_python(content["data"])
        except (OSError, ValueError, KeyError, TypeError) as error:  # a ValidationError is a ValueError
            detail = printable(first_line(error), 200)
            raise ModelError(f"{file}: not the settings of a normalization ({detail})") from error
        return cls(
            DatasetStatistics.load(folder / STATISTICS_FILE),
            settings,
            ImpulseResponses.from_folder(folder / _REVERB),
            ImpulseResponses.from_folder(folder / _PRE_REVERB),
            data,
        )

    def digest(self, folder: Path) -> str:
        """A hash of all that any normalized stem depends on beside the stem, of the recipe that lies in ``folder``.

        The folder may be a Mixer directory. Which splits were normalized is no part of how.
        """
        settings = self.settings.model_dump(mode="json", exclude={"splits"} | _NOT_OF_THE_RECIPE)
        return _digest(settings, files_of(folder), folder)

    def stem_digest(self, folder: Path, dry: bool) -> str:
        """As :meth:`digest`, but of what the stems of a song depend on that is a dry recording, or is none.

        Impulse responses that are not heard do not count, nor does the seed where nothing is drawn.
        """
        reverberated = REVERBERATION in self.settings.effects
        unheard = [*(() if reverberated else (_REVERB,)), *(() if dry else (_PRE_REVERB,))]
        files = [path for path in files_of(folder) if not any((folder / name) in path.parents for name in unheard)]
        undrawn = set() if reverberated or dry else {"seed"}
        settings = self.settings.model_dump(mode="json", exclude={"splits", *undrawn} | _NOT_OF_THE_RECIPE)
        return _digest(settings, files, folder)


def _digest(settings: dict[str, Any], files: Iterable[Path], folder: Path) -> str:
    total = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in sorted(set(files) - {folder / SETTINGS_FILE}):
        total.update(f"\0{path.relative_to(folder).as_posix()}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def files_of(folder: Path) -> list[Path]:
    """The files of the recipe that lies in ``folder``, which may be a Mixer directory."""
    return [folder / SETTINGS_FILE, folder / STATISTICS_FILE, *files_below(folder / _IMPULSE_RESPONSES)]


def song_seed(seed: int, name: str) -> int:
    """The seed of one song's draws: different for each song, the same on every machine and in any order."""
    # the name of a folder need not be Unicode
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogatepass")).digest()[:8], "little")

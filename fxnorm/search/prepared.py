"""Normalized songs for trials: made once for all that share statistics and normalization, by one process.

Each folder has the name of all that its content depends on, so trials of other studies find it too.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from fxnorm.data import dataset
from fxnorm.data.splits import read_splits
from fxnorm.data.versions import made_by
from fxnorm.effects.impulse_responses import folders_in
from fxnorm.errors import SettingsError
from fxnorm.io import locks
from fxnorm.io.files import beside, whole_file
from fxnorm.normalization.recipe import RECIPE_FOLDER, SETTINGS_FILE
from fxnorm.settings import Settings
from fxnorm.stages import normalize, statistics

FOLDER = ".normalized"
"""Within the folder of all studies."""
_NAME_LENGTH = 16
_SPLITS = ("train", "val")


@dataclass(frozen=True)
class Songs:
    """What trials learn from.

    Attributes:
        source: a dataset, with its wet songs in ``wet`` or in itself; or songs that are normalized already.
        digest: of its songs.
    """

    source: Path
    digest: str

    @classmethod
    def of(cls, source: Path, settings: Settings, varied: list[str], space: str = "space") -> "Songs":
        """Read all songs once.

        Args:
            source: the dataset, or normalized songs.
            settings: those that are not varied.
            varied: dotted names of those that are.
            space: the file that names them, for errors.

        Raises:
            DatasetError: there are none, or not the splits that training needs.
            SettingsError: a space varies how songs are normalized that are normalized already.
        """
        if _is_normalized(source):
            for name in varied:
                if name.partition(".")[0] in ("statistics", "normalize"):
                    raise SettingsError(
                        f"{space}: space.{name}: the songs of {source} are normalized already; expected a dataset"
                    )
            splits = read_splits(source, _SPLITS)
            total = dataset.digest(song for songs in splits.values() for song in songs)
        else:
            splits = read_splits(_wet(source), settings.normalize.splits)
            files = [path for folder in folders_in(source / "impulse_responses") if folder
                     for path in sorted(folder.rglob("*")) if path.is_file()]  # fmt: skip
            total = dataset.digest(dataset.songs(_wet(source)))
            total = _digest([total, *(f"{path.name} {dataset.file_digest(path).hex()}" for path in files)])
        for split in _SPLITS:
            if not splits.get(split):
                raise SettingsError(f"normalize.splits: expected train and val, which trials need, found {[*splits]}")
        return cls(source, total)

    def normalized(self, settings: Settings, folder: Path) -> Path:
        """The folder of songs normalized by these settings, which is made in ``folder`` if it is not there."""
        if _is_normalized(self.source):
            return self.source
        measured = _digest([self.digest, settings.statistics.model_dump_json(), made_by(statistics.__name__)])
        made = _digest([measured, settings.normalize.model_dump_json(), made_by(normalize.__name__)])
        file, target = folder / f"{measured}.npz", folder / made
        done = beside(target, ".done")
        with locks.held(target, "-made", wait=True):
            if done.is_file() and target.is_dir():
                return target
            with locks.held(file, "-made", wait=True):
                if not file.is_file():
                    statistics.run(settings.statistics, _wet(self.source), file)
            responses = folders_in(self.source / "impulse_responses")
            normalize.run(settings.normalize, _wet(self.source), file, target, *responses)
            with whole_file(done) as temporary:
                temporary.touch()
        return target


def _is_normalized(source: Path) -> bool:
    return (source / RECIPE_FOLDER / SETTINGS_FILE).is_file()


def _wet(source: Path) -> Path:
    return source / "wet" if (source / "wet").is_dir() else source


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_NAME_LENGTH]

"""Which datasets and licences a song is from, and a Mixer therefore: from the import to the registry.

``fxnorm import`` leaves a record in each song's folder and all of them in ``import.json``. ``fxnorm normalize`` notes
in its recipe which of its songs are from where, and ``fxnorm train`` leaves in the Mixer directory how many songs of
which dataset and licence it learnt from. Neither file is a part of what a Mixer is: its digest stays the same.

Songs without a record are of unknown origin. The songs of ``val`` are learnt from too: they choose the checkpoint.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from fxnorm.data.dataset import Song, plain_name
from fxnorm.errors import DatasetError, first_line, printable
from fxnorm.io import bounded
from fxnorm.io.files import write_json

PROVENANCE_FILE = "import.json"
"""In the root of an imported dataset: the records of all its songs, by ``wet/SPLIT/SONG``."""
RECORD_FILE = ".import.json"
"""In the folder of an imported song."""
SOURCES_FILE = "sources.json"
"""In a recipe: where the normalized songs are from."""
TRAINED_ON_FILE = "trained_on.json"
"""In a Mixer directory."""

LARGEST = 2**30  # bytes of import.json: a song with 100 recordings takes some 20 KB
_LARGEST_RECORD = 2**24  # bytes of the other files

UNKNOWN = "unknown"
"""The dataset and the licence of songs without a record."""

_Content = TypeVar("_Content")


class Source(BaseModel):
    """Where a song is from.

    Attributes:
        dataset: its name as published.
        licence: SPDX name or a short text.
        commercial: whether the licence allows commercial use; None where that is not known.
    """

    model_config = ConfigDict(frozen=True)

    dataset: str = UNKNOWN
    licence: str = UNKNOWN
    commercial: bool | None = None


class Share(Source):
    """What a network learnt from one source.

    Attributes:
        train: songs that it learnt from.
        val: songs that chose the checkpoint.
        initial_weights: these were learnt from by the weights that the training began with.
    """

    train: int = 0
    val: int = 0
    initial_weights: bool = False


class TrainedOn(BaseModel):
    """All that a network learnt from, by source; of a network of which nothing is known, one unknown source."""

    model_config = ConfigDict(frozen=True)

    shares: tuple[Share, ...] = (Share(),)

    @property
    def is_known(self) -> bool:
        """Whether the origin of any song is known."""
        return any(share.dataset != UNKNOWN or share.licence != UNKNOWN for share in self.shares)

    @property
    def datasets(self) -> list[str]:
        """The datasets' names, each once, in order."""
        return sorted({share.dataset for share in self.shares})

    @property
    def licences(self) -> list[str]:
        """The licences' names, each once, in order."""
        return sorted({share.licence for share in self.shares})

    def outside(self, allowed: Sequence[str]) -> list[Share]:
        """What was learnt from under a licence that is not among the allowed ones.

        Upper and lower case are the same, and so are blanks and hyphens: ``CC BY 4.0`` is ``CC-BY-4.0``.

        ``unknown`` among these allows songs of unknown origin.
        """
        names = {_plain(name) for name in allowed}
        return [share for share in self.shares if _plain(share.licence) not in names]


class _Record(Source):
    """What is read of an import's record of a song.

    Attributes:
        files: what was written into its folder, by name.
    """

    dataset: str
    licence: str
    files: dict[str, Any]


class _Imported(BaseModel):
    """What is read of ``import.json``."""

    songs: dict[str, _Record]


_SOURCES = TypeAdapter(dict[str, Source])


def sources_of(root: Path, splits: Mapping[str, Sequence[Song]]) -> dict[str, Source]:
    """Where songs are from, by ``SPLIT/SONG``; songs of unknown origin are left out.

    The record in a song's folder counts, and goes with the folder wherever that is moved. Where it has none,
    ``import.json`` in ``root`` or the folder above counts, if it has one song of that name with these files.

    Args:
        root: the dataset.
        splits: songs by split.

    Raises:
        DatasetError: a record or ``import.json`` is not as an import writes it.
    """
    found: dict[str, Source] = {}
    imported: dict[str, list[_Record]] | None = None
    for split, songs in splits.items():
        for song in songs:
            if (song.folder / RECORD_FILE).is_file():
                candidates = [_read(song.folder / RECORD_FILE, TypeAdapter(_Record))]
            else:
                imported = _imported(root) if imported is None else imported
                candidates = imported.get(plain_name(song.name), [])
            files = {path.name for path in (*song.stems.values(), song.mixture) if path is not None}
            known = [record for record in candidates if files <= record.files.keys()]
            if len(known) == 1:
                record = known[0]
                source = Source(dataset=record.dataset, licence=record.licence, commercial=record.commercial)
                found[f"{split}/{song.name}"] = source
    return found


def note(recipe: Path, sources: Mapping[str, Source]) -> None:
    """Write into a recipe's folder where the songs are from; nothing if that is not known of any."""
    if sources:
        write_json(recipe / SOURCES_FILE, {name: sources[name].model_dump() for name in sorted(sources)})


def noted(recipes: Iterable[Path]) -> dict[str, Source]:
    """What :func:`note` wrote into several recipes' folders, together.

    Raises:
        DatasetError: a file is not as it was written.
    """
    files = [recipe / SOURCES_FILE for recipe in recipes if (recipe / SOURCES_FILE).is_file()]
    return {name: source for file in files for name, source in _read(file, _SOURCES).items()}


def trained_on(recipe: Path, splits: Mapping[str, Sequence[Song]], initial_weights: Path | None) -> TrainedOn:
    """What a network learns from normalized songs.

    Args:
        recipe: the folder that :func:`note` wrote into.
        splits: the normalized songs of ``train`` and ``val``; those that a recipe notes and that are not there do not
            count.
        initial_weights: a Mixer directory, or a file in one, whose weights the training begins with.

    Raises:
        DatasetError: a file is not as it was written.
    """
    file = recipe / SOURCES_FILE
    sources = _read(file, _SOURCES) if file.is_file() else {}
    counts: Counter[tuple[Source, str]] = Counter()
    for split, songs in splits.items():
        counts.update((sources.get(f"{split}/{song.name}", Source()), split) for song in songs)
    shares = [
        Share(**source.model_dump(), train=counts[source, "train"], val=counts[source, "val"])
        for source in {source for source, _ in counts}
    ]
    if initial_weights is not None:
        folder = initial_weights if initial_weights.is_dir() else initial_weights.parent
        shares += [share.model_copy(update={"initial_weights": True}) for share in read(folder).shares]
    return TrainedOn(shares=tuple(sorted(shares, key=_order)))


def leave_in(mixer: Path, learnt: TrainedOn) -> None:
    """Write into a Mixer directory what it learnt from; nothing if that is not known."""
    if learnt.is_known:
        write_json(mixer / TRAINED_ON_FILE, learnt.model_dump())


def read(mixer: Path) -> TrainedOn:
    """What :func:`leave_in` wrote into a Mixer directory; unknown where it wrote nothing.

    Raises:
        DatasetError: the file is not as it was written.
    """
    file = mixer / TRAINED_ON_FILE
    return _read(file, TypeAdapter(TrainedOn)) if file.is_file() else TrainedOn()


def _imported(root: Path) -> dict[str, list[_Record]]:
    """The records of ``import.json`` in a folder or the one above, by the song's name without differences of case."""
    root = root.absolute()
    by_name: dict[str, list[_Record]] = {}
    for folder in (root, root.parent):
        if (folder / PROVENANCE_FILE).is_file():
            content = _read(folder / PROVENANCE_FILE, TypeAdapter(_Imported), LARGEST)
            for key, record in content.songs.items():
                by_name.setdefault(plain_name(key.rpartition("/")[2]), []).append(record)
            break
    return by_name


def _read(path: Path, adapter: TypeAdapter[_Content], most_bytes: int = _LARGEST_RECORD) -> _Content:
    try:
        return adapter.validate_python(bounded.read_json(path, most_bytes))
    except (OSError, ValueError) as error:  # a ValidationError is a ValueError
        detail = printable(_detail(error), 200)
        raise DatasetError(f"{path}: expected where songs are from, as fxnorm writes it ({detail})") from error


def _detail(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return first_line(error)


def _plain(name: str) -> str:
    return " ".join(name.casefold().replace("-", " ").split())


def _order(share: Share) -> tuple[Any, ...]:
    return (share.initial_weights, share.dataset == UNKNOWN, share.dataset, share.licence, str(share.commercial))


def listed(shares: Iterable[Share]) -> str:
    """Sources in words, such as ``MUSDB18-HQ (CC-BY-NC-SA-4.0)``."""
    names = dict.fromkeys(f"{share.dataset} ({share.licence})" for share in shares)
    return ", ".join(UNKNOWN if name == f"{UNKNOWN} ({UNKNOWN})" else name for name in names)

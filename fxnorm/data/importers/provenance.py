"""Where the songs of an imported dataset are from: ``import.json`` in its root, and a record in each song's folder.

A record becomes part of a song's folder in the same step as its audio, so a song that was finished is known as such
however the import ended. ``import.json`` is put together from the records of all songs that are there; several imports
into one folder add up.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from fxnorm.data.dataset import SPLITS
from fxnorm.data.importers.plan import DRY, WET
from fxnorm.data.importers.sources import read_json
from fxnorm.data.provenance import LARGEST, PROVENANCE_FILE, RECORD_FILE
from fxnorm.io.files import write_json
from fxnorm.io.folders import entries

FORMAT = 1
"""Of these files. It also stands for how audio is made of members: a song that another one made is made again."""

PLACES = (*((WET, split) for split in SPLITS), (DRY, "test"))
"""Parts and splits that songs are imported to, as folders below an imported dataset."""

WrittenName = Annotated[str, Field(pattern=r"^[a-z]+\.[a-z0-9]+$")]
"""Of a file that was written, such as ``bass.wav``. A record may come from anywhere, and what it names is removed with
the song: it must not lead out of the song's folder."""
Digest = Annotated[str, Field(pattern=r"[0-9a-f]{64}")]


def _in_utf8(text: object) -> object:
    """File systems have names in other encodings, JSON has not."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


Text = Annotated[str, BeforeValidator(_in_utf8)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LeftOutRecord(_Part):
    """A recording or a song that is not used, and why."""

    name: Text
    reason: Text


class MemberRecord(_Part):
    """A recording that went into a stem.

    Attributes:
        name: as the source's users know it.
        file: relative to the source, or absolute where it lies elsewhere.
        entry: the name of the recording within it, if it is a zip archive.
        label: the source's own.
        gain: linear.
        stream: of the file's audio streams, from 0 on.
        side: the channel it went to; None for both.
        start: where it begins in the song, in samples at 44.1 kHz.
        sha256: of the file, or of the entry of the archive.
    """

    name: Text
    file: Text
    entry: Text | None = None
    label: Text = ""
    gain: float = 1.0
    stream: int = 0
    side: Literal["left", "right"] | None = None
    start: int = 0
    sha256: str = ""

    @model_serializer(mode="wrap")
    def _without_the_usual(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Most recordings have no label, no second stream and no side."""
        usual = {"entry": None, "label": "", "stream": 0, "side": None, "start": 0}
        return {key: value for key, value in serialize(self).items() if key not in usual or value != usual[key]}


class FileRecord(_Part):
    """A file that was written.

    Attributes:
        sha256: of its content.
        link: to the source's file; ``none`` for one that was written.
    """

    sha256: Digest
    link: Literal["none", "hard", "symbolic"] = "none"


class SongRecord(_Part):
    """A song's provenance.

    Attributes:
        format: :data:`FORMAT`.
        kind: of the import.
        dataset: its name as published.
        source: the folder that it was imported from.
        original: the source's own name or number of the song.
        name: the song's name in the source; that of its folder may differ.
        part: ``wet`` or ``dry``.
        split: that it was imported to.
        split_reason: where the split is from.
        follows: the dataset that has the song too and decides its split; empty if none does.
        licence: SPDX name or a short text.
        commercial: whether the licence allows commercial use; None where that is unknown.
        link: whether links were asked for.
        mixture: ``file``, ``sum`` or ``none``.
        groups: what each stem, and the mixture, is the sum of.
        left_out: recordings of the song that were not used.
        remarks: what a user should know about it.
        findings: what was found in its recordings, such as that they were placed by their time references.
        files: what was written, by name.
    """

    format: int = FORMAT
    kind: str
    dataset: str
    source: Text
    original: Text
    name: Text
    part: Literal["wet", "dry"]
    split: str
    split_reason: str
    follows: str = ""
    licence: str
    commercial: bool | None
    link: bool
    mixture: Literal["file", "sum", "none"]
    groups: dict[str, tuple[MemberRecord, ...]]
    left_out: tuple[LeftOutRecord, ...] = ()
    remarks: tuple[Text, ...] = ()
    findings: tuple[Text, ...] = ()
    files: dict[WrittenName, FileRecord] = {}


class DatasetRecord(_Part):
    """A dataset that songs were imported from.

    Attributes:
        kind: of the import.
        name: as published.
        source: the folder.
        licence: SPDX name or a short text.
        commercial: whether it allows commercial use; None where that is unknown.
        songs: how many are there.
        remarks: what a user should know about all of it.
        left_out: songs that were not imported, and why.
        failed: songs that could not be imported (``--on-error skip``), and why.
    """

    kind: str
    name: Text
    source: Text
    licence: str
    commercial: bool | None
    songs: int = 0
    remarks: tuple[Text, ...] = ()
    left_out: tuple[LeftOutRecord, ...] = ()
    failed: tuple[LeftOutRecord, ...] = ()


class Provenance(_Part):
    """The content of ``import.json``.

    Attributes:
        format: :data:`FORMAT`.
        datasets: that songs are from.
        songs: by their folders, such as ``wet/train/NAME``.
    """

    format: int = FORMAT
    datasets: tuple[DatasetRecord, ...] = ()
    songs: dict[str, SongRecord] = {}


def read(root: Path) -> Provenance | None:
    """What ``import.json`` in the root of a dataset says; None if it has none.

    Raises:
        DatasetError: it is not as an import writes it.
    """
    path = root / PROVENANCE_FILE
    if not path.is_file():
        return None
    return read_json(path, Provenance, LARGEST)


def records(root: Path, noted: Mapping[str, SongRecord]) -> dict[str, SongRecord]:
    """The songs that were imported and are there, by their folders as in ``import.json``.

    Args:
        root: of the dataset.
        noted: of ``import.json``, for songs whose folder came without its record: version control passes over hidden
            files.

    Raises:
        DatasetError: a folder cannot be read, or a record is not as an import writes it.
    """
    found: dict[str, SongRecord] = {}
    for part, split in PLACES:
        place = root / part / split
        if not place.is_dir():
            continue
        for folder in entries(place):
            key = f"{part}/{split}/{folder.name}"
            record = folder / RECORD_FILE
            if record.is_file():
                found[key] = read_json(record, SongRecord)
            elif key in noted and folder.is_dir():
                found[key] = noted[key]
    return found


def write_record(folder: Path, record: SongRecord) -> None:
    """Put a song's record into its folder."""
    write_json(folder / RECORD_FILE, as_json(record))


def write(root: Path, datasets: Iterable[DatasetRecord], songs: Mapping[str, SongRecord]) -> None:
    """Write ``import.json``; the same songs give the same bytes.

    Args:
        root: of the dataset.
        datasets: those that songs are from; others are not listed.
        songs: by their folders.
    """
    counts = Counter((song.kind, song.dataset, song.source) for song in songs.values())
    noted = {(record.kind, record.name, record.source): record for record in datasets}
    for song in songs.values():  # of an import that was ended before it could note its dataset
        key = song.kind, song.dataset, song.source
        if key not in noted:
            noted[key] = DatasetRecord(
                kind=song.kind,
                name=song.dataset,
                source=song.source,
                licence=song.licence,
                commercial=song.commercial,
            )
    listed = {key: noted[key].model_copy(update={"songs": count}) for key, count in counts.items()}
    content = Provenance(
        datasets=tuple(listed[key] for key in sorted(listed)), songs={key: songs[key] for key in sorted(songs)}
    )
    write_json(root / PROVENANCE_FILE, as_json(content))


def as_json(content: BaseModel) -> dict[str, Any]:
    """A record as JSON has it, with its keys in the order of their definition."""
    return content.model_dump(mode="json")

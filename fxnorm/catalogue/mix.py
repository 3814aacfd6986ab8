"""One session of a catalogue to one mix: read, sorted, summed, mixed, measured, written and recorded."""

import contextlib
import functools
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fxnorm.catalogue import records
from fxnorm.catalogue.find import Found
from fxnorm.catalogue.places import Sink, Source, content_of
from fxnorm.catalogue.records import Drift, Record, Row
from fxnorm.catalogue.targets import parts_of
from fxnorm.data.dataset import file_digest
from fxnorm.errors import FxnormError, OutputError, StoreError, first_line, printable, system_sentence
from fxnorm.io import audio
from fxnorm.io.outputs import files_in
from fxnorm.mixing.mix_files import FileMix, PartsOut, mix_samples
from fxnorm.mixing.mixer import Mixer
from fxnorm.mixing.options import MixOptions
from fxnorm.sessions.session import open_session
from fxnorm.sessions.stems import sum_groups
from fxnorm.sessions.table import Table

_LONGEST_SONG_NAME = 255
_SHOWN = 500  # characters of a message


@dataclass(frozen=True)
class Job:
    """How all sessions are mixed.

    Attributes:
        source: where sessions are from.
        sink: where mixes go.
        mixer: the Mixer's directory on this machine.
        mixer_digest: of its content, which a process that has another one loaded reads again.
        mixer_name: what it is called in the description of parts.
        options: of each mix.
        parts: also write what each stem contributes.
    """

    source: Source
    sink: Sink
    mixer: Path
    mixer_digest: str
    mixer_name: str
    options: MixOptions
    parts: bool = False


@dataclass(frozen=True)
class Item:
    """A session to be mixed.

    Attributes:
        session: what was found.
        target: where its mix goes.
        key: a hash of all that decides about the mix beside the session's files.
        record: of an earlier run.
    """

    session: Found
    target: str
    key: str
    record: Record | None = None

    @property
    def folder(self) -> str:
        """What errors call it."""
        return self.session.name or "."


@dataclass(frozen=True)
class Outcome:
    """What became of a session.

    Attributes:
        row: of the table.
        kept: it was mixed before, of the very same.
        trace: of a defect, for standard error.
    """

    row: Row
    kept: bool = False
    trace: str | None = field(default=None)


def mix_session(item: Item, job: Job) -> Outcome:
    """Mix a session, unless that is done already; what is wrong with it is in the row.

    Raises:
        OutputError: the system refuses to write, which is no session's fault.
        StoreError: a store does not answer.
    """
    place = Path(job.source.address, item.session.name)
    try:
        with job.source.folder_of(item.session) as place:
            content = content_of(place, item.session)
            kept = _kept(item, job, content)
            return Outcome(_mix(item, job, place, content)) if kept is None else kept
    except (OutputError, StoreError):
        raise
    except FxnormError as error:
        return failed(item, job, _without(place, str(error)))
    except MemoryError:
        return failed(item, job, "needs more memory than there is")
    except OSError as error:
        sentence = system_sentence(error)
        return _defect(item, job, error) if sentence is None else failed(item, job, _without(place, sentence))
    except Exception as error:  # one session is not the end of all others
        return _defect(item, job, error)


def failed(item: Item, job: Job, message: str, trace: str | None = None) -> Outcome:
    """A session that could not be mixed: recorded, and an older mix of it, of other files or options, removed."""
    shown = printable(" ".join(message.split()), _SHOWN)
    row = Row(session=item.folder, status="failed", kind=_kind(item), message=shown)
    _remove_older(item, job, set())
    record = Record(key=item.key, stamps=records.stamps_of(item.session), row=row)
    job.sink.write(records.file_of(item.session.name), records.dumped(record))
    return Outcome(row, trace=trace)


def _defect(item: Item, job: Job, error: Exception) -> Outcome:
    text = f"a defect of the program: {type(error).__name__}: {first_line(error)}"
    return failed(item, job, text, "".join(traceback.format_exception(error)))


def _without(place: Path, message: str) -> str:
    """A message without where the session lies: the table is the same wherever that is."""
    return message.replace(f"{place}/", "").replace(f"{place}: ", "")


def _kept(item: Item, job: Job, content: str) -> Outcome | None:
    """The outcome of an earlier run, if its files are the same by their content."""
    record = item.record
    if record is None or not record.is_of(item.key, item.session) or record.content != content:
        return None
    if any(job.sink.digest(name) != digest for name, digest in record.outputs.items()):
        return None
    stamps = job.sink.stamps(list(record.outputs))
    touched = record.model_copy(update={"stamps": records.stamps_of(item.session), "output_stamps": stamps})
    job.sink.write(records.file_of(item.session.name), records.dumped(touched))
    return Outcome(record.row, kept=True)


def _mix(item: Item, job: Job, folder: Path, content: str) -> Row:
    mixer = _mixer_at(job.mixer, job.mixer_digest)
    name = PurePosixPath(item.session.name or job.source.name).name
    options = job.options.model_copy(update={"song": name[:_LONGEST_SONG_NAME]})
    if item.session.stems is None:
        options = options.for_tracks()
        stems, table, warnings = _summed(folder, mixer)
        groups = Counter(str(track.group) for track in table.used)
    else:
        stems = {stem: audio.read(folder / file)[0] for stem, file in item.session.stems.items()}
        groups, warnings = Counter(), []
    written: dict[str, Path] = {}
    with contextlib.ExitStack() as stack:
        path = written[item.target] = stack.enter_context(job.sink.place(item.target))
        parts = parts_of(item.target)
        out = PartsOut(stack.enter_context(job.sink.place(parts)), job.mixer_name) if job.parts else None
        sources = dict.fromkeys(stems, item.folder)
        mixed = mix_samples(mixer, stems, options, path, parts=out, sources=sources)
        if out is not None:
            written |= {f"{parts}/{file}": out.folder / file for file in files_in(out.folder)}
        outputs = {name: file_digest(file).hex() for name, file in written.items()}
    row = _row(item, mixed, groups, [_without(folder, text) for text in warnings])
    _remove_older(item, job, set(outputs))
    record = Record(
        key=item.key,
        stamps=records.stamps_of(item.session),
        content=content,
        outputs=outputs,
        output_stamps=job.sink.stamps(list(outputs)),
        row=row,
    )
    job.sink.write(records.file_of(item.session.name), records.dumped(record))
    return row


def _summed(folder: Path, mixer: Mixer) -> tuple[dict[str, np.ndarray], Table, list[str]]:
    session = open_session(folder, mixer.recipe.statistics)
    summed = sum_groups(session.table, session.recordings)
    return summed.stems, session.table, [*session.warnings, *summed.findings]


def _row(item: Item, mixed: FileMix, groups: dict[str, int], warnings: list[str]) -> Row:
    report = mixed.report()
    return Row(
        session=item.folder,
        status="mixed",
        kind=_kind(item),
        file=item.target,
        seconds=round(report["seconds"], 3),
        loudness_lufs=_rounded(report["loudness_lufs"]),
        true_peak_dbtp=_rounded(report["true_peak_dbtp"]),
        remark=mixed.delivered.remark,
        drift=_worst(report["drift"]),
        groups=groups,
        warnings=(*warnings, *report["warnings"]),
    )


def _worst(drift: dict[str, dict[str, float | None]]) -> dict[str, Drift]:
    """By stem, the effect in which it lies farthest from the training songs."""
    worst: dict[str, Drift] = {}
    for effect, by_stem in drift.items():
        for stem, value in by_stem.items():
            if value is not None and (stem not in worst or abs(value) > abs(worst[stem].spreads)):
                worst[stem] = Drift(effect=effect, spreads=round(value, 2))
    return worst


def _remove_older(item: Item, job: Job, outputs: set[str]) -> None:
    """What an earlier run made of this session and this one does not; what somebody has changed since stays."""
    record = item.record
    if record is not None:
        for name, digest in record.outputs.items():
            if name not in outputs and job.sink.digest(name) == digest:
                job.sink.remove(name)


def _kind(item: Item) -> Any:
    return "tracks" if item.session.stems is None else "stems"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


@functools.lru_cache(maxsize=1)
def _mixer_at(folder: Path, digest: str) -> Mixer:
    """A process reads the Mixer once, not once a session; one that takes another's place is another."""
    return Mixer.load(folder)

"""Every session and song below a folder or a prefix of a store to a mix, with a table and a page on all of them.

What was mixed before, of the same files with the same Mixer, options and code, is not mixed again, so that a run that
was stopped goes on. One session that cannot be mixed is listed, and the others are mixed.
"""

import contextlib
import functools
import hashlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from tqdm import tqdm

from fxnorm.catalogue import loads, records, report
from fxnorm.catalogue.find import File, Found, catalogue_of
from fxnorm.catalogue.mix import Item, Job, Outcome, failed, mix_session
from fxnorm.catalogue.places import Sink, Source
from fxnorm.catalogue.records import Row
from fxnorm.catalogue.targets import PAGE_FILE, TABLE_FILE, Targets, targets
from fxnorm.data import parallel
from fxnorm.data.dataset import shard_of
from fxnorm.data.versions import made_by
from fxnorm.errors import DatasetError, FxnormError, ModelError, OutputError, StoreError, printable
from fxnorm.io import locks, object_store, outputs
from fxnorm.io.files import whole_file, write_json
from fxnorm.mixing.mixer import CONTENTS, MIXER_FILE, Mixer, mixer_digest
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.shipped import directory_of
from fxnorm.models.device import default_device
from fxnorm.runtime.signals import Terminated

_DESCRIPTION = "mix-all"
_WORKERS_OF_A_DEVICE = 2
"""As of the evaluation: one works on the processor while the other one's network computes on the device."""
_ASKED_AT_ONCE = 16  # records that a store is asked for
_LISTED = 5  # files in a sentence
_LARGEST_MIXER_BYTES = 4 * 2**30
_SHOWN = 200  # characters of a name


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        rows: of the sessions that it was to do, by name.
        kept: how many were mixed before.
        notes: sentences on the catalogue.
    """

    rows: tuple[Row, ...]
    kept: int
    notes: tuple[str, ...]

    @property
    def failed(self) -> list[Row]:
        """Those that could not be mixed."""
        return [row for row in self.rows if row.status == "failed"]


class Listing(BaseModel):
    """The sessions of a catalogue at one time, so that all shards share them out alike.

    Attributes:
        sessions: where they lie.
        files: all audio files and tables: name, bytes, stamp.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sessions: str
    files: list[tuple[str, int, str]]

    @classmethod
    def of(cls, sessions: str) -> "Listing":
        """What lies there now.

        Raises:
            DatasetError: there is no such folder, or no audio in it.
            FxnormError: the store refuses, or does not answer.
        """
        files = Source(sessions).files()
        if not files:
            raise DatasetError(f"{sessions}: expected sessions (folders of audio files), found no audio file")
        return cls(sessions=sessions, files=[(file.name, file.size, file.stamp) for file in files])

    @classmethod
    def load(cls, path: Path) -> "Listing":
        """From its file.

        Raises:
            DatasetError: it is no such file.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise DatasetError(f"{path}: expected a list of sessions") from error

    def save(self, path: Path) -> None:
        """Write it into a ``.json`` file."""
        write_json(path, self.model_dump())

    def found(self) -> tuple[list[Found], list[str]]:
        """The sessions by name, and sentences on what belongs to none.

        Raises:
            DatasetError: there is none.
        """
        catalogue = catalogue_of(File(*file) for file in self.files)
        if not catalogue.sessions:
            raise DatasetError(f"{self.sessions}: expected sessions (folders of audio files), found none")
        notes = []
        if catalogue.loose:
            shown = ", ".join(printable(name, _SHOWN) for name in catalogue.loose[:_LISTED])
            more = f" and {len(catalogue.loose) - _LISTED} more" if len(catalogue.loose) > _LISTED else ""
            notes.append(f"in no session, so not mixed: {shown}{more}")
        return list(catalogue.sessions), notes


@contextlib.contextmanager
def mixer_directory(name: str) -> Iterator[Path]:
    """The directory of a Mixer on this machine, while the block runs.

    Args:
        name: a directory, ``default``, ``models:/NAME@ALIAS`` (or ``models:/NAME/VERSION``), or ``s3://BUCKET/PREFIX``.

    Raises:
        ModelError: it is not there.
        FxnormError: the store refuses, or does not answer.
    """
    if name.startswith("models:/"):
        from fxnorm.registry import registered

        with registered.mixer_directory(name) as folder:
            yield folder
    elif object_store.is_address(name):
        with tempfile.TemporaryDirectory(prefix="fxnorm-") as temporary:
            _fetch(name, Path(temporary))
            yield Path(temporary)
    else:
        yield directory_of(name)


def _fetch(address: str, folder: Path) -> None:
    """A Mixer of a store; of what else lies there nothing is read."""
    store = object_store.Folder(address)
    stored = [one for one in store.below() if re.fullmatch(CONTENTS.names, one.name) and ".." not in one.name]
    if sum(one.size for one in stored) > _LARGEST_MIXER_BYTES:
        raise ModelError(f"{address}: expected a Mixer of at most {_LARGEST_MIXER_BYTES} bytes, found a larger one")
    for one in stored:
        (folder / one.name).parent.mkdir(parents=True, exist_ok=True)
        store.download(one.name, folder / one.name)
    if not (folder / MIXER_FILE).is_file():
        raise ModelError(f"{address}: expected a Mixer directory with {MIXER_FILE}, found none")


def refuse_broken(mixer: Path) -> None:
    """Refuse a Mixer that cannot be loaded: an error in it is raised at once, and not of each session.

    Raises:
        ModelError: it cannot.
    """
    Mixer.load(mixer, torch.device("cpu"))


def run(
    mixer: Path,
    sessions: str | Listing,
    output: str,
    options: MixOptions,
    *,
    mixer_name: str | None = None,
    parts: bool = False,
    workers: int = 0,
    shard: tuple[int, int] | None = None,
) -> Summary:
    """Mix every session and song below a place; write the table and the page.

    Args:
        mixer: the Mixer's directory.
        sessions: a folder or ``s3://BUCKET/PREFIX`` (:mod:`fxnorm.catalogue.find` says what is a session), or what was
            found there before.
        output: a folder or ``s3://BUCKET/PREFIX`` for the mixes, ``mixes.csv`` and ``index.html``: new, empty or of an
            earlier run.
        options: of each mix; the song, whose name decides its draws, is the name of the session's folder.
        mixer_name: what the Mixer is called in descriptions; the default is its path.
        parts: also write what each stem contributes.
        workers: processes; 0 for as many as there are cores and memory for. With 1 all is done in this process.
        shard: (number, of how many), from 1: only this part of the sessions, and neither table nor page.

    Raises:
        DatasetError: there is no session.
        OutputError: ``output`` holds something else, or cannot be written.
        ModelError: the Mixer's directory is none.
        StoreError: a store does not answer.
        KeyboardInterrupt, Terminated: with a note of how many were done.
    """
    listing = Listing.of(sessions) if isinstance(sessions, str) else sessions
    found, notes = listing.found()
    source, sink = Source(listing.sessions), Sink(output)
    _check_places(mixer, source, sink)
    refuse_broken(mixer)
    job = Job(source, sink, mixer, mixer_digest(mixer), mixer_name or str(mixer), options, parts)
    with _claimed(sink, shard):
        sink.claim()
        named = targets([session.name for session in found], f".{options.output_format}", source.name)
        items = _items(shared_out(found, shard), job, named)
        outcomes = _outcomes(items, job, workers)
        summary = Summary(
            tuple(outcome.row for outcome in outcomes),
            sum(outcome.kept for outcome in outcomes),
            (*notes, *named.notes),
        )
        if shard is None:
            _write(summary.rows, job, summary.notes)
    return summary


def shared_out(sessions: Sequence[Found], shard: tuple[int, int] | None) -> list[Found]:
    """The sessions of a shard, by name: the largest first, each goes to the shard that has least.

    Raises:
        SettingsError: there is no such shard.
    """
    if shard is None:
        return list(sessions)
    number, count = shard
    shard_of([], shard)  # which refuses a number that is none
    sizes = [0] * count
    mine = []
    for session in sorted(sessions, key=lambda session: (-session.size, session.name)):
        least = sizes.index(min(sizes))
        sizes[least] += session.size + 1
        if least == number - 1:
            mine.append(session)
    return sorted(mine, key=lambda session: session.name)


def finish(
    mixer: Path,
    listing: Listing,
    output: str,
    options: MixOptions,
    mixer_name: str,
    parts: bool,
    page: Path | None = None,
) -> Summary:
    """Write the table and the page of sessions that shards did; what a shard has not done counts as failed.

    Args:
        mixer: as :func:`run`.
        listing: that all shards had.
        output: as :func:`run`.
        options: likewise.
        mixer_name: likewise.
        parts: likewise.
        page: a file for another copy of the page, which has no players there.
    """
    found, notes = listing.found()
    job = Job(Source(listing.sessions), Sink(output), mixer, mixer_digest(mixer), mixer_name, options, parts)
    named = targets([session.name for session in found], f".{options.output_format}", job.source.name)
    items = _items(found, job, named)
    rows = tuple(
        item.record.row
        if item.record is not None and _without_device(item.record.key) == _without_device(item.key)
        else failed(item, job, "no shard has mixed it").row
        for item in items
    )
    content = _write(rows, job, (*notes, *named.notes))
    if page is not None:
        with whole_file(page) as temporary:
            temporary.write_bytes(content)
    return Summary(rows, len(rows), (*notes, *named.notes))


def _check_places(mixer: Path, source: Source, sink: Sink) -> None:
    if sink.is_stored:
        object_store.split(sink.address)
        if f"{sink.address.rstrip('/')}/".startswith(f"{source.address.rstrip('/')}/"):
            raise OutputError(f"{sink.address}: lies in an input of this command, {source.address}; name another place")
        sink.refuse_others()
        return
    inputs = [mixer, None if object_store.is_address(source.address) else source.address]
    outputs.check(inputs, [outputs.Folder(Path(sink.address), sink.refuse_others, whole=False)])


@contextlib.contextmanager
def _claimed(sink: Sink, shard: tuple[int, int] | None) -> Iterator[None]:
    """A folder for one run alone, or for several shards; a store has no locks."""
    with contextlib.ExitStack() as stack:
        if not sink.is_stored:
            folder = Path(sink.address)
            stack.enter_context(locks.held(folder, shared=shard is not None))
            if shard is not None:
                stack.enter_context(locks.held(folder, f"-shard-{shard[0]}-of-{shard[1]}"))
        yield


def _items(sessions: Sequence[Found], job: Job, named: Targets) -> list[Item]:
    """What is to be done, each with the record of an earlier run if there is one."""
    known = set(job.sink.records())
    files = [records.file_of(session.name) for session in sessions]
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        contents = pool.map(lambda file: job.sink.read(file) if file in known else None, files)
        found = [records.parsed(content) for content in contents]
    items = []
    for session, record in zip(sessions, found, strict=True):
        target = named.files[session.name]
        items.append(Item(session, target, _key(job, session, target), record))
    return items


def _key(job: Job, session: Found, target: str) -> str:
    """A hash of all that decides about a session's mix beside its files."""
    options = job.options.model_dump()
    parts = job.mixer_name if job.parts else None
    made = [made_by("fxnorm.catalogue.mix"), job.mixer_digest]
    content = [*made, options, parts, session.name, session.stems, target, job.source.name]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{digest} {default_device().type}"


def _without_device(key: str) -> str:
    """A key as another machine has it: whoever writes the page may not have what the mixes were computed on."""
    return key.partition(" ")[0]


def _outcomes(items: list[Item], job: Job, workers: int) -> list[Outcome]:
    """What became of each, in their order."""
    stamps = job.sink.stamps([name for item in items if item.record is not None for name in item.record.outputs])
    outcomes: dict[int, Outcome] = {}
    waiting = []
    for number, item in enumerate(items):
        if item.record is not None and item.record.is_current(item.key, item.session, stamps):
            outcomes[number] = Outcome(item.record.row, kept=True)
        else:
            waiting.append(number)
    needs = {number: loads.load_of(items[number].session, job.source.address) for number in waiting}
    waiting.sort(key=lambda number: (-needs[number], items[number].session.name))  # longest first
    outcomes |= _mixed(items, waiting, [needs[number] for number in waiting], job, workers)
    return [outcomes[number] for number in range(len(items))]


def _mixed(items: list[Item], waiting: list[int], needs: list[float], job: Job, workers: int) -> dict[int, Outcome]:
    capacity = loads.usable(parallel.available_memory())
    if not workers and default_device().type == "cuda":
        workers = _WORKERS_OF_A_DEVICE
    work = functools.partial(mix_session, job=job)
    todo = [items[number] for number in waiting]
    count = min(workers or parallel.available_cores(), max(len(todo), 1))
    if workers == 1:
        done = parallel.each(work, todo, 1, _DESCRIPTION)
    else:
        done = parallel.each_surviving(work, todo, count, _DESCRIPTION, needs, capacity)
    outcomes: dict[int, Outcome] = {}
    bar = tqdm(
        total=len(todo), desc=_DESCRIPTION, unit="session", dynamic_ncols=True, mininterval=0.5, disable=not todo
    )
    with bar, contextlib.closing(done):
        seconds = 0.0
        try:
            for index, future in done:
                try:
                    outcome = future.result()
                except (OutputError, StoreError):
                    raise
                except FxnormError as error:  # its process was ended from outside
                    outcome = failed(todo[index], job, str(error))
                outcomes[waiting[index]] = outcome
                _tell(outcome)
                seconds += outcome.row.seconds or 0.0
                parallel.advance(bar, seconds)
        except (KeyboardInterrupt, Terminated) as error:
            error.add_note(f"{_DESCRIPTION}: {len(outcomes)} of {len(todo)} sessions were done")
            raise
    return outcomes


def _tell(outcome: Outcome) -> None:
    """A failure, at once, on stderr beside the bar."""
    if outcome.trace is not None:
        tqdm.write(outcome.trace, file=sys.stderr)
    if outcome.row.status == "failed":
        tqdm.write(f"not mixed: {printable(outcome.row.session, _SHOWN)}: {outcome.row.message}", file=sys.stderr)


def _write(rows: Sequence[Row], job: Job, notes: Sequence[str]) -> bytes:
    job.sink.write(TABLE_FILE, report.table(rows))
    options = job.options.model_dump(exclude={"song"}, exclude_defaults=True)
    facts = {
        "Mixer": job.mixer_digest[:12],
        "Format": job.options.output_format,
        **{name: str(value) for name, value in options.items() if name != "output_format"},
        "Parts": "yes" if job.parts else "no",
    }
    content = report.page(rows, facts, notes)
    job.sink.write(PAGE_FILE, content)
    return content

"""Writes the songs of a plan in the library's layout, each whole or not at all.

A song whose recordings, gains and files are those of its record is neither decoded nor written again; so an import that
was ended goes on where it was, and one that is done has nothing to do. What the import did not write is neither
replaced nor removed.
"""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from fxnorm.data import parallel
from fxnorm.data.importers import provenance, stems
from fxnorm.data.importers.placement import Follower, Identity, Place, folder_name, place
from fxnorm.data.importers.plan import DRY, WET, LeftOut, Plan, plain_song
from fxnorm.data.importers.provenance import DatasetRecord, LeftOutRecord, SongRecord
from fxnorm.errors import DatasetError, FxnormError, OutputError
from fxnorm.io import locks, outputs
from fxnorm.io.files import is_temporary, remove, whole_folder, writing
from fxnorm.io.folders import is_litter
from fxnorm.io.names import check_text
from fxnorm.runtime.signals import Terminated

_MOST_NAMED = 3


@dataclass(frozen=True)
class Imported:
    """What an import did.

    Attributes:
        songs: by their folders such as ``wet/train/NAME``: all songs of this source that are there now.
        written: folders of songs that were decoded and written.
        moved: folders of songs that were moved from another split or name.
        removed: folders of songs that are no longer part of the plan, as they were.
        kept: folders of songs that the source no longer has, or has without their metadata.
        failed: original names of songs that could not be imported, with the reasons.
        left_out: songs that are not imported, with the reasons.
        trained_on: folders of raw songs for testing whose finished form is in ``train`` or ``val``, of any import.
    """

    songs: dict[str, SongRecord]
    written: tuple[str, ...]
    moved: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]
    failed: dict[str, str]
    left_out: tuple[LeftOut, ...]
    trained_on: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """One song to be made, if it is not there yet."""

    place: Place
    root: Path
    source: Path
    there: tuple[str, SongRecord] | None
    """Its folder now, and the record of it."""

    @property
    def folder(self) -> Path:
        return self.root / self.place.key


@dataclass(frozen=True)
class _Done:
    record: SongRecord
    what: Literal["written", "moved", "nothing"]


def write(
    plan: Plan,
    kind: str,
    source: Path,
    root: Path,
    link: bool = False,
    workers: int | None = None,
    skip_errors: bool = False,
) -> Imported:
    """Import the songs of a plan into ``ROOT/{wet,dry}/SPLIT/SONG``, and write ``ROOT/import.json``.

    Args:
        plan: of the source.
        kind: of the import.
        source: the dataset's folder.
        root: of the dataset that is written; other imports may have written to it before.
        link: let stems that are files already be links to them.
        workers: processes; the default is one a core.
        skip_errors: leave out songs that cannot be imported instead of stopping at the first.

    Raises:
        DatasetError: the plan has no songs, none could be imported, or the metadata of one are broken and errors are
            not skipped.
        FxnormError: the first song's error, if they are not skipped.
        OutputError: ``root`` cannot be written to, or a song's folder holds what no import wrote. Errors are not
            skipped then.
        LockedError: another import writes to ``root``.
    """
    if plan.broken and not skip_errors:
        raise DatasetError(plan.broken[0].reason)
    plan = _with_usable_names(plan, skip_errors)
    if not plan.songs:
        raise DatasetError(f"{source}: holds no song that can be imported{_reasons(plan)}")
    outputs.check([source], places=[root])
    with locks.held(root):
        return _write(plan, kind, source, root, link, workers, skip_errors)


def _with_usable_names(plan: Plan, skip_errors: bool) -> Plan:
    """The plan without songs whose names are no text; these are broken.

    Raises:
        DatasetError: there is one, and errors are not skipped.
    """
    songs, broken = [], list(plan.broken)
    for song in plan.songs:
        try:
            check_text(song.name)
        except DatasetError as error:
            if not skip_errors:
                raise
            broken.append(LeftOut(song.original, str(error)))
        else:
            songs.append(song)
    return replace(plan, songs=tuple(songs), broken=tuple(broken))


def _write(
    plan: Plan, kind: str, source: Path, root: Path, link: bool, workers: int | None, skip_errors: bool
) -> Imported:
    before = provenance.read(root)
    there = provenance.records(root, before.songs if before else {})
    places, followers = place(plan, kind, source, root, link, there)
    places, trained_on = _without_trained_on(places)
    plan = replace(plan, left_out=(*plan.left_out, *trained_on))
    jobs = _jobs(places, root, source, there)
    done, failed = _do(jobs, workers, skip_errors)
    failed = {**{item.name: item.reason for item in plan.broken}, **failed}
    if not done:
        raise DatasetError(f"{source}: no song could be imported; the first: {next(iter(failed.values()))}")
    songs = dict(there)
    for job in jobs:
        if job.place.key in done:
            if job.there is not None:
                songs.pop(job.there[0], None)
            songs[job.place.key] = done[job.place.key].record
    moved = [*_follow(followers, root, songs), *(key for key, item in done.items() if item.what == "moved")]
    planned = {Identity.of(item.record): item.key for item in places}
    removed, kept = _remove_others(plan, kind, source, songs, root, planned)
    current = DatasetRecord(
        kind=kind,
        name=plan.dataset,
        source=os.path.realpath(source),
        licence=plan.licence,
        commercial=plan.commercial,
        remarks=plan.remarks,
        left_out=tuple(LeftOutRecord(name=item.name, reason=item.reason) for item in plan.left_out),
        failed=tuple(LeftOutRecord(name=name, reason=reason) for name, reason in failed.items()),
    )
    provenance.write(root, [*(before.datasets if before else ()), current], songs)
    return Imported(
        songs={
            key: record
            for key, record in sorted(songs.items())
            if (record.kind, record.dataset, record.source) == (kind, plan.dataset, current.source)
        },
        written=tuple(sorted(key for key, item in done.items() if item.what == "written")),
        moved=tuple(sorted(moved)),
        removed=tuple(removed),
        kept=tuple(kept),
        failed=failed,
        left_out=plan.left_out,
        trained_on=tuple(_trained_on(songs)),
    )


def _without_trained_on(places: Sequence[Place]) -> tuple[list[Place], list[LeftOut]]:
    """Songs without raw ones whose finished form a song of another dataset has brought into ``train`` or ``val``."""
    splits = {item.record.original: item.planned.split for item in places if item.planned.part == WET}
    kept, left_out = [], []
    for item in places:
        split = splits.get(item.record.original, item.planned.split)
        if item.planned.part == DRY and split != item.planned.split:
            left_out.append(LeftOut(item.planned.name, f"its raw tracks: in its finished form it is in {split}"))
        else:
            kept.append(item)
    return kept, left_out


def _trained_on(songs: Mapping[str, SongRecord]) -> list[str]:
    """Raw songs that a network knows in their finished form, by their names."""
    seen = {
        plain_song(name)
        for key, record in songs.items()
        if record.part == WET and key.split("/")[1] != "test"
        for name in (record.name, record.original)
    }
    return [
        key
        for key, record in sorted(songs.items())
        if record.part == DRY and not seen.isdisjoint({plain_song(record.name), plain_song(record.original)})
    ]


def _jobs(places: Sequence[Place], root: Path, source: Path, there: Mapping[str, SongRecord]) -> list[_Job]:
    known: dict[Identity, list[str]] = {}
    for key, record in there.items():
        known.setdefault(Identity.of(record), []).append(key)
    jobs = []
    for item in places:
        keys = known.get(Identity.of(item.record), [])
        found = item.key if item.key in keys else next(iter(keys), None)
        jobs.append(_Job(item, root, source, None if found is None else (found, there[found])))
    return jobs


def _do(jobs: Sequence[_Job], workers: int | None, skip_errors: bool) -> tuple[dict[str, _Done], dict[str, str]]:
    done: dict[str, _Done] = {}
    failed: dict[str, str] = {}
    workers = min(workers or parallel.available_cores(), len(jobs))
    with (
        tqdm(total=len(jobs), desc="import", unit="song", dynamic_ncols=True, mininterval=0.5) as bar,
        contextlib.closing(parallel.each(_import_song, jobs, workers, "import")) as results,
    ):
        try:
            for index, future in results:
                item = jobs[index].place
                try:
                    done[item.key] = future.result()
                except FxnormError as error:
                    if not skip_errors or isinstance(error, OutputError):  # a full disk is no song's fault
                        raise
                    failed[item.planned.original] = str(error)
                bar.update()
        except (KeyboardInterrupt, Terminated) as error:
            error.add_note(f"import: {len(done)} of {len(jobs)} songs were finished; the same command goes on with it")
            raise
    order = [job.place for job in jobs]
    return (
        {item.key: done[item.key] for item in order if item.key in done},
        {item.planned.original: failed[item.planned.original] for item in order if item.planned.original in failed},
    )


def _import_song(job: _Job) -> _Done:
    """Make a song, or find that it is made."""
    expected = job.place.record
    if job.there is not None:
        key, record = job.there
        folder = job.root / key
        whole = _is_whole(folder, record)
        current = stems.digests(job.place.planned.members)
        _refuse_another_source(folder, record, job.place, current)
        if whole and _is_made_of(record, job.place, current):
            same = _with_results(expected, record)
            with writing(job.folder):
                moved = _move(folder, job.folder)
                if moved or same != record or not (job.folder / provenance.RECORD_FILE).is_file():
                    provenance.write_record(job.folder, same)
            return _Done(same, "moved" if moved else "nothing")
    with whole_folder(job.folder, lambda folder: _refuse_others(folder, job)) as temporary:
        made = stems.make(job.place.planned, job.source, temporary, expected.link)
        made_of = {"groups": made.groups, "findings": made.findings, "files": made.files}
        record = expected.model_copy(update=made_of)
        provenance.write_record(temporary, record)
    if job.there is not None and job.there[0] != job.place.key:
        _remove(job.root / job.there[0], job.there[1])
    return _Done(record, "written")


def _is_made_of(record: SongRecord, place: Place, digests: Sequence[str]) -> bool:
    """Whether a song was made of these recordings, in this way."""
    expected = place.record
    if (record.format, record.link, record.mixture) != (expected.format, expected.link, expected.mixture):
        return False
    if record.groups.keys() != expected.groups.keys():
        return False
    current = _by_group(place, digests)
    return all(
        [member.model_copy(update={"start": 0}) for member in members]
        == [
            member.model_copy(update={"sha256": digest})
            for member, digest in zip(expected.groups[group], current[group], strict=True)
        ]
        for group, members in record.groups.items()
    )


def _by_group(place: Place, digests: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for member, digest in zip(place.planned.members, digests, strict=True):
        found.setdefault(member.group, []).append(digest)
    return found


def _with_results(expected: SongRecord, record: SongRecord) -> SongRecord:
    """What an import that made the song again would note of it."""
    return expected.model_copy(update={name: getattr(record, name) for name in ("groups", "findings", "files")})


def _is_whole(folder: Path, record: SongRecord) -> bool:
    """Whether a song's files are those that were written.

    Raises:
        OutputError: one was changed since: it may be somebody's work.
    """
    whole = True
    for name, written in record.files.items():
        path = folder / name
        if not path.is_file():
            whole = False
        elif stems.file_digest(path) != written.sha256:
            if written.link == "none":
                raise OutputError(
                    f"{path}: was changed since it was imported; move it away, or remove {folder} to import it again"
                )
            whole = False  # the source was changed
    return whole


def _refuse_another_source(folder: Path, record: SongRecord, place: Place, digests: Sequence[str]) -> None:
    """Refuse to replace a song by one of the same name that another source has."""
    if record.source == place.record.source:
        return
    by_group = _by_group(place, digests)
    current = {
        (member.file, member.entry): digest
        for group, members in place.record.groups.items()
        for member, digest in zip(members, by_group[group], strict=True)
    }
    for member in (member for members in record.groups.values() for member in members):
        if current.get((member.file, member.entry), member.sha256) != member.sha256:
            raise DatasetError(
                f"{folder}: was imported from {record.source}; {member.name} is another recording in"
                f" {place.record.source}; remove that folder to import it from there"
            )


def _refuse_others(folder: Path, job: _Job) -> None:
    """Refuse a song's folder that holds what no import of this song put there."""
    if not folder.exists():
        return
    if job.there is None or job.there[0] != job.place.key:
        raise OutputError(f"{folder}: is there already, and this song was not imported to it; move it away")
    if others := _others(folder, job.there[1]):
        raise OutputError(f"{folder}: holds {others[0]}, which no import put there; move it away")


def _others(folder: Path, record: SongRecord) -> list[str]:
    """What lies in a song's folder besides what was imported."""
    ours = {*record.files, provenance.RECORD_FILE}
    return [name for name in outputs.files_in(folder) if name not in ours]


def _move(folder: Path, target: Path) -> bool:
    """Give a song's folder another place; whether there was anything to do."""
    if folder == target:
        return False
    if target.exists():
        raise OutputError(f"{target}: is there already, and {folder} was to be moved to it; move it away")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(folder, target)
    return True


def _follow(followers: Iterable[Follower], root: Path, songs: dict[str, SongRecord]) -> list[str]:
    """Move songs of other datasets into the split that a song of this one has; returns their folders now."""
    moved = []
    for follower in followers:
        record = songs.pop(follower.key)
        part, split, name = follower.key.split("/")
        if split != follower.split and (root / part / follower.split / name).exists():
            name = folder_name(f"{name} ({record.dataset})")
        key = f"{part}/{follower.split}/{name}"
        changes = {"split": follower.split, "split_reason": follower.reason, "follows": follower.follows}
        songs[key] = record.model_copy(update=changes)
        with writing(root / key):
            if _move(root / follower.key, root / key):
                moved.append(key)
            provenance.write_record(root / key, songs[key])
    return moved


def _remove_others(
    plan: Plan,
    kind: str,
    source: Path,
    songs: dict[str, SongRecord],
    root: Path,
    places: Mapping[Identity, str],
) -> tuple[list[str], list[str]]:
    """Remove songs that an earlier import of this source made and this one would not.

    A song is removed where the plan says why: it leaves the song out, has it in another place, or has it in its other
    part alone. Others stay, since nothing could bring them back: their recordings or metadata are no longer in the
    source, or cannot be used now.

    Returns:
        the folders that were removed, and those that stay.
    """
    removed, kept = [], []
    broken = {item.name for item in plan.broken}
    explained = {item.name for item in plan.left_out} | {identity.original for identity in places}
    for key, record in sorted(songs.items()):
        if not broken.isdisjoint((record.name, record.original)):
            continue
        if (record.kind, record.dataset, record.source) != (kind, plan.dataset, os.path.realpath(source)):
            continue
        identity = Identity.of(record)
        if places.get(identity) == key or (identity in places and places[identity] not in songs):
            continue
        members = [member for group in record.groups.values() for member in group]
        in_source = not explained.isdisjoint((record.name, record.original)) and all(
            stems.source_file(source, member).is_file() for member in members
        )
        if identity not in places and not in_source:
            kept.append(key)
            continue
        with writing(root / key):
            _remove(root / key, record)
        del songs[key]
        removed.append(key)
    return removed, kept


def _remove(folder: Path, record: SongRecord) -> None:
    """Remove what was imported to a folder, its record last, and the folder if nothing else lies in it."""
    _is_whole(folder, record)  # refuses files that were changed
    for name in record.files:
        (folder / name).unlink(missing_ok=True)
    for name in os.listdir(folder):
        if is_temporary(name) or is_litter(name):
            remove(folder / name)
    (folder / provenance.RECORD_FILE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # other files in it stay
        folder.rmdir()


def _reasons(plan: Plan) -> str:
    if plan.broken:
        return f"; the first: {plan.broken[0].reason}"
    shown = [f"{item.name} ({item.reason})" for item in plan.left_out[:_MOST_NAMED]]
    return f"; left out: {', '.join(shown)}" if shown else ""

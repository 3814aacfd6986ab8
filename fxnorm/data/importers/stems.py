"""Makes the stems of a song out of its members: gain, place in time, channels, sum; one member in memory at a time.

Sums may pass full scale, so they are written as 32-bit float, neither normalized nor clipped.
"""

import errno
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data import recordings as recordings_in_time
from fxnorm.data.importers import archives
from fxnorm.data.importers.plan import Member, PlannedSong
from fxnorm.data.importers.provenance import FileRecord, MemberRecord
from fxnorm.data.recordings import Take, on_side
from fxnorm.errors import AudioError, DatasetError, first_line
from fxnorm.io import audio

_LINKED = (".wav", ".flac")
_NO_HARD_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Another file system, one without hard links, or a file of another user."""
_GROUPS = (*STEMS, MIXTURE)


@dataclass(frozen=True)
class Made:
    """What :func:`make` wrote.

    Attributes:
        groups: the members of each stem, with their digests and where they begin.
        findings: what was found in the recordings, a sentence each.
        files: what lies in the song's folder.
    """

    groups: dict[str, tuple[MemberRecord, ...]]
    findings: tuple[str, ...]
    files: dict[str, FileRecord]


@dataclass(frozen=True)
class _Recording:
    """A member and the file in which its audio lies, that in an archive unpacked."""

    member: Member
    path: Path
    digest: str
    start: int = 0


def member_record(member: Member, source: Path, digest: str = "", start: int = 0) -> MemberRecord:
    """A member as the provenance has it.

    Args:
        member: of a planned song.
        source: the dataset's folder, or its archive.
        digest: SHA-256 of its file.
        start: samples at 44.1 kHz.
    """
    if member.path == source:
        file = source.name
    elif member.path.is_relative_to(source):
        file = member.path.relative_to(source).as_posix()
    else:
        file = str(member.path.absolute())
    return MemberRecord(
        name=member.name,
        file=file,
        entry=member.entry,
        label=member.label,
        gain=member.gain,
        stream=member.stream,
        side=member.side,
        start=start,
        sha256=digest,
    )


def source_file(source: Path, member: MemberRecord) -> Path:
    """Where the file of a member lies."""
    return (source.parent if source.is_file() else source) / member.file


def digests(members: Sequence[Member]) -> list[str]:
    """SHA-256 of the file of each member, or of the entry of its archive; each is read once.

    Raises:
        DatasetError: one cannot be read.
    """
    known: dict[tuple[Path, str | None], str] = {}
    for member in members:
        key = member.path, member.entry
        if key not in known:
            known[key] = _digest(*key)
    return [known[member.path, member.entry] for member in members]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make(song: PlannedSong, source: Path, folder: Path, link: bool) -> Made:
    """Write the stems of a song and its mixture into a folder; all of one length.

    Args:
        song: what they are made of.
        source: the dataset's folder.
        folder: where they go; it holds nothing else.
        link: let a stem that is a file already be a link to it, if no sample of it has to change.

    Raises:
        AudioError: a recording cannot be read, or a sum is beyond what the library writes.
        DatasetError: the song has no stem, or an archive is damaged.
        OSError: a file cannot be written.
    """
    if not any(member.group in STEMS for member in song.members):
        raise DatasetError(f"{song.original}: has no recording of {', '.join(STEMS)}")
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpacked-") as unpacked:
        opened = _opened(song.members, Path(unpacked))
        try:
            recordings, findings = _placed(opened)
            return _make(song, recordings, findings, source, folder, link)
        except AudioError as error:
            raise AudioError(_with_lasting_names(str(error), song, opened, folder)) from error


def _with_lasting_names(text: str, song: PlannedSong, opened: Sequence[_Recording], folder: Path) -> str:
    """A text without the temporary names of files."""
    for recording in opened:
        if recording.member.entry is not None:
            text = text.replace(str(recording.path), f"{recording.member.path}: {recording.member.entry}")
    return text.replace(str(folder), song.name)


def _make(
    song: PlannedSong, recordings: Sequence[_Recording], findings: list[str], source: Path, folder: Path, link: bool
) -> Made:
    groups = {
        group: chosen for group in _GROUPS if (chosen := [item for item in recordings if item.member.group == group])
    }
    lengths: dict[str, int] = {}
    links: dict[str, str] = {}
    mixture = np.zeros((audio.MAX_CHANNELS, 0), np.float32)
    for group, members in groups.items():
        if group == MIXTURE and song.mixture != "file":
            continue
        linked = _link(members[0], group, folder) if link and len(members) == 1 else None
        name = f"{group}.wav" if linked is None else linked[0]
        if linked is not None:
            lengths[name], links[name] = linked[1], linked[2]
        if linked is None or (song.mixture == "sum" and group != MIXTURE):
            total = _sum(members, findings)
            if linked is None:
                audio.write(folder / name, total)
                lengths[name] = total.shape[1]
            if song.mixture == "sum" and group != MIXTURE:
                mixture = _added(mixture, total, 0)
            del total
    if song.mixture == "sum":
        audio.write(folder / f"{MIXTURE}.wav", mixture)
        lengths[f"{MIXTURE}.wav"] = mixture.shape[1]
    del mixture
    for name in _padded(folder, lengths):
        links.pop(name, None)
    files = {
        name: FileRecord.model_validate({"sha256": file_digest(folder / name), "link": links.get(name, "none")})
        for name in sorted(os.listdir(folder))
        if not name.startswith(".")
    }
    return Made(
        groups={
            group: tuple(member_record(item.member, source, item.digest, item.start) for item in members)
            for group, members in groups.items()
        },
        findings=tuple(findings),
        files=files,
    )


def _opened(members: Sequence[Member], unpacked: Path) -> list[_Recording]:
    """The members with their files; those in archives are unpacked."""
    opened: list[_Recording] = []
    known: dict[tuple[Path, str | None], tuple[Path, str]] = {}
    for number, member in enumerate(members):
        key = member.path, member.entry
        if key not in known and member.entry is not None:
            target = unpacked / f"{number}{Path(member.entry).suffix.lower()}"
            known[key] = target, archives.extract(member.path, member.entry, target)
        elif key not in known:
            known[key] = member.path, _digest(member.path, None)
        opened.append(_Recording(member, *known[key]))
    return opened


def _digest(path: Path, entry: str | None) -> str:
    if entry is not None:
        return archives.entry_digest(path, entry)
    if not path.is_file():
        raise AudioError(f"{path}: no such file")
    try:
        return file_digest(path)
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror or error})") from error


def _placed(recordings: Sequence[_Recording]) -> tuple[list[_Recording], list[str]]:
    """Where recordings begin (:func:`fxnorm.data.recordings.starts`), and how that was found, in words."""
    starts, finding = recordings_in_time.starts([Take.of(item.path) for item in recordings])
    placed = [
        _Recording(item.member, item.path, item.digest, start) for item, start in zip(recordings, starts, strict=True)
    ]
    return placed, [finding] if finding else []


def _link(recording: _Recording, group: str, folder: Path) -> tuple[str, int, str] | None:
    """Link a stem to the file that it is; name, samples and kind of the link, or None where samples have to change."""
    member, path = recording.member, recording.path
    suffix = path.suffix.lower()
    if member.gain != 1 or member.entry is not None or member.stream or member.side or recording.start:
        return None
    if suffix not in _LINKED or not _has_stereo_or_mono(path):
        return None
    samples, rate = audio.length(path)
    if rate != SAMPLE_RATE:
        return None
    name, target = f"{group}{suffix}", Path(os.path.realpath(path))
    try:
        os.link(target, folder / name)
    except OSError as error:
        if error.errno not in _NO_HARD_LINK:
            raise
        os.symlink(target, folder / name)
        return name, samples, "symbolic"
    return name, samples, "hard"


def _has_stereo_or_mono(path: Path) -> bool:
    try:
        return int(soundfile.info(str(path)).channels) <= audio.MAX_CHANNELS
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{path}: not readable as WAV or FLAC ({first_line(error)})") from error


def _sum(recordings: Sequence[_Recording], findings: list[str]) -> np.ndarray:
    """(2, samples), as long as the longest."""
    total = np.zeros((audio.MAX_CHANNELS, 0), np.float32)
    for recording in recordings:
        member = recording.member
        samples, _ = audio.read(recording.path, stream=member.stream)
        if member.gain != 1:
            samples *= np.float32(member.gain)
        if member.side is not None and len(samples) > 1:
            findings.append(f"{member.name}: has two channels already, both are used")
        total = _added(total, on_side(samples, member.side), recording.start)
    return total


def _added(total: np.ndarray, samples: np.ndarray, start: int) -> np.ndarray:
    """The sum of ``total`` (2, n) and ``samples`` (1 or 2, m) from ``start`` on, in the memory of one of them."""
    if start == 0 and total.shape[1] == 0:
        return np.repeat(samples, audio.MAX_CHANNELS, axis=0) if len(samples) == 1 else samples
    total = audio.pad_to(total, start + samples.shape[1])
    total[:, start : start + samples.shape[1]] += samples
    return total


def _padded(folder: Path, lengths: Mapping[str, int]) -> list[str]:
    """Bring all files to the length of the longest; returns those that were shorter, links of which are files now."""
    longest = max(lengths.values())
    shorter = [name for name, length in lengths.items() if length < longest]
    for name in shorter:
        samples, _ = audio.read(folder / name)
        (folder / name).unlink()
        audio.write(folder / Path(name).with_suffix(".wav"), audio.pad_to(samples, longest))
    return shorter

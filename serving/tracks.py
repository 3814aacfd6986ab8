"""The tracks of a request's row: a recording session as audio files by name, sorted and summed to stems."""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data.recordings import Take
from fxnorm.errors import AudioError, DatasetError, SettingsError, printable
from fxnorm.io import audio, object_store
from fxnorm.io.audio import MAX_CHANNELS, DecodingLimits
from fxnorm.serving.deadline import Deadline
from fxnorm.serving.limits import Limits
from fxnorm.sessions import table as tables
from fxnorm.sessions.answer import Groups, groups_of
from fxnorm.sessions.proposal import propose
from fxnorm.sessions.recordings import Recording
from fxnorm.sessions.stems import sum_groups
from fxnorm.sessions.table import Table
from fxnorm.statistics import DatasetStatistics

TRACKS, TABLE = "tracks", "table"
"""Columns: the files by name, and what ``tracks.yaml`` says of them, as JSON."""

_LONGEST_NAME = 255  # bytes of UTF-8
_LONGEST_TABLE = 1_000_000  # characters
_BYTES_PER_SAMPLE = 4
_SHOWN = 100  # characters of a name


@dataclass(frozen=True)
class SummedTracks:
    """A session that was summed.

    Attributes:
        stems: (2, samples) at 44.1 kHz by group.
        groups: what each track was taken for.
        warnings: sentences on how the tracks were put together, and on those that were set aside.
    """

    stems: dict[str, np.ndarray]
    groups: Groups
    warnings: list[str]


def check_tracks(content: Any, limits: Limits) -> dict[str, str]:
    """Names and files of a cell.

    Raises:
        SettingsError: it is no object of texts by name, has too many, or a name that no file has.
    """
    if not isinstance(content, dict):
        raise SettingsError(f"{TRACKS}: expected an object of audio files in base64, or their s3:// URIs, by name")
    if len(content) > limits.max_tracks:
        raise SettingsError(f"{TRACKS}: expected at most {limits.max_tracks}, found {len(content)}")
    for name, value in content.items():
        shown = f"{TRACKS}: {printable(str(name), _SHOWN)}"
        # surrogates, line breaks and other invisible signs are not printable
        if not name.isprintable() or not name.strip() or "/" in name or "\\" in name:
            raise SettingsError(f"{shown}: expected the name of a file, without folders and invisible signs")
        if len(name.encode()) > _LONGEST_NAME:
            raise SettingsError(f"{shown}: expected a name of at most {_LONGEST_NAME} bytes")
        if not isinstance(value, str) or not value:
            raise SettingsError(f"{shown}: expected the base64 of an audio file, or its s3:// URI")
    return content


def check_table(text: Any, names: Mapping[str, str]) -> Table | None:
    """The table of a cell; None where it is empty.

    Raises:
        SettingsError: it is no JSON, no table, or names other files than there are.
    """
    if not text:
        return None
    if not isinstance(text, str) or len(text) > _LONGEST_TABLE:
        raise SettingsError(f"{TABLE}: expected a text of JSON of at most {_LONGEST_TABLE} characters")
    try:
        table = tables.parse(json.loads(text), TABLE)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{TABLE}: is not JSON") from error
    except DatasetError as error:
        raise SettingsError(str(error).splitlines()[0]) from error
    if table.mixture is not None or table.folder != ".":
        raise SettingsError(f"{TABLE}: expected balance and tracks alone, found a mixture or a folder")
    named = {track.file for track in table.tracks}
    if wrong := sorted(named ^ set(names)):
        where = "not among the tracks" if wrong[0] in named else "not in the table; with use: false it is not mixed"
        raise SettingsError(f"{TABLE}: {printable(wrong[0], _SHOWN)}: {where}")
    return table


class TrackReader:
    """Sums the tracks of a request's songs, each decoded when it is needed, within what is left of the limits."""

    def __init__(self, limits: Limits, deadline: Deadline, fetch: Callable[[str], bytes]) -> None:
        self._limits = limits
        self._track_seconds = limits.max_track_seconds
        self._deadline = deadline
        self._fetch = fetch

    def read(
        self, files: Mapping[str, str], table: Table | None, statistics: DatasetStatistics, seconds: float
    ) -> SummedTracks:
        """The stems of a song.

        Args:
            files: by name, in base64 or as s3:// URIs.
            table: of the tracks; without one they are sorted by their names and by what is heard.
            statistics: of the training songs, with which the tracks are compared.
            seconds: the longest song.

        Raises:
            AudioError: a track cannot be read, is beyond the limits, or lies outside the prefixes; nothing is to be
                mixed; or it cannot be told which file is which side of a stereo pair.
            OutOfTimeError: the time is over.
        """
        recordings = {name: self._recording(name, file, seconds) for name, file in files.items()}
        if table is None:
            proposal = propose(recordings, statistics, self._go_on)
            if proposal.problems:
                raise AudioError(proposal.problems[0])
            table = proposal.table
        if not table.used:
            first = table.tracks[0]
            raise AudioError(f"{printable(first.file, _SHOWN)}: {first.why or 'use: false'}; no other track is usable")
        memory = self._limits.decoded_bytes // (len(STEMS) * MAX_CHANNELS * _BYTES_PER_SAMPLE)
        summed = sum_groups(table, recordings, self._go_on, min(memory, round(seconds * SAMPLE_RATE)))
        aside = [f"{printable(track.file, _SHOWN)}: not mixed: {track.why}" for track in table.tracks if not track.use]
        return SummedTracks(summed.stems, groups_of(table), [*summed.findings, *aside])

    def _recording(self, name: str, file: str, seconds: float) -> Recording:
        shown = printable(name, _SHOWN)
        limits = DecodingLimits(seconds, self._limits.decoded_bytes, self._limits.max_channels)
        fetched = self._fetch(file) if object_store.is_address(file) else None

        def content() -> bytes:
            if fetched is not None:
                return fetched
            try:
                return base64.b64decode(file)
            except binascii.Error as error:
                raise AudioError(f"{shown}: found what is no base64") from error

        def length() -> tuple[int, int]:
            samples, rate = audio.decode(content(), shown, None, limits)
            return samples.shape[1], rate

        is_counted = False

        def read() -> np.ndarray:
            nonlocal is_counted
            samples = audio.decode(content(), shown, limits=limits)[0]
            if not is_counted:
                is_counted = True
                self._count(samples.shape[1] / SAMPLE_RATE)
            return samples

        return Recording(
            read,
            lambda: Take(audio.time_reference_of(content(), shown), length),
        )

    def _count(self, seconds: float) -> None:
        self._track_seconds -= seconds
        if self._track_seconds < 0:
            most = self._limits.max_track_seconds
            raise SettingsError(f"{TRACKS}: longer than {most:g} s together (FXNORM_MAX_TRACK_SECONDS)")

    def _go_on(self, _done: int, _of: int) -> None:
        self._deadline.check()

"""The stems of a request's row: audio files as bytes, or objects under S3 prefixes that the server's owner allows."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.errors import AudioError, printable
from fxnorm.io import audio, object_store
from fxnorm.io.audio import DecodingLimits
from fxnorm.mixing.reference import Reference
from fxnorm.serving.deadline import Deadline
from fxnorm.serving.limits import Limits
from fxnorm.serving.tracks import TABLE, TRACKS, SummedTracks, TrackReader, check_table, check_tracks
from fxnorm.statistics import DatasetStatistics

REFERENCE = "reference"
"""Column: a song that the row's mix is brought to; ``reference_uri`` is its address."""

_SHOWN = 200  # characters of a URI
_KEY_BYTES = 1_024  # S3's own limit


class StemReader:
    """Reads the stems of one request's rows, within what is left of its limits."""

    def __init__(self, limits: Limits, deadline: Deadline) -> None:
        self._limits = limits
        self._deadline = deadline
        self._seconds = limits.max_seconds
        self._reference_seconds = limits.max_seconds
        self._object_bytes = limits.request_bytes
        self._tracks = TrackReader(limits, deadline, self._fetch)

    def read(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The row's stems, (1 or 2 channels, samples) at 44.1 kHz by name; missing stems are left out.

        Raises:
            AudioError: a stem is there twice, cannot be read, lies outside the prefixes, or is beyond the limits.
        """
        stems: dict[str, np.ndarray] = {}
        decoded = 0
        for stem in STEMS:
            content, uri = (_given(row, column) for column in (stem, f"{stem}_uri"))
            if content and uri:
                raise AudioError(f"{stem}: expected the file or its URI, found both")
            if uri:
                content = self._fetch(str(uri))
            if content:
                left = DecodingLimits(self._seconds, self._limits.decoded_bytes - decoded, self._limits.max_channels)
                # decode() holds the file at its own rate against the limit too; what stays is the resampled one
                stems[stem] = audio.decode(content, printable(str(uri), _SHOWN) if uri else stem, limits=left)[0]
                decoded += stems[stem].nbytes
                self._deadline.check()
        self._seconds -= max((samples.shape[1] for samples in stems.values()), default=0) / SAMPLE_RATE
        return stems

    def read_tracks(self, row: Mapping[str, Any], statistics: DatasetStatistics) -> SummedTracks | None:
        """The stems that the row's tracks are summed to; None for a row without tracks.

        Raises:
            AudioError: as :meth:`fxnorm.serving.tracks.TrackReader.read`, or there are stems as well.
            SettingsError: names or table are wrong.
        """
        files = row.get(TRACKS)
        if not isinstance(files, dict) or not files:
            return None
        refuse_both(row)
        files = check_tracks(files, self._limits)
        table = check_table(_given(row, TABLE), files)
        summed = self._tracks.read(files, table, statistics, self._seconds)
        self._seconds -= max(samples.shape[1] for samples in summed.stems.values()) / SAMPLE_RATE
        return summed

    def read_reference(self, row: Mapping[str, Any]) -> Reference | None:
        """The song that the row's mix is brought to, measured; None for a row without.

        Raises:
            AudioError: it is there twice, cannot be read, is no reference, lies outside the prefixes, or is beyond the
                limits.
        """
        content, uri = (_given(row, column) for column in (REFERENCE, f"{REFERENCE}_uri"))
        if content and uri:
            raise AudioError(f"{REFERENCE}: expected the file or its URI, found both")
        if uri:
            content = self._fetch(str(uri))
        if not content:
            return None
        limits = DecodingLimits(self._reference_seconds, self._limits.decoded_bytes, self._limits.max_channels)
        name = printable(str(uri), _SHOWN) if uri else REFERENCE
        samples = audio.decode(content, name, limits=limits)[0]
        self._reference_seconds -= samples.shape[1] / SAMPLE_RATE
        self._deadline.check()
        return Reference.of(samples, name)

    def _fetch(self, uri: str) -> bytes:
        refuse_outside(uri, self._limits.s3_prefixes)
        content = object_store.read(uri, self._object_bytes)
        self._object_bytes -= len(content)
        return content


def refuse_both(row: Mapping[str, Any]) -> None:
    """Refuse a row with tracks that has stems as well.

    Raises:
        AudioError: it has.
    """
    for column in (*STEMS, *(f"{stem}_uri" for stem in STEMS)):
        if _given(row, column):
            raise AudioError(f"{TRACKS}: expected either tracks or stems, found {column} as well")


def refuse_outside(uri: str, prefixes: tuple[str, ...]) -> None:
    """Refuse a URI that is not below one of the prefixes, segment by segment of its path.

    Raises:
        AudioError: as :func:`refuse_malformed`, or none of the prefixes.
    """
    refuse_malformed(uri)
    if not any(uri.startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes):
        raise AudioError(f"{printable(uri, _SHOWN)}: not below a prefix that this server reads (FXNORM_S3_PREFIXES)")


def refuse_malformed(uri: str) -> None:
    """Refuse a URI that cannot be an object's.

    Raises:
        AudioError: another scheme, a path that some stores would resolve to another, or a key that S3 has no room for.
    """
    shown = printable(uri, _SHOWN)
    bucket, *segments = uri.removeprefix("s3://").split("/")
    if not uri.startswith("s3://") or not bucket or not segments:
        raise AudioError(f"{shown}: expected a URI such as s3://bucket/key")
    if not uri.isprintable() or any(segment in ("", ".", "..") for segment in segments):
        raise AudioError(f"{shown}: expected a key without empty, '.' or '..' segments")
    if len("/".join(segments).encode()) > _KEY_BYTES:
        raise AudioError(f"{shown}: expected a key of at most {_KEY_BYTES} bytes")


def _given(row: Mapping[str, Any], column: str) -> Any:
    """A cell's bytes or text; what is missing in a data frame may also be a number."""
    value = row.get(column)
    return value if isinstance(value, bytes | str) else None

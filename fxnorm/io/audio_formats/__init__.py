"""The parts of an audio file, found from its bytes: headers may announce more or less than a file holds."""

from collections.abc import Collection
from typing import BinaryIO

from fxnorm.io.audio_formats import ffmpeg, flac, mpeg, others, wav
from fxnorm.io.audio_formats.parts import (
    FormatError,
    Layout,
    Part,
    Reading,
    read_at,
    shown,
    size_of,
    tag_length,
)

__all__ = ["FormatError", "Layout", "Part", "Reading", "ffmpeg", "flac", "inspect", "shown", "time_reference"]

_MAX_TAGS = 8
_FURTHER_CONTAINERS = {
    "AIFF": others.inspect_aiff,
    "AU": others.inspect_au,
    "CAF": others.inspect_caf,
    "OGG": others.inspect_ogg,
    "W64": wav.inspect_w64,
}


def inspect(file: BinaryIO, expected: Collection[str] | None = None) -> Layout:
    """The parts of a file, and where its header and its bytes disagree.

    Where any container is accepted, those of :mod:`~fxnorm.io.audio_formats.ffmpeg` are found too, which have no parts,
    and one that is not known here is left to libsndfile, with a doubt.

    Args:
        file: to be read.
        expected: the containers that are accepted; all by default.

    Raises:
        FormatError: empty, truncated, another container, or headers that contradict each other.
    """
    size = size_of(file)
    if size == 0:
        raise FormatError("the file is empty")
    container, position = _container(file, size)
    if expected is not None and container not in expected:
        name = f" (it is {container})" if container else ""
        raise FormatError(f"not readable as WAV, FLAC or MP3{name}")
    if expected is None and (further := ffmpeg.container_of(file, _behind_tags(file, size))):
        return ffmpeg.inspect(file, further, _behind_tags(file, size))
    if container == "WAV":
        return wav.inspect(file, position)
    if container == "FLAC":
        return flac.inspect(file, position)
    if container == "MP3":
        return mpeg.inspect(_content(file, size))
    if container in _FURTHER_CONTAINERS:
        return _FURTHER_CONTAINERS[container](file)
    return Layout(container, [Part((Reading(),))], ["of this format, it cannot be told whether the file is whole"])


def time_reference(file: BinaryIO) -> int | None:
    """Where a Broadcast WAV begins, in samples since midnight; None for other files.

    Raises:
        FormatError: as :func:`inspect`.
    """
    size = size_of(file)
    if size == 0:
        raise FormatError("the file is empty")
    container, position = _container(file, size)
    return wav.time_reference(file, position) if container == "WAV" else None


def _behind_tags(file: BinaryIO, size: int) -> int:
    """The position behind the tags at a file's beginning."""
    position = 0
    for _ in range(_MAX_TAGS):
        length = tag_length(read_at(file, position, 40), 0, size - position)
        if not length:
            break
        position += length
    return position


def _container(file: BinaryIO, size: int) -> tuple[str, int]:
    """The name of a container and where it begins, behind tags; an empty name for one that is not known."""
    position = _behind_tags(file, size)
    start = read_at(file, position, 40)
    if start[:4] == flac.MAGIC:
        return "FLAC", position
    if start[:4] in wav.MAGICS:
        return "WAV", position
    if position or (start[:1] == b"\xff" and start[1:2] >= b"\xe0"):
        return "MP3", 0
    if start[:16] == wav.W64_MAGIC:
        return "W64", 0
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF", 0
    return {b".snd": "AU", b"dns.": "AU", b"caff": "CAF", b"OggS": "OGG"}.get(start[:4], ""), 0


def _content(file: BinaryIO, size: int) -> bytes:
    """All bytes of a file; those of a file in memory are not copied."""
    getvalue = getattr(file, "getvalue", None)
    return bytes(getvalue()) if getvalue is not None else read_at(file, 0, size)

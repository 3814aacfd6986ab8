"""The parts of an audio file, in the form in which the decoder gets them.

libsndfile trusts the sizes in headers. Here a file is described by its actual content: stretches that are decoded by
themselves, each as it lies in the file or as a file in memory with a corrected header.
"""

import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import BinaryIO

from fxnorm.io.random_access import RandomAccess

Piece = bytes | memoryview | range
"""Bytes, or a stretch of the file by its positions."""

PLACEHOLDER_MARGIN = 2**16
"""Bytes: a size this near to 2^31, or this little below 2^32, is a placeholder for an unknown size."""

MAX_PARTS = 1_000
_MIDDLE, _HIGHEST = 2**31, 2**32


class FormatError(Exception):
    """A file that is not whole, or not what it seems; the text does not name it."""


@dataclass(frozen=True)
class Reading:
    """A way to show a part to libsndfile.

    Attributes:
        pieces: what it consists of; ``None`` for the file as it lies.
        skip: samples before the part's own, which are decoded and dropped.
        zeros: number of zero bytes that appear to follow; libsndfile may then announce more samples than the part has.
    """

    pieces: Sequence[Piece] | None = None
    skip: int = 0
    zeros: int = 0


@dataclass(frozen=True)
class Part:
    """A stretch of a file that is decoded by itself.

    Attributes:
        readings: ways to show it, the next one to be tried where libsndfile does not find ``samples``.
        samples: number for each channel; ``None`` if only the decoder can determine it.
    """

    readings: tuple[Reading, ...]
    samples: int | None = None


@dataclass
class Layout:
    """A file by its parts.

    Attributes:
        container: what libsndfile calls such a file (``WAV``, ``FLAC``, ``MP3`` …).
        parts: one, or more if files were put one behind the other.
        doubts: what is read in another way than the file announces; sentences that do not name it.
        fault: why it is not read; its parts have the samples that it announces.
    """

    container: str
    parts: list[Part]
    doubts: list[str] = field(default_factory=list)
    fault: str | None = None


class Splice(RandomAccess):
    """A file that is read from pieces of another one.

    Args:
        file: what ranges among ``pieces`` are stretches of.
        pieces: in their order.
        zeros: number of zero bytes that appear to follow.
    """

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece], zeros: int = 0) -> None:
        self._file = file
        self._pieces = [piece for piece in pieces if len(piece)]
        self._starts = list(accumulate((len(piece) for piece in self._pieces), initial=0))
        super().__init__(self._starts[-1] + zeros)

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        target = memoryview(buffer).cast("B")
        filled = 0
        while filled < len(target) and self._position < self._size:
            index = bisect_right(self._starts, self._position) - 1
            if index < len(self._pieces):
                content = self._stretch(index, len(target) - filled)
            else:
                content = bytes(min(len(target) - filled, self._size - self._position))
            if not content:
                break
            target[filled : filled + len(content)] = content
            filled += len(content)
            self._position += len(content)
        return filled

    def _stretch(self, index: int, most: int) -> bytes | memoryview:
        piece, offset = self._pieces[index], self._position - self._starts[index]
        if not isinstance(piece, range):
            return piece[offset : offset + most]
        self._file.seek(piece.start + offset)
        return self._file.read(min(most, len(piece) - offset))


def shown(file: BinaryIO, reading: Reading) -> BinaryIO | Splice:
    """A file as a decoder is to read it.

    Pieces that are all in memory are joined there, since mpg123 reads a few bytes at a time.
    """
    if reading.pieces is None:
        return file
    pieces = [piece for piece in reading.pieces if not isinstance(piece, range)]
    if len(pieces) == len(reading.pieces) and reading.zeros <= sum(map(len, pieces)):
        return io.BytesIO(b"".join((*pieces, bytes(reading.zeros))))
    return Splice(file, reading.pieces, reading.zeros)


def is_placeholder(size: int) -> bool:
    """Whether a size of 32 bits is one that writers to pipes put where they do not know it.

    ffmpeg writes 0xFFFFFFFF, sox 0x7FFFF000 less a part of a frame, ALSA 0x80000000, others 2^32 - 1 less a header.
    """
    return abs(size - _MIDDLE) <= PLACEHOLDER_MARGIN or 0 < _HIGHEST - size <= PLACEHOLDER_MARGIN


def size_of(file: BinaryIO) -> int:
    """Bytes of a file; its position becomes the beginning."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def read_at(file: BinaryIO, position: int, size: int) -> bytes:
    """Bytes from ``position`` on, fewer at the end of the file."""
    file.seek(position)
    return file.read(size)


def tag_length(content: bytes, position: int, stop: int) -> int:
    """Bytes of the tag (ID3, APE, Lyrics3) that begins at ``position``; 0 if none does."""
    start = content[position : position + 32]
    if start[:3] == b"ID3" and len(start) >= 10 and start[3] < 0xFF and max(start[6:10]) < 0x80:
        size = start[6] << 21 | start[7] << 14 | start[8] << 7 | start[9]
        return 10 + size + (10 if start[5] & 0x10 else 0)
    if start[:4] == b"TAG+" and stop - position >= 227:
        return 227
    if start[:3] == b"TAG" and stop - position <= 128:
        return stop - position
    if start[:3] == b"TAG":
        return 128
    if start[:8] == b"APETAGEX" and len(start) == 32:
        is_header = bool(start[23] & 0x20)
        return 32 + (int.from_bytes(start[12:16], "little") if is_header else 0)
    if start[:11] == b"LYRICSBEGIN":
        for mark in (b"LYRICS200", b"LYRICSEND"):
            end = content.find(mark, position, min(stop, position + 2**20))
            if end >= 0:
                return end + len(mark) - position
    return 0


def without_tags(content: bytes) -> int:
    """Where tags (ID3v1, APE, Lyrics3) at the end of a file begin."""
    stop = len(content)
    while True:
        length = _tag_before(content, stop)
        if not length or length > stop:
            return stop
        stop -= length


def _tag_before(content: bytes, stop: int) -> int:
    """Bytes of the tag that ends at ``stop``; 0 if none does."""
    if content[max(0, stop - 128) : stop][:3] == b"TAG" and stop >= 128:
        return 128
    if content[max(0, stop - 227) : stop][:4] == b"TAG+" and stop >= 227:
        return 227
    footer = content[max(0, stop - 32) : stop]
    if footer[:8] == b"APETAGEX" and len(footer) == 32 and not footer[23] & 0x20:
        return int.from_bytes(footer[12:16], "little") + (32 if footer[23] & 0x80 else 0)
    if footer[-9:] == b"LYRICS200" and footer[-15:-9].isdigit():
        return int(footer[-15:-9]) + 15
    if footer[-9:] == b"LYRICSEND":
        begin = content.rfind(b"LYRICSBEGIN", max(0, stop - 5_200), stop)
        return stop - begin if begin >= 0 else 0
    return 0

"""FLAC: the number of samples by its last frame, whatever STREAMINFO announces.

Source: RFC 9639. Encoders that write to a pipe leave the number of samples at 0; every frame has its own number.
"""

import io
import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from fxnorm.io.audio_formats.parts import (
    FormatError,
    Layout,
    Part,
    Piece,
    Reading,
    read_at,
    size_of,
    without_tags,
)

MAGIC = b"fLaC"

_MAX_BLOCKS = 10_000  # of metadata
_STREAMINFO = 34  # bytes
_TAIL = 2**16  # bytes at the end of a file in which its last frame is looked for first
_MAX_TAIL = 2**19
_MAX_TRIES = 5_000  # places at which a frame may begin
_MOST_CANDIDATES = 8  # candidates for a last frame
_SEARCHED_AT_ONCE = 2**24
READ_AHEAD = 2**16  # bytes that a decoder may have read too much, at most
_BEGINNING = re.escape(MAGIC) + rb"[\x00\x80]\x00\x00\x22"  # with the header of STREAMINFO
_HEAD = len(MAGIC) + 4 + _STREAMINFO
_SEEK_TABLE, _PLACEHOLDER = 3, b"\xff" * 8 + bytes(10)
_POINT = struct.Struct(">QQH")  # the first sample of a frame, its bytes behind the first frame, its samples
_POINTS_APART = 22_050  # samples
_MOST_POINTS = 640  # 12 KB
_DECODER_READS = 2**13  # bytes at once, of libFLAC
_SYNC = (b"\xff\xf8", b"\xff\xf9")
_BLOCK_SIZES = {1: 192, **{n: 576 << n - 2 for n in range(2, 6)}, **{n: 256 << n - 8 for n in range(8, 16)}}


@dataclass(frozen=True)
class _Stream:
    """A FLAC file, which may lie among others."""

    start: int  # of its magic
    audio: int  # of its first frame
    stop: int
    info: bytes
    tags: int = 0  # bytes before its magic

    @property
    def announced(self) -> int:
        return int.from_bytes(self.info[13:18]) & 2**36 - 1

    @property
    def block_size(self) -> int:
        return int.from_bytes(self.info[2:4])

    def pieces(self, samples: int) -> list[Piece]:
        """The pieces of a file whose header announces ``samples`` samples."""
        packed = (int.from_bytes(self.info[13:18]) & ~(2**36 - 1) | samples).to_bytes(5)
        info = self.info[:13] + packed + bytes(16)  # and no hash, which may be of other samples
        return [MAGIC + b"\x80" + _STREAMINFO.to_bytes(3) + info, range(self.audio, self.stop)]


class SeekTable:
    """A file for libFLAC's encoder, which leaves a seek table behind STREAMINFO (RFC 9639, section 8.5).

    With it, a decoder finds a sample in one place of the file. Without one it tries several, each of which is a request
    where the file is in a store. libsndfile writes none; its encoder gives each frame in a write of its own.

    Args:
        file: to be written, empty.
        samples: that will be encoded.
    """

    def __init__(self, file: BinaryIO, samples: int) -> None:
        self._file, self._samples = file, samples
        self._count = min(_MOST_POINTS, -(-samples // _POINTS_APART))
        self._length = 4 + self._count * _POINT.size
        self._position = 0  # as the encoder knows it
        self._frames: list[int] = []
        self._block_size = 0

    def write(self, data: bytes) -> int:
        """As the encoder calls it."""
        data = bytes(data)
        if self._position < _HEAD < self._position + len(data):
            return self.write(data[: _HEAD - self._position]) + self.write(data[_HEAD - self._position :])
        self._file.seek(self._position + (self._length if self._position >= _HEAD else 0))
        self._file.write(data)
        if self._position == len(MAGIC):
            self._block_size = int.from_bytes(data[4:6])
        if self._position >= _HEAD and data[:2] in _SYNC:
            self._frames.append(self._position)
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Likewise; of the end, nothing is known before the last write."""
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._end()}[whence]
        return self._position

    def tell(self) -> int:
        """Likewise."""
        return self._position

    def finish(self) -> None:
        """Write the table, when all frames are."""
        whole = self._block_size and len(self._frames) == -(-self._samples // self._block_size)
        targets = [number * self._samples // self._count for number in range(self._count)] if whole else []
        numbers = sorted({target // self._block_size for target in targets})
        points = [self._point(number) for number in numbers]
        points += [_PLACEHOLDER] * (self._count - len(points))
        self._file.seek(_HEAD)
        self._file.write(bytes([_SEEK_TABLE]) + (self._length - 4).to_bytes(3) + b"".join(points))

    def _point(self, number: int) -> bytes:
        first = number * self._block_size
        offset = self._frames[number] - self._frames[0]
        return _POINT.pack(first, offset, min(self._block_size, self._samples - first))

    def _end(self) -> int:
        end = self._file.seek(0, io.SEEK_END)
        return end - self._length if end > _HEAD else end


def place_of(file: BinaryIO, start: int, stop: int) -> range:
    """Where samples lie in a file with a seek table: bytes, with what a decoder reads beside them; else no bytes."""
    stream = _stream(file, 0, size_of(file))
    position = len(MAGIC)
    while position < stream.audio:
        header = read_at(file, position, 4)
        size = int.from_bytes(header[1:4])
        if header[0] & 0x7F == _SEEK_TABLE:
            points = [point[:2] for point in _POINT.iter_unpack(read_at(file, position + 4, size)) if point[2]]
            first = max((offset for sample, offset in points if sample <= start), default=0)
            last = min((offset for sample, offset in points if sample >= stop), default=stream.stop - stream.audio)
            return range(stream.audio + first, min(stream.stop, stream.audio + last + _DECODER_READS))
        position += 4 + size
    return range(0)


def inspect(file: BinaryIO, position: int = 0) -> Layout:
    """The part of a FLAC file that begins at ``position``.

    Where the last frame ends with the announced sample, nothing else of the file is read.

    Raises:
        FormatError: truncated, or headers that contradict each other.
    """
    stream = _stream(file, position, size_of(file))
    announced = stream.announced
    _, last = next(_frames_from_behind(_tail(file, stream, _TAIL), stream), (0, 0))
    if last and last == announced:
        return Layout("FLAC", [Part((Reading(), Reading(stream.pieces(announced))), announced)])
    refuse_another(file, stream.audio)
    tail = _tail(file, stream, _MAX_TAIL)
    candidates = list(itertools.islice(_frames_from_behind(tail, stream), _MOST_CANDIDATES))
    intact_end = next((end for start, end in candidates if not _crc16(tail[start:])), None)
    last = intact_end or (candidates[0][1] if candidates else 0)
    if not announced and intact_end is None:
        raise FormatError("truncated: its last frame is not whole, and its header does not say how long it is")
    layout = Layout("FLAC", [Part((Reading(stream.pieces(announced or last)),), announced or last)])
    if last < announced:
        layout.fault = f"truncated: {announced} samples announced, {last} found"
    elif not announced:
        layout.doubts.append("its header does not say how long it is; read to the end of the file")
    elif intact_end is not None:
        layout.parts = [Part((Reading(stream.pieces(intact_end)),), intact_end)]
        layout.doubts.append(f"{announced} samples announced, {intact_end} found; all of them are read")
    return layout


def refuse_another(file: BinaryIO, position: int) -> None:
    """Refuse a file in which another FLAC file follows.

    Args:
        file: to be read.
        position: behind the magic of the first; where the decoder has come to, if it has read all samples.

    Raises:
        FormatError: there is one.
    """
    end, mark = size_of(file), len(MAGIC) + 4
    position = max(mark, position)
    while position < end:
        block = read_at(file, position, _SEARCHED_AT_ONCE)
        for match in re.finditer(_BEGINNING, block):
            raise FormatError(
                f"another FLAC file is behind the first, at byte {position + match.start()}; expected one"
            )
        position += max(1, len(block) - mark)


def _stream(file: BinaryIO, start: int, stop: int) -> _Stream:
    """The file whose magic is at ``start``."""
    info, position = b"", start + len(MAGIC)
    for _ in range(_MAX_BLOCKS):
        header = read_at(file, position, 4)
        size = int.from_bytes(header[1:4])
        position += 4 + size
        if len(header) < 4 or position > stop:
            raise FormatError("truncated: a FLAC header without samples")
        if not info:
            info = read_at(file, position - size, _STREAMINFO)
            if header[0] & 0x7F or size != _STREAMINFO:
                raise FormatError("not readable as WAV, FLAC or MP3 (a FLAC without STREAMINFO)")
        if header[0] & 0x80:
            return _Stream(start, position, stop, info)
    raise FormatError(f"no samples after {_MAX_BLOCKS} blocks of a FLAC header")


def _tail(file: BinaryIO, stream: _Stream, size: int) -> bytes:
    """At most ``size`` bytes before the end of a stream, tags left out."""
    start = max(stream.audio, stream.stop - size)
    tail = read_at(file, start, stream.stop - start)
    return tail[: without_tags(tail)]


def _frames_from_behind(tail: bytes, stream: _Stream) -> Iterator[tuple[int, int]]:
    """Where frames begin, and the number of the sample that each ends with, counted from 1; the last one first."""
    position, tries = len(tail), 0
    while (position := tail.rfind(b"\xff", 0, position)) >= 0 and tries < _MAX_TRIES:
        if tail[position + 1 : position + 2] in (b"\xf8", b"\xf9"):
            tries += 1
            end = _frame_end(tail[position : position + 16], stream)
            if end is not None:
                yield position, end


def _frame_end(header: bytes, stream: _Stream) -> int | None:
    """The number of the sample that a frame ends with, by its header; ``None`` if it is none."""
    if len(header) < 6 or header[3] & 1:
        return None
    size_code, rate_code = header[2] >> 4, header[2] & 15
    length = 8 - (header[4] ^ 0xFF).bit_length()  # ones that the number's first byte begins with
    length = max(1, length) if length != 1 else 0
    if size_code == 0 or rate_code == 15 or not length or length > 7:
        return None
    number = header[4] & (0x7F if length == 1 else 0xFF >> length + 1)
    for byte in header[5 : 4 + length]:
        if byte >> 6 != 2:
            return None
        number = number << 6 | byte & 0x3F
    position = 4 + length
    samples = _BLOCK_SIZES.get(size_code, 0)
    if size_code in (6, 7):
        samples = int.from_bytes(header[position : position + size_code - 5]) + 1
        position += size_code - 5
    position += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if position >= len(header) or _crc8(header[: position + 1]):
        return None
    is_variable = header[1] & 1
    return samples + (number if is_variable else number * stream.block_size)


def _crc8(content: bytes) -> int:
    """0 where the last byte is the checksum of those before (polynomial 0x07)."""
    value = 0
    for byte in content:
        value = _CRC8[value ^ byte]
    return value


def _crc16(content: bytes) -> int:
    """0 where the last two bytes are the checksum of those before (polynomial 0x8005)."""
    value = 0
    for byte in content:
        value = (value << 8 & 0xFFFF) ^ _CRC16[value >> 8 ^ byte]
    return value


def _table(bits: int, polynomial: int) -> tuple[int, ...]:
    """A checksum's change by each byte."""
    values = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ polynomial * (value >> bits - 1)) & (1 << bits) - 1
        values.append(value)
    return tuple(values)


_CRC8, _CRC16 = _table(8, 0x07), _table(16, 0x8005)

"""FLAC: how many samples its last frame ends with, whatever STREAMINFO announces.

Source: RFC 9639. Encoders that write to a pipe leave the number of samples at 0; every frame says which it is.
"""

from dataclasses import dataclass
from typing import BinaryIO

from fxnorm.audio_formats.parts import (
    MAX_PARTS,
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
_MAX_TAIL = 2**21
_MAX_CHECKED = 8  # candidates for a last frame whose checksum is computed
_SEARCHED_AT_ONCE = 2**24
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
        """As a file that announces so many samples."""
        rest = (int.from_bytes(self.info[13:18]) & ~(2**36 - 1) | samples).to_bytes(5)
        info = self.info[:13] + rest + bytes(16)  # and no hash, which may be of other samples
        return [MAGIC + b"\x80" + _STREAMINFO.to_bytes(3) + info, range(self.audio, self.stop)]


def inspect(file: BinaryIO, position: int = 0) -> Layout:
    """Parts of a FLAC file that begins at ``position``.

    Where the last frame ends with the announced sample, nothing else of the file is read.

    Raises:
        FormatError: truncated, or headers that contradict each other.
    """
    stream = _stream(file, position, size_of(file))
    samples = stream.announced
    if samples and _last_sample(file, stream, _TAIL) == samples:
        return Layout("FLAC", [Part((Reading(), Reading(stream.pieces(samples))), samples)])
    streams = _streams(file, stream)
    doubts: list[str] = []
    if len(streams) > 1:
        doubts.append(f"holds {len(streams)} FLAC files one behind the other; all of them are read")
    return _layout(file, streams, doubts)


def following(file: BinaryIO, position: int) -> Layout | None:
    """What lies behind a FLAC file of which the decoder has read all samples; ``None`` if it is no other one.

    Args:
        file: the file.
        position: up to which the decoder has read, at least to the end of the samples.
    """
    end = size_of(file)
    start = _find(file, max(len(MAGIC), position - _TAIL), end)
    if start is None:
        return None
    doubts: list[str] = ["holds another FLAC file behind the first; all of it is read"]
    return _layout(file, _streams(file, _stream(file, start, end)), doubts)


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


def _streams(file: BinaryIO, first: _Stream) -> list[_Stream]:
    """``first`` and those behind it."""
    streams, stop = [first], first.stop
    while (start := _find(file, streams[-1].audio, stop)) is not None:
        last = streams.pop()
        streams += [_Stream(last.start, last.audio, start, last.info), _stream(file, start, stop)]
        if len(streams) > MAX_PARTS:
            raise FormatError(f"more than {MAX_PARTS} FLAC files one behind the other")
    return streams


def _find(file: BinaryIO, position: int, stop: int) -> int | None:
    """Where the next FLAC file begins."""
    mark = len(MAGIC) + 4
    while position < stop:
        block = read_at(file, position, min(_SEARCHED_AT_ONCE, stop - position))
        place = block.find(MAGIC)
        while place >= 0:
            header = block[place + 4 : place + mark]
            if header[:1] in (b"\0", b"\x80") and header[1:] == _STREAMINFO.to_bytes(3):
                return position + place
            place = block.find(MAGIC, place + 1)
        if len(block) <= mark:
            return None
        position += len(block) - mark
        if position + mark >= stop:
            return None
    return None


def _layout(file: BinaryIO, streams: list[_Stream], doubts: list[str]) -> Layout:
    layout = Layout("FLAC", [], doubts)
    for stream in streams:
        layout.parts.append(_checked(file, stream, layout))
    return layout


def _checked(file: BinaryIO, stream: _Stream, layout: Layout) -> Part:
    """The part that a stream is; adds to ``layout`` what its header says otherwise."""
    samples = _last_sample(file, stream, _MAX_TAIL, whole=True)
    announced = stream.announced
    if samples is None:
        if announced == 0:
            raise FormatError("truncated: its last frame is not whole, and its header does not say how long it is")
        return Part((Reading(stream.pieces(announced)),), announced)
    if samples < announced:
        layout.fault = f"truncated: {announced} samples announced, {samples} found"
        return Part((Reading(stream.pieces(announced)),), announced)
    if announced == 0:
        layout.doubts.append("its header does not say how long it is; read to the end of the file")
    elif samples > announced:
        layout.doubts.append(f"{announced} samples announced, {samples} found; all of them are read")
    return Part((Reading(stream.pieces(samples)),), samples)


def _last_sample(file: BinaryIO, stream: _Stream, size: int, whole: bool = False) -> int | None:
    """The number of the sample that the last frame ends with, from 1; ``None`` if no frame is found.

    Args:
        file: to be read.
        stream: where in it.
        size: bytes at its end that are searched.
        whole: expect the frame to end where the stream does, tags left out; without it, to end with the announced
            sample.
    """
    tail = read_at(file, max(stream.audio, stream.stop - size), min(size, stream.stop - stream.audio))
    stop = without_tags(tail)
    tail = tail[:stop]
    position, checked = len(tail), 0
    while checked < _MAX_CHECKED and (position := tail.rfind(b"\xff", 0, position)) >= 0:
        if tail[position + 1 : position + 2] not in (b"\xf8", b"\xf9"):
            continue
        samples = _frame_end(tail[position : position + 16], stream)
        if samples is None:
            continue
        if whole:
            checked += 1
            if _crc16(tail[position:]):  # zeros behind the checksum leave it at 0
                continue
        elif samples != stream.announced:
            checked += 1
            continue
        return samples
    return None


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

"""WAV and its relatives: RIFF, RIFX (big-endian), RF64 and BW64 (sizes of 64 bits), W64.

Sources: Microsoft's "Multiple Channel Audio Data and WAVE Files", EBU Tech 3285 (Broadcast WAV), EBU Tech 3306 (RF64),
ITU-R BS.2088 (BW64), Sony's "Wave64". Where a file's header and its bytes contradict each other, it is read as FFmpeg
reads it, with a warning.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from fxnorm.io.audio_formats import mpeg
from fxnorm.io.audio_formats.parts import (
    FormatError,
    Layout,
    Part,
    Piece,
    Reading,
    is_placeholder,
    read_at,
    size_of,
    tag_length,
)

MAGICS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
W64_MAGIC = bytes.fromhex("726966662e91cf11a5d628db04c10000")

_MAX_CHUNKS = 1_000  # of one file; real ones have a handful
_MAX_HEADER_CHUNK = 2**16  # bytes of fmt, fact and ds64
_UNKNOWN = 0xFFFFFFFF  # "the size is in the ds64 chunk", or not known at all
_W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of the GUIDs of its chunks; "wave", "fmt ", "data" before it
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_ONE_BYTE_TAGS = (6, 7)  # A-law, mu-law
_MPEG = (0x50, 0x55)
_GUID_TAILS = (bytes.fromhex("800000aa00389b71"), bytes.fromhex("8644c8c1ca000000"))  # plain, ambisonic
_ZEROS = 4_096  # up to this many zero bytes at the end of a file are padding
_LOWEST_ROUND = 0xFFF
_TIME_REFERENCE = slice(338, 346)  # in the chunk bext


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    position: int  # of its content
    size: int  # as announced
    is_wide: bool  # with 64 bits


@dataclass
class _FileInfo:
    """What the chunks of a file describe: sample format, position of the samples, doubts."""

    order: str
    form: bytes | None = None
    fact: bytes | None = None
    broadcast: bytes | None = None
    data: range = range(0)
    has_data: bool = False
    direct: bool = True  # libsndfile may read it as it lies
    doubts: list[str] = field(default_factory=list)


def inspect(file: BinaryIO, position: int = 0) -> Layout:
    """Parts of a WAV file that begins at ``position``.

    Raises:
        FormatError: truncated, without samples, or of contradicting headers.
    """
    info = _read_riff(file, position, size_of(file))
    if _tag(info) in _MPEG:
        return mpeg.inspect(read_at(file, info.data.start, len(info.data)))
    info.direct = info.direct and position == 0
    return Layout("WAV", [_part(info)], info.doubts)


def time_reference(file: BinaryIO, position: int = 0) -> int | None:
    """Where a Broadcast WAV begins, in samples since midnight (chunk ``bext``); None for a WAV without that chunk.

    Args:
        file: to be read.
        position: where the WAV file begins.

    Raises:
        FormatError: as :func:`inspect`.
    """
    info = _read_riff(file, position, size_of(file))
    content = (info.broadcast or b"")[_TIME_REFERENCE]
    return struct.unpack(f"{info.order}Q", content)[0] if len(content) == 8 else None


def inspect_w64(file: BinaryIO) -> Layout:
    """The part of a W64 file.

    Raises:
        FormatError: as :func:`inspect`.
    """
    end, position = size_of(file), 40
    info = _FileInfo("<")
    for _ in range(_MAX_CHUNKS):
        header = read_at(file, position, 24)
        if len(header) < 24:
            break
        name, size = header[:4], int.from_bytes(header[16:], "little") - 24
        if header[4:16] != _W64_TAIL and name != b"LIST":
            info.doubts += _leftover(file, position, end)
            break
        position += 24
        if name == b"data":
            info.data = _samples_of_w64(info, position, size, end)
            position = max(position, info.data.stop)
            continue
        if name in (b"fmt ", b"fact"):
            _keep(info, name, read_at(file, position, min(max(size, 0), _MAX_HEADER_CHUNK)))
        if not 0 <= size <= end - position:
            break
        position += size + -size % 8
    return Layout("W64", [_part(info)], info.doubts)


def _samples_of_w64(info: _FileInfo, position: int, size: int, end: int) -> range:
    if size == 0 and position == end:
        return range(position, position)
    if size == 0 or size >= 2**62:
        info.doubts.append(_to_the_end(size + 24))
        info.direct = False
        return range(position, end)
    if size < 0:
        raise FormatError(f"not readable as WAV, FLAC or MP3 (a chunk of {size + 24} bytes)")
    if size > end - position:
        raise FormatError(_truncated(size, end - position))
    return range(position, position + size)


def _read_riff(file: BinaryIO, start: int, end: int) -> _FileInfo:
    head = read_at(file, start, 12)
    if len(head) < 12:
        raise FormatError("truncated: a WAV header without samples")
    if head[8:] != b"WAVE":
        raise FormatError(f"not readable as WAV, FLAC or MP3 (it is {head[:4].decode()} of {head[8:]!r})")
    order = ">" if head[:4] == b"RIFX" else "<"
    info = _FileInfo(order, direct=head[:4] != b"BW64")
    riff_size = struct.unpack(f"{order}I", head[4:8])[0]
    sizes: dict[bytes, int] = {}
    for chunk in _chunks(file, info, start + 12, end, sizes):
        if chunk.name == b"ds64":
            sizes.update(_sizes_of_64_bits(read_at(file, chunk.position, min(chunk.size, _MAX_HEADER_CHUNK)), order))
        elif chunk.name in (b"fmt ", b"fact"):
            _keep(info, chunk.name, read_at(file, chunk.position, min(chunk.size, _MAX_HEADER_CHUNK)))
        elif chunk.name == b"bext" and info.broadcast is None:
            info.broadcast = read_at(file, chunk.position, min(chunk.size, _TIME_REFERENCE.stop))
        elif chunk.name == b"data":
            if info.has_data:
                raise FormatError("more than one chunk of samples (data): decoders disagree on which is meant")
            info.data = _samples(file, info, chunk, end, riff_size, start)
            info.has_data = True
    if not info.has_data:
        raise FormatError("truncated: a WAV header without samples")
    return info


def _chunks(file: BinaryIO, info: _FileInfo, position: int, end: int, sizes: dict[bytes, int]) -> Iterator[_Chunk]:
    """Chunks up to the end; what is no chunk is a doubt.

    Args:
        file: to be read.
        info: its doubts are added to.
        position: of the first.
        end: of the file.
        sizes: those of 64 bits, by name; filled by the caller when it meets the ds64 chunk.
    """
    for _ in range(_MAX_CHUNKS):
        if info.has_data:
            position = max(position, info.data.stop)
        if position + 8 > end:
            return
        header = read_at(file, position, 8)
        name, size = header[:4], struct.unpack(f"{info.order}I", header[4:])[0]
        if info.has_data and name in MAGICS and read_at(file, position + 8, 4) == b"WAVE":
            raise FormatError(f"another WAV file is behind the first, at byte {position}; expected one")
        if not _is_name(name):
            if info.has_data:
                info.doubts += _leftover(file, position, end)
            return
        is_wide = size == _UNKNOWN and name in sizes
        size = sizes[name] if is_wide else size
        if info.has_data and position + 8 + size > end and name != b"data":
            info.doubts.append(f"cut off in a chunk behind its samples ({name.decode().strip()})")
            return
        yield _Chunk(name, position + 8, size, is_wide and size != _UNKNOWN)
        position += 8 + size + size % 2
        if size % 2 and position <= end:  # some writers leave out the byte that makes a size even
            unpadded, padded = read_at(file, position - 1, 4), read_at(file, position, 4)
            position -= _is_name(unpadded) and not _is_name(padded)
    raise FormatError(f"no samples after {_MAX_CHUNKS} chunks of a WAV header")


def _keep(info: _FileInfo, name: bytes, content: bytes) -> None:
    if name == b"fact":
        info.fact = info.fact or content
    elif info.form is None:
        info.form = content
        if info.has_data:
            info.direct = False  # libsndfile expects it before the samples
    elif content != info.form:
        raise FormatError("two different descriptions of its samples (fmt)")


def _samples(file: BinaryIO, info: _FileInfo, chunk: _Chunk, end: int, riff_size: int, start: int) -> range:
    """The stretch of a data chunk."""
    position, size, available = chunk.position, chunk.size, end - chunk.position
    if size == 0:
        if available == 0 or _are_chunks(file, position, end, info.order):
            return range(position, position)
    elif position + size <= end:
        return _wrapped(info, position, size, available)
    elif chunk.is_wide or not (is_placeholder(size) and _agree(size, riff_size, position - start - 8, end - start - 8)):
        raise FormatError(_truncated(size, available))
    info.doubts.append(_to_the_end(size))
    info.direct = False
    return range(position, end)


def _wrapped(info: _FileInfo, position: int, size: int, available: int) -> range:
    """The stretch of a size that fits into the file; a size of 32 bits may lack multiples of 2^32 bytes."""
    excess = available - size
    if excess >= 2**32 - _MAX_HEADER_CHUNK and excess % 2**32 < _MAX_HEADER_CHUNK:
        info.doubts.append(f"{size} bytes of samples announced, {available} found: its size has passed 32 bits")
        info.direct = False
        return range(position, position + available // 2**32 * 2**32 + size)
    return range(position, position + size)


def _agree(size: int, riff_size: int, before: int, actual_size: int) -> bool:
    """Whether the sizes of file and samples agree, if that of the samples stands for "not known".

    Args:
        size: of the samples, as announced.
        riff_size: of the file, as announced.
        before: bytes that count for the file's size and are before the samples.
        actual_size: bytes of the file that count for its size.
    """
    is_round = (size + 1) & _LOWEST_ROUND <= 1
    sums = {(before + size + odd) % 2**32 for odd in (0, 1)}
    return is_round or riff_size in {0, size, _UNKNOWN, *sums} or abs(riff_size - actual_size) <= 1


def _are_chunks(file: BinaryIO, position: int, end: int, order: str) -> bool:
    """Whether there is nothing but chunks from ``position`` to the end."""
    for _ in range(_MAX_CHUNKS):
        if position >= end:
            return True
        header = read_at(file, position, 8)
        if len(header) < 8 or not _is_name(header[:4]):
            return False
        size = struct.unpack(f"{order}I", header[4:])[0]
        position += 8 + size + size % 2
        if position > end + 1:
            return False
    return False


def _sizes_of_64_bits(content: bytes, order: str) -> dict[bytes, int]:
    """Of the data chunk, and of those that the table of ``ds64`` lists."""
    if len(content) < 24:
        raise FormatError("truncated: expected sizes of 64 bits (ds64)")
    sizes = {b"data": struct.unpack(f"{order}Q", content[8:16])[0]}
    for position in range(28, len(content) - 11, 12):
        sizes[content[position : position + 4]] = struct.unpack(f"{order}Q", content[position + 4 : position + 12])[0]
    if sizes[b"data"] in (0, 2**64 - 1):  # a writer to a pipe
        sizes[b"data"] = _UNKNOWN
    return sizes


def _part(info: _FileInfo) -> Part:
    """How libsndfile is shown a file."""
    tag = _tag(info)
    assert info.form is not None
    _, channels, rate, _, align = struct.unpack(f"{info.order}HHIIH", info.form[:14])
    bits = struct.unpack(f"{info.order}H", info.form[14:16])[0] if len(info.form) >= 16 else 8  # as FFmpeg takes it
    size = len(info.data)
    if tag not in (_PCM, _FLOAT, *_ONE_BYTE_TAGS) or channels == 0:
        return _as_described(info)
    container = 1 if tag in _ONE_BYTE_TAGS else -(-bits // 8)
    if container == 0 or container > 8:
        raise FormatError(f"not readable as WAV, FLAC or MP3 ({bits} bits a sample)")
    frame = channels * container
    if align != frame:
        if align and frame % align:
            raise FormatError(f"{channels} samples of {bits} bits in {align} bytes: decoders disagree on them")
        info.doubts.append(f"frames of {align} bytes announced; read as {channels} x {container}")
        info.direct = False
    if size % frame:
        info.doubts.append(f"{size % frame} bytes at the end of its samples are no whole frame; left out")
    if len(info.form) < 16 or len(info.form) in range(19, 40):
        info.direct = False
    form = struct.pack(f"{info.order}HHIIHH", tag, channels, rate, (rate * frame) & _UNKNOWN, frame, 8 * container)
    spliced = Reading(_pieces(info, form, None, size - size % frame))
    direct = (Reading(),) if info.direct else ()
    return Part((*direct, spliced), size // frame)


def _as_described(info: _FileInfo) -> Part:
    """Compressed samples: only libsndfile knows how many there are."""
    assert info.form is not None
    return Part((Reading() if info.direct else Reading(_pieces(info, info.form, info.fact, len(info.data))),))


def _pieces(info: _FileInfo, form: bytes, fact: bytes | None, size: int) -> list[Piece]:
    """A file with a plain header and the samples."""
    number = f"{info.order}I"
    chunks = b"fmt " + struct.pack(number, len(form)) + form + bytes(len(form) % 2)
    if fact is not None:
        chunks += b"fact" + struct.pack(number, len(fact)) + fact + bytes(len(fact) % 2)
    total = 4 + len(chunks) + 8 + size
    if total <= _UNKNOWN - 1:
        magic = b"RIFX" if info.order == ">" else b"RIFF"
        head = magic + struct.pack(number, total) + b"WAVE" + chunks + b"data" + struct.pack(number, size)
    elif info.order == ">":
        raise FormatError(f"{size} bytes of samples, expected at most 4 GB in a big-endian WAV")
    else:
        sizes = b"ds64" + struct.pack("<IQQQI", 28, total + 36, size, 0, 0)
        head = b"RF64" + b"\xff" * 4 + b"WAVE" + sizes + chunks + b"data" + b"\xff" * 4
    return [head, info.data[:size]]


def _tag(info: _FileInfo) -> int:
    """The format of the samples; of an extensible description, the one that it names."""
    if info.form is None or len(info.form) < 14:
        raise FormatError("truncated: a WAV header that does not say what its samples are (fmt)")
    tag = int(struct.unpack(f"{info.order}H", info.form[:2])[0])
    if tag != _EXTENSIBLE:
        return tag
    if len(info.form) < 40:
        raise FormatError("truncated: expected an extensible description of its samples (fmt) of 40 bytes")
    is_known = info.form[32:40] in _GUID_TAILS
    return int(struct.unpack(f"{info.order}I", info.form[24:28])[0] & 0xFFFF) if is_known else tag


def _leftover(file: BinaryIO, position: int, end: int) -> list[str]:
    """A doubt about bytes behind the samples that are no chunk; a tag and a little padding raise none."""
    start = read_at(file, position, _ZEROS)
    if end - position < 8 or tag_length(start, 0, end - position) or (end - position <= _ZEROS and not any(start)):
        return []
    return [f"{end - position} bytes behind its samples that no header accounts for; left out"]


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= letter < 0x7F for letter in name) and name.strip() != b""


def _to_the_end(size: int) -> str:
    return f"its header does not say how long it is ({size} bytes of samples announced); read to the end of the file"


def _truncated(announced: int, available: int) -> str:
    return f"truncated: {announced} bytes of samples announced, {available} found"

"""WAV and its relatives: RIFF, RIFX (big-endian), RF64 and BW64 (sizes of 64 bits), W64.

Sources: Microsoft's "Multiple Channel Audio Data and WAVE Files", EBU Tech 3306 (RF64), ITU-R BS.2088 (BW64), Sony's
"Wave64". Where a file's header and its bytes contradict each other, it is read as FFmpeg reads it, and that is said.
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
_ONE_BYTE = (6, 7)  # A-law, mu-law
_MPEG = (0x50, 0x55)
_GUID_TAILS = (bytes.fromhex("800000aa00389b71"), bytes.fromhex("8644c8c1ca000000"))  # plain, ambisonic
_ZEROS = 4_096  # so many bytes at the end of a file are padding
_LOWEST_ROUND = 0xFFF


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    position: int  # of its content
    size: int  # as announced
    is_wide: bool  # with 64 bits


@dataclass
class _File:
    """What is known of a file."""

    order: str
    form: bytes | None = None
    fact: bytes | None = None
    data: range = range(0)
    has_data: bool = False
    direct: bool = True  # libsndfile may read it as it lies
    doubts: list[str] = field(default_factory=list)


def inspect(file: BinaryIO, position: int = 0) -> Layout:
    """Parts of a WAV file that begins at ``position``.

    Raises:
        FormatError: truncated, without samples, or of contradicting headers.
    """
    one = _read_riff(file, position, size_of(file))
    if _tag(one) in _MPEG:
        return mpeg.inspect(read_at(file, one.data.start, len(one.data)))
    one.direct = one.direct and position == 0
    return Layout("WAV", [_part(one)], one.doubts)


def inspect_w64(file: BinaryIO) -> Layout:
    """The part of a W64 file.

    Raises:
        FormatError: as :func:`inspect`.
    """
    end, position = size_of(file), 40
    one = _File("<")
    for _ in range(_MAX_CHUNKS):
        header = read_at(file, position, 24)
        if len(header) < 24:
            break
        name, size = header[:4], int.from_bytes(header[16:], "little") - 24
        if header[4:16] != _W64_TAIL and name != b"LIST":
            one.doubts += _leftover(file, position, end)
            break
        position += 24
        if name == b"data":
            one.data = _samples_of_w64(one, position, size, end)
            position = max(position, one.data.stop)
            continue
        if name in (b"fmt ", b"fact"):
            _keep(one, name, read_at(file, position, min(max(size, 0), _MAX_HEADER_CHUNK)))
        if not 0 <= size <= end - position:
            break
        position += size + -size % 8
    return Layout("W64", [_part(one)], one.doubts)


def _samples_of_w64(one: _File, position: int, size: int, end: int) -> range:
    if size == 0 and position == end:
        return range(position, position)
    if size == 0 or size >= 2**62:
        one.doubts.append(_to_the_end(size + 24))
        one.direct = False
        return range(position, end)
    if size < 0:
        raise FormatError(f"not readable as WAV, FLAC or MP3 (a chunk of {size + 24} bytes)")
    if size > end - position:
        raise FormatError(_truncated(size, end - position))
    return range(position, position + size)


def _read_riff(file: BinaryIO, start: int, end: int) -> _File:
    head = read_at(file, start, 12)
    if len(head) < 12:
        raise FormatError("truncated: a WAV header without samples")
    if head[8:] != b"WAVE":
        raise FormatError(f"not readable as WAV, FLAC or MP3 (it is {head[:4].decode()} of {head[8:]!r})")
    order = ">" if head[:4] == b"RIFX" else "<"
    one = _File(order, direct=head[:4] != b"BW64")
    riff_size = struct.unpack(f"{order}I", head[4:8])[0]
    sizes: dict[bytes, int] = {}
    for chunk in _chunks(file, one, start + 12, end, sizes):
        if chunk.name == b"ds64":
            sizes.update(_sizes_of_64_bits(read_at(file, chunk.position, min(chunk.size, _MAX_HEADER_CHUNK)), order))
        elif chunk.name in (b"fmt ", b"fact"):
            _keep(one, chunk.name, read_at(file, chunk.position, min(chunk.size, _MAX_HEADER_CHUNK)))
        elif chunk.name == b"data":
            if one.has_data:
                raise FormatError("more than one chunk of samples (data): decoders disagree on which is meant")
            one.data = _samples(file, one, chunk, end, riff_size, start)
            one.has_data = True
    if not one.has_data:
        raise FormatError("truncated: a WAV header without samples")
    return one


def _chunks(file: BinaryIO, one: _File, position: int, end: int, sizes: dict[bytes, int]) -> Iterator[_Chunk]:
    """Chunks up to the end; what is no chunk is a doubt.

    Args:
        file: to be read.
        one: gets doubts.
        position: of the first.
        end: of the file.
        sizes: those of 64 bits, by name, as far as they are known by then.
    """
    for _ in range(_MAX_CHUNKS):
        if one.has_data:
            position = max(position, one.data.stop)
        if position + 8 > end:
            return
        header = read_at(file, position, 8)
        name, size = header[:4], struct.unpack(f"{one.order}I", header[4:])[0]
        if one.has_data and name in MAGICS and read_at(file, position + 8, 4) == b"WAVE":
            raise FormatError(f"another WAV file is behind the first, at byte {position}; expected one")
        if not _is_name(name):
            if one.has_data:
                one.doubts += _leftover(file, position, end)
            return
        is_wide = size == _UNKNOWN and name in sizes
        size = sizes[name] if is_wide else size
        if one.has_data and position + 8 + size > end and name != b"data":
            one.doubts.append(f"cut off in a chunk behind its samples ({name.decode().strip()})")
            return
        yield _Chunk(name, position + 8, size, is_wide and size != _UNKNOWN)
        position += 8 + size + size % 2
        if size % 2 and position <= end:  # some writers leave out the byte that makes a size even
            unpadded, padded = read_at(file, position - 1, 4), read_at(file, position, 4)
            position -= _is_name(unpadded) and not _is_name(padded)
    raise FormatError(f"no samples after {_MAX_CHUNKS} chunks of a WAV header")


def _keep(one: _File, name: bytes, content: bytes) -> None:
    if name == b"fact":
        one.fact = one.fact or content
    elif one.form is None:
        one.form = content
        if one.has_data:
            one.direct = False  # libsndfile expects it before the samples
    elif content != one.form:
        raise FormatError("two different descriptions of its samples (fmt)")


def _samples(file: BinaryIO, one: _File, chunk: _Chunk, end: int, riff_size: int, start: int) -> range:
    """The stretch of a data chunk."""
    position, size, there = chunk.position, chunk.size, end - chunk.position
    if size == 0:
        if there == 0 or _are_chunks(file, position, end, one.order):
            return range(position, position)
    elif position + size <= end:
        return _wrapped(one, position, size, there)
    elif chunk.is_wide or not (is_placeholder(size) and _agree(size, riff_size, position - start - 8, end - start - 8)):
        raise FormatError(_truncated(size, there))
    one.doubts.append(_to_the_end(size))
    one.direct = False
    return range(position, end)


def _wrapped(one: _File, position: int, size: int, there: int) -> range:
    """What a size says that fits; one of 32 bits may be of a file that is 2^32 bytes longer."""
    left = there - size
    if left >= 2**32 - _MAX_HEADER_CHUNK and left % 2**32 < _MAX_HEADER_CHUNK:
        one.doubts.append(f"{size} bytes of samples announced, {there} found: its size has passed 32 bits")
        one.direct = False
        return range(position, position + there // 2**32 * 2**32 + size)
    return range(position, position + size)


def _agree(size: int, riff_size: int, before: int, whole: int) -> bool:
    """Whether the sizes of file and samples agree, if that of the samples stands for "not known".

    Args:
        size: of the samples, as announced.
        riff_size: of the file, as announced.
        before: bytes that count for the file's size and are before the samples.
        whole: bytes that are there and count for the file's size.
    """
    is_round = (size + 1) & _LOWEST_ROUND <= 1
    sums = {(before + size + odd) % 2**32 for odd in (0, 1)}
    return is_round or riff_size in {0, size, _UNKNOWN, *sums} or abs(riff_size - whole) <= 1


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
    for place in range(28, len(content) - 11, 12):
        sizes[content[place : place + 4]] = struct.unpack(f"{order}Q", content[place + 4 : place + 12])[0]
    if sizes[b"data"] in (0, 2**64 - 1):  # a writer to a pipe
        sizes[b"data"] = _UNKNOWN
    return sizes


def _part(one: _File) -> Part:
    """How libsndfile is shown a file."""
    tag = _tag(one)
    assert one.form is not None
    _, channels, rate, _, align = struct.unpack(f"{one.order}HHIIH", one.form[:14])
    bits = struct.unpack(f"{one.order}H", one.form[14:16])[0] if len(one.form) >= 16 else 8  # as FFmpeg takes it
    size = len(one.data)
    if tag not in (_PCM, _FLOAT, *_ONE_BYTE) or channels == 0:
        return _as_described(one)
    container = 1 if tag in _ONE_BYTE else -(-bits // 8)
    if container == 0 or container > 8:
        raise FormatError(f"not readable as WAV, FLAC or MP3 ({bits} bits a sample)")
    frame = channels * container
    if align != frame:
        if align and frame % align:
            raise FormatError(f"{channels} samples of {bits} bits in {align} bytes: decoders disagree on them")
        one.doubts.append(f"frames of {align} bytes announced; read as {channels} x {container}")
        one.direct = False
    if size % frame:
        one.doubts.append(f"{size % frame} bytes at the end of its samples are no whole frame; left out")
    if len(one.form) < 16 or len(one.form) in range(19, 40):
        one.direct = False
    form = struct.pack(f"{one.order}HHIIHH", tag, channels, rate, (rate * frame) & _UNKNOWN, frame, 8 * container)
    spliced = Reading(_pieces(one, form, None, size - size % frame))
    direct = (Reading(),) if one.direct else ()
    return Part((*direct, spliced), size // frame)


def _as_described(one: _File) -> Part:
    """Compressed samples: only libsndfile knows how many there are."""
    assert one.form is not None
    return Part((Reading() if one.direct else Reading(_pieces(one, one.form, one.fact, len(one.data))),))


def _pieces(one: _File, form: bytes, fact: bytes | None, size: int) -> list[Piece]:
    """A file with a plain header and the samples."""
    number = f"{one.order}I"
    chunks = b"fmt " + struct.pack(number, len(form)) + form + bytes(len(form) % 2)
    if fact is not None:
        chunks += b"fact" + struct.pack(number, len(fact)) + fact + bytes(len(fact) % 2)
    total = 4 + len(chunks) + 8 + size
    if total <= _UNKNOWN - 1:
        magic = b"RIFX" if one.order == ">" else b"RIFF"
        head = magic + struct.pack(number, total) + b"WAVE" + chunks + b"data" + struct.pack(number, size)
    elif one.order == ">":
        raise FormatError(f"{size} bytes of samples, expected at most 4 GB in a big-endian WAV")
    else:
        sizes = b"ds64" + struct.pack("<IQQQI", 28, total + 36, size, 0, 0)
        head = b"RF64" + b"\xff" * 4 + b"WAVE" + sizes + chunks + b"data" + b"\xff" * 4
    return [head, one.data[:size]]


def _tag(one: _File) -> int:
    """The format of the samples; of an extensible description, the one that it names."""
    if one.form is None or len(one.form) < 14:
        raise FormatError("truncated: a WAV header that does not say what its samples are (fmt)")
    tag = int(struct.unpack(f"{one.order}H", one.form[:2])[0])
    if tag != _EXTENSIBLE:
        return tag
    if len(one.form) < 40:
        raise FormatError("truncated: expected an extensible description of its samples (fmt) of 40 bytes")
    is_known = one.form[32:40] in _GUID_TAILS
    return int(struct.unpack(f"{one.order}I", one.form[24:28])[0] & 0xFFFF) if is_known else tag


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


def _truncated(announced: int, there: int) -> str:
    return f"truncated: {announced} bytes of samples announced, {there} found"

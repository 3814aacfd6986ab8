"""Containers that libsndfile reads beside WAV, FLAC and MP3, and takes for shorter sounds where they are cut off.

Sources: Apple's "Audio Interchange File Format" and "Core Audio Format", Sun's AU as its manual page audio_file_format
describes it, RFC 3533 (Ogg).
"""

import struct
from typing import BinaryIO

from fxnorm.io.audio_formats.parts import FormatError, Layout, Part, Piece, Reading, is_placeholder, read_at, size_of

_MAX_CHUNKS = 1_000
_UNKNOWN = 0xFFFFFFFF
_SOX_AIFF = 0x7F000000  # what sox writes into AIFF files in place of a size, less a part of a frame
_AIFF_BYTES = {b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1, b"fl32": 4, b"FL32": 4, b"fl64": 8, b"FL64": 8}
_AIFF_INTEGERS = (b"NONE", b"sowt", b"twos", b"in24", b"in32", b"42ni", b"23ni", b"raw ")
_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}
_OGG_HEADER = 27
_OGG_FIRST, _OGG_LAST = 2, 4  # flags of a page


def inspect_aiff(file: BinaryIO) -> Layout:
    """The part of an AIFF or AIFC file.

    Raises:
        FormatError: truncated.
    """
    end, position = size_of(file), 12
    common, layout = (0, b""), Layout("AIFF", [Part((Reading(),))])
    sound: range | None = None
    announced = 0
    for _ in range(_MAX_CHUNKS):
        header = read_at(file, position, 8)
        if len(header) < 8:
            break
        name, size = header[:4], int.from_bytes(header[4:])
        if name == b"COMM":
            common = (position + 8, read_at(file, position + 8, 32))
        if name == b"SSND":
            announced, sound = size, range(position + 8, min(end, position + 8 + size))
        position += 8 + size + size % 2
    content = common[1]
    if sound is None or len(content) < 18:
        raise FormatError("truncated: an AIFF header without samples")
    channels, frames, bits = struct.unpack(">HIH", content[:8])
    compression = content[18:22] if read_at(file, 8, 4) == b"AIFC" else b"NONE"
    frame = channels * (-(-bits // 8) if compression in _AIFF_INTEGERS else _AIFF_BYTES.get(compression, 0))
    unknown = is_placeholder(announced) or abs(_SOX_AIFF - announced) < 2**16 or (announced == 0 and end > sound.stop)
    if len(sound) < announced and not unknown:
        raise FormatError(f"truncated: {announced} bytes of samples announced, {len(sound)} found")
    if not frame:
        return layout
    if unknown:
        sound = range(sound.start, end)
        layout.doubts.append("its header does not say how long it is; read to the end of the file")
    samples = max(0, len(sound) - 8) // frame
    if unknown:
        count_position = common[0] + 2
        pieces: list[Piece] = [
            range(0, count_position), struct.pack(">I", samples), range(count_position + 4, sound.start - 4),
            struct.pack(">I", 8 + samples * frame), range(sound.start, sound.start + 8 + samples * frame),
        ]  # fmt: skip
        layout.parts = [Part((Reading(pieces),), samples)]
    elif samples < frames:
        raise FormatError(f"truncated: {frames} samples announced, {samples} found")
    elif samples > frames:
        layout.doubts.append(f"{frames} samples announced, {samples} found")
    return layout


def inspect_au(file: BinaryIO) -> Layout:
    """The part of an AU file.

    Raises:
        FormatError: truncated.
    """
    end = size_of(file)
    header = read_at(file, 0, 24)
    if len(header) < 24:
        raise FormatError("truncated: an AU header without samples")
    order = ">" if header[:4] == b".snd" else "<"
    start, size, encoding, _, channels = struct.unpack(f"{order}5I", header[4:])
    available = max(0, end - start)
    if size == _UNKNOWN or (size > available and is_placeholder(size)) or (size == 0 and available):
        frame = _AU_BYTES.get(encoding, 0) * channels
        head = header[:8] + struct.pack(f"{order}I", available)
        reading = Reading([head, range(12, end)])
        doubts = ["its header does not say how long it is; read to the end of the file"]
        return Layout("AU", [Part((reading,), available // frame if frame else None)], doubts)
    if size > available:
        raise FormatError(f"truncated: {size} bytes of samples announced, {available} found")
    doubts = (
        [f"{available - size} bytes behind its samples that no header accounts for; left out"]
        if available > size
        else []
    )
    return Layout("AU", [Part((Reading(),))], doubts)


def inspect_caf(file: BinaryIO) -> Layout:
    """The part of a CAF file.

    Raises:
        FormatError: truncated.
    """
    end, position = size_of(file), 8
    for _ in range(_MAX_CHUNKS):
        header = read_at(file, position, 12)
        if len(header) < 12:
            break
        name, size = header[:4], struct.unpack(">q", header[4:])[0]
        position += 12
        if name == b"data":
            if size == -1:
                pieces: list[Piece] = [range(0, position - 8), struct.pack(">q", end - position), range(position, end)]
                doubts = ["its header does not say how long it is; read to the end of the file"]
                return Layout("CAF", [Part((Reading(pieces),))], doubts)
            if size > end - position:
                raise FormatError(f"truncated: {size} bytes of samples announced, {end - position} found")
            return Layout("CAF", [Part((Reading(),))])
        if not 0 <= size <= end - position:
            break
        position += size
    raise FormatError("truncated: a CAF header without samples")


def inspect_ogg(file: BinaryIO) -> Layout:
    """The part of an Ogg file.

    Raises:
        FormatError: truncated, that is, a page is not whole or the last one is not marked as such; or more than one
            stream, one behind the other.
    """
    end, position = size_of(file), 0
    open_streams: set[bytes] = set()
    while position < end:
        header = read_at(file, position, _OGG_HEADER + 255)
        if header[:4] != b"OggS":
            if position == 0 or any(header):
                raise FormatError(f"truncated or damaged: no Ogg page at byte {position}")
            break
        segments = header[26] if len(header) >= _OGG_HEADER else 0
        size = _OGG_HEADER + segments + sum(header[_OGG_HEADER : _OGG_HEADER + segments])
        if len(header) < _OGG_HEADER + segments or position + size > end:
            raise FormatError("truncated: its last Ogg page is not whole")
        flags, serial = header[5], header[14:18]
        if flags & _OGG_FIRST:
            if position and not open_streams:
                raise FormatError(f"another Ogg stream is behind the first, at byte {position}; expected one")
            open_streams.add(serial)
        if flags & _OGG_LAST:
            open_streams.discard(serial)
        position += size
    if open_streams:
        raise FormatError("truncated: no Ogg page is marked as the last one")
    return Layout("OGG", [Part((Reading(),))])

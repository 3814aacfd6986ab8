"""MPEG audio (MP3, and layers I and II), walked from frame to frame.

Sources: ISO/IEC 11172-3 and 13818-3 for the frames; the Xing, Info (LAME) and VBRI headers as Gabriel Bouvigne's "Mp3
Info Tag rev 1", FFmpeg and mpg123 read them. mpg123, which libsndfile decodes with, takes the first such header's count
for the length of the file, and guesses the length of a file that has none by its first frame.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fxnorm.io.audio_formats.parts import MAX_PARTS, FormatError, Layout, Part, Piece, Reading, tag_length, without_tags

DECODER_DELAY = 529  # samples that a decoder's filter banks are late by; LAME's header does not count them

_WORD = struct.Struct(">I")
# the bits of a header that are compared: all but the private bit, the mode extension and what follows that
_MASK = 0xFFFFFEC0
_BITRATES = {  # kbit/s by (MPEG-1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}  # Hz by version
_MONO = 3
_XING, _VBRI = (b"Xing", b"Info"), b"VBRI"
_LETTERS = b"XIV"  # that they begin with
_VBRI_OFFSET = 36
_FRAMES, _BYTES, _TOC, _QUALITY = 1, 2, 4, 8  # of a Xing header's flags
_TOC_BYTES = 100
_CHAIN = 3  # frames one behind the other that are no chance
_MAX_TRIES = 20_000  # places in one file at which a frame is looked for
_MAX_FREE = 8  # of those, for a frame of "free" bit rate
_MAX_TAGS = 1_000
_MAX_FRAME = 2**12  # bytes of one, of "free" bit rate too
_BEFORE = 2**16  # bytes before the first frame
_ZEROS = 4_096  # up to this many zero bytes are padding, of which nothing is reported


@dataclass(frozen=True)
class _FrameFormat:
    """The properties that all frames of a stream share."""

    version: int  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    layer: int
    rate: int  # Hz
    mono: bool

    @classmethod
    def of(cls, header: int) -> "_FrameFormat | None":
        """That of a frame, if ``header`` is one's."""
        version, layer, rate = header >> 19 & 3, 4 - (header >> 17 & 3), header >> 10 & 3
        if header >> 21 != 0x7FF or version == 1 or layer == 4 or rate == 3 or header >> 12 & 15 == 15:
            return None
        return cls(version, layer, _RATES[version][rate], header >> 6 & 3 == _MONO)

    @property
    def samples(self) -> int:
        """Of a frame."""
        return 384 if self.layer == 1 else 576 if self.layer == 3 and self.version != 3 else 1152

    @property
    def header_offset(self) -> int:
        """Where a Xing header stands in its frame: behind the side information."""
        return 4 + ((17 if self.mono else 32) if self.version == 3 else (9 if self.mono else 17))

    def length(self, kilobits: int, padded: bool) -> int:
        """Bytes of a frame."""
        if self.layer == 1:
            return (12_000 * kilobits // self.rate + padded) * 4
        return (72_000 if self.samples == 576 else 144_000) * kilobits // self.rate + padded

    def lengths(self) -> dict[int, int]:
        """Bytes of a frame by its header, masked; frames of "free" bit rate are not among them."""
        rate = _RATES[self.version].index(self.rate)
        base = 0x7FF << 21 | self.version << 19 | 4 - self.layer << 17 | rate << 10
        return {
            base | unprotected << 16 | number << 12 | padded << 9 | mode << 6: self.length(kilobits, bool(padded))
            for number, kilobits in enumerate(_BITRATES[self.version == 3, self.layer], start=1)
            for unprotected in (0, 1)
            for padded in (0, 1)
            for mode in ([_MONO] if self.mono else [0, 1, 2])
        }

    def __str__(self) -> str:
        return f"{self.rate} Hz {'mono' if self.mono else 'stereo'}"


@dataclass(frozen=True)
class _Announced:
    """What a Xing or VBRI header announces of the frames behind it."""

    frames: int | None
    size: int | None  # bytes, with the header's own frame
    delay: int | None = None  # samples that the encoder put before the sound, and after it
    padding: int = 0

    @classmethod
    def at(cls, content: bytes, frame: int, frame_format: _FrameFormat) -> "_Announced | None":
        """The header in the frame at a position, if it has one."""
        if content[frame + _VBRI_OFFSET : frame + _VBRI_OFFSET + 4] == _VBRI:
            size, frames = struct.unpack_from(">II", content[frame + _VBRI_OFFSET + 10 :][:8].ljust(8, b"\0"))
            return cls(frames or None, size or None)
        xing = frame + frame_format.header_offset
        if content[xing : xing + 4] in _XING:
            return cls._xing(content[xing + 4 : xing + 200].ljust(196, b"\0"))
        return None

    @classmethod
    def _xing(cls, fields: bytes) -> "_Announced":
        flags, position = _WORD.unpack_from(fields)[0], 4
        numbers: dict[int, int] = {}
        for flag, size in ((_FRAMES, 4), (_BYTES, 4), (_TOC, _TOC_BYTES), (_QUALITY, 4)):
            if flags & flag:
                numbers[flag] = _WORD.unpack_from(fields, position)[0]
                position += size
        delay, padding = None, 0
        if fields[position]:  # the encoder's name
            delay_and_padding = int.from_bytes(fields[position + 21 : position + 24])
            delay, padding = delay_and_padding >> 12, delay_and_padding & 0xFFF
        return cls(numbers.get(_FRAMES) or None, numbers.get(_BYTES) or None, delay, padding)


@dataclass
class _Stretch:
    """Frames that belong to one stream, behind a header or without one."""

    frame_format: _FrameFormat
    header: range | None = None  # the frame that is a Xing or VBRI header
    announced: _Announced | None = None
    segments: list[range] = field(default_factory=list)
    frames: int = 0

    @property
    def seconds(self) -> float:
        return self.frames * self.frame_format.samples / self.frame_format.rate


class _Walk:
    """Goes through a file; afterwards ``stretches`` and ``doubts`` describe its content."""

    def __init__(self, content: bytes) -> None:
        self.stretches: list[_Stretch] = []
        self.doubts: list[str] = []
        self._content = content
        self._stop = without_tags(content)
        self._lengths: dict[int, int] = {}
        self._tries = self._tags = self._free = 0
        self._run(self._first())

    def length_at(self, frame: int) -> int:
        """Bytes of the frame at a position."""
        return self._lengths[_WORD.unpack_from(self._content, frame)[0] & _MASK]

    def _first(self) -> int:
        """Where the first frame is."""
        position = self._behind_tags(0)
        for candidate in self._candidates(position, min(self._stop, position + _BEFORE)):
            frame_format = _FrameFormat.of(_WORD.unpack_from(self._content, candidate)[0])
            if frame_format is not None:
                self._lengths = self._lengths_at(candidate, frame_format)
                if self._is_chain(candidate, self._lengths, _CHAIN if candidate > position else 1):
                    self.stretches.append(_Stretch(frame_format))
                    return candidate
        raise FormatError("not readable as WAV, FLAC or MP3 (no MPEG frame at its beginning)")

    def _run(self, position: int) -> None:
        while position < self._stop:
            position, last = self._frames(position)
            if position > self._stop:
                raise FormatError(f"truncated: its last frame has {self._stop - last} of {position - last} bytes")
            behind = self._behind_tags(position)
            if behind == position < self._stop and not self._is_chain(position, self._lengths, 1):
                behind = self._behind_damage(position, last)
            position = behind

    def _frames(self, position: int) -> tuple[int, int]:
        """Goes on from frame to frame until one does not follow directly.

        Returns:
            where the last one ends, and where it begins.
        """
        content, length_of, word, last_start = self._content, self._lengths.get, _WORD.unpack_from, self._stop - 4
        frame_format = self.stretches[-1].frame_format
        offset, near_end = frame_format.header_offset, len(content) - _VBRI_OFFSET - 1
        begin, frames, last = position, 0, position
        while position <= last_start:
            length = length_of(word(content, position)[0] & _MASK)
            if length is None:
                break
            # one byte excludes most frames from being a header: this loop takes a good part of the time of reading an
            # MP3
            if (
                position > near_end
                or content[position + offset] in _LETTERS
                or content[position + _VBRI_OFFSET] in _LETTERS
            ) and _is_header(content, position, frame_format):
                self._add(range(begin, position), frames)
                self._begin(range(position, position + length), frame_format)
                begin, frames = position + length, 0
            else:
                frames += 1
            last = position
            position += length
        if position <= self._stop:
            self._add(range(begin, position), frames)
        return position, last

    def _add(self, segment: range, frames: int) -> None:
        stretch = self.stretches[-1]
        if not frames:
            return
        stretch.frames += frames
        if stretch.segments and stretch.segments[-1].stop == segment.start:
            segment = range(stretch.segments.pop().start, segment.stop)
        stretch.segments.append(segment)

    def _begin(self, header: range, frame_format: _FrameFormat) -> None:
        announced = _Announced.at(self._content, header.start, frame_format)
        if self.stretches[-1].frames == 0 and self.stretches[-1].header is None:
            self.stretches.pop()
        self.stretches.append(_Stretch(frame_format, header, announced))
        if len(self.stretches) > MAX_PARTS:
            raise FormatError(f"more than {MAX_PARTS} MP3 files one behind the other")

    def _behind_tags(self, position: int) -> int:
        """Where tags and zeros that begin at ``position`` end."""
        while position < self._stop:
            length = tag_length(self._content, position, self._stop)
            self._tags += length > 0
            if self._tags > _MAX_TAGS:
                raise FormatError(f"more than {_MAX_TAGS} tags")
            if not length and self._content[position] == 0:
                length = self._zeros(position)
            if not length:
                break
            position += length
        return min(position, self._stop)

    def _zeros(self, position: int) -> int:
        start = position
        while position < self._stop:
            block = self._content[position : position + 2**16]
            remaining = block.lstrip(b"\0")
            position += len(block) - len(remaining)
            if remaining:
                break
        if position - start > _ZEROS:
            self.doubts.append(f"{position - start} zero bytes between its frames or behind them; left out")
        return position - start

    def _behind_damage(self, position: int, last: int) -> int:
        """Where frames go on behind bytes that are none; from ``last`` on, since it may not have been whole."""
        if self._stop - position < 4 and self._content[position] == 0xFF:
            raise FormatError(f"truncated: of its last frame, {self._stop - position} bytes are there")
        self._refuse_other_format(position)
        for candidate in self._candidates(last + 4, self._stop):
            if self._content[candidate] != 0xFF or self._is_chain(candidate, self._lengths, _CHAIN):
                if candidate < position:
                    self._take_back(last)
                elif self._content[candidate] == 0xFF:
                    self.doubts.append(
                        f"{candidate - position} bytes at {self._seconds():.1f} s are no MPEG frame; left out"
                    )
                return candidate
            if candidate >= position:
                self._refuse_other_format(candidate)
        if self._stop - position >= 4 or any(self._content[position:]):
            self.doubts.append(f"{self._stop - position} bytes at its end are no MPEG frame; left out")
        return self._stop

    def _take_back(self, last: int) -> None:
        """Remove the last frame."""
        stretch = self.stretches[-1]
        self.doubts.append(f"the frame at {self._seconds():.1f} s is not whole; left out")
        if stretch.segments and stretch.segments[-1].stop > last:
            stretch.segments[-1] = range(stretch.segments[-1].start, last)
            stretch.frames -= 1

    def _refuse_other_format(self, position: int) -> None:
        """Refuse a file that goes on with frames of another kind."""
        if position + 4 > self._stop:
            return
        frame_format = _FrameFormat.of(_WORD.unpack_from(self._content, position)[0])
        if frame_format is not None and self._is_chain(position, frame_format.lengths(), _CHAIN):
            first = self.stretches[0].frame_format
            raise FormatError(f"begins with {first} and goes on with {frame_format} at {self._seconds():.1f} s")

    def _seconds(self) -> float:
        return sum(stretch.seconds for stretch in self.stretches)

    def _candidates(self, position: int, stop: int) -> Iterator[int]:
        """Where a frame, or a tag that is not at the end, may begin."""
        while True:
            self._tries += 1
            if self._tries > _MAX_TRIES:
                raise FormatError(f"no MPEG frame at {_MAX_TRIES} places where one might begin")
            sync = self._content.find(b"\xff", position, stop)
            tag = self._content.find(b"ID3", position, stop if sync < 0 else sync)
            if tag >= 0 and tag_length(self._content, tag, self._stop):
                yield tag
            if sync < 0 or sync + 4 > self._stop:
                return
            yield sync
            position = sync + 1

    def _is_chain(self, position: int, lengths: dict[int, int], count: int) -> bool:
        """Whether ``count`` frames follow each other from ``position`` on, or fewer up to the end or a tag."""
        for number in range(count):
            if number and (position == self._stop or tag_length(self._content, position, self._stop)):
                return True
            if position + 4 > self._stop:
                return False
            length = lengths.get(_WORD.unpack_from(self._content, position)[0] & _MASK)
            if length is None:
                return False
            position += length
        return True

    def _lengths_at(self, position: int, frame_format: _FrameFormat) -> dict[int, int]:
        """Bytes of a frame by its header; of a stream of "free" bit rate, by where its second frame is."""
        header = _WORD.unpack_from(self._content, position)[0]
        if header >> 12 & 15:
            return frame_format.lengths()
        self._free += 1
        if self._free > _MAX_FREE:
            return {}
        fixed = header & _MASK & ~0x2C0  # without padding and mode
        slot = 4 if frame_format.layer == 1 else 1
        for length in range(slot * (24 // slot), _MAX_FRAME, slot):
            following = self._content[position + length : position + length + 4]
            if len(following) == 4 and _WORD.unpack(following)[0] & _MASK & ~0x2C0 == fixed:
                unpadded = length - slot * (header >> 9 & 1)
                modes = [_MONO] if frame_format.mono else [0, 1, 2]
                lengths = {
                    fixed | padded << 9 | mode << 6: unpadded + slot * padded for padded in (0, 1) for mode in modes
                }
                if self._is_chain(position, lengths, _CHAIN):
                    return lengths
        return {}


def _is_header(content: bytes, frame: int, frame_format: _FrameFormat) -> bool:
    """Whether a frame is a Xing or VBRI header."""
    xing, vbri = frame + frame_format.header_offset, frame + _VBRI_OFFSET
    return frame_format.layer == 3 and (content[xing : xing + 4] in _XING or content[vbri : vbri + 4] == _VBRI)


def inspect(content: bytes) -> Layout:
    """Parts of an MPEG audio file.

    Args:
        content: the whole file.

    Raises:
        FormatError: truncated, no MPEG audio, or of more than one kind.
    """
    walk = _Walk(content)
    stretches = [stretch for stretch in walk.stretches if stretch.frames or stretch.announced]
    parts, doubts = [], []
    for stretch in stretches:
        doubts += _compare(stretch, len(content))
        parts.append(_part(stretch, memoryview(content), walk.length_at))
    if len(stretches) > 1:
        lengths = " + ".join(f"{stretch.seconds:.1f}" for stretch in stretches[:10])
        doubts.insert(0, f"holds {len(stretches)} MP3 files one behind the other ({lengths} s); all of them are read")
    return Layout("MP3", parts, walk.doubts + doubts)


def _compare(stretch: _Stretch, end: int) -> list[str]:
    """Compare what a header announces with the frames of its stretch."""
    announced, header = stretch.announced, stretch.header
    if announced is None or header is None:
        return []
    stop = stretch.segments[-1].stop if stretch.segments else header.stop
    if announced.frames is None:
        if announced.size is not None and header.start + announced.size > end:
            raise FormatError(f"truncated: {announced.size} bytes announced, {end - header.start} found")
        return ["its header does not say how many frames it has; read to the end"]
    if stretch.frames < announced.frames:
        counts_itself = stretch.frames == announced.frames - 1 and stop - header.start >= (announced.size or 0)
        if not counts_itself:
            raise FormatError(f"truncated: {announced.frames} frames announced, {stretch.frames} found")
        return [] if announced.size else [f"{announced.frames} frames announced, {stretch.frames} found"]
    if stretch.frames > announced.frames:
        seconds = announced.frames * stretch.frame_format.samples / stretch.frame_format.rate
        return [f"{seconds:.1f} s announced, {stretch.seconds:.1f} s found; all of it is read"]
    return []


def _part(stretch: _Stretch, content: memoryview, length_at: Callable[[int], int]) -> Part:
    """How libsndfile is shown a stretch.

    With its header, if it finds there what was found here; else without, and with zero bytes behind, so that the length
    that mpg123 guesses is not too short.
    """
    announced, total = stretch.announced, stretch.frames * stretch.frame_format.samples
    skip = padding = 0
    if announced is not None and announced.delay is not None:
        skip = announced.delay + DECODER_DELAY
        if stretch.frames == announced.frames:
            padding = max(0, announced.padding - DECODER_DELAY)
    samples = max(0, total - skip - padding)
    frames: list[Piece] = [content[segment.start : segment.stop] for segment in stretch.segments]
    length = length_at(stretch.segments[0].start) + 1 if stretch.segments else 0  # of the first frame, rounded up
    missing = stretch.frames * length - sum(len(segment) for segment in stretch.segments)
    without = Reading(frames, skip, zeros=max(0, missing) + _MAX_FRAME)
    if stretch.header is None or announced is None or stretch.frames != announced.frames:
        return Part((without,), samples)
    header = content[stretch.header.start : stretch.header.stop]
    return Part((Reading([header, *frames]), without), samples)

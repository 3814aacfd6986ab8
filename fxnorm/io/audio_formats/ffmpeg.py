"""Containers that FFmpeg reads, through PyAV: MP4, Matroska, ASF, raw AAC, Monkey's Audio, WavPack and FLAC in Ogg.

FFmpeg leaves out what an encoder put before the first sample, where the container says how much that is. It does not
cut the end of the last frame off, and takes what is left of a damaged file for the whole. Both are done here. Which of
its demuxers reads a file is decided from the file's first bytes, so that no other one sees it.

Sources: ISO/IEC 14496-12 (boxes), 14496-3 (ADTS), RFC 9559 (Matroska), Microsoft's "Advanced Systems Format".
"""

import contextlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from fxnorm.errors import first_line, missing_package
from fxnorm.io.audio_formats import others
from fxnorm.io.audio_formats.parts import FormatError, Layout, read_at, size_of, tag_length

if TYPE_CHECKING:
    from fractions import Fraction

    from av import AudioFrame, Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_DEMUXERS = {
    "MP4": "mov",
    "Matroska": "matroska",
    "ASF": "asf",
    "AAC": "aac",
    "APE": "ape",
    "WavPack": "wv",
    "FLAC in Ogg": "ogg",  # which libsndfile 1.2.2 refuses where FFmpeg wrote it
}
"""Container -> FFmpeg's name of what reads it."""
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"wide")
_EBML = bytes.fromhex("1a45dfa3")
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ADTS_HEADER = 7
_APE_WITH_SIZES = 3980
"""The version of Monkey's Audio from which on its header has the sizes of its parts."""
_UNKNOWN = 0xFFFFFFFF
_MAX_BOXES = 1_000_000  # fragments of a recording; each has two
_PLACED = ("MP4", "Matroska")
"""Containers whose streams may begin later than the file."""
_EXACT = ("APE", "WavPack", "FLAC in Ogg")
"""Containers that announce their number of samples."""
_OGG_FLAC = range(28, 33)  # where a first page that holds one packet has that packet's name
_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "flt": 1.0, "dbl": 1.0}
"""FFmpeg's sample format -> the value of full scale."""
_DURATION_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_LATEST_SECONDS = 600
"""Of a stream's begin. The silence before it costs a file nothing, so a small one could fill the memory with it."""
_GAP_SECONDS = 0.01  # less than most codecs' frame, and more than a time stamp in milliseconds is off
_END_SECONDS = 0.1  # what an encoder put before the first sample may count for a track's length in Matroska


def container_of(file: BinaryIO, position: int = 0) -> str:
    """The name of a container, from its first bytes; empty for one that is not known here.

    Args:
        file: to be read.
        position: behind the tags at its beginning.
    """
    start = read_at(file, 0, 16)
    if start[4:8] in _MP4_BOXES:
        return "MP4"
    if start[:4] == _EBML:
        return "Matroska"
    if start == _ASF_HEADER:
        return "ASF"
    if start[:4] == b"OggS" and read_at(file, _OGG_FLAC.start, len(_OGG_FLAC)) == b"\x7fFLAC":
        return "FLAC in Ogg"
    behind_tags = read_at(file, position, 16)
    if behind_tags[:4] == b"MAC ":
        return "APE"
    if behind_tags[:4] == b"wvpk":
        return "WavPack"
    length = _adts_length(behind_tags)
    if length and (_adts_length(read_at(file, position + length, 16)) or position + length >= size_of(file)):
        return "AAC"
    return ""


def is_read(container: str) -> bool:
    """Whether :func:`open_stream` reads a container of this name."""
    return container in _DEMUXERS


def inspect(file: BinaryIO, container: str, position: int = 0) -> Layout:
    """What a file's structure says of its being whole; a layout without parts.

    Args:
        file: to be read.
        container: as :func:`container_of` names it.
        position: behind the tags at its beginning.

    Raises:
        FormatError: truncated.
    """
    layout = Layout(container, [])
    if container == "MP4":
        _check_boxes(file)
    elif container == "Matroska":
        layout.doubts += _check_segment(file)
    elif container == "ASF":
        layout.doubts += _check_objects(file)
    elif container == "FLAC in Ogg":
        others.inspect_ogg(file)
    elif container == "AAC":
        _check_adts(file, position)
    elif container == "WavPack":
        _check_wavpack(file, position)
    elif container == "APE":
        _check_ape(file, position)
    return layout


def streams(file: BinaryIO, container: str) -> int:
    """The number of audio streams; video, covers and subtitles do not count.

    Raises:
        FormatError: not readable, or PyAV is not installed.
    """
    with _opened(file, container) as opened:
        return len(opened.streams.audio)


@dataclass
class Stream:
    """One audio stream of a container.

    Attributes:
        channels: their number.
        sample_rate: Hz.
        samples: what the container announces, and what :meth:`blocks` gives; None if it announces no number that is
            exact.
        estimate: about how many samples it has.
        doubts: sentences on what may be missing; complete when all blocks are read.
    """

    channels: int
    sample_rate: int
    samples: int | None
    estimate: int
    doubts: list[str] = field(default_factory=list)
    _file: BinaryIO = field(kw_only=True, repr=False)
    _container: str = field(kw_only=True)
    _number: int = field(kw_only=True)

    def blocks(self) -> Iterator[np.ndarray]:
        """The samples from the container's beginning on: float32 (samples, channels), a frame at a time.

        Raises:
            FormatError: damaged, fewer samples than announced, or another rate or number of channels than before.
        """
        count = 0
        with _opened(self._file, self._container) as opened:
            stream = _audio_stream(opened, self._number)
            for frame, lead in _frames(opened, stream, self._container):
                self._refuse_other(frame, count)
                if lead:
                    yield np.zeros((self._at_most(count, lead), self.channels), np.float32)
                    count += self._at_most(count, lead)
                if frame.pts is not None:
                    self._refuse_gap(_seconds(frame.pts, frame.time_base), count)
                block = _samples_of(frame)
                block = block[: self._at_most(count, len(block))]
                count += len(block)
                yield block
            if self._container == "Matroska":
                self._refuse_gap(_announced_matroska(opened, stream) - _END_SECONDS, count)
        if self.samples is not None and count < self.samples:
            raise FormatError(f"truncated: {self.samples} samples announced, {count} found")

    def count(self) -> int:
        """How many samples :meth:`blocks` gives; counted where they are not announced.

        Raises:
            FormatError: as :meth:`blocks`.
        """
        return self.samples if self.samples is not None else sum(len(block) for block in self.blocks())

    def _at_most(self, count: int, samples: int) -> int:
        return samples if self.samples is None else min(samples, self.samples - count)

    def _refuse_other(self, frame: "AudioFrame", count: int) -> None:
        channels = frame.layout.nb_channels
        if (frame.sample_rate, channels) != (self.sample_rate, self.channels):
            raise FormatError(
                f"begins with {self.sample_rate} Hz and {self.channels} channels, goes on with"
                f" {frame.sample_rate} Hz and {channels} at {count / self.sample_rate:.1f} s"
            )

    def _refuse_gap(self, seconds: float, count: int) -> None:
        """Refuse samples that are missing before a time that the container names."""
        place = count / self.sample_rate
        if self._container in _PLACED and seconds - place > _GAP_SECONDS:
            raise FormatError(f"damaged or truncated: {seconds - place:.2f} s are missing at {place:.2f} s")


def open_stream(file: BinaryIO, container: str, number: int = 0) -> Stream:
    """The ``number``-th audio stream of a container, from 0 on.

    Raises:
        FormatError: there is no such stream, nothing decodes it, it is damaged, or PyAV is not installed.
    """
    tick = _movie_tick(file) if container == "MP4" else 0.0  # PyAV keeps the file's position while it is open
    with _opened(file, container) as opened:
        stream = _audio_stream(opened, number)
        announced = _announced_mp4(opened, stream, tick) if container == "MP4" else None
    with _opened(file, container) as opened:
        stream = _audio_stream(opened, number)
        frame, lead = next(_frames(opened, stream, container), (None, 0))
        if frame is None:
            raise FormatError("holds no samples")
        rate = frame.sample_rate
        samples = None
        if announced is not None:
            samples = lead + round(announced * rate)
        elif container in _EXACT and stream.duration is not None:
            samples = round(_seconds(stream.duration, stream.time_base) * rate)
        seconds = (opened.duration or 0) / 1e6
        estimate = samples if samples is not None else int((seconds + 1) * rate)
        doubts = []
        if container == "ASF" and str(opened.metadata.get("encoder", "")).startswith("Lavf"):
            doubts.append("FFmpeg wrote it, and leaves out the first frame of the WMA that it encodes itself")
    return Stream(
        frame.layout.nb_channels, rate, samples, estimate, doubts, _file=file, _container=container, _number=number
    )


@contextlib.contextmanager
def _opened(file: BinaryIO, container: str) -> "Iterator[InputContainer]":
    try:
        import av
    except ImportError as error:
        if (needed := missing_package(error, f"reading {container}")) is None:
            raise
        raise FormatError(needed) from error
    file.seek(0)
    try:
        with av.open(file, "r", format=_DEMUXERS[container]) as opened:
            yield opened
    except av.FFmpegError as error:
        raise FormatError(f"not readable as {container}, damaged or truncated ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or first_line(error))


def _audio_stream(opened: "InputContainer", number: int) -> "AudioStream":
    count = len(opened.streams.audio)
    if count == 0:
        raise FormatError("holds no audio")
    if not 0 <= number < count:
        raise FormatError(f"has no audio stream {number}, but {count}, counted from 0")
    stream = opened.streams.audio[number]
    if stream.codec_context is None:
        raise FormatError("no decoder for its audio")
    stream.codec_context.options = {"err_detect": "explode"}
    return stream


def _frames(opened: "InputContainer", stream: "AudioStream", container: str) -> "Iterator[tuple[AudioFrame, int]]":
    """Decoded frames, and how many silent samples are before each: the first one's stream may begin late."""
    starts_late = False
    is_first_packet = is_first_frame = True
    for packet in opened.demux(stream):
        if packet.is_corrupt:
            raise FormatError("damaged: a packet that its container marks as such")
        if is_first_packet and packet.size:
            # a packet before 0 holds what the encoder put before the first sample, and the frame begins at 0
            starts_late = container in _PLACED and packet.pts is not None and packet.pts > 0
            is_first_packet = False
        for frame in packet.decode():
            if frame.samples == 0:
                continue
            lead = 0
            if is_first_frame and starts_late and frame.pts is not None:
                seconds = _seconds(frame.pts, frame.time_base)
                if seconds > _LATEST_SECONDS:
                    raise FormatError(
                        f"begins at {seconds:.0f} s, expected at most {_LATEST_SECONDS} s of silence first"
                    )
                lead = round(seconds * frame.sample_rate)
            is_first_frame = False
            yield frame, lead


def _announced_mp4(opened: "InputContainer", stream: "AudioStream", tick: float) -> float:
    """Seconds that an MP4 announces for a stream: all its packets, without what the edit list leaves out.

    The length in the edit list is a multiple of the movie's tick, which is coarser than a sample: within one tick of
    it, that of the packets is the exact one.

    Raises:
        FormatError: the packets are shorter than the edit list.
    """
    total, skipped = 0, 0
    for packet in opened.demux(stream):
        total += packet.duration or 0
        skipped += sum(_skipped(packet))
    with_delay = _seconds(total, stream.time_base)
    # of an MP4 in fragments, the announced length is that of the packets
    edited = with_delay if stream.duration is None else _seconds(stream.duration, stream.time_base)
    if with_delay < edited - tick:
        raise FormatError(f"truncated: {edited:.2f} s announced, {with_delay:.2f} s found")
    return min(with_delay - skipped / stream.sample_rate, edited + tick)


def _announced_matroska(opened: "InputContainer", stream: "AudioStream") -> float:
    """Seconds at which a stream of a Matroska file ends, as far as it says so; 0 where it does not."""
    tag = next((text for name, text in stream.metadata.items() if name.startswith("DURATION")), "")
    if match := _DURATION_TAG.fullmatch(tag):
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return (opened.duration or 0) / 1e6 if len(opened.streams) == 1 else 0.0


def _seconds(count: int, unit: "Fraction | None") -> float:
    return float(count * unit) if unit is not None else 0.0


def _skipped(packet: "Packet") -> tuple[int, int]:
    """Samples that are no part of the sound at the beginning and end of a packet."""
    for side in packet.iter_sidedata():
        if side.data_type == "skip_samples":
            return struct.unpack("<II", bytes(side)[:8])
    return 0, 0


def _samples_of(frame: "AudioFrame") -> np.ndarray:
    """float32 (samples, channels), full scale at 1."""
    array = frame.to_ndarray()
    samples = array.T if frame.format.is_planar else array.reshape(-1, frame.layout.nb_channels)
    name = frame.format.name.removesuffix("p")
    if name not in _FULL_SCALE:
        raise FormatError(f"samples of the format {name}")
    scaled = samples.astype(np.float32)
    if name == "u8":
        scaled -= np.float32(_FULL_SCALE["u8"])
    return scaled if _FULL_SCALE[name] == 1.0 else scaled * np.float32(1 / _FULL_SCALE[name])


def _boxes(file: BinaryIO, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Names of boxes of an MP4, and where their contents begin and end; an end beyond the file's means truncated."""
    for _ in range(_MAX_BOXES):
        header = read_at(file, position, 16)
        if len(header) < 8:
            return
        size, content = int.from_bytes(header[:4]), position + 8
        if size == 1 and len(header) == 16:
            size, content = int.from_bytes(header[8:]), position + 16
        elif size == 0:
            size = end - position
        if size < content - position:
            return
        yield header[4:8], content, position + size
        position += size


def _check_boxes(file: BinaryIO) -> None:
    end = size_of(file)
    names = set()
    for name, position, stop in _boxes(file, 0, end):
        if stop > end:
            raise FormatError(f"truncated: {stop - position} bytes of {name!r} announced, {end - position} found")
        names.add(name)
    if b"moov" not in names:
        raise FormatError("truncated: an MP4 without a description of its samples (moov)")


def _movie_tick(file: BinaryIO) -> float:
    """Seconds of the unit in which an MP4's edit lists count."""
    end = size_of(file)
    for name, position, stop in _boxes(file, 0, end):
        if name == b"moov":
            for inner, start, _ in _boxes(file, position, stop):
                if inner == b"mvhd":
                    content = read_at(file, start, 24)
                    offset = 20 if content[:1] == b"\x01" else 12
                    return 1 / max(1, int.from_bytes(content[offset : offset + 4]))
    return 0.0


def _check_segment(file: BinaryIO) -> list[str]:
    """Of a Matroska file: its header, then the one segment that holds all."""
    end = size_of(file)
    position = 4
    _, length, size = _ebml_number(file, position)
    position += length + (size or 0)
    is_segment = read_at(file, position, 4) == bytes.fromhex("18538067")
    is_unknown, length, size = _ebml_number(file, position + 4)
    if not is_segment or size is None:
        raise FormatError("truncated: a Matroska header without a segment")
    if is_unknown:
        return ["its header does not say how long it is; read to the end of the file"]
    found = end - position - 4 - length
    if size > found:
        raise FormatError(f"truncated: {size} bytes announced, {found} found")
    return []


def _ebml_number(file: BinaryIO, position: int) -> tuple[bool, int, int | None]:
    """A size in a Matroska file: whether it stands for "not known", its own bytes, and its value."""
    content = read_at(file, position, 8)
    if not content or content[0] == 0:
        return False, 0, None
    length = 9 - content[0].bit_length()
    value = int.from_bytes(content[:length]) & ((1 << 7 * length) - 1)
    return value == (1 << 7 * length) - 1, length, value


def _check_objects(file: BinaryIO) -> list[str]:
    """Of an ASF file: its header, then the data."""
    end = size_of(file)
    position = int.from_bytes(read_at(file, 16, 8), "little")
    header = read_at(file, position, 24)
    if header[:16] != _ASF_DATA or len(header) < 24:
        raise FormatError("truncated: an ASF header without samples")
    size = int.from_bytes(header[16:], "little")
    if size == 0:
        return ["its header does not say how long it is; read to the end of the file"]
    if size > end - position:
        raise FormatError(f"truncated: {size} bytes of samples announced, {end - position} found")
    return []


def _check_adts(file: BinaryIO, position: int) -> None:
    end = size_of(file)
    while position < end:
        length = _adts_length(start := read_at(file, position, 32))
        if not length:
            if tag_length(start, 0, end - position) or not any(start):
                return
            raise FormatError(f"truncated or damaged: no AAC frame at byte {position}")
        if position + length > end:
            raise FormatError("truncated: its last AAC frame is not whole")
        position += length


def _check_wavpack(file: BinaryIO, position: int) -> None:
    end, total, found = size_of(file), _UNKNOWN, 0
    while position < end:
        header = read_at(file, position, 32)
        if header[:4] != b"wvpk" or len(header) < 32:
            if found and tag_length(header, 0, end - position):
                break
            raise FormatError(f"truncated or damaged: no WavPack block at byte {position}")
        size, _, _, _, announced, first, samples = struct.unpack("<IHBBIII", header[4:24])
        total = announced if first == 0 and samples else total
        found = max(found, first + samples)
        position += 8 + size
        if position > end:
            raise FormatError("truncated: its last WavPack block is not whole")
    if total != _UNKNOWN and found < total:
        raise FormatError(f"truncated: {total} samples announced, {found} found")


def _check_ape(file: BinaryIO, position: int) -> None:
    header = read_at(file, position, 52)
    if len(header) < 52:
        raise FormatError("truncated: a header of Monkey's Audio without samples")
    if int.from_bytes(header[4:6], "little") < _APE_WITH_SIZES:
        return
    *sizes, high, tail = struct.unpack("<7I", header[8:36])  # of the parts; the samples' has two halves
    size = sum(sizes) + (high << 32) + tail
    found = size_of(file) - position
    if size > found:
        raise FormatError(f"truncated: {size} bytes announced, {found} found")


def _adts_length(start: bytes) -> int:
    """Bytes of the ADTS frame that begins here; 0 if none does."""
    # 12 bits of sync, then layer 0: MP3 has the same sync and another layer
    if len(start) < _ADTS_HEADER or start[0] != 0xFF or start[1] & 0xF6 != 0xF0:
        return 0
    length = (start[3] & 3) << 11 | start[4] << 3 | start[5] >> 5
    return length if length >= _ADTS_HEADER else 0

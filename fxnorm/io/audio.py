"""Reading, checking, resampling and writing audio.

Audio in the library is a float32 array of shape (channels, samples), full scale at 1. What comes in is checked here,
once: a file that is truncated, empty, not finite, far beyond full scale or has more than two channels is refused with
one line that names it.
"""

import contextlib
import io
import logging
import os
import struct
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.io.wavfile
import soundfile
import soxr

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError, FxnormError, first_line
from fxnorm.io import audio_formats, object_store
from fxnorm.io.audio_formats import FormatError, Layout, Part, Reading, ffmpeg, flac, inspect, parts, shown
from fxnorm.io.files import whole_file

OUTPUT_SUFFIXES = (".wav", ".flac", ".mp3")
"""Suffixes of files that are written."""

AUDIO_SUFFIXES = (
    ".wav", ".flac",
    ".aiff", ".aif", ".aifc", ".caf", ".w64", ".rf64", ".bwf", ".au", ".snd", ".alac", ".wv", ".ape",
    ".mp3", ".m4a", ".mp4", ".mka", ".opus", ".ogg", ".oga", ".webm", ".aac", ".wma", ".mp2",
)  # fmt: skip
"""Suffixes of files that are read, in lower case.

A stem that has several files is read from the first in this order: WAV and FLAC, what else loses nothing, then what
does or may. The content alone says what a file is."""

MAX_CHANNELS = 2

MAX_DBFS = 60.0
"""The highest peak that is read or written. No recording comes near; samples close to float32's own limit give a mix
that is not finite, and somewhere above +80 dBFS the MP3 encoder ends the process."""

RATES = (8_000, 192_000)
"""Lowest and highest sample rate in Hz of untrusted files: outside of these a short file would be resampled to a very
long one, or slowly."""

_FORMATS = ("WAV", "FLAC", "MP3")
"""Formats of untrusted files. libsndfile reads dozens of others, which were not tested with hostile files."""
_QUALITY = "HQ"  # of soxr
_BLOCK = 2**18  # frames that are read at once
_WAV_HEADER = 128  # bytes, of WAV as it is written here
_UNKNOWN_FRAMES = 2**62  # libsndfile reports more for a file whose header lacks the number of samples
_SUBTYPES = {".wav": "FLOAT", ".flac": "PCM_24", ".mp3": "MPEG_LAYER_III"}
_UNBOUNDED = ("FLOAT", "DOUBLE", "MPEG_LAYER_III")
"""Sample formats that hold more than full scale."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DecodingLimits:
    """Limits of an untrusted file. Its header is compared with them before anything is decoded.

    Attributes:
        seconds: the longest song.
        bytes: the most for its samples as float32, at their own rate or resampled, whichever is more.
        channels: 1 or 2.
    """

    seconds: float
    bytes: int
    channels: int = MAX_CHANNELS


def read(path: str | Path, sample_rate: int | None = SAMPLE_RATE, stream: int = 0) -> tuple[np.ndarray, int]:
    """Audio of a file, local or ``s3://bucket/key``.

    What libsndfile does not read (MP4, Matroska, ASF, AAC, WavPack, Monkey's Audio, FLAC in Ogg) is read through PyAV,
    which the extra ``formats`` installs. The first sample is that at the container's time 0: what an encoder put before
    it is left out where the container says how much that is, and silence stands before a stream that begins later.

    Args:
        path: the file.
        sample_rate: Hz to resample to; ``None`` keeps the file's own.
        stream: which of a container's audio streams, from 0 on; video and covers do not count.

    Returns:
        float32 array (channels, samples) with one or two channels, and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, not audio, truncated, empty, has more than two channels or no such stream,
            holds values that are not finite or beyond ``MAX_DBFS``, or needs PyAV, which is not installed.
    """
    name = str(path)
    if object_store.is_address(name):
        return _read_open(io.BytesIO(_fetch_s3(name)), name, sample_rate, stream=stream)
    if not os.path.isfile(name):
        raise AudioError(f"{name}: no such file")
    try:
        with open(name, "rb") as file:
            return _read_open(file, name, sample_rate, stream=stream)
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({error.strerror or error})") from error


def decode(
    content: bytes, name: str, sample_rate: int | None = SAMPLE_RATE, limits: DecodingLimits | None = None
) -> tuple[np.ndarray, int]:
    """As :func:`read`, for the bytes of a file; ``name`` is that of the file in errors.

    With ``limits`` the file may be untrusted, and is WAV, FLAC or MP3: no other decoder sees it.

    Raises:
        AudioError: as :func:`read`, or the file announces or holds more than ``limits`` allow.
    """
    return _read_open(io.BytesIO(content), name, sample_rate, limits)


def duration_seconds(path: str | Path, stream: int = 0) -> float:
    """Length of a local audio file in seconds, by its content and not its header alone.

    Raises:
        AudioError: as :func:`length`.
    """
    samples, sample_rate = length(path, stream)
    return samples / sample_rate


def length(path: str | Path, stream: int = 0) -> tuple[int, int]:
    """Samples of a local audio file, as many as :func:`read` gives at the file's own rate, and that rate in Hz.

    Only Matroska, ASF and raw AAC are decoded for it: no header of theirs announces an exact number.

    Raises:
        AudioError: the file is missing, not audio or truncated, or has no such stream.
    """
    name = str(path)
    with _open_local(name) as file:
        layout = _inspect(file, name)
        if layout.fault is not None:
            raise AudioError(f"{name}: {layout.fault}")
        if ffmpeg.is_read(layout.container):
            found = ffmpeg.open_stream(file, layout.container, stream)
            total, sample_rate = found.count(), found.sample_rate
        else:
            _refuse_stream(stream, name)
            total, sample_rate = _length_of(file, layout)
    if total == 0:
        raise AudioError(f"{name}: holds no samples")
    return total, sample_rate


def streams(path: str | Path) -> int:
    """How many audio streams a local file has: 1, or more in MP4, Matroska and ASF. Nothing is decoded.

    Raises:
        AudioError: the file is missing, not audio or truncated, or needs PyAV, which is not installed.
    """
    name = str(path)
    with _open_local(name) as file:
        layout = _inspect(file, name)
        return ffmpeg.streams(file, layout.container) if ffmpeg.is_read(layout.container) else 1


def time_reference(path: str | Path) -> int | None:
    """Where a Broadcast WAV begins (chunk ``bext`` of WAV, RF64 and BW64): samples since midnight, at its own rate.

    Returns:
        None where a file says nothing of it, and for all other formats.

    Raises:
        AudioError: the file is missing, empty, or a WAV that is truncated.
    """
    name = str(path)
    with _open_local(name) as file:
        return audio_formats.time_reference(file)


def time_reference_of(content: bytes, name: str) -> int | None:
    """As :func:`time_reference`, for the bytes of a file; ``name`` is that of the file in errors.

    Raises:
        AudioError: as :func:`time_reference`.
    """
    try:
        return audio_formats.time_reference(io.BytesIO(content))
    except FormatError as error:
        raise AudioError(f"{name}: {error}") from error


def write(
    path: str | Path,
    audio: np.ndarray,
    sample_rate: int = SAMPLE_RATE,
    subtype: str | None = None,
    seek_table: bool = False,
) -> None:
    """Write ``audio`` (channels, samples); the format follows the suffix, the file appears only when it is whole.

    Args:
        path: ``.wav``, ``.flac`` or ``.mp3``.
        audio: float array (channels, samples).
        sample_rate: Hz.
        subtype: soundfile's name of the sample format; the default is 32-bit float for WAV and 24 bit for FLAC,
            which add no audible rounding. What passes full scale is cut off there by all formats but float WAV and MP3,
            with a warning.
        seek_table: for files of which stretches will be read: FLAC gets one, and the integers that 24-bit WAV gets.

    Raises:
        AudioError: another suffix, or samples that are not finite or beyond ``MAX_DBFS``.
        OutputError: the system refuses to write it.
    """
    path = Path(path)
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        _write_open(file, audio, sample_rate, path.suffix.lower(), subtype, str(path), seek_table)


def place_of(file: BinaryIO, samples: int, start: int, count: int) -> tuple[int, int]:
    """The bytes, from and to, in which a stretch of a WAV or FLAC file lies; two zeros where that is not known.

    Args:
        file: of which its header is read.
        samples: of the file.
        start: of the stretch, in samples.
        count: samples of the stretch.
    """
    position = file.tell()  # a decoder may be at work there
    try:
        if parts.read_at(file, 0, len(flac.MAGIC)) == flac.MAGIC:
            place = flac.place_of(file, start, start + count)
            return place.start, place.stop
        size = parts.size_of(file)  # the header shifts samples by its length at most
        return start * size // samples, (start + count) * size // samples + _WAV_HEADER
    finally:
        file.seek(position)


def subtype_that_holds(audio: np.ndarray, subtype: str = "PCM_24") -> str:
    """``subtype``, soundfile's name of a sample format of WAV, or 32-bit float where ``audio`` passes full scale.

    For files that something is computed from later: an integer format would cut off what passes full scale.
    """
    return "FLOAT" if peak_dbfs(audio) > 0 else subtype


def clipping(audio: np.ndarray, suffix: str, subtype: str | None = None) -> str | None:
    """A sentence on what :func:`write` cuts off at full scale in this format; ``None`` where it keeps all."""
    peak = peak_dbfs(audio)
    if peak <= 0 or (subtype or _SUBTYPES[suffix]) in _UNBOUNDED:
        return None
    return f"its peak of {peak:+.1f} dBFS is cut off at full scale, since {suffix} with integers holds no more"


def encode(audio: np.ndarray, sample_rate: int, suffix: str, subtype: str | None = None) -> bytes:
    """The bytes of a file that :func:`write` would write.

    Raises:
        AudioError: as :func:`write`.
    """
    buffer = io.BytesIO()
    _write_open(buffer, audio, sample_rate, suffix, subtype, suffix)
    return buffer.getvalue()


def resample(audio: np.ndarray, source_rate: int, target_rate: int) -> np.ndarray:
    """``audio`` (channels, samples) from one rate to another (both Hz), band-limited (soxr, "HQ")."""
    if source_rate == target_rate:
        return audio
    resampled = soxr.resample(audio.T, source_rate, target_rate, quality=_QUALITY)
    return np.ascontiguousarray(resampled.T, dtype=np.float32)


def to_stereo(audio: np.ndarray) -> np.ndarray:
    """Two channels: a mono signal is repeated, a stereo one is returned as it is."""
    return np.repeat(audio, 2, axis=0) if audio.shape[0] == 1 else audio


def pad_to(audio: np.ndarray, samples: int) -> np.ndarray:
    """``audio`` with zeros at its end, so that it is at least ``samples`` long."""
    missing = samples - audio.shape[-1]
    return np.pad(audio, ((0, 0), (0, missing))) if missing > 0 else audio


def peak_dbfs(audio: np.ndarray) -> float:
    """Highest absolute sample in dBFS; digital silence and an empty array give -600."""
    # no array of absolute values: a song's is as large as the song
    peak = max(float(np.max(audio, initial=0.0)), -float(np.min(audio, initial=0.0)))
    return float(20 * np.log10(peak + 1e-30))


def check(audio: np.ndarray, name: str) -> None:
    """Refuse what no stage can work with.

    Raises:
        AudioError: not (channels, samples), no sample, more than two channels, or a sample that is NaN, infinite or
            beyond ``MAX_DBFS``.
    """
    if audio.ndim != 2:
        raise AudioError(f"{name}: expected an array (channels, samples), found {audio.ndim} dimensions")
    if audio.shape[0] > MAX_CHANNELS or audio.shape[0] == 0:
        raise AudioError(f"{name}: expected 1 or 2 channels, found {audio.shape[0]}")
    if audio.shape[1] == 0:
        raise AudioError(f"{name}: holds no samples")
    _refuse_unbounded(audio, name)


def _refuse_unbounded(audio: np.ndarray, name: str, start: int = 0) -> None:
    """Refuse samples that are not finite or beyond ``MAX_DBFS``; ``start`` is the number of the first one here."""
    peak = peak_dbfs(audio)
    if peak <= MAX_DBFS:
        return
    finite = np.isfinite(audio)
    if not finite.all():
        first = start + int(np.argmin(finite.all(axis=0)))
        raise AudioError(f"{name}: holds NaN or infinite samples, the first at sample {first}")
    raise AudioError(f"{name}: a peak of {peak:+.0f} dBFS, expected at most {MAX_DBFS:+.0f} dBFS")


@contextlib.contextmanager
def _open_local(name: str) -> Iterator[BinaryIO]:
    """A local file; what is wrong with it is an error that names it."""
    try:
        with open(name, "rb") as file:
            yield file
    except FormatError as error:
        raise AudioError(f"{name}: {error}") from error
    except OSError as error:
        raise AudioError(f"{name}: not readable as audio ({error.strerror or error})") from error


def _length_of(file: BinaryIO, layout: Layout) -> tuple[int, int]:
    """Samples of all parts of a file that libsndfile reads, and their rate; nothing is decoded."""
    total, sample_rate = 0, 1
    for part in layout.parts:
        if part.samples is not None and total:
            total += part.samples  # of a file with so many parts, one is opened
            continue
        sound, _, samples = _open(file, part, layout.container)
        total, sample_rate = total + samples, int(sound.samplerate)
        sound.close()
    return total, sample_rate


def _refuse_stream(stream: int, name: str) -> None:
    if stream != 0:
        raise AudioError(f"{name}: has no audio stream {stream}, but 1, counted from 0")


def _fetch_s3(address: str) -> bytes:
    try:
        return object_store.read(address)
    except FxnormError as error:
        raise AudioError(str(error)) from error


def _read_open(
    file: BinaryIO, name: str, sample_rate: int | None, limits: DecodingLimits | None = None, stream: int = 0
) -> tuple[np.ndarray, int]:
    layout = _inspect(file, name, None if limits is None else _FORMATS)
    try:
        if ffmpeg.is_read(layout.container):
            samples, rate = _read_stream(file, layout, name, sample_rate, stream)
        else:
            _refuse_stream(stream, name)
            samples, rate = _read_layout(file, layout, name, sample_rate, limits)
    except FormatError as error:
        raise AudioError(f"{name}: {error}") from error
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: not readable as {_kind(layout.container)} ({_reason(error)})") from error
    check(samples, name)
    for doubt in layout.doubts:
        _logger.warning("%s: %s", name, doubt)
    return samples, rate


def _inspect(file: BinaryIO, name: str, expected: Collection[str] | None = None) -> Layout:
    try:
        return inspect(file, expected)
    except FormatError as error:
        raise AudioError(f"{name}: {error}") from error


def _read_layout(
    file: BinaryIO, layout: Layout, name: str, sample_rate: int | None, limits: DecodingLimits | None
) -> tuple[np.ndarray, int]:
    """All parts of a file one behind the other, and their sample rate."""
    joined: _Joined | None = None
    announced = sum(part.samples or 0 for part in layout.parts)
    for part in layout.parts:
        if part.samples == 0:
            continue
        sound, reading, samples = _open(file, part, layout.container)
        with sound:
            if sound.channels > MAX_CHANNELS:
                raise AudioError(f"{name}: expected 1 or 2 channels, found {sound.channels}")
            if joined is None:
                joined = _Joined(int(sound.samplerate), int(sound.channels), sample_rate, name)
            joined.refuse_other(sound)
            if limits is not None:
                _refuse_beyond(limits, sound, max(announced, joined.read + samples), joined.target_rate, name)
            if layout.fault is not None:
                raise AudioError(f"{name}: {layout.fault}")
            joined.reserve(max(announced, joined.read + samples))
            count = joined.add(_blocks(sound, reading.skip, samples, name))
        if count < samples:
            raise AudioError(f"{name}: truncated: {samples} samples announced, {count} found")
        if layout.container == "FLAC":
            flac.refuse_another(file, file.tell() - flac.READ_AHEAD)
    if joined is None:
        raise AudioError(f"{name}: holds no samples")
    return joined.samples(), joined.target_rate


def _read_stream(
    file: BinaryIO, layout: Layout, name: str, sample_rate: int | None, number: int
) -> tuple[np.ndarray, int]:
    """One audio stream of a file that FFmpeg reads, and its sample rate."""
    stream = ffmpeg.open_stream(file, layout.container, number)
    if stream.channels > MAX_CHANNELS:
        raise AudioError(f"{name}: expected 1 or 2 channels, found {stream.channels}")
    joined = _Joined(stream.sample_rate, stream.channels, sample_rate, name)
    joined.reserve(stream.estimate)
    reserved = stream.estimate
    for block in _joined_blocks(stream.blocks()):
        if joined.read + len(block) > reserved:  # the container's estimate was too low
            reserved = 2 * (joined.read + len(block))
            joined.reserve(reserved)
        _refuse_unbounded(block.T, name, start=joined.read)
        joined.add([block])
    layout.doubts += stream.doubts
    return joined.samples(), joined.target_rate


def _joined_blocks(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames (samples, channels) put together to blocks: one call of the resampler for each frame would be slow."""
    waiting: list[np.ndarray] = []
    for frame in frames:
        waiting.append(frame)
        if sum(map(len, waiting)) >= _BLOCK:
            yield np.concatenate(waiting)
            waiting.clear()
    if waiting:
        yield np.concatenate(waiting)


def _open(file: BinaryIO, part: Part, container: str) -> tuple[soundfile.SoundFile, Reading, int]:
    """A part opened by libsndfile, the reading with which that succeeded, and the number of its samples.

    Raises:
        FormatError: libsndfile cannot read it, or reports another number of samples than the part has.
    """
    reason = "no samples"
    for reading in part.readings:
        file.seek(0)
        source = shown(file, reading)
        try:
            sound = soundfile.SoundFile(source)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = _reason(error)
            continue
        frames = int(sound.frames)
        if part.samples is None and frames < _UNKNOWN_FRAMES:
            return sound, reading, frames
        if part.samples is None:
            reason = "the header does not say how long it is; write the file once more"
        elif frames == part.samples or (reading.zeros and frames >= reading.skip + part.samples):
            return sound, reading, part.samples
        else:
            reason = f"{part.samples} samples are there, its decoder finds {frames}"
        sound.close()
    raise FormatError(f"not readable as {_kind(container)} ({reason})")


class _Joined:
    """Samples of one file after the other at one rate; they are read block by block, so that one copy is enough.

    Args:
        rate: of the files, in Hz.
        channels: of the files.
        target_rate: Hz; None for the files' own.
        name: of all of them, in errors.
    """

    def __init__(self, rate: int, channels: int, target_rate: int | None, name: str) -> None:
        self.target_rate = rate if target_rate is None else target_rate
        self.read = 0
        self._rate, self._channels, self._name = rate, channels, name
        self._resampler = None
        if self.target_rate != rate:
            self._resampler = soxr.ResampleStream(rate, self.target_rate, channels, "float32", _QUALITY)
        self._samples = np.empty((self._channels, 0), np.float32)
        self._filled = 0

    def refuse_other(self, sound: soundfile.SoundFile) -> None:
        """Refuse a file that cannot follow the first."""
        if (sound.samplerate, sound.channels) != (self._rate, self._channels):
            raise AudioError(
                f"{self._name}: begins with {self._rate} Hz and {self._channels} channels, goes on with"
                f" {sound.samplerate} Hz and {sound.channels} at {self.read / self._rate:.1f} s"
            )

    def reserve(self, samples: int) -> None:
        """Allocate the memory for ``samples`` at the files' own rate, all that is read until the end."""
        try:
            self._grow(_resampled_length(samples, self._rate, self.target_rate))
        except MemoryError as error:
            message = f"{self._name}: {samples} samples announced, which is more than memory holds"
            raise AudioError(message) from error

    def add(self, blocks: Iterable[np.ndarray]) -> int:
        """Append blocks (samples, channels); returns how many samples they had."""
        before = self.read
        for block in blocks:
            self.read += len(block)
            self._append(block if self._resampler is None else self._resampler.resample_chunk(block))
        return self.read - before

    def samples(self) -> np.ndarray:
        """What was read, (channels, samples)."""
        if self._resampler is not None:
            self._append(self._resampler.resample_chunk(np.empty((0, self._channels), np.float32), last=True))
        return np.ascontiguousarray(self._samples[:, : self._filled])

    def _append(self, block: np.ndarray) -> None:
        self._grow(self._filled + len(block))  # should soxr round up where we round down
        self._samples[:, self._filled : self._filled + len(block)] = block.T
        self._filled += len(block)

    def _grow(self, samples: int) -> None:
        if samples > self._samples.shape[1]:
            larger = np.empty((self._channels, samples), np.float32)
            larger[:, : self._filled] = self._samples[:, : self._filled]
            self._samples = larger


def _blocks(sound: soundfile.SoundFile, skip: int, samples: int, name: str) -> Iterator[np.ndarray]:
    """``samples`` of a file behind the first ``skip``, (samples, channels) at a time; fewer if there are fewer.

    soundfile seeks between two reads, after which an MP3's first frames lack those before them: it is read at once.
    """
    at_once = skip + samples if sound.format == "MP3" else _BLOCK
    read, stop = -skip, samples
    while len(part := sound.read(min(at_once, stop - read), dtype="float32", always_2d=True)):
        block = part[max(0, -read) :]
        _refuse_unbounded(block.T, name, start=max(0, read))
        read += len(part)
        for start in range(0, len(block), _BLOCK):
            yield block[start : start + _BLOCK]


def _kind(container: str) -> str:
    return "WAV, FLAC or MP3" if container in _FORMATS else container or "audio"


def _resampled_length(samples: int, source_rate: int, target_rate: int) -> int:
    """To the nearest sample."""
    return (2 * samples * target_rate + source_rate) // (2 * source_rate)


def _refuse_beyond(
    limits: DecodingLimits, sound: soundfile.SoundFile, samples: int, target_rate: int, name: str
) -> None:
    """Refuse a file of ``samples`` samples that is beyond the limits, before they are decoded."""
    lowest, highest = RATES
    if sound.channels > limits.channels:
        raise AudioError(f"{name}: {sound.channels} channels, expected at most {limits.channels}")
    if not lowest <= sound.samplerate <= highest:
        raise AudioError(f"{name}: {sound.samplerate} Hz, expected a sample rate from {lowest} to {highest} Hz")
    if samples > limits.seconds * sound.samplerate:
        seconds = samples / sound.samplerate
        raise AudioError(f"{name}: {seconds:.0f} s, expected at most {limits.seconds:g} s")
    longest = max(samples, _resampled_length(samples, sound.samplerate, target_rate))
    size = longest * sound.channels * np.dtype(np.float32).itemsize
    if size > limits.bytes:
        raise AudioError(f"{name}: {size} bytes of samples when decoded, expected at most {limits.bytes}")


def _write_float_wav(file: BinaryIO, audio: np.ndarray, sample_rate: int, name: str) -> None:
    """Write 32-bit float WAV, block by block.

    libsndfile puts the time of day into float WAVs (the PEAK chunk), and SciPy needs a copy of all samples. The same
    audio shall give the same bytes, in little memory: those are SciPy's, with the lengths of this audio in its header.
    """
    channels, samples = audio.shape
    size = channels * samples * np.dtype(np.float32).itemsize
    empty = io.BytesIO()
    scipy.io.wavfile.write(empty, sample_rate, np.zeros((0, channels), np.float32))
    header = bytearray(empty.getvalue())
    if len(header) + size >= 2**32:
        raise AudioError(f"{name}: {size} bytes of samples, of which WAV holds less than 4 GiB")
    fact, data = header.index(b"fact") + 8, len(header) - 4
    header[4:8] = struct.pack("<I", len(header) - 8 + size)
    header[fact : fact + 4] = struct.pack("<I", samples)
    header[data:] = struct.pack("<I", size)
    file.write(header)
    for start in range(0, samples, _BLOCK):
        file.write(np.ascontiguousarray(audio[:, start : start + _BLOCK].T, dtype="<f4").data)


def _write_open(
    file: BinaryIO,
    audio: np.ndarray,
    sample_rate: int,
    suffix: str,
    subtype: str | None,
    name: str,
    seek_table: bool = False,
) -> None:
    if suffix not in OUTPUT_SUFFIXES:
        raise AudioError(f"{name}: cannot write this format; expected one of {', '.join(OUTPUT_SUFFIXES)}")
    _refuse_unbounded(audio, name)  # before an encoder sees it: LAME would end the process
    subtype = subtype or _SUBTYPES[suffix]
    if clipped := clipping(audio, suffix, subtype):
        _logger.warning("%s: %s", name, clipped)
    if (suffix, subtype) == (".wav", "FLOAT"):
        _write_float_wav(file, audio, sample_rate, name)
        return
    table = flac.SeekTable(file, audio.shape[1]) if seek_table and suffix == ".flac" else None
    sink = _Sink(table or file)
    samples = audio if table is None else _integers(audio)
    try:
        soundfile.write(sink, samples.T, sample_rate, subtype=subtype, format=suffix[1:].upper())
    except (soundfile.LibsndfileError, AssertionError):
        if sink.error is None:
            raise
    if sink.error is not None:
        raise sink.error
    if table is not None:
        table.finish()


def _integers(audio: np.ndarray) -> np.ndarray:
    """int32, of which an encoder keeps the upper 24 bits: these are as libsndfile gives them to WAV.

    To FLAC it gives others, which differ by one in the last bit.
    """
    integers = np.empty(audio.shape, np.int32)
    for start in range(0, audio.shape[1], _BLOCK):
        scaled = np.rint(audio[:, start : start + _BLOCK].astype(np.float64) * 2**31)
        integers[:, start : start + _BLOCK] = scaled.clip(-(2**31), 2**31 - 1)
    return integers


class _Sink:
    """A file for libsndfile. Its encoders may ignore that a write failed, so the first error is kept here."""

    def __init__(self, file: "BinaryIO | flac.SeekTable") -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        return self._try(lambda: self._file.write(data))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._try(lambda: self._file.seek(offset, whence))

    def tell(self) -> int:
        return self._try(self._file.tell)

    def _try(self, work: Callable[[], int]) -> int:
        if self.error is None:
            try:
                return work()
            except OSError as error:
                self.error = error
        return 0


def _reason(error: BaseException) -> str:
    message = str(getattr(error, "error_string", "")).strip()
    return (message or first_line(error)).rstrip(".").partition("\n")[0]

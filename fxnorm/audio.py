"""Reading, checking, resampling and writing audio.

Audio in the library is a float32 array of shape (channels, samples), full scale at 1. What comes in is checked here,
once: a file that is truncated, empty, not finite, far beyond full scale or has more than two channels is refused with
one line that names it.
"""

import io
import itertools
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.io.wavfile
import soundfile
import soxr

from fxnorm import object_store
from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError, FxnormError
from fxnorm.files import whole_file

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3")
"""What is looked for on disk, in this order when a stem is there more than once."""

MAX_CHANNELS = 2

MAX_DBFS = 60.0
"""The highest peak that is read or written. No recording comes near; samples close to float32's own limit give a mix
that is not finite, and somewhere above +80 dBFS the MP3 encoder ends the process."""

_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "MP3")
"""What libsndfile calls the three formats; it reads dozens of others, which nobody checked against hostile files."""
_QUALITY = "HQ"  # of soxr
_BLOCK = 2**18  # frames that are read at once
_RATES = (8_000, 192_000)  # Hz: outside of these a short file would be resampled to a very long one, or a slow one
_MAX_CHUNKS = 1_000  # of a WAV before its samples; real ones have a handful
_WAV_CONTAINERS = (b"RIFF", b"RF64", b"BW64")
_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's number for a FLAC whose encoder wrote to a pipe
_UNKNOWN_SIZE = 0xFFFFFFFF  # streamed WAVs (ffmpeg to a pipe) say this where the size belongs


@dataclass(frozen=True)
class DecodingLimits:
    """What a file from a stranger may hold. The header is held against it before anything is decoded.

    Attributes:
        seconds: the longest song.
        bytes: the most for its samples as float32, at their own rate or resampled, whichever is more.
        channels: 1 or 2.
    """

    seconds: float
    bytes: int
    channels: int = MAX_CHANNELS


def read(path: str | Path, sample_rate: int | None = SAMPLE_RATE) -> tuple[np.ndarray, int]:
    """Audio of a WAV, FLAC or MP3 file, local or ``s3://bucket/key``.

    Args:
        path: the file.
        sample_rate: Hz to resample to; ``None`` keeps the file's own.

    Returns:
        float32 array (channels, samples) with one or two channels, and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, not audio, truncated, empty, has more than two channels, or holds values
            that are not finite or beyond ``MAX_DBFS``.
    """
    name = str(path)
    if object_store.is_address(name):
        return decode(_fetch_s3(name), name, sample_rate)
    if not os.path.isfile(name):
        raise AudioError(f"{name}: no such file")
    try:
        with open(name, "rb") as file:
            return _read_open(file, name, sample_rate)
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({error.strerror or error})") from error


def decode(
    content: bytes, name: str, sample_rate: int | None = SAMPLE_RATE, limits: DecodingLimits | None = None
) -> tuple[np.ndarray, int]:
    """As :func:`read`, for the bytes of a file; ``name`` stands in the errors.

    Raises:
        AudioError: as :func:`read`, or the file announces or holds more than ``limits`` allow.
    """
    return _read_open(io.BytesIO(content), name, sample_rate, limits)


def duration_seconds(path: str | Path) -> float:
    """Length of a local audio file as its header states it, in seconds."""
    try:
        return float(soundfile.info(str(path)).duration)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: not readable as audio ({_reason(error)})") from error


def write(path: str | Path, audio: np.ndarray, sample_rate: int = SAMPLE_RATE, subtype: str | None = None) -> None:
    """Write ``audio`` (channels, samples); the format follows the suffix, the file appears only when it is whole.

    Args:
        path: ``.wav``, ``.flac`` or ``.mp3``.
        audio: float array (channels, samples).
        sample_rate: Hz.
        subtype: soundfile's name of the sample format; the default is 32-bit float for WAV and 24 bit for FLAC,
            which add no audible rounding. FLAC clips at full scale.

    Raises:
        AudioError: another suffix, or samples that are not finite or beyond ``MAX_DBFS``.
        OutputError: the system refuses to write it.
    """
    path = Path(path)
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        _write_open(file, audio, sample_rate, path.suffix.lower(), subtype, str(path))


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


def _fetch_s3(address: str) -> bytes:
    try:
        return object_store.read(address)
    except FxnormError as error:
        raise AudioError(str(error)) from error


def _read_open(
    file: BinaryIO, name: str, sample_rate: int | None, limits: DecodingLimits | None = None
) -> tuple[np.ndarray, int]:
    _refuse_truncated_wav(file, name)
    try:
        with soundfile.SoundFile(file) as sound:
            if sound.channels > MAX_CHANNELS:
                raise AudioError(f"{name}: expected 1 or 2 channels, found {sound.channels}")
            if sound.frames == _UNKNOWN_FRAMES:
                raise AudioError(f"{name}: the header does not say how long it is; write the file once more")
            found_rate, expected, exact = int(sound.samplerate), sound.frames, sound.format != "MP3"
            target_rate = found_rate if sample_rate is None else sample_rate
            if limits is not None:
                _refuse_beyond(limits, sound, target_rate, name)
            samples, found = _read_resampled(sound, target_rate, name)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: not readable as WAV, FLAC or MP3 ({_reason(error)})") from error
    except MemoryError as error:
        raise AudioError(f"{name}: {expected} samples announced, which is more than memory holds") from error
    if found < expected and exact:  # an MP3's length is an estimate
        raise AudioError(f"{name}: truncated: {expected} samples announced, {found} found")
    check(samples, name)
    return samples, target_rate


def _read_resampled(sound: soundfile.SoundFile, target_rate: int, name: str) -> tuple[np.ndarray, int]:
    """Samples at ``target_rate`` (Hz), and the number of those read; block by block, so that one copy is enough."""
    resampler = None
    if target_rate != sound.samplerate:
        resampler = soxr.ResampleStream(sound.samplerate, target_rate, sound.channels, "float32", _QUALITY)
    samples = np.empty((sound.channels, _resampled_length(sound.frames, sound.samplerate, target_rate)), np.float32)
    filled = read = 0
    for block in itertools.chain(_blocks(sound, name), [np.empty((0, sound.channels), np.float32)]):
        read += len(block)
        ready = block if resampler is None else resampler.resample_chunk(block, last=len(block) == 0)
        samples = pad_to(samples, filled + len(ready))  # should soxr round up where we round down
        samples[:, filled : filled + len(ready)] = ready.T
        filled += len(ready)
    return np.ascontiguousarray(samples[:, :filled]), read


def _blocks(sound: soundfile.SoundFile, name: str) -> Iterator[np.ndarray]:
    """The file's samples, (frames, channels) at a time; a header may announce less than there is, but no more is read.

    soundfile seeks between two reads, after which an MP3's first frames lack those before them: it is read at once.
    """
    at_once = sound.frames if sound.format == "MP3" else _BLOCK
    read = 0
    while len(part := sound.read(min(at_once, sound.frames - read), dtype="float32", always_2d=True)):
        _refuse_unbounded(part.T, name, start=read)
        read += len(part)
        for start in range(0, len(part), _BLOCK):
            yield part[start : start + _BLOCK]


def _resampled_length(samples: int, source_rate: int, target_rate: int) -> int:
    """To the nearest sample."""
    return (2 * samples * target_rate + source_rate) // (2 * source_rate)


def _refuse_beyond(limits: DecodingLimits, sound: soundfile.SoundFile, target_rate: int, name: str) -> None:
    """Refuse a file by its header."""
    lowest, highest = _RATES
    if sound.format not in _FORMATS:
        raise AudioError(f"{name}: not readable as WAV, FLAC or MP3 (it is {sound.format})")
    if sound.channels > limits.channels:
        raise AudioError(f"{name}: {sound.channels} channels, expected at most {limits.channels}")
    if not lowest <= sound.samplerate <= highest:
        raise AudioError(f"{name}: {sound.samplerate} Hz, expected a sample rate from {lowest} to {highest} Hz")
    if sound.frames > limits.seconds * sound.samplerate:
        seconds = sound.frames / sound.samplerate
        raise AudioError(f"{name}: {seconds:.0f} s, expected at most {limits.seconds:g} s")
    longest = max(sound.frames, _resampled_length(sound.frames, sound.samplerate, target_rate))
    needed = longest * sound.channels * np.dtype(np.float32).itemsize
    if needed > limits.bytes:
        raise AudioError(f"{name}: {needed} bytes of samples when decoded, expected at most {limits.bytes}")


def _refuse_truncated_wav(file: BinaryIO, name: str) -> None:
    """libsndfile reads a cut-off WAV as a shorter one without a word; compare the data chunk with what is there."""
    start = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(start)
    try:
        if end - start == 0:
            raise AudioError(f"{name}: the file is empty")
        if file.read(4) not in _WAV_CONTAINERS:
            return
        file.seek(start + 12)
        for _ in range(_MAX_CHUNKS):
            if len(header := file.read(8)) < 8:
                raise AudioError(f"{name}: truncated: a WAV header without samples")
            identifier, size = struct.unpack("<4sI", header)
            position = file.tell()
            if identifier == b"data":
                if size != _UNKNOWN_SIZE and position + size > end:
                    raise AudioError(f"{name}: truncated: {size} bytes of samples announced, {end - position} found")
                return
            file.seek(position + size + size % 2)
        raise AudioError(f"{name}: no samples after {_MAX_CHUNKS} chunks of a WAV header")
    finally:
        file.seek(start)


def _write_open(
    file: BinaryIO, audio: np.ndarray, sample_rate: int, suffix: str, subtype: str | None, name: str
) -> None:
    if suffix not in AUDIO_SUFFIXES:
        raise AudioError(f"{name}: cannot write this format; expected one of {', '.join(AUDIO_SUFFIXES)}")
    _refuse_unbounded(audio, name)  # before an encoder sees it: LAME would end the process
    default = {".wav": "FLOAT", ".flac": "PCM_24", ".mp3": "MPEG_LAYER_III"}[suffix]
    if (suffix, subtype or default) == (".wav", "FLOAT"):
        # libsndfile puts the time of day into float WAVs (the PEAK chunk); the same audio shall give the same bytes
        scipy.io.wavfile.write(file, sample_rate, np.ascontiguousarray(audio.T, dtype=np.float32))
        return
    sink = _Sink(file)
    try:
        soundfile.write(sink, audio.T, sample_rate, subtype=subtype or default, format=suffix[1:].upper())
    except (soundfile.LibsndfileError, AssertionError):
        if sink.error is None:
            raise
    if sink.error is not None:
        raise sink.error


class _Sink:
    """A file for libsndfile, whose encoders may end well where a write fails: the first error is kept here."""

    def __init__(self, file: BinaryIO) -> None:
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
    return str(getattr(error, "error_string", "") or error).strip().rstrip(".").splitlines()[0]

"""Files of many makes, held against FFmpeg: the same samples, or an error of ours; never a silent difference.

The kind: a header says something of a file that is not so (its length, where its samples are, what they are), or the
file is not whole. Where FFmpeg takes a cut file without a word, ours is an error. Each variant is a test.
"""

import io
import logging
import struct
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError
from fxnorm.io import audio
from tests.conftest import noise
from tests.test_audio_limits import with_flac_frames

SECONDS = 0.3
FRAME = 1_152  # samples of an MPEG-1 frame
MP3_SLACK = FRAME + 1_105  # a frame, and the delay of encoder and decoder


@dataclass(frozen=True)
class Variant:
    """A file, and what is to come of it.

    Attributes:
        content: gives its bytes.
        suffix: of its name, by which FFmpeg tells some formats apart.
        error: a part of our error, if it must be one.
        doubt: a part of our warning, if there must be one.
        slack: samples that it may be longer or shorter than by FFmpeg.
        precision: the largest difference between samples.
        parts: files that FFmpeg decodes in its place, one behind the other: it reads this one in another way.
        told_by_decoding: what is wrong is not seen before the samples are decoded.
    """

    content: Callable[[], bytes]
    suffix: str = ".wav"
    error: str = ""
    doubt: str = ""
    slack: int = 0
    precision: float = 2e-6
    parts: tuple[Callable[[], bytes], ...] = ()
    told_by_decoding: bool = False


VARIANTS: dict[str, Variant] = {}


def sound(seconds: float = SECONDS, channels: int = 2, seed: int = 0) -> np.ndarray:
    return noise(seconds, 0.3, seed, channels)


@cache
def written(
    container: str = "WAV", subtype: str = "PCM_16", channels: int = 2, rate: int = SAMPLE_RATE, endian: str = "FILE"
) -> bytes:
    """What libsndfile writes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sound(channels=channels).T, rate, subtype=subtype, format=container, endian=endian)
    return buffer.getvalue()


@cache
def ffmpeg(suffix: str, *options: str, seconds: float = SECONDS, seed: int = 0) -> bytes:
    """What FFmpeg encodes; to a pipe, if the suffix begins with ``|``."""
    samples = sound(seconds, seed=seed).T.astype("<f4").tobytes()
    command = ["ffmpeg", "-v", "error", "-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "2", "-i", "-", *options]
    if suffix.startswith("|"):
        command += ["-f", suffix[1:], "-"]
        return subprocess.run(command, input=samples, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        subprocess.run([*command, str(path)], input=samples, capture_output=True, check=True)
        return path.read_bytes()


# --- WAV by hand


def chunk(name: bytes, content: bytes, order: str = "<", size: int | None = None, pad: bool = True) -> bytes:
    announced = len(content) if size is None else size
    return name + struct.pack(f"{order}I", announced) + content + bytes(len(content) % 2 if pad else 0)


def form(
    tag: int = 1, channels: int = 2, bits: int = 16, rate: int = SAMPLE_RATE, align: int | None = None,
    byte_rate: int | None = None, extra: bytes = b"", order: str = "<", short: bool = False,
) -> bytes:  # fmt: skip
    frame = channels * -(-bits // 8)
    content = struct.pack(
        f"{order}HHIIH", tag, channels, rate, rate * frame if byte_rate is None else byte_rate,
        frame if align is None else align,
    )  # fmt: skip
    return chunk(b"fmt ", content + (b"" if short else struct.pack(f"{order}H", bits)) + extra, order)


def extensible(bits: int, valid: int, tag: int = 1, mask: int = 3, channels: int = 2) -> bytes:
    guid = struct.pack("<I", tag) + bytes.fromhex("00001000800000aa00389b71")
    return form(0xFFFE, channels, bits, extra=struct.pack("<HHI", 22, valid, mask) + guid)


def samples(bits: int = 16, order: str = "<", seconds: float = SECONDS, channels: int = 2, seed: int = 0) -> bytes:
    """Integer samples, the lowest bits of those of 20 bits at 0."""
    values = np.round(sound(seconds, channels, seed).T * 2 ** (bits - 1)).astype(np.int64)
    if bits == 8:
        return (values + 128).astype(np.uint8).tobytes()
    width = -(-bits // 8)
    values <<= 8 * width - bits
    whole = np.ascontiguousarray(values).astype(f"{order}i8").view(np.uint8).reshape(-1, 8)
    return np.ascontiguousarray(whole[:, :width] if order == "<" else whole[:, 8 - width :]).tobytes()


def riff(*chunks: bytes, magic: bytes = b"RIFF", size: int | None = None, order: str = "<") -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return magic + struct.pack(f"{order}I", len(content) if size is None else size & 0xFFFFFFFF) + content


def data(content: bytes, size: int | None = None, order: str = "<") -> bytes:
    return chunk(b"data", content, order, size)


def ds64(size: int, total: int | None = None) -> bytes:
    return chunk(b"ds64", struct.pack("<QQQI", size + 72 if total is None else total, size, size // 4, 0))


LIST = chunk(b"LIST", b"INFOISFT\x06\0\0\0sweep\0")
S16 = samples()


def placeholder(size: int, riff_size: int | None = None) -> Callable[[], bytes]:
    return lambda: riff(form(), data(S16, size), size=size + 36 if riff_size is None else riff_size)


def cut(content: Callable[[], bytes], share: float = 0.5, less: int = 0) -> Callable[[], bytes]:
    def build() -> bytes:
        whole = content()
        return whole[: round(len(whole) * share) - less]

    return build


SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
for _container, _suffix in (("WAV", ".wav"), ("WAVEX", ".wav"), ("RF64", ".wav"), ("W64", ".w64")):
    for _subtype in SUBTYPES:
        _build = partial(written, _container, _subtype)
        VARIANTS[f"{_container} {_subtype}"] = Variant(_build, _suffix)
        VARIANTS[f"{_container} {_subtype} cut"] = Variant(cut(_build), _suffix, error="truncated")
for _subtype in ("PCM_16", "PCM_24", "FLOAT", "DOUBLE"):
    _build = partial(written, "WAV", _subtype, endian="BIG")
    _little = partial(written, "WAV", _subtype)
    VARIANTS[f"RIFX {_subtype}"] = Variant(_build, parts=(_little,))
    VARIANTS[f"RIFX {_subtype} cut"] = Variant(cut(_build), error="truncated")
for _subtype in ("IMA_ADPCM", "MS_ADPCM"):
    VARIANTS[f"WAV {_subtype}"] = Variant(partial(written, "WAV", _subtype), precision=5e-3)
    VARIANTS[f"WAV {_subtype} cut"] = Variant(cut(partial(written, "WAV", _subtype)), error="truncated")
for _channels, _rate in ((1, 8_000), (1, 44_100), (2, 11_025), (2, 22_050), (2, 48_000), (1, 96_000), (2, 192_000)):
    _build = partial(written, "WAV", "PCM_16", _channels, _rate)
    VARIANTS[f"WAV {_rate} Hz {_channels} channels"] = Variant(_build)

UNKNOWN = "does not say how long"
for _size in (
    0x7FFFF000, 0x7FFFEFFC, 0x7FFFFFFF, 0x7FFFFFDB, 0x7FFFFFFE, 0x80000000, 0x80000024, 0xFFFFFFFF, 0xFFFFFFDB,
    0xFFFFFFFE, 0xFFFFFF00, 0xFFFFF000, 0,
):  # fmt: skip
    VARIANTS[f"size {_size:#x}"] = Variant(placeholder(_size), doubt=UNKNOWN)
    VARIANTS[f"size {_size:#x} in both"] = Variant(placeholder(_size, _size), doubt=UNKNOWN)
VARIANTS |= {
    "size 0xffffffff, 24 bits": Variant(lambda: riff(form(bits=24), data(samples(24), 2**32 - 1)), doubt=UNKNOWN),
    "size of sox, 24 bits": Variant(lambda: riff(form(bits=24), data(samples(24), 0x7FFFF000 // 6 * 6)), doubt=UNKNOWN),
    "unknown size, half a frame at the end": Variant(
        lambda: riff(form(), data(S16[:-2], 2**32 - 1)), doubt="no whole frame"
    ),
    "size 0, LIST before": Variant(lambda: riff(form(), LIST, data(S16, 0), size=0), doubt=UNKNOWN),
    "size a byte too large": Variant(lambda: riff(form(), data(S16, len(S16) + 1)), error="truncated"),
    "size a frame too large": Variant(lambda: riff(form(), data(S16, len(S16) + 4)), error="truncated"),
    "size of 2 GB": Variant(lambda: riff(form(), data(S16, 2_000_000_000)), error="truncated"),
    "size of 3 GB": Variant(lambda: riff(form(), data(S16, 3_000_000_000)), error="truncated"),
    "size too small": Variant(lambda: riff(form(), data(S16, 4_000)), doubt="no header accounts for"),
    "size no multiple of a frame": Variant(lambda: riff(form(), data(S16, len(S16) - 2)), doubt="no whole frame"),
    "RIFF size 0": Variant(lambda: riff(form(), data(S16), size=0)),
    "RIFF size too small": Variant(lambda: riff(form(), data(S16), size=len(S16) + 30)),
    "RIFF size too large": Variant(lambda: riff(form(), data(S16), size=len(S16) + 44)),
    "RIFF size of the whole file": Variant(lambda: riff(form(), data(S16), size=len(S16) + 36 + 8)),
    "fmt of 14 bytes": Variant(lambda: riff(form(bits=8, short=True), data(samples(8)))),
    "fmt of 14 bytes, 16 bits": Variant(lambda: riff(form(short=True), data(S16)), error="disagree"),
    "fmt of 18 bytes": Variant(lambda: riff(form(extra=b"\0\0"), data(S16))),
    "fmt of 20 bytes": Variant(lambda: riff(form(extra=bytes(4)), data(S16))),
    "fmt of 40 bytes": Variant(lambda: riff(form(extra=bytes(24)), data(S16))),
    "extensible 16": Variant(lambda: riff(extensible(16, 16), data(S16))),
    "extensible 20 in 24": Variant(lambda: riff(extensible(24, 20), data(samples(20)))),
    "extensible 24 in 32": Variant(
        lambda: riff(extensible(32, 24), data(samples(32))), parts=(lambda: riff(form(bits=32), data(samples(32))),)
    ),
    "extensible, no valid bits": Variant(lambda: riff(extensible(16, 0), data(S16))),
    "extensible, mask 0": Variant(lambda: riff(extensible(16, 16, mask=0), data(S16))),
    "extensible, mask of the back": Variant(lambda: riff(extensible(16, 16, mask=0x30), data(S16))),
    "extensible mono, mask of the middle": Variant(
        lambda: riff(extensible(16, 16, mask=4, channels=1), data(samples(channels=1)))
    ),
    "extensible float": Variant(lambda: riff(extensible(32, 32, 3), data(sound().T.astype("<f4").tobytes()))),
    "extensible cut": Variant(cut(lambda: riff(extensible(24, 24), data(samples(24)))), error="truncated"),
    "extensible of unknown size": Variant(lambda: riff(extensible(16, 16), data(S16, 2**32 - 1)), doubt=UNKNOWN),
    "20 bits": Variant(lambda: riff(form(bits=20), data(samples(20)))),
    "12 bits": Variant(lambda: riff(form(bits=12), data(samples(12)))),
    "float with PEAK and fact": Variant(
        lambda: riff(
            form(3, bits=32, extra=b"\0\0"),
            chunk(b"fact", bytes(4)),
            chunk(b"PEAK", bytes(24)),
            data(sound().T.astype("<f4").tobytes()),
        )
    ),
    "byte rate 0": Variant(lambda: riff(form(byte_rate=0), data(S16))),
    "byte rate wrong": Variant(lambda: riff(form(byte_rate=12_345), data(S16))),
    "block align 0": Variant(lambda: riff(form(align=0), data(S16)), doubt="frames of 0 bytes"),
    "block align of mono": Variant(lambda: riff(form(align=2), data(S16)), doubt="frames of 2 bytes"),
    "block align 3": Variant(lambda: riff(form(align=3), data(S16)), error="disagree"),
    "block align of two frames": Variant(lambda: riff(form(align=8), data(S16)), error="disagree"),
    "24 bits in 32, not extensible": Variant(lambda: riff(form(bits=24, align=8), data(S16)), error="disagree"),
    "LIST before": Variant(lambda: riff(form(), LIST, data(S16))),
    "LIST behind": Variant(lambda: riff(form(), data(S16), LIST)),
    "LIST behind, cut": Variant(lambda: riff(form(), data(S16), LIST)[:-6], doubt="cut off in a chunk"),
    "bext, iXML, cue, JUNK": Variant(
        lambda: riff(
            chunk(b"JUNK", bytes(28)),
            chunk(b"bext", bytes(602)),
            form(),
            chunk(b"iXML", b"<x/>" * 9),
            chunk(b"cue ", bytes(4)),
            data(S16),
            chunk(b"id3 ", bytes(20)),
        )
    ),
    "odd chunk with its pad byte": Variant(lambda: riff(form(), chunk(b"note", b"abc"), data(S16))),
    "odd samples at the end, no pad byte": Variant(
        lambda: riff(
            form(bits=8, channels=1), chunk(b"data", samples(8, channels=1)[: -1 - len(S16) // 4 % 2], pad=False)
        )
    ),
    "odd samples, LIST behind": Variant(
        lambda: riff(form(bits=8, channels=1), data(samples(8, channels=1)[:5_001]), LIST)
    ),
    "two data chunks": Variant(lambda: riff(form(), data(S16[:4_000]), data(S16[4_000:])), error="more than one chunk"),
    "two data chunks, LIST between": Variant(
        lambda: riff(form(), data(S16[:4_000]), LIST, data(S16[4_000:])), error="more than one chunk"
    ),
    "zeros behind": Variant(lambda: riff(form(), data(S16)) + bytes(1_000)),
    "junk behind": Variant(lambda: riff(form(), data(S16)) + b"\x01\x02" * 999, doubt="no header accounts for"),
    "ID3v1 behind": Variant(lambda: riff(form(), data(S16)) + b"TAG" + bytes(125)),
    "samples are chunks": Variant(lambda: riff(form(), data(LIST * 100))),
    "no samples": Variant(lambda: riff(form(), data(b"")), error="no samples"),
    "no samples, LIST behind": Variant(lambda: riff(form(), data(b""), LIST), error="no samples"),
    "no data": Variant(lambda: riff(form(), LIST), error="without samples"),
    "no fmt": Variant(lambda: riff(data(S16)), error="does not say what its samples are"),
    "RF64": Variant(lambda: riff(ds64(len(S16)), form(), data(S16, 2**32 - 1), magic=b"RF64", size=2**32 - 1)),
    "RF64 cut": Variant(
        cut(lambda: riff(ds64(len(S16)), form(), data(S16, 2**32 - 1), magic=b"RF64", size=2**32 - 1)),
        error="truncated",
    ),
    "RF64 of an exabyte": Variant(
        lambda: riff(ds64(2**60), form(), data(S16, 2**32 - 1), magic=b"RF64", size=2**32 - 1), error="truncated"
    ),
    "RF64 from a pipe": Variant(
        lambda: riff(ds64(0), form(), data(S16, 2**32 - 1), magic=b"RF64", size=2**32 - 1),
        doubt=UNKNOWN,
        parts=(lambda: riff(form(), data(S16)),),
    ),
    "RF64, LIST behind": Variant(
        lambda: riff(ds64(len(S16)), form(), data(S16, 2**32 - 1), LIST, magic=b"RF64", size=2**32 - 1)
    ),
    "BW64": Variant(lambda: riff(ds64(len(S16)), form(), data(S16, 2**32 - 1), magic=b"BW64", size=2**32 - 1)),
    "BW64, axml behind": Variant(
        lambda: riff(
            ds64(len(S16)), form(), data(S16, 2**32 - 1), chunk(b"axml", b"<x/>"), magic=b"BW64", size=2**32 - 1
        )
    ),
    "BW64 cut": Variant(
        cut(lambda: riff(ds64(len(S16)), form(), data(S16, 2**32 - 1), magic=b"BW64", size=2**32 - 1)),
        error="truncated",
    ),
    "RIFX by hand": Variant(
        lambda: riff(form(order=">"), data(samples(order=">"), order=">"), magic=b"RIFX", order=">"),
        parts=(lambda: riff(form(), data(S16)),),
    ),
    "RIFX of unknown size": Variant(
        lambda: riff(form(order=">"), data(samples(order=">"), 2**32 - 1, ">"), magic=b"RIFX", order=">"),
        doubt=UNKNOWN,
        parts=(lambda: riff(form(), data(S16)),),
    ),
    "two WAVs": Variant(lambda: 2 * riff(form(), data(S16)), error="another WAV file"),
    "two WAVs, LIST between": Variant(lambda: 2 * riff(form(), data(S16), LIST), error="another WAV file"),
    "RIFX 24 bits": Variant(
        lambda: riff(form(bits=24, order=">"), data(samples(24, ">"), order=">"), magic=b"RIFX", order=">"),
        parts=(lambda: riff(form(bits=24), data(samples(24))),),
    ),
    "RIFX cut by a frame": Variant(
        lambda: riff(form(order=">"), data(samples(order=">"), order=">"), magic=b"RIFX", order=">")[:-4],
        error="truncated",
    ),
    "cut by a frame": Variant(lambda: riff(form(), data(S16))[:-4], error="truncated"),
    "cut by a byte": Variant(lambda: riff(form(), data(S16))[:-1], error="truncated"),
    "cut in its header": Variant(lambda: riff(form(), data(S16))[:30], error="truncated"),
    "cut before its samples": Variant(lambda: riff(form(), data(S16))[:44], error="truncated"),
    "ID3v2 before a WAV": Variant(lambda: b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + riff(form(), data(S16))),
    "wav of ffmpeg": Variant(lambda: ffmpeg(".wav", "-c:a", "pcm_s24le")),
    "wav of ffmpeg from a pipe": Variant(lambda: ffmpeg("|wav", "-c:a", "pcm_s16le"), doubt=UNKNOWN),
    "w64 of ffmpeg": Variant(lambda: ffmpeg(".w64", "-c:a", "pcm_s16le"), ".w64"),
    "rf64 of ffmpeg": Variant(lambda: ffmpeg(".wav", "-c:a", "pcm_s24le", "-rf64", "always")),
    "rf64 of ffmpeg from a pipe": Variant(
        lambda: ffmpeg("|wav", "-c:a", "pcm_s24le", "-rf64", "always"),
        doubt=UNKNOWN,
        parts=(lambda: ffmpeg(".wav", "-c:a", "pcm_s24le"),),
    ),
    "w64 of ffmpeg from a pipe": Variant(
        lambda: ffmpeg("|w64", "-c:a", "pcm_s16le"), doubt=UNKNOWN, parts=(lambda: ffmpeg(".w64", "-c:a", "pcm_s16le"),)
    ),
    "w64 cut by a frame": Variant(lambda: written("W64", "PCM_16")[:-12], ".w64", error="truncated"),
}

# --- AIFF, AU, CAF, Ogg

for _container, _suffix in (("AIFF", ".aiff"), ("AU", ".au"), ("CAF", ".caf")):
    for _subtype in ("PCM_16", "PCM_24", "FLOAT", "ULAW"):
        _build = partial(written, _container, _subtype)
        VARIANTS[f"{_container} {_subtype}"] = Variant(_build, _suffix)
        VARIANTS[f"{_container} {_subtype} cut"] = Variant(cut(_build, 0.7), _suffix, error="truncated")
for _subtype in ("VORBIS", "OPUS"):
    _build = partial(written, "OGG", _subtype, rate=48_000)
    VARIANTS[f"Ogg {_subtype}"] = Variant(_build, ".ogg", slack=1_024, precision=1e-3)
    VARIANTS[f"Ogg {_subtype} cut"] = Variant(cut(_build), ".ogg", error="truncated")
VARIANTS["two Ogg files"] = Variant(
    lambda: 2 * written("OGG", "VORBIS", rate=48_000), ".ogg", error="another Ogg stream"
)
VARIANTS["caf of ffmpeg from a pipe"] = Variant(lambda: ffmpeg("|caf", "-c:a", "pcm_s16be"), ".caf", doubt=UNKNOWN)
VARIANTS["au of ffmpeg from a pipe"] = Variant(lambda: ffmpeg("|au", "-c:a", "pcm_s16be"), ".au", doubt=UNKNOWN)
VARIANTS["AIFF of unknown size, as sox has it"] = Variant(
    lambda: _with_aiff_size(0x7F000008, 0x7F000000 // 4), ".aiff", doubt=UNKNOWN
)
VARIANTS["AU of unknown size"] = Variant(
    lambda: written("AU", "PCM_16")[:8] + b"\xff" * 4 + written("AU", "PCM_16")[12:], ".au", doubt=UNKNOWN
)


def _with_aiff_size(size: int, frames: int) -> bytes:
    content = written("AIFF", "PCM_16")
    common, sound_chunk = content.index(b"COMM"), content.index(b"SSND")
    content = content[: common + 10] + struct.pack(">I", frames) + content[common + 14 :]
    return content[: sound_chunk + 4] + struct.pack(">I", size) + content[sound_chunk + 8 :]


# --- FLAC


@cache
def flac(subtype: str = "PCM_16", channels: int = 2, rate: int = SAMPLE_RATE, seconds: float = 0.5) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound(seconds, channels).T, rate, subtype=subtype, format="FLAC")
    return buffer.getvalue()


def flac_piped() -> bytes:
    return with_flac_frames(flac(), 0)


def flac_with_padding(kind: int = 1) -> bytes:
    """A block of metadata before the last."""
    content = flac()
    return content[:42] + bytes([kind]) + (5_000).to_bytes(3) + bytes(5_000) + content[42:]


for _subtype in ("PCM_S8", "PCM_16", "PCM_24"):
    VARIANTS[f"FLAC {_subtype}"] = Variant(partial(flac, _subtype), ".flac")
for _channels, _rate in ((1, 8_000), (1, 44_100), (2, 48_000), (2, 96_000)):
    VARIANTS[f"FLAC {_rate} Hz {_channels} channels"] = Variant(partial(flac, "PCM_16", _channels, _rate), ".flac")
for _share in (0.2, 0.5, 0.9):
    VARIANTS[f"FLAC cut at {_share}"] = Variant(cut(flac, _share), ".flac", error="truncated|not readable")
    VARIANTS[f"FLAC from a pipe cut at {_share}"] = Variant(cut(flac_piped, _share), ".flac", error="truncated")
VARIANTS |= {
    "FLAC from a pipe": Variant(flac_piped, ".flac", doubt=UNKNOWN),
    "FLAC from a pipe cut by a byte": Variant(cut(flac_piped, 1.0, 1), ".flac", error="truncated"),
    "FLAC from a pipe of ffmpeg": Variant(lambda: ffmpeg("|flac", seconds=0.5), ".flac", doubt=UNKNOWN),
    "two FLACs": Variant(lambda: flac() + flac(seconds=0.2), ".flac", error="another FLAC file"),
    "two FLACs of one length": Variant(lambda: flac() * 2, ".flac", error="another FLAC file", told_by_decoding=True),
    "two FLACs from pipes": Variant(lambda: flac_piped() * 2, ".flac", error="another FLAC file"),
    "two long FLACs of one length": Variant(
        lambda: flac(seconds=4.0) * 2, ".flac", error="another FLAC file", told_by_decoding=True
    ),
    "FLAC from a pipe, 24 bits": Variant(lambda: with_flac_frames(flac("PCM_24"), 0), ".flac", doubt=UNKNOWN),
    "FLAC from a pipe, mono": Variant(lambda: with_flac_frames(flac("PCM_16", 1), 0), ".flac", doubt=UNKNOWN),
    "FLAC from a pipe, one frame": Variant(lambda: with_flac_frames(flac(seconds=0.05), 0), ".flac", doubt=UNKNOWN),
    "FLAC from a pipe, ID3v1 behind": Variant(lambda: flac_piped() + b"TAG" + bytes(125), ".flac", doubt=UNKNOWN),
    "FLAC cut by a byte": Variant(cut(flac, 1.0, 1), ".flac", error="truncated|not readable", told_by_decoding=True),
    "FLAC announces too few samples": Variant(lambda: with_flac_frames(flac(), 1_000), ".flac", doubt="announced"),
    "FLAC announces too many samples": Variant(lambda: with_flac_frames(flac(), 90_000), ".flac", error="truncated"),
    "FLAC with padding": Variant(flac_with_padding, ".flac"),
    "FLAC with an unknown block": Variant(lambda: flac_with_padding(100), ".flac"),
    "FLAC behind ID3v2": Variant(lambda: b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + flac(), ".flac"),
    "FLAC with ID3v1 behind": Variant(lambda: flac() + b"TAG" + bytes(125), ".flac"),
    "FLAC with zeros behind": Variant(lambda: flac() + bytes(5_000), ".flac"),
    "FLAC of ffmpeg": Variant(lambda: ffmpeg(".flac", "-compression_level", "8"), ".flac"),
}

# --- MP3


@cache
def mp3s() -> dict[tuple[str, ...], bytes]:
    """MP3s of one sound by FFmpeg's options, all made by one process."""
    variants = [(*options, *header) for options in ((), *OPTIONS.values()) for header in ((), BARE)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.mp3" for number in range(len(variants))]
        outputs = [
            argument
            for options, path in zip(variants, paths, strict=True)
            for argument in ("-id3v2_version", "0", *options, str(path))
        ]
        source = ["-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "2", "-i", "-"]
        samples = sound().T.astype("<f4").tobytes()
        subprocess.run(["ffmpeg", "-v", "error", *source, *outputs], input=samples, check=True)
        return {options: path.read_bytes() for options, path in zip(variants, paths, strict=True)}


def mp3(*options: str) -> bytes:
    return mp3s()[options]


def bare(*options: str) -> bytes:
    """Without a Xing header."""
    return mp3s()[(*options, *BARE)]


def other() -> bytes:
    """Another sound, of 0.7 s."""
    return ffmpeg(".mp3", "-id3v2_version", "0", seconds=0.7, seed=1)


def xing(content: bytes) -> int:
    """Where the count of frames stands."""
    return (content.find(b"Xing") if b"Xing" in content else content.index(b"Info")) + 8


def with_count(count: int, content: bytes | None = None) -> bytes:
    """Another count of frames, or one more or less if it is no more than one."""
    content = mp3() if content is None else content
    place = xing(content)
    return content[:place] + struct.pack(">I", count) + content[place + 4 :]


def count_of(content: bytes) -> int:
    return int(struct.unpack_from(">I", content, xing(content))[0])


def id3v2(size: int, footer: bool = False) -> bytes:
    digits = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    head = b"\x04\0" + (b"\x10" if footer else b"\0") + digits
    return b"ID3" + head + bytes(size) + (b"3DI" + head if footer else b"")


def ape(header: bool = True) -> bytes:
    item = struct.pack("<II", 4, 0) + b"Title\0name"
    ends = struct.pack("<IIII8x", 2_000, len(item) + 32, 1, 0x80000000)
    first = b"APETAGEX" + struct.pack("<IIII8x", 2_000, len(item) + 32, 1, 0xA0000000)
    return (first if header else b"") + item + b"APETAGEX" + (ends if header else ends[:12] + bytes(12))


_words = b"LYRICSBEGININD0000200LYR00005words"
LYRICS = _words + b"%06dLYRICS200" % len(_words)
ID3V1 = b"TAG" + bytes(125)
BARE = ("-write_xing", "0")
OPTIONS: dict[str, tuple[str, ...]] = {
    "CBR 128": ("-b:a", "128k"), "CBR 320": ("-b:a", "320k"), "VBR": ("-q:a", "2"), "VBR 9": ("-q:a", "9"),
    "no joint stereo": ("-joint_stereo", "0"), "48000 Hz": ("-ar", "48000"), "32000 Hz": ("-ar", "32000"),
    "22050 Hz": ("-ar", "22050"), "24000 Hz": ("-ar", "24000"), "16000 Hz": ("-ar", "16000"),
    "11025 Hz": ("-ar", "11025"), "8000 Hz": ("-ar", "8000"), "mono": ("-ac", "1"),
    "mono 22050 Hz": ("-ac", "1", "-ar", "22050"),
    "mono 8000 Hz": ("-ac", "1", "-ar", "8000"), "no reservoir": ("-reservoir", "0"),
    "48000 Hz CBR": ("-ar", "48000", "-b:a", "128k"),
}  # fmt: skip
for _name, _options in OPTIONS.items():
    _build = partial(mp3, *_options)
    _bare = partial(bare, *_options)
    # at 24 kHz decoders take the highest band of a table for one of two widths, an erratum of the standard
    _precision = 5e-3 if _name == "24000 Hz" else 1e-4
    VARIANTS[f"MP3 {_name}"] = Variant(_build, ".mp3", slack=MP3_SLACK, precision=_precision)
    VARIANTS[f"MP3 {_name}, no Xing header"] = Variant(_bare, ".mp3", slack=MP3_SLACK, precision=_precision)
    VARIANTS[f"MP3 {_name} cut"] = Variant(cut(_build, 0.6), ".mp3", error="truncated")
    VARIANTS[f"MP3 {_name}, no Xing header, cut"] = Variant(cut(_bare, 1.0, 5), ".mp3", error="truncated")


def _mp3(
    content: Callable[[], bytes], error: str = "", doubt: str = "", slack: int = MP3_SLACK,
    parts: tuple[Callable[[], bytes], ...] = (),
) -> Variant:  # fmt: skip
    return Variant(content, ".mp3", error, doubt, slack, 1e-4, parts)


FRAME_BYTES = 384  # of 128 kbit/s at 48 kHz


def regular() -> bytes:
    """No header, and frames of one length."""
    return bare("-ar", "48000", "-b:a", "128k")


VARIANTS |= {
    "MP3 with ID3v2": _mp3(lambda: id3v2(500) + mp3()),
    "MP3 with a picture of 300 KB": _mp3(lambda: id3v2(300_000) + mp3()),
    "MP3 with ID3v2 and footer": _mp3(lambda: id3v2(300, footer=True) + mp3()),
    "MP3 with two ID3v2": _mp3(lambda: id3v2(300) + id3v2(100) + mp3()),
    "MP3 with ID3v1": _mp3(lambda: mp3() + ID3V1),
    "MP3 with APE": _mp3(lambda: mp3() + ape()),
    "MP3 with APE without header": _mp3(lambda: mp3() + ape(header=False)),
    "MP3 with APE and ID3v1": _mp3(lambda: mp3() + ape() + ID3V1),
    "MP3 with APE at its start": _mp3(lambda: ape() + mp3()),
    "MP3 with Lyrics3 and ID3v1": _mp3(lambda: mp3() + LYRICS + ID3V1),
    "MP3 with all tags, no Xing header": _mp3(lambda: id3v2(500) + bare() + LYRICS + ape() + ID3V1, parts=(bare,)),
    "MP3 with ID3v1, cut before it": _mp3(lambda: bare()[:-9] + ID3V1, error="truncated"),
    "MP3 with APE, cut before it": _mp3(lambda: bare()[:-9] + ape(), error="truncated"),
    "MP3 with zeros behind": _mp3(lambda: mp3() + bytes(2_000)),
    "MP3 with many zeros behind": _mp3(lambda: mp3() + bytes(20_000), doubt="zero bytes"),
    "MP3 with junk behind": _mp3(lambda: mp3() + b"\x01\x02" * 500, doubt="no MPEG frame"),
    "MP3 with junk between": _mp3(
        lambda: regular()[: 6 * FRAME_BYTES] + b"\x01\x02" * 99 + regular()[6 * FRAME_BYTES :],
        doubt="198 bytes at 0.1 s are no MPEG frame", parts=(regular,),
    ),
    "MP3 with zeros between": _mp3(
        lambda: regular()[: 6 * FRAME_BYTES] + bytes(99) + regular()[6 * FRAME_BYTES :], parts=(regular,)
    ),
    "MP3 with ID3v2 between": _mp3(
        lambda: regular()[: 6 * FRAME_BYTES] + id3v2(99) + regular()[6 * FRAME_BYTES :], parts=(regular,)
    ),
    "MP3 announces 0 frames": _mp3(lambda: with_count(0), doubt="does not say how many", parts=(mp3,)),
    "MP3 announces 1 frame": _mp3(lambda: with_count(1), doubt="announced", parts=(mp3,)),
    "MP3 announces a frame less": _mp3(lambda: with_count(count_of(mp3()) - 1), doubt="announced", parts=(mp3,)),
    "MP3 announces too many frames": _mp3(lambda: with_count(5_000), error="truncated"),
    "MP3 announces 2^32 - 1 frames": _mp3(lambda: with_count(2**32 - 1), error="truncated"),
    "MP3 with an absurd delay": _mp3(
        lambda: mp3()[: xing(mp3()) + 133] + b"\xff\xff\xff" + mp3()[xing(mp3()) + 136 :], slack=2 * FRAME + 1_105
    ),
    "two MP3s": _mp3(lambda: mp3() + other(), doubt="2 MP3 files", slack=0, parts=(mp3, other)),
    "two MP3s with tags": _mp3(
        lambda: id3v2(99) + mp3() + ID3V1 + id3v2(99) + other() + ID3V1,
        doubt="2 MP3 files", slack=0, parts=(mp3, other),
    ),
    "two MP3s with APE between": _mp3(
        lambda: mp3() + ape() + other() + ape(), doubt="2 MP3 files", slack=0, parts=(mp3, other)
    ),
    "three MP3s": _mp3(lambda: mp3() + other() + mp3(), doubt="3 MP3 files", slack=0, parts=(mp3, other, mp3)),
    "two MP3s, no Xing header": _mp3(lambda: bare() * 2),
    "two MP3s, the second without Xing header": _mp3(lambda: mp3() + bare(), doubt="announced"),
    "two MP3s, the first without Xing header": _mp3(
        lambda: bare() + other(), doubt="2 MP3 files", slack=0, parts=(bare, other)
    ),
    "two MP3s, the first cut": _mp3(lambda: mp3()[:3_000] + other(), error="truncated"),
    "two MP3s, the second cut": _mp3(lambda: mp3() + other()[:3_000], error="truncated"),
    "two MP3s, other rates": _mp3(lambda: mp3() + mp3("-ar", "48000"), error="goes on with"),
    "two MP3s, other rates, no Xing header": _mp3(lambda: bare() + bare("-ar", "48000"), error="goes on with"),
    "two MP3s, mono behind stereo": _mp3(lambda: mp3() + mp3("-ac", "1"), error="goes on with"),
    "MP3 cut by a byte": _mp3(lambda: mp3()[:-1], error="truncated"),
    "MP3 cut by a frame": _mp3(lambda: mp3("-ar", "48000", "-b:a", "128k")[:-FRAME_BYTES], error="truncated"),
    "MP3 cut in a frame's header": _mp3(lambda: regular()[: -FRAME_BYTES + 2], error="truncated"),
    "MP3 cut in its first frame": _mp3(lambda: mp3()[:300], error="truncated"),
    "layer II": Variant(lambda: ffmpeg(".mp2"), ".mp2", slack=FRAME, precision=1e-4),
    "layer II cut": Variant(cut(lambda: ffmpeg(".mp2"), 1.0, 5), ".mp2", error="truncated"),
    "MP3 in a WAV": Variant(lambda: ffmpeg(".wav", "-c:a", "libmp3lame"), slack=MP3_SLACK, precision=1e-4),
}  # fmt: skip


Decoded = dict[str, tuple[Path, bytes]]


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Decoded:
    """Every variant as a file, with what FFmpeg decodes; many in one process, because starting one takes longer."""
    folder = tmp_path_factory.mktemp("sweep")
    files = {name: folder / f"{number}{variant.suffix}" for number, (name, variant) in enumerate(VARIANTS.items())}
    sources: dict[str, list[Path]] = {}
    for name, variant in VARIANTS.items():
        files[name].write_bytes(variant.content())
        sources[name] = [files[name]] if not variant.parts else []
        for number, part in enumerate(variant.parts):
            sources[name].append(files[name].with_name(f"{files[name].stem}-{number}{variant.suffix}"))
            sources[name][-1].write_bytes(part())
    read = [source for name in VARIANTS if not VARIANTS[name].error for source in sources[name]]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(decode, [read[start : start + 20] for start in range(0, len(read), 20)]))
    return {
        name: (files[name], b"".join(raw(source).read_bytes() for source in sources[name] if source in read))
        for name in VARIANTS
    }


def raw(path: Path) -> Path:
    return path.with_name(f"{path.name}.raw")


def decode(paths: list[Path]) -> None:
    """FFmpeg's samples of files, as 32-bit floats."""
    inputs = [argument for path in paths for argument in ("-i", str(path))]
    outputs = [
        argument
        for number, path in enumerate(paths)
        for argument in ("-map", f"{number}:a", "-f", "f32le", str(raw(path)))
    ]
    subprocess.run(["ffmpeg", "-v", "quiet", *inputs, *outputs], check=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_file_is_read_as_ffmpeg_decodes_it_or_refused(
    name: str, decoded: Decoded, caplog: pytest.LogCaptureFixture
) -> None:
    variant, (path, theirs) = VARIANTS[name], decoded[name]
    caplog.set_level(logging.WARNING)
    if variant.error:
        with pytest.raises(AudioError, match=variant.error) as caught:
            audio.read(path, None)
        assert str(caught.value).startswith(f"{path}: ")
        if not variant.told_by_decoding:
            with pytest.raises(AudioError):
                audio.duration_seconds(path)
        return
    ours, rate = audio.read(path, None)
    said = [record.getMessage() for record in caplog.records]
    assert all(sentence.startswith(f"{path}: ") for sentence in said)
    assert any(variant.doubt in sentence for sentence in said) if variant.doubt else not said, said
    assert audio.duration_seconds(path) == ours.shape[1] / rate
    expected = np.frombuffer(theirs, "<f4").reshape(-1, len(ours)).T
    assert abs(ours.shape[1] - expected.shape[1]) <= variant.slack
    lag = _lag(ours[0], expected[0]) if variant.slack else 0
    one, other = ours[:, max(0, lag) :], expected[:, max(0, -lag) :]
    common = min(one.shape[1], other.shape[1])
    assert common >= min(ours.shape[1], expected.shape[1]) - variant.slack
    assert np.abs(one[:, :common] - other[:, :common]).max() <= variant.precision


def _lag(one: np.ndarray, other: np.ndarray) -> int:
    """By how many samples ``one`` is late."""
    return int(np.argmax(scipy.signal.correlate(one, other, method="fft"))) - len(other) + 1

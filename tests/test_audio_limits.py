"""Untrusted files: refused by their header, before anything is decoded."""

import contextlib
import io
import struct
import time
import tracemalloc

import numpy as np
import pytest
import soundfile

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError
from fxnorm.io import audio
from fxnorm.io.audio import DecodingLimits
from tests.conftest import noise

LIMITS = DecodingLimits(seconds=10.0, bytes=10_000_000)


def with_flac_frames(content: bytes, frames: int) -> bytes:
    """The FLAC file ``content`` with another number of samples in its STREAMINFO (36 bits, RFC 9639 section 8.2)."""
    start = content.index(b"fLaC") + 8 + 13
    high = (content[start] & 0xF0) | (frames >> 32)
    return content[:start] + bytes([high]) + struct.pack(">I", frames & 0xFFFFFFFF) + content[start + 5 :]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_what_is_within_the_limits_is_read_as_ever(suffix: str) -> None:
    content = audio.encode(noise(1.0), SAMPLE_RATE, suffix)
    assert np.array_equal(audio.decode(content, "a", limits=LIMITS)[0], audio.decode(content, "a")[0])


@pytest.mark.parametrize(
    "content, limits, said",
    [
        (audio.encode(noise(11.0), SAMPLE_RATE, ".mp3"), LIMITS, "11 s, expected at most 10 s"),
        (audio.encode(noise(1.0), SAMPLE_RATE, ".wav"), DecodingLimits(10.0, 1_000), "bytes of samples when decoded"),
        (audio.encode(noise(1.0), SAMPLE_RATE, ".wav"), DecodingLimits(10.0, 10**7, 1), "2 channels, expected at most"),
        (audio.encode(noise(1.0), 8_000, ".wav"), DecodingLimits(10.0, 400_000), "1944808 bytes of samples when"),
        (audio.encode(noise(0.01), 4, ".wav"), LIMITS, "4 Hz, expected a sample rate from"),
        (audio.encode(noise(0.01), 400_000, ".wav"), LIMITS, "400000 Hz, expected a sample rate from"),
        (b"FORM\0\0\0\x1eAIFFCOMM" + bytes(100), LIMITS, "not readable"),
    ],
)
def test_a_file_beyond_the_limits_is_refused(content: bytes, limits: DecodingLimits, said: str) -> None:
    with pytest.raises(AudioError, match=f"^a: .*{said}"):
        audio.decode(content, "a", limits=limits)


def test_of_a_long_file_at_a_high_rate_nothing_but_the_result_is_held_in_memory() -> None:
    rate, seconds = 192_000, 100
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", rate, 2, "PCM_24", format="FLAC") as file:
        for _ in range(seconds):
            file.write(np.zeros((rate, 2), np.float32))
    file_at_its_own_rate = seconds * rate * 2 * 4
    with pytest.raises(AudioError, match=f"^a: {file_at_its_own_rate} bytes of samples when decoded"):
        audio.decode(content.getvalue(), "a", limits=DecodingLimits(600.0, file_at_its_own_rate - 1))
    tracemalloc.start()
    samples, _ = audio.decode(content.getvalue(), "a", limits=DecodingLimits(600.0, file_at_its_own_rate))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples.shape == (2, seconds * SAMPLE_RATE)
    assert peak < samples.nbytes + 20_000_000 < file_at_its_own_rate


@pytest.mark.parametrize("frames", [2**36 - 1, 10**9])
def test_a_header_that_announces_hours_takes_no_memory(frames: int) -> None:
    content = with_flac_frames(audio.encode(np.zeros((2, SAMPLE_RATE), np.float32), SAMPLE_RATE, ".flac"), frames)
    tracemalloc.start()
    with pytest.raises(AudioError, match="expected at most 10 s"):
        audio.decode(content, "a", limits=LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_length_that_is_too_short_is_no_way_around_the_limits() -> None:
    content = with_flac_frames(audio.encode(noise(11.0), SAMPLE_RATE, ".flac"), 1_000)
    with pytest.raises(AudioError, match="11 s, expected at most 10 s"):
        audio.decode(content, "a", limits=LIMITS)


@pytest.mark.parametrize("seconds, said", [(9.0, ""), (11.0, "11 s, expected at most 10 s")])
@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_file_of_unknown_length_is_held_against_the_limits(suffix: str, seconds: float, said: str) -> None:
    content = audio.encode(noise(seconds), SAMPLE_RATE, suffix, "PCM_16")
    piped = with_flac_frames(content, 0) if suffix == ".flac" else content[:40] + b"\xff" * 4 + content[44:]
    if said:
        with pytest.raises(AudioError, match=rf"^a: {said}"):
            audio.decode(piped, "a", limits=LIMITS)
    else:
        assert np.array_equal(audio.decode(piped, "a", limits=LIMITS)[0], audio.decode(content, "a")[0])


def _mp3_frames(count: int, marks: bytes = b"") -> bytes:
    """Silent frames of 32 kbit/s at 48 kHz, each with ``marks`` where a Xing header would be."""
    frame = b"\xff\xfb\x14\xc4" + bytes(17) + marks
    return frame.ljust(96, b"\0") * count


@pytest.mark.parametrize(
    "content",
    [
        _mp3_frames(30_000, b"Xing"),
        _mp3_frames(3) + b"\xff\xfb" * 1_000_000,
        b"\xff" * 2_000_000,
        _mp3_frames(3) + b"ID3\x04" * 500_000,
        b"ID3\x04\0\0\0\0\0\0" * 200_000,
        b"\xff\xfb\x04\xc4" * 500_000,
        _mp3_frames(3) + b"APETAGEX" * 250_000,
        _mp3_frames(3) + b"LYRICSBEGIN" * 200_000,
        b"fLaC\0\0\0\x22" + bytes(34) + b"\x81\0\0\0" * 500_000,
        b"fLaC\x80\0\0\x22" + bytes(34) + b"\xff\xf8\x69\xa8\0" * 400_000,
        b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<IQQQI", 2**32 - 1, 0, 2**63, 0, 0) + bytes(1_000_000),
        b"RIFF\0\0\0\0WAVE" + b"data\0\0\0\0" * 500_000,
    ],
    ids=["headers", "syncs", "ones", "tags inside", "tags", "free format", "APE", "Lyrics3", "metadata", "frames",
         "ds64", "data"],
)  # fmt: skip
def test_a_hostile_file_costs_neither_time_nor_memory(content: bytes) -> None:
    start = time.process_time()
    tracemalloc.start()
    with contextlib.suppress(AudioError):
        audio.decode(content, "a", limits=LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 2 * len(content) + 5_000_000
    tracemalloc.stop()
    assert time.process_time() - start < 3.0


def test_a_wav_of_chunks_without_samples_is_refused() -> None:
    content = b"RIFF" + struct.pack("<I", 80_000) + b"WAVE" + 10_000 * (b"junk" + bytes(4))
    with pytest.raises(AudioError, match=r"^a: no samples after 1000 chunks"):
        audio.decode(content, "a", limits=LIMITS)

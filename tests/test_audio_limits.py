"""Files from strangers: refused by their header, before anything is decoded."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile

from fxnorm import audio
from fxnorm.audio import DecodingLimits
from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError
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
    rate, seconds = 192_000, 599
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
    assert peak < samples.nbytes + 20_000_000


@pytest.mark.parametrize("frames", [2**36 - 1, 10**9])
def test_a_header_that_announces_hours_takes_no_memory(frames: int) -> None:
    content = with_flac_frames(audio.encode(np.zeros((2, SAMPLE_RATE), np.float32), SAMPLE_RATE, ".flac"), frames)
    tracemalloc.start()
    with pytest.raises(AudioError, match="expected at most 10 s"):
        audio.decode(content, "a", limits=LIMITS)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_no_more_is_decoded_than_the_header_announces() -> None:
    content = with_flac_frames(audio.encode(noise(3.0), SAMPLE_RATE, ".flac"), 1_000)
    assert audio.decode(content, "a", limits=LIMITS)[0].shape == (2, 1_000)


def test_a_flac_of_unknown_length_is_refused_by_name() -> None:
    with pytest.raises(AudioError, match=r"^a: the header does not say how long it is"):
        audio.decode(with_flac_frames(audio.encode(noise(1.0), SAMPLE_RATE, ".flac"), 0), "a")


def test_a_wav_of_chunks_without_samples_is_refused() -> None:
    content = b"RIFF" + struct.pack("<I", 80_000) + b"WAVE" + 10_000 * (b"junk" + bytes(4))
    with pytest.raises(AudioError, match=r"^a: no samples after 1000 chunks"):
        audio.decode(content, "a", limits=LIMITS)

"""Formats beyond WAV, FLAC and MP3: the same samples at the same place, whole or refused.

The references are the samples that were encoded: equal for lossless formats; for lossy ones the delay at which the
cross-correlation is highest is 0, the length is the source's, and the correlation is high.
"""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import correlate, lfilter

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError
from fxnorm.io import audio
from tests import encoded


def music(samples: int = 50_000, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Noise with the spectrum of music, in steps of 16 bits: what encoders of any kind keep well."""
    white = np.random.default_rng(seed).standard_normal((channels, samples))
    sound = lfilter([0.02], [1, -0.9], white)
    return (np.round(sound * 2**15) / 2**15).astype(np.float32)


def delay(found: np.ndarray, source: np.ndarray) -> int:
    """Samples by which one sound is later than another."""
    correlation = correlate(found[0].astype(np.float64), source[0].astype(np.float64), method="fft")
    return int(np.argmax(correlation)) - (source.shape[1] - 1)


def correlation(found: np.ndarray, source: np.ndarray) -> float:
    samples = min(found.shape[1], source.shape[1])
    return float(np.corrcoef(found[:, :samples].ravel(), source[:, :samples].ravel())[0, 1])


@pytest.mark.parametrize("samples", [44_032, 50_000])
def test_all_streams_of_a_stem_file_come_in_whole_and_at_their_place(tmp_path: Path, samples: int) -> None:
    sources = [music(samples, seed=seed) for seed in range(5)]
    path = encoded.stem_mp4(tmp_path / "Artist - Title.stem.mp4", sources)
    assert audio.streams(path) == 5
    for number, source in enumerate(sources):
        found, sample_rate = audio.read(path, stream=number)
        assert (found.shape, sample_rate) == (source.shape, SAMPLE_RATE)
        assert delay(found, source) == 0
        assert correlation(found, source) > 0.95
        assert audio.length(path, number) == (samples, SAMPLE_RATE)
    with pytest.raises(AudioError, match=rf"^{path}: expected an audio stream of number 5, found 5$"):
        audio.read(path, stream=5)


def with_chunk(content: bytes, name: bytes, chunk: bytes) -> bytes:
    """A WAV file with a chunk before its samples."""
    position = content.index(b"data")
    inserted = name + struct.pack("<I", len(chunk)) + chunk
    head = bytearray(content[:position] + inserted)
    if head[:4] == b"RIFF":
        head[4:8] = struct.pack("<I", len(content) + len(inserted) - 8)
    return bytes(head) + content[position:]


@pytest.mark.parametrize("container", ["WAV", "RF64"])
@pytest.mark.parametrize("samples_since_midnight", [0, 48_000 * 3_600, 2**32 + 5])
def test_a_broadcast_wav_says_where_it_begins(tmp_path: Path, container: str, samples_since_midnight: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, music(1_000).T, 48_000, subtype="PCM_24", format=container)
    plain = path.read_bytes()
    assert audio.time_reference(path) is None
    description = bytes(338) + struct.pack("<Q", samples_since_midnight) + bytes(256)
    path.write_bytes(with_chunk(plain, b"bext", description))
    assert audio.time_reference(path) == samples_since_midnight
    assert audio.read(path, None)[0].shape == (2, 1_000)

"""Reading, refusing, resampling and writing audio."""

import io
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
import soxr

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import AudioError
from fxnorm.io import audio
from tests.conftest import noise
from tests.test_audio_limits import with_flac_frames


def sine(frequency: float, sample_rate: int, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return (0.5 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)[None]


@pytest.mark.parametrize("suffix, bound", [(".wav", 0.0), (".flac", 2.0**-23), (".mp3", 0.05)])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, bound: float) -> None:
    samples = np.concatenate([sine(440, SAMPLE_RATE), sine(660, SAMPLE_RATE)])
    audio.write(tmp_path / f"a{suffix}", samples)
    found, sample_rate = audio.read(tmp_path / f"a{suffix}")
    assert sample_rate == SAMPLE_RATE
    assert found.dtype == np.float32
    assert found.shape == samples.shape
    assert np.abs(found - samples)[:, 2000:-2000].max() <= bound


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 48_000, 192_000])
def test_other_sample_rates_are_resampled_without_changing_a_tone(tmp_path: Path, sample_rate: int) -> None:
    audio.write(tmp_path / "tone.wav", sine(1_000, sample_rate), sample_rate)
    found, rate = audio.read(tmp_path / "tone.wav")
    assert rate == SAMPLE_RATE
    assert found.shape == (1, SAMPLE_RATE)
    edge = 2_000
    assert np.abs(found - sine(1_000, SAMPLE_RATE))[:, edge:-edge].max() < 1e-3


@pytest.mark.parametrize("suffix", [".wav", ".mp3"])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [11_025, 44_100, 48_000])
def test_reading_in_blocks_gives_what_reading_at_once_gives(suffix: str, channels: int, sample_rate: int) -> None:
    content = audio.encode(noise(12.345, channels=channels), sample_rate, suffix)
    at_once, _ = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    assert len(at_once) > 2**19, "two blocks and more"
    expected = at_once if sample_rate == SAMPLE_RATE else soxr.resample(at_once, sample_rate, SAMPLE_RATE, "HQ")
    # an MP3's last bit is not the same whenever it is decoded
    assert np.abs(audio.decode(content, "a")[0] - expected.T).max() <= (1e-6 if suffix == ".mp3" else 0)


def test_a_value_that_is_not_finite_is_counted_from_the_beginning_of_the_file(tmp_path: Path) -> None:
    samples = np.zeros((1, 2**19), np.float32)
    samples[0, -5] = np.inf
    soundfile.write(tmp_path / "a.wav", samples.T, 96_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=f"the first at sample {2**19 - 5}$"):
        audio.read(tmp_path / "a.wav")


def test_a_header_that_announces_more_than_memory_holds_is_refused() -> None:
    content = with_flac_frames(audio.encode(noise(1.0), SAMPLE_RATE, ".flac"), 2**36 - 1)
    with pytest.raises(AudioError, match=r"^a: (truncated|.*more than memory holds|not readable)"):
        audio.decode(content, "a")


def test_a_mono_file_becomes_stereo_by_repetition() -> None:
    mono = noise(0.1, channels=1)
    stereo = audio.to_stereo(mono)
    assert stereo.shape == (2, mono.shape[1])
    assert np.array_equal(stereo[0], stereo[1])


def write_text(path: Path) -> None:
    path.write_text("these are words, not samples\n" * 20)


def write_truncated(path: Path) -> None:
    soundfile.write(path, noise(1).T, SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[:-1000])


def write_header_only(path: Path) -> None:
    soundfile.write(path, noise(0.1).T, SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[:20])


def write_truncated_flac(path: Path) -> None:
    soundfile.write(path, noise(1).T, SAMPLE_RATE, format="FLAC")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def write_no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros((0, 2)), SAMPLE_RATE)


def write_not_a_number(path: Path) -> None:
    samples = noise(0.1)
    samples[1, 7] = np.nan
    soundfile.write(path, samples.T, SAMPLE_RATE, subtype="FLOAT")


def write_infinite(path: Path) -> None:
    samples = noise(0.1)
    samples[0, 9] = np.inf
    soundfile.write(path, samples.T, SAMPLE_RATE, subtype="FLOAT")


def write_enormous(path: Path) -> None:
    soundfile.write(path, noise(0.1, 3e37).T, SAMPLE_RATE, subtype="FLOAT")


def write_three_channels(path: Path) -> None:
    soundfile.write(path, noise(0.1, channels=3).T, SAMPLE_RATE)


def write_declared_two_gigabytes(path: Path) -> None:
    soundfile.write(path, noise(0.1).T, SAMPLE_RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = struct.pack("<I", 2_000_000_000)
    path.write_bytes(bytes(content))


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "write, said",
    [
        (write_text, "not readable"),
        (write_truncated, "truncated"),
        (write_header_only, "truncated"),
        (write_truncated_flac, "truncated|not readable"),
        (write_no_samples, "no samples"),
        (write_not_a_number, "NaN or infinite samples, the first at sample 7"),
        (write_infinite, "NaN or infinite samples, the first at sample 9"),
        (write_enormous, r"a peak of \+7.* dBFS, expected at most \+60 dBFS"),
        (write_three_channels, "expected 1 or 2 channels, found 3"),
        (write_declared_two_gigabytes, "truncated"),
        (write_nothing, "empty"),
    ],
)
def test_unusable_files_are_refused_in_one_line_that_names_them(tmp_path: Path, write, said: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bad.wav"
    write(path)
    for read in (lambda: audio.read(path), lambda: audio.decode(path.read_bytes(), str(path))):
        with pytest.raises(AudioError, match=said) as caught:
            read()
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"nowhere\.wav: no such file"):
        audio.read(tmp_path / "nowhere.wav")


def test_a_wav_of_unknown_length_as_streams_have_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "streamed.wav"
    soundfile.write(path, noise(0.1).T, SAMPLE_RATE, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    assert audio.read(path)[0].shape[1] == round(0.1 * SAMPLE_RATE)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mp3"])
def test_the_same_audio_gives_the_same_bytes_at_any_time(suffix: str) -> None:
    first = audio.encode(noise(0.1), SAMPLE_RATE, suffix)
    time.sleep(1.1)  # libsndfile's clock, which float WAVs may carry, counts in seconds
    assert audio.encode(noise(0.1), SAMPLE_RATE, suffix) == first


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "mix.flac"
    audio.write(path, noise(0.1))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Invalid combination"):
        audio.write(path, noise(0.1), subtype="ULAW")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("channels", "samples"), [(1, 5), (2, 300_000)])
def test_a_float_wav_is_that_of_scipy(channels: int, samples: int) -> None:
    written = noise(samples / SAMPLE_RATE, channels=channels)
    expected = io.BytesIO()
    scipy.io.wavfile.write(expected, SAMPLE_RATE, np.ascontiguousarray(written.T))
    assert audio.encode(written, SAMPLE_RATE, ".wav") == expected.getvalue()


@pytest.mark.parametrize("suffix", audio.OUTPUT_SUFFIXES)
@pytest.mark.parametrize("value, said", [(np.nan, "NaN"), (-np.inf, "infinite"), (-1e5, r"\+100 dBFS"), (3e38, "dBFS")])
def test_what_would_break_an_encoder_does_not_reach_it(tmp_path: Path, suffix: str, value: float, said: str) -> None:
    path = tmp_path / f"mix{suffix}"
    audio.write(path, noise(0.1))
    before = path.read_bytes()
    samples = noise(0.5)
    samples[1, 100:200] = value
    with pytest.raises(AudioError, match=rf"^{path}: .*{said}"):
        audio.write(path, samples)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", audio.OUTPUT_SUFFIXES)
def test_every_encoder_stands_the_highest_peak_that_is_let_through(suffix: str) -> None:
    highest = np.float32(10 ** (audio.MAX_DBFS / 20))
    samples = highest * np.sign(noise(1.0))
    content = audio.encode(samples, SAMPLE_RATE, suffix)
    decoded, _ = audio.decode(content, "a") if suffix != ".mp3" else soundfile.read(io.BytesIO(content))
    assert np.abs(decoded).max() >= (1.0 if suffix == ".flac" else highest), "FLAC clips"


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"\.wav, \.flac, \.mp3"):
        audio.write(tmp_path / "mix.aiff", noise(0.1))

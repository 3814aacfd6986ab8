"""What is doubtful in a file is one line that names it, on the command line from any process, and nothing else.

The kind: a length in a header that is taken for the truth by whoever does not read the file (lengths of songs,
stretches for training), or a doubt that nobody sees, or that is seen as a mess.
"""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fxnorm.constants import SAMPLE_RATE
from fxnorm.data import dataset
from fxnorm.errors import AudioError, DatasetError
from fxnorm.io import audio
from fxnorm.runtime import log
from fxnorm.training.data import StoredSong
from tests import encoded
from tests.conftest import noise
from tests.test_audio_limits import with_flac_frames
from tests.test_audio_sweep import bare, data, form, mp3, other, riff, samples, with_count

MakeSong = Callable[..., Path]


def piped(seconds: float = 1.0) -> bytes:
    """A WAV as sox writes it to a pipe."""
    return riff(form(), data(samples(seconds=seconds), 0x7FFFF000), size=0x7FFFF024)


@pytest.mark.parametrize(
    "content, suffix, length",
    [
        (piped, ".wav", SAMPLE_RATE),
        (lambda: with_flac_frames(audio.encode(noise(1.0), SAMPLE_RATE, ".flac"), 0), ".flac", SAMPLE_RATE),
        (lambda: with_flac_frames(audio.encode(noise(1.0), SAMPLE_RATE, ".flac"), 10), ".flac", SAMPLE_RATE),
        (lambda: mp3() + other(), ".mp3", SAMPLE_RATE),
        (lambda: bare("-q:a", "2"), ".mp3", 13 * 1_152),
        (lambda: with_count(1), ".mp3", None),
    ],
    ids=["WAV from a pipe", "FLAC from a pipe", "FLAC", "two MP3s", "VBR without header", "MP3"],
)
def test_the_length_of_a_song_is_that_of_its_samples(
    content: Callable[[], bytes], suffix: str, length: int | None, tmp_path: Path
) -> None:
    (tmp_path / "A").mkdir()
    path = tmp_path / f"A/bass{suffix}"
    path.write_bytes(content())
    read = audio.read(path, None)[0].shape[1]
    assert length is None or read == length
    (song,) = dataset.songs(tmp_path)
    assert song.seconds == read / SAMPLE_RATE
    assert audio.length(path) == (read, SAMPLE_RATE)


@pytest.mark.parametrize(
    "content, said",
    [
        (lambda: audio.encode(noise(1.0), SAMPLE_RATE, ".wav", "PCM_24")[:-3_000], "truncated"),
        (lambda: audio.encode(noise(1.0), SAMPLE_RATE, ".wav")[:-8], "truncated"),
        (lambda: audio.encode(noise(1.0), SAMPLE_RATE, ".flac")[:-40_000], "truncated"),
        (lambda: with_flac_frames(audio.encode(noise(1.0), SAMPLE_RATE, ".flac"), 10), "run 'fxnorm normalize' first"),
        (lambda: with_flac_frames(audio.encode(noise(1.0), SAMPLE_RATE, ".flac"), 0), "run 'fxnorm normalize' first"),
    ],
    ids=["PCM", "float", "FLAC", "FLAC that announces less", "FLAC from a pipe"],
)
def test_a_stored_song_that_is_not_whole_is_not_learnt_from(
    content: Callable[[], bytes], said: str, make_song: MakeSong
) -> None:
    folder = make_song("A", seconds=1.0)
    made = content()
    (folder / "bass.wav").write_bytes(made)
    (song,) = dataset.songs(folder.parent)
    with pytest.raises(DatasetError, match=rf"^{folder}/bass\.wav: .*{said}"):
        StoredSong(song)


def test_a_song_of_a_format_without_stretches_is_normalized_first(make_song: MakeSong) -> None:
    folder = make_song("A", seconds=1.0)
    (folder / "bass.wav").unlink()
    encoded.stem_mp4(folder / "bass.m4a", [noise(1.0)])
    (song,) = dataset.songs(folder.parent)
    with pytest.raises(DatasetError, match=rf"^{folder}/bass\.m4a: .*run 'fxnorm normalize' first"):
        StoredSong(song)


@pytest.mark.system
def test_a_doubt_is_one_line_of_the_command_also_from_its_workers(make_song: MakeSong, tmp_path: Path) -> None:
    for name in ("A", "B"):
        folder = make_song(f"data/{name}", seconds=1.0)
        (folder / "bass.wav").write_bytes(piped())
    command = [sys.executable, "-m", "fxnorm", "check", str(tmp_path / "data"), "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = sorted(line for line in done.stderr.splitlines() if "warning" in line)
    assert len(said) == 2, done.stderr
    for name, line in zip("AB", said, strict=True):
        assert line.startswith(f"warning: {tmp_path}/data/{name}/bass.wav: its header does not say how long")


@pytest.mark.parametrize("name", ["a\nb.wav", "a\x1b[31mb.wav", "a\rb.wav"])
def test_a_doubt_stays_one_line_whatever_the_file_is_called(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_bytes(piped())
    log.show_warnings()
    for _ in range(2):
        audio.read(path)
    log.hide_warnings()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: ")
    assert "\x1b" not in line
    assert not logging.getLogger("fxnorm").handlers, "the library itself shows nothing"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("container", ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "OGG"])
def test_half_a_file_of_any_container_is_no_shorter_song(container: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1.0).T, SAMPLE_RATE, format=container)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(AudioError, match="truncated"):
        audio.read(path)
    with pytest.raises(AudioError, match="truncated"):
        audio.duration_seconds(path)


def test_a_container_that_is_not_known_is_read_with_a_doubt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(0.2).T, SAMPLE_RATE, format="PAF")
    assert audio.read(path)[0].shape == (2, round(0.2 * SAMPLE_RATE))
    (record,) = caplog.records
    assert record.getMessage() == f"{path}: of this format, it cannot be told whether the file is whole"
    assert np.isfinite(audio.duration_seconds(path))

"""What is found on disk, and what is said about it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fxnorm import audio, dataset
from fxnorm.constants import STEMS
from fxnorm.errors import DatasetError
from tests.conftest import noise

MakeSong = Callable[..., Path]


def test_songs_of_a_split_come_by_name_with_their_stems_in_order(tmp_path: Path, make_song: MakeSong) -> None:
    for name in ("d/train/B", "d/train/A", "d/test/C"):
        make_song(name, seconds=0.1)
    (tmp_path / "d/train/.cache").mkdir()
    (tmp_path / "d/train/notes").mkdir()
    found = dataset.songs(tmp_path / "d", "train")
    assert [song.name for song in found] == ["A", "B"]
    assert tuple(found[0].stems) == STEMS
    assert [song.name for song in dataset.songs(tmp_path / "d")] == ["A", "B", "C"]


def test_a_folder_of_songs_without_splits_serves_for_any(tmp_path: Path, make_song: MakeSong) -> None:
    make_song("d/A", seconds=0.1)
    assert dataset.songs(tmp_path / "d", "train") == dataset.songs(tmp_path / "d", "test")


@pytest.mark.parametrize("split, said", [("val", "expected a split 'val', found train"), ("train", "found none")])
def test_what_is_missing_is_named(tmp_path: Path, split: str, said: str) -> None:
    (tmp_path / "d/train").mkdir(parents=True)
    with pytest.raises(DatasetError, match=said):
        dataset.songs(tmp_path / "d", split)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        dataset.songs(tmp_path / "nowhere")


def test_flac_stands_in_for_wav(tmp_path: Path) -> None:
    audio.write(tmp_path / "d/A/bass.flac", noise(0.1))
    (song,) = dataset.songs(tmp_path / "d")
    assert list(song.stems) == ["bass"]
    with pytest.raises(DatasetError, match="mixture"):
        song.read_mixture()


def test_the_digest_is_of_names_and_contents_not_of_places(tmp_path: Path, make_song: MakeSong) -> None:
    make_song("one/A", seconds=0.1)
    make_song("two/A", seconds=0.1)
    one, two = (dataset.songs(tmp_path / name) for name in ("one", "two"))
    assert dataset.digest(one) == dataset.digest(two)
    audio.write(two[0].stems["bass"], noise(0.1, seed=99), subtype="PCM_16")
    assert dataset.digest(one) != dataset.digest(two)


def test_problems_and_remarks_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "d/A"
    audio.write(folder / "vocals.wav", noise(0.5), 48_000)
    audio.write(folder / "bass.wav", noise(1.0) * 1e-4)
    (folder / "drums.wav").write_text("words")
    (song,) = dataset.songs(tmp_path / "d")
    problems, remarks = dataset.find_problems(song)
    assert len(problems) == 1
    assert "drums.wav: not readable" in problems[0]
    told = " | ".join(remarks)
    for expected in (
        "no other: taken as silence",
        "vocals.wav: 48000 Hz",
        "bass.wav: silent",
        "lengths differ",
        "no mixture",
    ):
        assert expected in told

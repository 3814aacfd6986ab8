"""What is found on disk, and what is said about it.

The kind of most of these tests: data is taken for what it is not. A file that is there is silence, a folder that is
there is no split, without a word.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from click.testing import CliRunner, Result

from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.errors import DatasetError, FxnormError, SettingsError
from fxnorm.io import audio
from fxnorm.quality import songs
from fxnorm.settings import CheckSettings
from fxnorm.stages import split
from tests import encoded
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
    findings = songs.check(song, "test", CheckSettings()).findings
    (problem,) = [finding for finding in findings if finding.severity == "error"]
    assert problem.line.startswith("drums.wav: not readable")
    told = " | ".join(finding.line for finding in findings if finding is not problem)
    for expected in (
        "no other: taken as silence",
        "vocals.wav: 48000 Hz",
        "bass.wav: silent",
        "lengths differ",
        "no mixture",
    ):
        assert expected in told


def place(path: Path, seed: int = 0) -> None:
    """A short sound under any name, in any case."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix.lower()
    audio.write(path.with_suffix(suffix), noise(0.1, seed=seed))
    path.with_suffix(suffix).rename(path)


@pytest.mark.parametrize("name", ["Vocals.WAV", "drums.aiff", "drums.ogg", "BASS.M4A", "other.wv"])
def test_a_stem_in_any_format_that_is_read_is_seen_and_not_taken_for_silence(tmp_path: Path, name: str) -> None:
    source, path = noise(0.1), tmp_path / "d/A" / name
    path.parent.mkdir(parents=True)
    if name.endswith("M4A"):
        encoded.write(path, "ipod", "alac", [source], sample_format="s16p")
    elif name.endswith("wv"):
        encoded.write(path, "wv", "wavpack", [source], sample_format="fltp")
    else:
        soundfile.write(path, source.T, SAMPLE_RATE, format={".aiff": "AIFF", ".ogg": "OGG"}.get(path.suffix, "WAV"))
    (song,) = dataset.songs(tmp_path / "d")
    (stem,) = song.stems
    assert stem == path.stem.lower()
    assert song.read_stems()[stem].shape == source.shape
    assert song.seconds == source.shape[1] / SAMPLE_RATE


def test_of_several_formats_a_stem_is_read_from_the_one_that_loses_least(tmp_path: Path) -> None:
    left = ["wav", "flac", "aiff", "caf", "ape", "mp3", "m4a", "ogg", "wma"]
    place(tmp_path / "d/A/bass.wav")
    for suffix in left[1:]:
        shutil.copy(tmp_path / "d/A/bass.wav", tmp_path / f"d/A/bass.{suffix}")
    while left:
        layout = dataset.Layout.read(tmp_path / "d")
        (song,) = layout.songs
        assert song.stems == {"bass": tmp_path / f"d/A/bass.{left[0]}"}
        assert {unused.path.suffix[1:] for unused in layout.unused} == set(left[1:])
        (tmp_path / f"d/A/bass.{left.pop(0)}").unlink()


def check(folder: Path) -> Result:
    return CliRunner().invoke(main, ["check", str(folder), "--workers", "1"])


@pytest.mark.parametrize("name", ["Vocals.wav", "VOCALS.WAV", "vocals.WAV", "vOCALS.Flac", "vocals.MP3"])
def test_upper_and_lower_case_make_no_difference_to_a_stem(tmp_path: Path, name: str) -> None:
    place(tmp_path / "d/A" / name)
    place(tmp_path / "d/A/Mixture.Wav")
    (song,) = dataset.songs(tmp_path / "d")
    assert song.stems == {"vocals": tmp_path / "d/A" / name}
    assert song.mixture == tmp_path / "d/A/Mixture.Wav"


@pytest.mark.parametrize(
    "names",
    [("Bass.wav", "bass.wav"), ("bass.WAV", "bass.wav"), ("BASS.FLAC", "bass.flac"), ("Mixture.wav", "mixture.wav")],
)
def test_two_files_that_differ_in_case_are_refused_by_name(tmp_path: Path, names: tuple[str, str]) -> None:
    place(tmp_path / "d/A/vocals.wav")
    for name in names:
        place(tmp_path / "d/A" / name)
    with pytest.raises(DatasetError) as caught:
        dataset.songs(tmp_path / "d")
    assert all(name in str(caught.value) for name in names)
    result = check(tmp_path / "d")
    assert result.exit_code == 1
    assert all(name in result.output for name in names)


@pytest.mark.parametrize("what", ["link", "folder", "song", "split"])
def test_a_name_that_leads_to_no_file_is_not_silence(tmp_path: Path, what: str) -> None:
    place(tmp_path / "d/train/A/vocals.wav")
    name = {"link": "train/A/bass.wav", "folder": "train/A/drums.wav", "song": "train/B", "split": "val"}[what]
    if what == "folder":
        (tmp_path / "d" / name).mkdir()
    else:
        (tmp_path / "d" / name).symlink_to("pruned/from/the/cache")
    with pytest.raises(DatasetError, match=name):
        dataset.songs(tmp_path / "d")


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("train/B/lead.wav", "no vocals, bass, drums, other"),
        ("train/B/vocals.tta", ".tta"),
        ("train/B/stems/vocals.wav", "no vocals, bass, drums, other"),
        ("train/A/guitar.wav", "expected vocals"),
        ("train/A/Bass.TTA", ".TTA is not read"),
        ("train/A/takes/vocals.wav", "a folder in a song's folder"),
        ("train/A/vocals.flac", "vocals.wav is read"),
        ("train/vocals.wav", "in no song's folder"),
        ("mixture.mp3", "in no song's folder"),
        ("extra/B/vocals.wav", "is no split"),
        ("B/vocals.wav", "a song beside the splits"),
        ("train/.B/vocals.wav", "hidden"),
        ("train/C/mixture.wav", "no vocals, bass, drums, other"),
    ],
)
def test_audio_that_is_not_read_is_said(tmp_path: Path, left: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    place(tmp_path / "d/train/A/vocals.wav")
    (tmp_path / "d" / left).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(tmp_path / "d/train/A/vocals.wav", tmp_path / "d" / left)
    assert len(dataset.songs(tmp_path / "d", "train")) == 1
    (record,) = caplog.records
    assert said in record.getMessage()
    assert any(f"{part} (" in record.getMessage() for part in Path(left).parts)
    result = check(tmp_path / "d")
    assert (result.exit_code, said in result.output) == (1, True), result.output


def test_a_folder_without_any_audio_is_listed_by_the_check_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place(tmp_path / "d/train/A/vocals.wav")
    (tmp_path / "d/train/B").mkdir()
    dataset.songs(tmp_path / "d", "train")
    assert not caplog.records
    result = check(tmp_path / "d")
    assert result.exit_code == 1, "the song lacks its mixture"
    assert f"{tmp_path / 'd/train/B'}\n       warning not read: no audio in it [no-song]" in result.output


def test_a_folder_of_anything_else_says_what_is_there(tmp_path: Path) -> None:
    place(tmp_path / "data/wet/train/A/vocals.wav")
    with pytest.raises(DatasetError, match=r"found none; not read: wet \("):
        dataset.songs(tmp_path / "data")
    with pytest.raises(DatasetError, match=r"found none; not read: vocals.wav \(lies in no song's folder"):
        dataset.songs(tmp_path / "data/wet/train/A")


@pytest.mark.parametrize("name", ["valid", "validation", "dev", "Val", "VALIDATION"])
def test_a_split_has_any_of_its_usual_names(tmp_path: Path, name: str) -> None:
    for number, song in enumerate(("Training/A", f"{name}/B", "testing/C")):
        place(tmp_path / "d" / song / "vocals.wav", number)
    found = {split: [song.name for song in dataset.songs(tmp_path / "d", split)] for split in ("train", "val", "test")}
    assert found == {"train": ["A"], "val": ["B"], "test": ["C"]}
    assert dataset.songs(tmp_path / "d", "validation") == dataset.songs(tmp_path / "d", "val")


@pytest.mark.parametrize("names", [("val", "valid"), ("dev", "validation"), ("train", "Train"), ("test", "testing")])
def test_two_folders_of_one_split_are_refused_by_name(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        place(tmp_path / "d" / name / f"{number}/vocals.wav", number)
    with pytest.raises(DatasetError) as caught:
        dataset.songs(tmp_path / "d")
    assert all(name in str(caught.value) for name in names)


def test_a_song_may_be_called_like_a_split(tmp_path: Path) -> None:
    for number, name in enumerate(("Dev", "Test", "Another")):
        place(tmp_path / "d" / name / "vocals.wav", number)
    assert [song.name for song in dataset.songs(tmp_path / "d", "train")] == ["Another", "Dev", "Test"]


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    place(tmp_path / "d/train/A/vocals.wav")
    with pytest.raises(SettingsError, match="'holdout': no name of a split; expected one of train, training, val"):
        dataset.songs(tmp_path / "d", "holdout")


def test_more_shards_than_songs_leave_the_last_ones_empty(tmp_path: Path) -> None:
    for number, name in enumerate("AB"):
        place(tmp_path / "d" / name / "vocals.wav", number)
    songs = dataset.songs(tmp_path / "d")
    parts = [[song.name for song in dataset.shard_of(songs, (number, 4))] for number in (1, 2, 3, 4)]
    assert parts == [["A"], ["B"], [], []]
    with pytest.raises(SettingsError, match="from 1 to 4"):
        dataset.shard_of(songs, (5, 4))


def songs_below(folder: Path) -> dict[str, list[str]]:
    return {path.name: sorted(song.name for song in path.iterdir()) for path in sorted(folder.iterdir())}


def test_a_folder_of_songs_is_split_by_their_names_the_same_each_time(tmp_path: Path) -> None:
    for number, name in enumerate("ABCDEFGH"):
        for folder in ("one", "two", "whole"):
            place(tmp_path / folder / name / "vocals.wav", number)
    split.run(tmp_path / "whole", val=3, test=1)
    found = songs_below(tmp_path / "whole")
    assert {name: len(songs) for name, songs in found.items()} == {"test": 1, "train": 4, "val": 3}
    (tmp_path / "one/val").mkdir()
    (tmp_path / "one" / found["val"][0]).rename(tmp_path / "one/val" / found["val"][0])  # as if it had been killed then
    split.run(tmp_path / "one", val=3, test=1)
    assert songs_below(tmp_path / "one") == found
    result = CliRunner().invoke(main, ["split", str(tmp_path / "two"), "--val", "3", "--test", "1"])
    assert result.exit_code == 0, result.output
    assert songs_below(tmp_path / "two") == found


def test_songs_for_val_are_taken_from_train_and_test_stays(tmp_path: Path) -> None:
    for number, name in enumerate(("train/A", "train/B", "train/C", "test/D")):
        place(tmp_path / "d" / name / "vocals.wav", number)
    split.run(tmp_path / "d", val=1)
    found = songs_below(tmp_path / "d")
    assert (len(found["train"]), len(found["val"]), found["test"]) == (2, 1, ["D"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "expected a number"),
        ({"val": -1}, "expected a number"),
        ({"val": 2}, "more than 2"),
        ({"val": 1}, "B: expected no songs in val"),
    ],
)
def test_a_split_that_cannot_be_moves_nothing(tmp_path: Path, options: dict[str, int], said: str) -> None:
    for number, name in enumerate(("train/A", "val/B")):
        place(tmp_path / "d" / name / "vocals.wav", number)
    before = songs_below(tmp_path / "d")
    if options == {"val": 1}:
        place(tmp_path / "d/train/C/vocals.wav", 3)
        place(tmp_path / "d/train/D/vocals.wav", 4)
        before = songs_below(tmp_path / "d")
    with pytest.raises(FxnormError, match=said):
        split.run(tmp_path / "d", **options)
    assert songs_below(tmp_path / "d") == before

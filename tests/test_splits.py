"""The kind: a song is in two splits of one training: a network is judged by what it knows by heart, and nobody is told.

Whether by a folder that serves every split, by a copy, a link or a name: it is refused before any work, in one line.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from fxnorm.cli import main
from fxnorm.data.dataset import Layout, songs
from fxnorm.data.splits import read_splits, refuse_tested_before
from fxnorm.errors import DatasetError, SettingsError
from fxnorm.io import audio
from fxnorm.normalization.recipe import Recipe
from fxnorm.settings import NormalizeSettings, StatisticsSettings
from fxnorm.stages import normalize, statistics
from tests.commands import fxnorm, the_line
from tests.conftest import noise

MakeSong = Callable[..., Path]
STATISTICS = Path(__file__).parent / "data/effects/musdb18_statistics.npz"


@pytest.fixture
def data(make_song: MakeSong, tmp_path: Path) -> Path:
    """Two songs for training, one for validation, one to test with."""
    for number, song in enumerate(("train/A", "train/B", "val/C", "test/D")):
        make_song(f"data/{song}", seconds=0.2, seed=number)
    return tmp_path / "data"


@pytest.fixture
def normalized(data: Path, mixer_folder: Path) -> Path:
    """The same songs with a recipe, as if they were normalized."""
    (data / "recipe").mkdir()
    Recipe.load(mixer_folder).save(data / "recipe")
    return data


def copy(data: Path, source: str, target: str) -> None:
    shutil.copytree(data / source, data / target)


def link(data: Path, source: str, target: str) -> None:
    (data / target).symlink_to(data / source, target_is_directory=True)


def same_name(data: Path, source: str, target: str) -> None:
    """Another song of the same name, but for case and the codes of its accents."""
    (data / source).rename(data / Path(source).parent / "Ére")
    audio.write(data / Path(target).parent / "e\u0301re/bass.wav", noise(0.2, seed=77))


def without_mixture(data: Path, source: str, target: str) -> None:
    copy(data, source, target)
    (data / target / "mixture.wav").unlink()


def mixture_alone_is_the_same(data: Path, source: str, target: str) -> None:
    audio.write(data / target / "bass.wav", noise(0.2, seed=77))
    shutil.copy(data / source / "mixture.wav", data / target)


TWINS = [copy, link, without_mixture, mixture_alone_is_the_same]


@pytest.mark.parametrize("twin", TWINS)
@pytest.mark.parametrize("splits", [("train", "val"), ("train", "test"), ("val", "test")])
def test_normalizing_refuses_a_song_in_two_splits(
    data: Path, tmp_path: Path, twin: Callable[[Path, str, str], None], splits: tuple[str, str]
) -> None:
    source = next((data / splits[0]).iterdir())
    twin(data, f"{splits[0]}/{source.name}", f"{splits[1]}/Twin")
    line = the_line(fxnorm("normalize", data, STATISTICS, tmp_path / "out"))
    assert f"{data}: expected each song in one split, found {splits[0]}/" in line
    assert f"{splits[1]}/" in line
    assert not (tmp_path / "out").exists()


def test_two_songs_of_one_name_in_two_splits_are_said(data: Path) -> None:
    source, target = next((data / "train").iterdir()), next((data / "val").iterdir())
    same_name(data, f"train/{source.name}", f"val/{target.name}")
    result = CliRunner().invoke(main, ["check", str(data), "--workers", "1"])
    found = next(line for line in result.output.splitlines() if "[same-name]" in line)
    assert found.endswith(f"has the name of {data / 'train/Ére'}: are they different songs? [same-name]")


@pytest.mark.parametrize("twin", TWINS)
def test_training_refuses_a_song_in_both_splits(
    normalized: Path, tmp_path: Path, twin: Callable[[Path, str, str], None]
) -> None:
    twin(normalized, "train/A", "val/Twin")
    assert "expected each song in one split" in the_line(fxnorm("train", normalized, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_evaluation_and_the_check_refuse_songs_to_test_with_that_are_in_another_split(data: Path) -> None:
    copy(data, "train/A", "test/Twin")
    with pytest.raises(DatasetError, match="found train/A and test/Twin with the same sound"):
        refuse_tested_before(Layout.read(data), "testing")
    refuse_tested_before(Layout.read(data), "val")  # is in no other split
    result = fxnorm("check", data, "--workers", 1)
    assert result.exit_code == 1
    assert f"{data / 'test/Twin'}: " in result.output
    assert f"error   the same samples as {data / 'train/A'} [leak]" in result.output


def test_songs_that_share_silence_are_different_songs_and_a_shared_stem_is_said(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for song in ("train/A", "val/C"):
        audio.write(data / song / "drums.wav", np.zeros((2, 8820)), subtype="PCM_16")
    assert set(read_splits(data, ("train", "val"))) == {"train", "val"}
    assert not caplog.records
    shutil.copy(data / "train/A/bass.wav", data / "val/C/bass.wav")
    read_splits(data, ("train", "val"))
    assert "have a stem in common: train/A and val/C (bass.wav)" in caplog.text


@pytest.mark.parametrize("shard", [(), ("--shard", "1/2")])
def test_a_folder_of_songs_does_not_serve_for_training_and_validation(
    data: Path, tmp_path: Path, shard: tuple[str, ...]
) -> None:
    line = the_line(fxnorm("normalize", data / "train", STATISTICS, tmp_path / "out", *shard))
    assert f"{data / 'train'}: expected the folders train and val" in line
    assert f"'fxnorm split {data / 'train'} --val N'" in line
    assert not (tmp_path / "out").exists()


def test_training_refuses_a_folder_of_songs(normalized: Path, tmp_path: Path) -> None:
    for song in songs(normalized):
        song.folder.rename(normalized / song.name)
    for split in ("train", "val", "test"):
        (normalized / split).rmdir()
    assert "expected the folders train and val" in the_line(fxnorm("train", normalized, tmp_path / "out"))


def test_a_folder_of_songs_serves_for_a_single_split(data: Path) -> None:
    assert [song.name for song in read_splits(data / "train", ("train",))["train"]] == ["A", "B"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: shutil.rmtree(data / "val"), "expected a split 'val', found train, test; 'fxnorm split"),
        (lambda data: shutil.rmtree(data / "val/C"), "val: expected song folders"),
        (lambda data: (data / "val").rename(data / "holdout"), "not read: holdout (holds songs, but is no split"),
        (lambda data: copy(data, "val", "valid"), "one folder of the split 'val', found val and valid"),
    ],
)
def test_without_songs_for_validation_nothing_is_normalized(
    data: Path, tmp_path: Path, change: Callable[[Path], None], said: str
) -> None:
    change(data)
    assert said in the_line(fxnorm("normalize", data, STATISTICS, tmp_path / "out"))


@pytest.mark.parametrize(("splits", "said"), [(("val", "valid"), "named twice"), ((), "at least one"), (("x",), "'x'")])
def test_splits_that_are_none_are_named(data: Path, splits: tuple[str, ...], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_splits(data, splits)


@pytest.mark.parametrize("split", ["val", "dev"])
def test_shards_are_those_of_the_split_that_the_settings_name(data: Path, tmp_path: Path, split: str) -> None:
    """The kind: songs are counted on another split than the one that is worked on, and a shard too many fails."""
    wanted = StatisticsSettings(split=split)
    parts = [tmp_path / f"{number}.npz" for number in (1, 2)]
    for number, part in enumerate(parts, start=1):
        statistics.run(wanted, data, part, workers=1, shard=(number, 2))
    statistics.merge(parts, tmp_path / "merged.npz")
    statistics.run(wanted, data, tmp_path / "whole.npz", workers=1)
    assert (tmp_path / "merged.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    outputs = [tmp_path / f"out{number}" for number in (1, 2)]
    for number, output in enumerate(outputs, start=1):
        settings = NormalizeSettings(splits=(split,), effects=("loudness",))
        normalize.run(settings, data, tmp_path / "whole.npz", output, workers=1, shard=(number, 2))
    normalize.gather(outputs, tmp_path / "gathered")
    assert [song.name for song in songs(tmp_path / "gathered", "val")] == ["C"]


def test_splits_that_later_stages_need_are_said_to_be_missing_before_anything_is_measured(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(data / "test")
    (data / "train/A/vocals.wav").write_bytes(b"so that it ends at once")
    with pytest.raises(DatasetError):
        statistics.run(StatisticsSettings(split="testing"), data, tmp_path / "s.npz", workers=1)
    with pytest.raises(Exception, match="vocals"):
        statistics.run(StatisticsSettings(), data, tmp_path / "s.npz", workers=1)
    assert "no songs in test; 'fxnorm train' needs train and val, and 'fxnorm evaluate' test" in caplog.text

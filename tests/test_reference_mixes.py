"""Songs with several reference mixes: which are read, which one a mix is compared with, and that it is said."""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fxnorm import Mixer
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.data.dataset import Layout
from fxnorm.effects import loudness
from fxnorm.evaluation.comparison import SplitMetrics, measure
from fxnorm.evaluation.results import COLUMNS, read_table, write_table
from fxnorm.evaluation.songs import distances, nearest_references, read_references
from fxnorm.io import audio
from fxnorm.normalization.recipe import song_seed
from tests.commands import the_line
from tests.conftest import noise

MakeSong = Callable[..., Path]


def test_more_mixtures_of_a_song_to_test_with_are_read_by_name_after_the_mixture(
    make_song: MakeSong, tmp_path: Path
) -> None:
    folder = make_song("data/test/A", seconds=0.1)
    for name in ("mixture_zoe.wav", "MIXTURE_Ann.flac", "mixture_.wav", "mixture2.wav"):
        audio.write(folder / name, noise(0.2), subtype="PCM_16")
    layout = Layout.read(tmp_path / "data")
    (song,) = layout.of("test")
    assert list(song.references) == ["mixture", "MIXTURE_Ann", "mixture_zoe"]
    assert [path.name for path in song.files][len(STEMS) :] == ["mixture.wav", "MIXTURE_Ann.flac", "mixture_zoe.wav"]
    assert song.seconds == pytest.approx(0.2)
    assert [unused.path.name for unused in layout.unused] == ["mixture2.wav", "mixture_.wav"]


def test_a_song_may_have_named_mixtures_instead_of_the_plain_one(make_song: MakeSong, tmp_path: Path) -> None:
    folder = make_song("songs/A", seconds=0.1)
    (folder / "mixture.wav").rename(folder / "mixture_ann.wav")
    (song,) = dataset.songs(tmp_path / "songs")
    assert song.mixture is None
    assert list(read_references(song)) == ["mixture_ann"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_songs_to_learn_from_have_one_mixture(make_song: MakeSong, tmp_path: Path, split: str) -> None:
    folder = make_song(f"data/{split}/A", seconds=0.1)
    shutil.copy(folder / "mixture.wav", folder / "mixture_ann.wav")
    layout = Layout.read(tmp_path / "data")
    (song,) = layout.of(split)
    assert list(song.references) == ["mixture"]
    (unused,) = layout.unused
    assert unused.path == folder / "mixture_ann.wav"
    assert "only a song to test with" in unused.reason


def test_the_digest_of_a_song_with_one_mixture_is_that_of_its_files(make_song: MakeSong, tmp_path: Path) -> None:
    folder = make_song("songs/A", seconds=0.1)
    expected = hashlib.sha256()
    for name in (*STEMS, "mixture"):
        expected.update(f"{name}.wav".encode() + hashlib.sha256((folder / f"{name}.wav").read_bytes()).digest())
    (song,) = dataset.songs(tmp_path / "songs")
    assert song.digest() == expected.hexdigest()
    shutil.copy(folder / "mixture.wav", folder / "mixture_ann.wav")
    (with_another,) = dataset.songs(tmp_path / "songs")
    assert with_another.digest() != song.digest()


def test_references_are_equally_long_and_as_loud_as_the_first(make_song: MakeSong, tmp_path: Path) -> None:
    folder = make_song("songs/A", seconds=1.0)
    audio.write(folder / "mixture_ann.wav", noise(1.5, 0.02, seed=3))
    (song,) = dataset.songs(tmp_path / "songs")
    first, second = read_references(song).values()
    assert first.shape == second.shape == (2, round(1.5 * SAMPLE_RATE))
    np.testing.assert_array_equal(first[:, :SAMPLE_RATE], song.read_mixture())
    assert loudness.measure(second, SAMPLE_RATE) == pytest.approx(loudness.measure(first, SAMPLE_RATE), abs=0.01)


def test_each_mix_is_compared_with_the_reference_of_the_least_loss_and_else_with_the_first() -> None:
    references = {name: noise(0.5, 0.2, seed) for seed, name in enumerate(("mixture", "mixture_ann", "mixture_zoe"))}
    mixes = {
        "reference": references["mixture"],
        "same": references["mixture_ann"],
        "near": 1.1 * references["mixture_zoe"],
    }
    assert nearest_references(mixes, references) == {"same": "mixture_ann", "near": "mixture_zoe"}
    twins = {"mixture_b": references["mixture"], "mixture_a": references["mixture"]}
    assert nearest_references(mixes, twins) == {"same": "mixture_b", "near": "mixture_b"}


@pytest.mark.system
def test_a_mixture_whose_name_is_no_text_is_refused_before_the_work(
    make_song: MakeSong, mixer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_song("data/test/A", seconds=0.1)
    shutil.copy(folder / "mixture.wav", folder / "mixture_\udcff.wav")
    result = CliRunner().invoke(main, ["evaluate", str(mixer_folder), "data", "reports"])
    assert "expected a mixture of A with a name in UTF-8" in the_line(result)
    assert not Path("reports").exists()


@pytest.mark.system
def test_an_evaluation_takes_the_nearest_reference_and_says_so(
    make_song: MakeSong, mixer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = make_song("data/wet/test/A", seconds=1.5, seed=1)
    make_song("data/wet/test/B", seconds=1.0, seed=2, gains={"vocals": 1.5})
    mixer_copy = shutil.copytree(mixer_folder, tmp_path / "mixer")
    mixer = Mixer.load(mixer_copy, torch.device("cpu"))
    (song, _) = dataset.songs(tmp_path / "data/wet", "test")
    mixed = mixer.mix(song.read_stems(), SAMPLE_RATE, seed=song_seed(0, "A"))
    audio.write(folder / "mixture_ann.wav", 0.5 * mixed)

    result = CliRunner().invoke(main, ["evaluate", str(mixer_copy), "data/wet", "reports", "--workers", "1"])
    assert result.exit_code == 0, result.output
    assert "1 song has several reference mixes" in result.output
    page = Path("reports/report.html").read_text(encoding="utf-8")
    assert "the one that is shown is mixture_ann" in page
    assert "sum of the input stems with mixture," in page
    with open("reports/songs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    named = {(row["song"], row["system"]): row["reference"] for row in rows}
    assert {system: name for (of, system), name in named.items() if of == "A"} == {
        "reference": "mixture_ann", "input_sum": "mixture", "normalized_sum": "mixture_ann", "crafx2": "mixture_ann"
    }  # fmt: skip
    assert {name for (of, _), name in named.items() if of == "B"} == {""}

    (song, _) = dataset.songs(tmp_path / "data/wet", "test")
    values = {(row["song"], row["system"], row["metric"]): float(row["value"]) for row in rows}
    reference = audio.pad_to(read_references(song)["mixture_ann"], mixed.shape[1])
    for metric, value in distances({"crafx2": mixed}, reference)["crafx2"].items():
        assert values["A", "crafx2", metric] == pytest.approx(value, rel=1e-3, abs=1e-6)
    assert values["A", "input_sum", "residual"] < 0.01

    means = json.loads(Path("reports/metrics.json").read_text())["test_wet"]
    by_song = measure(mixer, tmp_path / "data/wet", "test", "test_wet")
    alone = {metric: np.mean([found[metric] for found in by_song.values()]) for metric in by_song["A"]}
    assert alone == pytest.approx({metric: means["crafx2"][metric] for metric in alone}, rel=1e-3, abs=1e-6)


def test_the_table_names_references_only_where_there_are_several(tmp_path: Path) -> None:
    songs = {"A": {"reference": {"loudness_range_lu": 3.0}, "crafx2": {"stereo_loss_b": 0.5}}}
    one, several = SplitMetrics(songs), SplitMetrics(songs, {"A": {"reference": "mixture_x", "crafx2": "mixture_x"}})
    write_table({"test_wet": one}, tmp_path / "one.csv")
    write_table({"test_wet": several}, tmp_path / "several.csv")
    assert (tmp_path / "one.csv").read_bytes().splitlines()[0] == ",".join(COLUMNS).encode()
    assert read_table(tmp_path / "one.csv") == {"test_wet": one}
    assert read_table(tmp_path / "several.csv") == {"test_wet": several}

"""Which datasets and licences a model is from, from the songs' records to the Mixer directory."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fxnorm.data import provenance
from fxnorm.data.importers.provenance import FileRecord, SongRecord, as_json
from fxnorm.data.provenance import Share, Source, TrainedOn
from fxnorm.data.splits import read_splits
from fxnorm.errors import DatasetError
from fxnorm.io import audio
from fxnorm.normalization.recipe import RECIPE_FOLDER
from fxnorm.settings import NormalizeSettings, StatisticsSettings
from fxnorm.stages import normalize, statistics
from tests.conftest import noise

ACADEMIC = Source(dataset="MUSDB18-HQ", licence="Academic use only", commercial=False)
FREE = Source(dataset="Slakh", licence="CC-BY-4.0", commercial=True)


def record(source: Source) -> dict[str, Any]:
    """A song's record, as an import writes it."""
    files = {name: FileRecord(sha256="0" * 64) for name in ("vocals.wav", "mixture.wav")}
    song = SongRecord(
        kind="folders",
        source="/songs",
        original="A",
        name="A",
        part="wet",
        split="train",
        split_reason="the user's file of splits",
        link=False,
        mixture="file",
        groups={},
        files=files,
        **source.model_dump(),
    )
    return as_json(song)


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Imported songs, one of them noted in ``import.json`` alone, and songs of the user's own."""
    songs = {"train/A": ACADEMIC, "train/B": FREE, "train/Own": None, "val/C": ACADEMIC, "val/D": FREE}
    noted = {"wet/train/gone": record(FREE)}
    for number, (name, source) in enumerate(songs.items()):
        folder = tmp_path / "data/wet" / name
        for file in ("vocals.wav", "mixture.wav"):
            audio.write(folder / file, noise(0.5, 0.2, number))
        if source is not None:
            noted[f"wet/{name}"] = record(source)
            if name != "train/B":
                write(folder / provenance.RECORD_FILE, record(source))
    write(tmp_path / "data" / provenance.PROVENANCE_FILE, {"format": 1, "datasets": [], "songs": noted})
    return tmp_path / "data/wet"


def found(data: Path) -> dict[str, Source]:
    return provenance.sources_of(data, read_splits(data, ("train", "val")))


def test_a_song_is_from_where_its_record_says_and_else_of_unknown_origin(data: Path, tmp_path: Path) -> None:
    expected = {"train/A": ACADEMIC, "train/B": FREE, "val/C": ACADEMIC, "val/D": FREE}
    assert found(data) == expected
    (data / "train/B").rename(data / "val/B")  # known by name, in any split
    (data / "val/C").rename(data / "val/renamed")  # has its record with it
    shutil.rmtree(data / "val/D")
    assert found(data) == {"train/A": ACADEMIC, "val/B": FREE, "val/renamed": ACADEMIC}
    (data / "val/B/vocals.wav").rename(data / "val/B/bass.wav")
    assert "val/B" not in found(data), "another song by its files, which was given the name"
    (tmp_path / "data/import.json").unlink()
    (data / "train/A/.import.json").unlink()
    assert found(data) == {"val/renamed": ACADEMIC}


def test_the_records_of_many_songs_are_read(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / provenance.PROVENANCE_FILE
    path.write_text(path.read_text() + " " * 2**24)
    assert found(data)["train/B"] == FREE


@pytest.mark.parametrize("content", ["[", "[]", '{"songs": 3}', '{"songs": {"wet/train/B": {"dataset": "x"}}}'])
def test_a_file_of_another_shape_is_one_line_that_names_it(data: Path, tmp_path: Path, content: str) -> None:
    path = tmp_path / "data/import.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=rf"^{path}: expected where songs are from") as caught:
        found(data)
    assert "\n" not in str(caught.value)


def test_the_origin_travels_with_the_normalized_songs_to_the_mixer(data: Path, tmp_path: Path) -> None:
    averages, output = tmp_path / "statistics.npz", tmp_path / "normalized"
    statistics.run(StatisticsSettings(), data, averages, workers=1)
    settings = NormalizeSettings(effects=("loudness",))
    normalize.run(settings, data, averages, output, workers=1)
    recipe = output / RECIPE_FOLDER
    stamps = {path: path.stat().st_mtime_ns for path in output.glob("*/*/*.wav")}
    assert json.loads((recipe / provenance.SOURCES_FILE).read_text()) == {
        name: source.model_dump() for name, source in found(data).items()
    }
    shutil.rmtree(output / "val/D")
    learnt = provenance.trained_on(recipe, read_splits(output, ("train", "val")), None)
    assert learnt.shares == (
        Share(**ACADEMIC.model_dump(), train=1, val=1),
        Share(**FREE.model_dump(), train=1),
        Share(train=1),
    )

    write(data / "train/A" / provenance.RECORD_FILE, record(FREE))  # a corrected licence makes no song anew
    normalize.run(settings, data, averages, output, workers=1)
    assert {path: path.stat().st_mtime_ns for path in stamps if "/D/" not in str(path)} == {
        path: stamp for path, stamp in stamps.items() if "/D/" not in str(path)
    }
    learnt = provenance.trained_on(recipe, read_splits(output, ("train", "val")), None)
    assert learnt.licences == ["Academic use only", "CC-BY-4.0", "unknown"]

    for song in data.glob("*/*"):
        (song / provenance.RECORD_FILE).unlink(missing_ok=True)
    (tmp_path / "data/import.json").unlink()
    normalize.run(settings, data, averages, output, workers=1)
    assert not (recipe / provenance.SOURCES_FILE).exists()
    assert not provenance.trained_on(recipe, read_splits(output, ("train", "val")), None).is_known


def test_weights_that_a_training_begins_with_were_learnt_from_songs_too(data: Path, tmp_path: Path) -> None:
    splits = read_splits(data, ("train", "val"))
    front_end, recipe = tmp_path / "front_end", tmp_path / "recipe"
    front_end.mkdir()
    recipe.mkdir()
    provenance.note(recipe, found(data))
    unknown = provenance.trained_on(recipe, splits, front_end).shares[-1]
    assert (unknown.licence, unknown.initial_weights) == ("unknown", True)
    provenance.leave_in(front_end, TrainedOn(shares=(Share(**FREE.model_dump(), train=9),)))
    for named in (front_end, front_end / "weights.safetensors"):
        learnt = provenance.trained_on(recipe, splits, named)
        assert learnt.shares[-1] == Share(**FREE.model_dump(), train=9, initial_weights=True)
    provenance.leave_in(tmp_path, learnt)
    assert provenance.read(tmp_path) == learnt


def test_licences_are_compared_without_differences_of_case_and_hyphens() -> None:
    shares = (Share(dataset="A", licence="CC-BY-4.0"), Share(dataset="B", licence="Academic  use only"), Share())
    learnt = TrainedOn(shares=shares)
    assert learnt.outside(["cc by 4.0", "ACADEMIC USE ONLY", "unknown"]) == []
    assert learnt.outside(["CC-BY-4.0"]) == list(shares[1:])
    assert provenance.listed(learnt.outside(["CC-BY-4.0"])) == "B (Academic  use only), unknown"

"""``fxnorm evaluate`` as a command: several systems, several processes, stopped and started again."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from fxnorm import Mixer, audio, models, registry
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects.loudness import measure
from fxnorm.evaluation.songs import Task, evaluate, mix_all
from fxnorm.recipe import song_seed
from fxnorm.stages import evaluate as stage

MakeSong = Callable[..., Path]


def fxnorm_evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *(str(argument) for argument in arguments)])


def the_line(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.output.splitlines() if line.startswith("fxnorm: ")]
    return line


@pytest.fixture(scope="module")
def wave_u_net(mixer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mixer with another network behind the same normalization."""
    mixer = Mixer.load(mixer_folder, torch.device("cpu"))
    torch.manual_seed(0)
    mixer.network, mixer.run_in_seconds = models.build("wave_u_net", stride=2, features=8).eval(), 0.0
    folder = tmp_path_factory.mktemp("mixers") / "wave_u_net"
    mixer.save(folder)
    return folder


@pytest.fixture
def data(make_song: MakeSong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    make_song("data/wet/test/A", seconds=2.0, seed=1, gains={"vocals": 1.5})
    make_song("data/wet/test/B", seconds=1.5, seed=2, gains={"drums": 0.5})
    make_song("data/dry/test/A", seconds=1.0, seed=3, mixture=False)
    return tmp_path / "data"


def test_other_mixers_are_compared_under_their_names(
    data: Path, mixer_folder: Path, wave_u_net: Path, tmp_path: Path
) -> None:
    mixer = shutil.copytree(mixer_folder, tmp_path / "mixer")
    result = fxnorm_evaluate(mixer, data, "reports", "--also", f"wave_u_net={wave_u_net}", "--also", f"twin={mixer}")
    assert result.exit_code == 0, result.output
    metrics = json.loads(Path("reports/metrics.json").read_text())
    assert list(metrics["test_wet"]) == [
        "reference", "input_sum", "normalized_sum", "crafx2", "wave_u_net", "twin"
    ]  # fmt: skip
    assert metrics["test_wet"]["twin"] == metrics["test_wet"]["crafx2"] != metrics["test_wet"]["wave_u_net"]
    assert "reference" not in metrics["test_dry"]
    assert all(
        np.isfinite(value) for systems in metrics.values() for found in systems.values() for value in found.values()
    )
    found = json.loads(Path("reports/significance.json").read_text())["test_wet"]
    pairs = {(pair["first"], pair["second"]): pair for pair in found["pairs"]["stereo_loss_b"]}
    assert pairs["crafx2", "twin"]["p_value"] == 1
    assert all(pair["songs"] == 2 for pair in pairs.values())
    low, high = found["intervals"]["crafx2"]["stereo_loss_b"]
    assert low <= metrics["test_wet"]["crafx2"]["stereo_loss_b"] <= high
    with open("reports/songs.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["system"], row["metric"]) == ("twin", "stereo_loss_b")]
    assert [row["song"] for row in rows] == ["A", "B"]
    assert np.mean([float(row["value"]) for row in rows]) == metrics["test_wet"]["twin"]["stereo_loss_b"]
    assert "Wave-U-Net" in Path("reports/report.html").read_text()


@pytest.mark.parametrize(
    ("also", "said"),
    [
        (["crafx2={mixer}"], "'crafx2': the report has a system of this name already"),
        (["reference={mixer}"], "'reference': the report has a system of this name already"),
        (["a/b={mixer}"], "'a/b': expected a name of letters"),
        (["{mixer}"], "expected NAME=MIXER"),
        (["a={mixer}", "a={mixer}"], "expected NAME=MIXER, with a name of its own"),
        (["a=nowhere"], "nowhere: expected a Mixer directory"),
        (["a=models:/nobody@champion"], "models:/nobody@champion: not in the registry"),
    ],
)
def test_a_system_that_cannot_be_compared_is_named_before_anything_is_mixed(
    data: Path, mixer_folder: Path, also: list[str], said: str
) -> None:
    options = [text for item in also for text in ("--also", item.format(mixer=mixer_folder))]
    assert said in the_line(fxnorm_evaluate(mixer_folder, data, "reports", *options))
    assert not Path("reports").exists()


def test_other_mixers_can_be_named_in_the_settings(data: Path, mixer_folder: Path) -> None:
    line = the_line(fxnorm_evaluate(mixer_folder, data, "reports", "--set", "evaluate.also.a=nowhere"))
    assert "nowhere: expected a Mixer directory" in line


def test_a_registered_version_can_be_named(data: Path, mixer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, folder: str) -> Path:
        assert name == "models:/name@champion"
        return shutil.copytree(mixer_folder, Path(folder) / "mixer")

    monkeypatch.setattr(registry, "_download", download)
    with registry.mixer_directory("models:/name@champion") as folder:
        assert (folder / "mixer.json").is_file()
    assert not folder.exists()


def stamps(folder: Path) -> set[int]:
    """When the network's mixes were written."""
    return {path.stat().st_mtime_ns for path in folder.rglob("crafx2.flac")}


def test_a_stopped_evaluation_goes_on_with_the_songs_it_has_not_finished(
    data: Path, mixer_folder: Path, tmp_path: Path
) -> None:
    mixer = shutil.copytree(mixer_folder, tmp_path / "mixer")
    bass = data / "wet/test/B/bass.wav"
    whole = bass.read_bytes()
    bass.write_bytes(whole[:-1000])
    assert "bass.wav: truncated" in the_line(fxnorm_evaluate(mixer, data, "reports", "--workers", 1))
    finished = stamps(Path("reports/.songs"))
    assert finished
    bass.write_bytes(whole)
    assert fxnorm_evaluate(mixer, data, "reports", "--workers", 1).exit_code == 0
    assert not Path("reports/.songs").exists()
    assert finished < stamps(Path("reports/mixes"))
    first = {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()}
    assert fxnorm_evaluate(mixer, data, "reports").exit_code == 0
    again = {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()}
    assert again == first, "the same bytes, with any number of processes"


def test_a_song_is_done_again_when_what_its_mixes_depend_on_changes(
    data: Path, mixer_folder: Path, wave_u_net: Path, tmp_path: Path
) -> None:
    (song,) = [song for song in stage.dataset.songs(data / "wet", "test") if song.name == "B"]
    systems = {"crafx2": mixer_folder}
    tasks = [
        Task(systems, frozenset(), 1.0, tmp_path / "songs"),
        Task(systems, frozenset([song.folder]), 1.0, tmp_path / "songs"),
        Task({**systems, "wave_u_net": wave_u_net}, frozenset(), 1.0, tmp_path / "songs"),
    ]
    assert len({evaluate(song, task).folder for task in tasks}) == len(tasks)
    assert evaluate(song, tasks[0]).folder == evaluate(song, tasks[0]).folder


def test_the_mixes_are_those_of_the_mixers_and_the_sums_are_as_loud_as_the_reference(
    data: Path, mixer_folder: Path, wave_u_net: Path
) -> None:
    (song,) = [song for song in stage.dataset.songs(data / "wet", "test") if song.name == "B"]
    stems, reference = song.read_stems(), song.read_mixture()
    mixes = mix_all("B", stems, {"crafx2": mixer_folder, "wave_u_net": wave_u_net}, False, reference)
    target = measure(reference, SAMPLE_RATE)
    assert measure(mixes["input_sum"], SAMPLE_RATE) == pytest.approx(target, abs=0.01)
    assert measure(mixes["normalized_sum"], SAMPLE_RATE) == pytest.approx(target, abs=0.01)
    for name, folder in (("crafx2", mixer_folder), ("wave_u_net", wave_u_net)):
        alone = Mixer.load(folder, torch.device("cpu")).mix(stems, SAMPLE_RATE, seed=song_seed(0, "B"))
        np.testing.assert_allclose(mixes[name], audio.pad_to(alone, mixes[name].shape[1]), atol=1e-6)

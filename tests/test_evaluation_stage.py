"""``fxnorm evaluate`` as a command: several systems, several processes, stopped and started again."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from fxnorm import Mixer, models
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.effects.loudness import measure
from fxnorm.errors import DatasetError
from fxnorm.evaluation import report
from fxnorm.evaluation.catalogue import DECISIVE
from fxnorm.evaluation.comparison import SplitMetrics, feature_distances
from fxnorm.evaluation.songs import EvaluationTask, distances, evaluate, measure_all, mix_all
from fxnorm.io import audio
from fxnorm.mixing.static_mix import StaticMix
from fxnorm.normalization.recipe import song_seed
from fxnorm.registry import registered
from fxnorm.statistics import DatasetStatistics
from fxnorm.tracking import runs
from tests.commands import the_line
from tests.conftest import noise
from tests.mixers import carry_little, changed

pytestmark = pytest.mark.system

MakeSong = Callable[..., Path]


def fxnorm_evaluate(*arguments: object) -> Result:
    """With short excerpts, which are encoded for each song and system."""
    options = ("--set", "evaluate.excerpt_seconds=0.5")
    return CliRunner().invoke(main, ["evaluate", *(str(argument) for argument in arguments), *options])


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
    assert found["intervals"]["crafx2"]["stereo_loss_b"] is None, "two songs have no interval"
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
        (["v1.2={mixer}"], "'v1.2': expected a name of letters"),
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


@pytest.mark.usefixtures("empty_pictures")
def test_a_registered_version_and_mixers_of_the_settings_are_compared(
    data: Path, mixer_folder: Path, wave_u_net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carry_little(monkeypatch, tmp_path / "code", example=False)
    tracking_uri = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        with mlflow.start_run() as run:
            pass
        version = registered.register(mixer_folder, "mixes", run.info.run_id, {})
        mixer = shutil.copytree(mixer_folder, tmp_path / "mixer")
        options = ("--set", f"evaluate.also.unet={wave_u_net}", "--also", f"registered=models:/mixes/{version}")
        result = fxnorm_evaluate(mixer, data / "wet", "reports", *options)
    finally:
        mlflow.set_tracking_uri(tracking_uri)
    assert result.exit_code == 0, result.output
    systems = json.loads(Path("reports/metrics.json").read_text())["test_wet"]
    assert systems["registered"] == systems["crafx2"] != systems["unet"]


def stamps(folder: Path) -> set[int]:
    """When the network's mixes were written."""
    return {path.stat().st_mtime_ns for path in folder.rglob("crafx2.flac")}


@pytest.mark.usefixtures("empty_pictures")
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


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_bytes(data: Path, mixer_folder: Path, tmp_path: Path) -> None:
    mixer = shutil.copytree(mixer_folder, tmp_path / "mixer")
    assert fxnorm_evaluate(mixer, data, "reports", "--workers", 1).exit_code == 0
    first = {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()}
    assert fxnorm_evaluate(mixer, data, "reports", "--workers", 2).exit_code == 0
    again = {path: path.read_bytes() for path in Path("reports").rglob("*") if path.is_file()}
    assert again == first


@pytest.mark.usefixtures("empty_pictures")
def test_what_was_mixed_is_kept_when_the_tracking_server_fails(
    data: Path, mixer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer = shutil.copytree(mixer_folder, tmp_path / "mixer")

    def refuse(*_: object) -> None:
        raise DatasetError("the server is not there")

    with monkeypatch.context() as patched:
        patched.setattr(runs.TrackedRun, "add_file", refuse)
        assert "the server is not there" in the_line(fxnorm_evaluate(mixer, data, "reports"))
    finished = stamps(Path("reports/.songs"))
    assert len(finished) == 3
    assert fxnorm_evaluate(mixer, data, "reports").exit_code == 0
    assert stamps(Path("reports/mixes")) == finished


def test_a_mix_without_a_metric_does_not_better_its_system() -> None:
    songs = {
        "A": {"crafx2": {"loudness_mape": 0.5}, "normalized_sum": {"loudness_mape": 0.4}},
        "B": {"crafx2": {}, "normalized_sum": {"loudness_mape": 0.9}},
    }
    assert SplitMetrics(songs).means() == {
        "crafx2": {"loudness_mape": 0.5}, "normalized_sum": {"loudness_mape": 0.4}
    }  # fmt: skip


@pytest.mark.usefixtures("empty_pictures")
def test_the_sum_of_wet_stems_is_left_out_where_it_is_the_reference_but_for_rounding(
    data: Path, mixer_folder: Path, tmp_path: Path
) -> None:
    mixer = shutil.copytree(mixer_folder, tmp_path / "mixer")
    for song in dataset.songs(data / "wet", "test"):
        total = np.sum(list(song.read_stems().values()), axis=0)
        dithered = total + np.random.default_rng(0).uniform(-1, 1, total.shape).astype(np.float32) / 2**15
        audio.write(song.folder / "mixture.wav", dithered, subtype="PCM_16")
    assert fxnorm_evaluate(mixer, data / "wet", "reports").exit_code == 0
    found = json.loads(Path("reports/metrics.json").read_text())["test_wet"]
    assert 0 < found["input_sum"]["residual"] < 0.01 < found["crafx2"]["residual"]
    pairs = json.loads(Path("reports/significance.json").read_text())["test_wet"]["pairs"]["stereo_loss_b"]
    assert [(pair["first"], pair["second"]) for pair in pairs] == [("normalized_sum", "crafx2")]
    assert "the sum of the input stems is the reference itself" in Path("reports/report.html").read_text()


def test_a_normalization_that_changes_nothing_leaves_nothing_to_win() -> None:
    for residual, loss in ((0.0, 0.0), (0.001, 1e-6)):
        same = {DECISIVE: loss, "residual": residual}
        found = SplitMetrics({"A": {"normalized_sum": same, "crafx2": {DECISIVE: 1.0, "residual": 1.0}}})
        split = report.Split(found.songs, found.means(), found.intervals(), found.pairs(), {})
        assert "the sum of the normalized stems is the reference itself" in report.verdict("test_wet", split)


def test_mixes_shorter_than_a_frame_are_measured() -> None:
    stems = {stem: noise(1.0, 0.1, seed)[:, :700] for seed, stem in enumerate(STEMS)}
    total = np.sum(list(stems.values()), axis=0)
    found, _ = measure_all({"reference": total, "crafx2": 0.5 * total}, stems, DatasetStatistics())
    assert found["crafx2"]["stereo_loss_b"] > 0
    assert all(np.isfinite(value) for value in found["crafx2"].values())


@pytest.mark.usefixtures("empty_pictures")
def test_a_song_is_done_again_when_what_its_mixes_depend_on_changes(
    data: Path, mixer_folder: Path, wave_u_net: Path, tmp_path: Path
) -> None:
    (song,) = [song for song in dataset.songs(data / "wet", "test") if song.name == "B"]
    systems = {"crafx2": mixer_folder}
    tasks = [
        EvaluationTask(systems, frozenset(), 1.0, tmp_path / "songs"),
        EvaluationTask(systems, frozenset([song.folder]), 1.0, tmp_path / "songs"),
        EvaluationTask({**systems, "wave_u_net": wave_u_net}, frozenset(), 1.0, tmp_path / "songs"),
        EvaluationTask(systems, frozenset(), 0.5, tmp_path / "songs"),
        EvaluationTask(
            {"crafx2": changed(mixer_folder, tmp_path / "changed", 1)}, frozenset(), 1.0, tmp_path / "songs"
        ),
    ]
    assert len({evaluate(song, task).folder for task in tasks}) == len(tasks)
    assert evaluate(song, tasks[0]).folder == evaluate(song, tasks[0]).folder


def test_the_mixes_are_those_of_the_mixers_and_the_sums_are_as_loud_as_the_reference(
    data: Path, mixer_folder: Path, wave_u_net: Path
) -> None:
    (song,) = [song for song in dataset.songs(data / "wet", "test") if song.name == "B"]
    stems, reference = song.read_stems(), song.read_mixture()
    mixes = mix_all("B", stems, {"crafx2": mixer_folder, "wave_u_net": wave_u_net}, False, reference)
    target = measure(reference, SAMPLE_RATE)
    assert measure(mixes["input_sum"], SAMPLE_RATE) == pytest.approx(target, abs=0.01)
    assert measure(mixes["normalized_sum"], SAMPLE_RATE) == pytest.approx(target, abs=0.01)
    for name, folder in (("crafx2", mixer_folder), ("wave_u_net", wave_u_net)):
        alone = Mixer.load(folder, torch.device("cpu")).mix(stems, SAMPLE_RATE, seed=song_seed(0, "B"))
        np.testing.assert_allclose(mixes[name], audio.pad_to(alone, mixes[name].shape[1]), atol=1e-6)


def test_level_does_not_decide_about_matched_metrics(data: Path) -> None:
    (song,) = [song for song in dataset.songs(data / "wet", "test") if song.name == "B"]
    reference = song.read_mixture()
    mixes = {"mix": reference + noise(reference.shape[1] / SAMPLE_RATE, 0.02, 4)}
    mixes |= {"quiet": 0.25 * mixes["mix"], "at level": reference}
    found = distances(mixes, reference)
    quiet, mix = found["quiet"], found["mix"]
    for name in ("stereo_loss_b_matched", "stereo_loss_a_matched", "true_peak_error_db_matched"):
        assert quiet[name] == pytest.approx(mix[name], rel=1e-3, abs=1e-3), name
        assert found["at level"][name] == pytest.approx(0, abs=1e-3), "nothing is further from itself for being matched"
    assert quiet["stereo_loss_b"] > 2 * mix["stereo_loss_b"]
    by_hand = 10 ** ((measure(reference, SAMPLE_RATE) - measure(mixes["mix"], SAMPLE_RATE)) / 20) * mixes["mix"]
    assert quiet["stereo_loss_b_matched"] == pytest.approx(
        distances({"mix": by_hand.astype(np.float32)}, reference)["mix"]["stereo_loss_b"], rel=1e-3
    )


@pytest.mark.usefixtures("empty_pictures")
def test_a_mixer_with_a_static_mix_has_it_as_a_system(data: Path, mixer_folder: Path, tmp_path: Path) -> None:
    mixer = shutil.copytree(mixer_folder, tmp_path / "mixer")
    StaticMix(np.ones((4, 2, 29)), 3).save(mixer)
    result = fxnorm_evaluate(mixer, data / "wet", "reports", "--workers", 1)
    assert result.exit_code == 0, result.output
    metrics = json.loads(Path("reports/metrics.json").read_text())["test_wet"]
    assert list(metrics) == ["reference", "input_sum", "normalized_sum", "static_mix", "crafx2"]
    # gains of 1 are the sum, which is brought to the reference's loudness
    assert metrics["static_mix"]["stereo_loss_b_matched"] == pytest.approx(
        metrics["normalized_sum"]["stereo_loss_b_matched"], rel=0.01
    )
    assert "the static mix: " in result.output
    page = Path("reports/report.html").read_text()
    assert "Who is nearer, song by song against each other" in page


def test_collections_of_mixes_are_compared_whichever_song_each_is_of() -> None:
    def songs(values: dict[str, list[float]]) -> list[dict[str, dict[str, float]]]:
        count = len(values["reference"])
        return [{system: {"width": of[n], "balance_1": of[n]} for system, of in values.items()} for n in range(count)]

    references = [1.0, 2.0, 3.0]
    found = feature_distances(songs({"reference": references, "turned": [3.0, 1.0, 2.0], "wide": [3.0, 4.0, 5.0]}))
    assert found == pytest.approx({"turned": 0.0, "wide": 2.0}), "in standard deviations of the references"
    assert feature_distances(songs({"reference": references[:2], "wide": [3.0, 4.0]})) == {}

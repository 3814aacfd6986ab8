"""The stages as commands: what they write, what they do not do twice, and what they say about bad input."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects.loudness import measure
from fxnorm.io import audio
from fxnorm.statistics import DatasetStatistics
from tests.commands import fxnorm, the_line
from tests.conftest import noise
from tests.folders import contents

pytestmark = pytest.mark.system

MakeSong = Callable[..., Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and its statistics, as every test gets a copy of."""
    folder = tmp_path_factory.mktemp("made")
    for number, (song, seconds) in enumerate({"train/A": 1.5, "train/B": 1.0, "val/C": 1.0}.items(), start=1):
        stems = {stem: noise(seconds, 0.2, number * 10 + index) for index, stem in enumerate(STEMS)}
        for name, samples in (stems | {"mixture": np.sum(list(stems.values()), axis=0)}).items():
            audio.write(folder / "wet" / song / f"{name}.wav", samples, subtype="PCM_16")
    audio.write(folder / "rooms/short.wav", noise(0.05))
    result = fxnorm("statistics", folder / "wet", folder / "statistics.npz")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def wet(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "wet", tmp_path / "wet")


@pytest.fixture
def statistics(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made / "statistics.npz", tmp_path / "statistics.npz"))


def test_statistics_average_the_training_songs_and_have_the_same_bytes_each_time(
    wet: Path, statistics: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.npz"
    assert fxnorm("statistics", wet, again, "--plot", tmp_path / "plots/s.png", "--workers", 2).exit_code == 0
    assert again.read_bytes() == statistics.read_bytes()
    assert (tmp_path / "plots/s.png").read_bytes().startswith(b"\x89PNG")
    loaded = DatasetStatistics.load(statistics)
    assert all(loaded.count("loudness", stem) == 2 for stem in STEMS)
    assert loaded.count("equalization", "mixture") == 2


def test_normalized_stems_have_the_same_bytes_each_time_and_finished_songs_are_not_done_again(
    wet: Path, statistics: Path, tmp_path: Path
) -> None:
    output = tmp_path / "normalized"
    assert fxnorm("normalize", wet, statistics, output, "--workers", 1).exit_code == 0
    first = contents(output)
    assert {name for name in first if name.endswith(".wav") and "recipe" not in name} == {
        f"{song}/{name}.wav" for song in ("train/A", "train/B", "val/C") for name in (*STEMS, "mixture")
    }
    stamp = (output / "train/A/bass.wav").stat().st_mtime_ns
    shutil.rmtree(output / "train/B")  # as if the run had been killed before it
    shutil.copytree(output / "train/A", output / "train/Gone")  # and the dataset had held other songs then
    shutil.copytree(output / "val/C", output / "test/Gone")  # and another split had been asked for
    assert fxnorm("normalize", wet, statistics, output, "--workers", 1).exit_code == 0
    assert contents(output) == first
    assert (output / "train/A/bass.wav").stat().st_mtime_ns == stamp
    assert not (output / "train/Gone").exists()
    assert not (output / "test").exists()
    (output / "train/A/digest").unlink()
    assert "train/A: holds " in the_line(fxnorm("normalize", wet, statistics, output, "--workers", 1))


def test_songs_that_other_code_normalized_are_done_again_to_the_same_bytes(
    wet: Path, statistics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "normalized"
    assert fxnorm("normalize", wet, statistics, output, "--workers", 1).exit_code == 0
    before, stamp = contents(output), (output / "train/A/bass.wav").stat().st_mtime_ns
    monkeypatch.setattr("fxnorm.data.versions.code_digest", lambda *_: "other code")
    assert fxnorm("normalize", wet, statistics, output, "--workers", 1).exit_code == 0
    assert (output / "train/A/bass.wav").stat().st_mtime_ns > stamp
    assert contents(output) == before, "nothing that depends on it has to be made again"


def test_a_changed_stem_or_setting_is_normalized_again(wet: Path, statistics: Path, tmp_path: Path) -> None:
    output = tmp_path / "normalized"
    assert fxnorm("normalize", wet, statistics, output, "--workers", 1).exit_code == 0
    before = contents(output)
    audio.write(wet / "val/C/bass.wav", noise(2.0, seed=77), subtype="PCM_16")
    assert fxnorm("normalize", wet, statistics, output, "--workers", 1).exit_code == 0
    changed = {name for name, content in contents(output).items() if before[name] != content}
    assert changed == {"val/C/bass.wav", "val/C/digest", "recipe/normalization.json"}, "the recipe names the data"
    assert fxnorm("normalize", wet, statistics, output, "--workers", 1, "--set", "normalize.seed=5").exit_code == 0
    assert contents(output)["train/A/vocals.wav"] != before["train/A/vocals.wav"], "other reverberation"
    assert contents(output)["train/A/drums.wav"] == before["train/A/drums.wav"], "drums get none"


def test_normalized_songs_without_reverberation_measure_alike(wet: Path, statistics: Path, tmp_path: Path) -> None:
    output = tmp_path / "normalized"
    no_reverberation = "normalize.effects=[equalization, compression, panning, loudness]"
    assert fxnorm("normalize", wet, statistics, output, "--workers", 1, "--set", no_reverberation).exit_code == 0
    assert fxnorm("statistics", output, tmp_path / "after.npz", "--workers", 1).exit_code == 0
    target, after = DatasetStatistics.load(statistics), DatasetStatistics.load(tmp_path / "after.npz")
    for stem in STEMS:
        assert abs(after.mean("loudness", stem) - target.mean("loudness", stem)) < 0.1
        assert after.standard_deviation("loudness", stem) < 0.1


def test_songs_without_a_reference_mix_are_mixed_but_not_compared(
    mixer_folder: Path, make_song: MakeSong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_song("data/dry/test/A", seconds=2.0, mixture=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(mixer_folder, "mixer")
    result = fxnorm("evaluate", "mixer", "data", "reports")
    assert result.exit_code == 0, result.output
    systems = {"input_sum", "normalized_sum", "crafx2"}
    metrics = json.loads(Path("reports/metrics.json").read_text())["test_dry"]
    assert set(metrics) == systems
    assert all("integrated_loudness_lufs" in found and "stereo_loss_b" not in found for found in metrics.values())
    mixes = Path("reports/mixes/test_dry/A")
    assert {path.stem for path in mixes.iterdir()} == systems
    loudnesses = [measure(audio.read(path)[0], SAMPLE_RATE) for path in mixes.iterdir()]
    assert max(loudnesses) - min(loudnesses) < 0.05, "to be compared by ear, they are as loud as the network's mix"
    assert Path("reports/report.html").read_text().count('type="radio"') == len(systems)
    assert {path.name for path in Path("reports").iterdir()} == {
        "metrics.json", "headline.json", "significance.json", "test_data.json", "evaluated_mixer.json", "songs.csv",
        "report.html", "mixes", "plots", "mlflow_run.json"
    }  # fmt: skip


def spoil_text(folder: Path) -> str:
    (folder / "bass.wav").write_text("words")
    return "bass.wav: not readable"


def spoil_truncated(folder: Path) -> str:
    path = folder / "bass.wav"
    path.write_bytes(path.read_bytes()[:-500])
    return "bass.wav: truncated"


def spoil_nan(folder: Path) -> str:
    soundfile.write(folder / "bass.wav", np.full((5000, 2), np.nan), SAMPLE_RATE, subtype="FLOAT")
    return "bass.wav: holds NaN"


@pytest.mark.parametrize("spoil", [spoil_text, spoil_truncated, spoil_nan])
def test_a_bad_file_stops_a_stage_with_its_name_and_leaves_nothing_half_written(
    wet: Path, statistics: Path, tmp_path: Path, spoil: Callable[[Path], str]
) -> None:
    said = spoil(wet / "train/B")
    assert said in the_line(fxnorm("statistics", wet, tmp_path / "new.npz", "--workers", 1))
    assert not (tmp_path / "new.npz").exists()
    assert said in the_line(fxnorm("normalize", wet, statistics, tmp_path / "out", "--workers", 1))
    assert not (tmp_path / "out/train/B").exists()
    checked = fxnorm("check", wet, "--workers", 1)
    assert checked.exit_code == 1
    assert said in checked.output
    assert "3 songs, 1 with problems" in checked.output


def test_a_bad_song_can_be_left_out_and_is_listed(wet: Path, statistics: Path, tmp_path: Path) -> None:
    said = spoil_text(wet / "train/B")
    for command in (("statistics", wet, tmp_path / "new.npz"), ("normalize", wet, statistics, tmp_path / "out")):
        result = fxnorm(*command, "--workers", 1, "--on-error", "skip")
        assert result.exit_code == 0, result.output
        (line,) = [line for line in result.output.splitlines() if line.startswith("left out: ")]
        assert line.startswith(f"left out: {wet / 'train/B'}: ")
        assert said in line
    assert DatasetStatistics.load(tmp_path / "new.npz").count("loudness", "bass") == 1
    assert {path.name for path in (tmp_path / "out/train").iterdir()} == {"A"}


def test_statistics_go_on_from_the_songs_that_were_measured(wet: Path, statistics: Path, tmp_path: Path) -> None:
    bass = (wet / "train/B/bass.wav").read_bytes()
    spoil_text(wet / "train/B")
    output = tmp_path / "later.npz"
    assert fxnorm("statistics", wet, output, "--workers", 1).exit_code == 1
    (kept,) = (tmp_path / ".later.npz.songs").iterdir()
    with np.load(kept, allow_pickle=False) as features:
        assert "vocals/equalization" in features.files
    (wet / "train/B/bass.wav").write_bytes(bass)
    assert fxnorm("statistics", wet, output, "--workers", 1).exit_code == 0
    assert output.read_bytes() == statistics.read_bytes()
    assert not (tmp_path / ".later.npz.songs").exists()


def test_shards_put_together_are_the_bytes_of_one_run(wet: Path, tmp_path: Path) -> None:
    shutil.copytree(wet / "train/A", wet / "train/C")
    (wet / "train/C/bass.wav").unlink()
    assert fxnorm("statistics", wet, tmp_path / "whole.npz", "--workers", 1).exit_code == 0
    assert fxnorm("normalize", wet, tmp_path / "whole.npz", tmp_path / "out", "--workers", 1).exit_code == 0
    parts = [tmp_path / f"{number}.npz" for number in (1, 2)]
    for number, part in enumerate(parts, start=1):
        assert fxnorm("statistics", wet, part, "--workers", 1, "--shard", f"{number}/2").exit_code == 0
    plot = tmp_path / "merged.png"
    assert fxnorm("merge-statistics", tmp_path / "merged.npz", *reversed(parts), "--plot", plot).exit_code == 0
    assert (tmp_path / "merged.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert plot.read_bytes().startswith(b"\x89PNG")
    files: dict[Path, bytes] = {}
    for number in (1, 2, 3, 4):
        output = tmp_path / f"out{number}"
        command = ("normalize", wet, tmp_path / "merged.npz", output, "--workers", 1, "--shard", f"{number}/4")
        assert fxnorm(*command).exit_code == 0
        found = {path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()}
        del found[Path(".songs.json")]  # tells which songs the other shards have
        assert sum(path.name == "mixture.wav" for path in found) == 1
        files |= found
    whole = tmp_path / "out"
    assert files == {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("shard", "said"), [("0/2", "from 1 to 2"), ("3/2", "from 1 to 2")])
def test_a_shard_that_is_none_is_refused(shard: str, said: str, wet: Path, tmp_path: Path) -> None:
    line = the_line(fxnorm("statistics", wet, tmp_path / "new.npz", "--shard", shard))
    assert f"shard {shard}: expected" in line
    assert said in line
    assert "such as 2/8" in the_line(fxnorm("statistics", wet, tmp_path / "new.npz", "--shard", "half"))


def test_statistics_without_spread_cannot_be_merged(statistics: Path, tmp_path: Path) -> None:
    published = Path(__file__).parent / "data/effects/musdb18_statistics.npz"
    line = the_line(fxnorm("merge-statistics", tmp_path / "new.npz", statistics, published))
    assert f"{published}: statistics without spread" in line
    assert not (tmp_path / "new.npz").exists()


def test_the_songs_behind_statistics_do_not_drift_from_them_together(wet: Path, tmp_path: Path) -> None:
    shutil.rmtree(wet / "val")
    assert fxnorm("statistics", wet, tmp_path / "s.npz", "--workers", 1).exit_code == 0
    result = fxnorm("drift", tmp_path / "s.npz", wet, "--workers", 1)
    assert result.exit_code == 0, result.output
    together = result.output[result.output.index("all together") :].split()
    drifts = [abs(float(value)) for value in together if value.replace("-", "").replace(".", "").isdigit()]
    assert drifts == [0.0] * 18, "four effects of four stems, and spectrum and loudness of the mixture"
    alone = result.output[: result.output.index("all together")]
    assert "1.00" in alone, "each of two songs lies one standard deviation from their mean"


def test_the_published_statistics_are_imported_from_their_pickle(tmp_path: Path) -> None:
    names = {"eq": np.ones(32_769), "panning": np.ones(32_769), "compression": np.ones(2), "loudness": np.ones(1)}
    features = {effect: dict.fromkeys(STEMS, values) for effect, values in names.items()}
    np.save(tmp_path / "features.npy", np.array(features, dtype=object), allow_pickle=True)
    result = fxnorm("import-statistics", tmp_path / "features.npy", tmp_path / "s.npz")
    assert result.exit_code == 0, result.output
    assert DatasetStatistics.load(tmp_path / "s.npz").mean("equalization", "bass").shape == (32_769,)


def test_songs_of_one_name_in_two_splits_are_told_apart(wet: Path, make_song: MakeSong) -> None:
    make_song("wet/val/A", seconds=1.0, seed=4)
    result = fxnorm("check", wet, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "4 songs, 0 with problems" in result.output
    assert f"has the name of {wet / 'train/A'}" in result.output, "they may be one song in two recordings"


def test_a_good_dataset_passes_the_check(wet: Path) -> None:
    result = fxnorm("check", wet, "--workers", 1)
    assert result.exit_code == 0
    assert "3 songs, 0 with problems" in result.output


@pytest.mark.parametrize(
    "command",
    [
        ("check", "{nowhere}"),
        ("statistics", "{nowhere}", "{out}"),
        ("normalize", "{nowhere}", "{statistics}", "{out}"),
        ("normalize", "{wet}", "{nowhere}", "{out}"),
        ("normalize", "{wet}", "{statistics}", "{out}", "--impulse-responses", "{nowhere}"),
        ("train", "{nowhere}", "{out}"),
        ("evaluate", "{nowhere}", "{wet}", "{out}"),
        ("register", "{nowhere}", "{out}"),
        ("statistics", "{wet}", "{out}", "--params", "{nowhere}"),
    ],
)
def test_what_is_missing_is_named(wet: Path, statistics: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    places = {"wet": wet, "statistics": statistics, "out": tmp_path / "out", "nowhere": tmp_path / "nowhere"}
    result = fxnorm(*(part.format(**places) for part in command))
    assert "nowhere" in the_line(result) or "out" in the_line(result)
    assert not (tmp_path / "out").exists()


def test_an_unknown_key_is_named(wet: Path, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("statistics: {splits: train}")
    line = the_line(fxnorm("statistics", wet, tmp_path / "out.npz", "--params", tmp_path / "params.yaml"))
    assert "params.yaml: statistics.splits: unknown key; did you mean 'split'?" in line


def test_an_unknown_size_is_named_before_anything_is_trained(
    wet: Path, statistics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fxnorm("normalize", wet, statistics, "normalized", "--workers", 1).exit_code == 0
    line = the_line(fxnorm("train", "normalized", "mixer", "--set", "train.sizes.filter=8"))
    assert "unknown size 'filter'; did you mean 'filters'?" in line
    assert not (tmp_path / "mixer").exists()
    assert not (tmp_path / "mlflow.db").exists()

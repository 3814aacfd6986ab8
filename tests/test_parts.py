"""The parts of a mix: that they add up, what is said of them, a DAW's project, and another mix of them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rpp
import scipy.signal
import torch
from click.testing import CliRunner

from fxnorm import Mixer, models
from fxnorm.cli import main
from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.effects import dynamics, third_octaves, width
from fxnorm.effects.features import measure_mixture
from fxnorm.effects.levels import amplitude
from fxnorm.errors import ModelError, OutputError, SettingsError
from fxnorm.io import audio
from fxnorm.mixing import parts, reaper
from fxnorm.mixing.mix_files import FileMix, PartsOut, mix_files
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.treatment import Measured, compare
from fxnorm.statistics import DatasetStatistics
from tests.conftest import noise

SECONDS = 2.0
TARGET = -14.0
METER_DB = 0.05  # by which meters with other filters differ for noise up to half the sample rate


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("stems")
    for number, stem in enumerate(STEMS):
        audio.write(folder / f"{stem}.wav", noise(SECONDS - 0.1 * number, 0.3, number, channels=1 + number % 2))
    return {stem: str(folder / f"{stem}.wav") for stem in STEMS}


@pytest.fixture(scope="module")
def mixer(mixer_folder: Path) -> Mixer:
    mixer = Mixer.load(mixer_folder)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in mixer.network.parameters():  # no longer the sum of the stems
            weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
    return mixer


def written(mixer: Mixer, stems: dict[str, str], folder: Path, session: bool = False, **params: Any) -> FileMix:
    options = MixOptions.for_file(folder / "mix.wav", **params)
    return mix_files(mixer, stems, options, folder / "mix.wav", parts=PartsOut(folder / "parts", "mixer", session))


@pytest.fixture(scope="module")
def made(mixer: Mixer, stems: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``mix.wav`` and ``parts``; the limiter had something to do."""
    folder = tmp_path_factory.mktemp("made")
    mixed = written(mixer, stems, folder, session=True, target_loudness=TARGET, true_peak=-6.0)
    assert mixed.delivered.reduction_db > 1
    return folder


def read(path: Path) -> np.ndarray:
    return audio.read(path, None)[0]


def relative_db(error: np.ndarray, signal: np.ndarray) -> float:
    return float(10 * np.log10(np.square(error, dtype=np.float64).sum() / np.square(signal, dtype=np.float64).sum()))


def true_peak_by_resampling(mix: np.ndarray) -> float:
    fine = scipy.signal.resample_poly(mix.astype(np.float64), 8, 1, axis=1)
    return float(20 * np.log10(np.abs(fine).max()))


def sum_of(folder: Path) -> np.ndarray:
    return np.asarray(sum(read(folder / f"{stem}.wav").astype(np.float64) for stem in STEMS))


def remixed(folder: Path, *arguments: str, output: str = "again.wav") -> Any:
    return CliRunner().invoke(main, ["remix", str(folder / "parts"), "--output", str(folder / output), *arguments])


def test_parts_add_up_to_the_delivered_mix(made: Path) -> None:
    mix = read(made / "mix.wav")
    assert relative_db(sum_of(made / "parts") - mix, mix) < -120
    assert np.array_equal(read(made / "parts" / "mix.wav"), mix)


@pytest.mark.parametrize("params", [{"as_is": True}, {"target_loudness": -16.0, "sample_rate": 48_000}])
def test_parts_add_up_at_the_networks_level_and_at_another_sample_rate(
    params: dict[str, Any], mixer: Mixer, stems: dict[str, str], tmp_path: Path
) -> None:
    written(mixer, stems, tmp_path, **params)
    mix = read(tmp_path / "mix.wav")
    assert relative_db(sum_of(tmp_path / "parts") - mix, mix) < -120
    assert remixed(tmp_path).exit_code == 0
    np.testing.assert_allclose(read(tmp_path / "again.wav"), mix, atol=1e-6)


def test_a_mix_with_parts_is_the_mix_without(mixer: Mixer, stems: dict[str, str], made: Path, tmp_path: Path) -> None:
    options = MixOptions.for_file(tmp_path / "mix.wav", target_loudness=TARGET, true_peak=-6.0)
    mix_files(mixer, stems, options, tmp_path / "mix.wav")
    mix = read(made / "mix.wav")
    assert relative_db(read(tmp_path / "mix.wav") - mix, mix) < -110


def test_a_missing_stem_has_no_part(mixer: Mixer, stems: dict[str, str], tmp_path: Path) -> None:
    written(mixer, {"bass": stems["bass"], "drums": stems["drums"]}, tmp_path, target_loudness=-20.0)
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [
        "bass.wav", "drums.wav", "mix.json", "mix.wav",
    ]  # fmt: skip
    assert remixed(tmp_path, "--mute", "vocals").output == "fxnorm: vocals: unknown stem; this mix has bass, drums\n"


def test_the_description_has_what_was_done(made: Path, stems: dict[str, str]) -> None:
    description = parts.read_description(made / "parts")
    assert description.sources == stems
    assert description.options["target_loudness"] == TARGET
    assert description.level.loudness_lufs == pytest.approx(TARGET, abs=0.1)
    assert description.level.ceiling_dbtp == -6.0
    for stem, part in description.stems.items():
        measured = Measured(read(made / "parts" / part.file))
        after = part.treatment.after.loudness_lufs
        assert after is not None and measured.character.loudness_lufs == pytest.approx(after, abs=0.006), stem
    content = json.loads((made / "parts" / "mix.json").read_text())
    assert list(content["stems"]["vocals"]["treatment"]["equalization_db"])[:4] == ["25", "31.5", "40", "50"]


def test_the_same_mix_gives_the_same_bytes(made: Path, mixer: Mixer, stems: dict[str, str], tmp_path: Path) -> None:
    written(mixer, stems, tmp_path, session=True, target_loudness=TARGET, true_peak=-6.0)
    for path in sorted((made / "parts").iterdir()):
        assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_wave_u_net_has_none_and_nothing_is_written(
    mixer_folder: Path, stems: dict[str, str], tmp_path: Path
) -> None:
    mixer = Mixer.load(mixer_folder)
    mixer.network = models.build("wave_u_net", features=8, levels=2)
    with pytest.raises(ModelError, match="wave_u_net: its mix is no sum of parts"):
        written(mixer, stems, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_older_folder_is_replaced_and_any_other_refused(
    mixer: Mixer, stems: dict[str, str], made: Path, tmp_path: Path
) -> None:
    song = {"bass": stems["bass"]}
    written(mixer, song, tmp_path, session=True)
    written(mixer, song, tmp_path)
    assert not (tmp_path / "parts" / "session.rpp").exists()
    (tmp_path / "parts" / "session.rpp").write_text('<REAPER_PROJECT 0.1 "7.22/linux-x86_64" 1700000000\n>\n')
    with pytest.raises(OutputError, match=r"holds session.rpp, which is no part of the parts of a mix"):
        written(mixer, song, tmp_path)  # a user worked on it
    (tmp_path / "parts" / "session.rpp").unlink()
    (tmp_path / "parts" / "mix.json").unlink()
    with pytest.raises(OutputError, match=r"holds bass.wav, which is no part"):
        written(mixer, song, tmp_path)  # a song's folder


def test_a_remix_without_a_change_is_the_mix(made: Path) -> None:
    result = remixed(made)
    assert (result.exit_code, "turned down by up to 0.0 dB" in result.output) == (0, True)
    np.testing.assert_allclose(read(made / "again.wav"), read(made / "mix.wav"), atol=1e-6)


def test_gains_are_those_of_faders_under_the_ceiling_of_the_mix(made: Path) -> None:
    assert remixed(made, "--gain", "vocals=-6", "--gain", "drums=-1.5", "--mute", "other").exit_code == 0
    part = {stem: read(made / "parts" / f"{stem}.wav") for stem in STEMS}
    expected = part["bass"] + float(amplitude(-6)) * part["vocals"] + float(amplitude(-1.5)) * part["drums"]
    np.testing.assert_allclose(read(made / "again.wav"), expected, atol=1e-6)

    assert "turned down by up to 7." in remixed(made, "--gain", "vocals=+8").output
    assert true_peak_by_resampling(read(made / "again.wav")) <= -6.0 + METER_DB

    assert remixed(made, "--solo", "bass").exit_code == 0
    np.testing.assert_allclose(read(made / "again.wav"), part["bass"], atol=1e-6)


def test_what_would_be_crushed_is_turned_down_as_a_whole(made: Path) -> None:
    result = remixed(made, "--gain", "vocals=40")
    assert "over 50% of it down by over 6 dB" in result.output
    assert "again.wav: all turned down by " in result.output
    assert true_peak_by_resampling(read(made / "again.wav")) <= -6.0 + METER_DB


def test_a_remix_has_a_level_a_rate_and_a_format_of_its_own(made: Path) -> None:
    options = ("--target-loudness", "-20", "--true-peak", "-2", "--bits", "16", "--sample-rate", "48000")
    assert "-20.0 LUFS" in remixed(made, *options, output="again.flac").output
    samples, sample_rate = audio.read(made / "again.flac", None)
    assert (sample_rate, samples.shape) == (48_000, (2, round(SECONDS * 48_000)))


def test_a_remix_needs_no_network(made: Path) -> None:
    script = (
        "import sys; from fxnorm.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(sorted({'torch', 'mlflow', 'safetensors'} & set(sys.modules)))"
    )
    arguments = ["remix", str(made / "parts"), "--output", str(made / "again.wav")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--gain", "guitar=1"], "guitar: unknown stem; this mix has vocals, bass, drums, other"),
        (["--mute", "a\nb"], "a\\nb: unknown stem; this mix has vocals, bass, drums, other"),
        (["--gain", "vocals"], "--gain vocals: expected STEM=DB, such as vocals=+1.5"),
        (["--gain", "vocals=loud"], "--gain vocals=loud: expected STEM=DB, such as vocals=+1.5"),
        (["--gain", "vocals=nan"], "--gain vocals=nan: expected STEM=DB, such as vocals=+1.5"),
        (["--gain", "vocals=100"], "vocals: expected a gain of -60 to 60 dB, found 100"),
        (["--gain", "bass=1", "--gain", "bass=2"], "--gain bass=2: bass has a gain already"),
        (["--mute", "bass", "--solo", "bass"], "bass: expected either muted or solo, found both"),
        ([f"--mute={stem}" for stem in STEMS], "vocals, bass, drums, other: all muted; expected one that is heard"),
        (["--true-peak", "3"], "true_peak: Input should be less than or equal to 0"),
        (["--sample-rate", "1"], "sample_rate: Input should be 22050, 32000, 44100, 48000, 88200, 96000"),
    ],
)
def test_a_change_that_cannot_be_is_refused_in_one_line(made: Path, arguments: list[str], said: str) -> None:
    result = remixed(made, *arguments, output="refused.wav")
    assert result.exit_code == 1
    assert result.output.startswith(f"fxnorm: {said}")
    assert result.output.count("\n") == 1
    assert not (made / "refused.wav").exists()


def broken(made: Path, tmp_path: Path, **changes: Any) -> Path:
    """Links to the files of ``made``, with another description."""
    (tmp_path / "parts").mkdir()
    for path in (made / "parts").glob("*.wav"):
        (tmp_path / "parts" / path.name).symlink_to(path)
    content = json.loads((made / "parts" / "mix.json").read_text()) | changes
    (tmp_path / "parts" / "mix.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"samples": 5},
            "vocals.wav: expected what mix.json says, 2 channels of 5 samples at 44100 Hz, found 2 of 88200",
        ),
        ({"sample_rate": 48_000}, "vocals.wav: expected what mix.json says, 2 channels of 88200 samples at 48000 Hz"),
        ({"format": 2}, "mix.json: format: Input should be 1"),
        ({"stems": {}}, "mix.json: stems: expected at least one"),
        ({"stems": {"../../etc": None}}, "mix.json: stems.../../etc: Input should be a valid dictionary"),
        ({"surprise": 1}, "mix.json: surprise: Extra inputs are not permitted"),
    ],
)
def test_files_that_do_not_fit_are_refused_in_one_line(
    made: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    result = remixed(broken(made, tmp_path, **changes))
    assert result.exit_code == 1
    assert said in result.output
    assert result.output.count("\n") == 1


def test_a_part_in_another_folder_is_refused(made: Path, tmp_path: Path) -> None:
    stems = json.loads((made / "parts" / "mix.json").read_text())["stems"]
    stems["bass"]["file"] = "../bass.wav"
    result = remixed(broken(made, tmp_path, stems=stems))
    assert "mix.json: stems.bass.file: expected bass.wav, found ../bass.wav" in result.output


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    result = remixed(tmp_path)
    assert result.output == (
        f"fxnorm: {tmp_path}/parts: expected what 'fxnorm mix --stems-out' writes, found no mix.json\n"
    )
    (tmp_path / "parts" / "mix.json").write_text("[" * 100_000)
    assert "mix.json: cannot be read" in remixed(tmp_path).output


def test_an_output_within_the_parts_is_refused(made: Path) -> None:
    assert "lies in an input of this command" in remixed(made, output="parts/again.wav").output


def test_a_reaper_project_has_the_parts_on_tracks(made: Path) -> None:
    project = rpp.loads((made / "parts" / "session.rpp").read_text(encoding="utf-8"))
    assert project.find("SAMPLERATE")[1] == str(SAMPLE_RATE)
    tracks = project.findall("TRACK")
    assert [track.find("NAME")[1] for track in tracks] == list(STEMS)
    for track, stem in zip(tracks, STEMS, strict=True):
        item = track.find("ITEM")
        assert item.find("SOURCE").find("FILE") == ["FILE", f"{stem}.wav"]
        assert float(item.find("LENGTH")[1]) == SECONDS
        assert track.find("VOLPAN")[1:3] == ["1", "0"]


@pytest.mark.parametrize(
    "name",
    ["Gesang", "Lead Vox", 'the "best" take', "it's", "日本語 ü", "a 'b' \"c\"", "", "-1", "#7", "<X", "C:\\Takes\\1"],
)
def test_names_in_a_project_are_read_back(name: str) -> None:
    track = reaper.Track(name, f"audio/{name}.wav", 1.25, gain=0.5, pan=-0.25, muted=True)
    project = rpp.loads(reaper.project([track, track], 48_000))
    for read_back in project.findall("TRACK"):
        assert read_back.find("NAME") == ["NAME", name]
        assert read_back.find("ITEM").find("SOURCE").find("FILE") == ["FILE", f"audio/{name}.wav"]
        assert read_back.find("VOLPAN")[1:3] == ["0.5", "-0.25"]
        assert read_back.find("MUTESOLO")[1] == "1"


def test_a_name_cannot_add_lines_to_a_project() -> None:
    text = reaper.project([reaper.Track('a"\n>\n<TRACK', "a.wav", 1.0)], 44_100)
    assert len(rpp.loads(text).findall("TRACK")) == 1
    assert reaper.quoted("\"'`") == "`\"''`"


def test_what_was_done_is_measured() -> None:
    """A filter, a gain and a balance that are known."""
    before = noise(4.0, 0.1)
    shelf = scipy.signal.butter(2, 1_000, "high", fs=SAMPLE_RATE, output="sos")
    after = before + scipy.signal.sosfilt(shelf, before).astype(np.float32)
    treatment = compare(Measured(before), Measured(0.5 * after))
    response = 1 + scipy.signal.sosfreqz(shelf, third_octaves.CENTRES_HZ, fs=SAMPLE_RATE)[1]
    expected = 20 * np.log10(0.5 * np.abs(response)) - treatment.gain_db
    found = list(treatment.equalization_db.values())
    assert [value for value in found if value is not None] == pytest.approx(
        [value for value, known in zip(expected, found, strict=True) if known is not None], abs=0.4
    )

    turned = compare(Measured(before), Measured(before * np.array([[1.0], [0.5]], np.float32)))
    assert turned.after.right_to_left_db is not None and turned.before.right_to_left_db is not None
    assert turned.after.right_to_left_db - turned.before.right_to_left_db == pytest.approx(-6.02, abs=0.02)
    assert "6.0 dB further left" in turned.sentence
    same = compare(Measured(before), Measured(before))
    assert (same.gain_db, same.sentence) == (0.0, "level as it was")


def test_silence_has_no_figures() -> None:
    silence = Measured(np.zeros((1, SAMPLE_RATE), np.float32))
    treatment = compare(silence, silence)
    assert treatment.sentence == "silent"
    assert {*treatment.after.model_dump().values(), *treatment.equalization_db.values(), treatment.gain_db} == {None}


def test_third_octaves_hold_the_power_of_a_sine_and_of_noise() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    sine = np.sin(2 * np.pi * 1_000 * time).astype(np.float32)[None]
    bands = third_octaves.measure(sine, SAMPLE_RATE)
    assert third_octaves.NOMINAL_HZ[int(bands.argmax())] == 1_000
    assert bands.max() == pytest.approx(-3.01, abs=0.1)
    white = np.random.default_rng(0).standard_normal((2, 10 * SAMPLE_RATE)).astype(np.float32)
    steps = np.diff(third_octaves.measure(white, SAMPLE_RATE)[14:])
    assert steps == pytest.approx(np.full(steps.size, 10 * np.log10(2) / 3), abs=0.3)


def test_crest_factor_width_and_balance_of_known_signals() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    sine = np.sin(2 * np.pi * 100 * time)
    stereo = np.stack([sine, 0.5 * sine]).astype(np.float32)
    assert dynamics.crest_factor(stereo[:1], SAMPLE_RATE) == pytest.approx(3.01, abs=0.01)
    assert width.right_to_left_db(stereo) == pytest.approx(-6.02, abs=0.01)
    assert width.side_to_middle_db(stereo) == pytest.approx(20 * np.log10(0.25 / 0.75), abs=0.01)
    assert np.isnan(width.side_to_middle_db(stereo[[0, 0]]))
    assert np.isnan(dynamics.crest_factor(np.zeros((2, 10), np.float32), SAMPLE_RATE))


def test_the_command_writes_parts_and_says_what_was_done(
    mixer_folder: Path, stems: dict[str, str], tmp_path: Path
) -> None:
    song = [argument for stem, file in stems.items() for argument in (f"--{stem}", file)]
    target = ["--output", str(tmp_path / "mix.wav"), "--stems-out", str(tmp_path / "parts"), "--session", "reaper"]
    result = CliRunner().invoke(main, ["mix", str(mixer_folder), *song, *target])
    assert result.exit_code == 0, result.output
    assert "gain dB" in result.output and "vocals: " in result.output
    assert (tmp_path / "parts" / "session.rpp").is_file()
    refused = CliRunner().invoke(main, ["mix", str(mixer_folder), *song, *target[:2], "--session", "reaper"])
    assert "--session: expected --stems-out as well" in refused.output
    refused = CliRunner().invoke(main, ["mix", "--endpoint", "http://127.0.0.1:9", *song, *target])
    assert "--stems-out: an endpoint answers with the mix alone" in refused.output


def test_the_average_of_the_training_mixtures_is_the_level_of_parts_too(
    mixer: Mixer, stems: dict[str, str], tmp_path: Path
) -> None:
    statistics = DatasetStatistics()
    statistics.merge(mixer.recipe.statistics)
    statistics.add(MIXTURE, measure_mixture(noise(3.0, 0.05), SAMPLE_RATE))
    mixer = replace(mixer, recipe=replace(mixer.recipe, statistics=statistics))
    mixed = written(mixer, stems, tmp_path)
    assert mixed.delivered.loudness_lufs == pytest.approx(statistics.mean("loudness", MIXTURE), abs=0.1)
    mix = read(tmp_path / "mix.wav")
    assert relative_db(sum_of(tmp_path / "parts") - mix, mix) < -120


def test_changes_are_checked_for_users_of_the_library_too(made: Path) -> None:
    known = parts.read_description(made / "parts").stems
    with pytest.raises(SettingsError, match="drums: expected a gain of -60 to 60 dB, found nan"):
        parts.Change.of({"drums": float("nan")}, set(), set(), known)

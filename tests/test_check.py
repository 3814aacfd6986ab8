"""The check of a dataset: each fault is found in the song, the file and the size that it has, and nothing else is."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soxr
from click.testing import CliRunner

from fxnorm.cli import main
from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data.dataset import Layout, Song
from fxnorm.demo import render_dataset
from fxnorm.demo.processors import Compressor, compress, limit
from fxnorm.errors import DatasetError, OutputError, SettingsError
from fxnorm.io import audio
from fxnorm.quality import datasets, duplicates, files, labels, report, spectra, sums
from fxnorm.quality.datasets import CheckedDatasets
from fxnorm.quality.findings import KINDS, Finding
from fxnorm.quality.pictures import Curve, Picture
from fxnorm.quality.songs import CheckedSong
from fxnorm.settings import CheckSettings, FindingCode, Settings
from fxnorm.stages import check as stage
from tests.commands import the_line
from tests.conftest import noise

SECONDS = 3.0
QUICK = CheckSettings(fingerprints=False)

Signals = dict[str, np.ndarray]
Change = Callable[[Signals], None]


def song(seed: int = 0, seconds: float = SECONDS) -> Signals:
    """Four stems of noise and their sum."""
    stems = {stem: noise(seconds, 0.2, 10 * seed + number) for number, stem in enumerate(STEMS)}
    return stems | {MIXTURE: np.sum(list(stems.values()), axis=0)}


def save(folder: Path, signals: Signals, sample_rate: int = SAMPLE_RATE) -> Path:
    for name, samples in signals.items():
        audio.write(folder / f"{name}.wav", samples.astype(np.float32), sample_rate, subtype="PCM_16")
    return folder


def found(*roots: Path, settings: CheckSettings = QUICK) -> list[Finding]:
    return list(datasets.check(roots, settings, workers=1).findings)


def alarms(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity != "note"]


def shifted(samples: np.ndarray, by: int) -> np.ndarray:
    """Later by so many samples, with silence before; earlier, if that is negative."""
    result = np.zeros_like(samples)
    if by >= 0:
        result[:, by:] = samples[:, : samples.shape[1] - by]
    else:
        result[:, :by] = samples[:, -by:]
    return result


def stretched(samples: np.ndarray, ppm: float) -> np.ndarray:
    """At a clock that is slower by so many millionths."""
    longer = soxr.resample(samples.T, 1e6, 1e6 + ppm, quality="VHQ").T
    return audio.pad_to(longer, samples.shape[1])[:, : samples.shape[1]]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two songs of the demo."""
    root = tmp_path_factory.mktemp("demo") / "data"
    render_dataset(root, seed=3, songs={"train": 1, "val": 0, "test": 1, "dry": 0}, seconds=(6.0, 7.0), workers=1)
    return root / "wet"


# ---- stems against the mixture


def delayed(stem: str, by: int) -> Change:
    return lambda signals: signals.update({stem: shifted(signals[stem], by)})


def inverted(stem: str) -> Change:
    return lambda signals: signals.update({stem: -signals[stem]})


def drifting(stem: str, ppm: float) -> Change:
    return lambda signals: signals.update({stem: stretched(signals[stem], ppm)})


@pytest.mark.parametrize(
    ("change", "code", "file", "figure", "expected", "within"),
    [
        (inverted("bass"), "polarity", "bass.wav", "residual_db", None, 0),
        (inverted(MIXTURE), "polarity", "mixture.wav", "residual_db", None, 0),
        (delayed("vocals", 2), "delay", "vocals.wav", "delay_samples", 2, 0),
        (delayed("drums", 441), "delay", "drums.wav", "delay_samples", 441, 0),
        (delayed("other", -37), "delay", "other.wav", "delay_samples", -37, 0),
        (delayed("bass", 20_000), "delay", "bass.wav", "delay_samples", 20_000, 0),
        (delayed(MIXTURE, 64), "delay", "mixture.wav", "delay_samples", 64, 0),
        (delayed(MIXTURE, -12_345), "delay", "mixture.wav", "delay_samples", -12_345, 0),
        (drifting("vocals", 60), "drift", "vocals.wav", "drift_ppm", 60, 12),
        (drifting("drums", -300), "drift", "drums.wav", "drift_ppm", -300, 60),
        (drifting(MIXTURE, 100), "drift", "mixture.wav", "drift_ppm", 100, 20),
    ],
)
def test_what_is_not_where_the_mixture_has_it_is_named_with_its_figure(
    tmp_path: Path, change: Change, code: str, file: str, figure: str, expected: float | None, within: float
) -> None:
    signals = song()
    change(signals)
    save(tmp_path / "d/train/A", signals)
    (finding,) = alarms(found(tmp_path / "d"))
    assert (finding.code, finding.severity, finding.file, finding.split) == (code, "error", file, "train")
    assert finding.song == str(tmp_path / "d/train/A")
    if expected is not None:
        assert finding.figures[figure] == pytest.approx(expected, abs=within)


def test_two_faults_of_one_song_are_both_found_at_another_rate_too(tmp_path: Path) -> None:
    signals = song()
    inverted("bass")(signals)
    delayed("drums", 100)(signals)
    save(tmp_path / "d/A", {name: audio.resample(one, SAMPLE_RATE, 48_000) for name, one in signals.items()}, 48_000)
    findings = found(tmp_path / "d")
    assert {(one.code, one.file) for one in alarms(findings)} == {("polarity", "bass.wav"), ("delay", "drums.wav")}
    assert {one.file for one in findings if one.code == "rate"} == {f"{name}.wav" for name in (*STEMS, MIXTURE)}


@pytest.mark.parametrize("residual_db", [-4.0, -8.0])
def test_what_the_stems_lack_is_measured_in_decibels(tmp_path: Path, residual_db: float) -> None:
    signals = song()
    lacking = noise(SECONDS, 0.2, seed=77)
    # the residual is the share of what is added in the new mixture
    share = 10 ** (residual_db / 10)
    energy = [float(np.square(one).sum()) for one in (lacking, signals[MIXTURE])]
    signals[MIXTURE] = signals[MIXTURE] + lacking * np.float32(np.sqrt(energy[1] / energy[0] * share / (1 - share)))
    save(tmp_path / "d/A", signals | {})
    (finding,) = alarms(found(tmp_path / "d"))
    assert (finding.code, finding.file) == ("mixture-residual", "mixture.wav")
    assert finding.severity == ("error" if residual_db > -6 else "warning")
    assert finding.figures["residual_db"] == pytest.approx(residual_db, abs=0.5)
    assert finding.figures["followed_residual_db"] == pytest.approx(residual_db, abs=1.0)


@pytest.mark.parametrize("other", ["reversed and inverted", "another song", "silence"])
def test_a_mixture_of_another_song_is_an_error(tmp_path: Path, other: str) -> None:
    signals = song()
    signals[MIXTURE] = {
        "reversed and inverted": -signals[MIXTURE][:, ::-1],
        "another song": song(seed=5)[MIXTURE],
        "silence": np.zeros_like(signals[MIXTURE]),
    }[other]
    save(tmp_path / "d/A", signals)
    errors = [one for one in found(tmp_path / "d") if one.severity == "error"]
    assert [(one.code, one.file) for one in errors] == [("other-mixture", "mixture.wav")]


def test_the_residual_of_an_exact_sum_is_that_of_its_steps() -> None:
    signals = song(seconds=1.0)
    mixture = np.round(signals.pop(MIXTURE) * 2**15).astype(np.float32) / 2**15
    measured = sums.compare(signals, mixture)
    assert measured is not None
    assert measured.residual_db < -70
    assert measured.faults == []
    assert sums.compare(signals, np.zeros_like(mixture)) is None


# ---- no false alarms


def test_nothing_is_found_in_songs_of_the_demo(demo: Path) -> None:
    checked = datasets.check([demo], CheckSettings(), workers=1)
    assert len(checked.songs) == 2
    assert alarms(list(checked.findings)) == []
    assert checked.stopping == []


@pytest.mark.parametrize("finish", ["compressed", "compressed and limited", "clipped softly", "brighter", "as an MP3"])
def test_nothing_is_found_in_a_mixture_that_was_mastered(demo: Path, tmp_path: Path, finish: str) -> None:
    folder = tmp_path / "d/train/A"
    shutil.copytree(next((demo / "train").iterdir()), folder)
    mixture = audio.read(folder / "mixture.wav")[0].astype(np.float64)
    bus = compress(mixture, Compressor(threshold_db=-24.0, ratio=4.0, attack=0.01, release=0.15))
    loud = 2.0 * bus / np.abs(bus).max()  # 6 dB into the limiter
    if finish == "as an MP3":
        audio.write(folder / "mixture.mp3", mixture)
        (folder / "mixture.wav").unlink()
    else:
        mastered = {
            "compressed": bus,
            "compressed and limited": limit(loud, -0.3),
            "clipped softly": np.tanh(loud),
            "brighter": mixture + 0.4 * np.diff(mixture, prepend=0.0),
        }[finish]
        audio.write(folder / "mixture.wav", mastered.astype(np.float32))
    assert alarms(found(tmp_path / "d")) == []


def test_stems_that_are_missing_or_silent_and_songs_too_short_to_measure_raise_no_alarm(tmp_path: Path) -> None:
    signals = song(seconds=1.0)
    silent = np.zeros_like(signals["drums"])
    rest = {"vocals": signals["vocals"], "drums": silent}
    save(tmp_path / "d/A", rest | {MIXTURE: signals["vocals"]})
    save(tmp_path / "d/B", {name: one[:, :1000] for name, one in song(seed=2).items()})
    findings = found(tmp_path / "d")
    assert alarms(findings) == []
    told = {(one.code, one.line) for one in findings}
    assert ("silence", "drums.wav: silent (peak at or under -50 dBFS)") in told
    assert ("missing-stem", "no bass: taken as silence") in told


def test_other_mixes_of_a_song_to_test_with_are_read_and_need_not_add_up(tmp_path: Path) -> None:
    save(tmp_path / "d/test/A", song(seconds=1.0) | {"mixture_louder": noise(1.0, seed=50)})
    save(tmp_path / "d/test/B", song(1, 1.0) | {"mixture_other": noise(1.0, seed=51), "drums": noise(1.0, seed=52)})
    (tmp_path / "d/test/B/mixture_other.wav").write_text("words")
    assert {(one.code, one.file) for one in alarms(found(tmp_path / "d"))} == {
        ("unreadable", "mixture_other.wav"),
        ("mixture-residual", "mixture.wav"),
    }


def test_dry_stems_need_not_add_up_to_the_mix_beside_them(tmp_path: Path) -> None:
    signals = song(seconds=1.0)
    signals[MIXTURE] = noise(1.0, seed=50)
    save(tmp_path / "wet/test/A", signals)
    shutil.copytree(tmp_path / "wet", tmp_path / "dry")
    assert [one.code for one in alarms(found(tmp_path / "wet"))] == ["other-mixture"]
    assert alarms(found(tmp_path / "dry")) == []


# ---- bleed and labels


@pytest.mark.parametrize(("level_db", "severity"), [(-8.0, "warning"), (-25.0, "note")])
def test_bleed_is_found_with_its_level_and_delay(tmp_path: Path, level_db: float, severity: str) -> None:
    signals = song()
    signals["vocals"] = 0.3 * signals["vocals"]  # where the source is the louder one, the way is known
    bleeding = np.float32(10 ** (level_db / 20)) * shifted(signals["drums"], 150)
    signals["vocals"] = signals["vocals"] + bleeding
    signals[MIXTURE] = np.sum([signals[stem] for stem in STEMS], axis=0)
    save(tmp_path / "d/A", signals)
    (finding,) = [one for one in found(tmp_path / "d") if one.code == "bleed"]
    assert (finding.severity, finding.file) == (severity, "vocals.wav")
    assert "has drums in it" in finding.message
    assert finding.figures["bleed_db"] == pytest.approx(level_db, abs=1.5)
    assert finding.figures["delay_samples"] == 150


def coloured(stem: str, seed: int) -> np.ndarray:
    """Noise in the range of a stem, with beats where that has them."""
    low, high, beats = {
        "vocals": (300, 4000, 1.5), "bass": (40, 250, 0.0), "drums": (60, 12_000, 4.0), "other": (150, 9000, 0.0)
    }[stem]  # fmt: skip
    samples = noise(1.0, 0.3, seed)
    spectrum = np.fft.rfft(samples)
    hertz = np.fft.rfftfreq(samples.shape[1], 1 / SAMPLE_RATE)
    samples = np.fft.irfft(spectrum * ((hertz > low) & (hertz < high)), samples.shape[1])
    times = np.arange(samples.shape[1]) / SAMPLE_RATE
    return samples * (np.exp(-10 * (times * beats % 1.0)) if beats else 1.0)


def test_two_stems_with_each_others_names_are_found_by_the_averages_of_the_others() -> None:
    songs = []
    for number in range(10):
        stems = {stem: coloured(stem, 10 * number + index) for index, stem in enumerate(STEMS)}
        if number == 3:
            stems["bass"], stems["drums"] = stems["drums"], stems["bass"]
        songs.append(labels.features(spectra.measure({name: one.astype(np.float32) for name, one in stems.items()})))
    doubts = labels.doubts(songs, 8)
    assert [(one.song, one.stem, one.nearest, one.songs) for one in doubts] == [
        (3, "bass", "drums", 9),
        (3, "drums", "bass", 9),
    ]
    assert labels.doubts(songs, 10) == [], "of nine others no average of ten"


# ---- single files


def clipped(signals: Signals) -> None:
    stem = signals["drums"] / np.abs(signals["drums"]).max()
    signals["drums"] = 0.25 * np.clip(4.0 * stem, -1, 1)  # and turned down by 12 dB


def offset(signals: Signals) -> None:
    signals["other"] = signals["other"] + 0.02


def of_a_low_rate(signals: Signals) -> None:
    low = audio.resample(signals["vocals"], SAMPLE_RATE, 22_050)
    signals["vocals"] = audio.pad_to(audio.resample(low, 22_050, SAMPLE_RATE), low.shape[1])[:, : low.shape[1] * 2]


@pytest.mark.parametrize(
    ("change", "code", "file", "figure", "expected", "within"),
    [
        (clipped, "clipping", "drums.wav", "clip_dbfs", -12.04, 0.05),
        (offset, "dc", "other.wav", "dc_dbfs", -33.98, 0.3),
        (of_a_low_rate, "band-limit", "vocals.wav", "band_limit_hz", 10_700, 400),
    ],
)
def test_what_is_wrong_with_a_single_file_is_named(
    tmp_path: Path, change: Change, code: str, file: str, figure: str, expected: float, within: float
) -> None:
    signals = song()
    change(signals)
    longest = max(one.shape[1] for one in signals.values())
    signals[MIXTURE] = np.sum([audio.pad_to(signals[stem], longest) for stem in STEMS], axis=0)
    save(tmp_path / "d/A", signals)
    # what is added up has an offset too
    (finding,) = [one for one in alarms(found(tmp_path / "d")) if (one.code, one.file) != ("dc", "mixture.wav")]
    assert (finding.code, finding.severity, finding.file) == (code, "warning", file)
    assert finding.figures[figure] == pytest.approx(expected, abs=within)


@pytest.mark.parametrize("hertz", [25.0, 55.0, 440.0, 3000.0])
def test_a_tone_of_any_pitch_and_level_is_not_clipped_and_its_clipped_copy_is(hertz: float) -> None:
    tone = 0.6 * np.sin(2 * np.pi * hertz * np.arange(SAMPLE_RATE) / SAMPLE_RATE)[np.newaxis]
    steps = np.round(tone * 2**15) / 2**15
    assert files.measure(steps.astype(np.float32)).clipped_runs == 0
    assert files.measure(np.clip(steps, -0.5, 0.5).astype(np.float32)).clipped_runs > 1.2 * min(hertz, 2000)


@pytest.mark.parametrize("rate", [16_000, 22_050, 32_000])
def test_a_band_limit_is_found_where_a_lower_rate_puts_it(rate: int) -> None:
    low = audio.resample(noise(2.0), SAMPLE_RATE, rate)
    samples = audio.resample(low, rate, SAMPLE_RATE)
    measured = spectra.measure({"vocals": samples})
    limit_hz = files.band_limit_hz(measured.powers[0], measured.levels.shape[1])
    assert limit_hz is not None
    assert 0.9 * rate / 2 < limit_hz < 1.02 * rate / 2
    full = spectra.measure({"vocals": noise(2.0)})
    assert files.band_limit_hz(full.powers[0], full.levels.shape[1]) is None


def test_one_note_says_that_all_songs_are_limited(tmp_path: Path) -> None:
    for number, name in enumerate("ABC"):
        signals = {key: audio.resample(audio.resample(one, SAMPLE_RATE, 32_000), 32_000, SAMPLE_RATE)
                   for key, one in song(number, 1.0).items()}  # fmt: skip
        save(tmp_path / "d" / name, signals)
    (finding,) = [one for one in found(tmp_path / "d") if one.code == "band-limit"]
    assert (finding.severity, finding.song, finding.figures["songs"]) == ("note", str(tmp_path / "d"), 3)


def test_silence_lengths_and_equal_channels_are_told(tmp_path: Path) -> None:
    signals = song()
    signals["bass"][1] = signals["bass"][0]
    for name, samples in signals.items():
        samples[:, SAMPLE_RATE // 2 : 2 * SAMPLE_RATE] = 0
        signals[name] = samples
    signals[MIXTURE] = np.sum([signals[stem] for stem in STEMS], axis=0)
    signals["drums"] = audio.pad_to(signals["drums"], signals["drums"].shape[1] + SAMPLE_RATE)
    save(tmp_path / "d/A", signals)
    findings = found(tmp_path / "d", settings=QUICK.model_copy(update={"silence_seconds": 1.0}))
    by_code = {one.code: one for one in findings}
    assert by_code["silence"].figures == {"silence_seconds": 1.5, "start_seconds": 0.5}
    assert by_code["length"].figures == {"longest_seconds": 4.0, "shortest_seconds": 3.0}
    assert (by_code["dual-mono"].severity, by_code["dual-mono"].file) == ("note", "bass.wav")
    assert {one.code for one in alarms(findings)} == {"silence", "length"}


def test_files_that_no_stage_can_read_are_errors_of_their_kind(tmp_path: Path) -> None:
    folder = save(tmp_path / "d/A", song(seconds=0.5))
    (folder / "vocals.wav").write_text("words")
    (folder / "bass.wav").write_bytes((folder / "bass.wav").read_bytes()[:-500])
    import soundfile

    soundfile.write(folder / "drums.wav", np.full((5000, 2), np.nan), SAMPLE_RATE, subtype="FLOAT")
    errors = {(one.code, one.file) for one in found(tmp_path / "d") if one.severity == "error"}
    assert errors == {("unreadable", "vocals.wav"), ("truncated", "bass.wav"), ("not-finite", "drums.wav")}


# ---- the dataset


def test_what_is_not_read_and_what_one_song_alone_lacks_is_named(tmp_path: Path) -> None:
    for number, name in enumerate("ABCD"):
        save(tmp_path / "d/train" / name, song(number, 0.5))
    folder = tmp_path / "d/train/A"
    (folder / "bass.wav").rename(folder / "vocal_dbl.wav")
    (tmp_path / "d/train/B/mixture.wav").unlink()
    save(tmp_path / "d/train/loose", {"lead": noise(0.1)})
    (tmp_path / "d/train/empty").mkdir()
    findings = {(one.code, one.severity, Path(one.song).name, one.file) for one in found(tmp_path / "d")}
    assert ("unused-file", "error", "A", "vocal_dbl.wav") in findings
    assert ("missing-stem", "warning", "A", "") in findings
    assert ("no-song", "error", "loose", "") in findings
    assert ("no-song", "warning", "empty", "") in findings
    assert ("no-mixture", "error", "B", "") in findings


def test_the_same_recording_is_found_across_splits_and_datasets(tmp_path: Path) -> None:
    signals = song(seconds=6.0)
    save(tmp_path / "one/train/A", signals)
    copy = {name: 0.5 * one[:, SAMPLE_RATE:] for name, one in signals.items()}
    save(tmp_path / "one/test/Quieter", copy)
    save(tmp_path / "two/train/Again", signals)
    settings = CheckSettings()
    (leak,) = alarms(found(tmp_path / "one", settings=settings))
    assert (leak.code, leak.severity, leak.song) == ("leak", "error", str(tmp_path / "one/test/Quieter"))
    assert f"the same recording as {tmp_path / 'one/train/A'}, which it joins at 1.0 s" in leak.message
    assert leak.figures["offset_seconds"] == pytest.approx(1.0, abs=0.05)
    both = alarms(found(tmp_path / "one", tmp_path / "two", settings=settings))
    twice = {(one.code, one.severity) for one in both if one.song == str(tmp_path / "two/train/Again")}
    assert twice == {("duplicate", "warning"), ("leak", "error")}, "of A in train, and of its copy in test"


def test_a_stem_in_two_songs_and_one_name_in_two_splits_are_warnings(tmp_path: Path) -> None:
    for name, seed in (("train/Some Song", 1), ("train/B", 2), ("test/some_song", 3)):
        save(tmp_path / "d" / name, song(seed, 0.5))
    shutil.copy(tmp_path / "d/train/B/bass.wav", tmp_path / "d/train/Some Song/bass.wav")
    save(tmp_path / "d/train/Some Song", {MIXTURE: _sum(tmp_path / "d/train/Some Song")})
    findings = alarms(found(tmp_path / "d"))
    assert {(one.code, Path(one.song).name) for one in findings} == {
        ("duplicate", "Some Song"),
        ("same-name", "some_song"),
    }


def test_many_songs_with_one_stem_are_each_paired_with_the_first_of_each_split() -> None:
    names = [(f"{split} {number}", split) for split in ("train", "test") for number in range(100)]
    checked = [
        CheckedSong(Song(name, Path(name), {"bass": Path("bass.wav")}, Path("mixture.wav")), split, [])
        for name, split in names
    ]
    for one in checked:
        one.digests.update({"bass": b"the same", MIXTURE: one.song.name.encode()})
    findings = duplicates.find(checked)
    assert len(findings) == 99 + 1 + 2 * 99
    assert {str(finding.song) for finding in findings} == {name for name, _ in names[1:]}


def _sum(folder: Path) -> np.ndarray:
    return np.asarray(np.sum([audio.read(folder / f"{stem}.wav")[0] for stem in STEMS], axis=0))


def test_the_splits_of_the_settings_alone_are_read(tmp_path: Path) -> None:
    for split, seed in (("train", 1), ("valid", 2), ("test", 3)):
        save(tmp_path / "d" / split / split, song(seed, 0.2))
    settings = QUICK.model_copy(update={"splits": ("val",)})
    assert [one.split for one in datasets.check([tmp_path / "d"], settings, workers=1).songs] == ["val"]


# ---- what stops, and what is written


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["check", *map(str, arguments), "--workers", "1"])
    return result.exit_code, result.output


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """One song with an error, one with warnings (of a stem, and of the mixture), one good one."""
    first, second = song(1, 1.0), song(2, 1.0)
    inverted("bass")(first)
    offset(second)
    second[MIXTURE] = np.sum([second[stem] for stem in STEMS], axis=0)
    for name, signals in (("b & <i>", first), ("a", second), ("c", song(3, 1.0))):
        save(tmp_path / "d/train" / name, signals)
    return tmp_path / "d"


def test_the_settings_say_what_stops(faulty: Path) -> None:
    said = "3 songs, 1 with problems: 1 error, 2 warnings, 0 notes"
    status, output = run(faulty)
    assert (status, said in output) == (1, True), output
    assert output.index("train/b & <i>") < output.index("train/a") < output.index("train/c"), "the worst first"
    assert run(faulty, "--set", "check.stop_at=never")[0] == 0
    assert run(faulty, "--set", "check.ignore=[polarity]")[0] == 0
    assert run(faulty, "--set", "check.ignore=[polarity]", "--set", "check.stop_at=warning")[0] == 1
    assert run(faulty, "--set", "check.ignore=[polarity, dc]", "--set", "check.stop_at=warning")[0] == 0


def test_an_unknown_kind_is_an_error_that_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"check\.ignore\.0.*'polarity'.*found 'polarities'") as caught:
        Settings.of({"check": {"ignore": ["polarities"]}})
    assert all(f"'{code}'" in str(caught.value) for code in KINDS)
    assert set(KINDS) == set(get_args(FindingCode))


def test_the_findings_are_written_as_json_and_the_same_twice(faulty: Path, tmp_path: Path) -> None:
    written = []
    for number in range(2):
        path = tmp_path / f"{number}.json"
        assert run(faulty, "--json", path, "--set", "check.splits=[train]")[0] == 1
        written.append(path.read_bytes())
    assert written[0] == written[1]
    content = json.loads(written[0])
    assert content["schema"] == 1
    assert content["passed"] is False
    assert content["datasets"] == [str(faulty)]
    assert content["counts"] == {"songs": 3, "bad_songs": 1, "error": 1, "warning": 2, "note": 0}
    assert content["settings"]["splits"] == ["train"]
    first = content["findings"][0]
    assert set(first) == {"code", "severity", "song", "split", "file", "message", "figures"}
    assert (first["code"], first["file"], first["split"]) == ("polarity", "bass.wav", "train")
    assert [one["seconds"] for one in content["songs"]] == [1.0, 1.0, 1.0]
    with pytest.raises(DatasetError, match=r"found 1 error, 2 warnings, 0 notes, the worst: .*polarity is inverted"):
        stage.refuse_failed(tmp_path / "0.json")
    with pytest.raises(DatasetError, match="expected the findings"):
        stage.refuse_failed(faulty / "train/a/bass.wav")
    run(faulty, "--json", tmp_path / "0.json", "--set", "check.stop_at=never")
    stage.refuse_failed(tmp_path / "0.json")


def test_parts_of_a_dataset_give_what_the_whole_gives(faulty: Path, tmp_path: Path) -> None:
    shutil.copytree(faulty / "train/c", faulty / "test/c again")
    (faulty / "test/notes.wav").write_bytes(b"")
    settings = CheckSettings(pictured_songs=1)
    whole = stage.run(settings, [faulty], tmp_path / "whole.json", tmp_path / "whole.html", workers=1)
    assert {"polarity", "leak", "unused-file"} <= {finding.code for finding in whole.findings}
    layout, files = Layout.read(faulty), [tmp_path / f"{number}.json.gz" for number in range(2)]
    for number, file in enumerate(files):
        for one in layout.songs[number::2]:
            part = tmp_path / f"part {number}" / one.folder.relative_to(faulty)
            part.parent.mkdir(parents=True, exist_ok=True)
            part.symlink_to(one.folder)
        stage.run_part(settings, tmp_path / f"part {number}", file, workers=1)
    stage.merge(settings, layout, files[::-1], tmp_path / "parts.json", tmp_path / "parts.html")
    for suffix in ("json", "html"):
        assert (tmp_path / f"parts.{suffix}").read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()
    with pytest.raises(DatasetError, match="it is in no part"):
        stage.merge(settings, layout, files[:1], tmp_path / "parts.json", tmp_path / "parts.html")
    with pytest.raises(DatasetError, match="is in another part as well"):
        stage.merge(settings, layout, files[:1] * 2, tmp_path / "parts.json", tmp_path / "parts.html")


def test_the_page_shows_the_worst_first_and_needs_nothing_beside_it(faulty: Path, tmp_path: Path) -> None:
    assert run(faulty, "--report", tmp_path / "r.html")[0] == 1
    page = (tmp_path / "r.html").read_text()
    assert "b &amp; &lt;i&gt;" in page
    assert "<i>" not in page
    assert page.index("b &amp; &lt;i&gt;") < page.index("train/a")
    assert page.count("<svg") == 1, "the polarity's; an offset needs none"
    assert KINDS["polarity"].remedy in page
    without_names = page.replace("http://www.w3.org", "")
    assert not [word for word in ("http://", "https://", "src=", "<script") if word in without_names]
    assert "NaN" not in page


def test_the_page_of_a_thousand_songs_stays_small(tmp_path: Path) -> None:
    picture = Picture("What is seen.", "Time, s", "Level, dBFS", [Curve("one", np.arange(400.0), np.arange(400.0))])
    songs, findings, pictures = [], [], {}
    for number in range(1000):
        folder = tmp_path / f"{number:04}"
        songs.append(CheckedSong(Song(folder.name, folder, {}, None), "train", [], 200.0))
        findings.append(Finding("delay", "error", str(folder), "late", "bass.wav", {}, "train"))
        pictures[str(folder), "delay", "bass.wav"] = [picture]
    settings = CheckSettings(pictured_songs=3)
    found_there = CheckedDatasets([Layout(tmp_path)], songs, findings, settings, pictures)
    report.write(tmp_path / "r.html", found_there)
    page = (tmp_path / "r.html").read_text()
    assert page.count("<svg") == 3
    assert all(f"{number:04}" in page for number in range(1000))
    assert len(page) < 1_000_000


def test_names_in_another_encoding_are_shown_with_their_bytes(tmp_path: Path) -> None:
    folder = save(tmp_path / "d/train/a", song(1, 0.1))
    latin = os.fsdecode(b"caf\xe9.wav")
    (folder / "bass.wav").rename(folder / latin)
    folder.rename(folder.with_name(latin))
    written = stage.run(QUICK, [tmp_path / "d"], tmp_path / "r.json", tmp_path / "r.html", 1).findings
    assert {("ambiguous", ""), ("unused-file", latin)} <= {(one.code, one.file) for one in written}
    assert "caf\\udce9.wav" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert latin in {one["file"] for one in json.loads((tmp_path / "r.json").read_text())["findings"]}


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(faulty: Path, tmp_path: Path) -> None:
    for option, path in (("--json", "a.txt"), ("--report", "a.json"), ("--json", faulty / "train/a/x.json")):
        line = the_line(CliRunner().invoke(main, ["check", str(faulty), option, str(tmp_path / path)]))
        assert str(path) in line
    with pytest.raises(OutputError):
        stage.run(QUICK, [faulty], tmp_path / "a.html")
    with pytest.raises(DatasetError, match="each dataset once"):
        stage.run(QUICK, [faulty, faulty / "../d"])

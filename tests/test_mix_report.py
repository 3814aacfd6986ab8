"""What a mix is reported to be, and what can be asked of it."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import loudness
from fxnorm.effects.features import EFFECTS
from fxnorm.errors import SettingsError
from fxnorm.mixing.delivery import DeliveredMix, Delivery, deliver
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.report import describe, measure_stems
from fxnorm.statistics import DatasetStatistics, measure_stem
from tests.conftest import noise


@pytest.fixture(scope="module")
def songs() -> list[dict[str, np.ndarray]]:
    return [
        {stem: noise(2.0, 0.2 + 0.05 * song, seed=10 * song + number) for number, stem in enumerate(STEMS)}
        for song in range(4)
    ]


@pytest.fixture(scope="module")
def statistics(songs: list[dict[str, np.ndarray]]) -> DatasetStatistics:
    statistics = DatasetStatistics()
    for song in songs:
        for stem, samples in song.items():
            statistics.add(stem, measure_stem(samples, SAMPLE_RATE, stem))
    return statistics


def as_is(mix: np.ndarray) -> DeliveredMix:
    return deliver(mix, Delivery(as_is=True), DatasetStatistics())


def test_loudness_is_of_the_stems_as_they_came_and_of_the_mix(
    songs: list[dict[str, np.ndarray]], statistics: DatasetStatistics
) -> None:
    song = songs[0]
    mix = np.asarray(sum(song.values()))
    report = describe(measure_stems(song), as_is(mix), statistics)
    assert report.loudness_lufs == loudness.measure(mix, SAMPLE_RATE)
    for stem, samples in song.items():
        assert report.stem_loudness_lufs[stem] == loudness.measure(samples, SAMPLE_RATE)


def test_a_training_song_lies_near_the_training_songs(
    songs: list[dict[str, np.ndarray]], statistics: DatasetStatistics
) -> None:
    report = describe(measure_stems(songs[1]), as_is(songs[1]["bass"]), statistics)
    assert set(report.drift) == set(EFFECTS)
    # of four values, none lies more than 3 / sqrt(3) standard deviations from their mean; root mean squares likewise
    assert all(abs(value) < 3**0.5 + 1e-6 for stems in report.drift.values() for value in stems.values() if value)
    assert report.warnings == []


def test_one_sentence_warns_of_a_stem_that_lies_far_outside(
    songs: list[dict[str, np.ndarray]], statistics: DatasetStatistics
) -> None:
    stems = songs[0] | {"bass": 0.02 * songs[0]["bass"]}
    (warning,) = describe(measure_stems(stems), as_is(songs[0]["bass"]), statistics).warnings
    assert warning.startswith("bass: far from the training songs")
    assert "loudness by -" in warning


def test_songs_that_do_not_differ_put_any_other_stem_infinitely_far(songs: list[dict[str, np.ndarray]]) -> None:
    one = DatasetStatistics()
    one.add("bass", measure_stem(songs[0]["bass"], SAMPLE_RATE, "bass"))
    (warning,) = describe(measure_stems({"bass": songs[1]["bass"]}), as_is(songs[0]["bass"]), one).warnings
    assert "loudness beyond any, because they do not differ" in warning
    assert describe(measure_stems({"bass": songs[0]["bass"]}), as_is(songs[0]["bass"]), one).warnings == []


def test_a_stem_that_cannot_be_measured_is_told_of(
    songs: list[dict[str, np.ndarray]], statistics: DatasetStatistics
) -> None:
    click = np.zeros((2, SAMPLE_RATE), np.float32)
    click[:, 100] = 0.01
    one_sided = songs[0]["drums"] * np.array([[1.0], [0.0]], np.float32)
    quiet = 0.001 * songs[0]["vocals"]
    stems: dict[str, np.ndarray] = {"vocals": quiet, "bass": click, "drums": one_sided, "other": 0 * click}
    vocals, bass, drums = describe(measure_stems(stems), as_is(songs[0]["bass"]), statistics).warnings
    assert vocals == "vocals: counts as silence, because its peak does not pass -50 dBFS"
    assert bass == "bass: too quiet to be compared with the training songs"
    assert "; not to be compared with the training songs: compression" in drums


def test_a_mono_stem_is_reported_as_it_is_mixed_on_both_sides(statistics: DatasetStatistics) -> None:
    """The kind: what is reported is measured on other channels than what is compared and mixed."""
    mono = noise(2.0, 0.2, channels=1)
    one, two = (
        describe(measure_stems({"bass": samples}), as_is(mono.repeat(2, axis=0)), statistics)
        for samples in (mono, mono.repeat(2, axis=0))
    )
    assert one == two
    assert one.stem_loudness_lufs["bass"] == loudness.measure(mono.repeat(2, axis=0), SAMPLE_RATE)


def test_a_stem_without_programme_is_named(statistics: DatasetStatistics) -> None:
    hum = (0.02 * np.sin(2 * np.pi * 50 * np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32)[None]
    (warning,) = describe(measure_stems({"bass": hum}), as_is(hum.repeat(2, axis=0)), statistics).warnings
    assert warning.endswith("; no programme: clicks, hum, noise or bleed alone, taken as it is")


def test_a_report_is_json_whatever_cannot_be_measured(songs: list[dict[str, np.ndarray]]) -> None:
    one = DatasetStatistics()
    one.add("bass", measure_stem(songs[0]["bass"], SAMPLE_RATE, "bass"))
    silence = np.zeros((2, SAMPLE_RATE), np.float32)
    report = describe(measure_stems({"vocals": silence, "bass": songs[1]["bass"]}), as_is(silence), one)
    assert json.loads(json.dumps(asdict(report), allow_nan=False)) == asdict(report)
    assert report.stem_loudness_lufs["vocals"] is None
    assert report.loudness_lufs is None
    assert report.drift["loudness"] == {"bass": None}, "one song has no spread"


def test_where_averages_alone_are_known_there_is_no_drift(statistics: DatasetStatistics) -> None:
    averages = DatasetStatistics()
    averages._averages["loudness", "bass"] = statistics.mean("loudness", "bass")
    report = describe(measure_stems({"bass": noise(1.0)}), as_is(noise(1.0)), averages)
    assert (report.drift, report.warnings) == ({}, [])


@pytest.mark.parametrize(
    "params, said",
    [
        ({"dy": True}, "dy: unknown, expected some of dry, output_format"),
        ({"\ud800": 1}, r"\ud800: unknown, expected some of dry"),
        ({"a\nb\u2028": 1, "b": 2}, r"a\nb\u2028, b: unknown, expected some of dry"),
        ({"a" * 1_000: 1}, f"{'a' * 60}…: unknown"),
        ({"output_format": "\ud800"}, "output_format: Input should be a valid string"),
        ({"dry": 1}, "dry: Input should be a valid boolean"),
        ({"output_format": "ogg"}, "output_format: Input should be 'wav', 'flac' or 'mp3'"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
        ({"seed": 2**63}, "seed: Input should be less than"),
        ({"seed": True}, "seed: Input should be a valid integer"),
        ({"song": ""}, "song: String should have at least 1 character"),
        ({"song": "a" * 256}, "song: String should have at most 255 characters"),
        ({"song": "\ud800"}, "song: Input should be a valid string"),
        ({"song": 3}, "song: Input should be a valid string"),
        ({"target_loudness": float("nan")}, "target_loudness: "),
        ({"target_loudness": 3}, "target_loudness: Input should be less than or equal to 0"),
        ({"target_loudness": "-14"}, "target_loudness: Input should be a valid number"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(params: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        MixOptions.of(params)
    assert said in str(refused.value)
    assert str(refused.value).isprintable()

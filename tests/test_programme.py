"""What carries no programme is brought to no target, and what does is normalized as published.

The kind: sound that is made up, because a gain that suits music is given to what a recording leaves behind (clicks,
crackle, hum, hiss, offset, rumble, bleed, the empty side of a stem), wherever levels are matched.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from fxnorm import Mixer
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data import dataset
from fxnorm.effects import compression, equalization, loudness, panning, programme
from fxnorm.effects.features import measure_mixture, measure_stem
from fxnorm.effects.spectrum import FFT_SIZE
from fxnorm.errors import AudioError
from fxnorm.evaluation import songs
from fxnorm.evaluation.excerpts import Excerpts, matched_gains_db
from fxnorm.io import audio
from fxnorm.listening_test import excerpts
from fxnorm.normalization.normalizer import MOST_GAIN_DB, ORDER, EffectNormalizer
from fxnorm.normalization.recipe import Recipe
from fxnorm.quality.songs import check
from fxnorm.settings import CheckSettings, NormalizeSettings
from fxnorm.stages import normalize as stage
from fxnorm.statistics import DatasetStatistics
from fxnorm.training.data import Reverberation
from tests.conftest import noise

DATA = Path(__file__).parent / "data" / "effects"
SECONDS = 3.0
SAMPLES = round(SECONDS * SAMPLE_RATE)
TIME = np.arange(SAMPLES) / SAMPLE_RATE


def clicks(count: int, level: float, shape: tuple[float, ...] = (1.0,), seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    samples = np.zeros(SAMPLES)
    for start in generator.integers(0, SAMPLES - len(shape), count):
        samples[start : start + len(shape)] += level * generator.choice([-1, 1]) * np.array(shape)
    return samples


def click_train(period: int, level: float) -> np.ndarray:
    return np.where(np.arange(SAMPLES) % period == 0, level, 0.0)


def hiss(level: float, seed: int = 0) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(SAMPLES)


def hum(frequency: float, level: float) -> np.ndarray:
    partials = (np.sin(2 * np.pi * number * frequency * TIME + number) / number for number in range(1, 6))
    return level / 2 * np.sum(list(partials), axis=0)


def offsets(*levels: float) -> np.ndarray:
    """One constant after the other."""
    return np.repeat(levels, -(-SAMPLES // len(levels)))[:SAMPLES]


def rumble(lowest: float, highest: float, level: float) -> np.ndarray:
    band = scipy.signal.butter(2, [lowest, highest], "band", fs=SAMPLE_RATE, output="sos")
    samples = scipy.signal.sosfilt(band, hiss(1.0))
    return level * samples / np.abs(samples).max()


def bleed(gain_db: float) -> np.ndarray:
    stem = audio.read(DATA / "song" / "vocals.flac")[0][0, :SAMPLES]
    return 10 ** (gain_db / 20) * stem / np.abs(stem).max()


def hit(decay_ms: float, frequency: float | None, level: float = 0.5) -> np.ndarray:
    """One single hit of percussion: a decaying tone, or noise without a frequency."""
    samples, place = np.zeros(SAMPLES), SAMPLE_RATE
    time = np.arange(round(0.01 * decay_ms * SAMPLE_RATE)) / SAMPLE_RATE
    sound = hiss(0.3)[: time.size] if frequency is None else np.sin(2 * np.pi * frequency * time)
    samples[place : place + time.size] = level * sound * np.exp(-1000 * time / decay_ms)
    return samples


POP = tuple(np.exp(-np.arange(60) / 13) * np.cos(np.arange(60)))  # 0.3 ms, as of a record

RESIDUES: dict[str, np.ndarray] = {
    "one click": clicks(1, 0.02),
    "one click at full scale": clicks(1, 1.0),
    "the first sample": np.eye(1, SAMPLES, 0)[0],
    "the last sample": np.eye(1, SAMPLES, SAMPLES - 1)[0],
    "some clicks": clicks(30, 0.3),
    "clicks of three samples": clicks(30, 1.0, (1.0, -0.7, 0.3)),
    "pops of a record": clicks(20, 0.5, POP),
    "crackle": clicks(300, 0.2),
    "ten clicks a second": click_train(4410, 1.0),
    "fifty clicks a second": click_train(882, 1.0),
    "a click in a noise floor": clicks(1, 0.2) + hiss(0.0002),
    "crackle in hiss": clicks(60, 0.2) + hiss(0.002),
    "clicks in hum": clicks(20, 0.2) + hum(50, 0.02),
    "hiss": hiss(0.004),
    "hum at 50 Hz": hum(50, 0.02),
    "hum at 60 Hz": hum(60, 0.02),
    "hum and hiss that waver": (hum(50, 0.01) + hiss(0.001)) * (1 + 0.1 * np.sin(2 * np.pi * 0.5 * TIME)),
    "hum from here to there": hum(50, 0.02) * ((TIME > 0.53) & (TIME < 2.41)),
    "hum that begins later": hum(60, 0.02) * (TIME > 1.77),
    "hiss for a moment": hiss(0.003) * ((TIME > 1.83) & (TIME < 2.6)),
    "an offset": offsets(0.3),
    "an offset that is switched": offsets(0.0, 0.3, -0.2, 0.1),
    "an offset that is switched, in hiss": offsets(0.0, 0.3, 0.1) + hiss(0.0005),
    "an offset that fades": np.where(TIME > 1, np.exp(-(TIME - 1) / 0.1), 0.0),
    "an offset that drifts": 0.5 * np.sin(2 * np.pi * 0.7 * TIME),
    "rumble": rumble(5, 20, 0.1),
    "bleed": bleed(-46.0),
    "bleed with clicks": bleed(-46.0) + clicks(10, 0.3),
    "half the sample rate at a low level": 0.01 * (-1.0) ** np.arange(SAMPLES),
}

PROGRAMME: dict[str, np.ndarray] = {
    "a song turned down by 30 dB": bleed(-30.0),
    "noise that swells": noise(SECONDS, 0.02)[0],
    "a fifth of a second": noise(0.2, 0.1)[0],
    "claves": hit(10, 2500),
    "claves with little decay": hit(5, 2500, 0.1),
    "a rim shot": hit(4, 1700, 0.2),
    "a tick of a closed hi-hat": hit(3, None),
    "a kick drum": hit(150, 55),
    "a sampled kick drum that begins in the middle of a cycle": np.roll(hit(150, 55), -1600) * (TIME > 1.0),
    "a sawtooth bass": 0.1 * scipy.signal.sawtooth(2 * np.pi * 41.2 * TIME),
    "a square wave": 0.1 * scipy.signal.square(2 * np.pi * 55 * TIME),
    "a narrow pulse wave": 0.1 * scipy.signal.square(2 * np.pi * 110 * TIME, 0.1),
    "a drone": 0.05 * np.sin(2 * np.pi * 220 * TIME),
    "the lowest string of a five-string bass": 0.2 * np.sin(2 * np.pi * 30.9 * TIME),
    "noise for its own sake": hiss(0.03),
    "noise with an offset": noise(SECONDS, 0.05)[0] + 0.5,
    "noise with clicks": noise(SECONDS, 0.05)[0] + clicks(20, 1.0),
    "a moment in a hum": hum(50, 0.01) + np.roll(np.pad(noise(0.3, 0.1)[0], (0, SAMPLES - 13230)), SAMPLE_RATE),
    "a fade-out": noise(SECONDS, 0.1)[0] * np.linspace(1, 0, SAMPLES),
}


def channels(*samples: np.ndarray) -> np.ndarray:
    return np.stack(samples).astype(np.float32)


@pytest.fixture(scope="module")
def statistics() -> DatasetStatistics:
    return DatasetStatistics.load(DATA / "musdb18_statistics.npz")


@pytest.fixture(scope="module")
def chain(statistics: DatasetStatistics) -> EffectNormalizer:
    return EffectNormalizer(statistics, ORDER)


def published(samples: np.ndarray, statistics: DatasetStatistics, stem: str) -> np.ndarray:
    """The published chain without reverberation, whatever it is given."""
    padded = np.pad(audio.to_stereo(samples), ((0, 0), (FFT_SIZE, FFT_SIZE)))
    target = {effect: statistics.target(effect, stem) for effect in ("equalization", "compression", "panning")}
    padded = equalization.match(padded, SAMPLE_RATE, target["equalization"])
    padded = compression.match(
        padded, SAMPLE_RATE, target["compression"], compression.PUBLISHED_SETTINGS[stem], out=padded
    )
    limit = panning.PanningSettings(panning.PUBLISHED_LIMITS[stem])
    padded = panning.match(padded, SAMPLE_RATE, target["panning"], limit)
    padded = loudness.match(padded, SAMPLE_RATE, float(statistics.target("loudness", stem)))
    return padded[:, FFT_SIZE:-FFT_SIZE]


@pytest.mark.parametrize("name", RESIDUES)
def test_what_carries_no_programme_is_neither_measured_nor_changed(name: str, chain: EffectNormalizer) -> None:
    residue = channels(RESIDUES[name])
    for stem in ("vocals", "bass"):
        normalized = chain.normalize(residue, SAMPLE_RATE, stem, dry=True)
        np.testing.assert_array_equal(normalized, residue.repeat(2, axis=0))
        assert measure_stem(residue, SAMPLE_RATE, stem) == {}
    assert measure_mixture(residue, SAMPLE_RATE) == {}


@pytest.mark.parametrize("name", PROGRAMME)
def test_programme_is_normalized_as_published_to_the_bit(name: str, statistics: DatasetStatistics) -> None:
    samples = channels(PROGRAMME[name])
    assert measure_stem(samples, SAMPLE_RATE, "bass")
    normalized = EffectNormalizer(statistics).normalize(samples, SAMPLE_RATE, "bass")
    np.testing.assert_array_equal(normalized, published(samples, statistics, "bass"))


@pytest.mark.parametrize("stem", STEMS)
def test_a_song_s_stems_are_programme_on_both_sides(stem: str, statistics: DatasetStatistics) -> None:
    samples = audio.read(DATA / "song" / f"{stem}.flac")[0]
    for gain in (1.0, 10 ** (-30 / 20)):
        assert programme.carried(samples * np.float32(gain), SAMPLE_RATE).all()
    normalized = EffectNormalizer(statistics).normalize(samples, SAMPLE_RATE, stem)
    np.testing.assert_array_equal(normalized, published(samples, statistics, stem))


def test_a_single_sample_of_a_silent_bass_stays_what_it_is(chain: EffectNormalizer) -> None:
    bass = np.zeros((2, 60 * SAMPLE_RATE), np.float32)
    bass[:, 1_000_000] = 0.02
    np.testing.assert_array_equal(chain.normalize(bass, SAMPLE_RATE, "bass"), bass)
    assert measure_stem(bass, SAMPLE_RATE, "bass") == {}


def test_two_seconds_of_programme_make_five_minutes_programme() -> None:
    song = np.zeros((1, 300 * SAMPLE_RATE), np.float32)
    song += np.float32(0.001) * np.random.default_rng(0).standard_normal(song.shape, np.float32)
    assert not programme.carried(song, SAMPLE_RATE).any()
    song[:, 200 * SAMPLE_RATE : 202 * SAMPLE_RATE] += noise(2.0, 0.1, channels=1)
    assert programme.carried(song, SAMPLE_RATE).all()


@pytest.mark.parametrize("name", RESIDUES)
def test_a_side_without_programme_stays_as_it_is_beside_one_that_has_it(
    name: str, statistics: DatasetStatistics
) -> None:
    bass = PROGRAMME["a sawtooth bass"]
    residue, silence = RESIDUES[name], np.zeros(SAMPLES)
    with_residue, alone = channels(bass, residue), channels(bass, silence)
    chain = EffectNormalizer(statistics)
    normalized = chain.normalize(with_residue, SAMPLE_RATE, "bass")
    np.testing.assert_array_equal(normalized[1], with_residue[1])
    np.testing.assert_array_equal(normalized[0], chain.normalize(alone, SAMPLE_RATE, "bass")[0])
    found, expected = (measure_stem(samples, SAMPLE_RATE, "bass") for samples in (with_residue, alone))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[effect], expected[effect]) for effect in found)


def test_a_stem_may_lean_to_one_side(statistics: DatasetStatistics) -> None:
    samples = channels(bleed(-20.0), bleed(-36.0))
    assert programme.carried(samples, SAMPLE_RATE).all()
    normalized = EffectNormalizer(statistics).normalize(samples, SAMPLE_RATE, "vocals")
    np.testing.assert_array_equal(normalized, published(samples, statistics, "vocals"))


@pytest.mark.filterwarnings("error")
@settings(max_examples=25, deadline=None)
@given(
    left=st.sampled_from([*RESIDUES, *PROGRAMME]),
    right=st.sampled_from([*RESIDUES, *PROGRAMME]),
    levels=st.tuples(st.floats(-45, 6), st.floats(-45, 6)),
    seconds=st.floats(0.01, SECONDS),
    effects=st.sampled_from([ORDER[1:], ORDER, ("equalization",), ("compression",), ("equalization", "panning")]),
    precise=st.booleans(),
    stem=st.sampled_from(STEMS),
)
def test_no_gain_passes_the_bound(
    left: str,
    right: str,
    levels: tuple[float, float],
    seconds: float,
    effects: tuple[str, ...],
    precise: bool,
    stem: str,
) -> None:
    sounds = [np.resize((RESIDUES | PROGRAMME)[name], SAMPLES) for name in (left, right)]
    samples = channels(*(10 ** (level / 20) * sound for level, sound in zip(levels, sounds, strict=True)))
    samples = np.ascontiguousarray(samples[:, : max(1, round(seconds * SAMPLE_RATE))])
    statistics = DatasetStatistics.load(DATA / "musdb18_statistics.npz")
    chain = EffectNormalizer(statistics, effects, precise=precise)
    normalized = chain.normalize(samples, SAMPLE_RATE, stem)
    for before, after in zip(samples, normalized, strict=True):
        if before.any():
            assert audio.peak_dbfs(after[None]) <= audio.peak_dbfs(before[None]) + MOST_GAIN_DB + 1e-3
    if "loudness" in effects:
        before, after = (loudness.measure(found, SAMPLE_RATE) for found in (samples, normalized))
        assert not after > max(before, -70.0) + MOST_GAIN_DB


def test_a_chain_without_targets_reverberates_clicks_too(statistics: DatasetStatistics) -> None:
    residue = channels(RESIDUES["one click at full scale"]).repeat(2, axis=0)
    assert np.any(EffectNormalizer(statistics, ORDER[:1]).normalize(residue, SAMPLE_RATE, "vocals") != residue)


def test_reverberation_on_the_fly_makes_nothing_louder(mixer_folder: Path) -> None:
    reverberation = Reverberation.of(Recipe.load(mixer_folder), 1.0)
    for name in ("one click at full scale", "hiss", "bleed with clicks"):
        crop = channels(RESIDUES[name]).repeat(2, axis=0)
        before = loudness.measure(crop, SAMPLE_RATE)
        after = loudness.measure(reverberation.apply(crop, "vocals", seed=3), SAMPLE_RATE)
        assert after <= before + 0.1


@pytest.mark.parametrize("name", ["one click at full scale", "hum at 50 Hz", "bleed with clicks"])
def test_a_mix_of_residue_is_not_turned_up(name: str, mixer_folder: Path) -> None:
    mixer = Mixer.load(mixer_folder)
    residue = channels(RESIDUES[name])
    stems = {"bass": residue}
    np.testing.assert_array_equal(mixer.normalize(stems)[2:4], residue.repeat(2, axis=0))
    as_mixed = mixer.mix(stems, SAMPLE_RATE)
    np.testing.assert_array_equal(mixer.mix(stems, SAMPLE_RATE, target_loudness=-14.0), as_mixed)


def test_mixes_of_residue_are_not_turned_up_to_be_compared() -> None:
    residue = channels(RESIDUES["hiss"]).repeat(2, axis=0)
    click = channels(RESIDUES["one click at full scale"]).repeat(2, axis=0)
    assert songs._at_loudness(residue, -14.0) is residue
    assert songs._at_loudness(click, -14.0) is click
    song = noise(SECONDS, 0.5)
    found = Excerpts.of({"reference": song, "residue": residue, "click": click}, SECONDS).mixes
    assert found["residue"]["gain_db"] == found["click"]["gain_db"] == 0
    assert found["reference"]["gain_db"] == Excerpts.of({"reference": song}, SECONDS).mixes["reference"]["gain_db"]
    assert matched_gains_db({"song": -20.0, "faint": -65.0}, {"song": -3.0, "faint": -20.0})["faint"] == 0
    for unheard in (residue, click):
        with pytest.raises(AudioError, match=r"mix\.flac: silent in this excerpt"):
            excerpts.gain_to_zero(unheard, "mix.flac")


def test_check_and_normalize_name_stems_without_programme(
    make_song: Callable[..., Path], mixer_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_song(seconds=SECONDS)
    audio.write(folder / "bass.wav", channels(RESIDUES["hum at 50 Hz"]))
    audio.write(folder / "drums.wav", channels(noise(SECONDS, 0.1)[0], RESIDUES["hiss"]))
    (song,) = dataset.songs(tmp_path / "dataset", "train")
    said = ["bass.wav: no programme: ", "drums.wav: right channel: no programme: "]
    findings = check(song, "train", CheckSettings()).findings
    errors = {one.code for one in findings if one.severity == "error"}
    assert errors == {"mixture-residual"}, "of the stems that were replaced"
    assert [one.line.partition("clicks")[0] for one in findings if one.code == "no-programme"] == said
    recipe = Recipe.load(mixer_folder)
    (tmp_path / "recipe").mkdir()
    Recipe(recipe.statistics, NormalizeSettings(), recipe.impulse_responses, recipe.pre_impulse_responses, {}).save(
        tmp_path / "recipe"
    )
    with caplog.at_level(logging.WARNING):
        done = stage._Done(tmp_path / "done", "this code")
        stage._normalize_song(song, tmp_path / "recipe", "recipe", tmp_path / "out", dry=False, done=done)
    assert [record.getMessage().partition("clicks")[0] for record in caplog.records] == [f"{folder}/{x}" for x in said]
    written = audio.read(tmp_path / "out" / song.name / "bass.wav")[0]
    np.testing.assert_allclose(written[0], RESIDUES["hum at 50 Hz"], atol=2**-23)


def test_a_mono_and_a_stereo_mixture_measure_the_same() -> None:
    mono = noise(2.0, 0.3, channels=1)
    one, two = (measure_mixture(samples, SAMPLE_RATE)["equalization"] for samples in (mono, mono.repeat(2, axis=0)))
    np.testing.assert_array_equal(one, two)

"""The effect chain as a whole: what it promises for any stem, and what of it can be chosen."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import equalization, panning
from fxnorm.effects.features import measure_stem
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.effects.spectrum import FFT_SIZE
from fxnorm.errors import AudioError, DatasetError, SettingsError
from fxnorm.io import audio
from fxnorm.normalization.normalizer import ORDER, EffectNormalizer
from fxnorm.statistics import DatasetStatistics
from tests.conftest import noise

DATA = Path(__file__).parent / "data" / "effects"
ROOMS = ImpulseResponses.synthesized(0.3, count=4)


@pytest.fixture(scope="module")
def statistics() -> DatasetStatistics:
    return DatasetStatistics.load(DATA / "musdb18_statistics.npz")


@pytest.fixture(scope="module")
def normalizer(statistics: DatasetStatistics) -> EffectNormalizer:
    return EffectNormalizer(statistics)


@pytest.fixture(scope="module")
def reverberating(statistics: DatasetStatistics) -> EffectNormalizer:
    return EffectNormalizer(statistics, ORDER, impulse_responses=ROOMS, pre_impulse_responses=ROOMS)


def tone(frequency: float, level: float = 1.0) -> np.ndarray:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)[None].repeat(2, axis=0)


SOUNDS: dict[str, np.ndarray] = {
    "a pure tone": tone(440.0),
    "a full-scale square wave": np.sign(tone(100.0)),
    "a square wave of four samples": np.sign(tone(SAMPLE_RATE / 4 - 1e-3) + 1e-4),
    "half the sample rate": np.tile(np.array([1, -1], dtype=np.float32), (2, SAMPLE_RATE // 2)),
    "an offset": noise(1.0) + np.float32(0.5),
    "nothing but an offset": np.full((2, SAMPLE_RATE), 0.9, dtype=np.float32),
    "denormal numbers": np.full((2, SAMPLE_RATE), 1e-40, dtype=np.float32),
    "denormal numbers after sound": np.concatenate([noise(0.5), np.full((2, 9000), 1e-40, dtype=np.float32)], axis=1),
    "one sample": np.full((2, 1), 0.7, dtype=np.float32),
    "one sample in silence": np.eye(1, SAMPLE_RATE, 1000, dtype=np.float32).repeat(2, axis=0),
    "one silent sample": np.where(np.arange(SAMPLE_RATE) == 500, np.float32(0), noise(1.0)),
    "a fifth of a second": noise(0.2),
    "one side only": noise(1.0) * np.array([[1], [0]], dtype=np.float32),
    "opposite channels": tone(300.0) * np.array([[1], [-1]], dtype=np.float32),
    "clicks": np.tile((np.arange(4410) == 0).astype(np.float32), (2, 10)),
    "a burst under the loudness gate": np.pad(noise(0.005, 0.004), ((0, 0), (20_000, 20_000))),
    "sound between silence": np.pad(noise(0.5), ((0, 0), (30_000, 100_000))),
    "far over full scale": noise(1.0, level=300.0),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", SOUNDS)
def test_any_sound_goes_through(name: str, reverberating: EffectNormalizer) -> None:
    for stem in ("vocals", "drums"):
        normalized = reverberating.normalize(SOUNDS[name], SAMPLE_RATE, stem, dry=True)
        assert normalized.dtype == np.float32
        assert normalized.shape == SOUNDS[name].shape
        assert np.isfinite(normalized).all()
        assert np.abs(normalized).max() <= 1 + 1e-6


@pytest.mark.filterwarnings("error")
@settings(max_examples=20, deadline=None)
@given(
    samples=st.integers(1, 2 * SAMPLE_RATE),
    channels=st.integers(1, 2),
    exponent=st.floats(-8, 3),
    offset=st.floats(-1, 1),
    silent_from=st.floats(0, 1),
    stem=st.sampled_from(STEMS),
    seed=st.integers(0, 99),
)
def test_random_sounds_go_through(
    samples: int, channels: int, exponent: float, offset: float, silent_from: float, stem: str, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    sound = (10**exponent * (generator.standard_normal((channels, samples)) + offset)).astype(np.float32)
    sound[:, int(silent_from * samples) :] = 0
    highest = 10 ** (audio.MAX_DBFS / 20)  # more is refused
    sound = np.clip(sound, -highest, highest)
    chain = EffectNormalizer(DatasetStatistics.load(DATA / "musdb18_statistics.npz"))
    normalized = chain.normalize(sound, SAMPLE_RATE, stem)
    assert normalized.shape == (2, samples)
    assert np.isfinite(normalized).all()


@pytest.mark.parametrize("stem", STEMS)
def test_a_normalized_stem_has_the_target_s_loudness(
    stem: str, normalizer: EffectNormalizer, statistics: DatasetStatistics
) -> None:
    normalized = normalizer.normalize(audio.read(DATA / "song" / f"{stem}.flac")[0], SAMPLE_RATE, stem)
    features = measure_stem(normalized, SAMPLE_RATE, stem)
    assert features["loudness"] == pytest.approx(float(statistics.mean("loudness", stem)), abs=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_a_song_of_20_minutes_goes_through(normalizer: EffectNormalizer, statistics: DatasetStatistics) -> None:
    minutes = np.tile(audio.read(DATA / "song" / "vocals.flac")[0], (1, 200))
    assert minutes.shape[1] >= 1200 * SAMPLE_RATE
    normalized = normalizer.normalize(minutes, SAMPLE_RATE, "vocals")
    assert np.isfinite(normalized).all()
    target = float(statistics.mean("loudness", "vocals"))
    assert measure_stem(normalized, SAMPLE_RATE, "vocals")["loudness"] == pytest.approx(target, abs=0.1)


def test_the_level_of_a_stem_makes_no_difference(normalizer: EffectNormalizer) -> None:
    loud, quiet = (normalizer.normalize(noise(3.0, level), SAMPLE_RATE, "bass") for level in (0.9, 0.02))
    np.testing.assert_allclose(loud, quiet, atol=1e-3 * np.abs(loud).max())


def test_a_silent_stem_passes_unchanged(reverberating: EffectNormalizer) -> None:
    quiet = noise(1.0, level=0.003)
    np.testing.assert_array_equal(reverberating.normalize(quiet, SAMPLE_RATE, "vocals"), quiet)
    silence = np.zeros((1, 1000), dtype=np.float32)
    np.testing.assert_array_equal(reverberating.normalize(silence, SAMPLE_RATE, "other"), np.zeros((2, 1000)))


def test_mono_becomes_stereo_by_repetition(normalizer: EffectNormalizer) -> None:
    mono = noise(2.0, channels=1)
    from_mono = normalizer.normalize(mono, SAMPLE_RATE, "vocals")
    np.testing.assert_array_equal(from_mono, normalizer.normalize(mono.repeat(2, axis=0), SAMPLE_RATE, "vocals"))


def test_the_input_is_not_written_to(reverberating: EffectNormalizer) -> None:
    stem = noise(2.0)
    before = stem.copy()
    result = reverberating.normalize(stem, SAMPLE_RATE, "vocals", dry=True)
    np.testing.assert_array_equal(stem, before)
    assert not np.shares_memory(result, stem)


def test_the_same_seed_gives_the_same_stem_and_another_seed_another(reverberating: EffectNormalizer) -> None:
    one, again, other = (reverberating.normalize(noise(2.0), SAMPLE_RATE, "vocals", seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3


def test_only_vocals_and_other_are_reverberated(statistics: DatasetStatistics) -> None:
    send = EffectNormalizer(statistics, ("reverberation",), impulse_responses=ROOMS)
    stem = noise(1.0)
    for name in STEMS:
        changed = np.abs(send.normalize(stem, SAMPLE_RATE, name, dry=True) - stem).max() > 1e-3
        assert changed == (name in ("vocals", "other"))


def test_a_pre_reverb_comes_before_everything_on_dry_recordings(statistics: DatasetStatistics) -> None:
    nothing_else = EffectNormalizer(statistics, (), pre_impulse_responses=ROOMS)
    stem = noise(1.0)
    np.testing.assert_array_equal(nothing_else.normalize(stem, SAMPLE_RATE, "vocals"), stem)
    wet = 2 * nothing_else.normalize(stem, SAMPLE_RATE, "vocals", dry=True) - stem
    in_which_room = [np.abs(np.convolve(stem[0], room[0])[: stem.shape[1]] - wet[0]).max() for room in ROOMS.responses]
    assert min(in_which_room) < 1e-4


def test_rooms_are_synthesized_where_none_are_given(statistics: DatasetStatistics) -> None:
    send = EffectNormalizer(statistics, ("reverberation",))
    assert np.abs(send.normalize(noise(1.0), SAMPLE_RATE, "vocals") - noise(1.0)).max() > 1e-3


def test_effects_are_applied_in_the_published_order(statistics: DatasetStatistics) -> None:
    effects = ("loudness", "panning", "equalization")
    assert EffectNormalizer(statistics, effects).effects == ("equalization", "panning", "loudness")


def test_the_panning_limit_can_be_one_for_all_stems(statistics: DatasetStatistics) -> None:
    assert EffectNormalizer(statistics).panning_limits["drums"] == 6_000.0
    assert EffectNormalizer(statistics, panning_limit=None).panning_limits == dict.fromkeys(STEMS)
    with pytest.raises(SettingsError, match="panning_limit: vocals, bass, other: missing; expected Hz or None"):
        EffectNormalizer(statistics, panning_limit={"drums": 6_000.0})
    with pytest.raises(SettingsError, match="panning_limit: unknown guitar; expected vocals, bass, drums, other"):
        EffectNormalizer(statistics, panning_limit={**panning.PUBLISHED_LIMITS, "guitar": None})


def test_a_precise_chain_matches_thirds_of_an_octave_and_refines_panning(statistics: DatasetStatistics) -> None:
    stem = noise(2.0, level=0.5)
    chain = EffectNormalizer(statistics, ("equalization", "panning"), precise=True)
    padded = np.pad(stem, ((0, 0), (FFT_SIZE, FFT_SIZE)))
    thirds = equalization.EqualizationSettings(third_octaves=True)
    equalized = equalization.match(padded, SAMPLE_RATE, statistics.target("equalization", "vocals"), thirds)
    refined = panning.PanningSettings.precise(16_000.0)
    expected = panning.match(equalized, SAMPLE_RATE, statistics.target("panning", "vocals"), refined)
    found = chain.normalize(stem, SAMPLE_RATE, "vocals")
    np.testing.assert_array_equal(found, expected[:, FFT_SIZE:-FFT_SIZE])


def test_a_whole_song_is_normalized_stem_by_stem(normalizer: EffectNormalizer) -> None:
    stems = {stem: noise(1.0, seed=number) for number, stem in enumerate(STEMS[:3])}
    song = normalizer.normalize_stems(stems, SAMPLE_RATE, seed=3)
    assert list(song) == list(stems)
    for stem, result in song.items():
        np.testing.assert_array_equal(result, normalizer.normalize(stems[stem], SAMPLE_RATE, stem, seed=3))


def test_what_cannot_be_normalized_is_refused(normalizer: EffectNormalizer, statistics: DatasetStatistics) -> None:
    with pytest.raises(SettingsError, match="unknown echo"):
        EffectNormalizer(statistics, ("echo",))
    with pytest.raises(SettingsError, match="found guitar"):
        normalizer.normalize(noise(1.0), SAMPLE_RATE, "guitar")
    with pytest.raises(AudioError, match="44100 Hz, found 22050 Hz"):
        normalizer.normalize(noise(1.0), 22_050, "bass")
    with pytest.raises(AudioError, match="2 channels, found 3"):
        normalizer.normalize(noise(1.0, channels=3), SAMPLE_RATE, "bass")
    with pytest.raises(AudioError, match="NaN or infinite"):
        normalizer.normalize(np.full((2, 100), np.inf, dtype=np.float32), SAMPLE_RATE, "bass")
    with pytest.raises(DatasetError, match="no equalization/bass"):
        EffectNormalizer(DatasetStatistics()).normalize(noise(1.0), SAMPLE_RATE, "bass")


def clicks(*delays: int) -> ImpulseResponses:
    """Impulse responses of a direct sound and one echo, each with its own delay."""
    responses = np.zeros((len(delays), 1, max(delays) + 1), np.float32)
    for response, delay in zip(responses, delays, strict=True):
        response[0, [0, delay]] = 1.0, 0.9
    return ImpulseResponses([str(delay) for delay in delays], list(responses))


@pytest.mark.parametrize("seed", range(4))
def test_the_impulse_responses_it_names_are_those_a_stem_gets(statistics: DatasetStatistics, seed: int) -> None:
    sound = np.zeros((2, 2 * SAMPLE_RATE), np.float32)
    sound[:, SAMPLE_RATE // 2] = 1.0
    responses, pre_responses = clicks(5000, 6000, 7000), clicks(9000, 10_000, 11_000)
    for effects, dry, name in (((), True, "pre-reverb"), (("reverberation",), False, "reverberation")):
        normalizer = EffectNormalizer(
            statistics, effects, impulse_responses=responses, pre_impulse_responses=pre_responses
        )
        (named,) = normalizer.impulse_responses("vocals", seed=seed, dry=dry).items()
        heard = normalizer.normalize(sound, SAMPLE_RATE, "vocals", seed=seed, dry=dry)[0]
        echo = 1000 + int(np.abs(heard[SAMPLE_RATE // 2 + 1000 :]).argmax())
        assert named[0] == name
        assert abs(echo - int(np.flatnonzero(named[1][0])[-1])) < 50
        assert normalizer.impulse_responses("bass", seed=seed, dry=dry) == {}

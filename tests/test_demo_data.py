"""The demo dataset: what its files hold, how wet differs from dry, and the engineer's tools by their definitions."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data.demo_names import is_of_the_demo
from fxnorm.demo import dataset, mixing, processors, render_dataset, rendering
from fxnorm.demo.composition import compose
from fxnorm.demo.impulse_responses import synthesize
from fxnorm.demo.processors import Band, Compressor
from fxnorm.errors import DatasetError, FxnormError, SettingsError
from fxnorm.io import audio

pytestmark = pytest.mark.system

SONGS = {"train": 1, "val": 1, "test": 1, "dry": 1}
SECONDS = (4.5, 5.0)
ONE_SONG = {"val": 1}

Tracks = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "data"
    render_dataset(path, seed=5, songs=SONGS, seconds=SECONDS, workers=2)
    return path


def raw_and_wet(energy: float, seconds: float, seed: int = 3) -> tuple[Tracks, Tracks]:
    """The stems of one song as played, all in the middle, and as mixed."""
    rng = np.random.default_rng(seed)
    score = compose(rng, energy, seconds)
    tracks = rendering.render(score, rng)
    raw = {
        stem: np.repeat(np.sum(list(parts.values()), axis=0).mean(axis=0, keepdims=True), 2, axis=0)
        for stem, parts in tracks.items()
    }
    return raw, mixing.mix(score, tracks, rng)


@pytest.fixture(scope="module")
def song() -> tuple[Tracks, Tracks]:
    return raw_and_wet(energy=0.5, seconds=9.0)


def read_int16(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16", always_2d=True)[0].astype(int)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def band_levels_db(samples: np.ndarray) -> np.ndarray:
    """Share of the power in each octave from 125 Hz to 8 kHz, in dB."""
    frequencies, power = signal.welch(samples.mean(axis=0), SAMPLE_RATE, nperseg=4096)
    centres = 125.0 * 2.0 ** np.arange(7)
    octaves = [power[(frequencies >= c / 2**0.5) & (frequencies < c * 2**0.5)].sum() for c in centres]
    return 10 * np.log10(np.array(octaves) / power.sum() + 1e-12)


def side_to_middle_db(samples: np.ndarray) -> float:
    side, middle = samples[0] - samples[1], samples[0] + samples[1]
    return float(10 * np.log10((side**2).sum() / (middle**2).sum() + 1e-12))


# ---- the dataset


def test_a_training_knows_the_demos_songs_by_their_names() -> None:
    names = {dataset._song_name(seed, subset, index) for seed in (0, 1) for subset in SONGS for index in range(500)}
    assert all(map(is_of_the_demo, names))
    assert not any(map(is_of_the_demo, ("Silver", "Silver Rivers live", "AM Contra - Heart Peripheral", "")))


def test_the_layout_is_complete_and_every_file_is_16_bit_stereo_at_44100_hz(root: Path) -> None:
    folders = {"wet/train": 1, "wet/val": 1, "wet/test": 1, "dry/test": 1}
    names = []
    for folder, count in folders.items():
        songs = sorted((root / folder).iterdir())
        assert len(songs) == count
        names += [song.name for song in songs]
        for song in songs:
            assert {path.name for path in song.iterdir()} == {f"{name}.wav" for name in (*STEMS, "mixture")}
    assert len(set(names)) == len(names)
    assert len(list((root / "impulse_responses/reverb").iterdir())) >= 4
    assert len(list((root / "impulse_responses/pre_reverb").iterdir())) >= 3
    for path in root.rglob("*.wav"):
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (SAMPLE_RATE, 2, "PCM_16")


def test_songs_and_impulse_responses_last_as_long_as_they_should(root: Path) -> None:
    for path in [*root.glob("wet/*/*/*.wav"), *root.glob("dry/*/*/*.wav")]:
        assert SECONDS[0] <= audio.duration_seconds(path) <= SECONDS[1]
    assert all(2 <= audio.duration_seconds(path) <= 4 for path in root.glob("impulse_responses/reverb/*"))
    assert all(audio.duration_seconds(path) < 1.5 for path in root.glob("impulse_responses/pre_reverb/*"))


def test_a_wet_mixture_is_the_exact_sum_of_its_stems(root: Path) -> None:
    for song in root.glob("wet/*/*"):
        total = sum(read_int16(song / f"{stem}.wav") for stem in STEMS)
        np.testing.assert_array_equal(read_int16(song / "mixture.wav"), total)


def test_mixtures_lie_within_1_lu_of_minus_16_lufs_and_do_not_clip(root: Path) -> None:
    for path in root.rglob("mixture.wav"):
        mixture, _ = audio.read(path)
        assert audio.peak_dbfs(mixture) < -0.9
        assert abs(processors.loudness(mixture) + 16) < 1


def test_dry_stems_stand_in_the_middle_at_levels_of_their_own(root: Path) -> None:
    for song in root.glob("dry/test/*"):
        stems = [read_int16(song / f"{stem}.wav") / 32768 for stem in STEMS]
        for stem in stems:
            np.testing.assert_array_equal(stem[:, 0], stem[:, 1])
        peaks = [audio.peak_dbfs(stem.T) for stem in stems]
        assert all(-18.1 < peak < -2.9 for peak in peaks)
        assert np.std(peaks) > 1


def test_no_file_starts_or_ends_abruptly_or_holds_an_offset(root: Path) -> None:
    for path in [*root.glob("wet/*/*/*.wav"), *root.glob("dry/*/*/*.wav")]:
        samples, _ = audio.read(path)
        assert np.abs(samples[:, :5]).max() < 0.01
        assert np.abs(samples[:, -50:]).max() < 0.01
        assert np.abs(samples.mean(axis=1)).max() < 1e-3


def test_the_same_seed_gives_the_same_bytes_whatever_workers_and_other_songs(root: Path, tmp_path: Path) -> None:
    render_dataset(tmp_path, seed=5, songs={"val": 1, "dry": 1}, seconds=SECONDS, workers=1)
    for folder in ("wet/val", "dry/test", "impulse_responses"):
        assert files_of(tmp_path / folder) == files_of(root / folder)


def test_another_seed_gives_another_song(root: Path, tmp_path: Path) -> None:
    render_dataset(tmp_path, seed=6, songs=ONE_SONG, seconds=SECONDS, workers=1)
    mine, theirs = (next(folder.glob("wet/val/*/mixture.wav")) for folder in (tmp_path, root))
    assert mine.read_bytes() != theirs.read_bytes()


def test_a_killed_run_leaves_no_half_song_and_is_made_good_by_the_next(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def dies_at_the_third_stem(path: Path, samples: np.ndarray) -> None:
        written.append(path)
        if len([path for path in written if path.name in {f"{stem}.wav" for stem in STEMS}]) == 3:
            raise KeyboardInterrupt
        soundfile.write(path, samples.T, SAMPLE_RATE, subtype="PCM_16")

    with monkeypatch.context() as patch:
        patch.setattr(dataset, "_write_wav", dies_at_the_third_stem)
        with pytest.raises(KeyboardInterrupt):
            render_dataset(tmp_path, seed=5, songs=ONE_SONG, seconds=SECONDS, workers=1)
    assert list((tmp_path / "wet/val").iterdir()) == []
    render_dataset(tmp_path, seed=5, songs=ONE_SONG, seconds=SECONDS, workers=1)
    assert files_of(tmp_path / "wet/val") == files_of(root / "wet/val")


@pytest.mark.parametrize("name", ["wet", "dry"])
def test_a_folder_with_somebody_elses_songs_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name / "test" / "Mine").mkdir(parents=True)
    with pytest.raises(DatasetError, match=rf"holds {name}/ without"):
        render_dataset(tmp_path, songs=ONE_SONG, seconds=SECONDS)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_demo_dataset_of_another_seed_is_refused_and_left_alone(root: Path) -> None:
    before = files_of(root)
    with pytest.raises(DatasetError, match="other settings"):
        render_dataset(root, seed=6, songs=SONGS, seconds=SECONDS)
    assert files_of(root) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed: expected 0 or more"),
        ({"songs": {"training": 2}}, "unknown subset 'training'"),
        ({"songs": {"train": -2}}, "expected 0 or more for train"),
        ({"seconds": (1.0, 2.0)}, "seconds: expected"),
        ({"seconds": (9.0, 6.0)}, "seconds: expected"),
        ({"workers": 0}, "workers: expected 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_named_and_nothing_is_written(tmp_path: Path, settings: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        render_dataset(tmp_path / "data", **settings)
    assert not (tmp_path / "data").exists()


def test_a_missing_renderer_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "find_spec", lambda name: None if name == "midirenderer" else object())
    with pytest.raises(FxnormError, match=r"needs midirenderer, .*: pip install 'fxnorm-automix\[demo\]'"):
        render_dataset(tmp_path / "data")
    assert not (tmp_path / "data").exists()


# ---- the songs


@pytest.mark.parametrize("seed", range(8))
def test_every_song_has_all_stems_and_sections_in_which_some_rest(seed: int) -> None:
    score = compose(np.random.default_rng(seed), energy=seed / 7, seconds=24.0)
    assert {part.stem for part in score.parts} == set(STEMS)
    assert any(section.stems != set(STEMS) for section in score.sections)
    assert any(section.stems == set(STEMS) for section in score.sections)
    assert score.sections[0].start == 0
    assert score.sections[-1].end == score.seconds


@pytest.mark.parametrize("seed", range(8))
def test_the_voice_breathes_and_no_note_lies_outside_the_song(seed: int) -> None:
    score = compose(np.random.default_rng(seed), energy=seed / 7, seconds=24.0)
    lead = next(part for part in score.parts if part.name == "lead")
    gaps = [
        after.start - before.start - before.length for before, after in zip(lead.notes, lead.notes[1:], strict=False)
    ]
    assert max(gaps) > 0.9 * 60 / score.tempo
    for part in score.parts:
        assert all(0 <= note.start < score.seconds and 1 <= note.velocity <= 127 for note in part.notes)


def test_faster_songs_are_denser() -> None:
    def notes_per_second(energy: float) -> float:
        scores = [compose(np.random.default_rng(seed), energy, 24.0) for seed in range(6)]
        return float(np.mean([sum(len(part.notes) for part in score.parts) / score.seconds for score in scores]))

    assert notes_per_second(0.95) > 2 * notes_per_second(0.05)


# ---- wet against dry


def test_the_mix_changes_the_balance_of_the_stems(song: tuple[Tracks, Tracks]) -> None:
    raw, wet = song
    changes = [processors.loudness(wet[stem]) - processors.loudness(raw[stem]) for stem in STEMS]
    assert np.ptp(changes) > 3


@pytest.mark.parametrize("stem", STEMS)
def test_a_wet_stem_is_equalized(song: tuple[Tracks, Tracks], stem: str) -> None:
    raw, wet = song
    assert np.ptp(band_levels_db(wet[stem]) - band_levels_db(raw[stem])) > 3


def test_drums_and_other_are_spread_while_the_bass_stays_in_the_middle(song: tuple[Tracks, Tracks]) -> None:
    _, wet = song
    assert side_to_middle_db(wet["other"]) > -10
    assert -20 < side_to_middle_db(wet["drums"]) < -3
    assert -30 < side_to_middle_db(wet["vocals"]) < -5
    assert side_to_middle_db(wet["bass"]) < -60


def test_compression_brings_the_bass_peaks_closer_to_its_level(song: tuple[Tracks, Tracks]) -> None:
    raw, wet = song

    def crest(samples: np.ndarray) -> float:
        return float(np.abs(samples).max() / processors.active_rms(samples))

    assert crest(wet["bass"]) < 0.9 * crest(raw["bass"])


def test_the_voice_gets_a_hall_that_outlasts_it(song: tuple[Tracks, Tracks]) -> None:
    raw, wet = song

    def levels(stems: Tracks) -> np.ndarray:
        """Peaks of frames of 10 ms."""
        frames = stems["vocals"].shape[1] // 441
        return np.abs(stems["vocals"][:, : frames * 441]).reshape(2, frames, 441).max(axis=(0, 2))

    silent = levels(raw) < 1e-3 * levels(raw).max()
    sounding = levels(wet) > 1e-3 * levels(wet).max()
    assert (silent & sounding).sum() > 30  # 0.3 s


def test_a_driving_song_is_mixed_for_the_drums_and_a_ballad_for_the_voice() -> None:
    def drums_over_vocals(energy: float) -> float:
        _, wet = raw_and_wet(energy, seconds=7.0)
        return processors.loudness(wet["drums"]) - processors.loudness(wet["vocals"])

    assert drums_over_vocals(0.95) > drums_over_vocals(0.05) + 5


# ---- the engineer's tools


def test_a_compressor_reduces_what_is_over_its_threshold_by_its_ratio() -> None:
    loud = np.ones((2, SAMPLE_RATE)) * processors.db_to_gain(-8)
    settings = Compressor(threshold_db=-20, ratio=4, attack=0.005, release=0.1)
    assert 20 * np.log10(processors.compression_gain(loud, settings)[-1]) == pytest.approx(-12 * (1 - 1 / 4), abs=0.01)
    quiet = loud * processors.db_to_gain(-20)
    np.testing.assert_array_equal(processors.compress(quiet, settings), quiet)


def test_a_compressor_takes_its_attack_and_release_time_for_63_percent() -> None:
    level = np.concatenate([np.zeros(4410), np.ones(44100), np.zeros(44100)])
    settings = Compressor(threshold_db=-20, ratio=4, attack=0.02, release=0.2, knee_db=1e-6)
    reduction = -20 * np.log10(processors.compression_gain(level[np.newaxis], settings))
    full = 20 * (1 - 1 / 4)
    assert reduction[4410 + round(0.02 * 44100) - 1] == pytest.approx(full * (1 - np.exp(-1)), rel=1e-3)
    assert reduction[48510 + round(0.2 * 44100) - 1] == pytest.approx(full * np.exp(-1), rel=1e-3)


def test_under_the_limiter_nothing_passes_the_ceiling_and_what_is_far_off_stays() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 3 * SAMPLE_RATE)) * 0.1
    noise[:, 60_000:60_400] *= 20
    limited = processors.limit(noise, -6.0)
    assert np.abs(limited).max() <= processors.db_to_gain(-6) * (1 + 1e-9)
    np.testing.assert_allclose(limited[:, 70_000:], noise[:, 70_000:], rtol=1e-9)


@pytest.mark.parametrize(
    ("band", "frequency", "gain_db"),
    [
        (Band("low_shelf", 200, 6.0), 5, 6.0),
        (Band("low_shelf", 200, 6.0), 15000, 0.0),
        (Band("low_shelf", 200, 6.0), 200, 3.0),
        (Band("high_shelf", 5000, -4.0), 21000, -4.0),
        (Band("high_shelf", 5000, -4.0), 20, 0.0),
        (Band("high_shelf", 5000, -4.0), 5000, -2.0),
        (Band("peak", 1000, 5.0, 1.0), 1000, 5.0),
        (Band("peak", 1000, 5.0, 1.0), 20, 0.0),
        (Band("high_pass", 100), 100, -3.01),
        (Band("high_pass", 100), 5000, 0.0),
        (Band("high_pass", 100), 10, -40.0),
        (Band("low_pass", 4000), 4000, -3.01),
        (Band("low_pass", 4000), 50, 0.0),
    ],
)
def test_an_equalizer_band_has_its_gain_where_it_says(band: Band, frequency: float, gain_db: float) -> None:
    impulse = np.zeros((1, SAMPLE_RATE))
    impulse[0, 0] = 1
    _, response = signal.freqz(processors.equalize(impulse, band)[0], worN=[frequency], fs=SAMPLE_RATE)
    assert 20 * np.log10(np.abs(response[0])) == pytest.approx(gain_db, abs=0.1)


@pytest.mark.parametrize("position", [-1.0, -0.4, 0.0, 0.7, 1.0])
def test_panning_keeps_the_power_and_goes_the_right_way(position: float) -> None:
    tone = np.sin(np.arange(4410) / 5)[np.newaxis]
    panned = processors.pan(tone, position)
    assert (panned**2).sum() == pytest.approx(2 * (tone**2).sum())  # as loud as the tone on both channels
    assert np.sign(np.round((panned[1] ** 2).sum() - (panned[0] ** 2).sum(), 6)) == np.sign(position)


@pytest.mark.parametrize("rt60", [0.4, 2.0, 3.5])
def test_an_impulse_response_decays_by_its_rt60(rt60: float) -> None:
    response = synthesize(np.random.default_rng(1), rt60, pre_delay=0.01)
    middle = signal.sosfilt(signal.butter(4, (400, 900), "bandpass", fs=SAMPLE_RATE, output="sos"), response)
    energy_left = 10 * np.log10(np.cumsum((middle**2).sum(axis=0)[::-1])[::-1])
    energy_left -= energy_left[round(0.1 * SAMPLE_RATE)]  # past direct sound and build-up
    time_of_20_db = (np.argmax(energy_left < -20) - round(0.1 * SAMPLE_RATE)) / SAMPLE_RATE
    assert 3 * time_of_20_db == pytest.approx(rt60, rel=0.15)


def test_an_impulse_response_starts_with_its_peak_and_is_wide() -> None:
    response = synthesize(np.random.default_rng(1), 2.0, pre_delay=0.01)
    assert np.abs(response).argmax(axis=1).tolist() == [0, 0]
    tail = response[:, 4410:]
    assert abs(np.corrcoef(tail)[0, 1]) < 0.1
    assert np.abs(response[:, -100:]).max() < 1e-4

"""The style "records": what its songs hold, that they add up, their levels, and what it refuses."""

import json
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from scipy import signal

from fxnorm.cli.commands import main
from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data.dataset import Layout
from fxnorm.data.demo_names import is_of_the_demo
from fxnorm.demo import dataset, render_dataset
from fxnorm.demo.composition import Note
from fxnorm.demo.processors import loudness
from fxnorm.demo.records import calibration, mastering, voices
from fxnorm.demo.records.score import Dice
from fxnorm.demo.records.synthesizers import FrequencyModulation, Plucked, Subtractive
from fxnorm.errors import FxnormError, SettingsError

pytestmark = pytest.mark.system

STYLE = "records-check"
"""Its soundfont comes with pretty_midi; that of ``records`` is a package of the system."""

SONGS = {"train": 1, "dry": 1}
SECONDS = (4.0, 4.5)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("records") / "data"
    render_dataset(path, seed=3, songs=SONGS, seconds=SECONDS, workers=1, style=STYLE)
    return path


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def read_int16(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16", always_2d=True)[0].T.astype(int)


# ---- the dataset


def test_the_same_seed_gives_the_same_bytes_however_many_workers_there_are(root: Path, tmp_path: Path) -> None:
    render_dataset(tmp_path / "again", seed=3, songs=SONGS, seconds=SECONDS, workers=2, style=STYLE)
    assert files_of(tmp_path / "again") == files_of(root)


def test_a_mixture_is_the_exact_sum_of_its_stems_without_clipping(root: Path) -> None:
    songs = Layout.read(root / "wet").songs
    assert len(songs) == SONGS["train"]
    for song in songs:
        assert set(song.stems) == set(STEMS)
        mixture = read_int16(song.folder / f"{MIXTURE}.wav")
        assert np.array_equal(sum(read_int16(path) for path in song.stems.values()), mixture)
        assert 0.15 * 32768 <= np.abs(mixture).max() <= 0.99 * 32768 + 8


@pytest.mark.parametrize("unmastered", [0.0, 1.0])
def test_a_song_is_mastered_or_only_brought_to_a_level_by_one_gain(
    monkeypatch: pytest.MonkeyPatch, unmastered: float
) -> None:
    monkeypatch.setattr(mastering, "_UNMASTERED_PROBABILITY", unmastered)
    noise = np.random.default_rng(0).standard_normal((4, 2, 4 * SAMPLE_RATE))
    noise *= 0.02 + np.exp(-np.arange(noise.shape[-1]) % 22_050 / 2_000)  # a stroke every half a second
    wet = dict(zip(STEMS, noise, strict=True))
    mastered = mastering.master(wet, Dice(np.random.default_rng(1)), (-10.0, 0.0), 0.5)
    mix, before = (np.sum(list(stems.values()), axis=0) for stems in (mastered, wet))
    crest = 20 * np.log10(np.abs(mix).max()) - loudness(mix)
    crest_before = 20 * np.log10(np.abs(before).max()) - loudness(before)
    if unmastered:
        assert -15.5 <= 20 * np.log10(np.abs(mix).max()) <= -0.9
        assert crest == pytest.approx(crest_before, abs=1)  # but for what an encoder took
    else:
        assert -28.5 <= loudness(mix) <= -6.5
        assert crest < crest_before - 2


def test_most_songs_lack_what_encoders_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mastering, "_CODEC_PROBABILITIES", (1.0, 0.0))
    wet = {stem: np.random.default_rng(0).standard_normal((2, SAMPLE_RATE)) for stem in STEMS}
    coded = mastering._coded(Dice(np.random.default_rng(0)), wet)
    for stem, audio in coded.items():
        spectra = np.abs(np.fft.rfft(np.hanning(SAMPLE_RATE) * [audio[0], wet[stem][0]])) ** 2
        low, high = (
            10 * np.log10(spectra[0, band].sum() / spectra[1, band].sum())
            for band in (slice(0, 15_000), slice(17_500, None))  # in Hz, of one second
        )
        assert abs(low) < 0.2
        assert high < -60


def test_songs_are_as_wide_as_records(root: Path) -> None:
    for song in Layout.read(root / "wet").songs:
        mixture = read_int16(song.folder / f"{MIXTURE}.wav") / 32768
        assert 0.005 < np.var(mixture[0] - mixture[1]) / np.var(mixture[0] + mixture[1]) < 1.0
        present = [loudness(read_int16(path) / 32768) for path in song.stems.values()]
        assert all(-35 < level < -8 for level in present if np.isfinite(level))


def test_what_a_song_is_and_what_it_was_played_with_stand_beside_the_songs(root: Path) -> None:
    marker = json.loads((root / dataset.MARKER).read_text())
    assert marker["style"] == STYLE
    assert [len(digest) for digest in marker["soundfonts"].values()] == [64]
    index = json.loads((root / dataset.INDEX).read_text())
    assert set(index) == {str(path.parent.relative_to(root)) for path in root.rglob(f"{MIXTURE}.wav")}
    assert all(40 < note["tempo"] < 240 and note["key"] and note["mode"] for note in index.values())


def test_songs_in_the_style_of_records_do_not_pass_for_the_demos(root: Path) -> None:
    assert not any(is_of_the_demo(song.name) for song in Layout.read(root / "wet").songs)


def test_a_missing_soundfont_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    missing = tmp_path / "FluidR3_GM.sf2"
    with pytest.raises(FxnormError, match="no such soundfont; install Debian's package fluid-soundfont-gm"):
        render_dataset(tmp_path / "data", songs=SONGS, style="records", soundfonts=[missing])
    found = CliRunner().invoke(
        main, ["demo-data", str(tmp_path / "data"), "--style", "records", "--soundfont", str(missing)]
    )
    assert found.exit_code != 0
    assert not (tmp_path / "data").exists()


def test_a_file_that_is_no_soundfont_is_named(tmp_path: Path) -> None:
    (tmp_path / "noise.sf3").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(FxnormError, match=r"noise\.sf3: expected a soundfont"):
        render_dataset(tmp_path / "data", songs=SONGS, style="records", soundfonts=[tmp_path / "noise.sf3"])


def test_the_demo_keeps_to_its_own_soundfont(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="soundfonts"):
        render_dataset(tmp_path / "data", songs=SONGS, soundfonts=[tmp_path / "a.sf2"])
    with pytest.raises(SettingsError, match="unknown style"):
        render_dataset(tmp_path / "data", songs=SONGS, style="opera")


def test_the_command_offers_every_style() -> None:
    (option,) = (option for option in main.commands["demo-data"].params if option.name == "style")
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == dataset.STYLES


# ---- instruments


@pytest.mark.parametrize(
    "instrument",
    [
        Subtractive(voices=1, cutoff=4000.0),
        Subtractive(voices=0, sub=1.0),
        FrequencyModulation(indices=(0.5, 0.2)),
        Plucked(),
        voices.Singer(vibrato_cents=0.0, consonants=0.0, looseness=0.0, octave=0),
    ],
)
@pytest.mark.parametrize("key", [57, 64])
def test_an_instrument_plays_the_note_that_is_written(instrument: Subtractive, key: int) -> None:
    audio = instrument.play([Note(key, 0.1, 1.5, 100)], 2 * SAMPLE_RATE, np.random.default_rng(0)).mean(axis=0)
    stretch = audio[SAMPLE_RATE // 4 : SAMPLE_RATE]
    correlation = signal.correlate(stretch, stretch, method="fft")[stretch.size - 1 :]
    wanted = SAMPLE_RATE / (440 * 2 ** ((key - 69) / 12))
    lags = slice(round(0.7 * wanted), round(1.4 * wanted))
    found = lags.start + int(correlation[lags].argmax())
    assert abs(1200 * np.log2(found / wanted)) < 20
    assert np.isfinite(audio).all()
    assert np.abs(audio[: SAMPLE_RATE // 12]).max() < 0.01 * np.abs(audio).max()


# ---- calibration


def test_a_correction_has_the_gains_of_its_table() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 2 * SAMPLE_RATE))
    gains = tuple(np.linspace(-6, 6, calibration.BANDS))
    corrected = calibration.Correction(middle_db=gains, side_db=gains).apply(noise, 0.0, np.zeros(calibration.BANDS))
    frequencies, before = signal.welch(noise, SAMPLE_RATE, nperseg=8192)
    after = signal.welch(corrected, SAMPLE_RATE, nperseg=8192)[1]
    for band, centre in ((10, 250.0), (16, 1000.0), (22, 4000.0)):
        near = (frequencies > centre * 0.95) & (frequencies < centre * 1.05)
        change = 10 * np.log10(after[:, near].sum() / before[:, near].sum())
        assert change == pytest.approx(gains[band], abs=0.5)


def test_an_equalizer_takes_a_song_part_of_the_way_to_the_usual_spectrum() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 2 * SAMPLE_RATE))
    usual = tuple(np.linspace(5, -5, calibration.BANDS))
    halves = calibration.Correction(usual_db=usual).apply(noise, 0.5, np.zeros(calibration.BANDS))
    before, after = (calibration._spectrum_db(audio) for audio in (noise, halves))
    assert (after - before)[4] - (after - before)[24] == pytest.approx((usual[4] - usual[24]) / 2, abs=1.0)


@pytest.mark.parametrize("style", ["records", "records-check"])
def test_the_table_has_every_stem_of_every_style(style: str) -> None:
    for correction in calibration.corrections(style).values():
        curves = np.array([correction.middle_db, correction.side_db, correction.usual_db])
        assert curves.shape == (3, calibration.BANDS)
        assert np.abs(curves).max() < 60

"""A mix that is brought to a song: how near it comes in each measure, what is bounded, and what its parts get."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyloudnorm
import pytest
import scipy.signal
from click.testing import CliRunner, Result

from fxnorm import Mixer
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import third_octaves, width
from fxnorm.errors import AudioError, SettingsError
from fxnorm.io import audio
from fxnorm.mixing import parts
from fxnorm.mixing.delivery import Delivery
from fxnorm.mixing.mix_files import PartsOut, mix_samples
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.reference import MOST_EQUALIZATION_DB, MOST_SIDE_DB, MatchedMix, Reference, deliver_to
from fxnorm.serving.limits import Limits
from fxnorm.serving.request_check import RefusedError, check_request
from fxnorm.statistics import DatasetStatistics
from tests.conftest import noise

SECONDS = 4.0


def beat(seed: int = 0, side: float = 0.5, decay: float = 12.0) -> np.ndarray:
    """Strokes over noise, (2, samples), with peaks of -10 dBFS or so."""
    time = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    sound = noise(SECONDS, 1.0, seed) * (np.exp(-decay * (time % 0.5)) + 0.05)
    middle, difference = sound[0], side * sound[1]
    return (0.2 * np.stack([middle + difference, middle - difference])).astype(np.float32)


@pytest.fixture(scope="module")
def song() -> np.ndarray:
    return beat()


def matched(mix: np.ndarray, song: np.ndarray, true_peak: float = -1.0, target: float | None = None) -> MatchedMix:
    return deliver_to(Reference.of(song, "song"), mix, Delivery(target, true_peak), DatasetStatistics())


def filtered(audio: np.ndarray, *sections: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    for numerator, denominator in sections:
        audio = scipy.signal.lfilter(numerator, denominator, audio)
    return np.asarray(audio, dtype=np.float32)


def bell(frequency: float, gain_db: float) -> tuple[np.ndarray, np.ndarray]:
    """A peaking filter of two octaves, of RBJ's cookbook; its inverse is that with the gain turned around."""
    root, angle = 10 ** (gain_db / 40), 2 * np.pi * frequency / SAMPLE_RATE
    alpha = np.sin(angle) / (2 * 0.7)
    cosine = -2 * np.cos(angle)
    return np.array([1 + alpha * root, cosine, 1 - alpha * root]), np.array(
        [1 + alpha / root, cosine, 1 - alpha / root]
    )


def residual_db(found: np.ndarray, expected: np.ndarray) -> float:
    """Energy of the difference over that of the signal."""
    return float(10 * np.log10(1e-30 + np.square(found - expected).sum() / np.square(expected).sum()))


def scaled_residual_db(found: np.ndarray, expected: np.ndarray) -> float:
    return residual_db(found * (np.vdot(found, expected) / np.vdot(found, found)), expected)


def test_a_mix_comes_near_a_song_in_each_measure(song: np.ndarray) -> None:
    other = 0.3 * filtered(beat(seed=1, side=0.3, decay=25.0), bell(200, 6.0), bell(4_000, -5.0))
    delivered = matched(other, song)
    first, last = delivered.match.off_before, delivered.match.off_after
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    levels = [meter.integrated_loudness(each.T.astype(np.float64)) for each in (delivered.mix, song)]
    assert levels[0] == pytest.approx(levels[1], abs=0.1)
    bands = third_octaves.measure(delivered.mix, SAMPLE_RATE) - third_octaves.measure(song, SAMPLE_RATE)
    assert np.abs(bands - np.median(bands)).max() < 0.6
    wide = [width.side_to_middle_db(each) for each in (delivered.mix, song)]
    assert wide[0] == pytest.approx(wide[1], abs=0.3)
    assert last.peaks_lu == pytest.approx(0.0, abs=0.6)
    for before, after in (
        (first.loudness_lu, last.loudness_lu),
        (first.worst_third_octave_db, last.worst_third_octave_db),
        (first.side_to_middle_db, last.side_to_middle_db),
        (first.peaks_lu, last.peaks_lu),
    ):
        assert before is not None and after is not None
        assert abs(before) > 2.0 and abs(after) < 0.6
    assert delivered.match.remarks == []


def test_the_song_itself_stays_as_it_is(song: np.ndarray) -> None:
    delivered = matched(song, song)
    assert residual_db(delivered.mix, song) < -50
    assert (delivered.match.equalization_db, delivered.match.compressor) == ({}, None)


def test_a_filter_and_a_width_that_are_known_are_undone(song: np.ndarray) -> None:
    """With its phase: the filters of desks have minimum phase, and so has what undoes them."""
    wide = np.stack([song[0] + 0.2 * (song[0] - song[1]), song[1] - 0.2 * (song[0] - song[1])])  # the side times 1.4
    delivered = matched(filtered(wide, bell(1_000, 6.0)), song)
    assert scaled_residual_db(delivered.mix, song) < -30
    assert delivered.match.side_gain_db == pytest.approx(-20 * np.log10(1.4), abs=0.1)
    gains = np.array([delivered.match.equalization_db[f"{hertz:g}"] for hertz in third_octaves.NOMINAL_HZ])
    response = scipy.signal.freqz(*bell(1_000, 6.0), third_octaves.CENTRES_HZ, fs=SAMPLE_RATE)[1]
    expected = -20 * np.log10(np.abs(response))
    expected -= np.median(expected)  # a gain of all bands is a matter of the loudness
    assert np.abs(gains - np.median(gains) - expected)[4:].max() < 0.4


def test_nothing_sounds_before_a_stroke(song: np.ndarray) -> None:
    chain = matched(filtered(song, bell(60, 9.0), bell(3_000, -9.0)), song).chain
    click = np.zeros((2, SAMPLE_RATE), np.float32)
    click[:, SAMPLE_RATE // 2] = 1
    chain.filter(click)
    energy = np.square(click).sum(axis=0)
    assert energy[: SAMPLE_RATE // 2 - 1].sum() < 1e-10
    assert energy[SAMPLE_RATE // 2 : SAMPLE_RATE // 2 + 441].sum() > 0.9 * energy.sum(), "and most of it at once"


def test_an_empty_band_is_not_filled_with_noise(song: np.ndarray) -> None:
    low = scipy.signal.butter(12, 3_000, fs=SAMPLE_RATE, output="sos")
    dull = scipy.signal.sosfilt(low, song).astype(np.float32)
    delivered = matched(dull, song)
    gains = [gain for gain in delivered.match.equalization_db.values() if gain is not None]
    assert max(gains) <= MOST_EQUALIZATION_DB + 1e-6
    assert any("no band by more than 12 dB" in remark for remark in delivered.match.remarks)
    assert any("the mix has next to nothing at" in remark for remark in delivered.match.remarks)
    to_dull = matched(song, dull)
    gains = [gain for gain in to_dull.match.equalization_db.values() if gain is not None]
    assert min(gains) >= -MOST_EQUALIZATION_DB - 1e-6
    assert any("the song has next to nothing at" in remark for remark in to_dull.match.remarks)


def test_of_a_mono_song_the_width_is_not_taken(song: np.ndarray) -> None:
    delivered = matched(song, song[:1])
    assert width.side_to_middle_db(delivered.mix) == pytest.approx(width.side_to_middle_db(song), abs=0.1)
    assert "the song is mono: the width stays" in delivered.match.remarks
    mono = matched(np.stack([song[0], song[0]]), song)
    assert "the mix is mono, and stays so" in mono.match.remarks
    assert np.array_equal(mono.mix[0], mono.mix[1])


def test_a_side_is_turned_up_by_a_bounded_amount(song: np.ndarray) -> None:
    middle, side = song[0] + song[1], 0.05 * (song[0] - song[1])
    delivered = matched(np.stack([middle + side, middle - side]) / 2, song)
    assert delivered.match.side_gain_db == MOST_SIDE_DB
    assert any("the side is turned by no more than 6 dB" in remark for remark in delivered.match.remarks)


def test_nothing_is_expanded_and_that_is_told(song: np.ndarray) -> None:
    delivered = matched(np.clip(song, -0.03, 0.03), song)
    assert delivered.match.compressor is None
    assert any("lower than the song's: nothing is expanded" in remark for remark in delivered.match.remarks)


def test_a_loudness_that_is_asked_for_comes_before_the_songs(song: np.ndarray) -> None:
    delivered = matched(beat(seed=1), song, target=-27.0)
    assert delivered.loudness_lufs == pytest.approx(-27.0, abs=0.1)


def test_a_mix_without_programme_is_left_alone(song: np.ndarray) -> None:
    hiss = 1e-4 * np.random.default_rng(0).standard_normal(song.shape).astype(np.float32)
    delivered = matched(hiss, song)
    assert np.array_equal(delivered.mix, hiss)
    assert delivered.match.remarks == ["the mix carries no programme: not matched"]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((2, 5 * SAMPLE_RATE), np.float32), "carries no programme, only silence, hum or noise"),
        (noise(2.9), "too short for a reference: expected 3 s, found 2.9 s"),
    ],
)
def test_what_is_no_reference_is_refused(samples: np.ndarray, said: str) -> None:
    with pytest.raises(AudioError, match=said):
        Reference.of(samples, "song.wav")


@pytest.fixture(scope="module")
def stems() -> dict[str, np.ndarray]:
    return {stem: beat(seed=number, decay=8.0 + 4 * number)[:, : 4 * SAMPLE_RATE] for number, stem in enumerate(STEMS)}


def test_parts_of_a_matched_mix_add_up_to_it_and_say_so(
    mixer_folder: Path, stems: dict[str, np.ndarray], song: np.ndarray, tmp_path: Path
) -> None:
    options = MixOptions.for_file(tmp_path / "mix.wav")
    out = PartsOut(tmp_path / "parts", "mixer")
    louder = Reference.of(filtered(3 * song, bell(2_000, 5.0)), "song.wav")
    mixed = mix_samples(
        Mixer.load(mixer_folder), dict(stems), options, tmp_path / "mix.wav", parts=out, reference=louder
    )
    mix = audio.read(tmp_path / "mix.wav")[0]
    total = sum(audio.read(tmp_path / "parts" / f"{stem}.wav")[0].astype(np.float64) for stem in STEMS)
    assert residual_db(np.asarray(total), mix) < -100
    description = parts.read_description(tmp_path / "parts")
    assert description.reference == mixed.match
    again = parts.remix(tmp_path / "parts", parts.Change({}), options)
    assert residual_db(again.audio, mix) < -100


def run(mixer_folder: Path, folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["mix", str(mixer_folder), "--bass", str(folder / "bass.wav"), *arguments])


def test_the_command_tells_how_near_it_came(
    mixer_folder: Path, stems: dict[str, np.ndarray], song: np.ndarray, tmp_path: Path
) -> None:
    audio.write(tmp_path / "bass.wav", stems["bass"])
    audio.write(tmp_path / "song.wav", song)
    (tmp_path / "short.wav").write_bytes(audio.encode(song[:, :100], SAMPLE_RATE, ".wav"))
    out, reference = ["--output", str(tmp_path / "mix.wav")], ["--reference", str(tmp_path / "song.wav")]
    done = run(mixer_folder, tmp_path, *out, *reference, "--report", str(tmp_path / "report.json"))
    assert done.exit_code == 0, done.output
    assert "off before" in done.output and "thirds of an octave dB" in done.output
    told = json.loads((tmp_path / "report.json").read_text())["reference"]
    assert abs(told["off_after"]["loudness_lu"]) <= 0.1
    (tmp_path / "mix.wav").unlink()
    for arguments, said in (
        ([*out, "--reference", str(tmp_path / "short.wav")], "short.wav: too short for a reference"),
        ([*out, "--reference", str(tmp_path / "none.wav")], "none.wav: no such file"),
        (["--output", str(tmp_path / "song.wav"), *reference], "song.wav: is an input of this command"),
        ([*out, *reference, "--as-is"], "expected either --reference or --as-is"),
    ):
        refused = run(mixer_folder, tmp_path, *arguments)
        assert refused.exit_code in (1, 2) and said in refused.output
    assert not (tmp_path / "mix.wav").exists()


def test_the_endpoint_brings_a_mix_to_the_song_of_its_row(
    mixer_folder: Path, stems: dict[str, np.ndarray], song: np.ndarray
) -> None:
    from fxnorm.serving.pyfunc import AnsweredError, StemMixer

    model = StemMixer()
    model.load_context(SimpleNamespace(artifacts={"mixer": str(mixer_folder)}))  # type: ignore[arg-type]
    row = {
        "bass": audio.encode(stems["bass"], SAMPLE_RATE, ".wav"),
        "reference": audio.encode(song, SAMPLE_RATE, ".wav"),
    }
    answer = model.predict(None, pd.DataFrame([row, row | {"reference": None}]), {"output_format": "wav"})  # type: ignore[arg-type]
    mixer = Mixer.load(mixer_folder)
    mix = mixer.mix({"bass": stems["bass"]}, SAMPLE_RATE)
    expected = matched(mix, song)
    np.testing.assert_allclose(audio.decode(answer["mix"][0], "mix")[0], expected.mix, atol=1e-6)
    assert answer["reference"][0]["off_after"] == expected.match.off_after.model_dump()
    assert answer["reference"][1] is None
    for content, params, said in (
        (b"words", {}, "reference: not readable"),
        (row["reference"], {"as_is": True}, "as_is: expected either the network's own level or a reference"),
    ):
        with pytest.raises(AnsweredError, match=said):
            model.predict(None, pd.DataFrame([row | {"reference": content}]), params)  # type: ignore[arg-type]


def test_a_request_may_have_a_reference(song: np.ndarray) -> None:
    limits = Limits.from_environment({}, 60)
    check_request(bytearray(b'{"dataframe_records": [{"bass": "QUJD", "reference": "QUJD"}]}'), limits)
    check_request(bytearray(b'{"dataframe_records": [{"bass": "QUJD", "reference_uri": "s3://a/b"}]}'), limits)
    for cell, said in (
        (b'"reference": "%%"', "no base64"),
        (b'"reference": 1', "expected the base64 of an audio file"),
        (b'"reference_uri": "file:///etc/passwd"', "expected a URI such as s3"),
    ):
        with pytest.raises(RefusedError) as refused:
            check_request(bytearray(b'{"dataframe_records": [{%s}]}' % cell), limits)
        assert said in refused.value.sentence


def test_what_stays_of_the_stems_is_what_the_normalization_leaves_out(
    mixer_folder: Path, stems: dict[str, np.ndarray]
) -> None:
    mixer = Mixer.load(mixer_folder)
    kept = mixer.keeping("dynamics")
    assert kept.recipe.settings.effects == ("reverberation", "equalization", "panning", "loudness")
    assert kept.network is mixer.network
    with pytest.raises(
        SettingsError, match="keep: dynamics stays anyway: this Mixer's normalization has no compression"
    ):
        kept.keeping("dynamics")
    with pytest.raises(SettingsError, match="keep: Input should be 'panning' or 'dynamics'"):
        MixOptions.of({"keep": "loudness"})

"""Reverberation by its identities, and collections of impulse responses."""

from pathlib import Path

import numpy as np
import pytest

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import reverberation
from fxnorm.effects.impulse_responses import ImpulseResponses
from fxnorm.effects.reverberation import ReverberationSettings
from fxnorm.errors import AudioError, DatasetError, SettingsError
from fxnorm.io import audio as audio_file
from tests.conftest import noise

PLAIN = ReverberationSettings(low_shelf_frequency=None, high_shelf_frequency=None)


def impulse(position: int, length: int = 1000, channels: int = 1) -> np.ndarray:
    response = np.zeros((channels, length), dtype=np.float32)
    response[:, position] = 1
    return response


@pytest.mark.parametrize("position", [0, 441, 999])
def test_the_peak_of_an_impulse_response_is_time_0(position: int) -> None:
    audio = noise(1.0)
    wet = reverberation.apply(audio, SAMPLE_RATE, impulse(position), PLAIN)
    np.testing.assert_allclose(wet, 2 * audio, atol=1e-6)


def test_an_echo_comes_as_late_as_it_lies_behind_the_peak() -> None:
    response = impulse(100)
    response[0, 600] = 0.5
    audio = noise(0.5)
    wet = reverberation.apply(audio, SAMPLE_RATE, response, ReverberationSettings(0.0, 1.0, None, None))
    np.testing.assert_allclose(wet[:, 500:], audio[:, 500:] + 0.5 * audio[:, :-500], atol=1e-5)


def test_dry_recordings_get_half_dry_and_half_wet() -> None:
    audio = noise(1.0)
    mixed = reverberation.apply(audio, SAMPLE_RATE, impulse(0), reverberation.PRE_REVERBERATION)
    np.testing.assert_allclose(mixed, audio, atol=1e-6)


def test_the_shelves_keep_lows_and_highs_out_of_the_send() -> None:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    for frequency, level_db in ((60.0, -30.0), (2200.0, 0.0), (20_000.0, -30.0)):
        tone = np.sin(2 * np.pi * frequency * time).astype(np.float32)[None]
        wet = reverberation.apply(tone, SAMPLE_RATE, impulse(0), ReverberationSettings(dry=0.0))
        settled = slice(SAMPLE_RATE // 2, None)
        level = 20 * np.log10(np.linalg.norm(wet[0, settled]) / np.linalg.norm(tone[0, settled]))
        assert level == pytest.approx(level_db, abs=2.0)


def test_a_mono_response_serves_both_channels_and_a_stereo_one_each_its_own() -> None:
    audio = noise(0.5)
    stereo = ImpulseResponses.synthesized(0.2, count=1).responses[0]
    both = reverberation.apply(audio, SAMPLE_RATE, stereo, PLAIN)
    for channel in (0, 1):
        mono = reverberation.apply(audio, SAMPLE_RATE, stereo[channel : channel + 1], PLAIN)
        np.testing.assert_allclose(both[channel], mono[channel], atol=1e-6)


@pytest.mark.parametrize("rt60", [0.5, 2.0])
def test_synthesized_rooms_have_the_reverberation_time_asked_for(rt60: float) -> None:
    for response in ImpulseResponses.synthesized(rt60, count=2).responses:
        tail = np.square(response[0, 1:].astype(np.float64))
        decay = 10 * np.log10(np.cumsum(tail[::-1])[::-1] / tail.sum())  # Schroeder's backward integration
        fall_20_db = np.argmax(decay < -25) - np.argmax(decay < -5)
        assert 3 * fall_20_db / SAMPLE_RATE == pytest.approx(rt60, rel=0.05)
        np.testing.assert_allclose(np.linalg.norm(response, axis=1), 1, rtol=1e-5)
        assert np.abs(response).max(axis=0).argmax() == 0


def test_a_saved_collection_is_read_back_exactly(tmp_path: Path) -> None:
    rooms = ImpulseResponses.synthesized(0.3, count=3, seed=4)
    rooms.save(tmp_path / "rooms")
    again = ImpulseResponses.from_folder(tmp_path / "rooms")
    assert again.names == rooms.names
    for ours, theirs in zip(rooms.responses, again.responses, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_folder_may_hold_mono_and_stereo_files_of_any_rate(tmp_path: Path) -> None:
    audio_file.write(tmp_path / "hall.wav", np.tile(impulse(10, 4800), (2, 1)), 48_000)
    audio_file.write(tmp_path / "booth.flac", impulse(10, 2205), 22_050)
    (tmp_path / "licence.txt").write_text("free")
    rooms = ImpulseResponses.from_folder(tmp_path)
    assert rooms.names == ("booth", "hall")
    assert [response.shape for response in rooms.responses] == [(1, 4410), (2, 4410)]


def test_the_same_seed_chooses_the_same_room() -> None:
    rooms = ImpulseResponses.synthesized(0.1, count=5)
    chosen = [rooms.choose(np.random.default_rng(seed)) for seed in (7, 7)]
    assert chosen[0] is chosen[1]


def test_a_missing_or_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        ImpulseResponses.from_folder(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="found none"):
        ImpulseResponses.from_folder(tmp_path)


def test_useless_responses_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="dead: holds only silence"):
        ImpulseResponses(["dead"], [np.zeros((1, 100), dtype=np.float32)])
    with pytest.raises(AudioError, match="NaN"):
        ImpulseResponses(["broken"], [np.full((1, 100), np.nan, dtype=np.float32)])
    with pytest.raises(SettingsError, match="positive"):
        ImpulseResponses.synthesized(0.0)

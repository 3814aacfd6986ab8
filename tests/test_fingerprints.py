"""Recordings that come again: found in every form, at the right time, and nothing else is."""

import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile

from fxnorm.constants import SAMPLE_RATE
from fxnorm.data import dataset
from fxnorm.io import audio
from fxnorm.quality.fingerprints import FRAME_SECONDS, SAME_RECORDING, Fingerprint, find_same, fingerprint
from tests.conftest import noise

MakeSong = Callable[..., Path]
Songs = dict[str, np.ndarray]
Prints = dict[str, Fingerprint]

SECONDS = 8.0
TOLERANCE_SECONDS = 0.05


def play(notes: list[tuple[float, np.ndarray]], seconds: float = SECONDS) -> np.ndarray:
    """(2, samples): single notes from their starts in seconds on."""
    mixture = np.zeros((2, round(seconds * SAMPLE_RATE)), np.float32)
    for start, note in notes:
        place = mixture[:, round(start * SAMPLE_RATE) :][:, : note.shape[1]]
        place += note[:, : place.shape[1]]
    return mixture


def tone(key: int) -> np.ndarray:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    frequency = 440 * 2 ** ((key - 69) / 12)
    overtones = [np.sin(2 * np.pi * frequency * number * time) / number for number in range(1, 9)]
    side = (key % 5) / 4
    return (0.1 * np.exp(-3 * time) * np.sum(overtones, axis=0) * [[1 - side / 2], [0.5 + side / 2]]).astype(np.float32)


def drum(seed: int, seconds: float) -> np.ndarray:
    hit = noise(seconds, 0.2, seed)
    return hit * np.exp(-np.linspace(0, 6, hit.shape[1])).astype(np.float32)


TONES = {key: tone(key) for key in range(40, 76)}
DRUMS = [drum(1, 0.2), drum(2, 0.1), drum(3, 0.05)]


def drums(seed: int, beat: float = 0.5) -> np.ndarray:
    """One bar of a groove, over and over."""
    hits = np.random.default_rng(seed).integers(0, 2, (len(DRUMS), 8)).astype(bool)
    return play([
        (beat / 2 * step, DRUMS[kind])
        for step in range(int(2 * SECONDS / beat))
        for kind in range(len(DRUMS))
        if hits[kind, step % 8]
    ])  # fmt: skip


def melody(seed: int, beat: float = 0.5) -> np.ndarray:
    """Three voices in C major, of the very same notes in every song."""
    generator = np.random.default_rng(seed)
    scale = [key for key in TONES if key % 12 in (0, 2, 4, 5, 7, 9, 11)]
    return play([
        (beat / 2 * step, TONES[int(key)])
        for step in range(int(2 * SECONDS / beat))
        for key in generator.choice(scale, 3)
    ])  # fmt: skip


def mp3(samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """After an MP3 of constant 128 kbit/s."""
    file = io.BytesIO()
    soundfile.write(
        file, samples.T, sample_rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT",
        compression_level=2 / 3,
    )  # fmt: skip
    assert 120_000 < 8 * file.tell() / (samples.shape[1] / sample_rate) < 140_000
    file.seek(0)
    return np.ascontiguousarray(soundfile.read(file, dtype="float32", always_2d=True)[0].T)


def at_48_khz(samples: np.ndarray) -> np.ndarray:
    return audio.resample(samples, SAMPLE_RATE, 48_000)


def later(samples: np.ndarray, seconds: float) -> np.ndarray:
    return samples[:, round(seconds * SAMPLE_RATE) :]


@pytest.fixture(scope="module")
def songs() -> Songs:
    """Different songs, of the same tones and drums at the same tempo."""
    return {f"song {seed}": melody(seed) + drums(seed) for seed in range(5)}


@pytest.fixture(scope="module")
def prints(songs: Songs) -> Prints:
    return {name: fingerprint(song, SAMPLE_RATE) for name, song in songs.items()}


COPIES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int, float]] = {
    "mp3": (mp3, SAMPLE_RATE, 0.0),
    "48 kHz": (at_48_khz, 48_000, 0.0),
    "6 dB quieter": (lambda song: song * np.float32(0.5), SAMPLE_RATE, 0.0),
    "from 5 s on": (lambda song: later(song, 5.0), SAMPLE_RATE, 5.0),
    "inverted": (lambda song: -song, SAMPLE_RATE, 0.0),
    "one channel inverted": (lambda song: song * np.array([[1], [-1]], np.float32), SAMPLE_RATE, 0.0),
    "channels swapped": (lambda song: song[::-1], SAMPLE_RATE, 0.0),
    "mono": (lambda song: song.mean(axis=0, keepdims=True), SAMPLE_RATE, 0.0),
    "without its end": (lambda song: song[:, : 5 * SAMPLE_RATE], SAMPLE_RATE, 0.0),
    "silence before it": (lambda song: np.pad(song, ((0, 0), (3 * SAMPLE_RATE, 0))), SAMPLE_RATE, -3.0),
    "all at once": (lambda song: mp3(at_48_khz(later(song, 2.345)[:, : 5 * SAMPLE_RATE] / 2), 48_000), 48_000, 2.345),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_with_its_song_alone_and_at_its_time(songs: Songs, prints: Prints, kind: str) -> None:
    copy, sample_rate, begin = COPIES[kind]
    copied = {f"{name}, copy": fingerprint(copy(song), sample_rate) for name, song in songs.items()}
    found = find_same({**prints, **copied})
    assert [(match.first, match.second) for match in found] == [(name, f"{name}, copy") for name in songs]
    assert [match.offset_seconds for match in found] == pytest.approx([begin] * len(songs), abs=TOLERANCE_SECONDS)
    assert all(SAME_RECORDING <= match.score <= 1 for match in found)


def test_songs_of_the_same_notes_and_songs_that_share_a_drum_track_are_different(prints: Prints) -> None:
    shared = {f"song {seed}": fingerprint(melody(seed) + drums(0), SAMPLE_RATE) for seed in range(5)}
    assert find_same(prints) == []
    assert find_same(shared) == []


def test_a_gain_an_inversion_and_swapped_channels_leave_the_fingerprint_as_it_is(songs: Songs, prints: Prints) -> None:
    song, expected = songs["song 0"], prints["song 0"]
    for changed in (0.25 * song, -song, song[::-1], song):
        kept = fingerprint(changed, SAMPLE_RATE)
        assert kept.frames.tobytes() == expected.frames.tobytes()
        assert kept.bins.tobytes() == expected.bins.tobytes()
        assert kept.seconds == SECONDS
    assert expected.frames.nbytes + expected.bins.nbytes < 300 * SECONDS


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros((2, 10 * SAMPLE_RATE), np.float32),
        noise(0.9),
        noise(0.001),
        np.full((1, 10 * SAMPLE_RATE), 0.5, np.float32),
        play([(0.0, np.ones((2, 1), np.float32))]),
    ],
    ids=["silence", "under a second", "44 samples", "offset", "click"],
)
def test_what_is_too_little_to_tell_by_has_no_match_even_with_itself(prints: Prints, samples: np.ndarray) -> None:
    kept = fingerprint(samples, SAMPLE_RATE)
    assert find_same({**prints, "one": kept, "two": kept}) == []


def test_the_order_of_songs_makes_no_difference(songs: Songs, prints: Prints) -> None:
    with_copy = {**prints, "copy": fingerprint(later(songs["song 3"], 1.0), SAMPLE_RATE)}
    backwards = dict(reversed(with_copy.items()))
    assert find_same(with_copy) == find_same(backwards) != []


def test_the_earlier_name_tells_which_way_time_goes(songs: Songs, prints: Prints) -> None:
    whole, part = prints["song 0"], fingerprint(later(songs["song 0"], 2.0), SAMPLE_RATE)
    (forwards,) = find_same({"a": whole, "b": part})
    (backwards,) = find_same({"b": whole, "a": part})
    assert forwards.offset_seconds == pytest.approx(2.0, abs=TOLERANCE_SECONDS)
    assert backwards.offset_seconds == pytest.approx(-2.0, abs=TOLERANCE_SECONDS)


def best_score(first: Fingerprint, second: Fingerprint) -> tuple[float, int]:
    """By trying every time: the largest share of the peaks of the one with fewer that the other has, and that time."""
    fewer, more = sorted((first, second), key=lambda kept: len(kept.frames))
    reach = int(fewer.frames.max()) + 1
    grid = np.zeros((int(more.frames.max()) + 2 * reach + 3, 600), bool)
    for frame in (-1, 0, 1):
        for neighbour in (-1, 0, 1):
            grid[more.frames + reach + 1 + frame, more.bins + neighbour] = True
    times = range(-reach + 1, int(more.frames.max()) + 1)
    scores = [float(grid[fewer.frames + reach + 1 + time, fewer.bins].mean()) for time in times]
    best = int(np.argmax(scores))
    return scores[best], times[best] if fewer is second else -times[best]


def test_the_search_finds_what_trying_all_pairs_and_times_finds(songs: Songs, prints: Prints) -> None:
    searched = dict(prints)
    for kind in ("from 5 s on", "all at once"):
        copy, sample_rate, _ = COPIES[kind]
        searched |= {f"{name}, {kind}": fingerprint(copy(songs[name]), sample_rate) for name in ("song 1", "song 4")}
    expected = {
        (first, second): best
        for first, second in combinations(sorted(searched), 2)
        if (best := best_score(searched[first], searched[second]))[0] >= SAME_RECORDING
    }
    found = {(match.first, match.second): match for match in find_same(searched)}
    assert found.keys() == expected.keys()
    assert len(found) >= 4
    for pair, (score, time) in expected.items():
        assert found[pair].score == pytest.approx(score, abs=0.02), "the times beside it are nearly as good"
        assert found[pair].offset_seconds == pytest.approx(time * FRAME_SECONDS, abs=1.5 * FRAME_SECONDS)


def test_a_recording_is_found_among_more_than_are_searched_at_once() -> None:
    generator = np.random.default_rng(0)

    def random_peaks() -> Fingerprint:
        frames = np.sort(generator.choice(400, 150, replace=False)).astype(np.int32)
        return Fingerprint(10.0, frames, generator.integers(10, 430, 150).astype(np.int16))

    prints = {f"{number:03}": random_peaks() for number in range(600)}
    twins = {"100": "400", "400": "590"}
    for first, second in twins.items():
        prints[second] = prints[first]
    found = find_same(prints)
    assert [(match.first, match.second) for match in found] == [("100", "400"), ("100", "590"), ("400", "590")]
    assert all(match.score == 1 and match.offset_seconds == 0 for match in found)


def test_the_sum_of_the_stems_is_the_recording_of_the_mixture(make_song: MakeSong, tmp_path: Path) -> None:
    make_song("data/A", seconds=3.0, seed=1, gains={"vocals": 1.2, "drums": 0.8})
    make_song("data/B", seconds=3.0, seed=9)
    prints = {}
    for song in dataset.songs(tmp_path / "data"):
        prints[f"{song.name}, mixture"] = fingerprint(song.read_mixture(), SAMPLE_RATE)
        prints[f"{song.name}, stems"] = fingerprint(np.sum([*song.read_stems().values()], axis=0), SAMPLE_RATE)
    assert [(match.first, match.second) for match in find_same(prints)] == [
        ("A, mixture", "A, stems"), ("B, mixture", "B, stems")
    ]  # fmt: skip

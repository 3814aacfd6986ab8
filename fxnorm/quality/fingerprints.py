"""Finds recordings that come again: as MP3, at another sample rate or level, in mono, inverted, or trimmed.

A fingerprint is the peaks of a spectrogram at a low sample rate, after A. Wang, "An industrial-strength audio search
algorithm" (ISMIR 2003). Fingerprints are compared in two steps:

1. Pairs of neighbouring peaks are hashed. Each hash that two fingerprints have in common votes for the time between
   them. Only a time with enough votes goes on.
2. At that time, the peaks are counted that both have in the same place. The score is their share in the fingerprint
   that has fewer peaks.

**What counts as the same recording**: a score of :data:`SAME_RECORDING` or more. So the greater part of the shorter one
has to be in the longer one, at one time. An excerpt is the same recording as its song. Two songs that share a loop, an
intro, or their drums and bass are different recordings.

Between the two lie remixes of the same stems: they are the same recording if most of the spectrum's peaks are still the
highest ones around. They are with each stem 3 dB up or down; mostly with 6 or 10 dB, or without the vocals; hardly in a
mix of the same takes without effects. Another song over the same drums, bass and chords, with other vocals alone, is
counted as the same in one of three cases. A copy at another speed or pitch is not found.

``benchmarks/leak_search.py`` measures all of this on 300 songs that the same instruments play: different songs score
0.33 at most, songs with the same drum track 0.46, and copies as above 0.66 and more.

No library is used. Chromaprint (LGPL) is a shared library that its Python packages do not carry, and it compares whole
files, so that the search for pairs and their time would be here all the same. audfprint2 (MIT) looks up queries in one
hash table and has no rule for how much of a song has to match. Dejavu needs a database server, Panako Java.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import maximum_filter1d

from fxnorm.io import audio as audio_io
from fxnorm.runtime.compiled import kernel

SAME_RECORDING = 0.55
"""Score from which on two fingerprints are of the same recording: between the two groups that were measured."""

_RATE = 11_025  # Hz
_FRAME, _HOP = 1024, 256  # samples: 93 and 23 ms
FRAME_SECONDS = _HOP / _RATE
"""Unit of :attr:`Fingerprint.frames`, in seconds."""

_LOWEST_BIN, _HIGHEST_BIN = 10, 430  # 108 Hz to 4.6 kHz: what every copy keeps
_PEAK_BINS, _PEAK_FRAMES = 12, 10  # a peak is the highest this far to each side: some 25 a second remain
_RANGE_DB, _RANGE_FRAMES = 50.0, 43  # peaks further under the loudest within a second are noise, or an encoder's
_FLOOR_DBFS = -90.0
_FRAMES_AT_ONCE = 4096
_LEAST_PEAKS = 50  # some two seconds of music: fewer may agree by chance

_PARTNERS = 3  # of a peak, the nearest ones within its zone
_ZONE_FRAMES, _ZONE_BINS = (2, 63), 63
_SUCCESSORS = 40  # peaks that are looked at for partners
_HASH_BITS, _KEPT_BITS = 22, 20  # one hash in four is kept, the same ones in every fingerprint: some 18 a second
_SCRAMBLING = 0x9E3779B1  # odd, so that no two hashes become one

_LEAST_VOTES, _LEAST_SHARE_OF_VOTES = 6, 0.06  # copies have a share of 0.2 and more, unrelated songs one of 0.03
_COARSE_BITS = 6  # votes are counted by 64 frames first
_SONGS_AT_ONCE, _LANDMARKS_AT_ONCE = 256, 1 << 21


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """What is kept of a recording: some 150 bytes a second.

    Attributes:
        seconds: length of the recording.
        frames: when the spectrogram's peaks are, int32 (peaks,), ascending, in units of :data:`FRAME_SECONDS`.
        bins: where they are in frequency, int16 (peaks,), in units of 10.8 Hz.
    """

    seconds: float
    frames: np.ndarray
    bins: np.ndarray


@dataclass(frozen=True, order=True)
class Match:
    """Two names of one recording, ``first`` before ``second`` in the alphabet.

    Attributes:
        first: a name.
        second: another one.
        offset_seconds: when ``second`` begins in ``first``, within 0.05 s; negative if it begins earlier.
        score: the share of peaks, of the fingerprint that has fewer, that the other has in the same place, within one
            frame and one bin.
    """

    first: str
    second: str
    offset_seconds: float
    score: float


@dataclass(frozen=True)
class _Landmarks:
    """The hashes of a fingerprint that are kept, ascending, and the frames of the first peaks of their pairs."""

    hashes: np.ndarray
    frames: np.ndarray


# ---- fingerprints


def fingerprint(audio: np.ndarray, sample_rate: int) -> Fingerprint:
    """The fingerprint of a recording, the same at any gain, inverted, and with its channels swapped.

    Args:
        audio: float32 (1 or 2 channels, samples).
        sample_rate: in Hz.
    """
    seconds = audio.shape[1] / sample_rate
    level = _spectrogram(audio_io.to_stereo(audio_io.resample(audio, sample_rate, _RATE)))
    if not len(level):
        return Fingerprint(seconds, np.empty(0, np.int32), np.empty(0, np.int16))
    loudest = maximum_filter1d(level.max(axis=1), 2 * _RANGE_FRAMES + 1)
    floor = np.maximum(loudest - _RANGE_DB, _FLOOR_DBFS)
    under, over = _highest_beside(level, _PEAK_BINS, axis=1)
    # of equal levels the first one is the peak, so that a steady tone has few
    is_peak = (level > under) & (level >= over) & (level > floor[:, np.newaxis])
    before, after = _highest_beside(np.maximum(np.maximum(under, over), level), _PEAK_FRAMES, axis=0)
    is_peak &= (level > before) & (level >= after)
    frames, bins = np.nonzero(is_peak)
    return Fingerprint(seconds, frames.astype(np.int32), (bins + _LOWEST_BIN).astype(np.int16))


def _spectrogram(stereo: np.ndarray) -> np.ndarray:
    """Level (frames, bins) in dBFS of both channels' energy: inverting one of them changes nothing."""
    if stereo.shape[1] < _FRAME:
        return np.empty((0, _HIGHEST_BIN - _LOWEST_BIN), np.float32)
    # one complex transform does both channels: |Z(f)|² + |Z(-f)|² = 2 |L(f)|² + 2 |R(f)|²
    both = np.lib.stride_tricks.sliding_window_view(stereo[0] + 1j * stereo[1], _FRAME)[::_HOP]
    window = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
    window /= window.sum()
    level = np.empty((len(both), _HIGHEST_BIN - _LOWEST_BIN), np.float32)
    for start in range(0, len(both), _FRAMES_AT_ONCE):
        spectrum = np.abs(fft.fft(both[start : start + _FRAMES_AT_ONCE] * window, axis=1))
        positive, negative = spectrum[:, _LOWEST_BIN:_HIGHEST_BIN], spectrum[:, -_LOWEST_BIN:-_HIGHEST_BIN:-1]
        level[start : start + _FRAMES_AT_ONCE] = 10 * np.log10(np.square(positive) + np.square(negative) + 1e-20)
    return level


def _highest_beside(level: np.ndarray, width: int, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """For each value the highest of the ``width`` before it, and of those after it, along an axis."""
    padding = [(0, 0), (0, 0)]
    padding[axis] = (width, width + 1)
    padded = np.pad(level, padding, constant_values=-np.inf)
    highest = np.moveaxis(maximum_filter1d(padded, width, axis=axis), axis, 0)[width // 2 :]  # from each on
    length = level.shape[axis]
    return np.moveaxis(highest[:length], 0, axis), np.moveaxis(highest[width + 1 :][:length], 0, axis)


# ---- search


def find_same(fingerprints: Mapping[str, Fingerprint], least_score: float = SAME_RECORDING) -> list[Match]:
    """All pairs of fingerprints that are of the same recording, in alphabetical order.

    The search takes some 150 bytes of memory a second of song beside the fingerprints, and time that grows with the
    square of all songs' length: 5 s for 1,000 songs of four minutes, four minutes for 10,000.

    Args:
        fingerprints: by name. A fingerprint of under 50 peaks, such as silence or less than two seconds, has no match.
        least_score: from 0 to 1.
    """
    names = sorted(name for name, kept in fingerprints.items() if len(kept.frames) >= _LEAST_PEAKS)
    kept = [fingerprints[name] for name in names]
    landmarks = [_landmarks(one) for one in kept]
    matches = []
    for i, j in _candidates(landmarks):
        scores = [(_score(kept[i], kept[j], time), votes, time) for time, votes in _times(landmarks[i], landmarks[j])]
        score, _, time = max(scores, default=(0.0, 0, 0))
        if scores and score >= least_score:
            matches.append(Match(names[i], names[j], time * FRAME_SECONDS, score))
    return sorted(matches)


def _landmarks(kept: Fingerprint) -> _Landmarks:
    """Hashes of pairs of peaks: the first one's frequency, and how far the second is in frequency and time."""
    partners = np.zeros(len(kept.frames), np.int64)
    bins = kept.bins.astype(np.int64)
    hashes, frames = [], []
    for step in range(1, min(_SUCCESSORS, len(bins) - 1) + 1):
        later, higher = kept.frames[step:] - kept.frames[:-step], bins[step:] - bins[:-step]
        is_pair = (later >= _ZONE_FRAMES[0]) & (later <= _ZONE_FRAMES[1]) & (np.abs(higher) <= _ZONE_BINS)
        first = np.flatnonzero(is_pair & (partners[:-step] < _PARTNERS))
        partners[first] += 1
        pair = (bins[first] << 13) | ((higher[first] + _ZONE_BINS) << 6) | later[first]
        scrambled = (pair * _SCRAMBLING) & ((1 << _HASH_BITS) - 1)
        is_kept = scrambled < 1 << _KEPT_BITS
        hashes.append(scrambled[is_kept].astype(np.int32))
        frames.append(kept.frames[first[is_kept]])
    unsorted, of_frame = np.concatenate(hashes), np.concatenate(frames)
    order = np.lexsort((of_frame, unsorted))
    return _Landmarks(unsorted[order], of_frame[order])


def _candidates(landmarks: Sequence[_Landmarks]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, with enough votes for some 64 frames; none with enough for one frame is missing."""
    reach = max((int(one.frames.max(initial=0)) for one in landmarks), default=0) + 1
    for start, end in _blocks(landmarks):
        block = landmarks[start:end]
        hashes = np.concatenate([one.hashes for one in block])
        order = np.argsort(hashes, kind="stable")
        first_of_hash = np.searchsorted(hashes[order], np.arange((1 << _KEPT_BITS) + 1))
        sizes = np.array([len(one.hashes) for one in block])
        songs = np.repeat(np.arange(len(block)), sizes)[order]
        frames = np.concatenate([one.frames for one in block])[order]
        votes = np.zeros((len(block), (2 * reach >> _COARSE_BITS) + 2), np.int32)
        most = np.zeros(len(block), np.int32)
        for i in range(end):
            sought = landmarks[i]
            _count_votes(sought.hashes, sought.frames - reach, first_of_hash, songs, frames, votes, most)
            enough = most >= _least_votes(len(sought.hashes), sizes)
            yield from ((i, start + int(j)) for j in np.flatnonzero(enough) if start + j > i)


def _blocks(landmarks: Sequence[_Landmarks]) -> Iterator[tuple[int, int]]:
    """Neighbouring songs whose landmarks are compared at once, from one on to before another."""
    start, total = 0, 0
    for end, one in enumerate(landmarks):
        if end > start and (end - start == _SONGS_AT_ONCE or total + len(one.hashes) > _LANDMARKS_AT_ONCE):
            yield start, end
            start, total = end, 0
        total += len(one.hashes)
    if landmarks:
        yield start, len(landmarks)


@kernel()
def _count_votes(
    hashes: np.ndarray,
    sought_frames: np.ndarray,
    first_of_hash: np.ndarray,
    songs: np.ndarray,
    frames: np.ndarray,
    votes: np.ndarray,
    most: np.ndarray,
) -> None:
    """Write into ``votes`` (songs, coarse times) how many landmarks of each song and time equal those sought.

    ``most`` (songs,) gets the most that two neighbouring times have together.
    """
    votes[:] = 0
    for sought in range(hashes.size):
        for found in range(first_of_hash[hashes[sought]], first_of_hash[hashes[sought] + 1]):
            votes[songs[found], (frames[found] - sought_frames[sought]) >> _COARSE_BITS] += 1
    for song in range(most.size):
        most[song] = 0
        for time in range(1, votes.shape[1]):
            most[song] = max(most[song], votes[song, time - 1] + votes[song, time])


def _least_votes(first: int, second: int | np.ndarray) -> np.ndarray:
    """How many votes two fingerprints of so many landmarks need."""
    return np.maximum(_LEAST_VOTES, _LEAST_SHARE_OF_VOTES * np.minimum(first, second))


def _times(first: _Landmarks, second: _Landmarks) -> list[tuple[int, int]]:
    """The two neighbouring frames of ``first`` that have most votes to be the begin of ``second``, if they have enough.

    Returns:
        frames with their votes.
    """
    start = np.searchsorted(second.hashes, first.hashes, side="left")
    count = np.searchsorted(second.hashes, first.hashes, side="right") - start
    if not count.any():
        return []
    found = np.repeat(start + count - np.cumsum(count), count) + np.arange(count.sum())
    time = np.repeat(first.frames, count) - second.frames[found]
    earliest = int(time.min())
    votes = np.bincount(time - earliest, minlength=2)
    # a begin between two frames divides its votes among both
    neighbours = votes[:-1] + votes[1:]
    best = int(neighbours.argmax())
    if neighbours[best] < _least_votes(len(first.hashes), len(second.hashes)):
        return []
    return [(earliest + best + step, int(votes[best + step])) for step in (0, 1)]


def _score(first: Fingerprint, second: Fingerprint, time: int) -> float:
    """The score if ``second`` begins at frame ``time`` of ``first``."""
    rows = 1 << 16  # more than there are bins: no frame's last bin is beside the next frame's first
    places = [kept.frames.astype(np.int64) * rows + kept.bins for kept in (first, second)]
    places[1] += time * rows
    fewer, more = sorted(places, key=len)
    is_found = np.zeros(len(fewer), bool)
    for frame in (-1, 0, 1):
        for neighbour in (-1, 0, 1):
            place = fewer + (frame * rows + neighbour)
            index = np.minimum(np.searchsorted(more, place), len(more) - 1)
            is_found |= more[index] == place
    return float(is_found.mean())

"""Whether a channel carries programme, or only what recordings leave behind: clicks, hum, hiss, offset, rumble, bleed.

Normalization brings its input to a target, however quiet that is. The published rule excludes silence (a peak at or
under -50 dBFS), but a single click of -34 dBFS is no silence, and would be raised to full scale. So each
channel of a stem is examined here, before normalization. The levels below lie between those of such
residues and those of songs, also of songs that were turned down by 30 dB.
"""

import numpy as np

from fxnorm.constants import SAMPLE_RATE, SILENCE_DBFS
from fxnorm.effects import loudness
from fxnorm.effects.levels import checked, decibels, peaks
from fxnorm.runtime.compiled import kernel

LEAST_LOUDNESS = -54.0
"""LUFS that programme reaches for 400 ms at least once (momentary loudness of one channel, ITU-R BS.1770). Stems reach
-11 to -34; 30 dB lower, those of songs at usual levels reach -41 to -52. Bleed 45 dB under a loud mix stays below."""

_LEAST_BESIDE_PROGRAMME = -60.0  # LUFS, of the quieter channel of a stem that leans to one side …
_LEAN = 12.0  # dB, by no more than this; beside louder programme it is crosstalk
_NEVER_STEADY_RESIDUE = -32.0  # LUFS; hum and hiss stay under it, while steady drones and pads reach -31 and more
_CHANGE = 3.0  # dB from the median level, up or down; hum and noise floors stay within 1 dB, the steadiest bass has 3.5
_FEWEST_STEPS = 5  # of 100 ms; fewer do not show whether a level changes
_LOUDNESS_GATE = -70.0  # LUFS, BS.1770's absolute loudness gate; quieter steps count as pauses
_LOST_TO_WEIGHTING = 10.0  # dB that K-weighting takes from rumble under 26 Hz; from the lowest string of a bass, 8

_REMARK = "no programme: clicks, hum, noise or bleed alone, taken as it is"

_WINDOW = 147  # samples, 3.3 ms
_CLICK = 16.0  # samples, 0.4 ms, in which a click has its energy; the shortest hits of percussion have it in 30
_ALONE = 15  # windows on both sides, 50 ms, in which an edge that no waveform has is the only one
_STEP = SAMPLE_RATE // 10  # 100 ms …
_STEPS_PER_BLOCK = 4  # … and the momentary loudness is of 400 ms
_BLOCK = _STEP * _STEPS_PER_BLOCK
_WINDOWS_PER_STEP = _STEP // _WINDOW
_FIRST_STEPS = 20  # after which a channel is judged for the first time, and then each time after twice as many
_DEAD = 1e-30  # energy of 100 ms under which the filters are at rest


def carried(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Whether each channel of ``audio`` (channels, samples) carries programme: bool (channels,).

    A channel does whose peak passes -50 dBFS and which, after clicks and isolated steps are taken out of it, reaches a
    momentary loudness of -54 LUFS; -60 LUFS if the other channel carries programme that is at most 12 dB louder. A
    channel that stays under -32 LUFS does not if

    - its level stays within 3 dB, as that of hum and of noise floors, or
    - K-weighting takes 10 dB from it, as from rumble.

    Shorter than 400 ms, it counts as one block filled up with silence; shorter than half a second, no level is steady.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    audio = checked(audio, sample_rate)
    sounding = decibels(peaks(audio)) > SILENCE_DBFS
    carrying = sounding.copy()
    for channel in np.flatnonzero(sounding):
        carrying[channel] = _carries(audio[channel], LEAST_LOUDNESS)
    quieter = sounding & ~carrying
    if carrying.any() and quieter.any():
        carrying[quieter] = _leans(audio[carrying][0], audio[quieter][0])
    return carrying


def alone(audio: np.ndarray, carrying: np.ndarray) -> np.ndarray:
    """``audio`` (channels, samples) with silence for channels that are not ``carrying``; itself, where all are."""
    return audio if carrying.all() else np.where(carrying[:, None], audio, np.float32(0))


def remark(audio: np.ndarray, sample_rate: int) -> str | None:
    """A phrase on audio (channels, samples) with a channel that sounds and carries no programme; ``None`` otherwise.

    Raises:
        AudioError: not one or two channels at 44.1 kHz.
    """
    audio = checked(audio, sample_rate)
    carrying = carried(audio, sample_rate)
    residue = (decibels(peaks(audio)) > SILENCE_DBFS) & ~carrying
    if not residue.any():
        return None
    if not carrying.any():
        return _REMARK
    return f"{('left', 'right')[int(residue.argmax())]} channel: {_REMARK}"


def _carries(audio: np.ndarray, least_loudness: float) -> bool:
    """Whether one channel, ``audio`` (samples,), carries programme; reads no more of it than is needed to decide."""
    scan = _Scan(audio)
    while scan.go_on():
        if scan.is_programme(least_loudness):
            return True
    return scan.is_programme(least_loudness)


def _leans(programme: np.ndarray, quieter: np.ndarray) -> bool:
    """Whether a channel (samples,) is the quieter side of the ``programme`` (samples,) in the other one."""
    quieter_scan, programme_scan = _Scan(quieter), _Scan(programme)
    quieter_scan.finish()
    if not quieter_scan.is_programme(_LEAST_BESIDE_PROGRAMME):
        return False
    programme_scan.finish()
    return quieter_scan.loudest() >= programme_scan.loudest() - _LEAN


class _Scan:
    """Measurements of a channel in steps of 100 ms, from its beginning to as far as it was read."""

    def __init__(self, audio: np.ndarray) -> None:
        self._audio = audio
        self._steps = -(-audio.size // _STEP)
        self._blocks = max(1, round(audio.size / _STEP) - _STEPS_PER_BLOCK + 1)
        self._done = 0
        self._sums = np.zeros((4, self._steps + _STEPS_PER_BLOCK))
        self._state = np.zeros(7)
        self._state[4:6] = np.median(audio[:_WINDOW])  # an offset from the start on is no step, and a click no offset
        self._edges = np.zeros(3 * _WINDOWS_PER_STEP, dtype=np.bool_)
        self._filters = loudness.weighting()

    def go_on(self) -> bool:
        """Measure the next 2 s, or as much again as was measured before; False at the end of the channel."""
        if self._done == self._steps:
            return False
        stop = min(max(_FIRST_STEPS, 2 * self._done), self._steps)
        _scan(self._audio, self._done, stop, *self._filters, self._state, self._edges, self._sums)
        self._done = stop
        return True

    def finish(self) -> None:
        """Measure the whole channel."""
        while self.go_on():
            pass

    def loudest(self) -> float:
        """Highest momentary loudness in LUFS."""
        return float(loudness.level(self._powers().max()))

    def _powers(self) -> np.ndarray:
        blocks = min(self._blocks, max(1, self._done - _STEPS_PER_BLOCK + 1))
        return _moving_sum(self._sums[0, : self._done + _STEPS_PER_BLOCK])[:blocks] / _BLOCK

    def is_programme(self, least_loudness: float) -> bool:
        """Whether the part that was measured is enough to call the channel programme."""
        energies, totals, squares, jumps = self._sums[:, : self._done + _STEPS_PER_BLOCK]
        powers = self._powers()
        loudest = int(powers.argmax())
        level = loudness.level(powers[loudest])
        if level < least_loudness or level >= _NEVER_STEADY_RESIDUE:
            return bool(level >= least_loudness)
        total, square, jump = (_moving_sum(values)[loudest] for values in (totals, squares, jumps))
        unweighted = (square - total**2 / _BLOCK) / _BLOCK - jump  # where a step was taken out, an offset may remain
        if powers[loudest] < unweighted * 10 ** (-_LOST_TO_WEIGHTING / 10):
            return False
        change = _change(loudness.level(energies[: self._done] / _STEP))
        return self._done == self._steps if change is None else change >= _CHANGE


def _moving_sum(values: np.ndarray) -> np.ndarray:
    return np.convolve(values, np.ones(_STEPS_PER_BLOCK), mode="valid")


def _change(levels: np.ndarray) -> float | None:
    """How far levels of steps in LUFS go from their median, in dB, apart from beginning and ending; ``None`` of few."""
    sounding = np.pad(levels > _LOUDNESS_GATE, 1, constant_values=True)
    inner = levels[sounding[:-2] & sounding[1:-1] & sounding[2:]]
    if inner.size < _FEWEST_STEPS:
        return None
    lowest, median = np.percentile(inner, (10, 50))
    return float(max(inner.max() - median, median - lowest))


@kernel(fastmath=True, error_model="numpy")
def _scan(
    audio: np.ndarray,
    first: int,
    stop: int,
    shelf: np.ndarray,
    high_pass: np.ndarray,
    state: np.ndarray,
    edges: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Steps from ``first`` to ``stop`` without their clicks: energy after K-weighting, sum, squares, squared jumps.

    A window with an edge (its differences have their energy in a few samples) is held at the value before it, if it is
    the only one around, and what comes after is moved there: clicks and steps alike. Where there are more edges, it is
    held if its samples too have their energy in a few: clicks in close succession, but no square wave and no sawtooth.
    """
    b0, b1, b2, _, a1, a2 = shelf
    d0, d1, d2, _, c1, c2 = high_pass
    s1, s2, t1, t2, before, offset, held = state
    if first == 0:
        _find_edges(audio, 0, edges[2 * _WINDOWS_PER_STEP :])
    for step in range(first, stop):
        edges[: 2 * _WINDOWS_PER_STEP] = edges[_WINDOWS_PER_STEP:]
        _find_edges(audio, step + 1, edges[2 * _WINDOWS_PER_STEP :])
        energy = total = squares = 0.0
        holding = False
        for window in range(_WINDOWS_PER_STEP):
            begin = step * _STEP + window * _WINDOW
            end = min(begin + _WINDOW, audio.size)
            if begin >= end:
                break
            if not holding and begin > 0:
                before = audio[begin - 1]
            hold = alone = False
            position = _WINDOWS_PER_STEP + window
            if edges[position]:
                alone = edges[position - _ALONE : position + _ALONE + 1].sum() <= 2
                hold = alone or _concentrated(audio[begin:end], before)
            for n in range(begin, end):
                value = held if hold else audio[n] - offset
                total += value
                squares += value * value
                shelved = b0 * value + s1
                s1 = b1 * value - a1 * shelved + s2
                s2 = b2 * value - a2 * shelved
                passed = d0 * shelved + t1
                t1 = d1 * shelved - c1 * passed + t2
                t2 = d2 * shelved - c2 * passed
                energy += passed * passed
            if alone:
                jump = audio[end - 1] - held - offset
                offset += jump
                sums[3, step] += jump * jump
            elif not hold:
                held = audio[end - 1] - offset
            holding = hold
        sums[0, step], sums[1, step], sums[2, step] = energy, total, squares
        # what rings on in silence would end in denormal numbers, which are slow
        if energy < _DEAD:
            s1 = s2 = t1 = t2 = 0.0
    state[:] = s1, s2, t1, t2, before, offset, held


@kernel(fastmath=True, error_model="numpy")
def _find_edges(audio: np.ndarray, step: int, edges: np.ndarray) -> None:
    """Which windows of a step have a difference between samples that stands out; none after the end."""
    for window in range(_WINDOWS_PER_STEP):
        begin = step * _STEP + window * _WINDOW
        squares = fourths = np.float32(0)
        for n in range(max(begin, 1), min(begin + _WINDOW, audio.size)):
            square = (audio[n] - audio[n - 1]) ** 2
            squares += square
            fourths += square * square
        edges[window] = squares * squares < _CLICK * fourths


@kernel(fastmath=True, error_model="numpy")
def _concentrated(audio: np.ndarray, before: float) -> bool:
    """Whether a few samples of ``audio`` (samples,) have all the energy of its distance from the value before it."""
    squares = fourths = 0.0
    for sample in audio:
        square = (sample - before) ** 2
        squares += square
        fourths += square * square
    return squares * squares < _CLICK * fourths

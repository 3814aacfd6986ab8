"""A singer: glottal pulses and breath through the formants of syllables, with consonants between them.

Source and filter follow D. Klatt, "Software for a cascade/parallel formant synthesizer" (JASA 67(3), 1980): the
KLGLOTT88 pulse t^2 - t^3 and its cascade of two-pole resonators. Formants of sung vowels are those of the table in the
manual of Csound (appendix "Formant values"). Audio is float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage, signal

from fxnorm.constants import SAMPLE_RATE
from fxnorm.demo.composition import Note
from fxnorm.runtime.compiled import kernel

_VOWELS_HZ = {
    "low": (
        (650, 1080, 2650, 2900, 3250), (400, 1700, 2600, 3200, 3580), (290, 1870, 2800, 3250, 3540),
        (400, 800, 2600, 2800, 3000), (350, 600, 2700, 2900, 3300),
    ),
    "high": (
        (800, 1150, 2900, 3900, 4950), (350, 2000, 2800, 3600, 4950), (270, 2140, 2950, 3900, 4950),
        (450, 800, 2830, 3800, 4950), (325, 700, 2700, 3800, 4950),
    ),
}  # fmt: skip
"""Formants of a, e, i, o, u: a tenor's and a soprano's."""

_BANDWIDTHS_HZ = np.array([80.0, 95.0, 130.0, 160.0, 220.0])
_CONTROL = 64  # samples between two settings of the formants
_GLIDE_SECONDS, _VOWEL_SECONDS = 0.035, 0.05
_FRICATIVES_HZ = ((5200.0, 10500.0), (2300.0, 7000.0), (1500.0, 9000.0))  # s, sh, f or h
_NASAL_HZ = (270.0, 1300.0, 2300.0, 3000.0, 3600.0)
_DIPHTHONGS, _CLOSED_SYLLABLES = 0.4, 0.3  # shares of the syllables
_NOISE_SEEDS = 2**31


@dataclass(frozen=True)
class Singer:
    """One voice.

    Attributes:
        register: ``low`` for a tenor's formants, ``high`` for a soprano's.
        size: factor on the formants; larger for a shorter vocal tract.
        breath: level of breath noise against the pulses.
        air: level of what passes the mouth above the formants, pulses and breath alike.
        tension: 0 soft, with few harmonics, to 1 hard.
        vibrato_hz, vibrato_cents: reached late in long notes.
        consonants: level of consonants, 1 usual.
        octave: in which the notes are sung.
        looseness: how far pitch and timing wander.
    """

    register: str = "low"
    size: float = 1.0
    breath: float = 0.05
    air: float = 0.1
    tension: float = 0.5
    vibrato_hz: float = 5.5
    vibrato_cents: float = 30.0
    consonants: float = 1.0
    octave: int = 0
    looseness: float = 1.0

    def play(self, notes: Sequence[Note], samples: int, rng: np.random.Generator) -> np.ndarray:
        """The line, (1, samples); a note ends where the next one starts."""
        line = sorted((note for note in notes if note.start * SAMPLE_RATE < samples), key=lambda note: note.start)
        if not line:
            return np.zeros((1, samples))
        controls = -(-samples // _CONTROL) + 1
        time = np.arange(controls) * _CONTROL / SAMPLE_RATE
        pitch, level = np.full(controls, np.nan), np.zeros(controls)
        formants = np.zeros((controls, 5))
        noise = np.zeros(samples)
        vowels = np.array(_VOWELS_HZ[self.register], dtype=np.float64) * self.size
        previous_key = line[0].key
        for index, note in enumerate(line):
            following = line[index + 1].start if index + 1 < len(line) else np.inf
            end = min(note.start + note.length, following)
            held = slice(*np.searchsorted(time, (note.start, end)))
            if held.stop <= held.start:
                continue
            within = time[held] - note.start
            scoop = (previous_key - note.key) * np.exp(-within / _GLIDE_SECONDS) * (rng.random() < 0.7)
            wobble = np.clip((within - 0.18) / 0.3, 0, 1) * self.vibrato_cents / 100
            pitch[held] = note.key + scoop + wobble * np.sin(2 * np.pi * self.vibrato_hz * within + rng.uniform(0, 6))
            swell = 0.85 + 0.15 * np.sin(np.pi * within / max(end - note.start, 0.05))
            level[held] = (note.velocity / 127) ** 1.3 * swell
            first, second = vowels[rng.integers(len(vowels), size=2)]
            turn = np.clip((within / max(end - note.start, 0.05) - 0.5) * 3, 0, 1)[:, np.newaxis]
            formants[held] = first + turn * (second - first) * (rng.random() < _DIPHTHONGS)
            self._articulate(rng, note, held, level, formants, noise)
            if rng.random() < _CLOSED_SYLLABLES:
                band = _FRICATIVES_HZ[rng.integers(len(_FRICATIVES_HZ))]
                strength = self.consonants * note.velocity / 127
                self._add_noise(rng, noise, end, rng.uniform(0.04, 0.1), band, 0.07 * strength)
            previous_key = note.key
        return self._sing(rng, pitch, level, formants, noise)[np.newaxis, :samples]

    def _articulate(
        self,
        rng: np.random.Generator,
        note: Note,
        held: slice,
        level: np.ndarray,
        formants: np.ndarray,
        noise: np.ndarray,
    ) -> None:
        """How the syllable begins: with a fricative, a plosive, a nasal, or its vowel."""
        kind = rng.random()
        strength = self.consonants * note.velocity / 127
        first = held.start
        if kind < 0.3:
            band = _FRICATIVES_HZ[rng.integers(len(_FRICATIVES_HZ))]
            self._add_noise(rng, noise, note.start, rng.uniform(0.05, 0.12), band, 0.09 * strength)
            level[first : first + 10] *= np.linspace(0.1, 1, 10)[: len(level[first : first + 10])]
        elif kind < 0.55:
            self._add_noise(rng, noise, note.start, rng.uniform(0.012, 0.03), (1800.0, 9000.0), 0.16 * strength)
            level[max(first - 20, 0) : first + 4] = 0.0
        elif kind < 0.75:
            nasal = slice(first, min(first + int(rng.uniform(30, 70)), held.stop))
            formants[nasal] = np.array(_NASAL_HZ) * self.size
            level[nasal] *= 0.45

    @staticmethod
    def _add_noise(
        rng: np.random.Generator,
        noise: np.ndarray,
        start: float,
        seconds: float,
        band: tuple[float, float],
        level: float,
    ) -> None:
        length = round(seconds * SAMPLE_RATE)
        first = round((start - 0.6 * seconds) * SAMPLE_RATE)
        if first < 0 or first + length > noise.size:
            return
        passed = _band_pass(band)
        noise[first : first + length] += (
            level * signal.sosfilt(passed, rng.standard_normal(length)) * np.hanning(length)
        )

    def _sing(
        self, rng: np.random.Generator, pitch: np.ndarray, level: np.ndarray, formants: np.ndarray, noise: np.ndarray
    ) -> np.ndarray:
        voiced = np.isfinite(pitch)
        index = np.maximum.accumulate(np.where(voiced, np.arange(pitch.size), -1))
        index[index < 0] = np.flatnonzero(voiced)[0]
        drift = ndimage.gaussian_filter1d(rng.standard_normal(pitch.size), 60) * 3 * self.looseness
        keys = ndimage.gaussian_filter1d(pitch[index], 4) + drift + 12 * self.octave
        filled = ndimage.uniform_filter1d(formants[index], round(_VOWEL_SECONDS * SAMPLE_RATE / _CONTROL), axis=0)
        amplitude = ndimage.gaussian_filter1d(np.where(voiced, level, 0.0), 6)
        frequency = 440.0 * 2.0 ** ((keys - 69) / 12)
        # a singer opens the mouth on high notes, so that the first formant never lies under the pitch
        filled[:, 0] = np.maximum(filled[:, 0], 1.05 * frequency)
        audio = _voice(
            frequency,
            amplitude,
            filled,
            np.broadcast_to(_BANDWIDTHS_HZ, filled.shape).copy(),
            np.array(
                [
                    0.45 + 0.3 * (1 - self.tension),
                    self.breath,
                    0.5 + 0.5 * self.tension,
                    0.006 * self.looseness,
                    self.air,
                ]
            ),
            noise.size,
            int(rng.integers(_NOISE_SEEDS)),
        )
        peak = np.abs(audio).max()
        return audio / max(peak, 1e-9) + noise


@cache
def _band_pass(band: tuple[float, float]) -> np.ndarray:
    return np.asarray(signal.butter(2, band, "bandpass", fs=SAMPLE_RATE, output="sos"))


@kernel(error_model="numpy")
def _voice(
    frequency: np.ndarray,
    amplitude: np.ndarray,
    formants: np.ndarray,
    bandwidths: np.ndarray,
    source: np.ndarray,
    samples: int,
    seed: int,
) -> np.ndarray:
    rate = 44100.0
    open_quotient, breath, brightness, jitter, air = source
    air_pole = 1.0 - np.exp(-2.0 * np.pi * 4500.0 / rate)
    first_low = second_low = 0.0
    np.random.seed(seed)
    audio = np.zeros(samples)
    memory = np.zeros((5, 2))
    coefficients = np.zeros((5, 3))
    phase = 0.0
    period_factor = 1.0
    tilted = 0.0
    last = 0.0
    for i in range(samples):
        frame = i // 64
        part = (i % 64) / 64.0
        if i % 64 == 0:
            for k in range(5):
                radius = np.exp(-np.pi * bandwidths[frame, k] / rate)
                b = 2.0 * radius * np.cos(2.0 * np.pi * formants[frame, k] / rate)
                c = -radius * radius
                coefficients[k, 0] = 1.0 - b - c
                coefficients[k, 1] = b
                coefficients[k, 2] = c
        hertz = frequency[frame] + part * (frequency[frame + 1] - frequency[frame])
        loud = amplitude[frame] + part * (amplitude[frame + 1] - amplitude[frame])
        phase += hertz * period_factor / rate
        if phase >= 1.0:
            phase -= 1.0
            period_factor = 1.0 + jitter * np.random.normal()
        pulse = 0.0
        if phase < open_quotient:
            t = phase / open_quotient
            pulse = 6.75 * (t * t - t * t * t)
        noise = np.random.normal() * breath * (0.25 + pulse)
        # the lips radiate the flow's derivative
        flow = pulse + 0.2 * noise
        tilted += brightness * (flow - tilted)
        value = (tilted - last) * (rate / 44100.0) * 8.0 * loud
        last = tilted
        value += 0.15 * noise * loud
        first_low += air_pole * (value - first_low)
        second_low += air_pole * (value - first_low - second_low)
        high = air * (value - first_low - second_low)
        for k in range(5):
            result = coefficients[k, 0] * value + coefficients[k, 1] * memory[k, 0] + coefficients[k, 2] * memory[k, 1]
            memory[k, 1] = memory[k, 0]
            memory[k, 0] = result
            value = result
        audio[i] = value + high
    return audio

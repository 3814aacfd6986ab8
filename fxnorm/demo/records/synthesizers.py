"""Synthesizers in software: subtractive, FM, plucked strings, and a guitar amplifier. Audio is float64.

Saw waves are band-limited by polynomial corrections (V. Välimäki and A. Huovilainen, "Antialiasing oscillators in
subtractive synthesis", IEEE Signal Processing Magazine 24(2), 2007), the filter is the trapezoidal state-variable one
(V. Zavalishin, "The art of VA filter design", 2012), FM is J. Chowning's (JAES 21(7), 1973) and strings are those of
K. Karplus and A. Strong (Computer Music Journal 7(2), 1983) with the pick position and fractional delay of D. Jaffe and
J. Smith (the same issue).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal

from fxnorm.constants import SAMPLE_RATE
from fxnorm.demo.composition import Note
from fxnorm.demo.processors import Band, equalize
from fxnorm.runtime.compiled import kernel

_NOISE_SEEDS = 2**31


@dataclass(frozen=True)
class Subtractive:
    """Saws or pulses through a resonant low-pass, both with envelopes. Times are seconds.

    Attributes:
        voices, detune_cents, spread: of the unison: how many, up to how far, and how far apart in the stereo image.
        pulse: share of a pulse wave against a saw.
        sub: level of a sine an octave below (0 to 1), or of one at the note's own pitch where ``voices`` is 0.
        cutoff: of the filter in Hz at middle C; it follows the key half way.
        sweep_octaves, sweep_seconds: how far and fast the filter closes after each note's start.
        resonance: 0.5 for none; the Q of the filter.
        poles: 2 or 4.
        drive: gain before a soft clipper, 0 for none.
    """

    voices: int = 1
    detune_cents: float = 8.0
    spread: float = 0.0
    pulse: float = 0.0
    sub: float = 0.0
    cutoff: float = 2000.0
    sweep_octaves: float = 1.0
    sweep_seconds: float = 0.2
    resonance: float = 0.8
    poles: int = 2
    attack: float = 0.005
    decay: float = 0.3
    sustain: float = 0.7
    release: float = 0.1
    drive: float = 0.0
    octave: int = 0

    def play(self, notes: Sequence[Note], samples: int, rng: np.random.Generator) -> np.ndarray:
        """The notes, (2, samples)."""
        starts, lengths, frequencies, levels = _note_arrays(notes, samples)
        voices = max(self.voices, 1)
        cents = np.linspace(-1, 1, voices) * self.detune_cents if voices > 1 else np.zeros(1)
        positions = np.linspace(-1, 1, voices) * self.spread if voices > 1 else np.zeros(1)
        angles = (rng.permutation(positions) + 1) * np.pi / 4
        audio = np.zeros((2, samples))
        _play_subtractive(
            audio,
            starts,
            lengths,
            frequencies * 2.0**self.octave,
            levels,
            2.0 ** (cents / 1200) * (1 + 1e-4 * rng.standard_normal(voices)),
            np.stack([np.cos(angles), np.sin(angles)]) * (2 / voices) ** 0.5 * (self.voices > 0),
            rng.random((len(starts), voices)),
            np.array([self.pulse, self.sub, self.cutoff, self.sweep_octaves, self.sweep_seconds, self.resonance]),
            np.array([self.attack, self.decay, self.sustain, self.release]),
            self.poles,
            1 if self.voices > 0 else 0,
        )
        return np.tanh(audio * self.drive) / np.tanh(self.drive) if self.drive > 0 else audio


@dataclass(frozen=True)
class FrequencyModulation:
    """Two pairs of modulator and carrier: an electric piano, bells, a bass.

    Attributes:
        ratios: of the modulators' frequencies to the note's.
        indices: modulation index at full velocity; both fall with ``brightness_seconds``.
        balance: share of the second pair.
        decay: time constant in seconds of the notes at middle C; higher ones are shorter.
        tremolo_hz, tremolo: of the stereo tremolo, and its depth.
    """

    ratios: tuple[float, float] = (1.0, 14.0)
    indices: tuple[float, float] = (1.5, 0.6)
    balance: float = 0.3
    decay: float = 1.2
    brightness_seconds: float = 0.5
    release: float = 0.15
    tremolo_hz: float = 5.0
    tremolo: float = 0.0

    def play(self, notes: Sequence[Note], samples: int, rng: np.random.Generator) -> np.ndarray:
        """The notes, (2, samples)."""
        starts, lengths, frequencies, levels = _note_arrays(notes, samples)
        audio = np.zeros(samples)
        _play_fm(
            audio,
            starts,
            lengths,
            frequencies,
            levels,
            np.array([*self.ratios, *self.indices]),
            np.array([self.balance, self.decay, self.brightness_seconds, self.release]),
        )
        swing = self.tremolo * np.sin(2 * np.pi * (self.tremolo_hz * np.arange(samples) / SAMPLE_RATE + rng.random()))
        return np.stack([audio * (1 + swing), audio * (1 - swing)])


@dataclass(frozen=True)
class Plucked:
    """A guitar's strings, and its amplifier.

    Attributes:
        decay: seconds in which a string falls by 60 dB.
        damping: 0 bright to 1 dull.
        pick: where the string is plucked, as a fraction of its length.
        gain: of the amplifier before it clips; 0 for an acoustic or clean one.
        body: of the acoustic guitar or the cabinet: bands of an equalizer.
        octave: in which the notes are played.
        mute: factor on the lengths; under 1 notes are damped early.
    """

    decay: float = 3.0
    damping: float = 0.4
    pick: float = 0.2
    gain: float = 0.0
    body: tuple[Band, ...] = ()
    octave: int = 0
    mute: float = 1.0

    def play(self, notes: Sequence[Note], samples: int, rng: np.random.Generator) -> np.ndarray:
        """The notes, (1, samples)."""
        starts, lengths, frequencies, levels = _note_arrays(notes, samples)
        audio = np.zeros(samples)
        _play_strings(
            audio,
            starts,
            (lengths * self.mute).astype(np.int64),
            frequencies * 2.0**self.octave,
            levels,
            np.array([self.decay, self.damping, self.pick]),
            int(rng.integers(_NOISE_SEEDS)),
        )
        if self.gain > 0:
            audio = _overdrive(audio, self.gain)
        return equalize(audio[np.newaxis], *self.body) if self.body else audio[np.newaxis]


def _overdrive(audio: np.ndarray, gain: float) -> np.ndarray:
    """A valve amplifier: tight lows, an asymmetric soft clipper at twice the sample rate, then no direct current."""
    tight = equalize(audio[np.newaxis], Band("high_pass", 120.0), Band("peak", 900.0, 4.0, 0.6))[0]
    doubled = signal.resample_poly(tight * gain, 2, 1)
    clipped = np.tanh(doubled + 0.15) - np.tanh(0.15)
    return np.asarray(equalize(signal.resample_poly(clipped, 1, 2)[np.newaxis, : audio.size], Band("high_pass", 40.0)))[
        0
    ]


def _note_arrays(notes: Sequence[Note], samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Starts and lengths in samples, frequencies in Hz and levels of the notes within ``samples``."""
    within = [note for note in notes if 0 <= round(note.start * SAMPLE_RATE) < samples]
    return (
        np.array([round(note.start * SAMPLE_RATE) for note in within], dtype=np.int64),
        np.array([max(1, round(note.length * SAMPLE_RATE)) for note in within], dtype=np.int64),
        440.0 * 2.0 ** ((np.array([note.key for note in within], dtype=np.float64) - 69) / 12),
        (np.array([note.velocity for note in within], dtype=np.float64) / 127) ** 1.5,
    )


@kernel(error_model="numpy")
def _saw(phase: float, increment: float) -> float:
    """A saw from -1 to 1 at ``phase`` (0 to 1), its jump rounded over two samples."""
    value = 2.0 * phase - 1.0
    if phase < increment:
        t = phase / increment
        value -= t + t - t * t - 1.0
    elif phase > 1.0 - increment:
        t = (phase - 1.0) / increment
        value -= t * t + t + t + 1.0
    return value


@kernel(error_model="numpy")
def _play_subtractive(
    audio: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    frequencies: np.ndarray,
    levels: np.ndarray,
    detuning: np.ndarray,
    gains: np.ndarray,
    phases: np.ndarray,
    tone: np.ndarray,
    envelope: np.ndarray,
    poles: int,
    sub_divisor: int,
) -> None:
    rate = 44100.0
    pulse, sub, cutoff, sweep, sweep_seconds, resonance = tone
    attack, decay, sustain, release = envelope
    damping = 1.0 / resonance
    for n in range(starts.size):
        frequency, level = frequencies[n], levels[n]
        held = lengths[n]
        total = min(held + int(release * 7.0 * rate), audio.shape[1] - starts[n])
        phase = phases[n].copy()
        sub_phase = 0.0
        state = np.zeros((2, 4))
        g = a1 = a2 = a3 = 0.0
        last = 0.0
        base = cutoff * (frequency / 261.6) ** 0.5 * (0.5 + 0.5 * level)
        for i in range(total):
            time = i / rate
            if i < held:
                gain = time / attack if time < attack else sustain + (1 - sustain) * np.exp(-(time - attack) / decay)
                last = gain
            else:
                gain = last * np.exp(-(i - held) / (rate * release))
            if i % 32 == 0:
                hertz = min(base * 2.0 ** (sweep * np.exp(-time / sweep_seconds)), 18000.0)
                g = np.tan(np.pi * hertz / rate)
                a1 = 1.0 / (1.0 + g * (g + damping))
                a2 = g * a1
                a3 = g * a2
            left = right = 0.0
            for v in range(phase.size):
                increment = frequency * detuning[v] / rate
                wave = _saw(phase[v], increment)
                if pulse > 0.0:
                    shifted = phase[v] + 0.42
                    if shifted >= 1.0:
                        shifted -= 1.0
                    wave -= pulse * _saw(shifted, increment)
                left += gains[0, v] * wave
                right += gains[1, v] * wave
                phase[v] += increment
                if phase[v] >= 1.0:
                    phase[v] -= 1.0
            if sub > 0.0:
                low = sub * np.sin(2.0 * np.pi * sub_phase)
                sub_phase += frequency / rate * (0.5 if sub_divisor == 1 else 1.0)
                if sub_phase >= 1.0:
                    sub_phase -= 1.0
                left += low
                right += low
            for c in range(2):
                value = left if c == 0 else right
                for pole in range(0, poles, 2):
                    difference = value - state[c, pole + 1]
                    band = a1 * state[c, pole] + a2 * difference
                    low_pass = state[c, pole + 1] + a2 * state[c, pole] + a3 * difference
                    state[c, pole] = 2.0 * band - state[c, pole]
                    state[c, pole + 1] = 2.0 * low_pass - state[c, pole + 1]
                    value = low_pass
                audio[c, starts[n] + i] += 0.3 * level * gain * value


@kernel(error_model="numpy")
def _play_fm(
    audio: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    frequencies: np.ndarray,
    levels: np.ndarray,
    tone: np.ndarray,
    envelope: np.ndarray,
) -> None:
    rate = 44100.0
    balance, decay, brightness, release = envelope
    for n in range(starts.size):
        omega = 2.0 * np.pi * frequencies[n] / rate
        own_decay = decay * (261.6 / frequencies[n]) ** 0.5
        total = min(lengths[n] + int(release * 7.0 * rate), audio.size - starts[n])
        decay_pole, brightness_pole, release_pole = (
            np.exp(-1.0 / (rate * own_decay)),
            np.exp(-1.0 / (rate * brightness)),
            np.exp(-1.0 / (rate * release)),
        )
        gain, index = 0.3 * levels[n], 0.3 + 0.7 * levels[n]
        second_ratio = tone[1] if frequencies[n] * tone[1] < 16000.0 else 1.0
        for i in range(total):
            onset = min(1.0, i / 60.0)
            angle = omega * i
            first = np.sin(angle + tone[2] * index * np.sin(tone[0] * angle))
            second = np.sin(angle + tone[3] * index * np.sin(second_ratio * angle))
            audio[starts[n] + i] += onset * gain * ((1 - balance) * first + balance * second)
            gain *= decay_pole
            index *= brightness_pole
            if i >= lengths[n]:
                gain *= release_pole
            if gain < 1e-4:
                break


@kernel(error_model="numpy")
def _play_strings(
    audio: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    frequencies: np.ndarray,
    levels: np.ndarray,
    string: np.ndarray,
    seed: int,
) -> None:
    rate = 44100.0
    decay, damping, pick = string
    np.random.seed(seed)
    for n in range(starts.size):
        weight = 0.5 * damping
        delay = rate / frequencies[n] - weight
        whole = int(delay)
        fraction = delay - whole
        line = np.zeros(whole + 2)
        excitation = np.zeros(whole + 2)
        smoothing = 0.85 - 0.6 * levels[n]
        previous = 0.0
        for i in range(whole):
            previous += (1.0 - smoothing) * (np.random.uniform(-1.0, 1.0) - previous)
            excitation[i] = previous
        offset = max(1, int(pick * whole))
        for i in range(whole):
            line[i] = excitation[i] - excitation[(i - offset) % whole]
        loop = 0.001 ** (1.0 / (frequencies[n] * decay))
        damped = 0.001 ** (1.0 / (frequencies[n] * 0.06))
        total = min(lengths[n] + int(0.08 * rate), audio.size - starts[n])
        position = 0
        size = whole + 1
        before = 0.0
        for i in range(total):
            value = line[position]
            following = line[(position + 1) % size]
            delayed = (1.0 - fraction) * following + fraction * value
            filtered = (1.0 - weight) * delayed + weight * before
            before = delayed
            line[position] = (loop if i < lengths[n] else damped) * filtered
            audio[starts[n] + i] += levels[n] * value
            position = (position + 1) % size

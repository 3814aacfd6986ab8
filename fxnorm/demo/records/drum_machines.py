"""Drums: synthesized machines in the manner of the TR-808 and TR-909, and kits sampled from a soundfont.

Each sound is made once for a song and placed at its notes: a machine repeats itself, and a kit
with four velocities is near enough to a drummer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import signal

from fxnorm.constants import SAMPLE_RATE
from fxnorm.demo.composition import Note

PIECES = {
    36: "kick", 37: "snare", 38: "snare", 39: "snare", 40: "snare",
    42: "hats", 46: "hats", 44: "hats", 70: "hats",
    49: "cymbals", 51: "cymbals", 57: "cymbals",
    43: "toms", 45: "toms", 47: "toms", 48: "toms", 54: "hats", 56: "toms",
}  # fmt: skip
"""What is mixed together, by General MIDI's drum keys."""

_METAL_HZ = (205.3, 304.4, 369.6, 522.7, 540.0, 800.0)
"""The six square-wave oscillators of the TR-808's cymbals."""
_LOOSENESS_DB = 0.3  # of a machine
_TOMS_HZ = {43: 85.0, 45: 110.0, 47: 140.0, 48: 175.0, 56: 560.0}


@dataclass(frozen=True)
class Machine:
    """One setting of the synthesized machine.

    Attributes:
        kick_hz, kick_sweep, kick_seconds: where the kick's pitch ends, how many times higher it starts, its decay.
        kick_click, kick_drive: level of the click; gain before a soft clipper.
        snare_hz, snare_noise, snare_seconds: its two modes' lower one, share of noise, decay.
        hat_seconds, hat_metal: decay of the closed hat, share of metal against noise.
        clap: whether the accented snare is a clap.
    """

    kick_hz: float = 48.0
    kick_sweep: float = 4.0
    kick_seconds: float = 0.3
    kick_click: float = 0.3
    kick_drive: float = 1.5
    snare_hz: float = 185.0
    snare_noise: float = 0.6
    snare_seconds: float = 0.14
    hat_seconds: float = 0.05
    hat_metal: float = 0.6
    clap: bool = False

    def play(self, notes: Sequence[Note], samples: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Piece -> (1, samples)."""
        sounds = {key: [self._sound(key, rng)[np.newaxis]] for key in sorted({note.key for note in notes})}
        return place(notes, sounds, samples, rng, _LOOSENESS_DB)

    def _sound(self, key: int, rng: np.random.Generator) -> np.ndarray:
        if key == 36:
            return self._kick()
        if key == 39 or (self.clap and key in (38, 40)):
            return _clap(rng, self.snare_seconds)
        if key in (38, 40):
            return self._snare(rng)
        if key == 37:
            return _rim(rng)
        if key in _TOMS_HZ:
            return _swept_sine(_TOMS_HZ[key], 1.6, 0.25, 0.04)
        if key in (54, 70):
            return _noise_burst(rng, 0.04, (5500.0, 14000.0))
        seconds = {42: self.hat_seconds, 44: self.hat_seconds, 46: 7 * self.hat_seconds}.get(key, 1.0)
        return self._metal(rng, seconds)

    def _kick(self) -> np.ndarray:
        body = _swept_sine(self.kick_hz, self.kick_sweep, self.kick_seconds, 0.025)
        click = np.exp(-np.arange(body.size) / (0.002 * SAMPLE_RATE)) * self.kick_click
        return np.tanh(self.kick_drive * (body + click)) / np.tanh(self.kick_drive)

    def _snare(self, rng: np.random.Generator) -> np.ndarray:
        shell = _swept_sine(self.snare_hz, 1.5, 0.6 * self.snare_seconds, 0.01)
        upper = _swept_sine(1.78 * self.snare_hz, 1.3, 0.4 * self.snare_seconds, 0.01)
        wires = _noise_burst(rng, self.snare_seconds, (1200.0, 12000.0))
        size = max(shell.size, wires.size)
        tones = np.pad(shell, (0, size - shell.size)) + 0.6 * np.pad(upper, (0, size - upper.size))
        return (1 - self.snare_noise) * tones + 1.6 * self.snare_noise * np.pad(wires, (0, size - wires.size))

    def _metal(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        time = np.arange(round(6 * seconds * SAMPLE_RATE)) / SAMPLE_RATE
        squares = np.sum([np.sign(np.sin(2 * np.pi * 2.1 * hertz * time)) for hertz in _METAL_HZ], axis=0) / 3
        mixture = self.hat_metal * squares + (1 - self.hat_metal) * rng.standard_normal(time.size)
        high = signal.butter(3, 6500.0, "highpass", fs=SAMPLE_RATE, output="sos")
        return np.asarray(signal.sosfilt(high, mixture)) * np.exp(-time / seconds)


def place(
    notes: Sequence[Note],
    sounds: Mapping[int, list[np.ndarray]],
    samples: int,
    rng: np.random.Generator,
    looseness_db: float,
) -> dict[str, np.ndarray]:
    """One-shot sounds at their notes.

    Args:
        notes: in seconds; a closed hat chokes an open one.
        sounds: by key, from soft to loud, each (channels, samples); a note takes the one for its velocity.
        samples: length of the result.
        rng: draws the small differences between strokes.
        looseness_db: standard deviation of these in dB.

    Returns:
        piece -> (channels, samples), of the pieces that play.
    """
    pieces: dict[str, np.ndarray] = {}
    hats = sorted(note.start for note in notes if note.key in (42, 44, 46))
    for note in notes:
        layers = sounds[note.key]
        start = round(note.start * SAMPLE_RATE)
        if start >= samples or start < 0:
            continue
        layer = layers[min(int(note.velocity / 128 * len(layers)), len(layers) - 1)]
        piece = pieces.setdefault(PIECES[note.key], np.zeros((layers[0].shape[0], samples)))
        stop = min(start + layer.shape[1], samples)
        stroke = layer[:, : stop - start] * (
            (note.velocity / 127) ** 1.4 * 10 ** (looseness_db * rng.standard_normal() / 20)
        )
        if note.key == 46:
            following = hats[np.searchsorted(hats, note.start + 0.03) :][:1]
            if following:
                choke = round((following[0] - note.start) * SAMPLE_RATE)
                stroke = stroke * np.clip((choke - np.arange(stroke.shape[1])) / 441, 0, 1)
        piece[:, start:stop] += stroke
    return pieces


def _swept_sine(hertz: float, sweep: float, seconds: float, sweep_seconds: float) -> np.ndarray:
    time = np.arange(round(6 * seconds * SAMPLE_RATE)) / SAMPLE_RATE
    frequency = hertz * (1 + (sweep - 1) * np.exp(-time / sweep_seconds))
    return (
        np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE) * np.exp(-time / seconds) * np.minimum(time / 0.001, 1)
    )


def _noise_burst(rng: np.random.Generator, seconds: float, band: tuple[float, float]) -> np.ndarray:
    time = np.arange(round(6 * seconds * SAMPLE_RATE)) / SAMPLE_RATE
    passed = signal.butter(2, band, "bandpass", fs=SAMPLE_RATE, output="sos")
    return np.asarray(signal.sosfilt(passed, rng.standard_normal(time.size))) * np.exp(-time / seconds)


def _clap(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Three short bursts and a tail, as the machines have it."""
    tail = _noise_burst(rng, seconds, (900.0, 6000.0))
    for delay in (0.0, 0.011, 0.022):
        burst = _noise_burst(rng, 0.006, (900.0, 6000.0))
        start = round(delay * SAMPLE_RATE)
        tail[start : start + burst.size] += burst[: tail.size - start]
    return tail


def _rim(rng: np.random.Generator) -> np.ndarray:
    ring = (
        _swept_sine(1700.0, 1.1, 0.012, 0.005)
        + 0.6 * _swept_sine(480.0, 1.1, 0.02, 0.005)[: round(0.072 * SAMPLE_RATE)]
    )
    return ring + 0.2 * rng.standard_normal(ring.size) * np.exp(-np.arange(ring.size) / 200)

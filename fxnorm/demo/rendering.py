"""Plays scores with a General MIDI soundfont: TimGM6mb (Tim Brechbill), which comes with the package pretty_midi.

pretty_midi writes the MIDI file and midirenderer plays it, with the synthesizer's own reverb and chorus off; both are
optional and imported when they are used. The renderer gives 16-bit audio at 48 kHz that clips without a warning and
ends with the file's last event, even if notes still sound: so every part is rendered by itself, softer if it clips, and
its file ends with an event without effect.
"""

import io
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import soundfile
from scipy import signal

from fxnorm.constants import SAMPLE_RATE
from fxnorm.demo.composition import Note, Part, Score
from fxnorm.errors import FxnormError, needs
from fxnorm.io.audio import pad_to, resample

_SOUNDFONT = "TimGM6mb.sf2"
_VOLUME, _REVERB_SEND, _CHORUS_SEND = 7, 91, 93  # MIDI controllers
_VOLUMES = (127, 90, 64, 45)  # controller values, tried in turn; the amplitude goes with the square of the value
_TICKS_PER_BEAT = 960
_CLIPPED = 0.999
_SUBSONIC_HZ = 18.0  # a recording's input is not direct-coupled; some of the soundfont's samples hold an offset

_FADE_SECONDS = 0.3  # at the end of a take, where something may still ring

_CONSONANT_BAND_HZ = (4500.0, 11000.0)
_CONSONANT_SECONDS = (0.03, 0.09)
_CONSONANT_DB = (-26.0, -14.0)  # relative to the part's peak
_CONSONANT_PROBABILITY = 0.6  # of the notes; the others start with a vowel


def check_installed() -> None:
    """Raise :class:`FxnormError` where one of the optional packages is missing."""
    for name in ("pretty_midi", "midirenderer"):
        if find_spec(name) is None:
            raise FxnormError(needs("the demo data", name, "demo"))


def render(score: Score, rng: np.random.Generator) -> dict[str, dict[str, np.ndarray]]:
    """Every part of a score as it is played, before any mixing: stem -> part -> float64 (channels, samples)
    at 44.1 kHz. Melodic parts have one channel, the drums' two, panned as the soundfont has them.
    """
    samples = round(score.seconds * SAMPLE_RATE)
    fade = np.ones(samples)
    fade_samples = round(_FADE_SECONDS * SAMPLE_RATE)
    fade[-fade_samples:] = 0.5 + 0.5 * np.cos(np.linspace(0, np.pi, fade_samples))
    stems: dict[str, dict[str, np.ndarray]] = {}
    for part in score.parts:
        audio = _play(part, score.seconds, samples)
        if part.stem == "vocals":
            audio = audio + _consonants(rng, part.notes, samples) * np.abs(audio).max()
        stems.setdefault(part.stem, {})[part.name] = audio * fade
    return stems


def _play(part: Part, seconds: float, samples: int) -> np.ndarray:
    try:
        audio = play_soundfont(_soundfont(), part.notes, part.program, part.is_drum, seconds, samples, not part.is_drum)
    except FxnormError as error:
        raise FxnormError(f"the part {part.name}: {error}") from error
    return audio


def play_soundfont(
    soundfont: bytes,
    notes: Sequence[Note],
    program: int,
    is_drum: bool,
    seconds: float,
    samples: int,
    mono: bool,
) -> np.ndarray:
    """Notes on one instrument of a soundfont, float64 (1 if ``mono`` else 2, samples) at 44.1 kHz.

    Raises:
        FxnormError: the notes clip at any volume, or the soundfont is none that the renderer reads.
    """
    for volume in _VOLUMES:
        audio, rate = _synthesize(soundfont, _midi_file(notes, program, is_drum, seconds, volume))
        if np.abs(audio).max() < _CLIPPED:
            break
    else:
        raise FxnormError(f"it clips even at MIDI volume {_VOLUMES[-1]}")
    if mono:
        audio = audio.mean(axis=0, keepdims=True)
    played = pad_to(resample(audio, rate, SAMPLE_RATE)[:, :samples], samples) * (_VOLUMES[0] / volume) ** 2
    subsonic = signal.butter(2, _SUBSONIC_HZ, "highpass", fs=SAMPLE_RATE, output="sos")
    return np.asarray(signal.sosfilt(subsonic, played.astype(np.float64)))


def _midi_file(notes: Sequence[Note], program: int, is_drum: bool, seconds: float, volume: int) -> bytes:
    import pretty_midi  # optional: only the demo needs it

    instrument = pretty_midi.Instrument(program, is_drum=is_drum)
    for controller, value in ((_VOLUME, volume), (_REVERB_SEND, 0), (_CHORUS_SEND, 0)):
        instrument.control_changes.append(pretty_midi.ControlChange(controller, value, 0.0))
    instrument.control_changes.append(pretty_midi.ControlChange(_REVERB_SEND, 0, seconds))
    instrument.notes = [
        pretty_midi.Note(note.velocity, note.key, note.start, min(note.start + note.length, seconds)) for note in notes
    ]
    midi = pretty_midi.PrettyMIDI(resolution=_TICKS_PER_BEAT)
    midi.instruments.append(instrument)
    file = io.BytesIO()
    midi.write(file)
    return file.getvalue()


def _synthesize(soundfont: bytes, midi_file: bytes) -> tuple[np.ndarray, int]:
    import midirenderer  # optional: only the demo needs it

    wave = midirenderer.render_wave_from(soundfont, midi_file)
    audio, rate = soundfile.read(io.BytesIO(wave), dtype="float32", always_2d=True)
    return np.ascontiguousarray(audio.T), rate


@cache
def _soundfont() -> bytes:
    import pretty_midi  # optional: only the demo needs it

    return (Path(pretty_midi.__file__).parent / _SOUNDFONT).read_bytes()


def _consonants(rng: np.random.Generator, notes: tuple[Note, ...], samples: int) -> np.ndarray:
    """Short bursts of high noise at the notes' starts, (samples,): the synthesizer sings vowels alone."""
    bursts = np.zeros(samples)
    for note in notes:
        length = round(rng.uniform(*_CONSONANT_SECONDS) * SAMPLE_RATE)
        level = 10 ** (rng.uniform(*_CONSONANT_DB) / 20) * note.velocity / 127
        burst = level * rng.standard_normal(length) * signal.windows.hann(length)
        start = round(note.start * SAMPLE_RATE)
        if rng.random() < _CONSONANT_PROBABILITY and start + length <= samples:
            bursts[start : start + length] += burst
    band = signal.butter(2, _CONSONANT_BAND_HZ, "bandpass", fs=SAMPLE_RATE, output="sos")
    return np.asarray(signal.sosfilt(band, bursts))

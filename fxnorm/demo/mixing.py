"""Mixes the parts of the demo's songs by rule: one style for all songs, with differences from song to song.

The same in all songs: high-passes, presence on the voice, compression on every stem; voice, kick, snare and bass
in the middle, chords and arpeggios on opposite sides; a hall that the voice gets most of; a voice that leads and comes
up in the chorus, an accompaniment that is turned down under bass and voice. The rest depends on the song's
energy: a ballad gets a loud, wet voice over soft drums, a driving song bright, hard, loud drums and a drier voice.
Small deviations are drawn for each song.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.demo.composition import Score
from fxnorm.demo.impulse_responses import synthesize
from fxnorm.demo.processors import (
    Band,
    Compressor,
    compress,
    compression_gain,
    db_to_gain,
    double,
    equalize,
    limit,
    limiter_gain,
    loudness,
    pan,
    presence,
    reverberate,
    stage,
    widen,
)

Tracks = Mapping[str, np.ndarray]

MIX_LUFS = -16.0
_CEILING_DBFS = -1.0

_STEM_LU = {"vocals": (-4.0, -0.9), "bass": (-8.0, 0.6), "drums": (-6.5, 1.1), "other": (-7.5, -0.5)}
"""Loudness of the stems relative to the mix in LU: at middling energy, and what full drive adds (a ballad loses it)."""

_RIDES_DB = {
    "vocals": {"intro": 0.0, "verse": 0.0, "chorus": 1.5, "break": 0.5},
    "bass": {"intro": -1.0, "verse": 0.0, "chorus": 0.5, "break": -1.5},
    "drums": {"intro": -2.5, "verse": 0.0, "chorus": 1.0, "break": -4.0},
    "other": {"intro": 2.0, "verse": -1.5, "chorus": 1.0, "break": 2.0},
}
"""The faders by section, in dB."""

_RIDE_SECONDS = 0.3
_BALANCE_DEVIATION, _MIX_DEVIATION = 0.5, 0.25  # LU, between songs
_OVERHEAD_WIDTH = 1.2  # of toms and cymbals, over the soundfont's own

_BASS_UNDER_KICK_DB, _LOWS_UNDER_BASS_DB, _OTHER_UNDER_VOICE_DB = -3.0, -8.0, -2.5
_SHARED_LOWS_HZ = 240.0

_VOICE_COMPRESSOR = Compressor(threshold_db=-24.0, ratio=4.0, attack=0.005, release=0.12)
_BASS_COMPRESSOR = Compressor(threshold_db=-25.0, ratio=6.0, attack=0.004, release=0.25)
_DRUM_COMPRESSOR = Compressor(threshold_db=-16.0, ratio=4.0, attack=0.004, release=0.12)
_PARALLEL_DRUM_COMPRESSOR = Compressor(threshold_db=-30.0, ratio=10.0, attack=0.002, release=0.2)
_OTHER_COMPRESSOR = Compressor(threshold_db=-21.0, ratio=3.5, attack=0.008, release=0.25)
_BUS_COMPRESSOR = Compressor(threshold_db=-13.0, ratio=2.0, attack=0.03, release=0.25)
_CEILINGS_DBFS = {"vocals": -7.0, "bass": -10.0, "drums": -5.0, "other": -7.0}
_LIMITER_PASSES = 3  # the limiter takes off a little of the loudness that was set before it

_FADE_IN_SECONDS, _SHORTEST_FADE_SECONDS = 1.5, 0.005
_LONG_FADE_SECONDS, _RING_OUT_FADE_SECONDS = 4.0, 1.0
_LONGEST_FADE = 0.2  # of the song
_FADE_IN_PROBABILITY, _LONG_FADE_PROBABILITY = 0.5, 0.3  # of ballads, of all songs


@dataclass(frozen=True)
class _Session:
    """The song that is mixed, and its random generator."""

    score: Score
    rng: np.random.Generator
    samples: int

    @property
    def drive(self) -> float:
        """The song's energy from -1 (ballad) to 1 (driving)."""
        return 2 * self.score.energy - 1

    def vary(self, value: float, deviation: float) -> float:
        """``value`` with a random deviation: normally distributed, within two standard deviations."""
        return value + deviation * float(np.clip(self.rng.standard_normal(), -2, 2))

    def side(self) -> float:
        """Left (-1) or right (1)."""
        return float(self.rng.choice([-1.0, 1.0]))

    @property
    def silence(self) -> np.ndarray:
        return np.zeros((2, self.samples))


def mix(score: Score, stems: Mapping[str, Tracks], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The wet stems of a song; their sum is the mix, at -16 LUFS. Neither it nor a stem passes -1 dBFS.

    Args:
        score: the song; its sections steer the automation, its energy the style.
        stems: what :func:`fxnorm.demo.rendering.render` gives: stem -> part -> float64 (channels, samples).
        rng: draws the deviations of this song.

    Returns:
        float64 (2, samples) for each of the four stems, silence for one that never plays.
    """
    session = _Session(score, rng, round(score.seconds * SAMPLE_RATE))
    channel_strips = {"vocals": _mix_vocals, "bass": _mix_bass, "drums": _mix_drums, "other": _mix_other}
    wet = {stem: channel_strips[stem](session, stems.get(stem, {})) for stem in STEMS}
    wet = _reduce_masking(wet, stems.get("drums", {}))
    wet = _add_hall(session, wet)
    wet = {stem: audio * _fader(session, stem) for stem, audio in wet.items()}
    return _master(session, _balance(session, wet))


# ---- channel strips


def _mix_vocals(session: _Session, tracks: Tracks) -> np.ndarray:
    drive = session.drive
    voice = session.silence
    if "lead" in tracks:
        lead = equalize(
            stage(tracks["lead"]),
            Band("high_pass", session.vary(110, 10)),
            Band("peak", session.vary(320, 40), session.vary(-3.0, 0.7), 1.0),
            Band("peak", session.vary(3200, 300), session.vary(3.0, 0.7), 0.8),
            Band("high_shelf", 8000, session.vary(3.0 + 1.5 * drive, 0.7)),
        )
        lead = limit(stage(compress(stage(lead), _VOICE_COMPRESSOR)), _CEILINGS_DBFS["vocals"])
        voice += pan(lead, session.vary(0.0, 0.02))
    if "harmony" in tracks:
        harmony = equalize(stage(tracks["harmony"], -32), Band("high_pass", 220), Band("high_shelf", 6000, 2.0))
        voice += double(harmony, session.vary(0.018, 0.003), session.vary(0.65, 0.08))
    return voice


def _mix_bass(session: _Session, tracks: Tracks) -> np.ndarray:
    if "bass" not in tracks:
        return session.silence
    bass = equalize(
        stage(tracks["bass"]),
        Band("high_pass", 36),
        Band("low_shelf", 95, session.vary(2.5, 0.6)),
        Band("peak", 260, session.vary(-3.0, 0.6), 1.0),
        Band("peak", 900, session.vary(2.0 + 2.0 * session.drive, 0.6), 0.9),
        Band("low_pass", session.vary(4500, 400)),
    )
    bass = limit(stage(compress(stage(bass), _BASS_COMPRESSOR)), _CEILINGS_DBFS["bass"])
    return pan(bass, 0.0)


class _DrumStrip(NamedTuple):
    fader_db: float
    bands: tuple[Band, ...]
    is_overhead: bool = False


def _drum_strips(session: _Session) -> dict[str, _DrumStrip]:
    drive = session.drive
    kick = (
        Band("peak", session.vary(62, 4), 3.0, 1.2),
        Band("peak", 380, -5.0, 1.0),
        Band("peak", 3800, session.vary(3.0 + 2 * drive, 0.7), 1.0),
    )
    snare = (
        Band("high_pass", 90),
        Band("peak", 200, session.vary(2.0, 0.6), 1.0),
        Band("high_shelf", 5000, session.vary(3.0 + 2 * drive, 0.7)),
    )
    toms = (Band("high_pass", 60), Band("peak", 450, -4.0, 1.0))
    cymbals = (Band("high_pass", 320), Band("high_shelf", 9000, session.vary(2.0 + drive, 0.6)))
    return {
        "kick": _DrumStrip(session.vary(1.0, 0.5), kick),
        "snare": _DrumStrip(session.vary(0.5 * drive, 0.5), snare),
        "toms": _DrumStrip(session.vary(0.0, 0.5), toms, is_overhead=True),
        "cymbals": _DrumStrip(session.vary(4.0, 0.7), cymbals, is_overhead=True),
    }


def _mix_drums(session: _Session, tracks: Tracks) -> np.ndarray:
    perspective = session.side()  # the drummer's or the audience's
    kit = session.silence
    for piece, strip in _drum_strips(session).items():
        if piece in tracks:
            audio = equalize(tracks[piece], *strip.bands) * db_to_gain(strip.fader_db)
            kit += widen(audio, perspective * _OVERHEAD_WIDTH) if strip.is_overhead else audio
    kit = stage(kit)
    room_response = synthesize(session.rng, session.vary(0.4, 0.06), pre_delay=0.005, with_direct=False)
    return (
        limit(stage(compress(kit, _DRUM_COMPRESSOR)), _CEILINGS_DBFS["drums"])
        + db_to_gain(session.vary(-9.0 + 3.0 * session.drive, 0.6)) * compress(kit, _PARALLEL_DRUM_COMPRESSOR)
        + db_to_gain(session.vary(-11.0, 1.0)) * reverberate(kit, room_response)
    )


def _mix_other(session: _Session, tracks: Tracks) -> np.ndarray:
    side = session.side()
    # a part with none opposite stays near the middle
    pan_position = session.vary(0.6 if "arpeggio" in tracks else 0.2, 0.06)
    other = session.silence
    if "chords" in tracks:
        chords = stage(tracks["chords"])
        # a driving song's guitars are played twice, a ballad's piano is not
        other += double(chords, 0.013, side * 0.9) if session.drive > 0.3 else pan(chords, side * pan_position)
    if "arpeggio" in tracks:
        other += pan(stage(tracks["arpeggio"], session.vary(-23.0, 0.8)), -side * pan_position)
    if "pad" in tracks:
        other += double(stage(tracks["pad"], session.vary(-25.0, 0.8)), session.vary(0.021, 0.003), -side * 0.8)
    other = equalize(
        other,
        Band("high_pass", session.vary(130, 12)),
        Band("peak", 420, session.vary(-4.0, 0.6), 0.8),
        Band("high_shelf", 4000, session.vary(3.0 + 1.5 * session.drive, 0.7)),
    )
    return limit(stage(compress(stage(other), _OTHER_COMPRESSOR)), _CEILINGS_DBFS["other"])


# ---- the stems together


def _reduce_masking(wet: Tracks, drum_tracks: Tracks) -> dict[str, np.ndarray]:
    """The bass ducks under the kick; chords lose lows to the bass and level to the voice."""
    bass, other = wet["bass"], wet["other"]
    if "kick" in drum_tracks:
        kick = presence(drum_tracks["kick"], attack=0.003, release=0.09)
        bass = bass * 10 ** (_BASS_UNDER_KICK_DB * kick / 20)
    low_end = equalize(other, Band("low_pass", _SHARED_LOWS_HZ))
    other = other - (1 - db_to_gain(_LOWS_UNDER_BASS_DB)) * presence(bass, attack=0.03, release=0.25) * low_end
    other = other * 10 ** (_OTHER_UNDER_VOICE_DB * presence(wet["vocals"], attack=0.06, release=0.4) / 20)
    return {**wet, "bass": bass, "other": other}


def _add_hall(session: _Session, wet: Tracks) -> dict[str, np.ndarray]:
    """One hall for the song, its return without the lowest and highest frequencies and kept with the stem that sent."""
    drive = session.drive
    hall = synthesize(session.rng, session.vary(2.0 - 0.6 * drive, 0.15), session.vary(0.03, 0.006), with_direct=False)
    hall = equalize(hall, Band("high_pass", 220), Band("low_pass", 9000))
    sends_db = {
        "vocals": session.vary(-11.0 - 3.0 * drive, 0.8),
        "drums": session.vary(-15.0 - 2.0 * drive, 0.8),
        "other": session.vary(-10.0 - 2.0 * drive, 0.8),
    }
    returns = {stem: db_to_gain(send) * reverberate(wet[stem], hall) for stem, send in sends_db.items()}
    return {stem: audio + returns[stem] if stem in returns else audio for stem, audio in wet.items()}


def _fader(session: _Session, stem: str) -> np.ndarray:
    """Gain of one stem, (samples,): its ride through the sections."""
    score, samples = session.score, session.samples
    ride_db = np.zeros(samples)
    for section in score.sections:
        ride_db[round(section.start * SAMPLE_RATE) : round(section.end * SAMPLE_RATE)] = _RIDES_DB[stem][section.name]
    ride_db = ndimage.uniform_filter1d(ride_db, round(_RIDE_SECONDS * SAMPLE_RATE), mode="nearest")
    return np.asarray(10 ** (ride_db / 20))


def _balance(session: _Session, wet: Tracks) -> dict[str, np.ndarray]:
    """Every stem that plays at its loudness in the house's balance."""
    balanced = {}
    for stem, audio in wet.items():
        usual, by_drive = _STEM_LU[stem]
        target = session.vary(MIX_LUFS + usual + by_drive * session.drive, _BALANCE_DEVIATION)
        measured = loudness(audio)
        balanced[stem] = audio * db_to_gain(target - measured) if np.isfinite(measured) else audio
    return balanced


def _master(session: _Session, wet: Tracks) -> dict[str, np.ndarray]:
    """Fades, bus compression, loudness and limiter: one gain for all stems, so that they still add up to the mix."""
    total = sum(wet.values(), session.silence)
    loudest = np.abs(np.concatenate([total, *wet.values()])).max(axis=0, keepdims=True)
    target = session.vary(MIX_LUFS, _MIX_DEVIATION)
    gain = _fades(session)
    gain = gain * compression_gain(stage(total * gain), _BUS_COMPRESSOR)
    for _ in range(_LIMITER_PASSES):
        gain = gain * db_to_gain(target - loudness(total * gain))
        gain = gain * limiter_gain(loudest * gain, db_to_gain(_CEILING_DBFS))
    return {stem: audio * gain for stem, audio in wet.items()}


def _fades(session: _Session) -> np.ndarray:
    """Some calm songs fade in, some songs fade out over their last bars; the others' last chord is let ring."""
    seconds = session.score.seconds
    fades_in = session.rng.random() < _FADE_IN_PROBABILITY * (1 - session.score.energy)
    fades_out = session.rng.random() < _LONG_FADE_PROBABILITY
    length_in = min(_FADE_IN_SECONDS, _LONGEST_FADE * seconds) if fades_in else _SHORTEST_FADE_SECONDS
    length_out = min(_LONG_FADE_SECONDS if fades_out else _RING_OUT_FADE_SECONDS, _LONGEST_FADE * seconds)
    time = np.arange(session.samples) / SAMPLE_RATE
    rise = np.clip(time / length_in, 0, 1)
    fall = np.clip((time[-1] - time) / length_out, 0, 1)
    return np.asarray(np.sin(np.pi / 2 * rise) ** 2 * np.sin(np.pi / 2 * fall) ** 2)

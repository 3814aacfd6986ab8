"""Mixes songs of the style "records" by rule: strips, buses, rooms and delays, balance, automation.

Every song has a house of its own (:class:`_House`): how bright, wide, wet, dense and loud it is mixed, drawn anew and
only partly by the genre. Each stem then gets its style's fixed correction (:mod:`fxnorm.demo.records.calibration`) with
the song's own deviation from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.demo.impulse_responses import synthesize
from fxnorm.demo.processors import (
    Band,
    Compressor,
    active_rms,
    compress,
    db_to_gain,
    equalize,
    limit,
    loudness,
    pan,
    presence,
    stage,
    widen,
)
from fxnorm.demo.records.calibration import BANDS, Correction, convolve
from fxnorm.demo.records.mastering import master
from fxnorm.demo.records.rules import Rules
from fxnorm.demo.records.score import Dice, Part, Song

Pieces = Mapping[str, Sequence[np.ndarray]]

_EQUALIZER_STRENGTH = {"vocals": (0.3, 0.75), "bass": (0.55, 0.9), "drums": (0.3, 0.75), "other": (0.3, 0.75)}
_BUS_DB = -20.0  # active RMS of a stem before its bus
_RIDE_STEP = 441  # samples between two settings of a fader
_RIDE_SECONDS = 0.25
_PHRASE_SECONDS = (0.12, 0.45)  # standard deviation of the window over which levels wander
_QUIETEST_INTENSITY = 0.35
_HARMONY_DB = {"guitar": 0.0, "keys": -1.5, "pad": -7.0, "line": -4.0}
_PIECES_DB = {"kick": 0.0, "snare": 0.0, "toms": -2.0, "hats": -9.0, "cymbals": -8.0}
_ROLE_PANS = {"guitar": 0.5, "keys": 0.3, "pad": 0.2, "line": 0.4}


@dataclass(frozen=True)
class _House:
    """How one song is mixed.

    Attributes:
        density: 0 hardly compressed to 1 heavily.
        width: factor on pans and sides.
        wet_db: on all reverberation.
        echo_seconds, echo_db: the delay's time, and its level in the lead vocal.
        hall, room: impulse responses.
        crushed_db: level of a drum bus compressed in parallel.
    """

    density: float
    width: float
    wet_db: float
    echo_seconds: float
    echo_db: float
    hall: np.ndarray
    room: np.ndarray
    crushed_db: float


def mix(
    song: Song,
    played: Sequence[tuple[Part, Pieces]],
    rng: np.random.Generator,
    rules: Rules,
    drive: float,
    corrections: Mapping[str, Correction],
) -> dict[str, np.ndarray]:
    """The wet stems of a song, float64 (2, samples), silence where nothing plays; their sum is the mastered mix."""
    dice = Dice(rng)
    samples = round(song.seconds * SAMPLE_RATE)
    house = _draw_house(dice, song, rules, drive)
    buses = {"vocals": _mix_vocals, "bass": _mix_bass, "drums": _mix_drums, "other": _mix_other}
    wet = {}
    for stem in STEMS:
        parts = [(part, pieces) for part, pieces in played if part.stem == stem]
        audio = buses[stem](dice, house, parts, np.zeros((2, samples)))
        if audio.any():
            audio = corrections[stem].apply(
                stage(audio, _BUS_DB), dice.between(*_EQUALIZER_STRENGTH[stem]), _deviation(dice, rules)
            )
            audio = _bus(dice, house, rules, stem, audio) * _ride(dice, song, rules, stem)
            audio = audio + _send(dice, house, rules, stem, audio)
        wet[stem] = audio
    return master(_balance(dice, rules, _duck(dice, wet)), dice, rules.loudness, drive)


def _draw_house(dice: Dice, song: Song, rules: Rules, drive: float) -> _House:
    hall_seconds = dice.between(*rules.hall_seconds) * (1.2 - 0.4 * drive)
    hall = synthesize(dice.rng, hall_seconds, dice.between(0.005, 0.06), with_direct=False)
    hall = equalize(hall, Band("high_pass", dice.between(150, 400)), Band("low_pass", dice.between(5000, 12000)))
    return _House(
        density=float(np.clip(dice.vary(0.3 + 0.5 * drive, 0.2), 0, 1)),
        width=dice.vary(1.0, 0.2),
        wet_db=dice.vary(0.0, 3.0),
        echo_seconds=60 / song.tempo * dice.choose((0.25, 0.5, 0.75, 1.0)),
        echo_db=dice.vary(-20.0, 4.0) if dice.chance(0.6) else -100.0,
        hall=hall,
        room=synthesize(dice.rng, dice.between(*rules.room_seconds), dice.between(0.001, 0.01), with_direct=False),
        crushed_db=dice.vary(-12.0 + 5.0 * drive, 3.0),
    )


# ---- stems


def _mix_vocals(dice: Dice, house: _House, parts: Sequence[tuple[Part, Pieces]], silence: np.ndarray) -> np.ndarray:
    """The lead in the middle; backing vocals wide and softer; slap-back or echoes."""
    total = silence
    for part, pieces in parts:
        (takes,) = pieces.values()
        is_lead = part.role == "lead"
        bands = (
            Band("high_pass", dice.between(70, 140) if is_lead else dice.between(120, 250)),
            Band("peak", dice.between(200, 450), dice.vary(-2.0, 2.0), 0.9),
            Band("peak", dice.between(2500, 5000), dice.vary(2.5, 2.0), 0.8),
            Band("high_shelf", dice.between(8000, 11000), dice.vary(2.0 if is_lead else 0.0, 2.0)),
        )
        compressor = Compressor(
            dice.between(-30, -20), 2 + 4 * house.density, dice.between(0.002, 0.015), dice.between(0.06, 0.2)
        )
        voices = [compress(stage(equalize(take, *bands)), compressor) for take in takes]
        if is_lead:
            total = total + pan(voices[0], 0.0)
            continue
        level = db_to_gain(dice.vary(-9.0, 2.5))
        if len(voices) == 1:
            total = total + level * _doubled(dice, voices[0], dice.between(0.3, 0.9) * house.width)
        else:
            total = total + level * _placed_pair(voices, dice.between(0.5, 1.0) * house.width)
    if house.echo_db > -60 and total.any():
        total = total + db_to_gain(house.echo_db) * _echoes(total, house.echo_seconds, dice.between(0.2, 0.5))
    return total


def _mix_bass(dice: Dice, house: _House, parts: Sequence[tuple[Part, Pieces]], silence: np.ndarray) -> np.ndarray:
    """In the middle, compressed hard; its upper harmonics a little wide."""
    total = silence
    for _, pieces in parts:
        (takes,) = pieces.values()
        audio = stage(takes[0].mean(axis=0, keepdims=True))
        if dice.chance(0.5):
            drive = db_to_gain(dice.between(6, 16))
            audio = (
                audio
                + db_to_gain(dice.between(-14, -4)) * np.tanh(drive * equalize(audio, Band("high_pass", 150.0))) / 4
            )
        audio = equalize(
            audio,
            Band("high_pass", dice.between(25, 40)),
            Band("low_shelf", 100.0, dice.vary(1.0, 2.0)),
            Band("peak", dice.between(180, 400), dice.vary(-2.0, 2.0), 0.9),
            Band("peak", dice.between(700, 1500), dice.vary(1.0, 2.5), 0.9),
        )
        compressor = Compressor(
            dice.between(-30, -22), 3 + 5 * house.density, dice.between(0.003, 0.03), dice.between(0.1, 0.4)
        )
        centre = compress(stage(audio), compressor)
        total = total + pan(centre, 0.0)
        width = dice.between(0.05, 0.35)
        total = total + width * _doubled(dice, equalize(centre, Band("high_pass", dice.between(40, 250))), 1.0)
    return total


def _mix_drums(dice: Dice, house: _House, parts: Sequence[tuple[Part, Pieces]], silence: np.ndarray) -> np.ndarray:
    """Kick and snare in the middle, the rest as the kit has it or panned; a room; a crushed copy."""
    if not parts:
        return silence
    pieces = parts[0][1]
    perspective = float(dice.choose((-1.0, 1.0)))
    strips = {
        "kick": (
            Band("low_shelf", 80.0, dice.vary(1.0, 2.5)),
            Band("peak", dice.between(250, 500), dice.vary(-4.0, 2.5), 0.9),
            Band("peak", dice.between(2500, 5000), dice.vary(2.0, 3.0), 0.9),
        ),
        "snare": (
            Band("high_pass", dice.between(60, 110)),
            Band("peak", dice.between(170, 240), dice.vary(2.0, 2.0), 1.0),
            Band("high_shelf", dice.between(4000, 7000), dice.vary(2.0, 2.5)),
        ),
        "toms": (Band("high_pass", 55.0), Band("peak", dice.between(350, 600), dice.vary(-4.0, 2.0), 1.0)),
        "hats": (Band("high_pass", dice.between(250, 600)), Band("high_shelf", 9000.0, dice.vary(1.0, 2.5))),
        "cymbals": (Band("high_pass", dice.between(200, 500)), Band("high_shelf", 9000.0, dice.vary(1.0, 2.5))),
    }
    kit = silence
    for piece, bands in strips.items():
        if piece not in pieces:
            continue
        audio = equalize(pieces[piece][0], *bands)
        peak = float(np.percentile(np.abs(audio).max(axis=0), 99.9))
        audio = audio * (db_to_gain(_PIECES_DB[piece] + dice.vary(0.0, 2.5)) / max(peak, 1e-6))
        centred = piece in ("kick", "snare")
        if len(audio) == 1:
            audio = pan(audio, 0.0 if centred else perspective * dice.between(0.0, 0.35) * house.width)
        else:
            audio = widen(
                audio, perspective * (dice.between(0.0, 0.4) if centred else dice.between(0.7, 1.6) * house.width)
            )
        kit = kit + audio
    kit = stage(kit)
    room = db_to_gain(dice.vary(-13.0, 3.5) + house.wet_db / 2) * stage(_reverberate(kit, house.room), _BUS_DB)
    crushed = compress(kit, Compressor(-32.0, 10.0, dice.between(0.001, 0.01), dice.between(0.08, 0.25)))
    compressor = Compressor(
        dice.between(-16, -8), 2 + 3 * house.density, dice.between(0.004, 0.03), dice.between(0.08, 0.2)
    )
    return compress(kit, compressor) + room + db_to_gain(house.crushed_db) * stage(crushed, _BUS_DB)


def _mix_other(dice: Dice, house: _House, parts: Sequence[tuple[Part, Pieces]], silence: np.ndarray) -> np.ndarray:
    """Guitars, keys, pads and lines on sides that take turns."""
    total = silence
    side = float(dice.choose((-1.0, 1.0)))
    for part, pieces in parts:
        (takes,) = pieces.values()
        bands = (
            Band("high_pass", dice.between(50, 200)),
            Band("peak", dice.between(250, 700), dice.vary(-2.0, 2.5), 0.8),
            Band("peak", dice.between(1500, 4000), dice.vary(1.5, 2.5), 0.8),
            Band("high_shelf", dice.between(6000, 9000), dice.vary(1.0, 2.5)),
        )
        compressor = Compressor(
            dice.between(-26, -16), 1.5 + 2.5 * house.density, dice.between(0.005, 0.03), dice.between(0.1, 0.4)
        )
        voices = [compress(stage(equalize(take, *bands)), compressor) for take in takes]
        position = side * abs(dice.vary(_ROLE_PANS[part.role], 0.25)) * house.width
        side = -side
        level = db_to_gain(_HARMONY_DB[part.role] + dice.vary(0.0, 2.5))
        if len(voices) == 2:
            placed = _placed_pair(voices, min(1.0, dice.between(0.6, 1.1) * house.width))
        elif len(voices[0]) == 2:
            placed = _balance_pan(widen(voices[0], dice.between(0.6, 1.5) * house.width), 0.5 * position)
        elif dice.chance(0.6):
            placed = _doubled(dice, voices[0], float(np.clip(position * 1.5, -1, 1)))
        else:
            placed = pan(voices[0], float(np.clip(position, -1, 1)))
        if part.role in ("line", "keys") and dice.chance(0.3):
            placed = placed + db_to_gain(dice.vary(-12.0, 3.0)) * _echoes(
                placed, house.echo_seconds, dice.between(0.2, 0.5)
            )
        total = total + level * placed
    return total


# ---- places


def _placed_pair(voices: Sequence[np.ndarray], position: float) -> np.ndarray:
    """Two takes on opposite sides."""
    clipped = float(np.clip(position, 0, 1))
    left, right = (voice.mean(axis=0, keepdims=True) for voice in voices)
    return pan(left, -clipped) + pan(right, clipped)


def _balance_pan(audio: np.ndarray, position: float) -> np.ndarray:
    """A stereo track turned to a side: the other channel loses level."""
    gains = np.clip([[1 - position], [1 + position]], 0, 1)
    return audio * gains


def _doubled(dice: Dice, audio: np.ndarray, position: float) -> np.ndarray:
    """A mono track and a detuned, later copy on the other side, as chorus units and doublers make it."""
    mono = audio.mean(axis=0)
    time = np.arange(mono.size)
    depth, centre, rate = dice.between(20, 90), dice.between(400, 1100), dice.between(0.15, 0.9)
    delay = centre + depth * np.sin(2 * np.pi * (rate * time / SAMPLE_RATE + dice.between(0, 1)))
    copy = np.interp(time - delay, time, mono, left=0.0)
    clipped = float(np.clip(position, -1, 1))
    return pan(mono[np.newaxis], clipped) + dice.between(0.6, 0.95) * pan(copy[np.newaxis], -clipped)


def _echoes(audio: np.ndarray, seconds: float, feedback: float) -> np.ndarray:
    """Three echoes that take turns between the sides, each duller."""
    echoes = np.zeros_like(audio)
    mono = audio.mean(axis=0, keepdims=True)
    for index in range(3):
        late = round((index + 1) * seconds * SAMPLE_RATE)
        if late >= mono.shape[1]:
            break
        mono_late = np.pad(mono, ((0, 0), (late, 0)))[:, : mono.shape[1]]
        echoes += feedback**index * pan(mono_late, 0.6 * (-1) ** index)
    return equalize(echoes, Band("high_pass", 250.0), Band("low_pass", 4500.0))


def _reverberate(audio: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The return of a mono send."""
    return convolve(audio.mean(axis=0, keepdims=True), response)


def _send(dice: Dice, house: _House, rules: Rules, stem: str, audio: np.ndarray) -> np.ndarray:
    level = rules.send_db[stem] + house.wet_db + dice.vary(0.0, 2.5)
    returned = _reverberate(audio, house.room if stem == "bass" else house.hall)
    return db_to_gain(level) * active_rms(audio) / max(active_rms(returned), 1e-9) * returned


# ---- buses, automation, balance


def _deviation(dice: Dice, rules: Rules) -> np.ndarray:
    """This song's deviation from the stem's usual spectrum, dB (29,): a tilt and two broad bumps."""
    band = np.arange(BANDS)
    deviation = dice.vary(0.0, rules.tilt_deviation_db) * (band / (BANDS - 1) - 0.5)
    for _ in range(2):
        centre, width = dice.between(0, BANDS), dice.between(2, 5)
        deviation = deviation + dice.vary(0.0, rules.band_deviation_db) * np.exp(-(((band - centre) / width) ** 2))
    return np.asarray(deviation)


def _ride(dice: Dice, song: Song, rules: Rules, stem: str) -> np.ndarray:
    """The fader (samples,): softer in sparse sections, and from phrase to phrase as it was played."""
    samples = round(song.seconds * SAMPLE_RATE)
    dynamics_db = rules.dynamics_db[stem]
    ride_db = np.zeros(-(-samples // _RIDE_STEP) + 1)
    depth = max(0.0, dice.vary(dynamics_db, 0.4 * dynamics_db))
    for section in song.sections:
        stretch = slice(*(round(time * SAMPLE_RATE / _RIDE_STEP) for time in (section.start, section.end)))
        ride_db[stretch] = depth * (section.intensity - 1) / (1 - _QUIETEST_INTENSITY)
    ride_db = ndimage.uniform_filter1d(ride_db, round(_RIDE_SECONDS * SAMPLE_RATE / _RIDE_STEP), mode="nearest")
    width = dice.between(*_PHRASE_SECONDS) * SAMPLE_RATE / _RIDE_STEP
    moves = ndimage.gaussian_filter1d(dice.rng.standard_normal(ride_db.size), width, mode="wrap")
    ride_db += rules.expression_db[stem] * dice.between(0.6, 1.4) * moves * np.sqrt(2 * width * np.sqrt(np.pi))
    return np.asarray(10 ** (np.interp(np.arange(samples) / _RIDE_STEP, np.arange(ride_db.size), ride_db) / 20))


def _bus(dice: Dice, house: _House, rules: Rules, stem: str, audio: np.ndarray) -> np.ndarray:
    """Glue, and a limiter for the highest peaks."""
    compressor = Compressor(
        dice.between(-18, -10), 1.2 + 1.5 * house.density, dice.between(0.01, 0.04), dice.between(0.1, 0.5)
    )
    glued = stage(compress(audio, compressor), _BUS_DB)
    return limit(glued, min(_BUS_DB + dice.vary(rules.peak_limit_db[stem], 2.0), -0.1))


def _duck(dice: Dice, wet: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """In some songs the bass gives way to the kick and the accompaniment to the voice."""
    bass, other = wet["bass"], wet["other"]
    if dice.chance(0.5):
        kick = signal.sosfilt(signal.butter(2, 120.0, fs=SAMPLE_RATE, output="sos"), wet["drums"])
        bass = bass * 10 ** (dice.between(-6, -1) * presence(kick, attack=0.003, release=0.1) / 20)
    if dice.chance(0.5):
        other = other * 10 ** (dice.between(-3, -0.5) * presence(wet["vocals"], attack=0.05, release=0.4) / 20)
    return {**wet, "bass": bass, "other": other}


def _balance(dice: Dice, rules: Rules, wet: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every stem that plays at its loudness in this song's balance; the whole near -16 LUFS."""
    balanced = {}
    for stem, audio in wet.items():
        target = dice.vary(-16.0 + rules.balance_lu[stem], rules.balance_deviation)
        measured = loudness(audio)
        balanced[stem] = audio * db_to_gain(target - measured) if np.isfinite(measured) else audio
    return balanced

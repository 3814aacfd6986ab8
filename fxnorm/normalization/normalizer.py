"""Effect normalization: every stem brought to the average effects of a dataset.

Fx-Normalization of Martínez-Ramírez et al., "Automatic music mixing with deep learning and out-of-domain data"
(ISMIR 2022): a network that mixes normalized stems can be trained on wet ones, because after this wet and dry stems
look alike.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from fxnorm.constants import STEMS
from fxnorm.effects import compression, equalization, loudness, panning, programme, reverberation
from fxnorm.effects.features import EFFECTS, check_stem
from fxnorm.effects.impulse_responses import PRE_REVERBERATION_RT60, REVERBERATION_RT60, ImpulseResponses
from fxnorm.effects.levels import amplitude, checked, is_silent, peaks
from fxnorm.effects.spectrum import FFT_SIZE
from fxnorm.errors import SettingsError
from fxnorm.io import audio as audio_file
from fxnorm.statistics import DatasetStatistics

REVERBERATION = "reverberation"
"""The effect that is added instead of matched. Training stems get it so that the network learns to take it away, and so
do the stems that a trained network mixes."""

ORDER = (REVERBERATION, *EFFECTS)
"""The order in which effects are applied, whatever order they are asked for in."""

REVERBERATED_STEMS = ("vocals", "other")

MOST_GAIN_DB = 50.0
"""By how much the peak of a channel is raised at most. It follows from what is normalized (peaks over -50 dBFS) and
where that ends (full scale); a clamp holds it for chains without the loudness effect too."""

_LOW_SHELF_HZ = (500.0, 700.0)
_HIGH_SHELF_HZ = (7_000.0, 10_000.0)


class EffectNormalizer:
    """Brings stems to the average effects of a dataset, one stem at a time; holds no state between calls."""

    def __init__(
        self,
        statistics: DatasetStatistics,
        effects: Sequence[str] = EFFECTS,
        *,
        impulse_responses: ImpulseResponses | None = None,
        pre_impulse_responses: ImpulseResponses | None = None,
        panning_limit: Mapping[str, float | None] | float | None = panning.PUBLISHED_LIMITS,
        precise: bool = False,
    ) -> None:
        """Normalize towards ``statistics``.

        Args:
            statistics: where the stems are to be brought.
            effects: which of reverberation, equalization, compression, panning and loudness are applied.
            impulse_responses: rooms for the reverberation; synthesized ones of 2 s without.
            pre_impulse_responses: rooms for dry recordings; synthesized ones of 1 s without.
            panning_limit: Hz from which up panning is left alone, for all stems or by stem; ``None`` is no limit.
            precise: bring every third of an octave and the similarity of left and right to the targets themselves.
                The published chain, which published networks were trained behind, misses them by up to 10 dB and 0.1.

        Raises:
            SettingsError: an unknown effect or stem.
        """
        unknown = set(effects) - set(ORDER)
        if unknown:
            raise SettingsError(f"effects: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(ORDER)}")
        limits = panning_limit if isinstance(panning_limit, Mapping) else dict.fromkeys(STEMS, panning_limit)
        if set(limits) != set(STEMS):
            raise SettingsError(f"panning_limit: expected {', '.join(STEMS)}, found {', '.join(sorted(limits))}")
        self.statistics = statistics
        self.effects = tuple(effect for effect in ORDER if effect in effects)
        self.panning_limits = dict(limits)
        self.precise = precise
        self._impulse_responses = impulse_responses
        self._pre_impulse_responses = pre_impulse_responses

    def normalize(
        self, audio: np.ndarray, sample_rate: int, stem: str, *, seed: int = 0, dry: bool = False
    ) -> np.ndarray:
        """``audio`` (1 or 2 channels, samples) of one stem, normalized: float32 (2, samples).

        A stem that carries no programme (:mod:`fxnorm.effects.programme`) comes back unchanged, in stereo; so does a
        channel without it beside one that has it. A chain without targets, of reverberation alone, leaves only stems
        as they are whose peak does not pass -50 dBFS. No channel's peak is raised by more than 50 dB.

        Args:
            audio: float32 array (channels, samples) at 44.1 kHz.
            sample_rate: Hz, must be 44,100.
            stem: vocals, bass, drums or other.
            seed: chooses the song's impulse responses and shelves: the same seed gives the same result.
            dry: whether this is a dry recording, to which a room is added first.

        Raises:
            AudioError: another sample rate or shape, or samples that are not finite.
            SettingsError: an unknown stem.
            DatasetError: the statistics lack this stem.
        """
        check_stem(stem)
        audio_file.check(audio, stem)
        audio = checked(audio, sample_rate)
        carrying = self._carrying(audio, sample_rate)
        audio = audio_file.to_stereo(audio)
        if not carrying.any():
            return audio.copy()
        padded = np.pad(programme.alone(audio, carrying), ((0, 0), (FFT_SIZE, FFT_SIZE)))
        random = np.random.default_rng([seed, STEMS.index(stem)])
        if dry and stem in REVERBERATED_STEMS:
            room = self._pre_room(random)
            padded = reverberation.match(padded, sample_rate, room, reverberation.PRE_REVERBERATION, out=padded)
        for effect in self.effects:
            padded = self._apply(effect, padded, sample_rate, stem, random)
        normalized = padded[:, FFT_SIZE:-FFT_SIZE].copy()
        levels = peaks(audio)
        residue = ~carrying & (levels > 0)  # an empty side is what the chain makes of it
        normalized[residue] = audio[residue]
        return _with_bounded_gain(normalized, levels)

    def normalize_stems(
        self, stems: Mapping[str, np.ndarray], sample_rate: int, *, seed: int = 0, dry: bool = False
    ) -> dict[str, np.ndarray]:
        """:meth:`normalize` for each of the song's ``stems``, by name; raises what it raises."""
        return {stem: self.normalize(audio, sample_rate, stem, seed=seed, dry=dry) for stem, audio in stems.items()}

    def rooms(self, stem: str, *, seed: int = 0, dry: bool = False) -> dict[str, np.ndarray]:
        """The impulse responses (1 or 2 channels, samples) that :meth:`normalize` gives a stem, by what they are for.

        Args:
            stem: vocals, bass, drums or other.
            seed: as for :meth:`normalize`.
            dry: as for :meth:`normalize`.

        Raises:
            SettingsError: an unknown stem.
        """
        check_stem(stem)
        random = np.random.default_rng([seed, STEMS.index(stem)])
        found = {}
        if dry and stem in REVERBERATED_STEMS:
            found["pre-reverb"] = self._pre_room(random)
        if REVERBERATION in self.effects and stem in REVERBERATED_STEMS:
            found[REVERBERATION] = self._room(random)
        return found

    def _carrying(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Which channels of the stem are normalized, bool (2,)."""
        if set(self.effects) <= {REVERBERATION}:
            return np.full(2, not is_silent(audio))
        return np.resize(programme.carried(audio, sample_rate), 2)

    def _pre_room(self, random: np.random.Generator) -> np.ndarray:
        return (self._pre_impulse_responses or _synthesized(PRE_REVERBERATION_RT60)).choose(random)

    def _room(self, random: np.random.Generator) -> np.ndarray:
        return (self._impulse_responses or _synthesized(REVERBERATION_RT60)).choose(random)

    def _apply(
        self, effect: str, audio: np.ndarray, sample_rate: int, stem: str, random: np.random.Generator
    ) -> np.ndarray:
        """One effect; ``audio`` is overwritten, so that a long stem needs little more memory than its own."""
        if effect == REVERBERATION:
            return self._reverberate(audio, sample_rate, random) if stem in REVERBERATED_STEMS else audio
        target = self.statistics.target(effect, stem)
        if effect == "equalization":
            equalizer = equalization.EqualizationSettings(third_octaves=self.precise)
            return equalization.match(audio, sample_rate, target, equalizer, out=audio)
        if effect == "compression":
            return compression.match(audio, sample_rate, target, compression.PUBLISHED_SETTINGS[stem], out=audio)
        if effect == "panning":
            limit = self.panning_limits[stem]
            panner = panning.PanningSettings.precise(limit) if self.precise else panning.PanningSettings(limit)
            return panning.match(audio, sample_rate, target, panner)
        return loudness.match(audio, sample_rate, float(target), out=audio)

    def _reverberate(self, audio: np.ndarray, sample_rate: int, random: np.random.Generator) -> np.ndarray:
        room = self._room(random)
        send = reverberation.ReverberationSettings(
            low_shelf_frequency=random.uniform(*_LOW_SHELF_HZ), high_shelf_frequency=random.uniform(*_HIGH_SHELF_HZ)
        )
        return reverberation.match(audio, sample_rate, room, send, out=audio)


def _with_bounded_gain(normalized: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """``normalized`` (2, samples), turned down if a channel peaks more than 50 dB over its peak before, (2,)."""
    highest, allowed = peaks(normalized), levels * np.float32(amplitude(MOST_GAIN_DB))
    raised_too_far = (highest > allowed) & (levels > 0)
    if raised_too_far.any():
        normalized *= (allowed[raised_too_far] / highest[raised_too_far]).min()
    return normalized


@functools.cache
def _synthesized(rt60: float) -> ImpulseResponses:
    return ImpulseResponses.synthesized(rt60)

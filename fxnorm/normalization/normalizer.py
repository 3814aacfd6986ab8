"""Effect normalization: every stem brought to the average effects of a dataset.

Fx-Normalization of Martínez-Ramírez et al., "Automatic music mixing with deep learning and out-of-domain data"
(ISMIR 2022): a network that mixes normalized stems can be trained on wet ones, because after this wet and dry stems
look alike.
"""

import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fxnorm.constants import STEMS
from fxnorm.effects import compression, equalization, loudness, panning, programme, reverberation
from fxnorm.effects.controls import Control, gain
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
"""The order in which effects are applied, whatever the order of ``effects``."""

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
            impulse_responses: for the reverberation; ``None`` takes synthesized ones with an RT60 of 2 s.
            pre_impulse_responses: for dry recordings; ``None`` takes synthesized ones with an RT60 of 1 s.
            panning_limit: up to which frequency a stem is re-panned. A number is a limit in Hz for all stems; ``None``
                re-pans all stems at all frequencies. A mapping has a limit in Hz, or ``None`` for no limit, under each
                of vocals, bass, drums and other; the default holds the published ones. There is no default for a key
                that a mapping lacks: that is an error.
            precise: bring every third of an octave and the similarity of left and right to the targets themselves.
                The published chain, which published networks were trained behind, misses them by up to 10 dB and 0.1.

        Raises:
            SettingsError: an unknown effect, or a ``panning_limit`` with an unknown stem or without one of the four.
        """
        unknown = set(effects) - set(ORDER)
        if unknown:
            raise SettingsError(f"effects: unknown {', '.join(sorted(unknown))}; expected some of {', '.join(ORDER)}")
        limits = panning_limit if isinstance(panning_limit, Mapping) else dict.fromkeys(STEMS, panning_limit)
        if missing := [stem for stem in STEMS if stem not in limits]:
            raise SettingsError(f"panning_limit: {', '.join(missing)}: missing; expected Hz or None for each stem")
        if unknown := set(limits) - set(STEMS):
            unknown_stems = ", ".join(sorted(map(str, unknown)))
            raise SettingsError(f"panning_limit: unknown {unknown_stems}; expected {', '.join(STEMS)}")
        self.statistics = statistics
        self.effects = tuple(effect for effect in ORDER if effect in effects)
        self.panning_limits = dict(limits)
        self.precise = precise
        self._impulse_responses = impulse_responses
        self._pre_impulse_responses = pre_impulse_responses

    def normalize(
        self,
        audio: np.ndarray,
        sample_rate: int,
        stem: str,
        *,
        seed: int = 0,
        dry: bool = False,
        along: Iterable[np.ndarray] = (),
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
            dry: whether this is a dry recording, which first gets the reverberation of ``pre_impulse_responses``.
            along: other signals, float32 (2, samples), each of which is overwritten with what ``audio`` gets: the same
                filters and gains. Those that add up to ``audio`` add up to what is returned, but for the rounding of
                float32. They are taken one after the other; meanwhile the controls take twice the memory of ``audio``.

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
        others = iter(along)
        other = next(others, None)
        controls: list[Control] | None = None if other is None else []
        if dry and stem in REVERBERATED_STEMS:
            response = self._draw_pre_impulse_response(random)
            send = reverberation.PRE_REVERBERATION
            padded = reverberation.apply(padded, sample_rate, response, send, out=padded, controls=controls)
        for effect in self.effects:
            padded = self._apply(effect, padded, sample_rate, stem, random, controls)
        normalized = padded[:, FFT_SIZE:-FFT_SIZE].copy()
        levels = peaks(audio)
        residue = ~carrying & (levels > 0)  # a channel of zeros keeps what the chain gives it, such as reverberation
        normalized[residue] = audio[residue]
        normalized = _with_bounded_gain(normalized, levels, controls)
        del padded
        while controls is not None and other is not None:
            _apply_controls(other, carrying, residue, controls)
            other = next(others, None)
        return normalized

    def normalize_stems(
        self, stems: Mapping[str, np.ndarray], sample_rate: int, *, seed: int = 0, dry: bool = False
    ) -> dict[str, np.ndarray]:
        """:meth:`normalize` for each of the song's ``stems``, by name; raises what it raises."""
        return {stem: self.normalize(audio, sample_rate, stem, seed=seed, dry=dry) for stem, audio in stems.items()}

    def impulse_responses(self, stem: str, *, seed: int = 0, dry: bool = False) -> dict[str, np.ndarray]:
        """The impulse responses (1 or 2 channels, samples) that :meth:`normalize` applies to a stem: ``pre-reverb``,
        ``reverberation``.

        Args:
            stem: vocals, bass, drums or other.
            seed: as for :meth:`normalize`.
            dry: as for :meth:`normalize`.

        Raises:
            SettingsError: an unknown stem.
        """
        check_stem(stem)
        random = np.random.default_rng([seed, STEMS.index(stem)])
        responses = {}
        if dry and stem in REVERBERATED_STEMS:
            responses["pre-reverb"] = self._draw_pre_impulse_response(random)
        if REVERBERATION in self.effects and stem in REVERBERATED_STEMS:
            responses[REVERBERATION] = self._draw_impulse_response(random)
        return responses

    def _carrying(self, audio: np.ndarray, sample_rate: int) -> np.ndarray:
        """Which channels of the stem are normalized, bool (2,)."""
        if set(self.effects) <= {REVERBERATION}:
            return np.full(2, not is_silent(audio))
        return np.resize(programme.carried(audio, sample_rate), 2)

    def _draw_pre_impulse_response(self, random: np.random.Generator) -> np.ndarray:
        return (self._pre_impulse_responses or _synthesized(PRE_REVERBERATION_RT60)).choose(random)

    def _draw_impulse_response(self, random: np.random.Generator) -> np.ndarray:
        return (self._impulse_responses or _synthesized(REVERBERATION_RT60)).choose(random)

    def _apply(
        self,
        effect: str,
        audio: np.ndarray,
        sample_rate: int,
        stem: str,
        random: np.random.Generator,
        controls: list[Control] | None,
    ) -> np.ndarray:
        """One effect; ``audio`` is overwritten, so that a long stem needs little more memory than its own."""
        if effect == REVERBERATION:
            return self._reverberate(audio, sample_rate, random, controls) if stem in REVERBERATED_STEMS else audio
        target = self.statistics.target(effect, stem)
        if effect == "equalization":
            equalizer = equalization.EqualizationSettings(third_octaves=self.precise)
            return equalization.match(audio, sample_rate, target, equalizer, out=audio, controls=controls)
        if effect == "compression":
            compressor = compression.PUBLISHED_SETTINGS[stem]
            return compression.match(audio, sample_rate, target, compressor, out=audio, controls=controls)
        if effect == "panning":
            limit = self.panning_limits[stem]
            panner = panning.PanningSettings.precise(limit) if self.precise else panning.PanningSettings(limit)
            return panning.match(audio, sample_rate, target, panner, controls=controls)
        return loudness.match(audio, sample_rate, float(target), out=audio, controls=controls)

    def _reverberate(
        self, audio: np.ndarray, sample_rate: int, random: np.random.Generator, controls: list[Control] | None
    ) -> np.ndarray:
        response = self._draw_impulse_response(random)
        send = reverberation.ReverberationSettings(
            low_shelf_frequency=random.uniform(*_LOW_SHELF_HZ), high_shelf_frequency=random.uniform(*_HIGH_SHELF_HZ)
        )
        return reverberation.apply(audio, sample_rate, response, send, out=audio, controls=controls)


def _apply_controls(other: np.ndarray, carrying: np.ndarray, residue: np.ndarray, controls: Sequence[Control]) -> None:
    """Overwrite ``other`` (2, samples) with what a stem got; the last of the controls is for its residue too."""
    padded = np.pad(programme.alone(other, carrying), ((0, 0), (FFT_SIZE, FFT_SIZE)))
    for control in controls[:-1]:
        control(padded)
    for channel in np.flatnonzero(~residue):
        other[channel] = padded[channel, FFT_SIZE:-FFT_SIZE]
    controls[-1](other)


def _with_bounded_gain(normalized: np.ndarray, levels: np.ndarray, controls: list[Control] | None = None) -> np.ndarray:
    """``normalized`` (2, samples), turned down if a channel peaks more than 50 dB over its peak before, (2,)."""
    highest, allowed = peaks(normalized), levels * np.float32(amplitude(MOST_GAIN_DB))
    raised_too_far = (highest > allowed) & (levels > 0)
    factor = np.float32(1)
    if raised_too_far.any():
        factor = (allowed[raised_too_far] / highest[raised_too_far]).min()
        normalized *= factor
    if controls is not None:
        controls.append(gain(factor))
    return normalized


@functools.cache
def _synthesized(rt60: float) -> ImpulseResponses:
    return ImpulseResponses.synthesized(rt60)

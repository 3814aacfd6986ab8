"""Reverberation as an augmentation: training crops get it anew each time, from the recipe's impulse responses."""

from dataclasses import dataclass

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness
from fxnorm.normalization.normalizer import REVERBERATED_STEMS, REVERBERATION, EffectNormalizer
from fxnorm.normalization.recipe import Recipe


@dataclass(frozen=True)
class Reverberation:
    """One more reverberation for vocals and other of a training crop, at the level that the stem had before.

    It is what ``fxnorm normalize`` adds (:mod:`fxnorm.effects.reverberation`), with another impulse response each time.
    There, loudness is matched after it; here likewise: the stem goes back to the loudness it had, as far as its peak
    stays under full scale, since the send would make it louder by some dB and level is what the network reads the mix
    from. Its spectrum, panning and dynamics stay as the send leaves them.

    Args:
        normalizer: applies reverberation and nothing else.
        probability: that a stem of a crop gets any.
        lead_samples: how much of the song before a crop still rings on in it.
    """

    normalizer: EffectNormalizer
    probability: float
    lead_samples: int

    @classmethod
    def of(cls, recipe: Recipe, probability: float) -> "Reverberation":
        """With the impulse responses of a recipe."""
        responses = recipe.impulse_responses
        normalizer = EffectNormalizer(recipe.statistics, effects=(REVERBERATION,), impulse_responses=responses)
        return cls(normalizer, probability, max(response.shape[1] for response in responses.responses))

    def draw(self, generator: np.random.Generator) -> dict[str, int]:
        """For each stem that gets reverberation, a seed of its impulse response and shelves."""
        draws = {stem: (generator.random(), int(generator.integers(2**32))) for stem in REVERBERATED_STEMS}
        return {stem: seed for stem, (chance, seed) in draws.items() if chance < self.probability}

    def apply(self, audio: np.ndarray, stem: str, seed: int) -> np.ndarray:
        """``audio`` (2, samples) with reverberation, as loud as before; what is too quiet to have a loudness stays."""
        before = loudness.measure(audio, SAMPLE_RATE)
        if not np.isfinite(before):
            return audio
        return loudness.match(self.normalizer.normalize(audio, SAMPLE_RATE, stem, seed=seed), SAMPLE_RATE, before)

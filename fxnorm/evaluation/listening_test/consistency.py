"""Who rates a mix that comes back otherwise than the first time: the exclusion rule.

The figure is the mean absolute difference of the two ratings of the same mix of the same song, over all repeats and
attributes, in points of the axis of 100. Guessing over the whole axis gives 33 on average. By default, who differs by
more than 25 is left out: with one repeat of three mixes that finds 86 of 100 who guess, and loses 4 of 100 whose
ratings scatter by 15 points (standard deviation) and none whose ratings scatter by 10 (simulated, 20,000 each).
Beside it stands the same difference between *different* mixes: where both are alike, no difference was heard.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fxnorm.evaluation.listening_test.answers import Ratings
from fxnorm.evaluation.listening_test.formats import Attribute

MOST_REPEAT_DIFFERENCE = 25.0
"""Points."""


@dataclass(frozen=True)
class Consistency:
    """Of one participant, in points."""

    same_mix: float
    other_mixes: float
    """Between the first rating of a mix and the second ratings of the others."""


def consistencies(ratings: Mapping[Attribute, Ratings]) -> list[Consistency] | None:
    """Of each participant; None for a test without repeats."""
    # (participants, attributes and repeated songs, 2, systems)
    repeats = np.concatenate([attribute.repeats for attribute in ratings.values()], axis=1)
    if repeats.shape[1] == 0:
        return None
    differences = np.abs(repeats[:, :, 0, :, None] - repeats[:, :, 1, None, :])
    same = np.eye(differences.shape[-1], dtype=bool)
    return [Consistency(float(each[:, same].mean()), float(each[:, ~same].mean())) for each in differences]

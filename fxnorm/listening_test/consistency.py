"""Who rates a mix that comes back otherwise than the first time: the exclusion rule.

The figure is the mean absolute difference of the two ratings of the same mix of the same song, over all repeats and
attributes, in points of the axis of 100. Guessing over the whole axis gives 33 on average. By default, who differs by
more than 25 is left out: with one repeat of three mixes that finds 86 of 100 who guess. Of those whose ratings scatter
by 15 points (standard deviation) it loses 4 of 100 if they rate around the middle of the axis and 1 of 100 if they use
all of it, because its ends hold ratings back; of those whose ratings scatter by 10, none (simulated, 20,000 each).

Beside it stands the same difference between *different* mixes. Who rates the same mix as differently as different ones
is flagged, and not excluded: nobody has to hear a difference, and mixes may be alike. The flag meets half of those who
guess, or who hear none; of those whose ratings scatter by 15 points, 23 of 100 where the mixes are 10 points apart and
none where they are 30 apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fxnorm.listening_test.answers import Ratings
from fxnorm.listening_test.formats import Attribute

MOST_REPEAT_DIFFERENCE = 25.0
"""Points."""


@dataclass(frozen=True)
class Consistency:
    """Of one participant, in points."""

    same_mix: float
    other_mixes: float
    """Between the first rating of a mix and the second ratings of the others."""

    @property
    def is_without_difference(self) -> bool:
        """Whether the same mix is rated as differently as different mixes are."""
        return self.same_mix >= self.other_mixes


def consistencies(ratings: Mapping[Attribute, Ratings]) -> list[Consistency] | None:
    """Of each participant; None for a test without repeats."""
    # (participants, attributes and repeated songs, 2, systems)
    repeats = np.concatenate([attribute.repeats for attribute in ratings.values()], axis=1)
    if repeats.shape[1] == 0:
        return None
    differences = np.abs(repeats[:, :, 0, :, None] - repeats[:, :, 1, None, :])
    same = np.eye(differences.shape[-1], dtype=bool)
    return [Consistency(float(each[:, same].mean()), float(each[:, ~same].mean())) for each in differences]

"""What a comparison of two models' mixes of the same songs has found so far, without the songs."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

_DIGITS = 8
_LONGEST_TAG = 5_000  # characters, which MLflow's registry takes as a tag


class MeasureTally(BaseModel):
    """Of one measure: the differences, the other model's mix less the first one's.

    Attributes:
        count: of songs that it had a value for in both mixes.
        total: of the differences.
        squares: sum of their squares.
        nearer: of how many songs the first one's mix lay nearer to the training mixtures' average.
        other_nearer: of how many the other's did.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    nearer: int = 0
    other_nearer: int = 0

    @property
    def mean(self) -> float:
        """Of the differences."""
        return self.total / self.count

    @property
    def spread(self) -> float:
        """Standard deviation of the differences."""
        return math.sqrt(max(0.0, self.squares / self.count - self.mean**2))

    def merged(self, other: "MeasureTally") -> "MeasureTally":
        """Both together."""
        return MeasureTally(
            count=self.count + other.count,
            total=float(f"{self.total + other.total:.{_DIGITS}g}"),
            squares=float(f"{self.squares + other.squares:.{_DIGITS}g}"),
            nearer=self.nearer + other.nearer,
            other_nearer=self.other_nearer + other.other_nearer,
        )


@dataclass(frozen=True)
class Tally:
    """By measure."""

    measures: Mapping[str, MeasureTally] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        mix: Mapping[str, float | None],
        other: Mapping[str, float | None],
        averages: Mapping[str, float],
    ) -> "Tally":
        """Of one song: measures of the two mixes, and the training mixtures' averages, as far as they are known."""
        measures = {}
        for name, value in mix.items():
            other_value = other.get(name)
            if value is None or other_value is None:
                continue
            difference = other_value - value
            nearer = other_nearer = 0
            if name in averages:
                distances = abs(value - averages[name]), abs(other_value - averages[name])
                nearer, other_nearer = int(distances[0] < distances[1]), int(distances[1] < distances[0])
            measures[name] = MeasureTally(
                count=1, total=difference, squares=difference**2, nearer=nearer, other_nearer=other_nearer
            )
        return cls(measures)

    def merged(self, other: "Tally") -> "Tally":
        """Both together."""
        names = [*self.measures, *(name for name in other.measures if name not in self.measures)]
        none = MeasureTally()
        return Tally({name: self.measures.get(name, none).merged(other.measures.get(name, none)) for name in names})

    @staticmethod
    def as_text(tallies: "Mapping[str, Tally]") -> str:
        """As a version's tag, by version of the first model; of more than a tag holds, the newest."""
        oldest_first = sorted(tallies, key=lambda version: (len(version), version))  # they are numbers
        kept = {
            version: {name: found.model_dump() for name, found in tallies[version].measures.items()}
            for version in oldest_first
        }
        while len(text := json.dumps(kept, separators=(",", ":"))) > _LONGEST_TAG and len(kept) > 1:
            del kept[next(iter(kept))]
        return text

    @staticmethod
    def by_version(text: str | None) -> "dict[str, Tally]":
        """What :meth:`as_text` wrote; empty for no such text."""
        if not text:
            return {}
        try:
            found = _TALLIES.validate_json(text)
        except ValidationError:
            return {}
        return {version: Tally(measures) for version, measures in found.items()}


_TALLIES = TypeAdapter(dict[str, dict[str, MeasureTally]])

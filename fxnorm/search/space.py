"""What a search varies and how: ``SPACE.yaml``, with the settings by their dotted names.

Names of samplers, pruners and their settings are Optuna's own (T. Akiba et al., "Optuna: A next-generation
hyperparameter optimization framework", KDD 2019).
"""

import functools
import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from fxnorm.errors import SettingsError, printable
from fxnorm.settings import ResourcesSettings, Settings, TrainSettings, read_yaml

OBJECTIVE = "validation.best_loss"
"""What a search makes as low as it can: the best validation loss of a trial."""

_OTHER_OBJECTIVE = ("train.loss", "train.task", "train.sequence_seconds", "normalize.splits")
"""Settings that change what the validation loss is of."""
_WITHOUT_EFFECT = ("train.run_in_seconds",)
"""Settings that change no validation loss, in sections of those that do."""
_SECTIONS = ("statistics", "normalize", "train")
_MOST_COMBINATIONS = 256  # that are tried before the first trial
_SHOWN = 120  # characters of a value in an error


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "expected a number")
    return value


Number = Annotated[int | float, BeforeValidator(_number)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Choices(_Section):
    """One of several values."""

    choices: tuple[Any, ...] = Field(min_length=1)
    """Values that the setting takes as params.yaml has them; lists and mappings too."""

    @model_validator(mode="after")
    def _each_once(self) -> "Choices":
        if len(set(self.labels())) < len(self.choices):
            raise PydanticCustomError("choices", "expected each choice once")
        return self

    def labels(self) -> list[str | int | float]:
        """The choices as Optuna keeps them: numbers and texts as they are, the rest as its JSON."""
        plain = all(isinstance(value, int | float | str) and not isinstance(value, bool) for value in self.choices)
        if plain and len({type(value) for value in self.choices}) == 1:
            return list(self.choices)
        return [json.dumps(value, sort_keys=True, default=str) for value in self.choices]

    def ends(self) -> tuple[Any, ...]:
        """The values that are tried before the first trial."""
        return self.choices


class Range(_Section):
    """A number between two others, which belong to it. Whole numbers if both are whole."""

    low: Number
    """The least."""
    high: Number
    """The greatest."""
    log: bool = False
    """Whether numbers are drawn on a logarithmic scale."""
    step: Number | None = None
    """Between neighbouring numbers; whole numbers have 1, others none."""

    @property
    def whole(self) -> bool:
        """Whether all numbers are whole."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    @model_validator(mode="after")
    def _fits(self) -> "Range":
        if self.low > self.high:
            raise PydanticCustomError("range", "expected low to be no greater than high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise PydanticCustomError("range", "expected low above 0 and no step with log")
        if self.step is not None:
            step = Decimal(str(self.step))
            if step <= 0 or (Decimal(str(self.high)) - Decimal(str(self.low))) % step:
                raise PydanticCustomError("range", "expected high to be a whole number of steps above low")
        return self

    def ends(self) -> tuple[Any, ...]:
        """The values that are tried before the first trial."""
        return (self.low, self.high)


def _kind(value: Any) -> str:
    return "choices" if isinstance(value, Choices) or (isinstance(value, dict) and "choices" in value) else "range"


Distribution = Annotated[Annotated[Choices, Tag("choices")] | Annotated[Range, Tag("range")], Discriminator(_kind)]


class TpeSampler(_Section):
    """Optuna's TPESampler: random at first, then near what was good."""

    name: Literal["tpe"] = "tpe"
    n_startup_trials: int = Field(default=10, ge=0)
    n_ei_candidates: int = Field(default=24, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)


class RandomSampler(_Section):
    """Optuna's RandomSampler."""

    name: Literal["random"] = "random"
    seed: int = Field(default=0, ge=0, lt=2**31)


class NoPruner(_Section):
    """No trial is ended before its schedule."""

    name: Literal["none"] = "none"


class _ByOthers(_Section):
    """Of pruners that compare a trial with others at the same validation: from when on, how often, with how many."""

    n_startup_trials: int = Field(default=5, ge=0)
    n_warmup_steps: int = Field(default=0, ge=0)
    interval_steps: int = Field(default=1, ge=1)
    n_min_trials: int = Field(default=1, ge=1)


class MedianPruner(_ByOthers):
    """Optuna's MedianPruner: ends what is worse than the median of the others at the same validation."""

    name: Literal["median"] = "median"


class PercentilePruner(_ByOthers):
    """Optuna's PercentilePruner."""

    name: Literal["percentile"] = "percentile"
    percentile: float = Field(ge=0, le=100)


class SuccessiveHalvingPruner(_Section):
    """Optuna's SuccessiveHalvingPruner."""

    name: Literal["successive_halving"] = "successive_halving"
    min_resource: int = Field(default=1, ge=1)
    reduction_factor: int = Field(default=4, ge=2)
    min_early_stopping_rate: int = Field(default=0, ge=0)


class HyperbandPruner(_Section):
    """Optuna's HyperbandPruner."""

    name: Literal["hyperband"] = "hyperband"
    min_resource: int = Field(default=1, ge=1)
    max_resource: int = Field(ge=1)
    reduction_factor: int = Field(default=3, ge=2)


Sampler = Annotated[TpeSampler | RandomSampler, Field(discriminator="name")]
Pruner = Annotated[
    NoPruner | MedianPruner | PercentilePruner | SuccessiveHalvingPruner | HyperbandPruner, Field(discriminator="name")
]


class Space(_Section):
    """A search: what it varies, how often, and what chooses and ends trials."""

    trials: int = Field(gt=0, le=100_000)
    """How many trials are finished at the end; pruned and failed ones count."""
    sampler: Sampler = TpeSampler()
    """What chooses the settings of the next trial."""
    pruner: Pruner = MedianPruner()
    """What ends trials that are behind others. Its steps are validations, counted from 0, the one after the
    warm-up."""
    space: dict[str, Distribution] = Field(min_length=1)
    """Dotted name of a setting -> its choices or range. ``train.schedule.0.learning_rate`` reaches into a list."""

    @classmethod
    def load(cls, path: Path) -> "Space":
        """The space of a YAML file.

        Raises:
            SettingsError: the file is not readable, a key is unknown, or a value does not fit; one line.
        """
        return cls.of(read_yaml(path), str(path))

    @classmethod
    def of(cls, content: Mapping[str, Any], source: str = "space") -> "Space":
        """The space that a mapping describes; ``source`` stands in the errors.

        Raises:
            SettingsError: likewise.
        """
        try:
            space = cls.model_validate(content)
        except ValidationError as error:
            raise SettingsError(f"{source}: {_explain(error, content)}") from error
        for problem in space._problems():
            raise SettingsError(f"{source}: {problem}")
        return space

    def _problems(self) -> Iterator[str]:
        for name in self.space:
            section = name.partition(".")[0]
            if any(_holds(other, name) for other in _OTHER_OBJECTIVE):
                yield (
                    f"space.{name}: changes what the validation loss is of, so its values could not be compared;"
                    " search once for each"
                )
            if name in _WITHOUT_EFFECT or section in ("check", "resources", "evaluate", "register"):
                yield f"space.{name}: changes no validation loss, which is what a search compares"
            for other in self.space:
                if other != name and _holds(other, name):
                    yield f"space.{name}: lies in {other}, which is varied too"

    def check(self, base: Settings, source: str) -> None:
        """Refuse a space some of whose trials could not be trained, as far as settings alone tell.

        All combinations of choices and of the ends of ranges are tried, or a sample of many.

        Raises:
            SettingsError: a combination does not fit; one line that names the keys.
        """
        for values in self._combinations():
            try:
                _refuse_unfit(self.settings(base, values))
            except SettingsError as error:
                alone = self._alone_at_fault(base, values)
                chosen = ", ".join(f"{name}={_text(values[name])}" for name in alone or values)
                reason = str(error).removeprefix("settings: ")
                raise SettingsError(f"{source}: space: with {printable(chosen, 3 * _SHOWN)}: {reason}") from error

    def _combinations(self) -> Iterator[dict[str, Any]]:
        ends = [distribution.ends() for distribution in self.space.values()]
        if math.prod(map(len, ends)) <= _MOST_COMBINATIONS:
            tried: Iterable[tuple[Any, ...]] = itertools.product(*ends)
        else:
            draw = random.Random(0)
            first = tuple(values[0] for values in ends)
            single = [(*first[:number], value, *first[number + 1 :]) for number, values in enumerate(ends)
                      for value in values]  # fmt: skip
            drawn = [tuple(map(draw.choice, ends)) for _ in range(_MOST_COMBINATIONS)]
            tried = [*single, *drawn]
        for values in tried:
            yield dict(zip(self.space, values, strict=True))

    def _alone_at_fault(self, base: Settings, values: Mapping[str, Any]) -> list[str]:
        """The one key whose value does not fit whatever the others are, if there is one."""
        for name, value in values.items():
            try:
                _refuse_unfit(self.settings(base, {name: value}))
            except SettingsError:
                return [name]
        return []

    def settings(self, base: Settings, values: Mapping[str, Any]) -> Settings:
        """The settings of a trial: ``base`` with values by their dotted names.

        Raises:
            SettingsError: a value does not fit.
        """
        return Settings.of(placed(base.model_dump(mode="json", by_alias=True), values))

    def identity(self, base: Settings) -> dict[str, Any]:
        """What all trials of a study have in common: settings that are not varied, and the distributions."""
        settings = base.flat(*_SECTIONS)
        common = {name: value for name, value in settings.items() if name not in _WITHOUT_EFFECT}
        for name in self.space:
            common = {key: value for key, value in common.items() if not (_holds(name, key) or _holds(key, name))}
        distributions = {f"space {name}": part.model_dump(mode="json") for name, part in self.space.items()}
        return {name: str(value) for name, value in common.items()} | distributions


def placed(content: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``content`` with values at dotted names, of which whole numbers count the items of lists.

    Raises:
        SettingsError: a name leads into what has no keys of its own, or past the end of a list.
    """
    result = _copy(content)
    for name, value in values.items():
        *parts, last = name.split(".")
        place: Any = result
        for depth, part in enumerate([*parts, last]):
            key: Any = part
            if isinstance(place, list):
                if not part.isdecimal() or int(part) >= len(place):
                    above = ".".join(name.split(".")[:depth])
                    raise SettingsError(f"{name}: expected a number below {len(place)}, the items of {above}")
                key = int(part)
            elif not isinstance(place, dict):
                raise SettingsError(f"{name}: {'.'.join(name.split('.')[:depth])} has no keys of its own")
            if depth == len(parts):
                place[key] = _copy(value)
            else:
                if isinstance(place, dict) and place.get(key) is None:
                    place[key] = {}
                place = place[key]
    return result


def _copy(value: Any) -> Any:
    """Not deepcopy, which keeps together what aliases of YAML share."""
    if isinstance(value, dict):
        return {key: _copy(below) for key, below in value.items()}
    return [_copy(below) for below in value] if isinstance(value, list | tuple) else value


def _refuse_unfit(settings: Settings) -> None:
    """Refuse what a training would of its network's sizes, its task and its sequences."""
    train = settings.train
    content = train.model_dump_json(include={"network", "sizes", "task", "loss", "sequence_seconds"})
    if (problem := _misfit(content)) is not None:
        raise SettingsError(problem)


@functools.lru_cache(maxsize=4 * _MOST_COMBINATIONS)
def _misfit(content: str) -> str | None:
    import torch

    from fxnorm.training import preflight, tasks
    from fxnorm.training.distributed import Processes

    train = TrainSettings.model_validate_json(content)
    try:
        network = tasks.new_network(train)
        no_readers = ResourcesSettings(loader_workers=0)
        preflight.check(train, no_readers, tasks.task(network, train), Processes(torch.device("cpu")))
    except SettingsError as error:
        return str(error)
    return None


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(f"{outer}.")


def _text(value: Any) -> str:
    return printable(
        yaml.safe_dump(value, default_flow_style=True, width=math.inf).removesuffix("\n...\n").strip(), 120
    )


_TAGS = {
    "sampler": {"tpe", "random"},
    "pruner": {"none", "median", "percentile", "successive_halving", "hyperband"},
    "space": {"choices", "range"},
}
"""What pydantic puts between a key and those below it, where the kind of a section depends on its content."""


def _explain(error: ValidationError, content: Mapping[str, Any]) -> str:
    first = error.errors()[0]
    location = list(first["loc"])
    if location:
        tags = _TAGS.get(str(location[0]), set())
        place = 2 if location[0] == "space" else 1
        if len(location) > place and location[place] in tags:
            del location[place]
    name = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        if len(location) == 1:
            return f"{name}: unknown key; expected one of {', '.join(Space.model_fields)}"
        return f"{name}: unknown key"
    if first["type"] == "missing":
        return f"{name}: expected a value, found none"
    message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
    return f"{name}: {message}, found {printable(repr(first['input']), _SHOWN)}"

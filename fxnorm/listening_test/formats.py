"""What the page, its key and the answers consist of, as files: JSON with a format's name and version.

The page holds nothing but random identifiers; the key lists which system and song each stands for. Answers come from
participants' browsers and are taken as untrusted: every field has a type, a range and a greatest length.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from fxnorm.errors import DatasetError

Version = Literal[1]
VERSION: Version = 1
KeyFormat = Literal["fxnorm listening test key"]
ResultFormat = Literal["fxnorm listening test result"]
KEY_FORMAT: KeyFormat = "fxnorm listening test key"
RESULT_FORMAT: ResultFormat = "fxnorm listening test result"

Attribute = Literal["production_value", "clarity", "excitement"]
ATTRIBUTES: dict[Attribute, dict[str, str]] = {
    "production_value": {
        "title": "Production Value",
        "question": "The technical quality of the mix.",
        "low": "poor",
        "high": "excellent",
    },
    "clarity": {
        "title": "Clarity",
        "question": "How well the musical sources can be told apart.",
        "low": "blurred",
        "high": "clear",
    },
    "excitement": {
        "title": "Excitement",
        "question": "Your own reaction to the mix, technique aside.",
        "low": "dull",
        "high": "exciting",
    },
}
"""What the mixes are rated on, in the order in which it is shown: names and the axes' labels."""

Role = Literal["mixing_engineer", "producer", "musician", "other_audio", "student", "listener"]
ROLES: dict[Role, str] = {
    "mixing_engineer": "Mixing or mastering engineer",
    "producer": "Music producer",
    "musician": "Musician or composer",
    "other_audio": "Other work with audio (research, broadcast, live sound …)",
    "student": "Student of music technology or sound engineering",
    "listener": "Listener",
}
Device = Literal["closed_headphones", "open_headphones", "in_ear", "studio_monitors", "loudspeakers", "built_in"]
DEVICES: dict[Device, str] = {
    "open_headphones": "Headphones, open",
    "closed_headphones": "Headphones, closed",
    "in_ear": "In-ear headphones",
    "studio_monitors": "Studio monitors",
    "loudspeakers": "Other loudspeakers",
    "built_in": "Loudspeakers of the computer or tablet",
}

Model = TypeVar("Model", bound=BaseModel)
Identifier = Annotated[str, Field(pattern=r"^[0-9a-f]{8,32}$")]
Rating = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Trial(_Strict):
    """A page of the test: all mixes of one song."""

    song: str
    repeats: Identifier | None
    """The trial with the same mixes that this one is the hidden repeat of."""
    mixes: Annotated[dict[Identifier, str], Field(min_length=2)]
    """identifier -> system"""


class Excerpt(_Strict):
    """Which part of a song is heard."""

    start_seconds: Seconds
    seconds: Seconds


class Key(_Strict):
    """What stands behind the identifiers of a test; it stays with the one who analyses it."""

    format: KeyFormat
    version: Version
    test: Identifier
    seed: Annotated[int, Field(ge=0)]
    """Drew the identifiers and the repeated songs; as secret as the key itself."""
    loudness: Annotated[float, Field(allow_inf_nan=False)]
    """LUFS, of every mix."""
    excerpts: dict[str, Excerpt]
    """song -> excerpt"""
    trials: Annotated[dict[Identifier, Trial], Field(min_length=1)]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name, trial in self.trials.items():
            if sorted(trial.mixes.values()) != self.systems:
                raise ValueError(f"trial {name}: expected a mix of each of {', '.join(self.systems)}")
            if trial.repeats is None:
                continue
            repeated = self.trials.get(trial.repeats)
            if repeated is None or repeated.repeats is not None or repeated.song != trial.song:
                raise ValueError(f"trial {name}: repeats {trial.repeats}, which is no trial of its song")
        if len(self.songs) != len(self.trials) - sum(trial.repeats is not None for trial in self.trials.values()):
            raise ValueError("a song has more than one trial that is no repeat")
        return self

    @property
    def songs(self) -> list[str]:
        """Their names, sorted."""
        return sorted({trial.song for trial in self.trials.values()})

    @property
    def systems(self) -> list[str]:
        """Their names, sorted."""
        return sorted(next(iter(self.trials.values())).mixes.values())


class Participant(_Strict):
    """Who answered, by the page's questions on the participant."""

    id: Identifier
    """Drawn by the page."""
    code: Annotated[str, Field(max_length=64)]
    """Given by whoever runs the test, if at all."""
    experience_years: Annotated[float, Field(ge=0, le=90, allow_inf_nan=False)]
    role: Role
    device: Device
    device_model: Annotated[str, Field(max_length=100)]


class TrialResult(_Strict):
    """The answers to one trial."""

    trial: Identifier
    started: AwareDatetime
    finished: AwareDatetime
    order: Annotated[list[Identifier], Field(max_length=64)]
    """The mixes as they were numbered."""
    listened_seconds: Annotated[dict[Identifier, Seconds], Field(max_length=64)]
    ratings: dict[Attribute, Annotated[dict[Identifier, Rating], Field(max_length=64)]]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if set(self.ratings) != set(ATTRIBUTES):
            raise ValueError(f"expected ratings on {', '.join(ATTRIBUTES)}")
        if len(set(self.order)) != len(self.order):
            raise ValueError("a mix is there twice")
        for attribute, ratings in self.ratings.items():
            if set(ratings) != set(self.order):
                raise ValueError(f"{attribute}: expected one rating of each mix")
        return self


class Result(_Strict):
    """All answers of one participant, in the order in which they were given."""

    format: ResultFormat
    version: Version
    test: Identifier
    participant: Participant
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)]
    """Drew the order of the trials and of the mixes."""
    started: AwareDatetime
    finished: AwareDatetime
    trials: Annotated[list[TrialResult], Field(max_length=1000)]
    comment: Annotated[str, Field(max_length=4000)]

    def check_against(self, key: Key) -> None:
        """Refuse answers to another test, or to parts of this one only.

        Raises:
            ValueError: what does not fit.
        """
        if self.test != key.test:
            raise ValueError(f"answers test {self.test}, but the key is that of {key.test}")
        if sorted(result.trial for result in self.trials) != sorted(key.trials):
            raise ValueError(f"expected each of the test's {len(key.trials)} trials once")
        for result in self.trials:
            if set(result.order) != set(key.trials[result.trial].mixes):
                raise ValueError(f"trial {result.trial}: expected ratings of the trial's own mixes")


def parse(model: type[Model], content: bytes, name: str) -> Model:
    """``content``, JSON, as ``model``.

    Raises:
        DatasetError: one line on what does not fit; it begins with ``name``.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise DatasetError(f"{name}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    first: Any = error.errors(include_url=False, include_input=False)[0]
    key = ".".join(ascii(part).strip("'")[:40] for part in first["loc"])  # keys are the sender's too
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    return f"{key}: {message}" if key else message

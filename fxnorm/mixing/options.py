"""Options of a mix: the params of the served model, checked alike by the client, the server and the model."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fxnorm.errors import AudioError, SettingsError, printable
from fxnorm.io.audio import OUTPUT_SUFFIXES


class MixOptions(BaseModel):
    """Options of one mix.

    Attributes:
        dry: the stems are recordings without effects, not stems of a finished mix.
        output_format: the mix is 32-bit float WAV, 24-bit FLAC, or MP3.
        seed: draws the normalization's impulse responses and shelves: those of the reverberation, where the model was
            trained with it, and of the pre-reverb of dry vocals and other. The default is the training's seed.
        song: name of the song, with which its draws differ from those of others as in training and evaluation: the mix
            is then that of the evaluation's report. Of up to 255 characters; nothing but draws depends on it.
        target_loudness: integrated loudness of the mix in LUFS (ITU-R BS.1770-4); the default is as the network mixed
            it. The whole mix gets one gain, a smaller one where its peak would pass full scale: nothing is limited or
            clipped, and such a mix stays under the target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dry: bool = False
    output_format: Literal["wav", "flac", "mp3"] = "flac"
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    song: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    target_loudness: Annotated[float, Field(ge=-70, le=0)] | None = None

    @classmethod
    def of(cls, params: dict[str, Any]) -> Self:
        """Options from plain values by name.

        Raises:
            SettingsError: an unknown name, or a value that an option cannot take; one line.
        """
        # before the validation, whose error lacks the name of a key that is not valid Unicode
        if unknown := sorted(str(name) for name in params if name not in cls.model_fields):
            raise SettingsError(
                f"{printable(', '.join(unknown[:3]))}: unknown, expected some of {', '.join(cls.model_fields)}"
            )
        try:
            return cls.model_validate(params)
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(f"{first['loc'][0]}: {first['msg']}") from error

    @classmethod
    def for_file(
        cls, output: Path, dry: bool, seed: int | None, target_loudness: float | None, song: str | None = None
    ) -> Self:
        """Options of a mix in the format that a file's suffix names.

        Raises:
            AudioError: a suffix of no such format.
            SettingsError: as :meth:`of`.
        """
        suffix = output.suffix.lower()
        if suffix not in OUTPUT_SUFFIXES:
            raise AudioError(f"{output}: cannot write this format; expected one of {', '.join(OUTPUT_SUFFIXES)}")
        params = {"dry": dry, "output_format": suffix[1:], "seed": seed, "target_loudness": target_loudness}
        return cls.of(params | {"song": song})

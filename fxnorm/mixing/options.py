"""Options of a mix: the params of the served model, checked alike by the client, the server and the model."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fxnorm.errors import AudioError, SettingsError, printable
from fxnorm.io.audio import OUTPUT_SUFFIXES
from fxnorm.mixing.delivery import BITS, DEFAULT_TRUE_PEAK, Delivery

Keep = Literal["panning", "dynamics"]

_MP3_RATES = (22_050, 32_000, 44_100, 48_000)


class MixOptions(BaseModel):
    """Options of one mix.

    Attributes:
        dry: the stems are recordings without effects, not stems of a finished mix. The default is what is usual:
            tracks of a session are, stems are not.
        output_format: the mix is 32-bit float WAV, 24-bit FLAC, or MP3.
        seed: draws the normalization's impulse responses and shelves: those of the reverberation, where the model was
            trained with it, and of the pre-reverb of dry vocals and other. The default is the training's seed.
        song: name of the song, with which its draws differ from those of others as in training and evaluation: the mix
            is then that of the evaluation's report. Of up to 255 characters; nothing but draws depends on it.
        keep: what stays of the stems as they are: an effect that the normalization leaves out, panning, or dynamics,
            which is its compression. The default is none, as in training.
        target_loudness: integrated loudness of the mix in LUFS (ITU-R BS.1770-4); the default is the average loudness
            of the mixtures that the model was trained on, where it is known. One gain and a true-peak limiter bring the
            mix there; where the limiter would crush it, it stays under the target, and a warning says by how much.
        true_peak: the highest true peak in dBTP (ITU-R BS.1770-5, Annex 2).
        as_is: the network's own level, with neither gain nor limiter.
        bits: of a sample: 16 and 24, with dither, for WAV and FLAC; 32f, which is float, for WAV. The default is 32f
            for WAV and 24 without dither for FLAC.
        sample_rate: of the mix, in Hz.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    dry: bool | None = None
    output_format: Literal["wav", "flac", "mp3"] = "flac"
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    song: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    keep: Keep | None = None
    target_loudness: Annotated[float, Field(ge=-70, le=0)] | None = None
    true_peak: Annotated[float, Field(ge=-20, le=0)] = DEFAULT_TRUE_PEAK
    as_is: bool = False
    bits: Literal["16", "24", "32f"] | None = None
    sample_rate: Literal[22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000] = 44_100

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.as_is and self.target_loudness is not None:
            raise ValueError("as_is: expected either the network's own level or a target_loudness")
        if self.bits is not None and self.bits not in BITS[f".{self.output_format}"]:
            expected = " or ".join(BITS[f".{self.output_format}"]) or "no choice"
            raise ValueError(f"bits: {self.output_format} has {expected}, found {self.bits}")
        if self.output_format == "mp3" and self.sample_rate not in _MP3_RATES:
            raise ValueError(f"sample_rate: mp3 has {', '.join(map(str, _MP3_RATES))} Hz, found {self.sample_rate}")
        return self

    @property
    def delivery(self) -> Delivery:
        """Level and sample rate of the mix."""
        return Delivery(self.target_loudness, self.true_peak, self.as_is, self.sample_rate)

    def for_tracks(self) -> Self:
        """The same for the tracks of a session, which are dry unless they were said not to be."""
        return self if self.dry is not None else self.model_copy(update={"dry": True})

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
            if not first["loc"]:  # of several options together
                raise SettingsError(first["msg"].removeprefix("Value error, ")) from error
            raise SettingsError(f"{first['loc'][0]}: {first['msg']}") from error

    @classmethod
    def for_file(cls, output: Path, **params: Any) -> Self:
        """Options of a mix in the format that a file's suffix names.

        Args:
            output: the file.
            params: other options by name; None for the default.

        Raises:
            AudioError: a suffix of no such format.
            SettingsError: as :meth:`of`.
        """
        suffix = output.suffix.lower()
        if suffix not in OUTPUT_SUFFIXES:
            raise AudioError(f"{output}: cannot write this format; expected one of {', '.join(OUTPUT_SUFFIXES)}")
        given = {name: value for name, value in params.items() if value is not None}
        return cls.of(given | {"output_format": suffix[1:]})

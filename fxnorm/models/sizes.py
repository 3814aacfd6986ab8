"""Sizes of the networks, with the published values as defaults.

The published sizes are those of "Automatic music mixing with deep learning and out-of-domain data"
(Martinez-Ramirez et al., ISMIR 2022) and its released configurations.
"""

import difflib
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fxnorm.constants import STEMS
from fxnorm.errors import SettingsError

INPUT_CHANNELS = 2 * len(STEMS)
"""Left and right of each stem."""
OUTPUT_CHANNELS = 2

_LARGEST, _MOST_PARTS = 65_536, 64
"""Far more than any network has; a description with more is not one of a network."""
PositiveInt = Annotated[int, Field(gt=0, le=_LARGEST)]
FewParts = Annotated[int, Field(gt=0, le=_MOST_PARTS)]


class NetworkSizes(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    network: ClassVar[str]

    @property
    def least_parameters(self) -> int:
        """A close lower bound of the number of parameters, to refuse too large a network before it is allocated."""
        raise NotImplementedError

    def refuse_larger_than(self, parameters: int) -> None:
        """Refuse sizes of a network that has more than ``parameters`` parameters.

        Raises:
            RuntimeError: as ``load_state_dict`` would when the network is there.
        """
        if self.least_parameters > parameters:
            raise RuntimeError(f"it has {self.least_parameters} parameters or more, the weights {parameters}")


class Crafx2Sizes(NetworkSizes):
    """Sizes of :class:`fxnorm.models.crafx2.CRAFx2`."""

    network: ClassVar[str] = "crafx2"

    filters: PositiveInt = 128
    """Filters of the adaptive front-end, and features of the mask. Even, as the recurrent layer halves it."""
    encoder_kernel: PositiveInt = 64
    """Length of the front-end's filters in samples; the smoothing filters behind them are twice as long."""
    pooling: PositiveInt = 64
    """Samples in a latent frame."""
    bottleneck: PositiveInt = 256
    """Features between the temporal blocks."""
    hidden: PositiveInt = 128
    """Features inside a temporal block."""
    skip: PositiveInt = 64
    """Features of a temporal block's skip connection."""
    kernel: PositiveInt = 3
    """Frames in the kernel of a temporal block; odd."""
    blocks: FewParts = 6
    """Temporal blocks in a repeat; the dilation doubles from each to the next."""
    repeats: FewParts = 4
    """How many rows of blocks follow each other."""
    squeeze_ratio: PositiveInt = 16
    """Width of the squeeze-and-excitation's hidden layer in multiples of ``filters``."""
    front_end: Literal["perfect_reconstruction", "random"] = "perfect_reconstruction"
    """How the front-end starts: as a filter bank that gives the sum of the stems back, or at random as published."""

    @property
    def least_parameters(self) -> int:
        front_end = self.filters * self.encoder_kernel * INPUT_CHANNELS
        blocks = self.blocks * self.repeats * self.hidden * (self.bottleneck + self.skip)
        return front_end + self.filters * self.bottleneck + blocks + self.filters**2 * self.squeeze_ratio


class WaveUNetSizes(NetworkSizes):
    """Sizes of :class:`fxnorm.models.wave_u_net.WaveUNet`."""

    network: ClassVar[str] = "wave_u_net"

    features: PositiveInt = 24
    """Features of the first level; they double with each level."""
    levels: Annotated[int, Field(ge=2, le=_MOST_PARTS)] = 5
    """Levels of decimation, the first one included."""
    kernel: PositiveInt = 5
    """Samples in a convolution's kernel; odd."""
    stride: PositiveInt = 1
    """Decimation between levels: 1 as released, 2 for the ordinary Wave-U-Net."""

    @property
    def least_parameters(self) -> int:
        deepest = self.features * 2 ** (self.levels - 2)
        return deepest**2 * self.kernel


class ConsoleSizes(NetworkSizes):
    """Sizes of :class:`fxnorm.models.console.MixingConsole`."""

    network: ClassVar[str] = "console"

    bands: PositiveInt = 56
    """Bands of a strip's equalizer, evenly spaced on the mel scale."""
    features: PositiveInt = 96
    """Features of a frame."""
    kernel: PositiveInt = 3
    """Frames in the kernel of a temporal block; odd."""
    blocks: FewParts = 6
    """Temporal blocks; the dilation doubles from each to the next."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Fraction of features that a step of the training leaves out."""

    @property
    def least_parameters(self) -> int:
        return self.features**2 * self.kernel * self.blocks + 48 * self.bands * self.features


Sizes = TypeVar("Sizes", bound=NetworkSizes)


def parse(sizes_class: type[Sizes], sizes: dict[str, Any]) -> Sizes:
    """``sizes`` checked, the published values where nothing is given.

    Raises:
        SettingsError: an unknown size, or a value it cannot take; the text names it.
    """
    try:
        return sizes_class.model_validate(sizes)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] != "extra_forbidden":
            raise SettingsError(
                f"{sizes_class.network}.{name}: {first['msg'].lower()}, found {first['input']!r}"
            ) from error
        near = difflib.get_close_matches(name, sizes_class.model_fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sizes_class.model_fields)}"
        raise SettingsError(f"{sizes_class.network}: unknown size {name!r}; {hint}") from error


def refuse(network: str, size: str, expected: str, value: int) -> SettingsError:
    """The error for a value that pydantic's types allow and the network does not."""
    return SettingsError(f"{network}.{size}: expected {expected}, found {value}")

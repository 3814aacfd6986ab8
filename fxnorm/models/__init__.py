"""The mixing networks: CRAFx2, and the Wave-U-Net it is compared with.

Both take stems as (batch, 8, samples), channels in the order vocals L, R, bass L, R, drums L, R, other L, R, and give a
stereo mix (batch, 2, samples) of the same length.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fxnorm.errors import SettingsError
from fxnorm.models import fit
from fxnorm.models.crafx2 import CRAFx2
from fxnorm.models.network import MixingNetwork
from fxnorm.models.reference import from_reference, infer_config
from fxnorm.models.sizes import Crafx2Sizes, WaveUNetSizes, parse
from fxnorm.models.wave_u_net import WaveUNet

__all__ = ["CRAFx2", "MixingNetwork", "WaveUNet", "build", "from_reference", "infer_config", "refuse_other_weights"]


def build(name: str, **sizes: Any) -> CRAFx2 | WaveUNet:
    """A new network with random weights.

    Args:
        name: ``"crafx2"`` or ``"wave_u_net"``.
        **sizes: what differs from the published sizes (:mod:`fxnorm.models.sizes`). A network's ``config`` holds all
            arguments with which this function builds its like.

    Raises:
        SettingsError: an unknown network or size, or a value it cannot take.
    """
    if name == "crafx2":
        return CRAFx2(parse(Crafx2Sizes, sizes))
    if name == "wave_u_net":
        return WaveUNet(parse(WaveUNetSizes, sizes))
    raise SettingsError(f"network: expected 'crafx2' or 'wave_u_net', found {name!r}")


def refuse_other_weights(description: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse weights of other ``shapes``, by name, than those of the network that ``build(**description)`` makes.

    Nothing of the network is allocated, whatever sizes the description asks for.

    Raises:
        RuntimeError: the weights are another network's, as ``load_state_dict`` says it.
        SettingsError: as :func:`build`.
    """
    # how a front-end starts needs numbers, and makes no difference to shapes
    started = {"front_end": "random"} if description.get("name") == "crafx2" else {}
    fit.refuse_others(lambda: build(**{**description, **started}), shapes)

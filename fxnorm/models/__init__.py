"""The mixing networks: CRAFx2, the Wave-U-Net it is compared with, and the mixing console that is small and general.

All take stems as (batch, 8, samples), channels in the order vocals L, R, bass L, R, drums L, R, other L, R, and give a
stereo mix (batch, 2, samples) of the same length.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fxnorm.errors import SettingsError
from fxnorm.models.console import MixingConsole
from fxnorm.models.crafx2 import CRAFx2
from fxnorm.models.network import MixingNetwork
from fxnorm.models.reference import from_reference, infer_config, unwrapped
from fxnorm.models.sizes import ConsoleSizes, Crafx2Sizes, NetworkSizes, WaveUNetSizes, parse
from fxnorm.models.wave_u_net import WaveUNet

__all__ = [
    "CRAFx2",
    "MixingConsole",
    "MixingNetwork",
    "WaveUNet",
    "build",
    "from_reference",
    "infer_config",
    "refuse_larger",
    "unwrapped",
]


def build(name: str, **sizes: Any) -> CRAFx2 | WaveUNet | MixingConsole:
    """A new network with random weights.

    Args:
        name: ``"crafx2"``, ``"wave_u_net"`` or ``"console"``.
        **sizes: what differs from the published sizes (:mod:`fxnorm.models.sizes`). A network's ``config`` holds all
            arguments with which this function builds its like.

    Raises:
        SettingsError: an unknown network or size, or a value it cannot take.
    """
    if name not in _NETWORKS:
        *others, last = map(repr, _NETWORKS)
        raise SettingsError(f"network: expected {', '.join(others)} or {last}, found {name!r}")
    sizes_class, network = _NETWORKS[name]
    return network(parse(sizes_class, sizes))


def refuse_larger(description: Mapping[str, Any], parameters: int) -> None:
    """Refuse a description of a network with more than ``parameters`` parameters, before anything is allocated.

    Raises:
        RuntimeError: the network would have more.
        SettingsError: as :func:`build`.
    """
    name, sizes = description["name"], {key: value for key, value in description.items() if key != "name"}
    if name in _NETWORKS:
        parse(_NETWORKS[name][0], sizes).refuse_larger_than(parameters)


_Build = Callable[[Any], CRAFx2 | WaveUNet | MixingConsole]
_NETWORKS: dict[str, tuple[type[NetworkSizes], _Build]] = {
    "crafx2": (Crafx2Sizes, CRAFx2),
    "wave_u_net": (WaveUNetSizes, WaveUNet),
    "console": (ConsoleSizes, MixingConsole),
}

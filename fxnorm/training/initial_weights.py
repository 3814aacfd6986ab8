"""Weights that a network starts from: an earlier run's whole network, or a front-end that was trained alone."""

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fxnorm.errors import ModelError
from fxnorm.mixing.mixer import WEIGHTS_FILE
from fxnorm.models import CRAFx2, MixingNetwork

_FRONT_END = "front_end."


def load(network: MixingNetwork, path: Path) -> None:
    """Put stored weights into ``network``.

    Args:
        network: of the sizes that the weights are of. If they are a front-end's alone, the rest of it stays as it is.
        path: a Mixer directory, the folder of a front-end, or a ``.safetensors`` file such as the best weights beside
            a run's checkpoints.

    Raises:
        ModelError: the weights are not there, not readable, or of another network.
    """
    file = path / WEIGHTS_FILE if path.is_dir() else path
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"train.initial_weights: {file}: cannot be read ({error})") from error
    try:
        _put(network, weights)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        name = network.sizes.network
        raise ModelError(f"train.initial_weights: {file}: does not fit train.network {name} ({detail})") from error


def digest(network: MixingNetwork) -> str:
    """A hash of all weights."""
    total = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        total.update(name.encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _put(network: MixingNetwork, weights: dict[str, Tensor]) -> None:
    front_end = {name.removeprefix(_FRONT_END): value for name, value in weights.items() if name.startswith(_FRONT_END)}
    if weights and len(front_end) == len(weights) and isinstance(network, CRAFx2):
        network.front_end.load_state_dict(front_end)
    else:
        network.load_state_dict(weights)

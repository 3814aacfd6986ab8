"""Whether weights are those of a network, found out before the network takes any memory.

The sizes in a description may be anything, while the weights beside it are as large as their file.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn


def refuse_others(build: Callable[[], nn.Module], shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse weights of other ``shapes``, by name, than those of the network that ``build`` makes.

    Raises:
        RuntimeError: as ``load_state_dict`` does; the text names what is missing, unknown, or of another shape.
    """
    with torch.device("meta"):
        build().load_state_dict({name: torch.empty(*shape) for name, shape in shapes.items()})

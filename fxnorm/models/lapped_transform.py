"""Filter banks whose analysis and time-reversed synthesis give the signal back without decimation.

They are cosine-modulated lapped transforms: the modulated lapped transform and the extended lapped transform (Malvar,
"Signal Processing with Lapped Transforms", 1992). Their filters' power responses add up to a constant, so that the
filters, each followed by its mirror image, add up to the input.
"""

import math

import torch
from torch import Tensor


def power_complementary(bands: int, taps: int) -> Tensor:
    """``bands`` filters (bands, taps) with ``sum_i h_i * reversed(h_i)`` = unit impulse.

    As many taps are used as the longest transform takes that fits: 4 per band, or 2; the others are zero. Filters too
    short for either are the columns of a cosine transform.
    """
    overlap = min(taps // (2 * bands), 2)
    length = 2 * bands * overlap if overlap else taps
    position = torch.arange(length, dtype=torch.float64) + 0.5
    band = torch.arange(bands, dtype=torch.float64) + 0.5
    if overlap:
        window = torch.sin(math.pi * position / length) if overlap == 1 else _extended_window(position / length)
        filters = window * torch.cos((position + bands / 2) * band[:, None] * math.pi / bands)
    else:
        filters = torch.cos(position * band[:, None] * math.pi / bands)
    filters /= filters.square().sum().sqrt()
    left = (taps - length) // 2
    return torch.nn.functional.pad(filters, (left, taps - length - left)).float()


def _extended_window(position: Tensor) -> Tensor:
    """The extended lapped transform's window in closed form, over positions between 0 and 1."""
    return 1 - math.sqrt(2) * torch.cos(2 * math.pi * position)

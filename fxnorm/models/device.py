"""Where networks compute."""

import torch


def default_device() -> torch.device:
    """The CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")

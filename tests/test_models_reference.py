"""What cannot be taken over from the reference implementation is refused by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fxnorm import models
from fxnorm.errors import ModelError, SettingsError

DATA = Path(__file__).parent / "data" / "models"


def checkpoint(network: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and configuration under the reference's names."""
    content = np.load(DATA / f"{network}.npz", allow_pickle=False)
    own = {name.removeprefix("stride1/"): content[name] for name in content}
    weights = {
        name.removeprefix("weights/"): torch.from_numpy(own[name]) for name in own if name.startswith("weights/")
    }
    return weights, json.loads(str(own["config"]))


def test_a_front_end_trained_alone_is_a_crafx2() -> None:
    weights, config = checkpoint("crafx2")
    network = models.from_reference(weights, config | {"PRETRAIN": True})
    assert isinstance(network, models.CRAFx2)
    assert not network.training


@pytest.mark.parametrize("network", ["crafx2", "wave_u_net"])
def test_a_missing_parameter_is_refused_by_name(network: str) -> None:
    weights, config = checkpoint(network)
    weights.popitem()
    with pytest.raises(ModelError, match="Missing key"):
        models.from_reference(weights, config)


@pytest.mark.parametrize("network", ["crafx2", "wave_u_net"])
def test_an_unknown_parameter_is_refused_by_name(network: str) -> None:
    weights, config = checkpoint(network)
    with pytest.raises(ModelError, match="attention"):
        models.from_reference(weights | {"attention.weight": torch.zeros(1)}, config)


@pytest.mark.parametrize(("network", "key"), [("crafx2", "N_REPEATS"), ("wave_u_net", "LEVELS")])
def test_a_missing_setting_is_refused_by_name(network: str, key: str) -> None:
    weights, config = checkpoint(network)
    del config[key]
    with pytest.raises(ModelError, match=f"{key}: missing"):
        models.from_reference(weights, config)


@pytest.mark.parametrize(
    ("network", "key", "value"),
    [("crafx2", "n_stems", 5), ("wave_u_net", "DEPTH", 2), ("wave_u_net", "CONV_TYPE", "bn")],
)
def test_a_setting_that_our_networks_lack_is_refused_by_name(network: str, key: str, value: Any) -> None:
    weights, config = checkpoint(network)
    with pytest.raises(ModelError, match=f"{key}: expected .*, found {value!r}"):
        models.from_reference(weights, config | {key: value})


def test_weights_of_another_size_are_refused() -> None:
    weights, config = checkpoint("crafx2")
    with pytest.raises(ModelError, match="size mismatch"):
        models.from_reference(weights, config | {"N_FEATURES_ENCODER": 32})


def test_sizes_without_sense_are_refused() -> None:
    weights, config = checkpoint("crafx2")
    with pytest.raises(SettingsError, match=r"crafx2\.kernel: .*greater than 0"):
        models.from_reference(weights, config | {"KERNEL_SIZE_TB": 0})

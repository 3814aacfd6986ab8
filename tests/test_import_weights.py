"""Checkpoints of the reference implementation as Mixers, and what is said of files that are none."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from fxnorm import Mixer, models
from fxnorm.cli import main
from fxnorm.models.reference import infer_config
from tests.test_models_reference import DATA, checkpoint

STATISTICS = Path(__file__).parent / "data/effects/musdb18_statistics.npz"


def fxnorm(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["import-weights", *(str(argument) for argument in arguments)])


def import_into(output: Path, source: Path, *options: object) -> str:
    result = fxnorm(source, output, "--statistics", STATISTICS, *options)
    assert result.exit_code == 0, result.output
    return result.output


def stored(tmp_path: Path, content: Any) -> Path:
    torch.save(content, tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt"


def reference(network: str, name: str) -> torch.Tensor:
    import numpy as np

    return torch.from_numpy(np.load(DATA / f"{network}.npz", allow_pickle=False)[name])


@pytest.mark.parametrize("nested", [False, True])
def test_an_imported_crafx2_mixes_as_the_reference_does(tmp_path: Path, nested: bool) -> None:
    weights, _ = checkpoint("crafx2")
    parallel = {f"module.{name}": value for name, value in weights.items()}
    source = stored(tmp_path, {"epoch": 3, "state_dict": parallel} if nested else weights)
    assert "a Mixer with crafx2" in import_into(tmp_path / "mixer", source)
    mixer = Mixer.load(tmp_path / "mixer")
    with torch.no_grad():
        mix = mixer.network(reference("crafx2", "input"))
    assert torch.allclose(mix, reference("crafx2", "output")[0], atol=1e-4)
    assert mixer.recipe.statistics.mean("loudness", "vocals") < -10


def test_an_imported_wave_u_net_mixes_as_the_reference_does(tmp_path: Path) -> None:
    import_into(tmp_path / "mixer", stored(tmp_path, {"model": checkpoint("wave_u_net")[0]}))
    network = Mixer.load(tmp_path / "mixer").network
    assert isinstance(network, models.WaveUNet)
    with torch.no_grad():
        mix = network.mix_valid(reference("wave_u_net", "stride1/input"))
    assert torch.allclose(mix, reference("wave_u_net", "stride1/output")[0], atol=1e-4)


@pytest.mark.parametrize("network", ["crafx2", "wave_u_net"])
def test_the_sizes_are_read_off_the_weights(network: str) -> None:
    weights, config = checkpoint(network)
    inferred = infer_config(weights)
    assert len(inferred) >= 4
    assert inferred == {name: config[name] for name in inferred}


def test_a_configuration_tells_what_the_weights_do_not(tmp_path: Path) -> None:
    source = stored(tmp_path, checkpoint("crafx2")[0])
    (tmp_path / "config.json").write_text(json.dumps({"MAX_POOLING": 32}))
    import_into(tmp_path / "mixer", source, "--config", tmp_path / "config.json")
    assert Mixer.load(tmp_path / "mixer").network.config["pooling"] == 32


def test_a_front_end_trained_alone_is_what_a_training_can_start_from(tmp_path: Path) -> None:
    weights, config = checkpoint("crafx2")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config | {"PRETRAIN": True}))
    said = import_into(tmp_path / "front_end", stored(tmp_path, weights), "--config", tmp_path / "config.yaml")
    assert "train.initial_weights" in said
    found = load_file(tmp_path / "front_end/weights.safetensors")
    assert found.keys() == {"front_end.filters", "front_end.smoothing"}
    assert torch.equal(found["front_end.filters"], weights["conv_1.weight"])


def without(name: str) -> dict[str, torch.Tensor]:
    weights, _ = checkpoint("crafx2")
    return {key: value for key, value in weights.items() if key != name}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (without("conv_1.weight"), "expected the reference's parameter 'conv_1.weight'"),
        (without("conv_1.weight") | {"conv_1.weight": torch.zeros(3)}, "'conv_1.weight' of 3 dimensions"),
        (without("blstm.weight_hh_l0"), "Missing key"),
        ({"weights": Path("here")}, "more than tensors"),
        ({"epoch": 3}, "expected one dictionary of parameters"),
        (None, "expected one dictionary of parameters"),
    ],
)
def test_what_is_no_checkpoint_is_named_and_nothing_is_written(tmp_path: Path, content: Any, said: str) -> None:
    source = stored(tmp_path, content)
    result = fxnorm(source, tmp_path / "mixer", "--statistics", STATISTICS)
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("fxnorm: ")]
    assert line.startswith(f"fxnorm: {source}: ")
    assert said in line
    assert not (tmp_path / "mixer").exists()


def test_missing_files_are_named(tmp_path: Path) -> None:
    source = stored(tmp_path, checkpoint("crafx2")[0])
    for arguments in (
        (tmp_path / "nowhere", tmp_path / "mixer", "--statistics", STATISTICS),
        (source, tmp_path / "mixer", "--statistics", tmp_path / "nowhere"),
        (source, tmp_path / "mixer", "--statistics", STATISTICS, "--config", tmp_path / "nowhere"),
    ):
        result = fxnorm(*arguments)
        assert result.exit_code == 1
        assert f"fxnorm: {tmp_path / 'nowhere'}: " in result.output
    assert not (tmp_path / "mixer").exists()

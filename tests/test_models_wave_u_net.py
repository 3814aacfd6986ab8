"""The Wave-U-Net against the reference implementation's outputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxnorm import models
from fxnorm.errors import SettingsError
from fxnorm.models import WaveUNet, short_convolution, wave_u_net

REFERENCE = np.load(Path(__file__).parent / "data" / "models" / "wave_u_net.npz", allow_pickle=False)
SMALL = {"features": 8, "levels": 3}


def reference(stride: int) -> tuple[WaveUNet, Tensor, Tensor]:
    """The network, its input and its output."""
    own = {name.removeprefix(f"stride{stride}/"): REFERENCE[name] for name in REFERENCE}
    weights = {
        name.removeprefix("weights/"): torch.from_numpy(value)
        for name, value in own.items()
        if name.startswith("weights/")
    }
    network = models.from_reference(weights, json.loads(str(own["config"])))
    assert isinstance(network, WaveUNet)
    return network, torch.from_numpy(own["input"]), torch.from_numpy(own["output"])


def build(**sizes: Any) -> WaveUNet:
    torch.manual_seed(0)
    network = models.build("wave_u_net", **SMALL | sizes)
    assert isinstance(network, WaveUNet)
    return network


def stems(samples: int) -> Tensor:
    return 0.2 * torch.randn(1, 8, samples, generator=torch.Generator().manual_seed(samples))


@pytest.mark.parametrize("stride", [1, 2])
def test_it_reproduces_the_reference_network(stride: int) -> None:
    network, sequence, expected = reference(stride)
    with torch.no_grad():
        mix = network.mix_valid(sequence)
    assert mix.shape == expected[0].shape
    assert torch.allclose(mix, expected[0], atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_new_network_has_the_references_resampling_filters(stride: int) -> None:
    network, _, _ = reference(stride)
    new = models.build(**network.config)
    for name, filters in network.named_buffers():
        assert torch.allclose(filters, new.get_buffer(name), atol=1e-7), name


def test_the_published_sizes_are_the_default() -> None:
    network = build(features=24, levels=5)
    assert network.config == models.build("wave_u_net").config
    assert network.config == {
        "name": "wave_u_net",
        "features": 24,
        "levels": 5,
        "kernel": 5,
        "stride": 1,
    }
    assert network.bottleneck.filter.weight.shape == (384, 384, 5)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"stride": 2, "levels": 5},
        {"stride": 2, "kernel": 7, "levels": 4},
        {"stride": 4},
        {"stride": 2, "kernel": 3, "levels": 5},
    ],
)
@pytest.mark.parametrize("samples", [1, 2, 3, 400, 401, 1_003])
def test_any_length_gives_a_mix_of_that_length(sizes: dict[str, int], samples: int) -> None:
    network = build(**sizes).eval()
    with torch.no_grad():
        assert network(stems(samples)).shape == (1, 2, samples)
        assert network.mix(stems(samples)[0]).shape == (2, samples)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_context_is_what_the_valid_convolutions_take(stride: int) -> None:
    network = build(stride=stride)
    sequence = stems(1_001)  # long enough to decimate twice
    assert network.mix_valid(sequence).shape[-1] == 1_001 - 2 * network.context


@pytest.mark.parametrize("stride", [1, 2])
def test_samples_behind_the_edge_guard_do_not_see_what_comes_before_the_sequence(stride: int) -> None:
    network = build(stride=stride).eval()
    for layer in network.modules():
        if isinstance(layer, wave_u_net.ConvolutionLayer):
            layer._modules["norm"] = nn.Identity()  # norms do see the whole sequence
    sequence, before = stems(801), 64
    with torch.no_grad():
        mix = network(sequence)
        longer = network(torch.cat([stems(before), sequence], dim=-1))[..., before:]
    guard = network.edge_guard
    assert torch.allclose(mix[..., guard:], longer[..., guard:], atol=1e-6)
    assert not torch.allclose(mix[..., :guard], longer[..., :guard], atol=1e-3)


def test_only_evaluation_clamps_to_full_scale() -> None:
    network = build()
    with torch.no_grad():
        nn.init.constant_(network.output.weight, 1.0)
        assert float(network.train()(stems(400)).max()) > 1
        assert float(network.eval()(stems(400)).max()) == 1


def test_its_config_builds_its_like() -> None:
    network = build(stride=2).eval()
    again = models.build(**json.loads(json.dumps(network.config))).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(stems(500)), network(stems(500)))


@pytest.mark.parametrize("sizes", [{}, {"stride": 2, "levels": 4}, {"kernel": 3}, {"kernel": 7}, {"kernel": 9}])
@pytest.mark.parametrize("at_a_time", [333, 1 << 16])
def test_a_song_as_long_as_a_sequence_is_mixed_at_once(
    sizes: dict[str, int], at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(short_convolution, "_BLOCK", at_a_time)
    network, song = build(**sizes).eval(), stems(3_000)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))  # norms, too, have a part in the mix
        assert torch.allclose(network.mix(song[0]), network(song)[0], atol=1e-5)


def test_the_published_sizes_mix_as_exactly_as_single_precision_allows() -> None:
    network, song = build(features=24, levels=5).eval(), stems(4_000)
    with torch.no_grad():
        network.output.weight.mul_(0.2)
        mix, plain = network.mix(song[0]), network(song)[0]
        exact = network.double()(song.double())[0]
    assert 0.05 < float(exact.square().mean().sqrt()) < 0.3, "as loud as music"
    assert float((plain - exact).abs().max()) < 1e-6
    assert float((mix - exact).abs().max()) < 1e-6
    assert float((mix - plain).abs().max()) < 1e-6


@pytest.mark.parametrize("samples", [1_001, 1_900, 5_003])
def test_the_sequences_of_a_longer_song_fade_into_each_other(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wave_u_net, "_SEQUENCE", 1_000)
    monkeypatch.setattr(wave_u_net, "_CROSS_FADE", 100)
    network, done = build().eval(), list[float]()
    with torch.no_grad():
        whole = network(stems(samples))[0]
    mix = network.mix(stems(samples)[0], progress=done.append)
    # norms over 1,000 samples of noise differ a little from those over all of it
    assert float((mix - whole).norm()) < 0.1 * float(whole.norm())
    assert done == sorted(done)
    assert done[-1] == 1


def test_mixing_leaves_the_song_as_it_is() -> None:
    network, song = build(), stems(2_000)[0]
    before = song.clone()
    network.mix(song)
    assert torch.equal(song, before)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"filters": 64}, "wave_u_net: unknown size 'filters'"),
        ({"features": 12}, r"wave_u_net\.features: expected a multiple of 8, found 12"),
        ({"kernel": 4}, r"wave_u_net\.kernel: expected an odd number, found 4"),
    ],
)
def test_a_wrong_size_is_refused_by_name(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        models.build("wave_u_net", **sizes)

"""CRAFx2 against the reference implementation's outputs and a plain formulation of the same network."""

import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fxnorm import models
from fxnorm.errors import ModelError, SettingsError
from fxnorm.models import CRAFx2, filter_bank, whole_latents
from fxnorm.models.network import StemTracks

REFERENCE = np.load(Path(__file__).parent / "data" / "models" / "crafx2.npz", allow_pickle=False)
plain_crafx2 = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "networks.py"))["plain_crafx2"]
"""The network as one would write it down first, with the weights of ours: what the benchmark compares with."""
SMALL = {"filters": 16, "bottleneck": 24, "hidden": 20, "skip": 12, "blocks": 3, "repeats": 2, "squeeze_ratio": 4}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine the threads of networks this small wait for each other far longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def new_network(**sizes: Any) -> CRAFx2:
    network = models.build("crafx2", **sizes)
    assert isinstance(network, CRAFx2)
    return network


def reference(name: str) -> Tensor:
    return torch.from_numpy(REFERENCE[name])


def reference_network() -> CRAFx2:
    weights = {name.removeprefix("weights/"): reference(name) for name in REFERENCE if name.startswith("weights/")}
    network = models.from_reference(weights, json.loads(str(REFERENCE["config"])))
    assert isinstance(network, CRAFx2)
    return network


def network_with_random_weights(**sizes: Any) -> CRAFx2:
    """No weight is left where the initialization put it, so that each has a part in the output."""
    torch.manual_seed(0)
    network = new_network(**sizes).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return network


def stems(samples: int, batch: int = 1) -> Tensor:
    return 0.2 * torch.randn(batch, 8, samples, generator=torch.Generator().manual_seed(samples))


def test_the_published_network_has_its_size_and_guard() -> None:
    network = models.build("crafx2")
    assert sum(weight.numel() for weight in network.parameters()) == 2_752_817
    assert network.edge_guard == 32_446


def test_it_reproduces_the_reference_network() -> None:
    with torch.no_grad():
        mix = reference_network()(reference("input"))
    assert torch.allclose(mix, reference("output")[0], atol=1e-5)


def test_its_front_end_reproduces_the_references_pre_training() -> None:
    with torch.no_grad():
        rebuilt = reference_network().front_end(reference("input")[:1])
    assert torch.allclose(rebuilt.unflatten(1, (4, 2)).transpose(0, 1), reference("pretrained_output"), atol=1e-5)


def trained(network: CRAFx2) -> dict[str, Tensor]:
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def gradients(network: CRAFx2, forward: Callable[[Tensor], Tensor], sequence: Tensor, target: Tensor) -> list[Tensor]:
    """The gradients of a squared error in every weight that is trained."""
    return list(torch.autograd.grad((forward(sequence) - target).square().mean(), list(trained(network).values())))


def assert_agreement_with_the_plain_formulation(network: CRAFx2, sequence: Tensor) -> None:
    """In double precision, where each weight's gradient can be told from rounding."""
    network, sequence = network.double(), sequence.double()
    target = sequence[:, :2].roll(1, -1)
    assert torch.allclose(network(sequence), plain_crafx2(network, sequence), atol=1e-10)
    found = gradients(network, network, sequence, target)
    plain = gradients(network, lambda given: plain_crafx2(network, given), sequence, target)
    for name, gradient, expected in zip(trained(network), found, plain, strict=True):
        assert float((gradient - expected).norm()) <= 1e-7 * float(expected.norm()), name


def test_the_published_size_agrees_with_the_plain_formulation() -> None:
    assert_agreement_with_the_plain_formulation(network_with_random_weights(), stems(40 * 64))


def test_the_published_size_agrees_with_the_plain_formulation_in_single_precision() -> None:
    network, sequence = network_with_random_weights(), stems(150 * 64)
    assert torch.allclose(network(sequence), plain_crafx2(network, sequence), atol=1e-5)
    found, plain = (
        torch.cat([gradient.flatten() for gradient in gradients(network, forward, sequence, sequence[:, :2])])
        for forward in (network, lambda given: plain_crafx2(network, given))
    )
    assert float((found - plain).norm()) <= 1e-3 * float(plain.norm())


@pytest.mark.parametrize(
    "sizes",
    [
        {"encoder_kernel": 37, "pooling": 16, "kernel": 5},
        {"encoder_kernel": 32, "pooling": 48, "filters": 24},
        {"encoder_kernel": 64, "pooling": 8},
    ],
)
def test_other_sizes_agree_with_the_plain_formulation(sizes: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_bank, "_CACHED_SAMPLES", 3_000)  # many blocks, none of which divides the signal
    monkeypatch.setattr(filter_bank, "_CACHED_NEIGHBOURHOODS", 500)
    assert_agreement_with_the_plain_formulation(network_with_random_weights(**SMALL | sizes), stems(1_920, batch=2))


def test_gradients_reach_the_stems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_bank, "_CACHED_SAMPLES", 3_000)
    network, sequence = network_with_random_weights(**SMALL), stems(40 * 64).requires_grad_()
    gradient, plain = (
        torch.autograd.grad(forward(network, sequence).square().sum(), sequence)[0]
        for forward in (CRAFx2.__call__, plain_crafx2)
    )
    assert torch.allclose(gradient, plain, atol=1e-5 * float(plain.abs().max()))


def test_pre_training_gradients_agree_with_max_unpooling() -> None:
    front_end, sequence = network_with_random_weights(**SMALL).front_end, stems(40 * 64)
    subbands = functional.conv1d(functional.pad(sequence, (31, 32)), front_end.filters)
    envelopes = functional.conv1d(functional.pad(subbands.abs(), (63, 64)), front_end.smoothing, groups=16)
    pooled, places = functional.max_pool1d(functional.softplus(envelopes), 64, return_indices=True)
    masked = functional.max_unpool1d(pooled, places, [64]) * subbands
    plain = functional.conv_transpose1d(masked[..., 31:-32], front_end.filters)
    weights = list(front_end.parameters())
    gradients, plain_gradients = (
        torch.autograd.grad((rebuilt - sequence).abs().mean(), weights) for rebuilt in (front_end(sequence), plain)
    )
    assert len(weights) == 2
    for gradient, expected in zip(gradients, plain_gradients, strict=True):
        assert float((gradient - expected).norm()) <= 1e-3 * float(expected.norm())


@pytest.mark.parametrize("samples", [1, 63, 64, 1_000, 4_097])
def test_any_length_is_padded_to_whole_frames_and_cut_back(samples: int) -> None:
    network, sequence = network_with_random_weights(**SMALL), stems(samples)
    with torch.no_grad():
        mix = network(sequence)
        padded = network(functional.pad(sequence, (0, -samples % 64)))
        rebuilt = network.front_end(sequence)
    assert mix.shape == (1, 2, samples)
    assert torch.equal(mix, padded[..., :samples])
    assert rebuilt.shape == sequence.shape


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"filters": 64, "bottleneck": 64, "hidden": 64, "skip": 32, "blocks": 4, "repeats": 2},
        {"filters": 32, "bottleneck": 32, "hidden": 32, "skip": 32, "blocks": 4, "repeats": 2},
        {"filters": 16, "encoder_kernel": 100, "bottleneck": 32, "hidden": 32, "skip": 16, "blocks": 2, "repeats": 2},
    ],
)
def test_an_untrained_network_gives_nearly_the_sum_of_quiet_stems(sizes: dict[str, int]) -> None:
    torch.manual_seed(1)
    network, sequence = new_network(**sizes).eval(), 0.05 * stems(128 * 64)
    ends = network.sizes.encoder_kernel
    with torch.no_grad():
        mix = network(sequence)[..., ends:-ends]
    total = sequence.unflatten(1, (4, 2)).sum(1)[..., ends:-ends]
    assert float((mix - total).norm()) < 0.02 * float(total.norm())  # -34 dB


def test_training_moves_every_weight_of_an_untrained_network_but_the_last_blocks_idle_ones() -> None:
    network = new_network(**SMALL)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        network(stems(40 * 64)).square().mean().backward()
        optimizer.step()
    idle = {name for name, weight in network.named_parameters() if torch.equal(weight, before[name])}
    assert idle == {"latent_mixer.blocks.5.residual.weight", "latent_mixer.blocks.5.residual.bias"}


def test_a_random_front_end_takes_any_number_of_filters_and_a_filter_bank_does_not() -> None:
    sizes = SMALL | {"filters": 12}
    assert models.build("crafx2", **sizes, front_end="random")(stems(640)).shape == (1, 2, 640)
    with pytest.raises(SettingsError, match=r"crafx2\.filters: expected a multiple of 8 .* found 12"):
        models.build("crafx2", **sizes)


def test_forget_biases_are_spread_over_many_memory_lengths_and_input_biases_are_their_negatives() -> None:
    for name, bias in new_network().latent_mixer.recurrent.named_parameters():
        if name.startswith("bias"):
            entry, forget, cell, output = bias.detach().chunk(4)
            assert torch.equal(entry, -forget)
            assert float(forget.min()) >= 0 and float(forget.max()) <= np.log(31)
            assert not cell.any() and not output.any()


def test_its_config_builds_its_like() -> None:
    network = network_with_random_weights(**SMALL)
    again = models.build(**json.loads(json.dumps(network.config))).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(stems(1_000)), network(stems(1_000)))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"filter": 64}, "crafx2: unknown size 'filter'; did you mean 'filters'"),
        ({"depth": 1}, "crafx2: unknown size 'depth'; expected one of filters, "),
        ({"pooling": 0}, r"crafx2\.pooling: .*greater than 0, found 0"),
        ({"blocks": "many"}, r"crafx2\.blocks: .*integer.*, found 'many'"),
        ({"front_end": "none"}, r"crafx2\.front_end: .*found 'none'"),
        ({"filters": 9, "front_end": "random"}, r"crafx2\.filters: expected an even number, found 9"),
        ({"kernel": 4}, r"crafx2\.kernel: expected an odd number, found 4"),
    ],
)
def test_a_wrong_size_is_refused_by_name(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        models.build("crafx2", **sizes)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(SettingsError, match="expected 'crafx2', 'wave_u_net' or 'console', found 'demucs'"):
        models.build("demucs")


def assert_finite_gradients(network: CRAFx2) -> None:
    for name, weight in trained(network).items():
        assert weight.grad is not None and bool(torch.isfinite(weight.grad).all()), name


def test_mixed_precision_training_stays_close_to_single_precision() -> None:
    network, sequence = network_with_random_weights(**SMALL), stems(40 * 64)
    with torch.autocast("cpu", torch.bfloat16):
        mix = network(sequence)
    assert mix.dtype == torch.float32  # bfloat16's 8 bits would be noise in every quiet passage
    mix.square().mean().backward()
    assert_finite_gradients(network)
    with torch.no_grad():
        assert float((mix - network(sequence)).norm()) < 0.05 * float(mix.norm())


@pytest.mark.parametrize("silent", [slice(0, 8), slice(0, 2)])
def test_silent_stems_give_finite_gradients(silent: slice) -> None:
    network, sequence = network_with_random_weights(**SMALL), stems(40 * 64)
    sequence[:, silent] = 0
    network(sequence).square().mean().backward()
    assert_finite_gradients(network)


@pytest.mark.parametrize(
    ("samples", "run_in"), [(3_008, 0), (3_001, 0), (3_001, 1_000), (3_000, 8_000), (50, 10), (1, 0)]
)
@pytest.mark.parametrize(
    ("cached", "latent_frames", "to_keep"),
    [(1 << 20, 4_096, 1 << 18), (5_000, 7, 0), (12_000, 20, 0), (12_000, 20, 48)],
)
def test_mixing_in_blocks_equals_the_network_on_the_whole_song(
    samples: int, run_in: int, cached: int, latent_frames: int, to_keep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_bank, "_CACHED_SAMPLES", cached)
    monkeypatch.setattr(whole_latents, "_FRAMES_AT_A_TIME", latent_frames)
    monkeypatch.setattr(whole_latents, "_FRAMES_TO_KEEP_EXPANDED", to_keep)
    network, song = network_with_random_weights(**SMALL), stems(samples)[0]
    begin = samples - min(run_in, samples)
    with torch.no_grad():
        whole = network(torch.cat([song[:, begin:], song], dim=1)[None])[0, :, samples - begin :]
    assert torch.allclose(network.mix(song, run_in), whole, atol=1e-5)


def test_mixing_is_the_same_in_training_mode_and_keeps_no_graph() -> None:
    network, song = network_with_random_weights(**SMALL), stems(2_000)[0]
    mix = network.mix(song)
    network.train()
    assert torch.equal(network.mix(song), mix)
    assert network.training and not mix.requires_grad


def test_mixing_leaves_the_number_of_threads_as_it_is() -> None:
    torch.set_num_threads(2)
    network_with_random_weights(**SMALL).mix(stems(100)[0])
    assert torch.get_num_threads() == 2


def test_mixing_leaves_the_song_as_it_is() -> None:
    network, song = network_with_random_weights(**SMALL), stems(2_000)[0]
    before = song.clone()
    network.mix(song, run_in=500)
    assert torch.equal(song, before)


def test_mixing_reports_progress_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_bank, "_CACHED_SAMPLES", 20_000)
    done: list[float] = []
    network_with_random_weights(**SMALL).mix(stems(20_000)[0], run_in=1_000, progress=done.append)
    assert done == sorted(done)
    assert len(done) > 10
    assert done[0] > 0
    assert done[-1] == pytest.approx(1)


def parts_of(network: CRAFx2, song: Tensor, run_in: int) -> tuple[Tensor, Tensor]:
    """The mix of a song and its parts (4, 2, samples), in memory of their own."""
    parts = torch.full((4, 2, song.shape[-1]), torch.nan)
    return network.mix_parts(song, parts, run_in), parts


@pytest.mark.parametrize(
    ("samples", "run_in"), [(3_008, 0), (3_001, 0), (3_001, 1_000), (3_000, 8_000), (50, 10), (1, 0)]
)
@pytest.mark.parametrize("cached", [1 << 20, 5_000, 12_000])
@pytest.mark.parametrize("pooling", [64, 50])
def test_parts_add_up_to_the_mix(
    samples: int, run_in: int, cached: int, pooling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_bank, "_CACHED_SAMPLES", cached)
    network, song = network_with_random_weights(**SMALL, pooling=pooling), stems(samples)[0]
    mix, parts = parts_of(network, song, run_in)
    assert torch.allclose(mix, network.mix(song, run_in), atol=1e-6)
    assert torch.allclose(parts.sum(0), mix, atol=1e-6)


def test_a_part_is_what_its_stem_adds_before_the_common_curve() -> None:
    """By the plain formulation: mask and excitation of all stems, then each stem's subbands alone."""
    network, song = network_with_random_weights(**SMALL), stems(3_008)[0]
    mix, parts = parts_of(network, song, 0)
    front_end = network.front_end
    with torch.no_grad():
        _, pooled, magnitude = front_end.analyse(song[None])
        mask = network.latent_mixer(pooled)
        mask = mask * network.excitation((mask * magnitude).mean(-1))[..., None]
        for stem, part in enumerate(parts):
            alone = torch.zeros_like(song)
            alone[2 * stem : 2 * stem + 2] = song[2 * stem : 2 * stem + 2]
            subbands, _, _ = front_end.analyse(alone[None])
            linear = front_end.synthesize(subbands, mask)[0]
            assert torch.allclose(part, linear * mix / mix.atanh(), atol=1e-5)


@pytest.mark.parametrize("run_in", [0, 700, 3_001])
def test_parts_in_the_memory_of_the_stems_are_the_same(run_in: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_bank, "_CACHED_SAMPLES", 5_000)
    network, song = network_with_random_weights(**SMALL), stems(3_001)[0]
    mix, parts = parts_of(network, song, run_in)
    overwritten = song.clone()
    assert torch.equal(network.mix_parts(overwritten, overwritten.unflatten(0, (4, 2)), run_in), mix)
    assert torch.equal(overwritten.unflatten(0, (4, 2)), parts)


def test_the_part_of_a_silent_stem_is_silence() -> None:
    network, song = network_with_random_weights(**SMALL), stems(3_000)[0]
    song[2:4] = 0
    mix, parts = parts_of(network, song, 500)
    assert not parts[1].any()
    assert torch.allclose(parts.sum(0), mix, atol=1e-6)
    silent_mix, silent_parts = parts_of(network, torch.zeros(8, 500), 0)
    assert not silent_mix.any() and not silent_parts.any()


@pytest.mark.parametrize(("samples", "run_in"), [(3_001, 1_000), (3_000, 8_000), (50, 10)])
def test_tracks_add_up_to_the_parts(samples: int, run_in: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_bank, "_CACHED_SAMPLES", 5_000)
    network, song = network_with_random_weights(**SMALL), stems(samples)[0]
    mix, parts = parts_of(network, song, run_in)
    of_stems = [3, 0, 1, 0, 3, 2, 0]
    room = torch.zeros(len(of_stems), 2, samples + 20)  # as in a file with more in it
    tracks = StemTracks(room[..., 10:-10], of_stems)
    weights = torch.rand(len(of_stems))
    for number, stem in enumerate(of_stems):
        total = sum(weight for weight, other in zip(weights, of_stems, strict=True) if other == stem)
        tracks.audio[number] = song[2 * stem : 2 * stem + 2] * weights[number] / total
    tracks.audio[0, 0], tracks.audio[4, 0] = song[6], 0  # a channel that is in one track alone
    again = torch.empty_like(parts)
    assert torch.equal(network.mix_parts(song, again, run_in, tracks=tracks), mix)
    assert torch.equal(again, parts)
    for stem in range(4):
        shares = [share for share, other in zip(tracks.audio, of_stems, strict=True) if other == stem]
        assert torch.allclose(torch.stack(shares).sum(0), parts[stem], atol=1e-6)
    assert not room[..., :10].any() and not room[..., -10:].any()


def test_a_wave_u_net_has_no_parts() -> None:
    network = models.build("wave_u_net", features=8, levels=2)
    with pytest.raises(
        ModelError, match=r"^wave_u_net: its mix is no sum of parts, one for each stem; .*crafx2 or console$"
    ):
        network.mix_parts(stems(100)[0], torch.empty(4, 2, 100))

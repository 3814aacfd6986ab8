"""The mixing console: what it gives before it has learnt anything, whole songs, parts, and its limiter's bound."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fxnorm import models
from fxnorm.errors import SettingsError
from fxnorm.models import MixingConsole
from fxnorm.models.console import mel_bands
from fxnorm.models.network import StemTracks

SMALL = {"bands": 12, "features": 8, "blocks": 2}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def console(**sizes: Any) -> MixingConsole:
    torch.manual_seed(0)
    network = models.build("console", **SMALL | sizes)
    assert isinstance(network, MixingConsole)
    return network.eval()


def operated(drive: float = 1.0) -> MixingConsole:
    """One whose last layers have learnt something: gains of some dB that move, and a drive."""
    network = console()
    with torch.no_grad():
        network.gains.weight.normal_(0, 0.3)
        network.gains.bias.normal_(0, 0.3)
        network.drive.bias.fill_(float(np.log(drive)))
    return network


def stems(samples: int, level: float = 0.05) -> Tensor:
    generator = torch.Generator().manual_seed(samples)
    swell = 0.6 + 0.4 * torch.sin(torch.arange(samples) / 7_000)
    return level * swell * torch.randn(8, samples, generator=generator)


def test_before_it_has_learnt_it_is_the_sum_of_the_stems_under_the_limiter() -> None:
    quiet = stems(30_011, 0.001)
    total = 4 * quiet.unflatten(0, (4, 2)).sum(0)
    torch.testing.assert_close(console()(quiet[None])[0], total, rtol=0, atol=4e-7)


def test_the_drive_can_be_learnt_from_the_beginning() -> None:
    """A limiter that has nothing to do says nothing about it: how peaks stand out is the same at any drive."""
    song = stems(60_000, 0.05)  # as loud as normalized ones: their sum is at -20 dBFS
    undriven, fresh = console(), console()
    with torch.no_grad():
        undriven.drive.bias.zero_()
    slopes = []
    for network in (undriven, fresh):
        mix = network(song[None])
        (mix.abs().amax() / mix.square().mean().sqrt()).backward()
        assert network.drive.bias.grad is not None
        slopes.append(float(network.drive.bias.grad.abs()))
    assert slopes[1] > 30 * slopes[0]


def test_a_stem_stays_as_wide_as_it_is() -> None:
    network, song = operated(drive=2.0), torch.zeros(8, 90_000)
    song[2:4] = stems(90_000)[2:4]
    song[3] *= 0.5
    mix = network.mix(song)
    assert mix.any()

    def width(audio: Tensor) -> float:
        left, right = audio
        return float((left - right).square().mean() / (left + right).square().mean())

    # its gains move in time and over frequencies, where it may be wider or narrower
    assert 10 * np.log10(width(mix) / width(song[2:4])) == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("samples", [1, 1_000, 4_096, 100_003, 700_001])
def test_a_whole_song_is_mixed_as_in_training_and_is_the_sum_of_its_parts(samples: int) -> None:
    network, song = operated(drive=8.0), stems(samples)
    with torch.no_grad():
        expected = network(song[None])[0]
    progress: list[float] = []
    mix = network.mix(song, run_in=44_100, progress=progress.append)
    torch.testing.assert_close(mix, expected, rtol=0, atol=2e-6)
    assert progress == sorted(progress)
    assert progress[-1] == 1
    parts = torch.empty(4, 2, samples)
    assert torch.equal(network.mix_parts(song, parts), mix)
    torch.testing.assert_close(parts.sum(0), mix, rtol=0, atol=2e-6)


def test_parts_may_take_the_memory_of_the_stems_and_tracks_add_up_to_them() -> None:
    network, song = operated(), stems(600_000)
    expected = torch.empty(4, 2, 600_000)
    mix = network.mix_parts(song, expected)
    tracks = torch.stack([0.3 * song[2:4], 0.7 * song[2:4], song[6:8]])
    own = song.clone()
    parts = own.unflatten(0, (4, 2))
    assert torch.equal(network.mix_parts(own, parts, tracks=StemTracks(tracks, [1, 1, 3])), mix)
    assert torch.equal(parts, expected)
    torch.testing.assert_close(tracks[:2].sum(0), parts[1], rtol=0, atol=1e-6)
    assert torch.equal(tracks[2], parts[3])


def test_swapping_left_and_right_of_all_stems_swaps_those_of_the_mix() -> None:
    network, song = operated(drive=4.0), stems(90_000)
    swapped = song.unflatten(0, (4, 2)).flip(1).flatten(0, 1)
    torch.testing.assert_close(network.mix(swapped).flip(0), network.mix(song), rtol=0, atol=1e-7)


@pytest.mark.parametrize("drive", [1.0, 30.0, 1_000.0])
def test_no_sample_passes_full_scale_however_hard_it_is_driven(drive: float) -> None:
    song = stems(90_000)
    song[:, 40_000] = 0.9  # a click, in the middle of a step of the envelope and at its edge
    song[:, 64 * 1_000] = -0.9
    mix = operated(drive).mix(song)
    assert mix.abs().max() <= 1
    assert torch.isfinite(mix).all()


def test_a_limited_sine_keeps_its_shape() -> None:
    sine = torch.sin(2 * torch.pi * 100 * torch.arange(88_200) / 44_100)
    song = torch.zeros(8, 88_200)
    song[2:4] = 0.05 * sine
    mix = console()
    with torch.no_grad():
        mix.drive.bias.fill_(float(np.log(100.0)))
    mixed = mix.mix(song)[0, 8_192:-8_192].double()
    # 14 dB over full scale: a clipper's odd harmonics would be 20 dB down
    spectrum = (mixed * torch.hann_window(len(mixed), dtype=torch.float64)).numpy()
    magnitude = np.abs(np.fft.rfft(spectrum))
    frequencies = np.fft.rfftfreq(len(spectrum), 1 / 44_100)
    harmonics = magnitude[frequencies > 150].max()
    assert 20 * np.log10(harmonics / magnitude.max()) < -60


def test_gradients_reach_every_parameter() -> None:
    network = operated().train()
    network(stems(60_000)[None]).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_silence_stays_silent_and_gradients_are_numbers() -> None:
    network = operated().train()
    mix = network(torch.zeros(1, 8, 10_000))
    assert not mix.any()
    mix.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters() if parameter.grad is not None)


def test_bands_add_up_to_one_at_every_bin() -> None:
    bands = mel_bands(20)
    np.testing.assert_allclose(bands.sum(axis=0), 1, atol=1e-6)
    assert (bands.sum(axis=1) > 0).all()


def test_its_configuration_builds_it_again() -> None:
    network = operated()
    again = models.build(**network.config)
    again.load_state_dict(network.state_dict())
    song = stems(50_000)
    assert torch.equal(again.eval().mix(song), network.mix(song))


def test_sizes_it_cannot_have_are_refused() -> None:
    with pytest.raises(SettingsError, match="kernel: expected an odd number, found 4"):
        models.build("console", kernel=4)
    with pytest.raises(SettingsError, match="bands: expected at most 200"):
        models.build("console", bands=2_000)

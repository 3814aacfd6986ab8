"""The filter banks that untrained networks start with."""

import pytest
import torch
from torch.nn import functional

from fxnorm.models.lapped_transform import power_complementary


@pytest.mark.parametrize(
    ("bands", "taps"), [(16, 64), (8, 64), (4, 64), (16, 32), (16, 100), (24, 64), (64, 64), (128, 64), (3, 7), (1, 1)]
)
def test_analysis_and_mirrored_synthesis_give_the_signal_back(bands: int, taps: int) -> None:
    filters = power_complementary(bands, taps)[:, None]
    signal = torch.randn(1, 1, 1_000, generator=torch.Generator().manual_seed(0))
    rebuilt = functional.conv_transpose1d(functional.conv1d(signal, filters), filters)
    assert filters.shape == (bands, 1, taps)
    assert torch.allclose(rebuilt[..., taps:-taps], signal[..., taps:-taps], atol=1e-5)


def test_each_filter_of_the_published_bank_passes_its_own_band() -> None:
    response = torch.fft.rfft(power_complementary(16, 64), 2_048).abs()
    width = 1_024 / 16
    for band, magnitude in enumerate(response):
        assert band * width <= float(magnitude.argmax()) <= (band + 1) * width
        far = (torch.arange(1_025) - (band + 0.5) * width).abs() > 2 * width
        assert float(magnitude[far].max()) < 0.1 * float(magnitude.max())  # -20 dB two bands away

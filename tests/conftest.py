"""Sounds and songs that several tests use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fxnorm import audio
from fxnorm.constants import SAMPLE_RATE, STEMS


def noise(seconds: float, level: float = 0.1, seed: int = 0, channels: int = 2) -> np.ndarray:
    """Pink-like noise with a slow swell: something that every effect has something to do with."""
    generator = np.random.default_rng(seed)
    samples = round(seconds * SAMPLE_RATE)
    white = generator.standard_normal((channels, samples))
    pink = np.cumsum(white, axis=1)
    pink -= pink.mean(axis=1, keepdims=True)
    colored = white + pink / np.abs(pink).max(axis=1, keepdims=True)
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * np.arange(samples) / SAMPLE_RATE)
    return (level * swell * colored / np.abs(colored).max()).astype(np.float32)


@pytest.fixture
def make_song(tmp_path: Path) -> Callable[..., Path]:
    """Writes a song folder of noise stems and a mixture, the sum of the stems with gains, and returns it."""

    def make(
        name: str = "dataset/train/A Song",
        seconds: float = 3.0,
        seed: int = 0,
        mixture: bool = True,
        gains: dict[str, float] | None = None,
    ) -> Path:
        folder = tmp_path / name
        stems = {stem: noise(seconds, 0.2, seed * 10 + number) for number, stem in enumerate(STEMS)}
        for stem, samples in stems.items():
            audio.write(folder / f"{stem}.wav", samples, subtype="PCM_16")
        if mixture:
            mixed = np.sum([(gains or {}).get(stem, 1.0) * samples for stem, samples in stems.items()], axis=0)
            audio.write(folder / "mixture.wav", mixed, subtype="PCM_16")
        return folder

    return make

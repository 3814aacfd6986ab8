"""Samples from the bytes of uncompressed files are soundfile's."""

import io

import numpy as np
import pytest
import soundfile

from fxnorm.io import pcm
from tests.conftest import noise


@pytest.mark.parametrize("subtype", pcm.WIDTHS)
@pytest.mark.parametrize("count", [0, 1, 2, 4099])
def test_samples_are_those_of_libsndfile(subtype: str, count: int) -> None:
    samples = noise(1.0, 2.0)[:, :count]  # some of which integers cut off at full scale
    raw = {"format": "RAW", "subtype": subtype, "endian": "LITTLE"}
    file = io.BytesIO()
    soundfile.write(file, samples.T, 44100, **raw)
    content = file.getvalue()
    assert len(content) == 2 * count * pcm.WIDTHS[subtype]
    decoded = pcm.decode(content, subtype)
    file.seek(0)
    expected = soundfile.read(file, dtype="float32", samplerate=44100, channels=2, **raw)[0]
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded.reshape(-1, 2), expected)

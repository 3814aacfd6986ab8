"""Bring one stem to a dataset's averages: python examples/normalize_stem.py STATISTICS.npz STEM FILE OUTPUT.wav

STEM is vocals, bass, drums or other. Prints what was measured before and after.
"""

import sys

from fxnorm import DatasetStatistics, EffectNormalizer, measure_stem
from fxnorm.constants import SAMPLE_RATE
from fxnorm.io import audio


def main(statistics: str, stem: str, source: str, output: str) -> None:
    """Equalization, compression, panning and loudness, without reverberation."""
    averages = DatasetStatistics.load(statistics)
    normalizer = EffectNormalizer(averages, effects=("equalization", "compression", "panning", "loudness"))
    samples = audio.to_stereo(audio.read(source)[0])
    normalized = normalizer.normalize(samples, SAMPLE_RATE, stem)
    audio.write(output, normalized, SAMPLE_RATE)
    for name, sound in (("before", samples), ("after", normalized)):
        print(f"{name}: {float(measure_stem(sound, SAMPLE_RATE, stem)['loudness']):.1f} LUFS")
    print(f"target: {float(averages.target('loudness', stem)):.1f} LUFS")


if __name__ == "__main__":
    main(*sys.argv[1:])

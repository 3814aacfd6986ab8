"""Run all that Numba compiles once, so that an image, or a checkout, starts with the compiled code."""

import numpy as np

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.evaluation import compare_mixes
from fxnorm.mixing import limiter
from fxnorm.normalization.normalizer import ORDER, EffectNormalizer
from fxnorm.statistics import DatasetStatistics, measure_stem


def main() -> None:
    """Measure and normalize two seconds of noise as each stem, compare it with itself as a mix, and limit it."""
    noise = np.random.default_rng(0).standard_normal((2, 2 * SAMPLE_RATE)).astype(np.float32)
    statistics = DatasetStatistics()
    for stem in STEMS:
        statistics.add(stem, measure_stem(0.1 * noise, SAMPLE_RATE, stem))
    for precise in (False, True):
        chain = EffectNormalizer(statistics, ORDER, precise=precise)
        for stem in STEMS:
            chain.normalize(noise, SAMPLE_RATE, stem, dry=True)
    compare_mixes(0.1 * noise, 0.1 * noise, SAMPLE_RATE)
    limiter.deliver(noise, 3.0, -1.0, -1.0)


if __name__ == "__main__":
    main()

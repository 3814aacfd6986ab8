"""How near a folder of wet songs lies to published averages, as a table and a plot; and what would bring it nearer.

    python benchmarks/calibration.py data/wet musdb18_statistics.npz [--plot calibration.png] [--correct records]

The statistics are a file of ``fxnorm statistics``, or published averages. For each stem and effect the table shows the
songs' mean, the other mean, their difference, and the standard deviation over songs; of curves, the root mean square of
the differences in thirds of an octave and the largest one. Loudness is shown relative to the mean of the four stems
too: published averages were not measured at the level of finished mixes.

``--correct STYLE`` adds what is missing to the style's table in ``fxnorm/demo/records/calibration.json``: songs that
are rendered anew then lie nearer. Two or three rounds are enough; later ones with ``--share 0.5``, because the mean of
some dozen songs is uncertain itself.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data.dataset import Layout
from fxnorm.demo.records.calibration import TABLE, corrections
from fxnorm.effects.features import Features, measure_stem
from fxnorm.effects.levels import decibels
from fxnorm.effects.third_octaves import CENTRES_HZ
from fxnorm.statistics import DatasetStatistics

MOST_CORRECTION_DB = 24.0
SIDE_DB_PER_SIMILARITY = 30.0
"""How much the side's level moves the similarity, roughly: a step to a tenth of it takes 3 dB."""
SIDE_STEP_DB = 4.0
LOWEST_BAND = {"vocals": 6, "bass": 3, "drums": 3, "other": 6}
"""The band under which the smoothing of published curves, over 100 to 270 Hz, leaves nothing to be corrected by."""

Curves = dict[str, np.ndarray]


def in_thirds(curve: np.ndarray) -> np.ndarray:
    """Mean of a curve (32769,) in each third of an octave, (29,)."""
    frequencies = np.linspace(0, SAMPLE_RATE / 2, curve.size)
    edges = [(centre * 2 ** (-1 / 6), centre * 2 ** (1 / 6)) for centre in CENTRES_HZ]
    return np.array([curve[(frequencies >= low) & (frequencies < high)].mean() for low, high in edges])


def measure(folder: Path) -> dict[str, list[Features]]:
    """Features of every song's stems."""
    features: dict[str, list[Features]] = {stem: [] for stem in STEMS}
    for song in Layout.read(folder).songs:
        for stem, path in song.stems.items():
            if measured := measure_stem(song.read_file(path), SAMPLE_RATE, stem):
                features[stem].append(measured)
    return features


def smoothed(features: Features, effect: str, stem: str) -> np.ndarray:
    """One song's curve as a target's is smoothed: published averages are."""
    statistics = DatasetStatistics()
    statistics.add(stem, {effect: features[effect]})
    return statistics.target(effect, stem)


def figures(features: list[Features], published: Mapping[str, np.ndarray], stem: str) -> Curves:
    """The songs' means and deviations beside the published mean, in dB, LUFS and similarity."""
    spectra = np.array([in_thirds(smoothed(song, "equalization", stem)) for song in features])
    similarities = np.array([in_thirds(smoothed(song, "panning", stem)) for song in features])
    peaks = np.array([np.asarray(song["compression"])[0] for song in features if "compression" in song])
    loudness = np.array([float(song["loudness"]) for song in features])
    return {
        "spectrum": decibels(spectra.mean(axis=0)),
        "spectrum_deviation": decibels(spectra).std(axis=0),
        "spectrum_published": decibels(in_thirds(published[f"equalization/{stem}"].ravel())),
        "similarity": similarities.mean(axis=0),
        "similarity_deviation": similarities.std(axis=0),
        "similarity_published": in_thirds(published[f"panning/{stem}"].ravel()),
        "peak": np.array([peaks.mean(), peaks.std(), float(published[f"compression/{stem}"].ravel()[0])]),
        "loudness": np.array([loudness.mean(), loudness.std(), float(published[f"loudness/{stem}"].ravel()[0])]),
    }


def print_table(found: Mapping[str, Curves]) -> None:
    ours, theirs = (np.mean([found[stem]["loudness"][column] for stem in found]) for column in (0, 2))
    print(f"{'effect and stem':24} {'songs':>8} {'published':>9} {'differ':>7} {'largest':>8} {'deviation':>9}")
    for stem, curves in found.items():
        for effect, unit in (("spectrum", "dB"), ("similarity", "")):
            difference = curves[effect] - curves[f"{effect}_published"]
            print(
                f"{effect + ' ' + stem:24} {curves[effect].mean():8.2f} {curves[f'{effect}_published'].mean():9.2f}"
                f" {np.sqrt((difference**2).mean()):7.3f} {difference[np.abs(difference).argmax()]:8.3f}"
                f" {curves[f'{effect}_deviation'].mean():9.3f} {unit}"
            )
        for effect in ("peak", "loudness"):
            mean, deviation, published = curves[effect]
            print(
                f"{effect + ' ' + stem:24} {mean:8.2f} {published:9.2f} {mean - published:7.2f}"
                f" {'':8} {deviation:9.2f} dB"
            )
        mean, _, published = curves["loudness"]
        print(
            f"{'  among stems':24} {mean - ours:8.2f} {published - theirs:9.2f} {mean - ours - published + theirs:7.2f}"
        )


def plot(found: Mapping[str, Curves], path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(found), figsize=(4 * len(found), 6), sharex=True, squeeze=False)
    for column, (stem, curves) in enumerate(found.items()):
        for row, (effect, unit) in enumerate((("spectrum", "dB"), ("similarity", "left and right"))):
            axis = axes[row][column]
            mean, deviation = curves[effect], curves[f"{effect}_deviation"]
            axis.fill_between(CENTRES_HZ, mean - deviation, mean + deviation, alpha=0.25, label="deviation of songs")
            axis.semilogx(CENTRES_HZ, mean, label="songs")
            axis.semilogx(CENTRES_HZ, curves[f"{effect}_published"], "k--", label="published")
            axis.set_title(f"{effect}, {stem}")
            axis.set_ylabel(unit)
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path)


def correct(style: str, found: Mapping[str, Curves], share: float) -> None:
    """Add a share of the differences to the style's table."""
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    current = corrections(style)
    table[style] = {}
    for stem, curves in found.items():
        missing = share * (curves["spectrum_published"] - curves["spectrum"])
        narrower = share * SIDE_DB_PER_SIMILARITY * (curves["similarity"] - curves["similarity_published"])
        missing[: LOWEST_BAND[stem]] = missing[LOWEST_BAND[stem]]
        narrower[: LOWEST_BAND[stem]] = narrower[LOWEST_BAND[stem]]
        middle = np.array(current[stem].middle_db) + missing
        # the side follows the middle, and both keep the level that the stem has
        side = np.array(current[stem].side_db) + missing + np.clip(narrower, -SIDE_STEP_DB, SIDE_STEP_DB)
        table[style][stem] = {
            "middle_db": np.clip(middle, -MOST_CORRECTION_DB, MOST_CORRECTION_DB).round(1).tolist(),
            "usual_db": curves["spectrum_published"].round(1).tolist(),
            "side_db": np.clip(side, -MOST_CORRECTION_DB, MOST_CORRECTION_DB).round(1).tolist(),
        }
    one_line_a_curve = re.sub(r"(?<=[\d,\[])\s+(?=[-\d\]])", " ", json.dumps(table, indent=1))
    TABLE.write_text(one_line_a_curve + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("statistics", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--correct", metavar="STYLE")
    parser.add_argument("--share", type=float, default=1.0)
    arguments = parser.parse_args()
    with np.load(arguments.statistics, allow_pickle=False) as file:
        published = {name: file[name] for name in file.files}
    found = {
        stem: figures(features, published, stem) for stem, features in measure(arguments.folder).items() if features
    }
    print_table(found)
    if arguments.plot is not None:
        plot(found, arguments.plot)
    if arguments.correct is not None:
        correct(arguments.correct, found, arguments.share)


if __name__ == "__main__":
    main()

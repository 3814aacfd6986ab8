"""One test song: all systems' mixes of it, what they measure, and their pictures, in one folder that is whole or not.

Songs are evaluated in processes of their own; a song that an earlier run finished is not done again.

A song may have several reference mixes. All are brought to the loudness of the first, because how loud an engineer
delivers a mix is no part of its balance. Each system's mix is then compared, in every metric, with the one reference
that it is nearest to by :data:`~fxnorm.evaluation.catalogue.DECISIVE`.
"""

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data.dataset import Song
from fxnorm.data.versions import made_by
from fxnorm.effects import loudness, programme
from fxnorm.errors import ModelError
from fxnorm.evaluation.catalogue import (
    DECISIVE,
    INPUT_SUM,
    MATCHED,
    NORMALIZED_SUM,
    REFERENCE,
    RESIDUAL,
    STATIC_MIX,
    title_of,
)
from fxnorm.evaluation.excerpts import Excerpts
from fxnorm.evaluation.metrics import Family, compare_all
from fxnorm.evaluation.reference_free import balance_of, describe, features
from fxnorm.io import audio
from fxnorm.io.files import whole_folder, write_json
from fxnorm.losses import stereo_losses
from fxnorm.mixing.mixer import Mixer, mixer_digest
from fxnorm.mixing.static_mix import STATIC_MIX_FILE, StaticMix
from fxnorm.models.device import default_device
from fxnorm.normalization.recipe import song_seed
from fxnorm.statistics import DatasetStatistics

MIXES, PICTURES, EXCERPTS_FILE = "mixes", "plots", "excerpts.json"
MetricsBySystem = dict[str, dict[str, float]]
"""system -> metric -> value"""

_MEASURED_FILE, _FEATURES_FILE, _NEAREST_FILE = "metrics.json", "features.json", "references.json"
_LISTENING_PEAK = 0.99
_FAMILIES = ("loudness", "spectral", "panning", "dynamic")
_LEAST_DIFFERENCE_LU = 0.005  # a mix as near to the reference's loudness is at it


def _code() -> str:
    return made_by(__name__)


@dataclass(frozen=True)
class EvaluationTask:
    """How every song is mixed and measured.

    Attributes:
        mixers: Mixer directories by the name of their system; the first is the one that is evaluated, whose
            normalization the sum of the normalized stems has, and whose static mix stands beside it.
        dry: folders of the songs that are dry recordings.
        excerpt_seconds: length of the report's excerpts.
        folder: where the results of single songs are kept.
        code: that does it; a result of other code is not taken for one of this.
    """

    mixers: Mapping[str, Path]
    dry: frozenset[Path]
    excerpt_seconds: float
    folder: Path
    code: str = field(default_factory=_code)


@dataclass(frozen=True)
class Result:
    """A finished song's folder, with ``mixes/SYSTEM.flac``, ``plots/NAME.svg``, and what was measured."""

    folder: Path

    def metrics(self) -> MetricsBySystem:
        """By system and metric, the reference mix among the systems if there is one."""
        metrics: MetricsBySystem = json.loads((self.folder / _MEASURED_FILE).read_text(encoding="utf-8"))
        return metrics

    def features(self) -> MetricsBySystem:
        """By system, the reference mix among them, what the mix is like: :func:`reference_free.features`."""
        found: MetricsBySystem = json.loads((self.folder / _FEATURES_FILE).read_text(encoding="utf-8"))
        return found

    def references(self) -> dict[str, str]:
        """By system, the name of the reference mix that it was compared with; empty if there were not several.

        The one of ``reference`` is that of the Mixer that is evaluated: it is described, shown and heard.
        """
        if not (file := self.folder / _NEAREST_FILE).is_file():
            return {}
        nearest: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return nearest

    def excerpts(self) -> Excerpts:
        """What the report's player plays."""
        return Excerpts(**json.loads((self.folder / EXCERPTS_FILE).read_text(encoding="utf-8")))


def evaluate(song: Song, task: EvaluationTask) -> Result:
    """Mix and measure a song, unless that is done already."""
    dry = song.folder in task.dry
    key = [task.code, default_device().type, song.name, song.digest(), dry, task.excerpt_seconds]
    key += [f"{name} {mixer_digest(folder)}" for name, folder in task.mixers.items()]
    static_mix = next(iter(task.mixers.values())) / STATIC_MIX_FILE
    key.append(hashlib.sha256(static_mix.read_bytes()).hexdigest() if static_mix.is_file() else "")
    folder = task.folder / hashlib.sha256(json.dumps(key).encode()).hexdigest()
    if not folder.is_dir():
        stems, references = song.read_stems(), read_references(song)
        mixes = mix_all(song.name, stems, task.mixers, dry, next(iter(references.values()), None))
        length = next(iter(mixes.values())).shape[1]
        references = {name: audio.pad_to(reference, length) for name, reference in references.items()}
        nearest = nearest_references(mixes, references) if len(references) > 1 else {}
        compared_with = {system: references[name] for system, name in nearest.items()}
        if nearest:
            first = next(iter(task.mixers))
            mixes[REFERENCE], nearest[REFERENCE] = compared_with[first], nearest[first]
        with whole_folder(folder) as temporary:
            measured, found = measure_all(mixes, stems, statistics_of(task), compared_with)
            write_json(temporary / _MEASURED_FILE, measured)
            write_json(temporary / _FEATURES_FILE, found)
            if nearest:
                write_json(temporary / _NEAREST_FILE, nearest)
            write_pictures(mixes, temporary)
            write_listening(mixes, temporary, task.excerpt_seconds)
    return Result(folder)


def write_pictures(mixes: Mapping[str, np.ndarray], folder: Path) -> None:
    """The plots of a song's mixes."""
    # matplotlib takes a second to import, and a registration reads metrics alone
    from fxnorm.evaluation.plots import plot_loudness, plot_panning, plot_spectra, plot_waveforms

    plots = {"spectra": plot_spectra, "panning": plot_panning, "loudness": plot_loudness, "waveforms": plot_waveforms}
    titled = {title_of(name): mix for name, mix in mixes.items()}
    for name, plot in plots.items():
        plot(titled, SAMPLE_RATE, folder / PICTURES / f"{name}.svg")


def write_listening(mixes: Mapping[str, np.ndarray], folder: Path, excerpt_seconds: float) -> None:
    """The mixes as files of 16 bit, and excerpts of them.

    All mixes of a song are turned down together where one would clip.
    """
    peak = max(float(np.abs(mix).max()) for mix in mixes.values())
    gain = np.float32(min(1.0, _LISTENING_PEAK / peak)) if peak else np.float32(1.0)
    turned_down = {name: mix * gain for name, mix in mixes.items()}
    for name, mix in turned_down.items():
        audio.write(folder / MIXES / f"{name}.flac", mix, subtype="PCM_16")
    write_json(folder / EXCERPTS_FILE, asdict(Excerpts.of(turned_down, excerpt_seconds, -20 * math.log10(gain))))


def read_references(song: Song) -> dict[str, np.ndarray]:
    """The reference mixes of a song by name, (2, samples), equally long and as loud as the first; empty without any."""
    mixtures = {name: audio.to_stereo(audio.read(path)[0]) for name, path in song.references.items()}
    length = max((mixture.shape[1] for mixture in mixtures.values()), default=0)
    references = {name: audio.pad_to(mixture, length) for name, mixture in mixtures.items()}
    if len(references) > 1:
        first, *others = references
        target = loudness.measure(references[first], SAMPLE_RATE)
        references |= {name: _at_loudness(references[name], target) for name in others}
    return references


def nearest_references(mixes: Mapping[str, np.ndarray], references: Mapping[str, np.ndarray]) -> dict[str, str]:
    """By system, the name of the reference mix that its mix is nearest to: the first one, if two are equally near.

    Args:
        mixes: (2, samples), all equally long; one that is itself called ``reference`` is left out.
        references: by name, as long as the mixes.
    """
    others = {system: mix for system, mix in mixes.items() if system != REFERENCE}
    losses = {name: _stereo_losses(others, reference) for name, reference in references.items()}
    return {system: min(losses, key=lambda name: losses[name][system][DECISIVE]) for system in others}


def mix_all(
    name: str,
    stems: Mapping[str, np.ndarray],
    mixers: Mapping[str, Path],
    dry: bool,
    reference: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """All mixes of a song, (2, samples), as long as the longest: the reference first, if there is one.

    Both sums are brought to the loudness of the reference mix; to that of the first network's, if there is none. The
    static mix is there if the first Mixer has one.
    """
    normalized: dict[str, np.ndarray] = {}
    networks = {}
    for system, folder in mixers.items():
        mixer, recipe = _mixer_at(folder)
        if recipe not in normalized:
            normalized[recipe] = mixer.normalize(stems, dry, song_seed(mixer.recipe.settings.seed, name))
        networks[system] = finite(mixer.mix_normalized(normalized[recipe]), str(folder), name)
    first = next(iter(networks.values()))
    target = loudness.measure(first if reference is None else reference, SAMPLE_RATE)
    normalized_stems = next(iter(normalized.values())).reshape(len(STEMS), 2, -1)
    static_mix = StaticMix.load(next(iter(mixers.values())))
    mixes = {
        **({} if reference is None else {REFERENCE: reference}),
        INPUT_SUM: _at_loudness(_sum(stems), target),
        NORMALIZED_SUM: _at_loudness(normalized_stems.sum(axis=0), target),
        **({} if static_mix is None else {STATIC_MIX: static_mix.mix(next(iter(normalized.values())))}),
        **networks,
    }
    length = max(mix.shape[1] for mix in mixes.values())
    return {system: audio.pad_to(mix, length) for system, mix in mixes.items()}


def finite(mix: np.ndarray, mixer: str, song: str) -> np.ndarray:
    """``mix`` itself.

    Raises:
        ModelError: the network gave what is no number; the text names the Mixer and the song.
    """
    if not np.isfinite(mix).all():
        raise ModelError(f"{mixer}: its mix of {song} holds NaN or infinite samples; its weights cannot be used")
    return mix


def measure_all(
    mixes: Mapping[str, np.ndarray],
    stems: Mapping[str, np.ndarray],
    statistics: DatasetStatistics,
    compared_with: Mapping[str, np.ndarray] | None = None,
) -> tuple[MetricsBySystem, MetricsBySystem]:
    """Every metric of every mix, and its features; those that have no value are left out.

    Args:
        mixes: (2, samples), all equally long; the one called ``reference`` is what the others are compared with.
        stems: the song's stems.
        statistics: of the training songs.
        compared_with: reference mixes by system, where it is not the same one for all.
    """
    balances = {name: balance_of(mix) for name, mix in mixes.items()}
    described = describe(mixes, stems, SAMPLE_RATE, statistics, balances)
    found = {name: features(described[name], balance) for name, balance in balances.items()}
    metrics = {name: _with_value(values) for name, values in described.items()}
    if REFERENCE in mixes:
        others = {name: mix for name, mix in mixes.items() if name != REFERENCE}
        references = compared_with or dict.fromkeys(others, mixes[REFERENCE])
        for reference in {id(reference): reference for reference in references.values()}.values():
            nearest = {name: mix for name, mix in others.items() if references[name] is reference}
            for name, errors in distances(nearest, reference).items():
                metrics[name] = errors | metrics[name]
    return metrics, found


def distances(mixes: Mapping[str, np.ndarray], reference: np.ndarray) -> MetricsBySystem:
    """How far mixes are from the reference mix, all (2, samples) and equally long; what has no value is left out."""
    families = compare_all(mixes, reference, SAMPLE_RATE)
    losses = _stereo_losses(mixes, reference)
    return {
        name: {
            **losses[name],
            **_errors(families[name]),
            **_with_value({RESIDUAL: _residual(mix, reference)}),
        }
        for name, mix in mixes.items()
    }


def _stereo_losses(mixes: Mapping[str, np.ndarray], reference: np.ndarray) -> MetricsBySystem:
    """By system: both losses of the mix as it is, and of the mix at the reference's loudness."""
    target = loudness.measure(reference, SAMPLE_RATE)
    moved = {
        f"{name}{MATCHED}": matched for name, mix in mixes.items() if (matched := _at_loudness(mix, target)) is not mix
    }
    losses = stereo_losses({**mixes, **moved}, reference)
    return {
        name: {
            f"stereo_loss_{variant}{ending}": loss
            for ending in ("", MATCHED)
            for variant, loss in losses[name + ending if name + ending in moved else name].items()
        }
        for name in mixes
    }


def statistics_of(task: EvaluationTask) -> DatasetStatistics:
    """Those of the Mixer that is evaluated."""
    return _mixer_at(next(iter(task.mixers.values())))[0].recipe.statistics


def _errors(families: Mapping[str, Family]) -> dict[str, float]:
    values: dict[str, float | None] = {f"{family}_mape": families[family]["mape_mean"] for family in _FAMILIES}
    values |= {f"{family}_wape": families[family]["wape_mean"] for family in _FAMILIES if family != "loudness"}
    values["multi_resolution_stft"] = families["spectral"]["multi_resolution_stft"]
    loudness_difference = families["loudness"]["loudness_difference_lu"]
    peak_difference = families["loudness"]["true_peak_difference_db"]
    if loudness_difference is not None and peak_difference is not None:
        # a gain moves both by the same
        values[f"true_peak_error_db{MATCHED}"] = abs(peak_difference - loudness_difference)
    differences = {
        "loudness_error_lu": families["loudness"]["loudness_difference_lu"],
        "true_peak_error_db": families["loudness"]["true_peak_difference_db"],
        "loudness_range_error_lu": families["loudness"]["loudness_range_difference_lu"],
        "side_to_middle_error_db": families["panning"]["side_to_middle_difference_db"],
    }
    # without their sign, because a mean over songs of differences to both sides would come to nothing
    values |= {name: None if value is None else abs(value) for name, value in differences.items()}
    return _with_value(values)


def _residual(mix: np.ndarray, reference: np.ndarray) -> float | None:
    energy = float(np.square(reference, dtype=np.float64).sum())
    return math.sqrt(float(np.square(mix - reference, dtype=np.float64).sum()) / energy) if energy else None


def _with_value(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if value is not None}


def _sum(stems: Mapping[str, np.ndarray]) -> np.ndarray:
    length = max(stem.shape[1] for stem in stems.values())
    return np.sum([audio.pad_to(audio.to_stereo(stem), length) for stem in stems.values()], axis=0)


def _at_loudness(mix: np.ndarray, target: float) -> np.ndarray:
    """Only scaled: a mix that had to be limited to reach the level would lose by the limiting.

    What carries no programme, or is as loud already, stays as it is: the same array.
    """
    measured = loudness.measure(mix, SAMPLE_RATE)
    if not np.isfinite([measured, target]).all() or abs(measured - target) < _LEAST_DIFFERENCE_LU:
        return mix
    if not programme.carried(mix, SAMPLE_RATE).any():
        return mix
    return mix * np.float32(10 ** ((target - measured) / 20))


def _mixer_at(folder: Path) -> tuple[Mixer, str]:
    """A Mixer, and the digest of its recipe: two Mixers with the same have the same normalized stems."""
    return _read_mixer(folder, mixer_digest(folder))


@functools.cache
def _read_mixer(folder: Path, _digest: str) -> tuple[Mixer, str]:
    """A process reads every Mixer once, not once a song; one that takes another's place is another."""
    mixer = Mixer.load(folder)
    return mixer, mixer.recipe.digest(folder)

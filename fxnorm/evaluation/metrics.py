"""How far a mix is from a reference mix, in loudness, spectrum, panning and dynamics.

The published part is the objective evaluation of "Automatic music mixing with deep learning and out-of-domain data"
(Martínez-Ramírez et al., ISMIR 2022): mean absolute percentage errors (MAPE) between running means of frame features.
Where a feature comes near 0, as in silence, one frame of it can decide such a mean. So there is a robust form of each
family: silent frames are left out, and the mean error is divided by the mean of the reference, not each error by its
own value (the MAD/mean ratio, or WAPE: Kolassa and Schütz, "Advantages of the MAD/Mean ratio over the MAPE", Foresight
6, 2007). Beside them stand differences in units that engineers read: LU, true peak (ITU-R BS.1770-5), loudness range
(EBU Tech 3342), the balance of side and middle, and a multi-resolution STFT distance (Yamamoto et al., ICASSP 2020).
"""

import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import dynamics, loudness
from fxnorm.effects.levels import decibels
from fxnorm.effects.spectrum import frames, window
from fxnorm.effects.width import side_to_middle_db
from fxnorm.evaluation import kernels
from fxnorm.io import audio as audio_io

Family = dict[str, float | None]
"""The metrics of one family by name; ``None`` where a metric is not defined for this pair."""

Curves = dict[str, np.ndarray]
"""Features over time, (channels, frames), by name."""

# Settings of the published features; the letters t, l, m and h stand for total, low, middle and high.
PEAK_DBFS = -1.0
FRAME = 4096
PANNING_FRAME = 2048
HOP = 1024
RUNNING_MEAN_FRAMES = 40
PANNING_BANDS_HZ = {"P_t": (0, 22_050), "P_l": (0, 250), "P_m": (250, 2500), "P_h": (2500, 22_050)}
ROLL_OFF = 0.85
CONTRAST_EDGES_HZ = (250.0, 500.0, 1000.0, 2000.0)
CONTRAST_QUANTILE = 0.02

STFT_SIZES = (512, 2048, 8192)
"""FFT sizes of the multi-resolution STFT distance; each hops by a quarter of its size."""

_STFT_DISTANCE = "multi_resolution_stft"
_FREQUENCIES = scipy.fft.rfftfreq(FRAME, 1 / SAMPLE_RATE).astype(np.float32)
_SAMPLES_AT_ONCE = 128 * FRAME  # in overlapping frames: bounds the memory and fits the cache
_STFT_FLOOR_DBFS = -100.0  # level of a sine; below, two spectra count as equally silent
_POWER_FLOOR = 1e-10  # librosa's ``amin`` in power_to_db and spectral_flatness
_CONTRAST_RANGE_DB = 80.0  # librosa's ``top_db`` in power_to_db
_SILENT_DBFS = -70.0  # level of a frame of which the robust errors know nothing; the absolute gate of BS.1770


# ITU-R BS.1770-5, Annex 2: phases 0 and 1 of the four-fold interpolator. Phases 3 and 2 are the same backwards.
_TRUE_PEAK_PHASES = np.array(
    [
        [0.0017089843750, 0.0109863281250, -0.0196533203125, 0.0332031250000, -0.0594482421875, 0.1373291015625,
         0.9721679687500, -0.1022949218750, 0.0476074218750, -0.0266113281250, 0.0148925781250, -0.0083007812500],
        [-0.0291748046875, 0.0292968750000, -0.0517578125000, 0.0891113281250, -0.1665039062500, 0.4650878906250,
         0.7797851562500, -0.2003173828125, 0.1015625000000, -0.0582275390625, 0.0330810546875, -0.0189208984375],
    ],
    dtype=np.float32,
)  # fmt: skip


def compare_mixes(mix: np.ndarray, reference: np.ndarray, sample_rate: int) -> dict[str, Family]:
    """Distances of ``mix`` from ``reference``, 0 for a perfect match.

    All but the loudness family see both mixes at a peak of -1 dBFS, so that a gain is seen by that family alone.
    Swapping left and right of both mixes changes nothing.

    Args:
        mix: float array (channels, samples); mono counts as two equal channels.
        reference: as ``mix``. The shorter of the two is padded with zeros at its end.
        sample_rate: Hz, of both. Other rates are resampled to 44.1 kHz, at which the features are defined.

    Returns:
        Four families of metrics. Names without a unit are MAPEs as fractions (0.1 is 10 %), ``mape_mean`` is their mean
        in the family. ``wape_mean`` is the robust form of that mean: without frames under -70 dBFS in either mix. Names
        with a unit are differences, mix minus reference. A metric is ``None`` where it has no value: levels of silence,
        loudness range of less than 3 s, and errors of a feature that is 0 all through the reference (MAPEs leave out
        its frames with 0), such as the panning of a mono reference. Means leave these out.

        - ``loudness``: ``d_lufs`` (integrated); ``d_peak``, which divides by a level near 0 dBFS and is no part of the
            mean for that reason: read ``peak_difference_db``; ``loudness_difference_lu``,
            ``true_peak_difference_db``, ``loudness_range_difference_lu``.
        - ``spectral``: ``centroid_mean``, ``bandwidth_mean``, ``contrast_{l,m,h}_mean`` (lowest band, three middle
            ones, highest) and their mean ``contrast_mean``, ``rolloff_mean``, ``flatness_mean``. Not in the mean and no
            MAPE is ``multi_resolution_stft``: of middle and side, spectral convergence plus mean absolute difference of
            the natural logarithms of the magnitudes.
        - ``panning``: ``P_t_mean`` over all frequencies, ``P_l_mean`` up to 250 Hz, ``P_m_mean`` up to 2,500 Hz,
            ``P_h_mean`` above; ``side_to_middle_difference_db``, positive where the mix is wider.
        - ``dynamic``: ``rms_mean``, ``dyn_mean`` (dynamic spread), ``crest_mean``.

    Raises:
        AudioError: not one or two channels, no samples, or samples that are not finite.
    """
    return compare_all({"mix": mix}, reference, sample_rate)["mix"]


def compare_all(
    mixes: Mapping[str, np.ndarray], reference: np.ndarray, sample_rate: int
) -> dict[str, dict[str, Family]]:
    """:func:`compare_mixes` of several mixes, by name, with one reference, which is measured once.

    The shorter ones of all are padded with zeros at their end. Raises what :func:`compare_mixes` raises.
    """
    reference = prepared(reference, "reference", sample_rate)
    mixes = {name: prepared(mix, name, sample_rate) for name, mix in mixes.items()}
    samples = max(audio.shape[1] for audio in (reference, *mixes.values()))
    reference, *padded = (audio_io.pad_to(audio, samples) for audio in (reference, *mixes.values()))
    levels = _loudness_levels(reference)
    at_peak = _peak_normalized(reference)
    features = spectral_features(at_peak), panning_features(at_peak), dynamic_features(at_peak)
    sounding = {size: _sounding_frames(at_peak, size) for size in (FRAME, PANNING_FRAME)}
    distances = _multi_resolution_stft([_peak_normalized(mix) for mix in padded], at_peak)
    reference_side = side_to_middle_db(at_peak)
    compared = {}
    for name, mix, distance in zip(mixes, padded, distances, strict=True):
        at_peak = _peak_normalized(mix)
        both = {size: in_reference & _sounding_frames(at_peak, size) for size, in_reference in sounding.items()}
        compared[name] = {
            "loudness": _loudness_family(_loudness_levels(mix), levels),
            "spectral": _spectral_family(spectral_features(at_peak), features[0], both[FRAME])
            | {_STFT_DISTANCE: distance},
            "panning": _family(panning_features(at_peak), features[1], both[PANNING_FRAME])
            | {"side_to_middle_difference_db": _difference(side_to_middle_db(at_peak), reference_side)},
            "dynamic": _family(dynamic_features(at_peak), features[2], both[FRAME]),
        }
    return compared


def true_peak_dbtp(audio: np.ndarray) -> float:
    """Highest absolute value of ``audio`` (channels, samples) oversampled four times, in dBTP; silence gives -600.

    Never under the sample peak. Source: ITU-R BS.1770-5, Annex 2.
    """
    phases = np.concatenate([_TRUE_PEAK_PHASES, _TRUE_PEAK_PHASES[::-1, ::-1]])
    return float(decibels(kernels.highest_between_samples(np.ascontiguousarray(audio, np.float32), phases)))


def short_term_loudness(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Loudness of every window of 3 s, ten a second, in LUFS.

    Args:
        audio: float array (channels, samples), one or two channels.
        sample_rate: Hz.

    Returns:
        Array (windows,), the first for 0 to 3 s; empty for less than 3 s. Digital silence gives -300.

    Raises:
        AudioError: as :func:`compare_mixes`.

    Source: EBU Tech 3341, with the K-weighting of ITU-R BS.1770.
    """
    audio = prepared(audio, "audio", sample_rate)
    return dynamics.short_term(_step_energies(audio), audio.shape[1])


def loudness_range(audio: np.ndarray, sample_rate: int) -> float:
    """Loudness range in LU (EBU Tech 3342); NaN where no window of 3 s reaches -70 LUFS.

    Args:
        audio: float array (channels, samples), one or two channels.
        sample_rate: Hz.

    Raises:
        AudioError: as :func:`compare_mixes`.
    """
    return dynamics.loudness_range(short_term_loudness(audio, sample_rate))


def mix_levels(audio: np.ndarray) -> dict[str, float]:
    """Levels of ``audio`` (2, samples) at 44.1 kHz, NaN or infinite where it has none.

    Returns:
        ``integrated_loudness_lufs``, ``loudness_range_lu``, ``true_peak_dbtp`` and ``side_to_middle_db``, the energy
        of the side over that of the middle.
    """
    energies, samples = _step_energies(audio), audio.shape[1]
    return {
        "integrated_loudness_lufs": loudness.integrated(energies, samples),
        "loudness_range_lu": dynamics.loudness_range(dynamics.short_term(energies, samples)),
        "true_peak_dbtp": true_peak_dbtp(audio) if audio.any() else math.nan,
        "side_to_middle_db": side_to_middle_db(audio),
    }


def spectral_features(audio: np.ndarray) -> dict[str, np.ndarray]:
    """Frame features of the magnitude spectrum as librosa defines them, in the form in which they are compared.

    Args:
        audio: float array (channels, samples) at 44.1 kHz.

    Returns:
        Arrays (channels, frames): ``centroid``, ``bandwidth`` and ``rolloff`` in Hz + 1, ``flatness`` as 1 - dB,
        ``contrast_l``, ``contrast_m`` and ``contrast_h`` in dB.
    """

    def features(spectra: np.ndarray) -> dict[str, np.ndarray]:
        magnitude = kernels.magnitudes(spectra)
        centroid, bandwidth, roll_off, flatness = kernels.shape_of_spectrum(
            magnitude, SAMPLE_RATE / FRAME, ROLL_OFF, _POWER_FLOOR
        )
        extremes = [kernels.mean_of_extremes(magnitude, bins, count) for bins, count in _contrast_bands()]
        peak, valley = (np.stack(values, axis=-1) for values in zip(*extremes, strict=True))
        return {
            "centroid": centroid + 1,
            "bandwidth": bandwidth + 1,
            "rolloff": roll_off + 1,
            "flatness": 1 - decibels(flatness),
            "peak": peak,
            "valley": valley,
        }

    curves = _curves_along_time(audio, FRAME, features)
    contrast = _power_to_decibels(curves.pop("peak")) - _power_to_decibels(curves.pop("valley"))
    curves["contrast_l"] = contrast[..., 0]
    curves["contrast_m"] = contrast[..., 1:-1].mean(axis=-1)
    curves["contrast_h"] = contrast[..., -1]
    return curves


def panning_features(audio: np.ndarray) -> dict[str, np.ndarray]:
    """How far from the middle the bins of each frame lie: root mean square over a band of ``1 - phi``.

    ``phi = 2 |L| |R| / (|L|² + |R|²)`` is the similarity of the channels (Avendano and Jot, 2004), 1 in the middle.

    Args:
        audio: float array (2, samples) at 44.1 kHz.

    Returns:
        Arrays (1, frames) by the names of ``PANNING_BANDS_HZ``; the bin at half the sample rate is in none.
    """
    edges = np.array([[edge * PANNING_FRAME // SAMPLE_RATE for edge in band] for band in PANNING_BANDS_HZ.values()])

    def features(spectra: np.ndarray) -> dict[str, np.ndarray]:
        bands = kernels.off_centre(spectra, edges[:, 0], edges[:, 1])
        return {name: band[np.newaxis] for name, band in zip(PANNING_BANDS_HZ, bands, strict=True)}

    return _curves_along_time(audio, PANNING_FRAME, features)


def dynamic_features(audio: np.ndarray) -> dict[str, np.ndarray]:
    """Level, dynamic spread and crest factor of each frame, in the form in which they are compared.

    Args:
        audio: float array (channels, samples), with a peak under 0 dBFS.

    Returns:
        Arrays (1, frames), means over the channels: ``rms`` as 1 - dB; ``dyn``, a frame's mean of samples in dB less
        its RMS in dB, as 1 - dB; ``crest``, peak in dB divided by RMS in dB.
    """
    audio = np.abs(audio_io.pad_to(audio, FRAME))
    hops = audio[:, : audio.shape[1] // HOP * HOP].reshape(audio.shape[0], -1, HOP)

    def of_frames(values: np.ndarray) -> np.ndarray:
        return sliding_window_view(values, FRAME // HOP, axis=-1)

    power = of_frames(np.square(hops).mean(axis=-1, dtype=np.float64)).mean(axis=-1)
    rms = decibels(np.sqrt(power))
    # in single precision, whose logarithm is several times as fast; a mean of decibels needs no more
    mean_level = of_frames((20 / math.log(10)) * np.log(hops + np.float32(1e-30)).mean(axis=-1)).mean(axis=-1)
    peak = decibels(of_frames(hops.max(axis=-1)).max(axis=-1))
    features = {"rms": 1 - rms, "dyn": 1 - (mean_level - rms), "crest": peak / rms}
    return {name: values.mean(axis=0, keepdims=True) for name, values in features.items()}


def prepared(audio: np.ndarray, name: str, sample_rate: int) -> np.ndarray:
    """``audio`` (channels, samples) as all here is measured: float32, stereo, at 44.1 kHz.

    Raises:
        AudioError: as :func:`fxnorm.io.audio.check`; ``name`` stands in its text.
    """
    audio_io.check(audio, name)
    audio = audio_io.resample(audio_io.to_stereo(audio), sample_rate, SAMPLE_RATE)
    return np.ascontiguousarray(audio, dtype=np.float32)


def _loudness_family(levels: dict[str, float], reference_levels: dict[str, float]) -> Family:
    family: Family = {
        "d_lufs": _percentage_error(levels["loudness_difference_lu"], reference_levels["loudness_difference_lu"]),
        "d_peak": _percentage_error(levels["peak_difference_db"], reference_levels["peak_difference_db"]),
    }
    family["mape_mean"] = family["d_lufs"]
    return family | {name: _difference(level, reference_levels[name]) for name, level in levels.items()}


def _loudness_levels(audio: np.ndarray) -> dict[str, float]:
    """Levels by the name of the metric that compares them; NaN or infinite where there is none."""
    levels = mix_levels(audio)
    return {
        "loudness_difference_lu": levels["integrated_loudness_lufs"],
        "peak_difference_db": audio_io.peak_dbfs(audio) if audio.any() else math.nan,
        "true_peak_difference_db": levels["true_peak_dbtp"],
        "loudness_range_difference_lu": levels["loudness_range_lu"],
    }


def _spectral_family(mix: Curves, reference: Curves, sounding: np.ndarray) -> Family:
    def with_means(family: Family) -> Family:
        family["contrast_mean"] = _mean(family, "contrast_l_mean", "contrast_m_mean", "contrast_h_mean")
        names = ("centroid_mean", "bandwidth_mean", "contrast_mean", "rolloff_mean", "flatness_mean")
        return family | {"mape_mean": _mean(family, *names)}

    robust = with_means(_robust_errors(mix, reference, sounding))
    return with_means(_curve_errors(mix, reference)) | {"wape_mean": robust["mape_mean"]}


def _family(mix: Curves, reference: Curves, sounding: np.ndarray) -> Family:
    family, robust = _curve_errors(mix, reference), _robust_errors(mix, reference, sounding)
    return family | {"mape_mean": _mean(family, *family), "wape_mean": _mean(robust, *robust)}


def _curve_errors(mix: Curves, reference: Curves) -> Family:
    return {
        f"{name}_mean": _percentage_error(_running_mean(curve), _running_mean(reference[name]))
        for name, curve in mix.items()
    }


def _robust_errors(mix: Curves, reference: Curves, sounding: np.ndarray) -> Family:
    """Sum of the errors over sum of the reference's values, of the frames (frames,) that are ``sounding`` in both."""
    if not sounding.any():
        return dict.fromkeys(f"{name}_mean" for name in mix)
    errors: Family = {}
    for name, curve in mix.items():
        means, reference_means = _running_mean(curve[:, sounding]), _running_mean(reference[name][:, sounding])
        usable = np.isfinite(means) & np.isfinite(reference_means)
        size = float(np.abs(reference_means[usable]).sum())
        error = float(np.abs(means[usable] - reference_means[usable]).sum())
        errors[f"{name}_mean"] = error / size if size else None
    return errors


def _sounding_frames(audio: np.ndarray, size: int) -> np.ndarray:
    """Which frames of ``audio`` (channels, samples) are no silence, (frames,)."""
    audio = audio_io.pad_to(audio, size)
    hops = audio[:, : audio.shape[1] // HOP * HOP].reshape(audio.shape[0], -1, HOP)
    power = np.square(hops).mean(axis=(0, 2), dtype=np.float64)
    return np.asarray(sliding_window_view(power, size // HOP).mean(axis=-1) > 10 ** (_SILENT_DBFS / 10))


def _percentage_error(mix: np.ndarray | float, reference: np.ndarray | float) -> float | None:
    mix, reference = np.asarray(mix), np.asarray(reference)
    usable = (reference != 0) & np.isfinite(reference) & np.isfinite(mix)
    if not usable.any():
        return None
    return float(np.mean(np.abs((mix[usable] - reference[usable]) / reference[usable])))


def _running_mean(curve: np.ndarray) -> np.ndarray:
    # each window is summed by itself: differences of a cumulative sum do not come back to 0 after silence
    windows = sliding_window_view(curve, min(RUNNING_MEAN_FRAMES, curve.shape[-1]), axis=-1)
    return windows.mean(axis=-1, dtype=np.float64)


def _mean(family: Family, *members: str) -> float | None:
    defined = [value for member in members if (value := family[member]) is not None]
    return sum(defined) / len(defined) if defined else None


def _difference(mix: float, reference: float) -> float | None:
    difference = mix - reference
    return difference if math.isfinite(difference) else None


@cache
def _contrast_bands() -> list[tuple[np.ndarray, int]]:
    """Bins of each contrast band, shuffled, and how many of them are its highest and lowest."""
    # librosa's bands: all but the first begin a bin below their edge, all but the last leave out their last bin,
    # which still counts in the quantile
    starts = np.searchsorted(_FREQUENCIES, (0, *CONTRAST_EDGES_HZ), side="left") - [0, 1, 1, 1, 1]
    stops = np.searchsorted(_FREQUENCIES, (*CONTRAST_EDGES_HZ, np.inf), side="right")
    bands, random = [], np.random.default_rng(0)
    for start, stop in zip(starts, stops, strict=True):
        count = max(1, round(CONTRAST_QUANTILE * (stop - start)))
        bands.append((random.permutation(np.arange(start, stop - (stop < len(_FREQUENCIES)))), count))
    return bands


def _power_to_decibels(power: np.ndarray) -> np.ndarray:
    """librosa's power_to_db of each channel of an array (channels, frames, bands)."""
    level = 10 * np.log10(np.maximum(power, _POWER_FLOOR))
    return np.maximum(level, level.max(axis=(1, 2), keepdims=True) - _CONTRAST_RANGE_DB)


def _multi_resolution_stft(mixes: list[np.ndarray], reference: np.ndarray) -> list[float | None]:
    """The distance of each of ``mixes``, spectral convergence plus log-magnitude distance, over the FFT sizes."""
    sides = [_middle_and_side(audio) for audio in (reference, *mixes)]
    distances = np.mean([_stft_distances(sides, size) for size in STFT_SIZES], axis=0)
    return [float(distance) if math.isfinite(distance) else None for distance in distances]


def _stft_distances(signals: list[np.ndarray], size: int) -> list[float]:
    """Of all ``signals`` from the first; NaN from a silent one."""
    floor = np.float32(10 ** (_STFT_FLOOR_DBFS / 20) * window(size).sum() / 2)
    sums = np.zeros((len(signals) - 1, 2))
    energy, bins = 0.0, 0
    blocks = (frames(signal, size, size // 4, _SAMPLES_AT_ONCE // size) for signal in signals)
    for block in zip(*blocks, strict=True):
        target, *outputs = (kernels.magnitudes(spectra) for spectra in block)
        log_target = np.log(np.maximum(target, floor))
        energy += float(np.vdot(target, target))
        bins += target.size
        for number, output in enumerate(outputs):
            error = output - target
            log_error = np.log(np.maximum(output, floor, out=output), out=output) - log_target
            sums[number] += np.vdot(error, error), np.abs(log_error, out=log_error).sum()
    if energy == 0:
        return [math.nan] * len(sums)
    return [math.sqrt(error / energy) + log_error / bins for error, log_error in sums]


def _curves_along_time(audio: np.ndarray, size: int, features: Callable[[np.ndarray], Curves]) -> Curves:
    """``features`` of the spectra (channels, frames, bins), joined along the frames."""
    blocks = [features(spectra) for spectra in frames(audio, size, HOP, _SAMPLES_AT_ONCE // size)]
    return {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}


def _step_energies(audio: np.ndarray) -> np.ndarray:
    return loudness.step_energies(audio).sum(axis=0)


def _peak_normalized(audio: np.ndarray) -> np.ndarray:
    peak = float(np.abs(audio).max())
    return audio * np.float32(10 ** (PEAK_DBFS / 20) / peak) if peak > 0 else audio


def _middle_and_side(audio: np.ndarray) -> np.ndarray:
    return np.stack([audio[0] + audio[1], audio[0] - audio[1]]) / 2

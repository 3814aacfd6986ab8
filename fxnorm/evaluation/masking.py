"""How much of each stem the other stems of a mix hide, for any mix of which the stems are known.

How loud each stem is in the mix is found by least squares in bands of one ERB (Barchiesi and Reiss, "Reverse
engineering of a mix", JAES 58, 2010), so that a mix of which nothing but the result is known can be measured. A stem's
masked part is what the others take from its loudness: the masked-to-unmasked ratio of Aichinger, Sontacchi and
Schneider-Stickler ("Describing the transparency of mixdowns", AES 130, 2011), with the partial loudness of Lochner and
Burger (JASA 33, 1961) on the energies in bands of the scale of Glasberg and Moore (Hearing Research 47, 1990).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects.spectrum import frames
from fxnorm.io import audio as audio_io

MaskedShares = dict[str, float | None]
"""By stem: 0 where nothing of it is hidden, 1 where all is; ``None`` for a stem that does not sound in the mix."""

_FRAME = _HOP = 4096
_FRAMES_AT_ONCE = 64
_LOUDNESS_EXPONENT = 0.23  # of energy; Zwicker and Fastl, "Psychoacoustics"
_THRESHOLD = 10 ** (-4 / 10)  # of a signal over the masker in its band, in energy; Moore, Glasberg and Baer (1997)
_RIDGE = 1e-6  # of the band's energy: two stems of one waveform share their gain instead of cancelling each other
_LEAST_EXPLAINED = 0.5  # of the mix's energy; with less, its stems are not where they are looked for
_SILENT_SHARE = 1e-6  # of the mix's energy: a stem 60 dB under the mix does not sound in it


def masked_shares(
    mixes: Mapping[str, np.ndarray], stems: Mapping[str, np.ndarray], sample_rate: int
) -> dict[str, MaskedShares]:
    """The masked share of every stem in every mix; a gain, or swapping the sides of all, changes nothing.

    Args:
        mixes: arrays (2, samples) by name.
        stems: arrays (1 or 2 channels, samples) at the start of which the mixes start too. Those that are not there
            are silent.
        sample_rate: Hz, must be 44,100.

    Returns:
        shares by mix and stem; all ``None`` for a mix that the stems do not add up to in any way.
    """
    if sample_rate != SAMPLE_RATE:
        raise ValueError(f"sample_rate: expected {SAMPLE_RATE}, found {sample_rate}")
    samples = max(audio.shape[1] for audio in (*mixes.values(), *stems.values()))
    signals = [audio_io.pad_to(audio_io.to_stereo(stems[stem]), samples) for stem in STEMS if stem in stems]
    present = [stem for stem in STEMS if stem in stems]
    measured = _Bands(signals, [audio_io.pad_to(mix, samples) for mix in mixes.values()])
    masked = {}
    for number, name in enumerate(mixes):
        shares = measured.masked(number)
        masked[name] = {stem: shares[present.index(stem)] if stem in present else None for stem in STEMS}
    return masked


class _Bands:
    """Energies and correlations in bands of stems (2, samples) and their mixes.

    Attributes:
        gram: complex (bands, channels, channels), of all stems' channels.
        cross: complex (mixes, bands, 2, channels), of mixes with stems.
        energy: (mixes, bands), of the mixes.
        stem_energies: complex (stems, 3, frames, bands): energies of left and right and their correlation.
    """

    def __init__(self, stems: Sequence[np.ndarray], mixes: Sequence[np.ndarray]) -> None:
        channels, bins = 2 * len(stems), _FRAME // 2 + 1
        starts = _band_starts()
        gram = np.zeros((bins, channels, channels), np.complex128)
        cross = np.zeros((len(mixes), bins, 2, channels), np.complex128)
        energy = np.zeros((len(mixes), bins))
        stem_energies = []
        for signals in zip(*(frames(audio, _FRAME, _HOP, _FRAMES_AT_ONCE) for audio in (*stems, *mixes)), strict=True):
            block = np.concatenate(signals)
            by_bin = np.ascontiguousarray(block.transpose(2, 0, 1))
            parts = by_bin[:, :channels]
            conjugate = parts.conj().transpose(0, 2, 1)
            gram += parts @ conjugate
            for number in range(len(mixes)):
                mix = by_bin[:, channels + 2 * number : channels + 2 * number + 2]
                cross[number] += mix @ conjugate
                energy[number] += np.square(np.abs(mix)).sum(axis=(1, 2))
            left, right = block[:channels:2], block[1:channels:2]
            products = np.stack([left * left.conj(), right * right.conj(), left * right.conj()], axis=1)
            stem_energies.append(np.add.reduceat(products, starts, axis=-1))
        self.gram, self.stem_energies = np.add.reduceat(gram, starts, axis=0), np.concatenate(stem_energies, axis=2)
        self.cross, self.energy = np.add.reduceat(cross, starts, axis=1), np.add.reduceat(energy, starts, axis=1)

    def masked(self, mix: int) -> list[float | None]:
        """The masked share of every stem in a mix."""
        gains = self._gains(mix)
        total = self.energy[mix].sum()
        explained = np.einsum("bci,bij,bcj->", gains, self.gram, gains.conj()).real
        if total == 0 or explained < _LEAST_EXPLAINED * total:
            return [None] * len(self.stem_energies)
        energies = self._energies(gains)
        sounding = energies.sum(axis=(1, 2, 3)) > _SILENT_SHARE * total
        others = _THRESHOLD * (energies.sum(axis=0) - energies)
        alone = np.power(energies, _LOUDNESS_EXPONENT)
        partial = np.power(energies + others, _LOUDNESS_EXPONENT) - np.power(others, _LOUDNESS_EXPONENT)
        loudness, left_over = alone.sum(axis=(1, 2, 3)), partial.sum(axis=(1, 2, 3))
        return [float(1 - left_over[n] / loudness[n]) if sounding[n] else None for n in range(len(sounding))]

    def _gains(self, mix: int) -> np.ndarray:
        """Complex gains (bands, 2, channels) from the stems' channels to those of the mix."""
        trace = np.trace(self.gram, axis1=1, axis2=2).real
        ridge = (_RIDGE * trace + np.finfo(np.float64).tiny)[:, None, None] * np.eye(self.gram.shape[1])
        # the gram matrix is hermitian, so that solving from the left serves for the right
        solved = np.linalg.solve(self.gram + ridge, self.cross[mix].conj().transpose(0, 2, 1))
        return solved.conj().transpose(0, 2, 1)

    def _energies(self, gains: np.ndarray) -> np.ndarray:
        """Energies (stems, 2, frames, bands) of the stems as they are in the mix."""
        left, right = gains[:, :, 0::2].transpose(2, 1, 0), gains[:, :, 1::2].transpose(2, 1, 0)
        left, right = left[:, :, None, :], right[:, :, None, :]
        stem_energies = self.stem_energies[:, :, None]
        energies = np.abs(left) ** 2 * stem_energies[:, 0].real + np.abs(right) ** 2 * stem_energies[:, 1].real
        energies += 2 * (left * right.conj() * stem_energies[:, 2]).real
        return np.maximum(energies, 0)  # rounding can leave silence a trace under nothing


def _band_starts() -> np.ndarray:
    """The first bin of each band of one ERB."""
    frequencies = np.arange(_FRAME // 2 + 1) * SAMPLE_RATE / _FRAME
    number = np.floor(21.4 * np.log10(1 + 0.00437 * frequencies))
    return np.unique(number, return_index=True)[1]

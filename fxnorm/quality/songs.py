"""One song: every file read once, to its end, and all that is measured of it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from fxnorm.constants import MIXTURE, SAMPLE_RATE, SILENCE_DBFS, STEMS
from fxnorm.data.dataset import Song
from fxnorm.effects import programme
from fxnorm.errors import AudioError
from fxnorm.io import audio
from fxnorm.quality import bleed, files, labels, spectra, sums
from fxnorm.quality.files import FileMeasures
from fxnorm.quality.findings import Finding, Severity
from fxnorm.quality.fingerprints import Fingerprint, fingerprint
from fxnorm.quality.pictures import Curve, Picture, level_over_frequency, levels_over_time
from fxnorm.quality.spectra import HZ_PER_BIN, SongSpectra
from fxnorm.settings import CheckSettings, FindingCode

CODED_HZ = 19_000.0
"""A band limit under this frequency is a note: MP3 and AAC end at 16 to 19 kHz, converters at 20 kHz and over."""

_SPOILT_DB = -6.0  # residual, at which half of the mixture's amplitude is in no stem
_BLEED_NOTE_DB = 15.0  # under the level at which bleed is a warning
_SHOWN_AROUND = 60  # samples on both sides of a clipped run
_DELAY_RANGE = 20.0  # samples, of a picture
_SHORTEST_FOR_SPECTRA = spectra.SIZE  # samples


@dataclass(frozen=True)
class CheckedSong:
    """A song, and what was found and measured.

    Attributes:
        song: the song.
        split: that it is in; empty for a folder of songs without splits.
        findings: what is known from the song alone.
        seconds: length of its longest file.
        figures: measured values of the whole song, by names with their units.
        band_limits_hz: where the spectra of files end steeply, by the files' names.
        features: of stems, for :func:`fxnorm.quality.labels.doubts`.
        digests: hashes of the samples of stems and mixture that sound, by their names.
        fingerprint: of the mixture, or of the sum of the stems; None if none is wanted or no file can be read.
        pictures: of findings, by code and file.
    """

    song: Song
    split: str
    findings: list[Finding]
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    band_limits_hz: dict[str, float] = field(default_factory=dict)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)
    fingerprint: Fingerprint | None = None
    pictures: dict[tuple[FindingCode, str], list[Picture]] = field(default_factory=dict)


def check(song: Song, split: str, settings: CheckSettings, dry: bool = False) -> CheckedSong:
    """Read all files of a song and measure them. A file that cannot be read is a finding.

    Args:
        song: the song.
        split: that it is in; empty for a folder of songs without splits.
        settings: what is looked for.
        dry: whether its stems are recordings without effects, which need not add up to a mix that is beside them.
    """
    return _Check(song, split, settings, dry).run()


@dataclass
class _File:
    """A file that was read: its name, its own samples and rate, and itself at 44.1 kHz with two channels."""

    name: str
    rate: int
    measures: FileMeasures
    stereo: np.ndarray


class _Check:
    """The findings of one song as they come."""

    def __init__(self, song: Song, split: str, settings: CheckSettings, dry: bool) -> None:
        self.song, self.split, self.settings, self.dry = song, split, settings, dry
        self.findings: list[Finding] = []
        self.result = CheckedSong(song, split, self.findings)

    def run(self) -> CheckedSong:
        song = self.song
        for stem in STEMS:
            if stem not in song.stems:
                self._add("missing-stem", "note", f"no {stem}: taken as silence", figures={})
        if song.mixture is None:
            trains = self.split in ("train", "val") and not self.dry
            message = f"no {MIXTURE}: usable for mixing and statistics, not for training"
            self._add("no-mixture", "error" if trains else "note", message)
        read = dict(self._read())
        if not read:
            return self.result
        self._lengths(read)
        self._equal_channels(read)
        longest = max(file.stereo.shape[1] for file in read.values())
        signals = {name: audio.pad_to(file.stereo, longest) for name, file in read.items()}
        if longest >= _SHORTEST_FOR_SPECTRA:
            self._spectra(signals, read)
        if not self.dry and MIXTURE in signals and any(stem in signals for stem in STEMS):
            self._sum(signals, read)
        values = {"seconds": longest / SAMPLE_RATE, "fingerprint": self._fingerprint(signals)}
        return CheckedSong(**{**vars(self.result), **values})

    def _add(
        self,
        code: FindingCode,
        severity: Severity,
        message: str,
        file: str = "",
        figures: dict[str, float] | None = None,
        pictures: list[Picture] | None = None,
    ) -> None:
        rounded = {name: round(float(value), 4) for name, value in (figures or {}).items()}
        self.findings.append(Finding(code, severity, str(self.song.folder), message, file, rounded, self.split))
        if pictures:
            self.result.pictures[code, file] = pictures

    def _read(self) -> Iterator[tuple[str, _File]]:
        song = self.song
        for name, path in [*song.stems.items(), *song.references.items()]:
            try:
                samples, rate = audio.read(path, sample_rate=None)
            except AudioError as error:
                reason = str(error).removeprefix(f"{path}: ")
                self._add(_code_of(reason), "error", reason, path.name)
                continue
            file = _File(path.name, rate, files.measure(samples), self._stereo(samples, rate))
            if rate != SAMPLE_RATE:
                message = f"{rate} Hz, will be resampled to {SAMPLE_RATE} Hz"
                self._add("rate", "note", message, path.name, {"sample_rate_hz": rate})
            if file.measures.peak_dbfs > SILENCE_DBFS and name in (*STEMS, MIXTURE):
                content = np.ascontiguousarray(samples).data
                self.result.digests[name] = hashlib.sha256(content).digest()
            self._alone(name, file, samples)
            yield name, file

    @staticmethod
    def _stereo(samples: np.ndarray, rate: int) -> np.ndarray:
        return audio.to_stereo(audio.resample(samples, rate, SAMPLE_RATE))

    def _alone(self, name: str, file: _File, samples: np.ndarray) -> None:
        """What a file shows by itself."""
        measures, settings = file.measures, self.settings
        if measures.peak_dbfs <= SILENCE_DBFS:
            message = f"silent (peak at or under {SILENCE_DBFS:g} dBFS)"
            self._add("silence", "note" if name in STEMS else "warning", message, file.name)
            return
        if remark := programme.remark(file.stereo, SAMPLE_RATE):
            self._add("no-programme", "note", remark, file.name)
        seconds = samples.shape[1] / file.rate
        rate = measures.clipped_runs / max(seconds / 60, 1 / 60)
        if rate > settings.clipped_runs_per_minute:
            self._clipping(name, file, samples, rate)
        if abs(measures.offset) > 10 ** (settings.dc_dbfs / 20):
            level = 20 * np.log10(abs(measures.offset))
            message = f"a constant offset of {measures.offset:+.4f} of full scale ({level:.1f} dBFS)"
            self._add("dc", "warning", message, file.name, {"dc_dbfs": level, "offset": measures.offset})
        first, stop = measures.longest_silence
        if name not in STEMS and (stop - first) / file.rate >= settings.silence_seconds:
            start, length = first / file.rate, (stop - first) / file.rate
            message = f"{length:.1f} s of silence from {_clock(start)}"
            figures = {"silence_seconds": length, "start_seconds": start}
            picture = Picture(
                "Level of the mixture over time.",
                "Time, s",
                "Level, dBFS",
                [levels_over_time(name, samples, file.rate)],
            )
            self._add("silence", "warning", message, file.name, figures, [picture])

    def _clipping(self, name: str, file: _File, samples: np.ndarray, per_minute: float) -> None:
        measures = file.measures
        message = (
            f"clipped at {measures.clip_dbfs:.2f} dBFS: {measures.clipped_runs} runs of equal samples at the peak,"
            f" {per_minute:.0f} a minute"
        )
        figures = {
            "clipped_runs": measures.clipped_runs,
            "clipped_samples": measures.clipped_samples,
            "clipped_runs_per_minute": per_minute,
            "clip_dbfs": measures.clip_dbfs,
        }
        start = max(measures.clip_at - _SHOWN_AROUND, 0)
        part = samples[:, start : measures.clip_at + 2 * _SHOWN_AROUND]
        channel = part[int(np.argmax(np.abs(part).max(axis=1)))]
        times = 1000 * (start - measures.clip_at + np.arange(len(channel))) / file.rate
        place = measures.clip_at / file.rate
        picture = Picture(
            f"The waveform at the longest run, which begins at {place:.3f} s ({_clock(place)}).",
            "Time from the start of the run, ms",
            "Amplitude",
            [Curve(name, times, channel, marked=True)],
        )
        # records are clipped on purpose, stems are not
        severity: Severity = "warning" if name in STEMS else "note"
        self._add("clipping", severity, message, file.name, figures, [picture])

    def _lengths(self, read: dict[str, _File]) -> None:
        lengths = {file.name: file.stereo.shape[1] / SAMPLE_RATE for file in read.values()}
        if max(lengths.values()) - min(lengths.values()) > self.settings.length_seconds:
            listed = ", ".join(f"{name} {length:.2f} s" for name, length in lengths.items())
            figures = {"longest_seconds": max(lengths.values()), "shortest_seconds": min(lengths.values())}
            message = f"lengths differ ({listed}): shorter files are taken to end in silence"
            self._add("length", "warning", message, "", figures)

    def _equal_channels(self, read: dict[str, _File]) -> None:
        equal = [file.name for file in read.values() if file.measures.equal_channels]
        if equal:
            listed = "two equal channels" if len(equal) == 1 else f"two equal channels: {', '.join(equal)}"
            self._add("dual-mono", "note", listed, equal[0] if len(equal) == 1 else "", {"files": len(equal)})

    def _spectra(self, signals: dict[str, np.ndarray], read: dict[str, _File]) -> None:
        measured = spectra.measure(signals)
        self.result.features.update(labels.features(measured))
        powers = dict(zip(measured.names, measured.powers, strict=True))
        for name, power in powers.items():
            limit = files.band_limit_hz(power, measured.levels.shape[1])
            # a file at a lower rate than the library's ends where its rate says
            if limit is not None and limit < CODED_HZ and limit < 0.42 * read[name].rate:
                self.result.band_limits_hz[read[name].name] = limit
        self._band_limits(powers, read)
        self._bleed(measured, read)

    def _band_limits(self, powers: dict[str, np.ndarray], read: dict[str, _File]) -> None:
        limits = self.result.band_limits_hz
        names = {file.name: name for name, file in read.items()}
        for file, limit in limits.items():
            if limit >= self.settings.band_limit_hz:
                continue
            curve = level_over_frequency(names[file], powers[names[file]], HZ_PER_BIN)
            caption = "The average spectrum, and where it ends."
            picture = Picture(caption, "Frequency, kHz", "Level, dB", [curve], limit / 1000)
            message = f"its spectrum ends at {limit / 1000:.1f} kHz, as if it had come from a lower sample rate"
            self._add("band-limit", "warning", message, file, {"band_limit_hz": limit}, [picture])
        coded = {file: limit for file, limit in limits.items() if limit >= self.settings.band_limit_hz}
        if coded:
            listed = ", ".join(f"{file} {limit / 1000:.1f} kHz" for file, limit in coded.items())
            message = f"spectra end steeply, as MP3 and AAC leave them: {listed}"
            self._add("band-limit", "note", message, "", {"band_limit_hz": min(coded.values())})

    def _bleed(self, measured: SongSpectra, read: dict[str, _File]) -> None:
        for found in bleed.find(measured):
            if found.level_db < self.settings.bleed_db - _BLEED_NOTE_DB:
                continue
            strong = found.level_db >= self.settings.bleed_db
            later = f", {found.delay_samples} samples later" if found.delay_samples > 0 else ""
            message = f"has {found.source} in it at {found.level_db:.1f} dB{later}"
            figures = {"bleed_db": found.level_db, "delay_samples": found.delay_samples, "clearness": found.clearness}
            curves = [levels_over_time(name, read[name].stereo, SAMPLE_RATE) for name in (found.target, found.source)]
            caption = f"Levels over time: where {found.target} pauses, {found.source} is what remains."
            pictures = [Picture(caption, "Time, s", "Level, dBFS", curves)] if strong else None
            severity: Severity = "warning" if strong else "note"
            self._add("bleed", severity, message, read[found.target].name, figures, pictures)

    def _sum(self, signals: dict[str, np.ndarray], read: dict[str, _File]) -> None:
        stems = {name: signals[name] for name in STEMS if name in signals}
        found = sums.compare(stems, signals[MIXTURE])
        mixture = read[MIXTURE].name
        if found is None:
            if read[MIXTURE].measures.peak_dbfs <= SILENCE_DBFS < max(read[n].measures.peak_dbfs for n in stems):
                self._add("other-mixture", "error", "silent, and its stems are not", mixture)
            return
        figures = {
            "residual_db": found.residual_db,
            "best_residual_db": found.best_residual_db,
            "followed_residual_db": found.followed_residual_db,
        }
        self.result.figures.update({name: round(value, 2) for name, value in figures.items()})
        if len(stems) < len(self.song.stems) or found.followed_residual_db < self.settings.mixture_residual_db:
            pass
        elif found.followed_residual_db >= sums.UNRELATED_DB:
            message = (
                f"has nothing in common with the sum of the stems: the residual is {found.followed_residual_db:.1f} dB"
            )
            self._add("other-mixture", "error", message, mixture, figures, [_residual(stems, signals[MIXTURE], found)])
            return
        else:
            message = (
                f"without the stems, a residual of {found.followed_residual_db:.1f} dB is left of it with the gain that"
                f" fits best at each moment, {found.residual_db:.1f} dB with one gain"
            )
            severity: Severity = "error" if found.followed_residual_db >= _SPOILT_DB else "warning"
            picture = _residual(stems, signals[MIXTURE], found)
            self._add("mixture-residual", severity, message, mixture, figures, [picture])
        for fault in found.faults:
            self._fault(fault, found, read, stems, signals[MIXTURE])

    def _fault(
        self,
        fault: sums.Fault,
        found: sums.Sum,
        read: dict[str, _File],
        stems: dict[str, np.ndarray],
        mixture: np.ndarray,
    ) -> None:
        name, settings = fault.stem or MIXTURE, self.settings
        against = "its stems" if fault.stem is None else f"the {MIXTURE}"
        file = read[name].name
        residual = {"residual_db": found.residual_db}
        pictures = [_residual(stems, mixture, found)]
        if fault.inverted:
            self._add("polarity", "error", f"its polarity is inverted against {against}", file, residual, pictures)
            return
        sign = 1 if fault.stem is None else -1
        curves = [
            Curve(
                stem, np.array([time for time, _ in points]), sign * np.array([lag for _, lag in points]), marked=True
            )
            for stem, points in found.delays.items()
            if points and fault.stem in (None, stem)
        ]
        caption = f"Delay against {against}, over the song."
        pictures.insert(0, Picture(caption, "Time, s", "Delay, samples", curves, least_range=_DELAY_RANGE))
        delay, drift = fault.delay_samples, fault.drift_ppm
        if abs(drift) >= settings.drift_ppm:
            message = f"its delay against {against} grows by {drift:+.1f} millionths: {delay} samples at the start"
            figures = {"drift_ppm": drift, "delay_samples": delay, **residual}
            self._add("drift", "error", message, file, figures, pictures)
        elif abs(delay) >= settings.delay_samples:
            word = "later" if delay > 0 else "earlier"
            message = f"{abs(delay)} samples ({1000 * abs(delay) / SAMPLE_RATE:.2f} ms) {word} than in {against}"
            if fault.stem is None:
                message = message.replace("than in", "than")
            self._add("delay", "error", message, file, {"delay_samples": delay, **residual}, pictures)

    def _fingerprint(self, signals: dict[str, np.ndarray]) -> Fingerprint | None:
        if not self.settings.fingerprints or not any(name in signals for name in (*STEMS, MIXTURE)):
            return None
        if MIXTURE in signals:
            return fingerprint(signals[MIXTURE], SAMPLE_RATE)
        return fingerprint(np.sum([signals[name] for name in STEMS if name in signals], axis=0), SAMPLE_RATE)


def _code_of(reason: str) -> FindingCode:
    """The kind of what :func:`fxnorm.io.audio.read` refuses."""
    if reason.startswith("truncated"):
        return "truncated"
    return "not-finite" if reason.startswith(("holds NaN", "a peak of")) else "unreadable"


def _residual(stems: dict[str, np.ndarray], mixture: np.ndarray, found: sums.Sum) -> Picture:
    """Levels of the mixture, of the sum of the stems as they are, and of the difference."""
    gain = 10 ** (found.gain_db / 20) if np.isfinite(found.gain_db) else 1.0
    summed = np.float32(gain) * np.sum(list(stems.values()), axis=0)
    curves = [
        levels_over_time(MIXTURE, mixture, SAMPLE_RATE),
        levels_over_time("sum of the stems", summed, SAMPLE_RATE),
        levels_over_time("what remains", mixture - summed, SAMPLE_RATE),
    ]
    caption = "Levels over time: what remains is far under the mixture where stems add up."
    return Picture(caption, "Time, s", "Level, dBFS", curves)


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"

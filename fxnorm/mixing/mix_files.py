"""Stems in files to a mix in a file, its parts and the report on it: what the command does, for users of the library as
well."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.io import audio
from fxnorm.io.files import whole_folder
from fxnorm.mixing import parts as parts_folder
from fxnorm.mixing.delivery import DeliveredMix, write
from fxnorm.mixing.mixer import Mixer, refuse_unusable
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.reference import MatchedMix, Reference, ReferenceMatch, check_reference, delivered_mix
from fxnorm.mixing.report import MeasuredStem, describe, measure_stems
from fxnorm.mixing.shares import TrackSignals
from fxnorm.mixing.treatment import Measured
from fxnorm.models.network import Progress


@dataclass(frozen=True)
class PartsOut:
    """Where the parts of a mix go (:mod:`fxnorm.mixing.parts`).

    Attributes:
        folder: is made; an older one of parts is replaced.
        mixer: what the Mixer is called in the description.
        session: also write a REAPER project.
        tracks: stem and gain in dB of each track of a session, by file, for the description.
        shares: the tracks as they are in their stems, whose shares of the mix shall be written as well.
    """

    folder: Path
    mixer: str
    session: bool = False
    tracks: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    shares: TrackSignals | None = None


@dataclass(frozen=True)
class FileMix:
    """A mix that was written.

    Attributes:
        mixer: what mixed it.
        stems: what was measured of each, by name; none where no report was asked for.
        delivered: the mix as it was delivered.
        sample_rate: of the mix, in Hz.
        parts: the description of its parts, if they were written.
    """

    mixer: Mixer
    stems: dict[str, MeasuredStem]
    delivered: DeliveredMix
    sample_rate: int
    parts: parts_folder.Description | None = None

    @property
    def seconds(self) -> float:
        """Length of the mix."""
        return self.delivered.audio.shape[1] / self.sample_rate

    def report(self) -> dict[str, Any]:
        """What an endpoint reports: sample rate, length and the fields of :class:`fxnorm.mixing.report.MixReport`.

        And ``reference``, of a mix that was brought to a song.
        """
        described = describe(self.stems, self.delivered, self.mixer.recipe.statistics)
        content = {"sample_rate": self.sample_rate, "seconds": self.seconds, **asdict(described)}
        return content if self.match is None else content | {"reference": self.match.model_dump()}

    @property
    def match(self) -> ReferenceMatch | None:
        """What was done to bring it to a song, if there is one."""
        return self.delivered.match if isinstance(self.delivered, MatchedMix) else None


def mix_files(
    mixer: Mixer,
    stems: Mapping[str, str | Path],
    options: MixOptions,
    output: Path,
    progress: Progress | None = None,
    parts: PartsOut | None = None,
    reference: Reference | None = None,
    reported: bool = True,
) -> FileMix:
    """Read stems, mix them and write the mix, and perhaps its parts.

    Args:
        mixer: the Mixer.
        stems: audio files of any format that is read, or ``s3://BUCKET/KEY``, under the names vocals, bass, drums,
            other; any may be missing.
        options: of the mix; the format is that of the output's suffix.
        output: the file to write.
        progress: called with the fraction that is done.
        parts: where parts go, if they shall be written.
        reference: a song that the mix is brought to.
        reported: measure the stems for :meth:`FileMix.report`.

    Raises:
        AudioError: a stem cannot be read, or no mix can be made of them.
        ModelError: the network's mix is not finite, or no sum of parts where they are asked for.
        OutputError: the mix or its parts cannot be written.
    """
    sources = {stem: str(path) for stem, path in stems.items()}
    return mix_samples(mixer, read_stems(stems), options, output, progress, parts, sources, reference, reported)


def read_stems(stems: Mapping[str, str | Path]) -> dict[str, np.ndarray]:
    """Stems by name, (1 or 2 channels, samples) at 44.1 kHz, from files or ``s3://`` addresses.

    Raises:
        AudioError: one cannot be read.
    """
    return {stem: audio.read(source)[0] for stem, source in stems.items()}


def mix_samples(
    mixer: Mixer,
    samples: dict[str, np.ndarray],
    options: MixOptions,
    output: Path,
    progress: Progress | None = None,
    parts: PartsOut | None = None,
    sources: Mapping[str, str] | None = None,
    reference: Reference | None = None,
    reported: bool = True,
) -> FileMix:
    """As :func:`mix_files`, of stems that were read already.

    Args:
        mixer: the Mixer.
        samples: by stem, (1 or 2 channels, samples) at 44.1 kHz. The dictionary is empty afterwards: each stem's memory
            is free as soon as it is normalized, if nobody else holds it.
        options: of the mix.
        output: the file to write.
        progress: called with the fraction that is done.
        parts: where parts go, if they shall be written.
        sources: where each stem is from, for the description of the parts.
        reference: a song that the mix is brought to.
        reported: measure the stems for :meth:`FileMix.report`.
    """
    check_reference(reference, options)
    mixer = mixer.keeping(options.keep)
    measured = {}
    if reported:
        refuse_unusable(samples)
        measured = measure_stems(samples)
    if parts is not None:
        made = _mix_with_parts(mixer, samples, sources or {}, options, output, progress, parts, reference)
        delivered, description = made
    else:
        delivered, description = _mixed(mixer, samples, options, progress, reference), None
        write(output, delivered.audio, options.sample_rate, options.bits)
    return FileMix(mixer, measured, delivered, options.sample_rate, description)


def _mixed(
    mixer: Mixer,
    samples: dict[str, np.ndarray],
    options: MixOptions,
    progress: Progress | None,
    reference: Reference | None,
) -> DeliveredMix:
    mix = mixer.mix(
        samples, SAMPLE_RATE, bool(options.dry), options.seed, progress=progress, song=options.song, taken=True
    )
    return delivered_mix(mix, options, mixer.recipe.statistics, reference, overwrite=True)


def _mix_with_parts(
    mixer: Mixer,
    samples: dict[str, np.ndarray],
    sources: Mapping[str, str],
    options: MixOptions,
    output: Path,
    progress: Progress | None,
    out: PartsOut,
    reference: Reference | None,
) -> tuple[DeliveredMix, parts_folder.Description]:
    before = {stem: Measured(audio) for stem, audio in samples.items()}
    mix, contributions = mixer.mix_parts(
        samples, bool(options.dry), options.seed, progress, song=options.song, tracks=out.shares
    )
    delivered = delivered_mix(mix, options, mixer.recipe.statistics, reference, overwrite=True)
    del mix
    share_files: dict[str, str] = {}
    if out.shares is not None:
        share_files = parts_folder.share_files(dict(zip(out.shares.files, out.shares.stems, strict=True)))
    with whole_folder(out.folder, parts_folder.CONTENTS.refuse_others) as folder:
        description = parts_folder.write(
            folder,
            delivered,
            contributions,
            before,
            options,
            out.shares,
            mixer=out.mixer,
            network=mixer.network.config,
            sources=dict(sources),
            tracks={
                file: parts_folder.TrackShare(stem=stem, gain_db=round(gain, 4), file=share_files.get(file))
                for file, (stem, gain) in out.tracks.items()
            },
            reference=delivered.match if isinstance(delivered, MatchedMix) else None,
        )
        del contributions
        if out.session:
            parts_folder.write_session(folder, description)
        write(output, delivered.audio, options.sample_rate, options.bits)
    return delivered, description

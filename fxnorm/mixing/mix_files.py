"""Stems in files to a mix in a file, and the report on it: what the command does, for users of the library as well."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.io import audio
from fxnorm.io.files import whole_file
from fxnorm.mixing.delivery import DeliveredMix, deliver, encode
from fxnorm.mixing.mixer import Mixer
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.report import describe, measure_stems
from fxnorm.models.network import Progress


@dataclass(frozen=True)
class FileMix:
    """A mix that was written.

    Attributes:
        mixer: what mixed it.
        stems: by name, (1 or 2 channels, samples) at 44.1 kHz, as they were read.
        delivered: the mix as it was delivered.
        sample_rate: of the mix, in Hz.
    """

    mixer: Mixer
    stems: dict[str, np.ndarray]
    delivered: DeliveredMix
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Length of the mix."""
        return self.delivered.audio.shape[1] / self.sample_rate

    def report(self) -> dict[str, Any]:
        """What an endpoint reports: sample rate, length and the fields of :class:`fxnorm.mixing.report.MixReport`."""
        described = describe(measure_stems(self.stems), self.delivered, self.mixer.recipe.statistics)
        return {"sample_rate": self.sample_rate, "seconds": self.seconds, **asdict(described)}


def mix_files(
    mixer: Mixer, stems: Mapping[str, str | Path], options: MixOptions, output: Path, progress: Progress | None = None
) -> FileMix:
    """Read stems, mix them and write the mix.

    Args:
        mixer: the Mixer.
        stems: audio files of any format that is read, or ``s3://BUCKET/KEY``, under the names vocals, bass, drums,
            other; any may be missing.
        options: of the mix; the format is that of the output's suffix.
        output: the file to write.
        progress: called with the fraction that is done.

    Raises:
        AudioError: a stem cannot be read, or no mix can be made of them.
        ModelError: the network's mix is not finite.
        OutputError: the mix cannot be written.
    """
    samples = {stem: audio.read(source)[0] for stem, source in stems.items()}
    mix = mixer.mix(samples, SAMPLE_RATE, options.dry, options.seed, progress=progress, song=options.song)
    delivered = deliver(mix, options.delivery, mixer.recipe.statistics)
    content = encode(delivered.audio, options.sample_rate, output.suffix.lower(), options.bits)
    with whole_file(output) as temporary:
        temporary.write_bytes(content)
    return FileMix(mixer, samples, delivered, options.sample_rate)

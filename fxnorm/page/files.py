"""A file of a session: received in pieces under a name of the server's own, then read as a recording."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel

from fxnorm.constants import SAMPLE_RATE
from fxnorm.data.recordings import Take
from fxnorm.effects import loudness
from fxnorm.errors import AudioError
from fxnorm.io import audio
from fxnorm.io.folders import is_foreign_path
from fxnorm.page.limits import Limits
from fxnorm.page.refusal import Refused
from fxnorm.sessions.recordings import Recording
from fxnorm.sessions.table import TABLE_FILE

Kind = Literal["track", "reference", "zip", "table"]

WAVEFORM = 240
"""Values of a track's waveform."""

_ZIP = ".zip"
_FULL = 255  # what full scale is in a waveform


class Facts(BaseModel):
    """What is measured of a track.

    Attributes:
        channels: 1 or 2.
        sample_rate: of the file, in Hz.
        seconds: its length.
        loudness_lufs: integrated (ITU-R BS.1770-4); None for one that never passes the absolute loudness gate.
        peak_dbfs: the highest sample.
        waveform: the highest samples of :data:`WAVEFORM` stretches of equal length, 255 at full scale.
    """

    channels: int
    sample_rate: int
    seconds: float
    loudness_lufs: float | None
    peak_dbfs: float
    waveform: list[int]

    @classmethod
    def of(cls, samples: np.ndarray, sample_rate: int) -> Self:
        """Of a track (1 or 2 channels, samples) at 44.1 kHz whose file has another rate perhaps."""
        level = loudness.measure(samples, SAMPLE_RATE)
        return cls(
            channels=len(samples),
            sample_rate=sample_rate,
            seconds=round(samples.shape[1] / SAMPLE_RATE, 3),
            loudness_lufs=round(level, 2) if np.isfinite(level) else None,
            peak_dbfs=round(audio.peak_dbfs(samples), 2),
            waveform=waveform(samples, WAVEFORM),
        )


class SessionFile(BaseModel):
    """A file.

    Attributes:
        id: what requests call it; of digits and letters.
        name: what the browser calls it, a label.
        bytes: its size.
        kind: what it is taken for.
        received: how many bytes are here.
        problem: why it cannot be used.
        facts: what was measured, once it was listened to.
    """

    id: str
    name: str
    bytes: int
    kind: Kind
    received: int = 0
    problem: str | None = None
    facts: Facts | None = None

    @property
    def is_whole(self) -> bool:
        """Whether all of it is here."""
        return self.received == self.bytes

    @property
    def stored_name(self) -> str:
        """What the server calls it."""
        return self.id + PurePosixPath(self.name).suffix.lower()

    def as_json(self) -> dict[str, object]:
        """As the page reads it."""
        content = self.model_dump(exclude={"facts"})
        facts = {} if self.facts is None else self.facts.model_dump(exclude={"waveform"})
        return content | {"listened": self.facts is not None} | facts

    def recording(self, folder: Path, limits: Limits, noted: Callable[[Facts], None] | None = None) -> Recording:
        """The audio of a whole file, whose errors have its name and no path.

        Args:
            folder: the server's folder of the session's files.
            limits: of its length.
            noted: is given the facts whenever it was read.
        """
        path = folder / self.stored_name

        def read() -> np.ndarray:
            if limits.tried_formats:
                content, _ = audio.decode(path.read_bytes(), self.name, limits=limits.decoding)
                rate = self._length(path)[1]
            else:
                rate = self._checked_rate(path, limits)
                with _named(self.name, path):
                    content = audio.read(path)[0]
            if noted is not None:
                noted(Facts.of(content, rate))
            return content

        def take() -> Take:
            with _named(self.name, path):
                return Take(audio.time_reference(path), lambda: self._length(path))

        return Recording(read, take)

    def _checked_rate(self, path: Path, limits: Limits) -> int:
        """The rate of a file that is within the limits, before it is decoded."""
        samples, rate = self._length(path)
        lowest, highest = audio.RATES
        if not lowest <= rate <= highest:
            raise AudioError(f"{self.name}: {rate} Hz, expected a sample rate from {lowest} to {highest} Hz")
        if samples > limits.seconds * rate:
            raise AudioError(f"{self.name}: {samples / rate:.0f} s, expected at most {limits.seconds:g} s")
        return rate

    def _length(self, path: Path) -> tuple[int, int]:
        with _named(self.name, path):
            return audio.length(path)


def kind_of(name: str, is_reference: bool, limits: Limits) -> Kind:
    """What a file is taken for, by its name.

    Raises:
        Refused: it is nothing that the page has a use for.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if not is_foreign_path(name):
        if suffix in limits.suffixes:
            return "reference" if is_reference else "track"
        if suffix == _ZIP and not is_reference:
            return "zip"
        if PurePosixPath(name).name == TABLE_FILE and not is_reference:
            return "table"
    expected = ", ".join(limits.suffixes)
    raise Refused(415, f"{name}: no audio; expected a file that ends in {expected}")


def waveform(samples: np.ndarray, values: int) -> list[int]:
    """The highest samples of so many stretches of audio (channels, samples), 255 at full scale and above."""
    edges = np.linspace(0, samples.shape[1], values + 1).astype(int)
    stretches = (samples[:, start:stop] for start, stop in itertools.pairwise(edges))
    found = [float(np.abs(stretch).max(initial=0.0)) for stretch in stretches]
    return [min(_FULL, round(_FULL * value)) for value in found]


@contextlib.contextmanager
def _named(name: str, path: Path) -> Iterator[None]:
    """Errors within the block call the file by its label."""
    try:
        yield
    except AudioError as error:
        raise AudioError(f"{name}: {str(error).removeprefix(f'{path}: ')}") from error

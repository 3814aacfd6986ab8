"""Collections of room impulse responses: read from a folder, or synthesized where there are none.

A synthetic impulse response is exponentially decaying noise, independent on both sides, which is the model of a diffuse
sound field after its early reflections (J. A. Moorer, "About this reverberation business", 1979).
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.data.dataset import is_audio, plain_name
from fxnorm.errors import AudioError, DatasetError, SettingsError
from fxnorm.io import audio
from fxnorm.io.files import whole_folder
from fxnorm.io.folders import entries, files_below

REVERBERATION_RT60 = 2.0
"""Seconds; the published impulse responses for training stems last 2 to 4 s."""

PRE_REVERBERATION_RT60 = 1.0
"""Seconds; those for dry recordings last under 1.5 s."""

_REVERB, _PRE_REVERB = "reverb", "pre_reverb"
_SUFFIXES = (".wav", ".flac")
_SYNTHESIZED = 8  # responses of one synthesized collection
_MOST_LISTED = 3
_LONGEST_SECONDS, _MOST_BYTES = 300.0, 2 * 10**9  # of a folder, which may have come with a Mixer from elsewhere

_log = logging.getLogger(__name__)


class ImpulseResponses:
    """Named impulse responses at 44.1 kHz, in the order of their names.

    Attributes:
        names: file names without suffix, sorted.
        responses: float32 arrays (1 or 2 channels, samples), one for each name.
    """

    def __init__(self, names: Sequence[str], responses: Sequence[np.ndarray]) -> None:
        """Keep ``responses`` under ``names``.

        Raises:
            DatasetError: there is none, or one of them is silent.
        """
        if not names:
            raise DatasetError("impulse responses: expected at least one, found none")
        for name, response in zip(names, responses, strict=True):
            audio.check(response, f"impulse response {name}")
            if not response.any():
                raise DatasetError(f"impulse response {name}: holds only silence")
        order = sorted(range(len(names)), key=lambda index: names[index])
        self.names = tuple(names[index] for index in order)
        self.responses = tuple(np.asarray(responses[index], dtype=np.float32) for index in order)

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "ImpulseResponses":
        """All WAV and FLAC files of ``folder``, mono or stereo, brought to 44.1 kHz.

        Raises:
            DatasetError: the folder is missing or holds no such file, two have one name, or one of them is silent.
            AudioError: a file is not readable, longer than 5 minutes, or all together take more than 2 GB.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder of impulse responses")
        files = [path for path in entries(folder) if path.suffix.lower() in _SUFFIXES]
        unread = [path for path in files_below(folder) if is_audio(path) and path not in files]
        not_read = ", ".join(str(path.relative_to(folder)) for path in unread[:_MOST_LISTED])
        if not files:
            description = f"{not_read}, which is not read" if unread else "none"
            raise DatasetError(f"{folder}: expected WAV or FLAC files of impulse responses, found {description}")
        if unread:
            _log.warning("%s: %d files are no WAV or FLAC directly in it: not read: %s", folder, len(unread), not_read)
        _refuse_equal_names(files)
        responses: list[np.ndarray] = []
        for path in files:
            responses.append(_read(path, _MOST_BYTES - sum(response.nbytes for response in responses)))
        return cls([path.stem for path in files], responses)

    @classmethod
    def synthesized(
        cls, rt60: float = REVERBERATION_RT60, count: int = _SYNTHESIZED, seed: int = 0
    ) -> "ImpulseResponses":
        """``count`` stereo responses that fall by 60 dB in ``rt60`` seconds; each channel has an energy of 1.

        Raises:
            SettingsError: ``rt60`` or ``count`` is not positive.
        """
        if rt60 <= 0 or count <= 0:
            raise SettingsError(f"synthesized impulse responses: rt60 {rt60} and count {count} must be positive")
        names = [f"synthesized-{rt60:g}s-{index}" for index in range(count)]
        return cls(names, [_decaying_noise(rt60, np.random.default_rng([seed, index])) for index in range(count)])

    def choose(self, random: np.random.Generator) -> np.ndarray:
        """One of the responses: float32 (1 or 2 channels, samples)."""
        return self.responses[random.integers(len(self))]

    def save(self, folder: str | Path) -> None:
        """Write every response into ``folder`` as a 32-bit float WAV, which :meth:`from_folder` gives back exactly.

        Raises:
            OutputError: the folder holds something already.
        """
        with whole_folder(Path(folder)) as temporary:
            for name, response in zip(self.names, self.responses, strict=True):
                audio.write(temporary / f"{name}.wav", response, SAMPLE_RATE, subtype="FLOAT")


def folders_in(folder: Path) -> tuple[Path | None, Path | None]:
    """The folders ``reverb`` and ``pre_reverb`` of a folder.

    The folder may be missing, or lack one of them; that is None, and impulse responses are synthesized instead.

    Raises:
        DatasetError: there is audio elsewhere in the folder, which would not be used.
    """
    present = {plain_name(path.name): path for path in entries(folder)} if folder.is_dir() else {}
    folders = present.pop(_REVERB, None), present.pop(_PRE_REVERB, None)
    for path in present.values():
        if any(is_audio(file) for file in [path, *files_below(path)]):
            expected = f"{_REVERB} and {_PRE_REVERB} of {folder}"
            raise DatasetError(f"{path}: expected impulse responses in the folders {expected}")
    return folders


def _refuse_equal_names(files: Sequence[Path]) -> None:
    """Names without suffix and case, because a Mixer keeps each response under its name, on any file system."""
    by_name: dict[str, Path] = {}
    for path in files:
        other = by_name.setdefault(plain_name(path.stem), path)
        if other is not path:
            raise DatasetError(
                f"{path.parent}: expected one impulse response of each name, found {other.name} and {path.name}"
            )


def _read(path: Path, most_bytes: int) -> np.ndarray:
    """A response (1 or 2 channels, samples) of a file that may be untrusted.

    The limits hold for the decoded samples: silence in a FLAC file decodes to a thousand times the file's size.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from error
    return audio.decode(content, str(path), limits=audio.DecodingLimits(_LONGEST_SECONDS, most_bytes))[0]


def _decaying_noise(rt60: float, random: np.random.Generator) -> np.ndarray:
    samples = max(1, round(rt60 * SAMPLE_RATE))
    decay = 10 ** (-3 * np.arange(samples) / samples)
    noise = random.standard_normal((2, samples)) * decay
    # the first sample stands for the direct path: the highest of all, so that time 0 lies there
    noise[:, 0] = np.abs(noise).max() * 1.01
    return (noise / np.linalg.norm(noise, axis=1, keepdims=True)).astype(np.float32)

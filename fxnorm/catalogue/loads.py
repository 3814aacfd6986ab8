"""How much memory the mix of a session takes, by which as many are mixed at a time as there is room for."""

from pathlib import Path, PurePosixPath

from fxnorm.catalogue.find import File, Found
from fxnorm.errors import FxnormError
from fxnorm.io import audio, object_store

PROCESS_BYTES = 0.75e9
"""Of a process with PyTorch and a Mixer that mixes a short song."""
SECOND_BYTES = 2.5e6
"""More for each second of a song: one of ten minutes takes 1.9 GB, with its parts (benchmarks/parts.py)."""

_SHARE = 0.9  # of the free memory
_LOSSLESS, _PACKED, _LOSSY = 132_300.0, 50_000.0, 12_000.0
"""Bytes of a second where only a file's size is known: mono, 24 bit at 44.1 kHz; half of that; 96 kbit/s."""
_BYTES_A_SECOND = {".flac": _PACKED, ".wv": _PACKED, ".ape": _PACKED, ".alac": _PACKED, ".caf": _PACKED}
_PLAIN = frozenset((".wav", ".aiff", ".aif", ".aifc", ".w64", ".rf64", ".bwf", ".au", ".snd"))


def load_of(session: Found, source: str) -> float:
    """Bytes that a session takes, by the header of its largest file, or by the size of that in a store."""
    longest = max(session.files, key=lambda file: file.size / _bytes_a_second(file), default=None)
    if longest is None:
        return PROCESS_BYTES
    seconds = longest.size / _bytes_a_second(longest)
    if not object_store.is_address(source):
        try:
            seconds = audio.duration_seconds(Path(source, session.name, longest.name))
        except (FxnormError, OSError):  # whoever mixes it says what is wrong
            return PROCESS_BYTES
    return PROCESS_BYTES + SECOND_BYTES * seconds


def usable(available: float) -> float:
    """Bytes that mixes may take together, of those that are free."""
    return _SHARE * available


def _bytes_a_second(file: File) -> float:
    suffix = PurePosixPath(file.name).suffix.lower()
    return _LOSSLESS if suffix in _PLAIN else _BYTES_A_SECOND.get(suffix, _LOSSY)

"""Small datasets in the layouts that their publishers use, with what makes them difficult to import."""

import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import soundfile
import yaml

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from tests import encoded

SONGS = {
    "train": ("A Classic Education - NightOwl", "Leaf - Wicked", "Animal_rockshow"),
    "test": ("Al James - Schoolboy Facination", "Guns N' Róses & Co., 99 - Ça va?"),
}
"""Of MUSDB18: an erratum in each split, a song for validation in another spelling, a name with signs."""


def recording(number: int, seconds: float = 1.0, channels: int = 2, rate: int = SAMPLE_RATE) -> np.ndarray:
    """Noise (channels, samples) below -12 dBFS in steps of 16 bits, so that WAV files of 16 bits and sums are exact."""
    generator = np.random.default_rng(number)
    samples = generator.integers(-(2**13), 2**13, (channels, round(seconds * rate)))
    return (samples / 2**15).astype(np.float32)


def write(path: Path, samples: np.ndarray, rate: int = SAMPLE_RATE) -> Path:
    """A file of 16 bits; its format follows the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples.T, rate, subtype="PCM_16")
    return path


def apple_double(path: Path) -> None:
    """What macOS leaves beside a file that it copies to another file system."""
    path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + bytes(78))


def stems(number: int, seconds: float = 1.0) -> dict[str, np.ndarray]:
    """Four stems and their mixture."""
    found = {stem: recording(4 * number + index, seconds) for index, stem in enumerate(STEMS)}
    return {**found, MIXTURE: np.sum(list(found.values()), axis=0)}


def song(folder: Path, number: int, seconds: float = 1.0) -> dict[str, np.ndarray]:
    """A song of four stems and its mixture as WAV files."""
    found = stems(number, seconds)
    for name, samples in found.items():
        write(folder / f"{name}.wav", samples)
    return found


def musdb18_hq(root: Path) -> dict[str, dict[str, np.ndarray]]:
    """MUSDB18-HQ, one song of which has lost a file; its songs' audio by name."""
    made = {}
    for number, (split, name) in enumerate((split, name) for split, names in SONGS.items() for name in names):
        made[name] = song(root / split / name, number)
        apple_double(root / split / name / "bass.wav")
    song(root / "train/Broken - Song", 50)
    (root / "train/Broken - Song/bass.wav").unlink()
    (root / "train/__MACOSX").mkdir()
    return made


def musdb18(root: Path, seconds: float = 0.7) -> dict[str, dict[str, np.ndarray]]:
    """MUSDB18, one file a song."""
    made = {}
    for number, (split, name) in enumerate((split, name) for split, names in SONGS.items() for name in names[:2]):
        made[name] = stems(number, seconds)
        path = root / split / f"{name}.stem.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        encoded.stem_mp4(path, [made[name][group] for group in (MIXTURE, "drums", "bass", "other", "vocals")])
        apple_double(path)
    return made


def dsd100(root: Path) -> dict[str, dict[str, np.ndarray]]:
    """DSD100, with one song that lacks its mixture."""
    made = {}
    for number, (split, name) in enumerate((("Dev", "051 - ANiMAL - Clinic A"), ("Test", "001 - Leaf - Wicked"))):
        made[name] = song(root / "Sources" / split / name, number)
        mixture = root / "Mixtures" / split / name / "mixture.wav"
        mixture.parent.mkdir(parents=True)
        shutil.move(root / "Sources" / split / name / "mixture.wav", mixture)
    song(root / "Sources/Dev/052 - A - B", 9)
    (root / "Sources/Dev/052 - A - B/mixture.wav").unlink()
    return made


SLAKH_STEMS = {
    "S00": {"inst_class": "Guitar", "is_drum": False, "midi_program_name": "Distortion Guitar", "program_num": 30},
    "S01": {"inst_class": "Bass", "is_drum": False, "midi_program_name": "Synth Bass 1", "program_num": 38},
    "S02": {"inst_class": "Drums", "is_drum": True, "midi_program_name": "Drums", "program_num": 128},
    "S03": {"inst_class": "Piano", "is_drum": False, "midi_program_name": "Bright Acoustic Piano", "program_num": 1},
    "S04": {"inst_class": "Pipe", "is_drum": False, "midi_program_name": "Flute", "program_num": 73},
}
"""Of a song of Slakh; the last one has no audio."""


def slakh(root: Path, tracks: Iterable[str], suffix: str = "flac", rate: int = SAMPLE_RATE) -> dict[str, np.ndarray]:
    """Songs of Slakh by their folders within ``root``; all have the same audio, which is given by stem."""
    made = {key: recording(index, 1.0, 1, rate) for index, key in enumerate(list(SLAKH_STEMS)[:-1])}
    for track in tracks:
        folder = root / track
        for key, samples in made.items():
            write(folder / "stems" / f"{key}.{suffix}", samples, rate)
        write(folder / f"mix.{suffix}", np.sum(list(made.values()), axis=0), rate)
        (folder / "MIDI").mkdir()
        (folder / "all_src.mid").write_bytes(b"MThd")
        metadata = {
            "UUID": "1a81ae092884234f3264e2f45927f00a",
            "audio_dir": "stems",
            "normalized": True,
            "overall_gain": 0.18270259567062658,
            "stems": {
                key: {**stem, "audio_rendered": key in made, "plugin_name": "elektrik_guitar.nkm"}
                for key, stem in SLAKH_STEMS.items()
            },
        }
        (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata))
        apple_double(folder / "metadata.yaml")
    return made


def archive(path: Path, files: Mapping[str, bytes]) -> Path:
    """A zip archive with these files, compressed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def everything(root: Path) -> dict[str, object]:
    """All files in a folder, hidden ones too, as they are."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() or path.is_symlink()
    }

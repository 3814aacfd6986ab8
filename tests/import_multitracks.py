"""Small datasets in the layouts of MoisesDB, MedleyDB and Cambridge-MT's multitracks, with the traps of real ones."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fxnorm.constants import SAMPLE_RATE
from fxnorm.data.importers.plan import PlannedSong
from fxnorm.io import audio
from tests.conftest import noise

SECONDS = 1.0
LONGER = 1.2
"""Seconds of a recording that is longer than the others."""


def write(path: Path, samples: np.ndarray, sample_rate: int = SAMPLE_RATE, subtype: str = "FLOAT") -> np.ndarray:
    """Write a recording, and give it back as it is read."""
    audio.write(path, samples, sample_rate, subtype)
    return audio.to_stereo(audio.read(path)[0])


def total(recordings: Sequence[np.ndarray], gains: Sequence[float] = ()) -> np.ndarray:
    """The sum of recordings (channels, samples), each padded to the longest."""
    longest = max(samples.shape[1] for samples in recordings)
    weights = gains or [1.0] * len(recordings)
    padded = [gain * audio.pad_to(samples, longest) for gain, samples in zip(weights, recordings, strict=True)]
    return np.asarray(np.sum(padded, axis=0), dtype=np.float32)


def difference_db(first: np.ndarray, second: np.ndarray) -> float:
    """Energy of the difference relative to that of ``second``, in dB; the shorter one is padded."""
    longest = max(first.shape[1], second.shape[1])
    first, second = audio.pad_to(first, longest), audio.pad_to(second, longest)
    energy = float(np.sum(np.square(first - second, dtype=np.float64)))
    return float(10 * np.log10(max(energy, 1e-30) / float(np.sum(np.square(second, dtype=np.float64)))))


def groups(song: PlannedSong) -> dict[str, str]:
    """name -> group of the recordings that are used."""
    return {member.name: member.group for member in song.members}


def left_out(song: PlannedSong) -> dict[str, str]:
    """name -> reason of the recordings that are not used."""
    return {item.name: item.reason for item in song.left_out}


# MoisesDB

MOISES_SONG = "0a1b2c3d-0000-4000-8000-000000000001"
MOISES_INSTRUMENTAL = "f9e8d7c6-0000-4000-8000-000000000002"


def moises_track(number: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"id": f"track-{number:02d}", "trackType": kind, "extension": "wav", "has_bleed": False, **more}


@dataclass
class MoisesDB:
    """The dataset, and the recordings of each song by the names that they have in it."""

    root: Path
    songs: Path
    recordings: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


def moisesdb(root: Path, provider: bool = True) -> MoisesDB:
    """Two songs and a folder that is none.

    The first song has two ``drums`` among its stems, a mono file, one at 48 kHz, recordings of 1.0 and 1.2 s, two
    tracks of one type, a click track, percussion with and without pitch, a tuba, a track with bleed, labels with blanks
    and capitals, and an unknown label; the second has no vocals.
    """
    made = MoisesDB(root, root / "moisesdb_v0.1" if provider else root)
    _moises_song(
        made,
        MOISES_SONG,
        {"artist": "The Fixtures", "song": "All Traps", "genre": "rock"},
        [
            ("vocals", [moises_track(1, "lead_female_singer"), moises_track(2, "background_vocals", has_bleed=True)]),
            ("drums", [moises_track(3, "kick_drum"), moises_track(4, "overheads")]),
            ("bass", [moises_track(5, "bass_guitar"), moises_track(6, "tuba_(bass_of_brass)")]),
            ("drums", [moises_track(7, "Snare Drum"), moises_track(8, "snare_drum")]),
            (
                "percussion",
                [
                    moises_track(9, "a-tonal_percussion_(claps,_shakers,_congas,_cowbell_etc)"),
                    moises_track(10, "pitched percussion (mallets, glockenspiel, ...)"),
                ],
            ),
            ("Other Keys", [moises_track(11, "synth_pad", extra="ignored"), moises_track(12, "laser harp")]),
            ("other", [moises_track(13, "click_track")]),
        ],
    )
    _moises_song(
        made,
        MOISES_INSTRUMENTAL,
        {"artist": "The Fixtures", "song": "No Words"},
        [("drums", [moises_track(1, "drum_machine")]), ("guitar", [moises_track(2, "acoustic_guitar")])],
    )
    write(made.songs / "no song" / "vocals/track.wav", noise(0.1))
    (made.songs / "._data.json").write_bytes(b"\0\5\x16\7")
    return made


def _moises_song(
    made: MoisesDB, name: str, head: Mapping[str, str], stems: Sequence[tuple[str, list[dict[str, Any]]]]
) -> None:
    folder = made.songs / name
    recordings: dict[str, np.ndarray] = {}
    for stem, tracks in stems:
        for track in tracks:
            file = f"{stem}/{track['id']}.{track['extension']}"
            number = int(track["id"][-2:])
            seconds = LONGER if number % 4 == 0 else SECONDS
            rate = 48_000 if number == 5 else SAMPLE_RATE
            samples = noise(seconds, 0.1, seed=number, channels=1 if number == 3 else 2)
            recordings[file] = write(folder / file, samples, rate)
            write(folder / stem / f"._{track['id']}.wav", noise(0.01)).sum()
    metadata = {**head, "stems": [{"id": f"s{i}", "stemName": s, "tracks": t} for i, (s, t) in enumerate(stems)]}
    (folder / "data.json").write_text(json.dumps(metadata), encoding="utf-8")
    made.recordings[name] = recordings


# MedleyDB

WEIGHTED, APART, LIVE = "TheFixtures_Weighted", "TheFixtures_MetadataApart", "TheFixtures_LiveRoom"
WEIGHTS = {1: 1.0, 2: 0.2, 3: 0.7, 4: 1.3, 5: 0.5, 6: 1.1}


@dataclass
class MedleyDB:
    """The dataset, the folder with metadata apart, and each song's stems, raw tracks and mixture."""

    root: Path
    metadata: Path
    stems: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)
    raw: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    mixtures: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def coefficients(self) -> Path:
        return self.metadata.parent.parent / "resources/mixing_coefficients_version2.yaml"

    def metadata_of(self, song: str) -> Path:
        """The file of a song's metadata, wherever it lies."""
        return next(path for place in (self.root, self.metadata) for path in place.rglob(f"{song}_METADATA.yaml"))

    def change(self, song: str, **changes: Any) -> None:
        """Change keys of a song's metadata."""
        path = self.metadata_of(song)
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump({**content, **changes}), encoding="utf-8")


def medleydb(root: Path, coefficients: bool = True) -> MedleyDB:
    """Three songs: in ``V1`` two, in ``V2`` one whose metadata lie apart, as in a clone of the git repository.

    The first has two stems of ``other`` with coefficients 1.0 and 0.2, a synthesizer that is the bass, one without a
    label, a list of instruments, quoted booleans and AppleDouble files; the second has bare booleans and stems without
    names of files; the third's whole band is in a stem.
    """
    made = MedleyDB(root / "MedleyDB", root / "medleydb/data/Metadata")
    _medley_song(
        made, made.root / "V1", WEIGHTED,
        {
            1: {"component": "", "instrument": "clean electric guitar"},
            2: {"component": "", "instrument": "piano"},
            3: {"component": "bass", "instrument": "synthesizer"},
            4: {"component": "", "instrument": "Unlabeled"},
            5: {"component": "melody", "instrument": ["male singer", "female singer"]},
            6: {"component": "", "instrument": "drum set"},
        },
        has_bleed="no", excerpt="yes",
    )  # fmt: skip
    _medley_song(
        made, made.root / "V1", LIVE,
        {
            1: {"component": "melody", "instrument": "female singer"},
            2: {"component": "bass", "instrument": "cello"},
            3: {"component": "", "instrument": "Main System"},
        },
        has_bleed="yes",
    )  # fmt: skip
    _medley_song(
        made, made.root / "V2", APART,
        {
            1: {"component": "melody", "instrument": "double bass"},
            2: {"component": "", "instrument": ["trumpet", "drum set"]},
            3: {"component": "", "instrument": "darbuka"},
        },
        has_bleed=False, named=False, metadata=made.metadata,
    )  # fmt: skip
    if coefficients:
        content = {
            WEIGHTED: {"manual": {}, "audio": {1: 1.1, 2: 0.3, 3: 0.8, 4: 1.4, 5: 0.6, 6: 1.2},
                       "stft": {1: 0.9, 2: 0.1, 3: 0.6, 4: 1.2, 5: 0.4, 6: 1.0}},
            LIVE: {"audio": dict.fromkeys((1, 2, 3), 4.0), "stft": dict.fromkeys((1, 2, 3), 4.0)},
            APART: {"manual": {number: WEIGHTS[number] for number in (1, 2, 3)}, "audio": {1: 9.0}, "stft": {1: 9.0}},
        }  # fmt: skip
        made.coefficients.parent.mkdir(parents=True, exist_ok=True)
        made.coefficients.write_text(yaml.safe_dump(content), encoding="utf-8")
    return made


def _medley_song(
    made: MedleyDB,
    place: Path,
    name: str,
    stems: Mapping[int, dict[str, Any]],
    named: bool = True,
    metadata: Path | None = None,
    **head: Any,
) -> None:
    folder = place / name
    made.stems[name], made.raw[name] = {}, {}
    described: dict[str, dict[str, Any]] = {}
    for number, stem in stems.items():
        file = f"{name}_STEM_{number:02d}.wav"
        seconds = LONGER if number == 2 else SECONDS
        samples = noise(seconds, 0.2, seed=len(name) * 100 + number)
        made.stems[name][number] = write(folder / f"{name}_STEMS" / file, samples, subtype="PCM_16")
        raw = {}
        for track in (1, 2):
            raw_file = f"{name}_RAW_{number:02d}_{track:02d}.wav"
            raw_samples = noise(SECONDS, 0.1, seed=len(name) * 100 + number * 10 + track, channels=track)
            made.raw[name][raw_file] = write(folder / f"{name}_RAW" / raw_file, raw_samples, subtype="PCM_16")
            instrument = "male singer" if number == 4 and track == 2 else stem["instrument"]
            raw[f"R{track:02d}"] = {"filename": raw_file, "instrument": instrument}
        described[f"S{number:02d}"] = {**stem, **({"filename": file} if named else {}), "raw": raw}
    (folder / f"{name}_STEMS/._{name}_STEM_01.wav").write_bytes(b"\0\5\x16\7")
    mixture = total(list(made.stems[name].values()), [WEIGHTS[number] for number in stems])
    made.mixtures[name] = write(folder / f"{name}_MIX.wav", mixture)
    content = {
        "artist": "The Fixtures", "title": name.partition("_")[2], "version": 1.2, "website": [],
        "mix_filename": f"{name}_MIX.wav", "stem_dir": f"{name}_STEMS", "raw_dir": f"{name}_RAW",
        "stems": described, **head,
    }  # fmt: skip
    target = folder if metadata is None else metadata
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{name}_METADATA.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")


# Cambridge-MT

ZIPPED, UNPACKED = "TheFixtures_Zipped", "TheFixtures_Unpacked"
TRACKS = (
    "01_Kick.wav", "02_Snare.wav", "07_OverheadL.wav", "08_OverheadR.wav", "09_Room.wav", "10_BassDI.wav",
    "12_ElecGtr1DI.wav", "45_LeadVox.wav", "46_LeadVoxDT2.wav", "47_LeadVox_Alt.wav", "50_Click.wav",
)  # fmt: skip


@dataclass
class Cambridge:
    """A folder of songs, and their tracks by name."""

    root: Path
    archive: Path
    tracks: dict[str, np.ndarray]


def cambridge(root: Path) -> Cambridge:
    """A zip archive with one more level, ``__MACOSX`` and a preview of the mix, and an unpacked song."""
    unpacked = root / f"{UNPACKED}_Full" / f"{UNPACKED}_Full"
    tracks = {}
    for number, name in enumerate(TRACKS):
        seconds = LONGER if name.startswith("45") else SECONDS
        rate = 96_000 if name.startswith("10") else SAMPLE_RATE
        tracks[name] = write(unpacked / name, noise(seconds, 0.1, seed=number, channels=1), rate, "PCM_24")
    (root / f"{UNPACKED}_Full/.DS_Store").write_bytes(b"\0")
    archive = root / f"{ZIPPED}_Full.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as content:
        for name in TRACKS:
            content.write(unpacked / name, f"{ZIPPED}_Full/{ZIPPED}_Full/{name}")
            content.writestr(f"__MACOSX/{ZIPPED}_Full/{ZIPPED}_Full/._{name}", b"\0\5\x16\7")
        content.writestr(f"{ZIPPED}_Full/{ZIPPED}_Full_Preview.mp3", b"no audio")
        content.writestr(f"{ZIPPED}_Full/Read me.txt", "Mix this.")
    return Cambridge(root, archive, tracks)


def zip_of(path: Path, entries: Mapping[str, bytes]) -> Path:
    """An archive with these names, whatever they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return path

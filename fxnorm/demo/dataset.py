"""Writes the demo's dataset: small wet and dry multitracks, MUSDB18's layout, and impulse responses.

Songs are composed (:mod:`fxnorm.demo.composition`), played (:mod:`~fxnorm.demo.rendering`) and mixed
(:mod:`~fxnorm.demo.mixing`) by rule, each from its own seed, so that the same seed gives the same bytes however the
work is spread. All files are 16-bit WAV at 44.1 kHz; a mixture is the exact sum of its wet stems, as in MUSDB18.
"""

import contextlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data import parallel
from fxnorm.data.demo_names import FIRST_WORDS, SECOND_WORDS
from fxnorm.demo import impulse_responses, mixing, rendering
from fxnorm.demo.composition import compose
from fxnorm.errors import DatasetError, SettingsError
from fxnorm.io import outputs
from fxnorm.io.files import whole_file, whole_folder, write_json

DEFAULT_SONGS = {"train": 16, "val": 2, "test": 3, "dry": 2}
"""Number of songs of each subset of a demo dataset by default; dry songs are for testing."""

MARKER = "demo.json"
"""The file in a dataset's root that marks it as rendered by this module, with its seed and sizes."""

_FOLDERS = {"train": "wet/train", "val": "wet/val", "test": "wet/test", "dry": "dry/test"}
_SONG_FILES = rf"(?:{'|'.join((*STEMS, MIXTURE))})\.wav"
_SONG = outputs.Contents("a demo song", _SONG_FILES)
_SHORTEST_SONG_SECONDS = 4.0
_RESPONSES = {"reverb": ("hall", 6, (1.9, 3.6)), "pre_reverb": ("room", 4, (0.3, 1.2))}
"""Name, number and range of the RT60 in seconds of the impulse responses in each folder; the files are a tenth
longer."""

_CONTENTS = outputs.Contents(
    "a demo dataset",
    rf"{re.escape(MARKER)}|(?:{'|'.join(_FOLDERS.values())})/[^/]+/{_SONG_FILES}"
    rf"|impulse_responses/(?:{'|'.join(_RESPONSES)})/[^/]+\.wav|\.gitignore",
)

_PRE_DELAY_SECONDS = (0.005, 0.03)
_RESPONSE_PEAK = 0.9
_RAW_PEAK_DBFS = (-18.0, -3.0)  # of dry stems: recorded as it came
_GOLDEN_RATIO = 0.618034  # multiples of it, modulo 1, cover 0 to 1 evenly however many are taken

_NAMES, _ENERGIES, _SONGS, _IMPULSE_RESPONSES = range(4)  # first keys of the random generators


@dataclass(frozen=True)
class _Job:
    """One song to be made."""

    subset: str
    index: int
    seed: int
    seconds: tuple[float, float]
    folder: Path


def render_dataset(
    root: Path,
    seed: int = 0,
    songs: Mapping[str, int] | None = None,
    seconds: tuple[float, float] = (20.0, 30.0),
    workers: int | None = None,
) -> None:
    """Render a demo dataset into ``root``; rendered there again, it is replaced song by song.

    Args:
        root: folder that receives ``wet/{train,val,test}/SONG/``, ``dry/test/SONG/`` and
            ``impulse_responses/{reverb,pre_reverb}/``. The mixture of a dry song is what the engineer of the wet songs
            makes of it.
        seed: not negative; the same seed and sizes give the same bytes, whatever ``workers`` is.
        songs: how many songs for each of train, val, test and dry; none for a subset that is not named.
            The default is :data:`DEFAULT_SONGS`.
        seconds: shortest and longest duration of a song in seconds.
        workers: processes that render at the same time; the default is one for each processor.

    Raises:
        FxnormError: an optional package that the demo needs is not installed.
        SettingsError: an unknown subset, or a number or a duration out of range.
        DatasetError: ``root`` holds a dataset that was not rendered here with the same seed and sizes.
        OutputError: ``root`` holds something else, or cannot be written to.
    """
    rendering.check_installed()
    root = Path(root)
    songs = DEFAULT_SONGS if songs is None else songs
    workers = parallel.available_cores() if workers is None else workers
    _check_settings(seed, songs, seconds, workers)
    counts = {subset: songs.get(subset, 0) for subset in DEFAULT_SONGS}
    _claim(root, {"seed": seed, "songs": counts, "seconds": [float(limit) for limit in seconds]})
    _write_impulse_responses(root, seed)
    jobs = [
        _Job(subset, index, seed, seconds, root / _FOLDERS[subset] / _song_name(seed, subset, index))
        for subset, count in counts.items()
        for index in range(count)
    ]
    _write_songs(jobs, min(workers, len(jobs)))


def _check_settings(seed: int, songs: Mapping[str, int], seconds: tuple[float, float], workers: int) -> None:
    if workers < 1:
        raise SettingsError(f"workers: expected 1 or more, found {workers}")
    if seed < 0:
        raise SettingsError(f"seed: expected 0 or more, found {seed}")
    for subset, count in songs.items():
        if subset not in DEFAULT_SONGS:
            raise SettingsError(f"songs: unknown subset {subset!r}, expected {', '.join(DEFAULT_SONGS)}")
        if count < 0:
            raise SettingsError(f"songs: expected 0 or more for {subset}, found {count}")
    if not _SHORTEST_SONG_SECONDS <= seconds[0] <= seconds[1]:
        raise SettingsError(
            f"seconds: expected shortest and longest duration from {_SHORTEST_SONG_SECONDS} up, found {seconds}"
        )


def _claim(root: Path, settings: dict[str, Any]) -> None:
    """Mark ``root`` as this dataset's; refuse it if it holds, or may hold, other data."""
    outputs.check([], [outputs.Folder(root, _refuse_others, whole=False)])
    marker = root / MARKER
    if marker.is_file():
        try:
            existing = json.loads(marker.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DatasetError(f"{marker}: not readable as JSON ({error})") from error
        if existing != settings:
            raise DatasetError(
                f"{root}: holds a demo dataset of other settings, {json.dumps(existing)};"
                " remove it or name another folder"
            )
        return
    write_json(marker, settings)


def _refuse_others(root: Path) -> None:
    folders = [name for name in ("wet", "dry", "impulse_responses") if (root / name).exists()]
    if folders and not (root / MARKER).is_file():
        raise DatasetError(
            f"{root}: holds {' and '.join(folders)}/ without the {MARKER} of a demo dataset; name another folder"
        )
    _CONTENTS.refuse_others(root)


def _song_name(seed: int, subset: str, index: int) -> str:
    """A name no other song of the dataset has: both words change from song to song, the pairs last for 1,600 songs."""
    rng = _generator(seed, _NAMES)
    firsts, seconds = rng.permutation(FIRST_WORDS), rng.permutation(SECOND_WORDS)
    number = index * len(DEFAULT_SONGS) + list(DEFAULT_SONGS).index(subset)
    turn, first = divmod(number, len(firsts))
    name = f"{firsts[first]} {seconds[(first + turn) % len(seconds)]}"
    return name if turn < len(seconds) else f"{name} {turn // len(seconds) + 1}"


def _write_songs(jobs: list[_Job], workers: int) -> None:
    with (
        tqdm(total=len(jobs), desc="demo songs", unit="song") as progress,
        contextlib.closing(parallel.each(_write_song, jobs, workers, "demo songs")) as done,
    ):
        for index, future in done:
            future.result()
            progress.set_postfix_str(jobs[index].folder.name)
            progress.update()


def _write_song(job: _Job) -> None:
    subset_index = list(DEFAULT_SONGS).index(job.subset)
    composer, player, engineer, recordist = (
        _generator(job.seed, _SONGS, subset_index, job.index, person) for person in range(4)
    )
    energy = float((_generator(job.seed, _ENERGIES, subset_index).random() + job.index * _GOLDEN_RATIO) % 1)
    score = compose(composer, energy, float(composer.uniform(*job.seconds)))
    tracks = rendering.render(score, player)
    wet = {stem: _to_int16(audio) for stem, audio in mixing.mix(score, tracks, engineer).items()}
    # stays within 16 bits: the mix is limited to -1 dBFS and rounding adds at most two steps
    mixture = np.stack(list(wet.values())).sum(axis=0, dtype=np.int32).astype(np.int16)
    stems = _record(tracks, recordist, mixture.shape) if job.subset == "dry" else wet
    with whole_folder(job.folder, _SONG.refuse_others) as folder:
        for name, samples in {**stems, MIXTURE: mixture}.items():
            _write_wav(folder / f"{name}.wav", samples)


def _record(
    tracks: Mapping[str, Mapping[str, np.ndarray]], rng: np.random.Generator, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """The raw stems of a song: its parts added up, both channels alike, at whatever level they were recorded."""
    recorded = {}
    for stem in STEMS:
        audio = sum((track.mean(axis=0, keepdims=True) for track in tracks.get(stem, {}).values()), np.zeros(shape))
        peak = np.abs(audio).max()
        level = 10 ** (rng.uniform(*_RAW_PEAK_DBFS) / 20)
        recorded[stem] = _to_int16(audio * (level / peak) if peak > 0 else audio)
    return recorded


def _write_impulse_responses(root: Path, seed: int) -> None:
    for collection_index, (collection, (name, count, rt60_range)) in enumerate(_RESPONSES.items()):
        for index in range(count):
            rng = _generator(seed, _IMPULSE_RESPONSES, collection_index, index)
            rt60 = rt60_range[0] + (rt60_range[1] - rt60_range[0]) * (index + rng.random()) / count
            response = impulse_responses.synthesize(rng, rt60, rng.uniform(*_PRE_DELAY_SECONDS))
            path = root / "impulse_responses" / collection / f"{name}_{index + 1}_{rt60:.1f}s.wav"
            with whole_file(path) as temporary:
                _write_wav(temporary, _to_int16(response * (_RESPONSE_PEAK / np.abs(response).max())))


def _generator(seed: int, *key: int) -> np.random.Generator:
    """The random generator for one purpose, independent of those for all others."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _to_int16(audio: np.ndarray) -> np.ndarray:
    return np.round(audio * 32768).astype(np.int16)


def _write_wav(path: Path, samples: np.ndarray) -> None:
    buffer = io.BytesIO()  # libsndfile itself does not report why a file cannot be written
    soundfile.write(buffer, samples.T, SAMPLE_RATE, subtype="PCM_16", format="WAV")
    path.write_bytes(buffer.getvalue())

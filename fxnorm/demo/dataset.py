"""Writes rendered datasets: small wet and dry multitracks, MUSDB18's layout, and impulse responses.

Songs are composed (:mod:`fxnorm.demo.composition`), played (:mod:`~fxnorm.demo.rendering`) and mixed
(:mod:`~fxnorm.demo.mixing`) by rule, each from its own seed, so that the same seed gives the same bytes however the
work is spread. That is the style ``demo``; those of :mod:`fxnorm.demo.records` resemble records. All files are 16-bit
WAV at 44.1 kHz; a mixture is the exact sum of its wet stems, as in MUSDB18.
"""

import contextlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm import tqdm

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data import parallel
from fxnorm.data.demo_names import FIRST_WORDS, SECOND_WORDS
from fxnorm.demo import impulse_responses, mixing, records, rendering
from fxnorm.demo.composition import compose
from fxnorm.errors import DatasetError, SettingsError
from fxnorm.io import outputs
from fxnorm.io.files import whole_file, whole_folder, write_json

DEFAULT_SONGS = {"train": 16, "val": 2, "test": 3, "dry": 2}
"""Number of songs of each subset of a demo dataset by default; dry songs are for testing."""

MARKER = "demo.json"
"""The file in a dataset's root that marks it as rendered by this module, with its seed and sizes."""

INDEX = "songs.json"
"""The file beside it that tells genre, tempo and key of each song of the styles other than ``demo``."""

STYLES = ("demo", *records.STYLES)

_FOLDERS = {"train": "wet/train", "val": "wet/val", "test": "wet/test", "dry": "dry/test"}
_SONG_FILES = rf"(?:{'|'.join((*STEMS, MIXTURE))})\.wav"
_SONG = outputs.Contents("a demo song", _SONG_FILES)
_SHORTEST_SONG_SECONDS = 4.0
_RESPONSES = {"reverb": ("hall", 6, (1.9, 3.6)), "pre_reverb": ("room", 4, (0.3, 1.2))}
"""Name, number and range of the RT60 in seconds of the impulse responses in each folder; the files are a tenth
longer."""

_CONTENTS = outputs.Contents(
    "a demo dataset",
    rf"{re.escape(MARKER)}|{re.escape(INDEX)}|(?:{'|'.join(_FOLDERS.values())})/[^/]+/{_SONG_FILES}"
    rf"|impulse_responses/(?:{'|'.join(_RESPONSES)})/[^/]+\.wav|\.gitignore",
)

_PRE_DELAY_SECONDS = (0.005, 0.03)
_RESPONSE_PEAK = 0.9
_RAW_PEAK_DBFS = (-18.0, -3.0)  # of dry stems: recorded as it came
_GOLDEN_RATIO = 0.618034  # multiples of it, modulo 1, cover 0 to 1 evenly however many are taken

_NAMES, _ENERGIES, _SONGS, _IMPULSE_RESPONSES, _RECORDS = range(5)  # first keys of the random generators


@dataclass(frozen=True)
class _Job:
    """One song to be made."""

    subset: str
    index: int
    seed: int
    seconds: tuple[float, float]
    folder: Path
    style: str
    fonts: tuple[Path, ...]


def render_dataset(
    root: Path,
    seed: int = 0,
    songs: Mapping[str, int] | None = None,
    seconds: tuple[float, float] = (20.0, 30.0),
    workers: int | None = None,
    style: str = "demo",
    soundfonts: Sequence[Path] = (),
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
        style: one of :data:`STYLES`.
        soundfonts: what a style other than ``demo`` plays with, instead of its own.

    Raises:
        FxnormError: an optional package that the demo needs is not installed, or a soundfont is missing.
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
    settings: dict[str, Any] = {"seed": seed, "songs": counts, "seconds": [float(limit) for limit in seconds]}
    fonts = _fonts(style, soundfonts)
    if style != "demo":
        settings |= {"style": style, "soundfonts": {path.name: records.digest(path) for path in fonts}}
    _claim(root, settings)
    _write_impulse_responses(root, seed)
    jobs = [
        _Job(subset, index, seed, seconds, root / _FOLDERS[subset] / _name(style, seed, subset, index), style, fonts)
        for subset, count in counts.items()
        for index in range(count)
    ]
    notes = _write_songs(jobs, min(workers, len(jobs)))
    if style != "demo":
        write_json(
            root / INDEX, {str(job.folder.relative_to(root)): note for job, note in zip(jobs, notes, strict=True)}
        )


def _fonts(style: str, named: Sequence[Path]) -> tuple[Path, ...]:
    if style not in STYLES:
        raise SettingsError(f"style: unknown style {style!r}, expected {', '.join(STYLES)}")
    if style != "demo":
        return records.soundfonts(style, tuple(named))
    if named:
        raise SettingsError("soundfonts: the style demo has one of its own; expected another style")
    return ()


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


def _name(style: str, seed: int, subset: str, index: int) -> str:
    return _song_name(seed, subset, index) if style == "demo" else f"{style} {seed} {subset} {index + 1:04d}"


def _song_name(seed: int, subset: str, index: int) -> str:
    """A name no other song of the dataset has: both words change from song to song, the pairs last for 1,600 songs."""
    rng = _generator(seed, _NAMES)
    firsts, seconds = rng.permutation(FIRST_WORDS), rng.permutation(SECOND_WORDS)
    number = index * len(DEFAULT_SONGS) + list(DEFAULT_SONGS).index(subset)
    turn, first = divmod(number, len(firsts))
    name = f"{firsts[first]} {seconds[(first + turn) % len(seconds)]}"
    return name if turn < len(seconds) else f"{name} {turn // len(seconds) + 1}"


def _write_songs(jobs: list[_Job], workers: int) -> list[dict[str, Any]]:
    """Write the songs; what there is to note of each."""
    notes: list[dict[str, Any]] = [{}] * len(jobs)
    with (
        tqdm(total=len(jobs), desc="demo songs", unit="song") as progress,
        contextlib.closing(parallel.each(_write_song, jobs, workers, "demo songs")) as done,
    ):
        for index, future in done:
            notes[index] = future.result()
            progress.set_postfix_str(jobs[index].folder.name)
            progress.update()
    return notes


def _write_song(job: _Job) -> dict[str, Any]:
    tracks, mixed, recordist, note = _make_demo_song(job) if job.style == "demo" else _make_record(job)
    wet = {stem: _to_int16(audio) for stem, audio in mixed.items()}
    # stays within 16 bits: the mix is limited below full scale; dither and rounding add a few steps
    mixture = np.stack(list(wet.values())).sum(axis=0, dtype=np.int32).astype(np.int16)
    stems = _record(tracks, recordist, mixture.shape) if job.subset == "dry" else wet
    with whole_folder(job.folder, _SONG.refuse_others) as folder:
        for name, samples in {**stems, MIXTURE: mixture}.items():
            _write_wav(folder / f"{name}.wav", samples)
    return note


_Made = tuple[Mapping[str, Mapping[str, np.ndarray]], Mapping[str, np.ndarray], np.random.Generator, dict[str, Any]]
"""Stems' parts as they were played, wet stems, the recordist's generator, and what there is to note."""


def _make_demo_song(job: _Job) -> _Made:
    subset_index = list(DEFAULT_SONGS).index(job.subset)
    composer, player, engineer, recordist = (
        _generator(job.seed, _SONGS, subset_index, job.index, person) for person in range(4)
    )
    energy = float((_generator(job.seed, _ENERGIES, subset_index).random() + job.index * _GOLDEN_RATIO) % 1)
    score = compose(composer, energy, float(composer.uniform(*job.seconds)))
    tracks = rendering.render(score, player)
    return tracks, mixing.mix(score, tracks, engineer), recordist, {}


def _make_record(job: _Job) -> _Made:
    subset_index = list(DEFAULT_SONGS).index(job.subset)
    composer, player, engineer, recordist = (
        _generator(job.seed, _RECORDS, STYLES.index(job.style), subset_index, job.index, person) for person in range(4)
    )
    seconds = float(composer.uniform(*job.seconds))
    song, raw, wet = records.render(job.style, (composer, player, engineer), seconds, job.fonts)
    note = {"genre": song.genre, "tempo": round(song.tempo, 3), "key": song.key_name, "mode": song.mode}
    return {stem: {stem: audio} for stem, audio in raw.items()}, wet, recordist, note


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

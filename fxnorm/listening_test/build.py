"""The test as a folder of static files, for any web server or a plain file system, and the key that goes with it.

Nothing in the folder shows which system a mix is from: files have drawn names, are written in the order of these, hold
audio alone, and are all of one length. A reference that is one of the mixes, as the stems' sum is input_sum, is not
offered: its title would give away which mix that is. That keeps it from those who listen, also with a browser's
developer tools open, and not from those who take the audio apart: stems can be added up.

Audio lies in scripts, as base64, because a page that is opened from a disk may load nothing else.
"""

import base64
import hashlib
import itertools
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import jinja2
import numpy as np
from tqdm import tqdm

from fxnorm.constants import SAMPLE_RATE
from fxnorm.data import dataset
from fxnorm.data.dataset import Song
from fxnorm.effects.levels import amplitude, is_silent
from fxnorm.errors import DatasetError, SettingsError
from fxnorm.evaluation.excerpts import loudest_start
from fxnorm.evaluation.metrics import true_peak_dbtp
from fxnorm.io import audio, outputs
from fxnorm.io.files import whole_folder, write_json
from fxnorm.io.folders import entries
from fxnorm.io.names import is_address_of, song_of
from fxnorm.listening_test import excerpts
from fxnorm.listening_test.formats import (
    ATTRIBUTES,
    DEVICES,
    KEY_FORMAT,
    RESULT_FORMAT,
    ROLES,
    VERSION,
    Excerpt,
    Key,
    Trial,
)

_MOST_MIXES = 9  # the number keys 1 to 9 choose a mix
_ENVELOPE_COLUMNS = 600
_SUM = "sum"
_REFERENCE_TITLES = {_SUM: "Sum of the stems", "vocals": "Vocals", "bass": "Bass", "drums": "Drums", "other": "Other"}
_SAME_DB = -40.0  # a mix and a reference that differ by less, levels aside, are taken as one
_PAGE = Path(__file__).with_name("page")
_PAGE_FILES = ("listening_test.js", "listening_test.css", "licences.txt")


@dataclass(frozen=True)
class BuildSettings:
    """What can be chosen about a test."""

    title: str = "Listening test"
    systems: Sequence[str] = ()
    """Which mixes of each song are compared; all there are, if none is named."""
    seconds: float = 25.0
    """Length of the excerpts; a shorter song is heard whole."""
    start_seconds: float | None = None
    """Where the excerpts begin; the default is each song's loudest part."""
    song_starts: Mapping[str, float] = field(default_factory=dict)
    """The same for single songs, by their names."""
    repeats: int = 1
    """How many songs are rated a second time."""
    loudness: float = -23.0
    """LUFS of every mix, less if a true peak would pass -1 dBTP."""
    minimum_listening_seconds: float = 5.0
    """How long each mix has to be heard before the next song."""
    post_to: str | None = None
    """URL that answers are posted to; they can be downloaded all the same."""
    seed: int | None = None
    """Draws identifiers and repeated songs; the default is drawn too, so that nobody can guess it. For tests only: one
    that was chosen can be found by trying, as all that is drawn from it is in the page, and then nothing is blind."""


@dataclass(frozen=True)
class SongMixes:
    """The mixes of one song, and its stems as references, if there are any."""

    name: str
    """With the folder of its split, if there is one; the song's own name, whatever its folder is called."""
    mixes: dict[str, Path]
    """system -> file"""
    stems: Song | None = None


@dataclass(frozen=True)
class Built:
    """What was built: the key, what held the loudness down, if anything did, and which references are not offered."""

    key: Key
    limited_by: str | None
    withheld: dict[str, str]
    """title of a reference -> the mix that it is"""


def build(mixes: Path, output: Path, key_file: Path, settings: BuildSettings, stems: Path | None = None) -> Built:
    """Write the test of ``mixes`` into the folder ``output``, and its key into ``key_file``.

    Args:
        mixes: ``SONG/SYSTEM.flac`` (or .wav, .mp3), also within folders of splits, as ``fxnorm evaluate`` writes them.
        output: a folder that does not exist yet.
        key_file: a .json file outside of that folder, which does not exist either.
        settings: of the test.
        stems: a dataset that has the songs' stems, which are offered as references; none without it.

    Raises:
        DatasetError: mixes, systems or stems are missing, or something is there already.
        SettingsError: a setting does not fit.
        AudioError: audio that cannot be used.
    """
    _check(settings, output, key_file)
    outputs.check([mixes, stems], [outputs.Folder(output)], [key_file])
    songs = find_mixes(mixes, settings.systems, stems)
    unknown = set(settings.song_starts) - {song.name for song in songs}
    if unknown:
        raise SettingsError(f"--start {min(unknown)}: no such song; found {', '.join(song.name for song in songs)}")
    if settings.repeats > len(songs):
        raise SettingsError(f"--repeats {settings.repeats}: there are {len(songs)} songs")
    progress = tqdm(songs, "choose", unit="song", dynamic_ncols=True)
    chosen_excerpts = {song.name: _excerpt(song, settings) for song in progress}
    levels = _measure(songs, chosen_excerpts, settings.loudness)
    key, references = _draw(songs, chosen_excerpts, levels, settings)
    with whole_folder(output) as folder:
        pictures = _write_audio(songs, key, references, folder / "audio")
        for name in _PAGE_FILES:
            (folder / name).write_bytes((_PAGE / "built" / name).read_bytes())
        page = _render(settings, key, references, pictures)
        (folder / "index.html").write_text(page, encoding="utf-8")
        write_json(key_file, key.model_dump(mode="json"))
    withheld = {_REFERENCE_TITLES[name]: mix for name, mix in levels.withheld.items()}
    return Built(key, levels.limited_by, withheld)


def find_mixes(root: Path, systems: Sequence[str] = (), stems: Path | None = None) -> list[SongMixes]:
    """The songs below ``root`` and their mixes by ``systems``, with their stems from the dataset ``stems``.

    Raises:
        DatasetError: there are none, a song lacks a system that others have, or its stems are not in the dataset or not
            the only ones of that name.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; expected SONG/SYSTEM.flac (or .wav, .mp3)")
    above = [path for path in entries(root) if path.is_dir()]
    folders = sorted([*above, *(path for folder in above for path in entries(folder) if path.is_dir())])
    named = {(path.parent / song_of(path)).relative_to(root).as_posix(): path for path in folders}
    files_by_song = {name: files for name, path in named.items() if (files := _audio_files(path))}
    if not files_by_song:
        raise DatasetError(f"{root}: expected SONG/SYSTEM.flac (or .wav, .mp3), found none")
    compared = list(dict.fromkeys(systems)) or sorted(set().union(*files_by_song.values()))
    for name, files in files_by_song.items():
        for system in compared:
            if system not in files:
                raise DatasetError(
                    f"{named[name]}: expected a mix {system}.flac (or .wav, .mp3), found {', '.join(files)};"
                    " --system names those to compare"
                )
    if not 2 <= len(compared) <= _MOST_MIXES:
        raise DatasetError(
            f"{root}: expected 2 to {_MOST_MIXES} mixes of each song, found {', '.join(compared)};"
            " --system names those to compare"
        )
    songs = _find_stems(stems, {name: named[name] for name in files_by_song}) if stems else {}
    return [
        SongMixes(name, {system: files[system] for system in sorted(compared)}, songs.get(name))
        for name, files in files_by_song.items()
    ]


def _find_stems(stems: Path, folders: Mapping[str, Path]) -> dict[str, Song]:
    """name -> the song of the dataset ``stems`` that the mixes in a folder are of."""
    by_name: dict[str, list[Song]] = {}
    for song in dataset.songs(stems):
        by_name.setdefault(song.name, []).append(song)
    songs: dict[str, Song] = {}
    taken: dict[str, Path] = {}  # name of a song -> the folder of its mixes
    for name, folder in folders.items():
        song_name = _name_in(by_name, song_of(folder))
        if song_name in taken:
            raise DatasetError(
                f"{stems}: cannot tell whether the stems of {song_name} are those of {taken[song_name]}"
                f" or of {folder}; expected mixes of one split when there are stems"
            )
        if song_name not in by_name:
            raise DatasetError(f"{stems}: expected the stems of {song_name}, found {', '.join(sorted(by_name))}")
        taken[song_name] = folder
        if len(by_name[song_name]) > 1:
            candidates = " and ".join(str(song.folder) for song in by_name[song_name])
            raise DatasetError(f"{stems}: expected the stems of {song_name} once, found {candidates}; name one split")
        songs[name] = by_name[song_name][0]
    return songs


def _name_in(songs: Mapping[str, object], name: str) -> str:
    """The song of that name or, where a folder lost its note of the name, the one song that gets this folder."""
    alike = [song for song in songs if is_address_of(name, song)]
    return name if name in songs or len(alike) != 1 else alike[0]


def _audio_files(folder: Path) -> dict[str, Path]:
    """name -> file; of several formats, the first of the library's order."""
    files = entries(folder)
    suffixes = reversed(audio.AUDIO_SUFFIXES)
    by_preference = [path for suffix in suffixes for path in files if path.suffix.lower() == suffix]
    return dict(sorted((path.stem, path) for path in by_preference))


def _check(settings: BuildSettings, output: Path, key_file: Path) -> None:
    if output.exists():
        raise DatasetError(f"{output}: there is something already; expected the name of a new folder")
    if key_file.exists():
        raise DatasetError(f"{key_file}: there is a key already, without which its answers cannot be read")
    if Path(os.path.realpath(key_file)).is_relative_to(os.path.realpath(output)):
        raise SettingsError(f"{key_file}: the key must not lie in the folder that participants get")
    if settings.post_to is not None and not _takes_answers(settings.post_to):
        raise SettingsError(
            f"--post-to {settings.post_to!r}: expected an http or https URL, or a path on the test's server"
        )
    for option, value, lowest, highest in (
        ("seconds", settings.seconds, 1, 600),
        ("loudness", settings.loudness, -60, 0),
        ("minimum-listening", settings.minimum_listening_seconds, 0, 600),
        ("repeats", settings.repeats, 0, 1000),
    ):
        if not lowest <= value <= highest:  # so that it is no NaN either
            raise SettingsError(f"--{option} {value:g}: expected {lowest} to {highest}")


def _takes_answers(address: str) -> bool:
    """Whether it is the address of something else than the page itself, to which browsers resolve an empty one."""
    try:
        parts = urlparse(address.strip())
    except ValueError:  # brackets that hold no IPv6 address
        return False
    if parts.scheme:
        return parts.scheme in ("http", "https") and bool(parts.netloc)
    return bool(parts.netloc or parts.path)


def _read(song: SongMixes) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Its mixes and its stems, each (2, samples); as long as the shortest mix."""
    mixes = {system: audio.to_stereo(audio.read(path)[0]) for system, path in song.mixes.items()}
    length = min(mix.shape[1] for mix in mixes.values())
    stems = song.stems.read_stems() if song.stems else {}
    return (
        {system: mix[:, :length] for system, mix in mixes.items()},
        {stem: audio.pad_to(audio.to_stereo(samples), length)[:, :length] for stem, samples in stems.items()},
    )


def _excerpt(song: SongMixes, settings: BuildSettings) -> Excerpt:
    """The part of the song that is heard."""
    mixes, _ = _read(song)
    length = next(iter(mixes.values())).shape[1] / SAMPLE_RATE
    seconds = min(settings.seconds, length)
    start = settings.song_starts.get(song.name, settings.start_seconds)
    if start is None:
        start = min(loudest_start(mixes.values(), seconds), length - seconds)
    if not 0 <= start <= length - seconds:
        raise SettingsError(
            f"--start {start:g}: {song.name} lasts {length:.1f} s;"
            f" expected 0 to {length - seconds:.1f} s for an excerpt of {seconds:g} s"
        )
    return Excerpt(start_seconds=start, seconds=seconds)


def _cut(song: SongMixes, excerpt: Excerpt) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Excerpts of the mixes, each at 0 LUFS, and of the references: the stems' sum at 0 LUFS, the stems as in it."""
    mixes, stems = (
        {name: excerpts.cut(samples, excerpt.start_seconds, excerpt.seconds) for name, samples in sounds.items()}
        for sounds in _read(song)
    )
    mixes = {system: mix * excerpts.gain_to_zero(mix, str(song.mixes[system])) for system, mix in mixes.items()}
    if not stems:
        return mixes, {}
    total = np.sum(list(stems.values()), axis=0)
    gain = excerpts.gain_to_zero(total, f"stems of {song.name}")
    sounding = {stem: samples for stem, samples in stems.items() if not is_silent(samples)}
    return mixes, {name: samples * gain for name, samples in {_SUM: total, **sounding}.items()}


@dataclass
class _Levels:
    """Results of a first pass over all excerpts."""

    loudness: float
    limited_by: str | None = None
    references: dict[str, list[str]] = field(default_factory=dict)
    """song -> its references, those that are withheld not among them"""
    withheld: dict[str, str] = field(default_factory=dict)
    """reference -> the mix that it is"""


def _measure(songs: Sequence[SongMixes], chosen_excerpts: Mapping[str, Excerpt], loudness: float) -> _Levels:
    """The loudness of all mixes, and the excerpt whose true peak keeps it from being ``loudness``, if one does.

    A reference that is a mix of one song is withheld from all, so that its absence gives nothing away about any song.
    """
    levels = _Levels(loudness)
    highest: dict[tuple[str, str], float] = {}
    highest_of_references: dict[tuple[str, str], float] = {}
    for song in tqdm(songs, "measure", unit="song", dynamic_ncols=True):
        mixes, references = _cut(song, chosen_excerpts[song.name])
        for system, mix in mixes.items():
            highest[song.name, system] = excerpts.TRUE_PEAK_LIMIT - true_peak_dbtp(mix)
        for name, reference in references.items():
            highest_of_references[song.name, name] = excerpts.TRUE_PEAK_LIMIT - true_peak_dbtp(reference)
            same = [system for system, mix in mixes.items() if _difference_db(mix, reference) < _SAME_DB]
            if same:
                levels.withheld.setdefault(name, f"{same[0]} of {song.name}")
        levels.references[song.name] = list(references)
    for names in levels.references.values():
        names[:] = [name for name in names if name not in levels.withheld]
    offered = {
        (song_name, reference): level
        for (song_name, reference), level in highest_of_references.items()
        if reference not in levels.withheld
    }
    for (song_name, name), level in [*highest.items(), *offered.items()]:
        if level < levels.loudness:
            levels.loudness, levels.limited_by = level, f"{song_name}: {name}"
    return levels


def _difference_db(mix: np.ndarray, reference: np.ndarray) -> float:
    """The energy of what is left of ``reference`` without ``mix`` at the gain that takes most away, in dB of it."""
    one, other = mix.ravel().astype(np.float64), reference.ravel().astype(np.float64)
    left = other - one * (np.dot(one, other) / np.dot(one, one))
    return 10 * math.log10(max(float(np.dot(left, left)), 1e-30) / float(np.dot(other, other)))


def _draw(
    songs: Sequence[SongMixes], chosen_excerpts: Mapping[str, Excerpt], levels: _Levels, settings: BuildSettings
) -> tuple[Key, dict[str, dict[str, str]]]:
    """The key, and for each song the identifiers of its references (name -> identifier)."""
    seed = secrets.randbits(128) if settings.seed is None else settings.seed
    generator = np.random.default_rng(seed)
    numbers = itertools.count()

    def identifier() -> str:
        # a hash, because a generator's outputs, were they published, would give away its state
        return hashlib.sha256(f"{seed} {next(numbers)}".encode()).hexdigest()[:16]

    test = identifier()
    trials, references = {}, {}
    for song in songs:
        mixes = {identifier(): system for system in song.mixes}
        trials[identifier()] = Trial(song=song.name, repeats=None, mixes=mixes)
        references[song.name] = {name: identifier() for name in levels.references[song.name]}
    for name in generator.permutation(list(trials))[: settings.repeats]:
        trials[identifier()] = trials[str(name)].model_copy(update={"repeats": str(name)})
    key = Key(
        format=KEY_FORMAT,
        version=VERSION,
        test=test,
        seed=seed,
        loudness=levels.loudness,
        excerpts=dict(chosen_excerpts),
        trials=trials,
    )
    return key, references


def _write_audio(
    songs: Sequence[SongMixes], key: Key, references: Mapping[str, Mapping[str, str]], folder: Path
) -> dict[str, list[float]]:
    """Write the excerpts under their identifiers; gives one waveform for each song."""
    folder.mkdir()
    pictures = {}
    originals = {trial.song: trial for trial in key.trials.values() if trial.repeats is None}
    gain = np.float32(amplitude(key.loudness))
    for song in tqdm(songs, "write", unit="song", dynamic_ncols=True):
        mixes, stems = _cut(song, key.excerpts[song.name])
        pictures[song.name] = excerpts.envelope(mixes.values(), _ENVELOPE_COLUMNS)
        files = {identifier: mixes[system] for identifier, system in originals[song.name].mixes.items()}
        files |= {identifier: stems[name] for name, identifier in references[song.name].items()}
        for identifier, samples in sorted(files.items()):
            content = base64.b64encode(audio.encode(samples * gain, SAMPLE_RATE, ".flac", "PCM_16")).decode()
            (folder / f"{identifier}.js").write_text(
                f'listeningTestClip("{identifier}","{content}");//', encoding="ascii"
            )
    _make_equally_long(folder)
    return pictures


def _make_equally_long(folder: Path) -> None:
    """Fill up all scripts, whose last line is a comment, to the length of the longest.

    How well audio can be compressed depends on the system, and browsers show how long each file is. The filling is
    noise, which is like compressed audio, because a server that compresses what it sends would take blanks off again:
    so its lengths differ by a few per cent at most.
    """
    files = sorted(folder.iterdir())
    longest = max(path.stat().st_size for path in files)
    for path in files:
        missing = longest - path.stat().st_size
        noise = hashlib.shake_256(path.stem.encode()).digest(missing)
        with open(path, "a", encoding="ascii", newline="\n") as file:
            file.write(f"{base64.b64encode(noise).decode()[:missing]}\n")


def _render(
    settings: BuildSettings,
    key: Key,
    references: Mapping[str, Mapping[str, str]],
    pictures: Mapping[str, list[float]],
) -> str:
    """The page, with what its script has to know."""
    # sorted: the order in which the trials were drawn has the repeats at its end
    trials = [
        {
            "id": identifier,
            "clips": sorted(trial.mixes),
            "references": [
                {"id": clip, "title": _REFERENCE_TITLES[name]} for name, clip in references[trial.song].items()
            ],
            "seconds": key.excerpts[trial.song].seconds,
            "waveform": pictures[trial.song],
        }
        for identifier, trial in sorted(key.trials.items())
    ]
    test: dict[str, Any] = {
        "format": RESULT_FORMAT,
        "version": VERSION,
        "test": key.test,
        "attributes": [{"id": name, **texts} for name, texts in ATTRIBUTES.items()],
        "roles": ROLES,
        "devices": DEVICES,
        "sampleRate": SAMPLE_RATE,
        "minimumListeningSeconds": settings.minimum_listening_seconds,
        "postTo": settings.post_to,
        "trials": trials,
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("index.html").render(
        title=settings.title, test=test, has_sum=any(_SUM in names for names in references.values())
    )

"""Stage 2: every stem brought to the average effects, with the recipe beside it."""

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fxnorm.constants import MIXTURE, SAMPLE_RATE, STEMS
from fxnorm.data import dataset, provenance, published, shards
from fxnorm.data.dataset import Song
from fxnorm.data.parallel import map_songs
from fxnorm.data.splits import read_splits
from fxnorm.data.versions import data_version, made_by
from fxnorm.effects import programme
from fxnorm.effects.impulse_responses import PRE_REVERBERATION_RT60, REVERBERATION_RT60, ImpulseResponses
from fxnorm.errors import DatasetError, OutputError
from fxnorm.io import audio, locks, outputs
from fxnorm.io.files import beside, is_temporary, remove, whole_file, whole_folder
from fxnorm.io.folders import files_below
from fxnorm.normalization.recipe import CONTENTS as RECIPE_CONTENTS
from fxnorm.normalization.recipe import FILES as RECIPE_FILES
from fxnorm.normalization.recipe import RECIPE_FOLDER, Recipe, song_seed
from fxnorm.settings import NormalizeSettings
from fxnorm.statistics import DatasetStatistics

__all__ = ["RECIPE_FOLDER", "gather", "merge", "publish", "run"]

_logger = logging.getLogger(__name__)

_DIGEST_FILE = "digest"
_FLAC_MARK = " flac"
"""At the end of the digest of a song whose files are FLAC, but for those that FLAC cannot hold."""


def _foreign(folder: Path) -> str | None:
    """The first file of a song that was not normalized here, whatever its names; FLAC in a song of WAV is another's."""
    names, marker = outputs.files_in(folder), folder / _DIGEST_FILE
    if not marker.is_file():
        return names[0] if names else None
    if marker.read_text(encoding="utf-8", errors="replace").strip().endswith(_FLAC_MARK):
        return None
    return next((name for name in names if name.endswith(".flac")), None)


_SONG_FILES = rf"(?:{'|'.join((*STEMS, MIXTURE))})\.(?:wav|flac)|{_DIGEST_FILE}"
_SONG = outputs.Contents("a normalized song", _SONG_FILES, _foreign)
_CONTENTS = outputs.Contents(
    "normalized songs",
    rf"{RECIPE_FOLDER}/(?:{RECIPE_FILES})|(?:{'|'.join(dataset.SPLITS)})/[^/]+/(?:{_SONG_FILES})"
    rf"|\.gitignore|{re.escape(shards.SONGS_FILE)}|{re.escape(shards.PART_FILE)}|{re.escape(published.STORED_FILE)}",
)
_WAV = ".wav"
_SUBTYPE = "PCM_24"  # 144 dB: rounds far below anything a -30 LUFS stem holds; what passes full scale is kept as float


def run(
    settings: NormalizeSettings,
    source: Path,
    statistics: Path,
    output: Path,
    impulse_responses: Path | None = None,
    pre_impulse_responses: Path | None = None,
    dry: bool = False,
    plot: Path | None = None,
    workers: int = 0,
    skip_errors: bool = False,
    shard: tuple[int, int] | None = None,
    whole: shards.Whole | None = None,
) -> dict[str, str]:
    """Normalize the songs of a dataset.

    A song that was finished before, from the same files with the same recipe and code, is not done again, as long as
    its normalized files are what they were then; they may have been published meanwhile.

    Args:
        settings: effects, their settings, and the splits to do.
        source: the dataset.
        statistics: the ``.npz`` file of stage 1.
        output: the folder for ``SPLIT/SONG/{stem,mixture}.wav`` (or ``.flac``) and ``recipe``.
        impulse_responses: a folder of impulse responses for the reverberation; synthesized ones otherwise.
        pre_impulse_responses: likewise for the pre-reverb of dry recordings.
        dry: the songs are dry recordings: the pre-reverb comes first.
        plot: a ``.png`` file that shows one song before and after, if wanted.
        workers: processes; 0 for one a core.
        skip_errors: leave out songs that cannot be read instead of stopping at the first.
        shard: (number, of how many), from 1: normalize only this part of the songs.
        whole: what the songs of ``source`` are a part of, where the others are elsewhere; :func:`gather` then puts the
            dataset's version into the recipe.

    Returns:
        the reason for each song that was left out.

    Raises:
        OutputError: ``output`` holds something else than normalized songs, or it or ``plot`` is no place to write to.
    """
    outputs.check_picture(plot)
    outputs.check(
        [source, statistics, impulse_responses, pre_impulse_responses],
        [outputs.Folder(output, _refuse_others, whole=False)],
        [plot],
    )
    splits = read_splits(source, settings.splits) if whole is None else _splits_of_part(source, whole)
    songs = [song for songs_of_split in splits.values() for song in songs_of_split]
    recipe = Recipe(
        DatasetStatistics.load(statistics),
        settings,
        _impulse_responses(impulse_responses, settings.seed, pre=False),
        _impulse_responses(pre_impulse_responses, settings.seed, pre=True),
        data_version(source, songs) if whole is None else {},
    )
    mine = dataset.shard_of(songs, shard)
    sources = provenance.sources_of(source, splits)  # of all shards' songs: their recipes are the same
    with _claimed(output, recipe, sources, splits, shard):
        skipped, digests = _normalize(recipe, splits, mine, output, dry, workers, skip_errors)
        if whole is not None:
            shards.note_part(output, whole, digests)
    usable = [song for song in mine if str(song.folder) not in skipped]
    if plot is not None and usable:
        _plot_one(recipe, usable[0], plot, dry)
    return skipped


def _normalize(
    recipe: Recipe,
    splits: dict[str, list[Song]],
    mine: list[Song],
    output: Path,
    dry: bool,
    workers: int,
    skip_errors: bool,
) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Normalize the songs that are ``mine``; the reason for each that was left out, and hashes of the others."""
    recipe_folder = output / RECIPE_FOLDER
    listing = published.read(output)
    stored = {} if listing is None else listing.songs
    recipe_digest = recipe.stem_digest(recipe_folder, dry)
    skipped: dict[str, str] = {}
    digests: dict[str, dict[str, str]] = {}
    chosen = {song.folder for song in mine}
    for split, songs in splits.items():
        done = _Done(beside(output, "-done"), made_by(__name__), stored.get(split, {}))
        work = functools.partial(
            _normalize_song,
            recipe_folder=recipe_folder,
            recipe_digest=recipe_digest,
            output=output / split,
            dry=dry,
            suffix=f".{recipe.settings.format}",
            done=done,
        )
        part = [song for song in songs if song.folder in chosen]
        done_songs, failures = map_songs(work, part, f"normalize {split}", workers or None, skip_errors)
        for song, reason in failures:
            _remove_song(output / split / song.name)  # what an earlier run made of another file
            skipped[str(song.folder)] = reason
        if failures:
            published.drop(output, {split: [song.name for song, _ in failures]})
        digests[split] = {song.name: digest for song, digest in done_songs}
    return skipped, digests


def _splits_of_part(source: Path, whole: shards.Whole) -> dict[str, list[Song]]:
    """The songs of each split that are here: none of some splits, perhaps."""
    layout = dataset.Layout.read(source)
    return {split: layout.splits.get(split, []) if layout.splits else layout.flat for split in whole.counts}


@contextlib.contextmanager
def _claimed(
    output: Path,
    recipe: Recipe,
    sources: dict[str, provenance.Source],
    splits: dict[str, list[Song]],
    shard: tuple[int, int] | None,
) -> Iterator[None]:
    """The output for one run alone, or for shards of one recipe, and in it what the songs are done with.

    Raises:
        LockedError: another run is at work there, which does not do other shards of the same.
    """
    with contextlib.ExitStack() as stack:
        saved = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        recipe.save(saved)
        provenance.note(saved, sources)
        if shard is None:
            _prepare(output, saved, splits, stack.enter_context(locks.held(output)))
            (output / shards.SONGS_FILE).unlink(missing_ok=True)
            yield
            return
        stack.enter_context(locks.held(output, f"-shard-{shard[0]}-of-{shard[1]}"))
        with locks.held(output, "-preparing", wait=True):
            try:
                with locks.held(output) as alone:
                    _prepare(output, saved, splits, alone)
            except locks.LockedError:
                stack.enter_context(locks.held(output, shared=True))
                if not _has_recipe(output, saved):
                    raise locks.LockedError(
                        f"{output}: other shards are at work there with another recipe (settings, statistics, impulse"
                        " responses or songs); expected the same, or another folder"
                    ) from None
            else:
                stack.enter_context(locks.held(output, shared=True))
            names = {split: [song.name for song in songs] for split, songs in splits.items()}
            shards.note(output, names)
        yield


def _prepare(output: Path, recipe: Path, splits: dict[str, list[Song]], alone: bool) -> None:
    """Write the recipe and remove songs that are not in ``splits``; unfinished files too, if this run is ``alone``."""
    if not _has_recipe(output, recipe):  # which others may be reading
        with whole_folder(output / RECIPE_FOLDER, RECIPE_CONTENTS.refuse_others) as temporary:
            shutil.copytree(recipe, temporary, dirs_exist_ok=True)
    listing = published.read(output)
    # the version of the dataset is in a recipe too, and changes no stem
    if listing is not None and listing.recipe != Recipe.load(recipe).digest(recipe):
        (output / published.STORED_FILE).unlink()
    published.keep(output, {split: [song.name for song in songs] for split, songs in splits.items()})
    _remove_others(output, splits, leftovers=alone)


def _has_recipe(output: Path, recipe: Path) -> bool:
    return _contents(recipe) == _contents(output / RECIPE_FOLDER)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in files_below(folder)}


def gather(parts: Sequence[Path], output: Path) -> None:
    """Put what shards were normalized into together in one folder, by links: nothing is copied.

    Lists of songs that were published become one.

    Raises:
        DatasetError: the shards were not normalized with the same recipe, or have a song in common.
    """
    digests = _recipe_digests(parts)
    listing = published.merged(parts)
    for part, digest in zip(parts, digests, strict=True):
        if digest != digests[0]:
            raise DatasetError(f"{part}: was normalized in another way than {parts[0]}")
        for song in dataset.Layout.read(part).songs:  # none, if there were more shards than songs
            target = output / song.folder.relative_to(part)
            if target.exists():
                raise DatasetError(f"{song.folder}: another shard has this song as well")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(song.folder.absolute(), target_is_directory=True)
    if listing is not None:
        published.write(output, listing)
    data = shards.version_of_all(parts)
    if data is None:
        (output / RECIPE_FOLDER).symlink_to((parts[0] / RECIPE_FOLDER).absolute(), target_is_directory=True)
    else:
        _complete_recipe(parts, output / RECIPE_FOLDER, data)


def _recipe_digests(parts: Sequence[Path]) -> list[str]:
    """The digests of the recipes of parts; a recipe that a thousand parts have is opened once."""
    known: dict[str, str] = {}
    digests = []
    for part in parts:
        folder = part / RECIPE_FOLDER
        # where songs are from is in it too, of each part's own songs
        files = {path for path in files_below(folder) if path.name != provenance.SOURCES_FILE}
        content = _hash_of({path.relative_to(folder).as_posix(): dataset.file_digest(path) for path in files})
        if content not in known:
            known[content] = Recipe.load(folder).digest(folder)
        digests.append(known[content])
    return digests


def _complete_recipe(parts: Sequence[Path], output: Path, data: dict[str, str]) -> None:
    """The recipe of shards that knew their own songs alone, with the dataset's version and where all songs are from."""
    recipe = Recipe.load(parts[0] / RECIPE_FOLDER)
    output.mkdir()
    dataclasses.replace(recipe, data=data).save(output)
    provenance.note(output, provenance.noted([part / RECIPE_FOLDER for part in parts]))


def merge(parts: Sequence[Path], output: Path) -> list[str]:
    """Put what shards were normalized into together in a folder of its own, whole or not at all.

    Files are hard links where the file system has them, since nothing changes a normalized file in place, else copies.

    Args:
        parts: what ``fxnorm normalize --shard`` wrote.
        output: a folder that is not there yet, or empty.

    Returns:
        songs of shards that are not among the parts, or that a shard left out.

    Raises:
        DatasetError: the shards were not normalized with the same recipe from the same songs, or have a song in
            common; or there is something in ``output``.
    """
    if output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise DatasetError(f"{output}: expected a folder that is not there yet, found one that is not empty")
    for part in parts:
        if output.resolve().is_relative_to(part.resolve()):
            raise DatasetError(f"{output}: expected a folder outside of {part}")
    with locks.held(output), tempfile.TemporaryDirectory() as folder:
        together = Path(folder)
        gather(parts, together)
        recipes = [Recipe.load(part / RECIPE_FOLDER) for part in parts]
        for part, recipe in zip(parts, recipes, strict=True):
            if recipe.data != recipes[0].data:
                raise DatasetError(f"{part}: was normalized from other songs than {parts[0]}")
        with whole_folder(output) as temporary:
            for linked in [*together.glob("*/*"), together / RECIPE_FOLDER]:
                if linked.is_symlink() or linked.name == RECIPE_FOLDER:
                    target = temporary / linked.relative_to(together)
                    shutil.copytree(linked.resolve(), target, copy_function=_link_or_copy)
            if (together / published.STORED_FILE).is_file():
                shutil.copyfile(together / published.STORED_FILE, temporary / published.STORED_FILE)
            names = shards.noted(parts)
            lacking = shards.lacking(temporary, names)
            if lacking:
                shards.note(temporary, names)
    return lacking


def publish(folder: Path, address: str) -> None:
    """Move the songs of a normalized folder, or of a shard's, into an object store, where training reads them.

    The folder keeps the recipe and, in ``stored.json``, a list of the songs. Names of objects are made of the recipe's
    digest and their content's, so that what is there already is not sent again, and nothing else is ever overwritten.

    Args:
        folder: what :func:`run` wrote.
        address: ``s3://BUCKET/PREFIX``, or an absolute path that those who train see too.

    Raises:
        OutputError: the folder holds something else than normalized songs.
        SettingsError: ``address`` is none.
        StoreError: the store does not answer or refuses; nothing is removed then, and the same call goes on.
    """
    if not (folder / RECIPE_FOLDER).is_dir():
        raise DatasetError(f"{folder}: expected normalized songs with a {RECIPE_FOLDER} folder")
    with locks.held(folder):
        _refuse_others(folder)
        recipe = Recipe.load(folder / RECIPE_FOLDER)
        digests = {
            song: (song / _DIGEST_FILE).read_text(encoding="utf-8").strip()
            for split in dataset.SPLITS
            for song in _song_folders(folder, split)
        }
        for song in published.upload(folder, address, recipe.digest(folder / RECIPE_FOLDER), digests):
            _remove_song(song.folder)
        for split in dataset.SPLITS:
            with contextlib.suppress(OSError):  # it holds something else, such as .gitignore
                (folder / split).rmdir()


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


@dataclass(frozen=True)
class _Done:
    """Which songs were normalized by which code, with which result, so that they are not done again.

    It is kept beside the output, not within: where other code makes the same samples, the output has the same bytes,
    and no network has to be trained again. And a result is recognized by its
    bytes, whoever put it there: ``dvc checkout`` brings back songs that were normalized another day.

    Args:
        folder: a file for each song, recipe and code that were met.
        code: that normalizes now.
        stored: songs of the split that are in a store, by name.
    """

    folder: Path
    code: str
    stored: Mapping[str, published.StoredSong] = field(default_factory=dict)

    def matches(self, digest: str, song: Path) -> bool:
        """Whether the folder ``song`` is what this code made of the song and the recipe behind ``digest``."""
        note, marker, stored = self._note(digest), song / _DIGEST_FILE, self.stored.get(song.name)
        if not note.is_file():
            return False
        content = note.read_text(encoding="utf-8").strip()
        if song.is_dir() or stored is None:
            made_of = marker.read_text(encoding="utf-8").strip() if marker.is_file() else None
            return made_of == digest and content == _content(song)
        hashes = {name: bytes.fromhex(file.sha256) for name, file in stored.files.items()}
        return stored.digest == digest and content == _hash_of(hashes)

    def add(self, digest: str, song: Path) -> None:
        """Remember the folder ``song``."""
        with whole_file(self._note(digest)) as temporary:
            temporary.write_text(_content(song) + "\n", encoding="utf-8")

    def _note(self, digest: str) -> Path:
        return self.folder / hashlib.sha256(f"{digest} {self.code}".encode()).hexdigest()


def _content(song: Path) -> str:
    """A hash of the audio files of a folder, by their names."""
    files = [path for path in song.iterdir() if path.suffix.lower() in audio.AUDIO_SUFFIXES]
    return _hash_of({path.name: dataset.file_digest(path) for path in files})


def _hash_of(files: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name in sorted(files):
        total.update(f"{name}\0{files[name].hex()}\n".encode())
    return total.hexdigest()


def _normalize_song(
    song: Song, recipe_folder: Path, recipe_digest: str, output: Path, dry: bool, done: _Done, suffix: str = _WAV
) -> str:
    """Write one song's normalized stems and its mixture, unless that very work is done already; gives its hash."""
    content = song.digest()
    work = f"{recipe_digest} {song.name} {content} {dry}"
    digest = hashlib.sha256(work.encode()).hexdigest() + ("" if suffix == _WAV else _FLAC_MARK)
    target = output / song.name
    if done.matches(digest, target):
        return content
    recipe = _recipe_at(recipe_folder, recipe_digest)
    seed = song_seed(recipe.settings.seed, song.name)
    normalizer = recipe.normalizer()
    with whole_folder(target, _SONG.refuse_others) as folder:
        for stem, path in song.stems.items():  # one at a time: a long song's four stems would fill the memory
            samples = audio.read(path)[0]
            normalized = normalizer.normalize(samples, SAMPLE_RATE, stem, seed=seed, dry=dry)
            _write(folder / f"{stem}{suffix}", normalized)
            if remark := programme.remark(samples, SAMPLE_RATE):
                _logger.warning("%s: %s", path, remark)
        if song.mixture is not None:
            _write(folder / f"{MIXTURE}{suffix}", song.read_mixture())
        (folder / _DIGEST_FILE).write_text(digest + "\n", encoding="utf-8")
    done.add(digest, target)
    return content


def _write(path: Path, samples: np.ndarray) -> None:
    """Write what the network learns from: a target that was cut off at full scale would be another one."""
    subtype = audio.subtype_that_holds(samples, _SUBTYPE)
    audio.write(path if subtype == _SUBTYPE else path.with_suffix(_WAV), samples, subtype=subtype, seek_table=True)


@functools.lru_cache(maxsize=1)
def _recipe_at(folder: Path, digest: str) -> Recipe:
    """A process reads its recipe once, not once a song; again when its ``digest`` has changed."""
    return Recipe.load(folder)


def _impulse_responses(folder: Path | None, seed: int, pre: bool) -> ImpulseResponses:
    if folder is not None:
        return ImpulseResponses.from_folder(folder)
    return ImpulseResponses.synthesized(PRE_REVERBERATION_RT60 if pre else REVERBERATION_RT60, seed=seed)


def _remove_others(output: Path, splits: dict[str, list[Song]], leftovers: bool) -> None:
    """Songs that an earlier run left and the dataset no longer has would be trained on without anyone noticing.

    So would those of a split that is not normalized any more. ``leftovers`` of runs that were killed, under temporary
    names, go as well.
    """
    for split in dataset.SPLITS:
        names = {song.name for song in splits.get(split, [])}
        for folder in _song_folders(output, split):
            if folder.name not in names:
                _remove_song(folder)
        if leftovers:
            for folder in (output / split).glob(".*"):
                if is_temporary(folder.name):
                    remove(folder)
        if split not in splits:
            with contextlib.suppress(OSError):
                (output / split).rmdir()


def _song_folders(output: Path, split: str) -> list[Path]:
    return [folder for folder in (output / split).glob("*") if folder.is_dir() and not is_temporary(folder.name)]


def _refuse_others(output: Path) -> None:
    """Refuse a folder with anything that was not normalized here; a song that was has a digest beside its stems."""
    _CONTENTS.refuse_others(output)
    for split in dataset.SPLITS:
        for folder in _song_folders(output, split):
            try:
                _SONG.refuse_others(folder)
            except OutputError as error:
                raise OutputError(f"{output}: expected a folder for normalized songs alone ({error})") from error


def _remove_song(folder: Path) -> None:
    """Remove a normalized song; what came to lie beside its files meanwhile stays."""
    for file in folder.glob("*"):
        if re.fullmatch(_SONG_FILES, file.name):
            file.unlink()
    if folder.is_dir():
        folder.rmdir()


def _plot_one(recipe: Recipe, song: Song, plot: Path, dry: bool) -> None:
    from fxnorm.statistics.plots import plot_song

    before = song.read_stems()
    seed = song_seed(recipe.settings.seed, song.name)
    after = recipe.normalizer().normalize_stems(before, SAMPLE_RATE, seed=seed, dry=dry)
    with whole_file(plot) as temporary:
        plot_song(recipe.statistics, before, after, SAMPLE_RATE, temporary)

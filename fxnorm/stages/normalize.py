"""Stage 2: every stem brought to the average effects, with the recipe beside it."""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from fxnorm import audio, dataset, locks
from fxnorm.constants import SAMPLE_RATE
from fxnorm.dataset import Song
from fxnorm.effects.impulse_responses import PRE_REVERBERATION_RT60, REVERBERATION_RT60, ImpulseResponses
from fxnorm.errors import DatasetError
from fxnorm.files import whole_file, whole_folder, write_json
from fxnorm.parallel import map_songs
from fxnorm.recipe import Recipe, song_seed
from fxnorm.settings import NormalizeSettings
from fxnorm.statistics import DatasetStatistics
from fxnorm.versions import code_digest, data_version

RECIPE_FOLDER = "recipe"
_DIGEST_FILE = "digest"
_SONGS_FILE = ".songs.json"
"""Of an output for shards: the names of all songs by split, so that it can be said which are not there."""
_SONGS = TypeAdapter(dict[str, list[str]])
_CODE = ("audio.py", "effects", "normalization.py", "recipe.py")
"""What the normalized stems of a song depend on."""
_SUBTYPE = "PCM_24"  # 144 dB: rounds far below anything a -30 LUFS stem holds


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
) -> dict[str, str]:
    """Normalize the songs of a dataset.

    A song that was finished before, from the same files with the same recipe and code, is not done again.

    Args:
        settings: effects, their settings, and the splits to do.
        source: the dataset.
        statistics: the ``.npz`` file of stage 1.
        output: the folder for ``SPLIT/SONG/{stem,mixture}.wav`` and ``recipe``.
        impulse_responses: a folder of impulse responses for the reverberation; synthesized ones otherwise.
        pre_impulse_responses: likewise for the pre-reverb of dry recordings.
        dry: the songs are dry recordings: the pre-reverb comes first.
        plot: a ``.png`` file that shows one song before and after, if wanted.
        workers: processes; 0 for one a core.
        skip_errors: leave out songs that cannot be read instead of stopping at the first.
        shard: (number, of how many), from 1: normalize only this part of the songs.

    Returns:
        the reason for each song that was left out.
    """
    splits = {split: dataset.songs(source, split) for split in settings.splits}
    songs = [song for found in splits.values() for song in found]
    recipe = Recipe(
        DatasetStatistics.load(statistics),
        settings,
        _impulse_responses(impulse_responses, settings.seed, pre=False),
        _impulse_responses(pre_impulse_responses, settings.seed, pre=True),
        data_version(source, songs),
    )
    mine = dataset.shard_of(songs, shard)
    with _claimed(output, recipe, splits, shard):
        skipped = _normalize(recipe, splits, mine, output, dry, workers, skip_errors)
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
) -> dict[str, str]:
    """Normalize the songs that are ``mine``; the reason for each that was left out."""
    recipe_folder = output / RECIPE_FOLDER
    recipe_digest = recipe.digest(recipe_folder)
    skipped: dict[str, str] = {}
    for split, found in splits.items():
        work = functools.partial(
            _normalize_song, recipe_folder=recipe_folder, recipe_digest=recipe_digest, output=output / split, dry=dry
        )
        part = [song for song in found if song in mine]
        _, failures = map_songs(work, part, f"normalize {split}", workers or None, skip_errors)
        for song, reason in failures:
            shutil.rmtree(output / split / song.name, ignore_errors=True)  # what an earlier run made of another file
            skipped[str(song.folder)] = reason
    return skipped


@contextlib.contextmanager
def _claimed(
    output: Path, recipe: Recipe, splits: dict[str, list[Song]], shard: tuple[int, int] | None
) -> Iterator[None]:
    """The output for one run alone, or for shards of one recipe, and in it what the songs are done with.

    Raises:
        LockedError: another run is at work there, which does not do other shards of the same.
    """
    with contextlib.ExitStack() as stack:
        saved = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        recipe.save(saved)
        if shard is None:
            _prepare(output, saved, splits, stack.enter_context(locks.held(output)))
            (output / _SONGS_FILE).unlink(missing_ok=True)
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
            write_json(output / _SONGS_FILE, names)
        yield


def _prepare(output: Path, recipe: Path, splits: dict[str, list[Song]], alone: bool) -> None:
    """Put the recipe into the output, and let go of what is of another one; files in hand only if they are nobody's."""
    if not _has_recipe(output, recipe):  # which others may be reading
        with whole_folder(output / RECIPE_FOLDER) as temporary:
            shutil.copytree(recipe, temporary, dirs_exist_ok=True)
    _remove_others(output, splits, leftovers=alone)
    _forget_those_of_other_code(output)


def _has_recipe(output: Path, recipe: Path) -> bool:
    return _contents(recipe) == _contents(output / RECIPE_FOLDER)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def given(folder: Path) -> Path | None:
    """A folder of impulse responses, if it is there; without one they are synthesized."""
    return folder if folder.is_dir() else None


def gather(parts: Sequence[Path], output: Path) -> None:
    """Put what shards were normalized into together in one folder, by links: nothing is copied.

    Raises:
        DatasetError: the shards were not normalized with the same recipe, or have a song in common.
    """
    digests = [Recipe.load(part / RECIPE_FOLDER).digest(part / RECIPE_FOLDER) for part in parts]
    for part, digest in zip(parts, digests, strict=True):
        if digest != digests[0]:
            raise DatasetError(f"{part}: was normalized in another way than {parts[0]}")
        for song in dataset.songs(part):
            target = output / song.folder.relative_to(part)
            if target.exists():
                raise DatasetError(f"{song.folder}: another shard has this song as well")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(song.folder.absolute(), target_is_directory=True)
    (output / RECIPE_FOLDER).symlink_to((parts[0] / RECIPE_FOLDER).absolute(), target_is_directory=True)


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
                if linked.is_symlink():
                    target = temporary / linked.relative_to(together)
                    shutil.copytree(linked.resolve(), target, copy_function=_link_or_copy)
            names = _songs_of_all_shards(parts)
            lacking = _lacking(temporary, names)
            if lacking:
                write_json(temporary / _SONGS_FILE, names)
    return lacking


def lacking_songs(folder: Path) -> list[str]:
    """``SPLIT/SONG`` of the songs that a folder of some shards lacks because the others were not put into it."""
    return _lacking(folder, _songs_of_all_shards([folder]))


def _songs_of_all_shards(parts: Sequence[Path]) -> dict[str, list[str]]:
    """By split the names of what was to be normalized in all shards together, as far as the parts tell."""
    names: dict[str, list[str]] = {}
    for file in (part / _SONGS_FILE for part in parts):
        if file.is_file():
            try:
                noted = _SONGS.validate_json(file.read_bytes())
            except ValidationError as error:
                raise DatasetError(f"{file}: expected songs by split, as 'fxnorm normalize' writes them") from error
            for split, songs in noted.items():
                names[split] = sorted({*names.get(split, []), *songs})
    return names


def _lacking(folder: Path, names: dict[str, list[str]]) -> list[str]:
    return [
        f"{split}/{name}" for split, songs in names.items() for name in songs if not (folder / split / name).is_dir()
    ]


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _normalize_song(song: Song, recipe_folder: Path, recipe_digest: str, output: Path, dry: bool) -> None:
    """Write one song's normalized stems and its mixture, unless that very work is done already."""
    digest = hashlib.sha256(f"{recipe_digest} {song.name} {song.digest()} {dry}".encode()).hexdigest()
    target = output / song.name
    done = target / _DIGEST_FILE
    if done.is_file() and done.read_text(encoding="utf-8").strip() == digest:
        return
    recipe = _recipe_at(recipe_folder, recipe_digest)
    seed = song_seed(recipe.settings.seed, song.name)
    normalizer = recipe.normalizer()
    with whole_folder(target) as folder:
        for stem, path in song.stems.items():  # one at a time: a long song's four stems would fill the memory
            normalized = normalizer.normalize(audio.read(path)[0], SAMPLE_RATE, stem, seed=seed, dry=dry)
            audio.write(folder / f"{stem}.wav", normalized, subtype=_SUBTYPE)
        if song.mixture is not None:
            audio.write(folder / "mixture.wav", song.read_mixture(), subtype=_SUBTYPE)
        (folder / _DIGEST_FILE).write_text(digest + "\n", encoding="utf-8")


def _forget_those_of_other_code(output: Path) -> None:
    """Let songs be done again that other code has normalized.

    Which one it was stands beside the output, not within: where the new code makes the same samples, the output has the
    same bytes, and no network has to be trained again.
    """
    note, code = output.with_name(f".{output.name}-code"), code_digest(*_CODE)
    if not note.is_file() or note.read_text(encoding="utf-8") != code:
        for digest in output.glob(f"*/*/{_DIGEST_FILE}"):
            digest.unlink()
        with whole_file(note) as temporary:
            temporary.write_text(code, encoding="utf-8")


@functools.lru_cache(maxsize=1)
def _recipe_at(folder: Path, digest: str) -> Recipe:
    """A process reads its recipe once, not once a song; ``digest`` says whether it is still the same one."""
    return Recipe.load(folder)


def _impulse_responses(folder: Path | None, seed: int, pre: bool) -> ImpulseResponses:
    if folder is not None:
        return ImpulseResponses.from_folder(folder)
    return ImpulseResponses.synthesized(PRE_REVERBERATION_RT60 if pre else REVERBERATION_RT60, seed=seed)


def _remove_others(output: Path, splits: dict[str, list[Song]], leftovers: bool) -> None:
    """Songs that an earlier run left and the dataset no longer has would be trained on without anyone noticing.

    ``leftovers`` of runs that were killed, under temporary names, go as well.
    """
    for split, songs in splits.items():
        names = {song.name for song in songs}
        for folder in (output / split).glob("*"):
            if folder.is_dir() and folder.name not in names and (leftovers or not folder.name.startswith(".")):
                shutil.rmtree(folder)


def _plot_one(recipe: Recipe, song: Song, plot: Path, dry: bool) -> None:
    from fxnorm.statistics import plot_normalization

    before = song.read_stems()
    seed = song_seed(recipe.settings.seed, song.name)
    after = recipe.normalizer().normalize_stems(before, SAMPLE_RATE, seed=seed, dry=dry)
    with whole_file(plot) as temporary:
        plot_normalization(recipe.statistics, before, after, SAMPLE_RATE, temporary)

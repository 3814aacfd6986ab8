"""Stage 2: every stem brought to the average effects, with the recipe beside it."""

import functools
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fxnorm import audio, dataset
from fxnorm.constants import SAMPLE_RATE
from fxnorm.dataset import Song
from fxnorm.effects.impulse_responses import PRE_REVERBERATION_RT60, REVERBERATION_RT60, ImpulseResponses
from fxnorm.errors import DatasetError
from fxnorm.files import whole_file, whole_folder
from fxnorm.parallel import map_songs
from fxnorm.recipe import Recipe, song_seed
from fxnorm.settings import NormalizeSettings
from fxnorm.statistics import DatasetStatistics
from fxnorm.versions import code_digest, data_version

RECIPE_FOLDER = "recipe"
_DIGEST_FILE = "digest"
_CODE = ("audio.py", "audio_formats", "effects", "normalization.py", "recipe.py")
"""What the normalized stems of a song depend on."""
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
    recipe_folder = output / RECIPE_FOLDER
    with whole_folder(recipe_folder) as temporary:
        recipe.save(temporary)
    _remove_others(output, splits)
    _forget_those_of_other_code(output)
    skipped: dict[str, str] = {}
    for split, found in splits.items():
        work = functools.partial(_normalize_song, recipe_folder=recipe_folder, output=output / split, dry=dry)
        part = [song for song in found if song in mine]
        _, failures = map_songs(work, part, f"normalize {split}", workers or None, skip_errors)
        for song, reason in failures:
            shutil.rmtree(output / split / song.name, ignore_errors=True)  # what an earlier run made of another file
            skipped[str(song.folder)] = reason
    usable = [song for song in mine if str(song.folder) not in skipped]
    if plot is not None and usable:
        _plot_one(recipe, usable[0], plot, dry)
    return skipped


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


def _normalize_song(song: Song, recipe_folder: Path, output: Path, dry: bool) -> None:
    """Write one song's normalized stems and its mixture, unless that very work is done already."""
    recipe, recipe_digest = _recipe_at(recipe_folder)
    digest = hashlib.sha256(f"{recipe_digest} {song.name} {song.digest()} {dry}".encode()).hexdigest()
    target = output / song.name
    done = target / _DIGEST_FILE
    if done.is_file() and done.read_text(encoding="utf-8").strip() == digest:
        return
    seed = song_seed(recipe.settings.seed, song.name)
    normalizer = recipe.normalizer()
    with whole_folder(target) as folder:
        for stem, path in song.stems.items():  # one at a time: a long song's four stems would fill the memory
            normalized = normalizer.normalize(audio.read(path)[0], SAMPLE_RATE, stem, seed=seed, dry=dry)
            _write(folder / f"{stem}.wav", normalized)
        if song.mixture is not None:
            _write(folder / "mixture.wav", song.read_mixture())
        (folder / _DIGEST_FILE).write_text(digest + "\n", encoding="utf-8")


def _write(path: Path, samples: np.ndarray) -> None:
    """Write what the network learns from: a target that was cut off at full scale would be another one."""
    audio.write(path, samples, subtype=audio.subtype_that_holds(samples, _SUBTYPE))


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
def _recipe_at(folder: Path) -> tuple[Recipe, str]:
    """A process reads its recipe once, not once a song."""
    recipe = Recipe.load(folder)
    return recipe, recipe.digest(folder)


def _impulse_responses(folder: Path | None, seed: int, pre: bool) -> ImpulseResponses:
    if folder is not None:
        return ImpulseResponses.from_folder(folder)
    return ImpulseResponses.synthesized(PRE_REVERBERATION_RT60 if pre else REVERBERATION_RT60, seed=seed)


def _remove_others(output: Path, splits: dict[str, list[Song]]) -> None:
    """Songs that an earlier run left and the dataset no longer has would be trained on without anyone noticing."""
    for split, songs in splits.items():
        names = {song.name for song in songs}
        for folder in (output / split).glob("*"):
            if folder.is_dir() and folder.name not in names:
                shutil.rmtree(folder)


def _plot_one(recipe: Recipe, song: Song, plot: Path, dry: bool) -> None:
    from fxnorm.statistics import plot_normalization

    before = song.read_stems()
    seed = song_seed(recipe.settings.seed, song.name)
    after = recipe.normalizer().normalize_stems(before, SAMPLE_RATE, seed=seed, dry=dry)
    with whole_file(plot) as temporary:
        plot_normalization(recipe.statistics, before, after, SAMPLE_RATE, temporary)

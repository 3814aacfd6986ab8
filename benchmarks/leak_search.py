"""Recordings that come again: how many are found, how many pairs are named in error, and what it takes.

    python benchmarks/leak_search.py [FOLDER] [--songs 300] [--workers 2] [--collection 10000]

Renders songs of the demo, some three seconds each with two processes; with a FOLDER, once for all runs. Copies each of
them in every way that :mod:`fxnorm.quality.fingerprints` promises to find. Copies are searched among all songs: each
has to be found with its song, at the right time, and with no other song. Songs that share stems are compared as well,
to show where the limit lies. Times are of the processor, on one core, without reading and decoding files.
"""

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"))

import argparse
import functools
import io
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import soundfile

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data.dataset import Song, songs
from fxnorm.demo import render_dataset
from fxnorm.io import audio
from fxnorm.quality.fingerprints import SAME_RECORDING, Fingerprint, Match, find_same, fingerprint

DRY_SONGS = 10
SECONDS = (12.0, 20.0)
TARGET_SECONDS = 0.01
MINUS_6_DB = np.float32(10 ** (-6 / 20))
TOLERANCE_SECONDS = 0.05

REQUIRED = ("MP3 of 128 kbit/s", "48 kHz", "6 dB quieter", "from 5 s on")
BINS = 20  # of the histogram of scores


def mp3(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """``samples`` through an MP3 of constant 128 kbit/s."""
    file = io.BytesIO()
    soundfile.write(
        file, samples.T, sample_rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="CONSTANT",
        compression_level=2 / 3,
    )  # fmt: skip
    rate = 8 * file.tell() / (samples.shape[1] / sample_rate) / 1000
    if not 120 < rate < 140:
        raise RuntimeError(f"expected an MP3 of 128 kbit/s, found one of {rate:.0f}")
    file.seek(0)
    return np.ascontiguousarray(soundfile.read(file, dtype="float32", always_2d=True)[0].T)


def copies(samples: np.ndarray, generator: np.random.Generator) -> Iterator[tuple[str, np.ndarray, int, float]]:
    """What is made of a song: name, audio, sample rate, and at which second of the song it begins."""
    faster = audio.resample(samples, SAMPLE_RATE, 48_000)
    late = int(generator.integers(2 * SAMPLE_RATE, 5 * SAMPLE_RATE))
    trimmed = audio.resample(samples[:, late : -2 * SAMPLE_RATE], SAMPLE_RATE, 48_000)
    yield "MP3 of 128 kbit/s", mp3(samples, SAMPLE_RATE), SAMPLE_RATE, 0.0
    yield "48 kHz", faster, 48_000, 0.0
    yield "6 dB quieter", samples * MINUS_6_DB, SAMPLE_RATE, 0.0
    yield "from 5 s on", samples[:, 5 * SAMPLE_RATE :], SAMPLE_RATE, 5.0
    yield "inverted", -samples, SAMPLE_RATE, 0.0
    yield "one channel inverted", samples * np.array([[1], [-1]], np.float32), SAMPLE_RATE, 0.0
    yield "mono", samples.mean(axis=0, keepdims=True), SAMPLE_RATE, 0.0
    yield "without the last 4 s", samples[:, : -4 * SAMPLE_RATE], SAMPLE_RATE, 0.0
    yield "trimmed, 48 kHz, 6 dB, MP3", mp3(trimmed * MINUS_6_DB, 48_000), 48_000, late / SAMPLE_RATE


def relatives(
    stems: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray], generator: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """Mixes that have some of a song's stems in them; the ``others`` are those of another song."""
    for level_db in (3, 6, 10):
        gains = dict(zip(STEMS, 10 ** (generator.choice([-1, 1], len(STEMS)) * level_db / 20), strict=True))
        yield f"each stem {level_db} dB up or down", mix(*(gains[stem] * stems[stem] for stem in STEMS))
    yield "without vocals", mix(*(stems[stem] for stem in STEMS if stem != "vocals"))
    for shared in (("drums",), ("other",), ("drums", "bass"), ("drums", "bass", "other")):
        taken = [stems[stem] if stem in shared else others[stem] for stem in STEMS]
        yield f"another song over its {', '.join(shared)}", mix(*taken)


def mix(*stems: np.ndarray) -> np.ndarray:
    """The sum, as long as the shortest."""
    samples = min(stem.shape[1] for stem in stems)
    return np.asarray(np.sum([stem[:, :samples] for stem in stems], axis=0, dtype=np.float32))


class Found(dict[str, tuple[Fingerprint, float, float]]):
    """kind of copy -> its fingerprint, at which second of the song it begins, and processor seconds it took."""


def of_song(numbered: tuple[int, Song], all_songs: list[Song]) -> tuple[str, Found]:
    """Fingerprints of a song, its copies and its relatives."""
    number, song = numbered
    generator = np.random.default_rng(number)
    found = Found()

    def add(kind: str, samples: np.ndarray, sample_rate: int, begin: float) -> None:
        start = time.process_time()
        found[kind] = (fingerprint(samples, sample_rate), begin, time.process_time() - start)

    mixture = song.read_mixture()
    add("itself", mixture, SAMPLE_RATE, 0.0)
    for kind, samples, rate, begin in copies(mixture, generator):
        add(kind, samples, rate, begin)
    if number % 5 == 0:
        others = all_songs[(number + 1) % len(all_songs)].read_stems()
        for kind, samples in relatives(song.read_stems(), others, generator):
            add(kind, samples, SAMPLE_RATE, 0.0)
    return song.name, found


def print_copies(by_song: Mapping[str, Found], kinds: list[str]) -> None:
    """A line for each kind of copy: each is searched among all songs."""
    originals = {f"{name}/itself": found["itself"][0] for name, found in by_song.items()}
    print(f"{'copy':<30} found    wrong   time off by   lowest score   median")
    for kind in kinds:
        copied = {f"{name}/{kind}": found[kind][0] for name, found in by_song.items()}
        matches = find_same({**originals, **copied})
        right = [match for match in matches if names(match)[0] == names(match)[1]]
        off = [abs(abs(match.offset_seconds) - by_song[names(match)[0]][kind][1]) for match in right]
        scores = [match.score for match in right]
        print(
            f"{kind:<30} {len(right):>3}/{len(copied):<3} {len(matches) - len(right):>5} {max(off, default=0):>12.3f} s"
            f" {min(scores, default=0):>14.3f} {np.median(scores) if scores else 0:>8.3f}"
            f"{'  target: all, none wrong' if kind in REQUIRED else ''}"
        )


def names(match: Match) -> tuple[str, str]:
    """The songs of a match."""
    return match.first.split("/")[0], match.second.split("/")[0]


def print_relatives(by_song: Mapping[str, Found], dry: list[Song]) -> None:
    """Scores of mixes that have some stems in common with a song; 0 where the search sees nothing in common."""
    pairs: dict[str, list[tuple[Fingerprint, Fingerprint]]] = {}
    for found in by_song.values():
        for kind in [kind for kind in found if kind.startswith(("each stem", "without vocals", "another song"))]:
            pairs.setdefault(kind, []).append((found["itself"][0], found[kind][0]))
    for song in dry:
        wet, raw = song.read_mixture(), mix(*map(audio.to_stereo, song.read_stems().values()))
        pairs.setdefault("the dry stems' sum", []).append(
            (fingerprint(wet, SAMPLE_RATE), fingerprint(raw, SAMPLE_RATE))
        )
    print(f"\n{'relative':<44} named the same  score: lowest  median  highest")
    for kind, of_kind in pairs.items():
        scores = [
            max((match.score for match in find_same({"first": one, "second": other}, 0.0)), default=0.0)
            for one, other in of_kind
        ]
        same = f"{sum(score >= SAME_RECORDING for score in scores)}/{len(scores)}"
        print(f"{kind:<44} {same:>14}  {min(scores):>13.3f}  {np.median(scores):>6.3f}  {max(scores):>7.3f}")


def print_histogram(by_song: Mapping[str, Found], kinds: list[str]) -> None:
    """Scores of all pairs that the search looks at closely: copies of one song, and what two songs have in common."""
    everything = {f"{name}/{kind}": found[kind][0] for name, found in by_song.items() for kind in ("itself", *kinds)}
    start = time.process_time()
    matches = find_same(everything, 0.0)
    seconds = time.process_time() - start
    length = sum(kept.seconds for kept in everything.values())
    one = np.array([match.score for match in matches if names(match)[0] == names(match)[1]])
    two = np.array([match.score for match in matches if names(match)[0] != names(match)[1]])
    print(f"\nall {len(everything)} recordings among each other: {seconds:.1f} s, {seconds / length:.6f} s per second")
    print(f"pairs of two songs: {(two >= SAME_RECORDING).sum()} named the same, highest score {two.max(initial=0):.3f}")
    print("    score  pairs of one song, of two songs")
    counts = (np.histogram(scores, BINS, (0, 1))[0] for scores in (one, two))
    for step, (of_one, of_two) in enumerate(zip(*counts, strict=True)):
        if of_one or of_two:
            print(f"{step / BINS:.2f}-{(step + 1) / BINS:.2f} {of_one:>18}  {of_two:>12}")


def print_collection(by_song: Mapping[str, Found], count: int, seconds: float = 240.0) -> None:
    """Time and memory of a search among many songs of four minutes, made of the peaks of rendered ones.

    Each has peaks of one rendered song over and over, every time in another order: as many a second and at the same
    frequencies, and so as many hashes in common by chance.
    """
    generator = np.random.default_rng(0)
    kept = [found["itself"][0] for found in by_song.values()]
    collection = {}
    for number in range(count):
        one = kept[number % len(kept)]
        repeats = int(seconds / one.seconds)
        gaps = np.concatenate([generator.permutation(np.diff(one.frames, prepend=0)) for _ in range(repeats)])
        bins = np.concatenate([generator.permutation(one.bins) for _ in range(repeats)])
        collection[str(number)] = Fingerprint(seconds, np.cumsum(gaps).astype(np.int32), bins)
    first = {name: collection[name] for name in list(collection)[:4]}
    find_same(first)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    matches = find_same(collection)
    taken = time.process_time() - start
    held = sum(one.frames.nbytes + one.bins.nbytes for one in collection.values())
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"\n{count} songs of {seconds:g} s: {taken:.0f} s, {taken / (count * seconds):.6f} s per second of song;")
    print(f"{len(matches)} found, {held / 1e6:.0f} MB of fingerprints and {more / 1e6:.0f} MB for the search")


def measure(folder: Path, count: int, workers: int, collection: int) -> None:
    """Render what is not there, and print all tables."""
    wanted = {folder / "wet" / "train": count, folder / "dry" / "test": DRY_SONGS}
    if any(not path.is_dir() or len(list(path.iterdir())) < number for path, number in wanted.items()):
        render_dataset(folder, songs={"train": count, "dry": DRY_SONGS}, seconds=SECONDS, workers=workers)
    rendered = songs(folder / "wet", "train")[:count]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        by_song = dict(pool.imap(functools.partial(of_song, all_songs=rendered), enumerate(rendered), chunksize=5))
    kinds = [kind for kind, *_ in copies(np.zeros((2, 20 * SAMPLE_RATE), np.float32), np.random.default_rng(0))]
    length = sum(found[kind][0].seconds for found in by_song.values() for kind in ("itself", *kinds))
    taken = sum(found[kind][2] for found in by_song.values() for kind in ("itself", *kinds))
    print(f"{len(by_song)} songs; fingerprints: {taken / length:.5f} s per second of song, target: {TARGET_SECONDS}")
    print_copies(by_song, kinds)
    print_histogram(by_song, kinds)
    print_relatives(by_song, songs(folder / "dry", "test"))
    if collection:
        print_collection(by_song, collection)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where the songs are rendered, or were")
    parser.add_argument("--songs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--collection", type=int, default=0, help="also time a search among so many songs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments.folder or Path(temporary), arguments.songs, arguments.workers, arguments.collection)


if __name__ == "__main__":
    main()

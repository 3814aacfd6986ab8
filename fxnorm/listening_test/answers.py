"""Answers from participants' browsers, checked one by one against the key, and as arrays of ratings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fxnorm.errors import DatasetError
from fxnorm.io.folders import entries
from fxnorm.listening_test.formats import ATTRIBUTES, Attribute, Key, Result, parse

_MOST_BYTES = 1_000_000  # a hundred times what a long test gives


@dataclass(frozen=True)
class Answers:
    """One participant's file."""

    path: Path
    result: Result


@dataclass(frozen=True)
class Ratings:
    """All ratings on one attribute."""

    values: np.ndarray
    """(participants, songs, systems); of a song that was rated twice, the mean."""
    repeats: np.ndarray
    """(participants, repeated songs, 2, systems): the first time and the second."""


def read_key(path: Path) -> Key:
    """The key that was written with the test.

    Raises:
        DatasetError: there is none, or it is not one.
    """
    return parse(Key, _content(path), str(path))


def read_answers(folder: Path, key: Key, key_file: Path, skip_errors: bool) -> tuple[list[Answers], dict[str, str]]:
    """The answers in ``folder``, one .json file a participant, and the files that are left out with the reason.

    Args:
        folder: with the files.
        key: of the test.
        key_file: is no answer, should it lie in the folder.
        skip_errors: leave out what cannot be used instead of stopping at it.

    Raises:
        DatasetError: a file cannot be used, or none is there.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; expected participants' answers, .json files")
    by_participant: dict[str, Answers] = {}
    left_out: dict[str, str] = {}
    for path in entries(folder):
        if path.suffix.lower() != ".json" or path.resolve() == key_file.resolve():
            continue
        try:
            answers = _read(path, key)
            earlier = by_participant.get(answers.result.participant.id)
            if earlier is not None and earlier.result != answers.result:
                raise DatasetError(f"{path}: other answers of the participant of {earlier.path.name}")
        except DatasetError as error:
            if not skip_errors:
                raise
            left_out[path.name] = str(error)
            continue
        if earlier is not None:  # downloaded and posted: nothing is lost
            left_out[path.name] = f"{path}: the same answers as {earlier.path.name}"
        else:
            by_participant[answers.result.participant.id] = answers
    if not by_participant:
        raise DatasetError(f"{folder}: expected participants' answers, .json files; found none that can be used")
    return list(by_participant.values()), left_out


def _read(path: Path, key: Key) -> Answers:
    result = parse(Result, _content(path), str(path))
    try:
        result.check_against(key)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error
    return Answers(path, result)


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise DatasetError(f"{path}: no such file")
    with open(path, "rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise DatasetError(f"{path}: larger than {_MOST_BYTES // 1000} kB; these are no answers")
    return content


def as_arrays(answers: Sequence[Answers], key: Key) -> dict[Attribute, Ratings]:
    """The ratings on each attribute; songs and systems in the order in which the key gives them."""
    repeated = [song for song in key.songs for trial in key.trials.values() if trial.repeats and trial.song == song]
    arrays = {}
    for attribute in ATTRIBUTES:
        ratings = [_by_song(each.result, key, attribute) for each in answers]  # of each participant: song -> times
        arrays[attribute] = Ratings(
            np.array([[np.mean(songs[song], axis=0) for song in key.songs] for songs in ratings]),
            np.array([[songs[song] for song in repeated] for songs in ratings]),
        )
    return arrays


def _by_song(result: Result, key: Key, attribute: Attribute) -> dict[str, list[list[float]]]:
    """song -> ratings of the systems, once or, in the order they were given, twice."""
    songs: dict[str, list[list[float]]] = {}
    for trial_result in result.trials:
        trial = key.trials[trial_result.trial]
        by_system = {trial.mixes[clip]: rating for clip, rating in trial_result.ratings[attribute].items()}
        songs.setdefault(trial.song, []).append([by_system[system] for system in key.systems])
    return songs


def normalized(ratings: Ratings) -> Ratings:
    """Ratings in standard deviations of the participant's own, from the participant's own mean.

    This takes away that people use an axis in different parts and widths. Who rates everything alike has zeros.
    """
    values = ratings.values
    mean = values.mean(axis=(1, 2), keepdims=True)
    deviation = values.std(axis=(1, 2), keepdims=True)
    scale = np.where(deviation > 0, deviation, 1.0)
    return Ratings((values - mean) / scale, (ratings.repeats - mean[..., None]) / scale[..., None])

"""From participants' answers and the key to statistics, figures, tables and a page that holds them together."""

import base64
import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from fxnorm.errors import DatasetError, SettingsError
from fxnorm.io import outputs
from fxnorm.io.files import whole_file, whole_folder, write_json
from fxnorm.listening_test import figures, tables
from fxnorm.listening_test.answers import Answers, Ratings, as_arrays, normalized, read_answers, read_key
from fxnorm.listening_test.comparisons import LEVEL, AttributeComparison, compare
from fxnorm.listening_test.consistency import MOST_REPEAT_DIFFERENCE, Consistency, consistencies
from fxnorm.listening_test.formats import ATTRIBUTES, ROLES, Attribute, Key

SUMMARY_FILE, REPORT_FILE, RATINGS_FILE, PARTICIPANTS_FILE = (
    "summary.json",
    "report.html",
    "ratings.csv",
    "participants.csv",
)
_SUMMARY_FORMAT, _SUMMARY_VERSION = "fxnorm listening test summary", 1
_PLOTS = outputs.Contents("an analysis's plots", rf"(?:{'|'.join(ATTRIBUTES)})(?:_songs)?\.png")


@dataclass(frozen=True)
class Analysis:
    """What was found."""

    key: Key
    answers: list[Answers]
    consistencies: list[Consistency] | None
    excluded: list[bool]
    ratings: dict[Attribute, Ratings]
    """Of those who are not excluded."""
    comparisons: dict[Attribute, AttributeComparison]
    left_out: dict[str, str]
    """file -> reason"""
    is_normalized: bool
    most_repeat_difference: float

    @property
    def verdicts(self) -> list[str]:
        """A sentence on each attribute."""
        return [f"{ATTRIBUTES[name]['title']}: {_verdict(comparison)}" for name, comparison in self.comparisons.items()]


def analyse(
    folder: Path,
    output: Path,
    key_file: Path,
    normalize: bool = False,
    most_repeat_difference: float = MOST_REPEAT_DIFFERENCE,
    skip_errors: bool = False,
) -> Analysis:
    """Analyse the answers in ``folder`` and write the folder ``output``.

    Args:
        folder: participants' answers, .json files.
        output: gets ``report.html``, ``summary.json``, ``ratings.csv``, ``participants.csv`` and ``plots``.
        key_file: what :func:`fxnorm.listening_test.build.build` wrote beside the page.
        normalize: compare ratings in standard deviations from each participant's own mean, not in points.
        most_repeat_difference: points; participants whose ratings of the same mix differ by more are excluded.
        skip_errors: leave out files that cannot be used instead of stopping at them.

    Raises:
        DatasetError: the key or a file cannot be used, or nobody is left.
        OutputError: ``output`` holds something else than an analysis, or is no place to write to.
        SettingsError: ``output`` is ``folder``, or ``most_repeat_difference`` is no difference that ratings can have.
    """
    if not 0 <= most_repeat_difference <= 100:  # so that it is no NaN either
        raise SettingsError(f"--max-repeat-difference {most_repeat_difference:g}: expected 0 to 100 points")
    if os.path.realpath(output) == os.path.realpath(folder):
        raise SettingsError(f"{output}: expected another folder than that of the answers, which are .json files too")
    outputs.check([key_file], [outputs.Folder(output, _CONTENTS.refuse_others, whole=False)])
    outputs.refuse_inputs([output], [folder])
    key = read_key(key_file)
    answers, left_out = read_answers(folder, key, key_file, skip_errors)
    all_ratings = as_arrays(answers, key)
    repeat_checks = consistencies(all_ratings)
    excluded = (
        [each.same_mix > most_repeat_difference for each in repeat_checks] if repeat_checks else [False] * len(answers)
    )
    if all(excluded):
        raise DatasetError(f"{folder}: everyone differs by more than {most_repeat_difference:g} points in the repeats")
    kept = [each for each, is_out in zip(answers, excluded, strict=True) if not is_out]
    ratings = as_arrays(kept, key)
    if normalize:
        ratings = {attribute: normalized(each) for attribute, each in ratings.items()}
    analysis = Analysis(
        key=key,
        answers=answers,
        consistencies=repeat_checks,
        excluded=excluded,
        ratings=ratings,
        comparisons=compare({attribute: each.values for attribute, each in ratings.items()}, key.systems),
        left_out=left_out,
        is_normalized=normalize,
        most_repeat_difference=most_repeat_difference,
    )
    _write(analysis, output)
    return analysis


def _foreign(output: Path) -> str | None:
    """A file by a name that is others' as well, unless the summary is an analysis's."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads((output / SUMMARY_FILE).read_text(encoding="utf-8"))["format"] == _SUMMARY_FORMAT:
            return None
    names = (SUMMARY_FILE, REPORT_FILE, RATINGS_FILE, PARTICIPANTS_FILE)
    return next((name for name in names if (output / name).exists()), None)


_CONTENTS = outputs.Contents(
    "an analysis",
    rf"summary\.json|report\.html|ratings\.csv|participants\.csv|\.gitignore|plots/(?:{_PLOTS.names})",
    _foreign,
)


def _verdict(comparison: AttributeComparison) -> str:
    """Who is rated highest, and over whom that is shown."""
    best = max(comparison.systems, key=lambda name: comparison.systems[name].mean)
    over: list[str] = []
    level: list[str] = []
    for pair in comparison.pairs:
        if best in (pair.first, pair.second):
            other = pair.second if pair.first == best else pair.first
            (over if pair.shown else level).append(other)
    parts = [f"{best} is rated highest ({comparison.systems[best].mean:.3g} on average)"]
    if over:
        parts.append(f"shown to be over {', '.join(over)}")
    if level:
        parts.append(f"not shown to differ from {', '.join(level)}")
    return "; ".join(parts) + "."


def _write(analysis: Analysis, output: Path) -> None:
    with whole_folder(output / "plots", _PLOTS.refuse_others) as plots:
        pictures = _plot(analysis, plots)
        page = _render(analysis, pictures)
    write_json(output / SUMMARY_FILE, _summary(analysis))  # first: it marks the folder as an analysis
    with whole_file(output / REPORT_FILE) as temporary:
        temporary.write_text(page, encoding="utf-8")
    tables.write(tables.ratings(analysis.key, analysis.answers, analysis.excluded), output / RATINGS_FILE)
    people = tables.participants(analysis.answers, analysis.consistencies, analysis.excluded)
    tables.write(people, output / PARTICIPANTS_FILE)


def _plot(analysis: Analysis, folder: Path) -> dict[Attribute, tuple[bytes, bytes]]:
    """Two pictures of each attribute: over all songs, and song by song."""
    pictures: dict[Attribute, tuple[bytes, bytes]] = {}
    key = analysis.key
    unit = "standard deviations" if analysis.is_normalized else "points"
    for attribute, ratings in analysis.ratings.items():
        label = f"{ATTRIBUTES[attribute]['title']}, {unit}"
        overall, songs = folder / f"{attribute}.png", folder / f"{attribute}_songs.png"
        limits = None if analysis.is_normalized else (0.0, 100.0)
        figures.plot_overall(ratings.values, key.systems, label, limits, overall)
        by_song = {song: ratings.values[:, at] for at, song in enumerate(key.songs)}
        figures.plot_songs(by_song, key.systems, label, limits, songs)
        pictures[attribute] = (overall.read_bytes(), songs.read_bytes())
    return pictures


def _render(analysis: Analysis, pictures: Mapping[Attribute, tuple[bytes, bytes]]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fxnorm.listening_test", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"p_value": _p_value, "p_phrase": _p_phrase, "number": _number}
    return environment.get_template("analysis.html").render(
        analysis=analysis,
        attributes=ATTRIBUTES,
        roles=ROLES,
        level=LEVEL,
        pictures={name: [base64.b64encode(picture).decode() for picture in both] for name, both in pictures.items()},
    )


def _p_value(p: float | None) -> str:
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _p_phrase(p: float) -> str:
    text = _p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _summary(analysis: Analysis) -> dict[str, Any]:
    return {
        "format": _SUMMARY_FORMAT,
        "version": _SUMMARY_VERSION,
        "test": analysis.key.test,
        "unit": "standard deviations" if analysis.is_normalized else "points",
        "participants": len(analysis.answers) - sum(analysis.excluded),
        "excluded": {
            each.result.participant.id: consistency.same_mix
            for each, consistency, is_out in zip(
                analysis.answers, analysis.consistencies or [], analysis.excluded, strict=False
            )
            if is_out
        },
        "most_repeat_difference": analysis.most_repeat_difference,
        "left_out": analysis.left_out,
        "attributes": {
            attribute: asdict(comparison) | {"verdict": _verdict(comparison)}
            for attribute, comparison in analysis.comparisons.items()
        },
    }

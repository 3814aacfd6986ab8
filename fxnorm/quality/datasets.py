"""Whole datasets: their songs, what is not read, and what shows only when songs are compared with each other."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fxnorm.constants import STEMS
from fxnorm.data.dataset import Layout, Song, plain_name
from fxnorm.data.importers.plan import DRY
from fxnorm.data.parallel import map_songs
from fxnorm.errors import DatasetError
from fxnorm.io.names import check_text
from fxnorm.quality import duplicates, labels
from fxnorm.quality import songs as one_song
from fxnorm.quality.findings import SCHEMA, Finding, Severity, as_json, counts, in_words, kept, stopping
from fxnorm.quality.pictures import Curve, Picture
from fxnorm.quality.songs import CheckedSong
from fxnorm.settings import CheckSettings

_ALMOST_ALL = 0.9  # of the songs: a stem that they have and one song has not is missed
_FEWEST_FOR_ALL = 3  # songs


@dataclass(frozen=True)
class CheckedDatasets:
    """What was found in datasets.

    Attributes:
        layouts: which songs there are, and what is not read.
        songs: those that were read, in the order of the datasets.
        findings: all of them but the ignored ones, the worst first.
        settings: by which.
        pictures: of findings, by song, code and file.
    """

    layouts: Sequence[Layout]
    songs: Sequence[CheckedSong]
    findings: Sequence[Finding]
    settings: CheckSettings
    pictures: dict[tuple[str, str, str], list[Picture]] = field(default_factory=dict)

    @property
    def stopping(self) -> list[Finding]:
        """The findings at which a pipeline stops."""
        return stopping(self.findings, self.settings)

    @property
    def bad(self) -> int:
        """How many songs have an error."""
        wrong = {finding.song for finding in self.findings if finding.severity == "error"}
        return sum(str(one.song.folder) in wrong for one in self.songs)

    def by_song(self) -> list[tuple[str, list[Finding]]]:
        """Folders with their findings, the worst first; then the songs in which nothing was found."""
        groups: dict[str, list[Finding]] = {}
        for finding in self.findings:  # by severity: the first finding of a song is its worst
            groups.setdefault(finding.song, []).append(finding)
        for one in self.songs:
            groups.setdefault(str(one.song.folder), [])
        return list(groups.items())

    def summary(self) -> str:
        """The last line of the text."""
        songs = f"{len(self.songs)} song{'' if len(self.songs) == 1 else 's'}"
        return f"{songs}, {self.bad} with problems: {in_words(counts(self.findings))}"

    def lines(self) -> Iterator[str]:
        """The findings as text, grouped by song, and a summary."""
        files = {str(one.song.folder): ", ".join(path.name for path in one.song.files) for one in self.songs}
        for song, findings in self.by_song():
            worst = findings[0].severity if findings else "ok"
            mark = {"error": "BAD ", "warning": "look"}.get(worst, "ok  ")
            yield f"{mark} {song}: {files[song]}" if song in files else f"{mark} {song}"
            yield from (f"       {finding.severity:7} {finding.line} [{finding.code}]" for finding in findings)
        yield self.summary()

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values; ``docs/datasets.md`` describes the keys."""
        return {
            "schema": SCHEMA,
            "datasets": [str(layout.root) for layout in self.layouts],
            "passed": not self.stopping,
            "counts": {"songs": len(self.songs), "bad_songs": self.bad, **counts(self.findings)},
            "settings": self.settings.model_dump(mode="json"),
            "findings": [as_json(finding) for finding in self.findings],
            "songs": [
                {
                    "song": str(one.song.folder),
                    "split": one.split or None,
                    "seconds": round(one.seconds, 3),
                    "figures": one.figures | {f"band_limit_hz/{name}": hertz for name, hertz in _limits(one)},
                }
                for one in self.songs
            ],
        }


def check(roots: Sequence[Path], settings: CheckSettings, workers: int = 0) -> CheckedDatasets:
    """Look at every folder of datasets and read every file of their songs.

    Args:
        roots: folders of splits, or of songs. In one that is called ``dry`` stems need not add up to their mixture.
        settings: what is looked for.
        workers: processes; 0 for one a core.

    Raises:
        DatasetError: a folder is missing or empty, or is named twice.
    """
    if len({root.resolve() for root in roots}) < len(roots):
        raise DatasetError(f"{roots[0]}: expected each dataset once, found {', '.join(map(str, roots))}")
    layouts = [Layout.read(root) for root in roots]
    for layout in layouts:
        if not (layout.problems or layout.unused):
            layout.of(None)
    songs = [one for layout in layouts for one in check_songs(layout, settings, workers)]
    return together(layouts, songs, settings)


def together(layouts: Sequence[Layout], songs: Sequence[CheckedSong], settings: CheckSettings) -> CheckedDatasets:
    """What was found in datasets, from what was found in each of their songs; no file is read.

    Args:
        layouts: of the datasets.
        songs: of all of them, in their order.
        settings: what is looked for.
    """
    findings = [finding for layout in layouts for finding in _of_layout(layout)]
    findings += [finding for one in songs for finding in one.findings]
    findings = _missed_stems(findings, songs)
    findings = _one_of_all(findings, songs)
    pictures: dict[tuple[str, str, str], list[Picture]] = {
        (str(one.song.folder), *key): found for one in songs for key, found in one.pictures.items()
    }
    for finding, picture in _wrong_labels(songs, settings):
        findings.append(finding)
        pictures[finding.song, finding.code, finding.file] = [picture]
    findings += duplicates.find(songs)
    return CheckedDatasets(layouts, songs, kept(findings, settings), settings, pictures)


def check_songs(layout: Layout, settings: CheckSettings, workers: int = 0) -> list[CheckedSong]:
    """Read every file of a dataset's songs; what shows only when songs are compared is left to :func:`together`."""
    splits = layout.splits or {"": layout.flat}
    # by the folder of a split: this goes to the processes once for each song
    split_of = {song.folder.parent: split for split, songs in splits.items() for song in songs}
    selected = layout.present(settings.splits)
    dry = plain_name(layout.root.resolve().name) == DRY
    work = functools.partial(_check, split_of=split_of, settings=settings, dry=dry)
    return [checked for _, checked in map_songs(work, selected, "check", workers or None)[0]]


def _check(song: Song, split_of: dict[Path, str], settings: CheckSettings, dry: bool) -> CheckedSong:
    return one_song.check(song, split_of[song.folder.parent], settings, dry)


def _of_layout(layout: Layout) -> Iterator[Finding]:
    """What is unclear or not read."""
    songs = {song.folder for song in [*layout.songs, *layout.flat]}
    for song in [*layout.songs, *layout.flat]:
        try:
            check_text(song.name)
        except DatasetError:
            yield Finding(
                "ambiguous", "error", str(song.folder), "a name that is not in UTF-8, which no table can have"
            )
    for path, problem in layout.problems.items():
        folder = path if path in songs else path.parent
        message = problem.removeprefix(f"{folder}: ")
        yield Finding("ambiguous", "error", str(folder), message)
    for unused in layout.unused:
        is_file = unused.is_file or unused.path.parent in songs
        if is_file:
            message, file = f"not read: {unused.reason}", unused.path.name
            yield Finding("unused-file", "error", str(unused.path.parent), message, file)
        else:
            severity: Severity = "error" if unused.holds_audio else "warning"
            yield Finding("no-song", severity, str(unused.path), f"not read: {unused.reason}")


def _missed_stems(findings: list[Finding], songs: Sequence[CheckedSong]) -> list[Finding]:
    """Missing stems as warnings where almost all other songs have them."""
    missed = {}
    for stem in STEMS:
        having = sum(stem in one.song.stems for one in songs)
        if len(songs) > having >= max(_FEWEST_FOR_ALL, _ALMOST_ALL * (len(songs) - 1)):
            missed[f"no {stem}: taken as silence"] = having
    return [
        replace(
            finding,
            severity="warning",
            message=f"{finding.message}, and {missed[finding.message]} of {len(songs)} songs have it",
            figures={"songs_with_it": missed[finding.message], "songs": len(songs)},
        )
        if finding.code == "missing-stem" and finding.message in missed
        else finding
        for finding in findings
    ]


def _one_of_all(findings: list[Finding], songs: Sequence[CheckedSong]) -> list[Finding]:
    """One note in place of all songs' notes on band limits, where all songs have them."""
    with_limit = [one for one in songs if one.band_limits_hz]
    if len(songs) < _FEWEST_FOR_ALL or len(with_limit) < len(songs):
        return findings
    lowest = [min(one.band_limits_hz.values()) for one in songs]
    others = [one for one in findings if not (one.code == "band-limit" and one.severity == "note")]
    root = songs[0].song.folder.parent
    message = (
        f"all {len(songs)} songs end at {min(lowest) / 1000:.1f} to {max(lowest) / 1000:.1f} kHz, as MP3 and AAC leave"
        " them: their averages end there too"
    )
    figures = {"lowest_hz": round(min(lowest), 1), "highest_hz": round(max(lowest), 1), "songs": len(songs)}
    return [*others, Finding("band-limit", "note", str(root), message, "", figures)]


def _wrong_labels(songs: Sequence[CheckedSong], settings: CheckSettings) -> Iterator[tuple[Finding, Picture]]:
    every = [one.features for one in songs]
    for doubt in labels.doubts(every, settings.label_songs):
        one = songs[doubt.song]
        message = (
            f"sounds like {doubt.nearest}: {doubt.distance:.1f} deviations from the {doubt.stem} of {doubt.songs} other"
            f" songs, {doubt.nearest_distance:.1f} from their {doubt.nearest}"
        )
        figures = {
            "distance": round(doubt.distance, 2), "nearest_distance": round(doubt.nearest_distance, 2),
            "songs": doubt.songs,
        }  # fmt: skip
        file = one.song.stems[doubt.stem].name
        curves = [
            Curve(f"{doubt.stem} of this song", *labels.spectrum(every[doubt.song][doubt.stem])),
            *(
                Curve(f"{stem} of the others", *labels.spectrum(_median(every, stem, doubt.song)))
                for stem in (doubt.stem, doubt.nearest)
            ),
        ]
        caption = "Average spectra in bands."
        picture = Picture(caption, "Frequency, kHz", "Share of the energy, dB", curves, logarithmic=True)
        yield Finding("wrong-label", "warning", str(one.song.folder), message, file, figures, one.split), picture


def _median(songs: Sequence[dict[str, np.ndarray]], stem: str, without: int) -> np.ndarray:
    rows = [one[stem] for number, one in enumerate(songs) if stem in one and number != without]
    return np.asarray(np.median(rows, axis=0))


def _limits(one: CheckedSong) -> list[tuple[str, float]]:
    return [(name, round(hertz, 1)) for name, hertz in one.band_limits_hz.items()]

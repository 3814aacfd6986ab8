"""The report that people read: one page with winners, tests, players and pictures that needs nothing beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from fxnorm.evaluation.catalogue import (
    BASELINES,
    COMPARED,
    DECISIVE,
    DESCRIBED,
    DISTRIBUTED,
    METRICS,
    NORMALIZED_SUM,
    REFERENCE,
    STATIC_MIX,
    SUMS,
    Metric,
    present,
    rivals,
    split_title,
    title_of,
    winners,
)
from fxnorm.evaluation.excerpts import Excerpts
from fxnorm.evaluation.significance import PairedTest, caution, songs_needed
from fxnorm.evaluation.songs import MIXES, PICTURES, Result
from fxnorm.io.files import whole_file
from fxnorm.io.names import addresses
from fxnorm.io.pictures import COLOURS, inline

__all__ = ["PLOTTED", "SongMetrics", "Split", "markdown", "rivals", "verdict", "write"]

SongMetrics = Mapping[str, Mapping[str, Mapping[str, float]]]
"""song -> system -> metric -> value"""

Means = Mapping[str, Mapping[str, float]]
"""system -> metric -> mean"""

PLOTTED = (
    "stereo_loss_b_matched", "stereo_loss_a_matched", "spectral_wape", "panning_wape", "dynamic_wape",
    "stereo_loss_b", "stereo_loss_a", "spectral_mape", "panning_mape", "dynamic_mape", "loudness_mape",
)  # fmt: skip
"""What stands in the split's picture: at one loudness and robust, then as published."""

_CAPTIONS = {
    "spectra": "Average spectra at one loudness, and their differences from the first mix's.",
    "panning": "Similarity of left and right, and balance, over frequency.",
    "loudness": "Short-term loudness over time (EBU Tech 3341).",
    "waveforms": "Waveforms of the whole song.",
}


@dataclass(frozen=True)
class Split:
    """What was found on one split.

    Attributes:
        songs: every metric by song, system and name; the reference mix among the systems, if there is one.
        means: their means over songs.
        intervals: confidence intervals of the means, where there are any.
        pairs: tests between systems, by metric.
        results: the finished songs, for their excerpts and pictures.
    """

    songs: SongMetrics
    means: Means
    intervals: Mapping[str, Mapping[str, tuple[float, float] | None]]
    pairs: Mapping[str, Sequence[PairedTest]]
    results: Mapping[str, Result]


@dataclass(frozen=True)
class _Named(Metric):
    """A metric that knows the name it is stored under."""

    name: str = ""

    @classmethod
    def of(cls, name: str) -> "_Named":
        return cls(**vars(METRICS[name]), name=name)


def write(path: Path, splits: Mapping[str, Split], facts: Mapping[str, Any]) -> None:
    """Write the page. It links to ``mixes/SPLIT/SONG/SYSTEM.flac`` and ``songs.csv`` beside it, and needs neither.

    The folder of a song is called as :func:`fxnorm.io.names.addresses` names it.

    Args:
        path: the ``.html`` file.
        splits: the results, by the split's name.
        facts: what was run, as it should stand at the page's end.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fxnorm.evaluation", "page"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("report.html").render(
        splits=[_split(name, split) for name, split in splits.items()],
        verdicts=[verdict(name, split) for name, split in splits.items()],
        lead=_lead(splits),
        glossary=[_Named.of(name) for name in METRICS],
        facts=facts,
        title_of=title_of,
        heading_of=_heading,
        sums=SUMS,
        winners=winners,
    )
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def markdown(means: Mapping[str, Means], verdicts: Sequence[str]) -> str:
    """The verdicts and a table of each split in Markdown, the best value of each metric in bold."""
    lines = [f"- {text}" for text in verdicts]
    for split, systems in means.items():
        metrics = present(COMPARED, systems.values())
        titles = [COMPARED[metric].title for metric in metrics]
        lines += ["", f"## {split_title(split)}", "", "| system | " + " | ".join(titles) + " |"]
        lines.append("| --- |" + " --- |" * len(metrics))
        for system in (system for system in systems if system != REFERENCE):
            metrics_of_system = systems[system]
            cells = [_bold(metric, system, systems) if metric in metrics_of_system else "" for metric in metrics]
            lines.append(f"| {title_of(system)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def verdict(name: str, split: Split) -> str:
    """One sentence: whether the network beats the sum of the normalized stems, with the numbers and what they show."""
    means = split.means
    networks = [system for system in means if system not in (REFERENCE, *BASELINES)]
    if not networks or DECISIVE not in means.get(NORMALIZED_SUM, {}):
        return f"{split_title(name)}: no song has a reference mix, so there is nothing to compare."
    if NORMALIZED_SUM not in rivals(means):
        return f"{split_title(name)}: the {title_of(NORMALIZED_SUM)} is the reference itself, so nothing can be nearer."
    system = networks[0]
    word = "nearer to" if means[system][DECISIVE] < means[NORMALIZED_SUM][DECISIVE] else "NOT nearer to"
    return (
        f"{split_title(name)}: on average, {title_of(system)} is {word} the reference mixes than the sum of the "
        f"normalized stems, all at one loudness: {METRICS[DECISIVE].title.lower()}, "
        f"{_against(split, system, NORMALIZED_SUM)}.{_against_static(split, system)}{_of_several(split)}"
    )


def _against_static(split: Split, system: str) -> str:
    """A sentence on the mix that needs no network, if the Mixer has one."""
    if DECISIVE not in split.means.get(STATIC_MIX, {}):
        return ""
    word = "beats" if split.means[system][DECISIVE] < split.means[STATIC_MIX][DECISIVE] else "does NOT beat"
    return f" It {word} the {title_of(STATIC_MIX)}: {_against(split, system, STATIC_MIX)}."


def _against(split: Split, system: str, baseline: str) -> str:
    """The decisive metric of two systems, on how many songs the first is nearer, and what that shows."""
    value, other = split.means[system][DECISIVE], split.means[baseline][DECISIVE]
    pairs = split.pairs[DECISIVE]
    (pair,) = [pair for pair in pairs if {pair.first, pair.second} == {system, baseline}]
    better = pair.first_lower if pair.first == system else pair.second_lower
    if pair.songs < songs_needed(len(pairs)):
        shown = "too few to show a difference"
    else:
        shown = f"p = {pair.corrected_p_value:.2g} (Wilcoxon, corrected for {len(pairs)} comparisons)"
    change = f"{100 * (value / other - 1):+.1f} %"
    return f"{value:.3f} against {other:.3f} ({change}), nearer on {better} of {_songs(pair.songs)}, {shown}"


def _wins(split: Split, systems: Sequence[str]) -> list[tuple[str, list[str]]]:
    """For each system, on how many songs it is nearer than each of ``systems``; empty without a comparison."""
    nearer: dict[tuple[str, str], str] = {}
    for pair in split.pairs.get(DECISIVE, ()):
        nearer[pair.first, pair.second] = f"{pair.first_lower} of {pair.songs}"
        nearer[pair.second, pair.first] = f"{pair.second_lower} of {pair.songs}"
    rows = [(system, [nearer.get((system, other), "") for other in systems]) for system in systems]
    return rows if nearer else []


def _of_several(split: Split) -> str:
    """A sentence on the songs that have several reference mixes; nothing without any."""
    count = sum(bool(result.references()) for result in split.results.values())
    if not count:
        return ""
    has = "has" if count == 1 else "have"
    return f" {_songs(count)} {has} several reference mixes: each mix is compared with the one that it is nearest to."


def _heading(system: str) -> str:
    title = title_of(system)
    return title[:1].upper() + title[1:]


def _bold(metric: str, system: str, systems: Means) -> str:
    text = f"{systems[system][metric]:.3f}"
    return f"**{text}**" if system in winners(metric, systems) else text


def _lead(splits: Mapping[str, Split]) -> str:
    counts = [f"{split_title(name)}: {_songs(len(split.songs))}." for name, split in splits.items()]
    systems = dict.fromkeys(system for split in splits.values() for system in split.means if system != REFERENCE)
    return f"{' '.join(counts)} Mixed by: {', '.join(title_of(system) for system in systems)}."


def _split(name: str, split: Split) -> dict[str, Any]:
    """A split as the page shows it."""
    systems = [REFERENCE] * (REFERENCE in split.means) + [system for system in split.means if system != REFERENCE]
    of_rivals = rivals(split.means)
    compared = present(COMPARED, [split.means[system] for system in of_rivals])
    pair_count = max((len(pairs) for pairs in split.pairs.values()), default=0)
    left_out = [title_of(system) for system in systems if system != REFERENCE and system not in of_rivals]
    with_reference = [song for song in split.songs.values() if REFERENCE in song]
    shown = [*compared, *present(DESCRIBED, split.means.values())]
    folders = addresses(split.results)
    return {
        "name": name,
        "title": split_title(name),
        "songs": split.songs,
        "count": _songs(len(split.songs)),
        "systems": systems,
        "rivals": of_rivals,
        "means": split.means,
        "intervals": split.intervals,
        "compared": [_Named.of(metric) for metric in [*compared, *present(DISTRIBUTED, split.means.values())]],
        "wins": _wins(split, of_rivals),
        "described": [_Named.of(metric) for metric in DESCRIBED],
        "has_balance": bool(present(["spectral_balance_db"], split.means.values())),
        "has_references": bool(compared),
        "left_out": left_out[0] if left_out else "",
        "pairs": [(_Named.of(metric), pairs) for metric, pairs in split.pairs.items()],
        "pair_count": "one pair" if pair_count == 1 else f"{pair_count} pairs",
        "caution": caution(len(with_reference) if pair_count else len(split.songs), pair_count),
        "with_intervals": ", with 95 % confidence intervals" if _any_interval(split) else "",
        "table_metrics": [_Named.of(metric) for metric in shown],
        "table_data": {"systems": systems, "metrics": {metric: _column(metric, split) for metric in shown}},
        "players": [
            _player(number, song, result, f"{MIXES}/{name}/{folders[song]}", f"{name}-{number}")
            for number, (song, result) in enumerate(split.results.items(), start=1)
        ],
    }


def _column(metric: str, split: Split) -> dict[str, Any]:
    """One metric by song and system, for the table that can be sorted."""
    values = {
        song: {system: metrics[metric] for system, metrics in systems.items() if metric in metrics}
        for song, systems in split.songs.items()
    }
    return {"scale": METRICS[metric].scale, "digits": METRICS[metric].digits, "values": values}


def _player(number: int, song: str, result: Result, folder: str, prefix: str) -> dict[str, Any]:
    excerpts, pictures = result.excerpts(), result.folder / PICTURES
    mixes = []
    for position, (system, mix) in enumerate(excerpts.mixes.items()):
        lufs = mix["loudness_lufs"]
        level = "silent" if lufs is None else f"{DESCRIBED['integrated_loudness_lufs'].shown(lufs)} LUFS"
        mixes.append(
            {
                "name": system,
                "title": _heading(system),
                "level": level,
                "file": quote(f"{folder}/{system}.flac"),
                "colour": "var(--ink)" if position == 0 else COLOURS[(position - 1) % len(COLOURS)],
            }
        )
    return {
        "name": song,
        "number": number,
        "seconds": round(excerpts.seconds, 1),
        "where": f"{excerpts.seconds:.1f} s from {_clock(excerpts.start_seconds)}, the loudest part",
        "turned_down": _turned_down(excerpts),
        "references": _compared_with(result),
        "mixes": mixes,
        "data": {"seconds": excerpts.seconds, "mixes": list(excerpts.mixes.values())},
        "pictures": [
            {
                "caption": caption,
                "svg": inline((pictures / f"{picture}.svg").read_text(encoding="utf-8"), f"{prefix}-{picture}"),
            }
            for picture, caption in _CAPTIONS.items()
        ],
    }


def _compared_with(result: Result) -> str:
    references = result.references()
    if not references:
        return ""
    pairs = [f"{title_of(system)} with {name}" for system, name in references.items() if system != REFERENCE]
    return (
        f"Several reference mixes, at one loudness; the one that is shown is {references[REFERENCE]}. Compared, by the "
        f"least {METRICS[DECISIVE].title.lower()}: {', '.join(pairs)}."
    )


def _turned_down(excerpts: Excerpts) -> str:
    if not excerpts.turned_down_db:
        return ""
    decibels = f"{excerpts.turned_down_db:.1f} dB"
    return f"All mixes of this song, here and as files, are turned down by {decibels}, because one would clip."


def _any_interval(split: Split) -> bool:
    return any(interval for metrics in split.intervals.values() for interval in metrics.values())


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02d}"


def _songs(count: int) -> str:
    return "1 song" if count == 1 else f"{count} songs"

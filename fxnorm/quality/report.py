"""The page on what the check found: songs by severity, pictures of what is wrong, and what to do about it.

It needs nothing beside it. Pictures are drawn for the worst songs alone: a page of a thousand songs stays small.
"""

from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from fxnorm.io import pictures
from fxnorm.io.files import whole_file
from fxnorm.quality.datasets import CheckedDatasets
from fxnorm.quality.findings import KINDS, Finding, counts
from fxnorm.quality.pictures import Picture
from fxnorm.settings import CheckSettings

_MOST_LISTED = 200  # songs with findings in full; the others are rows of the table
_HEIGHT_INCHES = 2.7
_STYLES = ("-", "--", "-.", ":")
_FREQUENCY_TICKS_KHZ = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


def write(path: Path, found: CheckedDatasets) -> None:
    """Write the page into an ``.html`` file."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fxnorm.quality", "page"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    numbers = counts(found.findings)
    groups = [(song, findings) for song, findings in found.by_song() if findings]
    pictured = {song for song, _ in [group for group in groups if _has_pictures(found, *group)][: _pictured(found)]}
    page = environment.get_template("check.html").render(
        title=", ".join(str(layout.root) for layout in found.layouts),
        songs=len(found.songs),
        bad=found.bad,
        hours=sum(one.seconds for one in found.songs) / 3600,
        counts=numbers,
        verdict=_verdict(found),
        kinds=[_kind(code, found) for code in KINDS if any(one.code == code for one in found.findings)],
        groups=[
            _group(number, *group, found, group[0] in pictured) for number, group in enumerate(groups[:_MOST_LISTED])
        ],
        others=[_row(*group) for group in groups[_MOST_LISTED:]],
        clean=len(found.by_song()) - len(groups),
        settings=_settings(found.settings),
    )
    with whole_file(path) as temporary:
        # names of files may be in another encoding
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _pictured(found: CheckedDatasets) -> int:
    return found.settings.pictured_songs


def _has_pictures(found: CheckedDatasets, song: str, findings: list[Finding]) -> bool:
    return any((song, finding.code, finding.file) in found.pictures for finding in findings)


def _verdict(found: CheckedDatasets) -> str:
    stopping = found.stopping
    if not found.findings:
        return "Nothing was found."
    if not stopping:
        return "Nothing that was found stops the pipeline."
    what = "1 finding stops" if len(stopping) == 1 else f"{len(stopping)} findings stop"
    return f"{what} the pipeline (check.stop_at: {found.settings.stop_at})."


def _kind(code: str, found: CheckedDatasets) -> dict[str, Any]:
    kind = KINDS[code]  # type: ignore[index]  # a key of it
    of_kind = [finding for finding in found.findings if finding.code == code]
    return {
        "code": code,
        "title": kind.title,
        "meaning": kind.meaning,
        "remedy": kind.remedy,
        "count": len(of_kind),
        "songs": len({finding.song for finding in of_kind}),
        "severity": of_kind[0].severity,
    }


def _group(number: int, song: str, findings: list[Finding], found: CheckedDatasets, pictured: bool) -> dict[str, Any]:
    drawn: list[dict[str, Any]] = []
    seen: set[int] = set()
    for finding in findings if pictured else []:
        for picture in found.pictures.get((song, finding.code, finding.file), []):
            content = hash((picture.caption, *(curve.values.tobytes() for curve in picture.curves)))
            if content not in seen:  # two faults of one song show the same difference
                seen.add(content)
                svg = _draw(picture, f"s{number}-{len(drawn)}")
                drawn.append({"svg": svg, "caption": picture.caption, "title": KINDS[finding.code].title})
    return {
        "id": f"song-{number + 1}",
        "name": Path(song).name,
        "folder": song,
        "split": findings[0].split,
        "severity": findings[0].severity,
        "findings": [_shown(finding) for finding in findings],
        "pictures": drawn,
    }


def _row(song: str, findings: list[Finding]) -> dict[str, Any]:
    kinds = dict.fromkeys(KINDS[finding.code].title for finding in findings)
    return {"folder": song, "severity": findings[0].severity, "kinds": ", ".join(kinds), "count": len(findings)}


def _shown(finding: Finding) -> dict[str, Any]:
    message = finding.message[:1].upper() + finding.message[1:]
    return {
        "severity": finding.severity,
        "code": finding.code,
        "title": KINDS[finding.code].title,
        "file": finding.file,
        "message": message,
    }


def _settings(settings: CheckSettings) -> dict[str, str]:
    values = settings.model_dump(mode="json")
    return {
        f"check.{name}": ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        for name, value in values.items()
    }


def _draw(picture: Picture, prefix: str) -> Markup:
    size = (pictures.WIDTH_INCHES, _HEIGHT_INCHES)
    figure = Figure(figsize=size, dpi=pictures.DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    pictures.prepare_axes(axes)
    for number, curve in enumerate(picture.curves):
        style: dict[str, Any] = {"color": "black", "linewidth": 1.8}
        if number:
            style = {"color": pictures.COLOURS[(number - 1) % len(pictures.COLOURS)], "linewidth": 1.4}
        if curve.marked:
            style |= {"marker": "o", "markersize": 2.5}
        axes.plot(curve.places, curve.values, label=curve.name, linestyle=_STYLES[number % len(_STYLES)], **style)
    if picture.mark is not None:
        axes.axvline(picture.mark, color=pictures.COLOURS[1], linewidth=1.0, linestyle=":")
    if picture.logarithmic:
        axes.set_xscale("log")
        axes.set_xticks(_FREQUENCY_TICKS_KHZ, [f"{tick:g}" for tick in _FREQUENCY_TICKS_KHZ])
        axes.minorticks_off()
    low, high = axes.get_ylim()
    if picture.least_range is not None and high - low < picture.least_range:
        axes.set_ylim((low + high - picture.least_range) / 2, (low + high + picture.least_range) / 2)
    axes.ticklabel_format(axis="y", useOffset=False)
    places = np.concatenate([curve.places for curve in picture.curves])
    axes.set(xlabel=picture.places, ylabel=picture.values, xlim=(float(places.min()), float(places.max())))
    if len(picture.curves) > 1:
        figure.legend(loc="outside upper center", ncols=len(picture.curves), frameon=False, fontsize="small")
    return pictures.inline(pictures.svg(figure), prefix)

"""The table (``mixes.csv``) and the contact sheet (``index.html``) of a catalogue's mixes."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import jinja2

from fxnorm.catalogue.records import Drift, Row, counted
from fxnorm.constants import STEMS
from fxnorm.mixing.report import FAR

_LOUDNESS_RANGE = (-36.0, 0.0)  # LUFS, of the page's scale
_DRIFT_RANGE = 2 * FAR  # spreads
COLUMNS = (
    "session", "status", "file", "seconds", "loudness_lufs", "true_peak_dbtp", "remark",
    *(f"drift_{stem}" for stem in STEMS), *(f"drift_{stem}_effect" for stem in STEMS),
    *(f"tracks_{stem}" for stem in STEMS), "warnings", "message",
)  # fmt: skip
"""Of the table."""


def table(rows: Sequence[Row]) -> bytes:
    """The table as CSV in UTF-8, a line for each session."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_cells(row) for row in rows)
    return text.getvalue().encode("utf-8")


def page(rows: Sequence[Row], facts: Mapping[str, str], notes: Sequence[str] = ()) -> bytes:
    """The contact sheet: a player, loudness and drift of each mix. It needs nothing but the mixes beside it.

    Args:
        rows: of all sessions, in the order of the page.
        facts: what was run, for the page's end.
        notes: sentences on the catalogue as a whole.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fxnorm.catalogue", "page"), autoescape=True, undefined=jinja2.StrictUndefined
    )
    mixed = [row for row in rows if row.status == "mixed"]
    levels = [row.loudness_lufs for row in mixed if row.loudness_lufs is not None]
    text = environment.get_template("index.html").render(
        counts=counted(rows),
        length=_duration(sum(row.seconds or 0.0 for row in mixed)),
        loudness=f"{min(levels):.1f} to {max(levels):.1f} LUFS" if levels else "",
        far=sum(any(abs(drift.spreads) > FAR for drift in row.drift.values()) for row in mixed),
        far_spreads=f"{FAR:g}",
        far_place=_place(FAR),
        warned=sum(bool(row.warnings) or row.remark is not None for row in mixed),
        failed=[{"session": row.session, "message": row.message} for row in rows if row.status == "failed"],
        mixes=[_mix(row) for row in mixed],
        facts=facts,
        notes=notes,
    )
    return text.encode("utf-8")


def _cells(row: Row) -> dict[str, Any]:
    values: dict[str, Any] = row.model_dump(include=set(COLUMNS))
    for stem in STEMS:
        drift = row.drift.get(stem)
        values[f"drift_{stem}"] = None if drift is None else drift.spreads
        values[f"drift_{stem}_effect"] = None if drift is None else drift.effect
        values[f"tracks_{stem}"] = row.groups.get(stem)
    values["warnings"] = "; ".join(row.warnings)
    return {name: "" if value is None else value for name, value in values.items()}


def _mix(row: Row) -> dict[str, Any]:
    folder, _, name = row.session.rpartition("/")
    assert row.file is not None
    return {
        "session": row.session,
        "folder": folder,
        "name": name,
        "address": quote(row.file),
        "format": row.file.rpartition(".")[2].upper(),
        "seconds": row.seconds,
        "length": _duration(row.seconds or 0.0),
        "loudness": row.loudness_lufs,
        "loudness_place": _percent(row.loudness_lufs, *_LOUDNESS_RANGE),
        "true_peak": row.true_peak_dbtp,
        "groups": ", ".join(f"{row.groups[stem]} {stem}" for stem in STEMS if stem in row.groups),
        "drift": [_drift(stem, row.drift[stem]) for stem in STEMS if stem in row.drift],
        "worst": max((abs(drift.spreads) for drift in row.drift.values()), default=0.0),
        "remarks": [*([row.remark] if row.remark is not None else []), *row.warnings],
    }


def _drift(stem: str, drift: Drift) -> dict[str, Any]:
    return {
        "stem": stem,
        "effect": drift.effect,
        "spreads": f"{drift.spreads:+.1f}",
        "place": _place(abs(drift.spreads)),
        "far": abs(drift.spreads) > FAR,
    }


def _place(spreads: float) -> float:
    """Where on the page's scale, in percent; what lies beyond its end stands there."""
    return _percent(spreads, 0.0, _DRIFT_RANGE)


def _percent(value: float | None, low: float, high: float) -> float:
    if value is None or not math.isfinite(value):
        return 0.0
    return round(100 * min(1.0, max(0.0, (value - low) / (high - low))), 1)


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"

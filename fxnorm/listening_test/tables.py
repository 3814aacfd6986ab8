"""The ratings and the participants as tidy tables (CSV)."""

import csv
from collections.abc import Sequence
from pathlib import Path

from fxnorm.io.files import whole_file
from fxnorm.listening_test.answers import Answers
from fxnorm.listening_test.consistency import Consistency
from fxnorm.listening_test.formats import ATTRIBUTES, DEVICES, ROLES, Key

Row = dict[str, object]


def ratings(key: Key, answers: Sequence[Answers], excluded: Sequence[bool]) -> list[Row]:
    """One row a rating, in points, as it was given."""
    rows: list[Row] = []
    for each, is_excluded in zip(answers, excluded, strict=True):
        seen: set[str] = set()
        for position, result in enumerate(each.result.trials, start=1):
            trial = key.trials[result.trial]
            rows += [
                {
                    "participant": each.result.participant.id,
                    "position": position,
                    "song": trial.song,
                    "second_time": trial.song in seen,
                    "system": trial.mixes[clip],
                    "number": number,
                    "attribute": attribute,
                    "rating": result.ratings[attribute][clip],
                    "listened_seconds": result.listened_seconds.get(clip, 0.0),
                    "excluded": is_excluded,
                }
                for number, clip in enumerate(result.order, start=1)
                for attribute in ATTRIBUTES
            ]
            seen.add(trial.song)
    return rows


def participants(
    answers: Sequence[Answers], consistencies: Sequence[Consistency] | None, excluded: Sequence[bool]
) -> list[Row]:
    """One row a participant."""
    all_consistencies: Sequence[Consistency | None] = consistencies or [None] * len(answers)
    rows: list[Row] = []
    for each, consistency, is_excluded in zip(answers, all_consistencies, excluded, strict=True):
        result, person = each.result, each.result.participant
        rows.append(
            {
                "participant": person.id,
                "file": each.path.name,
                "code": person.code,
                "experience_years": person.experience_years,
                "role": ROLES[person.role],
                "device": DEVICES[person.device],
                "device_model": person.device_model,
                "started": result.started.isoformat(),
                "finished": result.finished.isoformat(),
                "same_mix_difference": consistency.same_mix if consistency else None,
                "other_mixes_difference": consistency.other_mixes if consistency else None,
                "without_difference": consistency.is_without_difference if consistency else None,
                "excluded": is_excluded,
                "comment": result.comment,
            }
        )
    return rows


def write(rows: Sequence[Row], path: Path) -> None:
    """As CSV, with the first row's names."""
    with whole_file(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)


def _harmless(value: object) -> object:
    """What participants wrote must not become a formula in a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value

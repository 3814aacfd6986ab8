"""What a person decided stays when a session is sorted anew, whatever the new sorting proposes."""

import itertools
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fxnorm.page import rows
from fxnorm.sessions import table as tables
from fxnorm.sessions.table import Table

FILES = ("a.wav", "b.wav", "c.wav", "d.wav", "e.wav")
PAIRS = [*itertools.combinations(FILES, 2)]


def table_of(pairs: Mapping[str, str], by: Mapping[str, str], files: tuple[str, ...] = FILES) -> Table:
    """A table whose rows are all of one group; the first half of each pair is the left one."""
    halves = dict(pairs) | {two: one for one, two in pairs.items()}
    tracks: list[dict[str, Any]] = [
        {"file": file, "group": "drums", "by": by.get(file, "word")}
        | ({"pair": halves[file], "side": "left" if file in pairs else "right"} if file in halves else {})
        for file in files
    ]
    return tables.parse({"tracks": tracks}, "table")


def pairs_of(table: Table) -> set[tuple[str, str]]:
    return {(track.file, track.pair) for track in table.tracks if track.pair is not None and track.file < track.pair}


@st.composite
def some_pairs(draw: st.DrawFn) -> dict[str, str]:
    found: dict[str, str] = {}
    for one, two in draw(st.permutations(PAIRS))[: draw(st.integers(0, 3))]:
        if not {one, two} & {*found, *found.values()}:
            found[one] = two
    return found


def test_a_persons_pair_is_kept_and_the_proposals_with_the_same_file_is_not() -> None:
    before = table_of({"a.wav": "c.wav"}, {"a.wav": "hand", "c.wav": "hand"})
    found = rows.with_hand(table_of({"a.wav": "b.wav", "d.wav": "e.wav"}, {}), before)
    assert pairs_of(found) == {("a.wav", "c.wav"), ("d.wav", "e.wav")}
    assert [track.by for track in found.tracks] == ["hand", "word", "hand", "word", "word"]


def test_a_pair_that_a_person_parted_is_not_made_again() -> None:
    before = table_of({}, {"a.wav": "hand"})
    assert pairs_of(rows.with_hand(table_of({"a.wav": "b.wav"}, {}), before)) == set()


@given(some_pairs(), some_pairs(), st.sets(st.sampled_from(FILES)), st.sets(st.sampled_from(FILES), min_size=1))
def test_all_that_a_person_decided_stays_whatever_is_proposed(
    proposed: dict[str, str], before: dict[str, str], decided: set[str], there: set[str]
) -> None:
    files = tuple(file for file in FILES if file in there)
    here = {one: two for one, two in proposed.items() if {one, two} <= there}
    old = table_of(before, dict.fromkeys(decided, "hand"))
    found = rows.with_hand(table_of(here, {}, files), old)
    assert tuple(track.file for track in found.tracks) == files
    assert {track.file for track in found.tracks if track.by == "hand"} == decided & there
    by_hand = {pair for pair in pairs_of(old) if {*pair} <= decided & there}
    assert by_hand <= pairs_of(found)
    assert pairs_of(found) <= pairs_of(old) | {*here.items()}

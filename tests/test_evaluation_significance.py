"""Intervals and tests over songs, against scipy, counting by hand, and what they promise."""

import itertools

import numpy as np
import pytest
import scipy.stats

from fxnorm.evaluation.significance import (
    FEWEST_SONGS,
    LEVEL,
    caution,
    compare_pairs,
    holm,
    interval,
    smallest_p_value,
    songs_needed,
)

pytestmark = pytest.mark.filterwarnings("error")


def by_song(*values: float) -> dict[str, float]:
    return {f"song {number}": value for number, value in enumerate(values)}


def test_an_interval_covers_the_true_mean_about_as_often_as_it_promises() -> None:
    random = np.random.default_rng(3)
    samples = random.exponential(size=(100, 20))
    intervals = [interval(sample.tolist()) for sample in samples]
    covered = sum(low <= 1 <= high for low, high in filter(None, intervals))
    assert 86 <= covered <= 99


def test_an_interval_is_the_same_each_time_and_none_with_few_songs() -> None:
    values = list(map(float, range(FEWEST_SONGS)))
    assert interval(values) == interval(values)
    assert interval([]) is interval(values[1:]) is None
    assert interval([2.0] * FEWEST_SONGS) == (2.0, 2.0)


def test_an_interval_holds_the_mean_and_stays_within_the_values() -> None:
    for values in ([1.0, 2.0], [0.0, 0.0, 5.0], [1.0, 2.0, 4.0, 100.0]):
        found = interval(5 * values)
        assert found is not None
        assert min(values) <= found[0] <= np.mean(values) <= found[1] <= max(values)


def test_holms_correction_is_that_of_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_pairs_are_tested_on_the_songs_they_share() -> None:
    values = {"a": by_song(1, 2, 3, 4, 5, 6, 7), "b": by_song(2, 4, 6, 8, 10, 12), "c": by_song(1, 2, 3, 4, 5, 6, 7)}
    ab, ac, bc = compare_pairs(values)
    assert (ab.first, ab.second, ab.songs, ab.first_lower) == ("a", "b", 6, 6)
    assert ab.mean_difference == -3.5
    assert ab.p_value == smallest_p_value(6) == scipy.stats.wilcoxon([1, 2, 3, 4, 5, 6]).pvalue
    assert (ac.p_value, ac.corrected_p_value) == (1, 1), "the same values"
    assert bc.corrected_p_value == pytest.approx(3 * bc.p_value)


@pytest.mark.parametrize("pairs", [1, 3, 6, 10])
def test_with_fewer_songs_than_needed_even_the_clearest_difference_stays_over_the_level(pairs: int) -> None:
    for songs, enough in ((songs_needed(pairs) - 1, False), (songs_needed(pairs), True)):
        clearest = [smallest_p_value(songs)] * pairs
        assert (max(holm(clearest)) <= LEVEL) == enough
        assert ("cannot show a difference" in caution(songs, pairs)) != enough
        assert ("Intervals of a mean are shown from" in caution(songs, pairs)) == (songs < FEWEST_SONGS)


def test_songs_that_nothing_is_compared_with_are_described() -> None:
    assert "nothing is tested" in caution(3, 0)


def test_the_smallest_p_value_is_that_of_all_signs_alike() -> None:
    for songs in range(1, 8):
        outcomes = [sum(signs) for signs in itertools.product((0, 1), repeat=songs)]
        extreme = sum(outcome in (0, songs) for outcome in outcomes) / len(outcomes)
        assert smallest_p_value(songs) == pytest.approx(extreme)

"""Statistics of a listening test against scipy, hand computation and identities; answers that nobody should send."""

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from click.testing import CliRunner

from fxnorm.cli import main
from fxnorm.errors import DatasetError, SettingsError
from fxnorm.evaluation.significance import holm
from fxnorm.io.files import write_json
from fxnorm.listening_test import analyse, figures
from fxnorm.listening_test.answers import Ratings, as_arrays, normalized, read_answers
from fxnorm.listening_test.comparisons import AttributeComparison, compare
from fxnorm.listening_test.consistency import MOST_REPEAT_DIFFERENCE, Consistency, consistencies
from fxnorm.listening_test.formats import ATTRIBUTES, KEY_FORMAT, Attribute, Excerpt, Key, Trial
from tests.listening import SYSTEMS, made_up_answers, write_answers

NAMES = ["a", "b", "c"]


def make_key(repeats: bool = True, songs: int = 2) -> Key:
    trials = {
        f"{number:016x}": Trial(
            song=f"song {number}",
            repeats=None,
            mixes={f"{16 * number + 256 + at:016x}": system for at, system in enumerate(SYSTEMS)},
        )
        for number in range(songs)
    }
    if repeats:
        trials["f" * 16] = trials[f"{0:016x}"].model_copy(update={"repeats": f"{0:016x}"})
    return Key(
        format=KEY_FORMAT,
        version=1,
        test="ab" * 8,
        seed=0,
        loudness=-23.0,
        excerpts={f"song {number}": Excerpt(start_seconds=0.0, seconds=25.0) for number in range(songs)},
        trials=trials,
    )


def write_key(key: Key, folder: Path) -> Path:
    write_json(folder / "key.json", key.model_dump(mode="json"))
    return folder / "key.json"


def made_up_ratings(
    participants: int, songs: int, effects: list[float], seed: int = 0, taste: float = 4.0
) -> np.ndarray:
    """Ratings (participants, songs, systems) with every random effect that the model has."""
    generator = np.random.default_rng(seed)
    return (
        50
        + generator.normal(0, 8, (participants, 1, 1))
        + generator.normal(0, 5, (1, songs, 1))
        + np.array(effects)
        + generator.normal(0, taste, (participants, 1, len(effects)))
        + generator.normal(0, 6, (participants, songs, len(effects)))
    )


def compare_one(values: np.ndarray, names: list[str]) -> AttributeComparison:
    """On one attribute alone."""
    return compare({"clarity": values}, names)["clarity"]


def test_friedmans_test_is_scipys_and_its_effect_size_that_of_the_ranks() -> None:
    values = made_up_ratings(8, 3, [0, 5, 10])
    found = compare_one(values, NAMES).friedman
    assert found is not None
    means = values.mean(axis=1)
    expected = scipy.stats.friedmanchisquare(*means.T)
    assert (found.chi_square, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    rank_sums = scipy.stats.rankdata(means, axis=1).sum(axis=0)
    deviations = np.square(rank_sums - rank_sums.mean()).sum()
    assert found.kendall_w == pytest.approx(12 * deviations / (8**2 * (3**3 - 3)))  # Kendall's definition


def test_signed_ranks_of_pairs_are_scipys_corrected_after_holm() -> None:
    values = made_up_ratings(9, 4, [0, 2, 9])
    found = compare_one(values, NAMES)
    means = values.mean(axis=1)
    raw = [scipy.stats.wilcoxon(means[:, x] - means[:, y]).pvalue for x, y in ((0, 1), (0, 2), (1, 2))]
    order = np.argsort(raw)
    by_hand = np.empty(3)
    by_hand[order] = np.minimum(1, np.maximum.accumulate(np.sort(raw) * [3, 2, 1]))
    assert [pair.p_wilcoxon for pair in found.pairs] == pytest.approx(list(by_hand))
    assert [(pair.first, pair.second) for pair in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_pairs_are_corrected_over_all_attributes_together() -> None:
    ratings: dict[Attribute, np.ndarray] = {
        attribute: made_up_ratings(9, 4, [0, effect, 12], seed=number)
        for number, (attribute, effect) in enumerate(zip(ATTRIBUTES, (1, 4, 9), strict=True))
    }
    found = compare(ratings, NAMES)
    raw = [
        scipy.stats.wilcoxon(means[:, x] - means[:, y]).pvalue
        for means in (values.mean(axis=1) for values in ratings.values())
        for x, y in ((0, 1), (0, 2), (1, 2))
    ]
    pairs = [pair for attribute in ATTRIBUTES for pair in found[attribute].pairs]
    assert [pair.p_wilcoxon for pair in pairs] == pytest.approx(holm(raw))
    single = [pair for values in ratings.values() for pair in compare_one(values, NAMES).pairs]
    smallest = int(np.argmin([pair.p_model or 0.0 for pair in single]))
    assert pairs[smallest].p_model == pytest.approx(3 * (single[smallest].p_model or 0.0))  # of nine instead of three
    assert [(pair.low, pair.high) for pair in pairs] == [(pair.low, pair.high) for pair in single]
    assert [pair.difference for pair in pairs] == [pair.difference for pair in single]


def test_a_test_that_cannot_be_made_is_not_corrected_for() -> None:
    ratings: dict[Attribute, np.ndarray] = {
        "clarity": made_up_ratings(9, 4, [0, 4, 9]),
        "excitement": np.full((9, 4, 3), 50.0),
    }
    found = compare(ratings, NAMES)
    assert [pair.p_model for pair in found["excitement"].pairs] == [None] * 3
    alone = compare_one(ratings["clarity"], NAMES)
    assert [pair.p_model for pair in found["clarity"].pairs] == [pair.p_model for pair in alone.pairs]


def test_rank_biserial_correlation_by_hand() -> None:
    """Differences 1, 2, -3, 4 have the ranks 1 to 4: (1 + 2 - 3 + 4) / 10."""
    values = np.zeros((4, 1, 2))
    values[:, 0, 0] = [1, 2, -3, 4]
    (pair,) = compare_one(values, ["a", "b"]).pairs
    assert pair.rank_biserial == pytest.approx(0.4)
    assert pair.difference == pytest.approx(1.0)


def test_the_model_agrees_with_the_analysis_of_variance_of_a_complete_design() -> None:
    """Balanced ratings: differences are those of the means, and their errors come from participant by system."""
    values = made_up_ratings(12, 4, [0, 3, 12], taste=8.0)
    found = compare_one(values, NAMES)
    assert found.model is not None
    means = values.mean(axis=1)
    interaction = means - means.mean(axis=1, keepdims=True) - means.mean(axis=0) + means.mean()
    variance = np.square(interaction).sum() / (11 * 2)  # of a participant's mean over songs
    error = np.sqrt(2 * variance / 12)
    raw = []
    for pair, (x, y) in zip(found.pairs, ((0, 1), (0, 2), (1, 2)), strict=True):
        difference = means[:, x].mean() - means[:, y].mean()
        half = scipy.stats.t.ppf(0.975, 11) * error
        assert pair.difference == pytest.approx(difference)
        assert pair.low == pytest.approx(difference - half, abs=0.02)
        assert pair.high == pytest.approx(difference + half, abs=0.02)
        raw.append(2 * scipy.stats.t.sf(abs(difference) / error, 11))
    assert [pair.p_model for pair in found.pairs] == pytest.approx(holm(raw), rel=0.02)
    ratio = 12 * np.square(means.mean(axis=0) - means.mean()).sum() / 2 / variance
    assert found.model.p == pytest.approx(scipy.stats.f.sf(ratio, 2, 22), rel=0.05)


def test_few_participants_are_told_what_they_cannot_show() -> None:
    found = compare_one(made_up_ratings(5, 3, [0, 30, 60]), NAMES)
    assert [pair.p_wilcoxon for pair in found.pairs] == pytest.approx([3 * 2 / 2**5] * 3)
    assert not any(pair.shown for pair in found.pairs)
    assert "it takes 7" in found.remarks[0]
    assert compare_one(made_up_ratings(7, 3, [0, 30, 60]), NAMES).remarks == []
    assert all(pair.shown for pair in compare_one(made_up_ratings(7, 3, [0, 30, 60]), NAMES).pairs)
    ratings = {attribute: made_up_ratings(7, 3, [0, 30, 60]) for attribute in ATTRIBUTES}
    assert "in 9 comparisons of pairs, over all attributes, it takes 9" in compare(ratings, NAMES)["clarity"].remarks[0]


@pytest.mark.parametrize("shape", [(1, 1, 2), (1, 3, 3), (2, 1, 2), (2, 2, 9), (6, 1, 3), (7, 4, 4)])
@pytest.mark.parametrize("kind", ["ratings", "normalized", "constant"])
def test_tests_of_any_size_and_equal_ratings_are_analysed(shape: tuple[int, int, int], kind: str) -> None:
    values = made_up_ratings(shape[0], shape[1], [0.0] * shape[2])
    if kind == "normalized":
        values = normalized(Ratings(values, np.zeros((shape[0], 0, 2, shape[2])))).values
    if kind == "constant":
        values = np.full(shape, 50.0)
    found = compare_one(values, [f"s{number}" for number in range(shape[2])])
    for pair in found.pairs:
        assert np.isfinite(pair.difference)
        assert pair.p_model is None or 0 <= pair.p_model <= 1
        assert pair.p_wilcoxon is None or 0 <= pair.p_wilcoxon <= 1
        assert not (pair.shown and (kind == "constant" or shape[0] == 1))
    if shape[0] > 1 and shape[1] > 1 and kind != "constant":
        assert found.model is not None


def test_consistency_by_hand() -> None:
    repeats = np.array([[[[10.0, 50.0], [20.0, 80.0]]]])  # one person, one repeat, two times, two systems
    ratings = {attribute: Ratings(np.zeros((1, 1, 2)), repeats) for attribute in ATTRIBUTES}
    # the same mixes: |10 - 20| and |50 - 80|; the others: |10 - 80| and |50 - 20|
    assert consistencies(ratings) == [Consistency(20.0, 50.0)]


def test_who_rates_the_same_mix_as_differently_as_others_is_flagged_and_counted(tmp_path: Path) -> None:
    assert Consistency(20.0, 20.0).is_without_difference
    assert not Consistency(20.0, 20.1).is_without_difference
    key = make_key()
    write_answers(made_up_answers(key, 1), tmp_path)
    write_answers(made_up_answers(key, 2, dict.fromkeys(SYSTEMS, 50.0), scatter=0.0), tmp_path)  # all the same
    found = analyse.analyse(tmp_path, tmp_path / "out", write_key(key, tmp_path))
    assert found.excluded == [False, False]
    with open(tmp_path / "out" / "participants.csv", newline="", encoding="utf-8") as file:
        assert [row["without_difference"] for row in csv.DictReader(file)] == ["False", "True"]
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").count(">flagged<") == 1


def test_a_test_without_repeats_excludes_nobody(tmp_path: Path) -> None:
    key = make_key(repeats=False)
    write_answers(made_up_answers(key, 1, scatter=100.0), tmp_path)
    found = analyse.analyse(tmp_path, tmp_path / "out", write_key(key, tmp_path))
    assert found.consistencies is None
    assert found.excluded == [False]


def test_normalized_ratings_do_not_depend_on_how_the_axis_is_used() -> None:
    values = made_up_ratings(6, 3, [0, 5, 10])
    narrow = values.copy()
    narrow[:3] = 0.2 * narrow[:3] + 60
    repeats = np.zeros((6, 0, 2, 3))
    expected = normalized(Ratings(values, repeats)).values
    np.testing.assert_allclose(normalized(Ratings(narrow, repeats)).values, expected, atol=1e-9)
    np.testing.assert_allclose(expected.std(axis=(1, 2)), 1.0)


def test_a_song_that_was_rated_twice_counts_with_its_mean_and_in_the_order_it_was_heard() -> None:
    key = make_key()
    answers = made_up_answers(key, 3)
    result = read_one(answers, key)
    arrays = as_arrays(result, key)["clarity"]
    first, second = (
        [each["ratings"]["clarity"][clip] for clip in sorted(each["order"])]
        for each in answers["trials"]
        if each["trial"] in (f"{0:016x}", "f" * 16)
    )
    np.testing.assert_allclose(arrays.values[0, 0], np.mean([first, second], axis=0))
    np.testing.assert_allclose(arrays.repeats[0, 0], [first, second])


def read_one(answers: dict[str, Any], key: Key) -> Any:
    from fxnorm.listening_test.answers import Answers
    from fxnorm.listening_test.formats import Result, parse

    return [Answers(Path("answers.json"), parse(Result, json.dumps(answers).encode(), "answers.json"))]


def test_what_is_written_is_whole(tmp_path: Path) -> None:
    key = make_key()
    for seed in range(8):
        write_answers(made_up_answers(key, seed), tmp_path)
    write_answers(made_up_answers(key, 50, dict.fromkeys(SYSTEMS, 50.0), scatter=300.0), tmp_path)
    found = analyse.analyse(tmp_path, tmp_path / "out", write_key(key, tmp_path))
    assert found.excluded == [False] * 8 + [True]
    with open(tmp_path / "out" / "ratings.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9 * 3 * 3 * 3  # participants, trials, systems, attributes
    assert sum(row["second_time"] == "True" for row in rows) == 9 * 3 * 3
    given = made_up_answers(key, 4)
    for row in rows:
        if row["participant"] == f"{4:016x}":
            trial = given["trials"][int(row["position"]) - 1]
            assert float(row["rating"]) == trial["ratings"][row["attribute"]][trial["order"][int(row["number"]) - 1]]
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["excluded"] == {f"{50:016x}": pytest.approx(found.consistencies[8].same_mix)}  # type: ignore[index]
    assert set(summary["attributes"]) == set(ATTRIBUTES)
    for attribute in ATTRIBUTES:
        for name in (f"{attribute}.png", f"{attribute}_songs.png"):
            assert (tmp_path / "out" / "plots" / name).read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").count("data:image/png;base64,") == 6


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "100.5"])
def test_a_difference_that_no_ratings_have_is_refused_before_anything_is_written(value: str, tmp_path: Path) -> None:
    key = make_key()
    write_answers(made_up_answers(key, 1), tmp_path)
    arguments = ["listening-test", "analyse", str(tmp_path), str(tmp_path / "out"), "--max-repeat-difference", value]
    done = CliRunner().invoke(main, [*arguments, "--key", str(write_key(key, tmp_path))], catch_exceptions=False)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1].endswith(f"--max-repeat-difference {value}: expected 0 to 100 points")
    assert not (tmp_path / "out").exists()


def test_the_help_names_the_difference_that_is_the_default() -> None:
    said = CliRunner().invoke(main, ["listening-test", "analyse", "--help"]).output
    assert f"default: {MOST_REPEAT_DIFFERENCE:g}." in " ".join(said.split())


def test_names_that_look_like_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    values = made_up_ratings(3, 1, [0, 30])
    systems = ["A$ 50%$ {x", r"$\nothing$"]
    figures.plot_overall(values, systems, "points", None, tmp_path / "overall.png")
    figures.plot_songs({"A$ 50%$ {x": values[:, 0]}, systems, "points", None, tmp_path / "songs.png")
    for name in ("overall.png", "songs.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_everyone_being_inconsistent_is_an_error(tmp_path: Path) -> None:
    key = make_key()
    write_answers(made_up_answers(key, 1, dict.fromkeys(SYSTEMS, 50.0), scatter=300.0), tmp_path)
    with pytest.raises(DatasetError, match="everyone differs"):
        analyse.analyse(tmp_path, tmp_path / "out", write_key(key, tmp_path))
    assert not (tmp_path / "out").exists()


def test_what_is_found_does_not_go_among_the_answers(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="expected another folder"):
        analyse.analyse(tmp_path, tmp_path / "out" / "..", tmp_path / "key.json")


Damage = Callable[[dict[str, Any]], Any]


def _set(*path: Any, value: Any) -> Damage:
    def damage(answers: dict[str, Any]) -> Any:
        place: Any = answers
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        return answers

    return damage


def _rating(value: Any) -> Damage:
    def damage(answers: dict[str, Any]) -> Any:
        ratings = answers["trials"][0]["ratings"]["clarity"]
        ratings[next(iter(ratings))] = value
        return answers

    return damage


def _drop_rating(answers: dict[str, Any]) -> Any:
    answers["trials"][0]["ratings"]["clarity"].popitem()
    return answers


HOSTILE: dict[str, Damage] = {
    "another format": _set("format", value="something"),
    "another version": _set("version", value=2),
    "another test": _set("test", value="cd" * 8),
    "an unknown key": _set("extra", value=1),
    "a key to confuse a terminal": _set("\x1b[31m\nred", value=1),
    "a missing trial": lambda answers: {**answers, "trials": answers["trials"][1:]},
    "a trial twice": lambda answers: {**answers, "trials": answers["trials"] + answers["trials"][:1]},
    "a mix twice": lambda answers: _set("trials", 0, "order", 0, value=answers["trials"][0]["order"][1])(answers),
    "a mix of another trial": _set("trials", 0, "order", 0, value="c" * 16),
    "a rating over 100": _rating(100.1),
    "a rating under 0": _rating(-1),
    "a rating that is no number": _rating(float("nan")),
    "an infinite rating": _rating(float("inf")),
    "a rating as a text": _rating("50"),
    "no rating": _rating(None),
    "a missing rating": _drop_rating,
    "a missing attribute": _set("trials", 0, "ratings", value={}),
    "a long comment": _set("comment", value="x" * 5000),
    "a path for a name": _set("participant", "id", value="../../etc/passwd"),
    "an unknown role": _set("participant", "role", value="<script>"),
    "ten thousand trials": lambda answers: {**answers, "trials": answers["trials"] * 3334},
    "a time without a zone": _set("started", value="2026-01-02T10:00:00"),
    "a list": lambda answers: [answers],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_answers_that_do_not_fit_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    key = make_key()
    content = json.dumps(HOSTILE[name](copy.deepcopy(made_up_answers(key, 1)))).encode()
    _assert_refused(content, key, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b'{"format": ' * 10_000, b"0" * 2_000_000]
)
def test_files_that_are_no_answers_are_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    _assert_refused(content, make_key(), tmp_path)


def _assert_refused(content: bytes, key: Key, folder: Path) -> None:
    (folder / "bad.json").write_bytes(content)
    good = write_answers(made_up_answers(key, 2), folder)
    with pytest.raises(DatasetError) as error:
        read_answers(folder, key, folder / "key.json", skip_errors=False)
    assert str(error.value).startswith(f"{folder / 'bad.json'}: ")
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
    found, left_out = read_answers(folder, key, folder / "key.json", skip_errors=True)
    assert [each.path for each in found] == [good]
    assert list(left_out) == ["bad.json"]


def test_the_same_answers_twice_count_once_and_two_of_one_participant_are_an_error(tmp_path: Path) -> None:
    key = make_key()
    answers = made_up_answers(key, 1)
    path = write_answers(answers, tmp_path)
    (tmp_path / "posted.json").write_text(path.read_text())
    found, left_out = read_answers(tmp_path, key, tmp_path / "key.json", skip_errors=False)
    assert len(found) == 1
    assert "the same answers as" in left_out["posted.json"]
    answers["comment"] = "otherwise"
    (tmp_path / "posted.json").write_text(json.dumps(answers))
    with pytest.raises(DatasetError, match=r"posted.json: other answers of the participant of listening-test-"):
        read_answers(tmp_path, key, tmp_path / "key.json", skip_errors=False)


def test_a_key_that_does_not_hold_together_is_refused(tmp_path: Path) -> None:
    content = make_key().model_dump(mode="json")
    content["trials"]["f" * 16]["repeats"] = "e" * 16
    write_json(tmp_path / "key.json", content)
    with pytest.raises(DatasetError, match=r"key.json: trial f+: repeats e+, which is no trial"):
        analyse.analyse(tmp_path, tmp_path / "out", tmp_path / "key.json")
    with pytest.raises(DatasetError, match="no such file"):
        analyse.analyse(tmp_path, tmp_path / "out", tmp_path / "absent.json")

"""How often the acceptance rule takes chance for progress, and how often it sees progress, by simulation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxnorm.data.provenance import TrainedOn
from fxnorm.evaluation import significance
from fxnorm.registry.aliases import CHALLENGER, CHAMPION, Version
from fxnorm.settings import Settings
from fxnorm.stages import register

SONGS = 20
BASELINE = 60.0


class Run:
    """Of MLflow, which hears of the champion's value."""

    def log(self, step: int, values: dict[str, float]) -> None:
        assert step == 0
        assert all(np.isfinite(value) for value in values.values())


class Network:
    """That a candidate's Mixer is asked for its name."""

    class network:  # noqa: N801
        config = {"name": "crafx2"}  # noqa: RUF012


def decide(candidate: np.ndarray, champion: np.ndarray | None, **rule: object) -> tuple[str, str]:
    """What a candidate becomes, by its values and the champion's on the same songs."""
    settings = Settings.of({"register": rule})
    names = [f"song {number:03d}" for number in range(len(candidate))]
    mixer: Any = Network
    found = register._Candidate(
        folder=Path("mixer"),
        digest="the candidate",
        mixer=mixer,
        metrics={},
        tested_on={"test_wet": {"digest": "some songs"}},
        learnt=TrainedOn(),
        value=float(candidate.mean()),
        baseline=BASELINE,
        values=dict(zip(names, candidate.tolist(), strict=True)),
        baseline_values=dict.fromkeys(names, BASELINE),
    )
    run: Any = Run()
    test = register._AcceptanceTest(settings, found, None, Path("reports"), run)
    if champion is None:
        return test.decide(None)
    of_champion = dict(zip(names, champion.tolist(), strict=True))
    tags = register._measured(settings.register_, "some songs", of_champion)
    return test.decide(Version("fxnorm-automix", "1", tags))


def places_taken(gain: float, candidates: int, seed: int) -> int:
    """Of candidates that are better by ``gain`` standard deviations of their difference from the champion."""
    generator = np.random.default_rng(seed)
    champion = 35 + 8 * generator.standard_normal(SONGS)  # songs differ more than networks
    differences = generator.standard_normal((candidates, SONGS)) - gain
    return sum(decide(champion + difference, champion)[0] == CHAMPION for difference in differences)


@pytest.mark.parametrize("seed", range(3))
def test_of_200_candidates_like_the_champion_at_most_10_take_its_place(seed: int) -> None:
    assert places_taken(gain=0.0, candidates=200, seed=seed) <= 10


@pytest.mark.parametrize("seed", range(3))
def test_of_100_that_are_better_by_a_standard_deviation_at_least_80_do(seed: int) -> None:
    assert places_taken(gain=1.0, candidates=100, seed=seed) >= 80


def test_a_better_mean_that_could_be_chance_challenges_and_says_so() -> None:
    champion = np.full(SONGS, 35.0)
    alias, reason = decide(champion + np.array([-9.0] + [0.1, -0.1] * 9 + [0.1]), champion)
    assert alias == CHALLENGER
    assert "better than the champion in test_wet.stereo_loss_b_matched, which may be chance: crafx2 34.5" in reason
    assert "(Wilcoxon, 20 songs), where register.confidence 0.95 asks for less than 0.05" in reason


def test_too_few_songs_are_said_and_a_person_may_decide() -> None:
    champion = np.full(5, 35.0)
    alias, reason = decide(champion - 20, champion)
    assert (alias, "5 songs, too few to tell from chance: register.confidence 0.95 takes at least 6" in reason) == (
        CHALLENGER, True
    )  # fmt: skip
    alias, reason = decide(champion - 20, champion, force=True)
    assert alias == CHAMPION
    assert reason.startswith("register.force: a person's word; in test_wet.stereo_loss_b_matched: crafx2 15.000")
    alias, reason = decide(champion - 20, champion, confidence=0)
    assert alias == CHAMPION
    assert reason.endswith("the mean of 5 songs decides (register.confidence 0)")
    assert decide(np.append(champion, 35.0) - 20, np.full(6, 35.0))[0] == CHAMPION


def test_the_first_champion_has_nobody_to_be_compared_with_but_the_baseline() -> None:
    alias, reason = decide(np.full(2, 35.0), None)
    assert alias == CHAMPION
    assert "2 songs, too few to tell from chance" in reason
    by_chance = BASELINE + np.array([-90.0] + [0.1] * 19)
    alias, reason = decide(by_chance, None)
    assert alias == CHALLENGER
    assert "better than the baseline in test_wet.stereo_loss_b_matched, which may be chance" in reason


def test_the_margin_counts_in_the_test_too() -> None:
    champion = np.full(SONGS, 35.0)
    better = champion - 1 - 0.1 * np.arange(SONGS) / SONGS
    assert decide(better, champion)[0] == CHAMPION
    assert decide(better, champion, margin=2.0)[0] == CHALLENGER


@pytest.mark.parametrize(("confidence", "songs"), [(0.95, 6), (0.99, 8), (0.75, 4), (0.0, 2)])
def test_so_many_songs_can_tell(confidence: float, songs: int) -> None:
    """All on one side is the clearest that a test can see: p = 2^(1 - songs)."""
    assert significance.songs_needed(1, 1 - confidence) == songs
    assert significance.p_value_of_lower(-np.arange(1.0, songs + 1)) < 1 - confidence
    assert significance.p_value_of_lower(-np.arange(1.0, songs)) >= 1 - confidence

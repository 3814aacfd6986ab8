"""``fxnorm monitor``: what it says of request logs whose songs are drawn from known distributions."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from fxnorm.cli import main
from fxnorm.constants import STEMS
from fxnorm.effects.features import EFFECTS
from fxnorm.errors import DatasetError
from fxnorm.monitoring.comparison import compare
from fxnorm.monitoring.records import PHASES, LoggedRequest, LoggedSong, RequestLog
from fxnorm.monitoring.tally import Tally

END = datetime(2026, 10, 15, tzinfo=UTC)
WEEK = timedelta(days=7)
TRAINING_LUFS, SPREAD_LU = -23.0, 4.0


def song(generator: np.random.Generator, shift: float = 0.0, others: float = 1.0) -> LoggedSong:
    """A song whose stems differ as those of the training do, but for the bass, which is louder by so many spreads.

    The drift of its other effects is that of curves of 20 independent bins, ``others`` times as far off.
    """
    loudness = dict(zip(STEMS, generator.standard_normal(4), strict=True))
    loudness["bass"] += shift
    curves = {
        effect: {stem: others * float(np.sqrt(np.mean(generator.standard_normal(20) ** 2))) for stem in STEMS}
        for effect in EFFECTS
    }
    return LoggedSong(
        seconds=200.0,
        loudness_lufs={stem: TRAINING_LUFS + SPREAD_LU * value for stem, value in loudness.items()},
        drift=curves | {"loudness": loudness},
    )


def requests(
    songs: list[LoggedSong], until: datetime = END, seconds: float = 30.0, failed: int = 0
) -> Iterator[LoggedRequest]:
    """A week's, each with one of the songs, and so many that failed."""
    generator = np.random.default_rng(len(songs))
    for number in range(len(songs) + failed):
        mixed = number < len(songs)
        yield LoggedRequest(
            time=until - WEEK + (number + 0.5) / (len(songs) + failed) * WEEK,
            status=200 if mixed else 500,
            reason="mixed" if mixed else "defect",
            seconds=seconds * float(generator.uniform(0.8, 1.2)),
            phases=dict.fromkeys(PHASES, seconds / 5),
            songs=[songs[number]] if mixed else [],
            version="1",
        )


def write(path: Path, *weeks: list[LoggedRequest]) -> Path:
    path.write_text("".join(f"{request.model_dump_json()}\n" for week in weeks for request in week))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["monitor", *map(str, arguments)])


def draw(count: int, seed: int, **options: float) -> list[LoggedSong]:
    generator = np.random.default_rng(seed)
    return [song(generator, **options) for _ in range(count)]


def test_songs_like_those_of_the_training_raise_no_alarm_more_often_than_by_chance() -> None:
    verdicts = [
        compare(
            (END - WEEK, END, list(requests(draw(40, seed)))),
            (END - 2 * WEEK, END - WEEK, list(requests(draw(40, 1_000 + seed), END - WEEK))),
        ).verdict
        for seed in range(20)
    ]
    assert verdicts.count("moved") <= 3, "5 % of 20, and two standard deviations"
    assert "too few" not in verdicts


def test_a_louder_bass_is_found_and_the_sentence_says_what_to_do(tmp_path: Path) -> None:
    before = list(requests(draw(60, 1), END - WEEK))
    log = write(tmp_path / "log", before, list(requests(draw(60, 2, shift=1.5))))
    done = run(log, "--until", END.isoformat(), "--json", tmp_path / "report.json")
    assert done.exit_code == 3, done.output
    last = done.output.splitlines()[-1]
    assert last == "inputs have moved: time to train again (loudness bass against the period before)"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "moved"
    assert report["period"]["requests"] == report["before"]["requests"] == 60
    mean, spread = report["period"]["loudness_lufs"]["bass"]
    assert mean == pytest.approx(TRAINING_LUFS + 1.5 * SPREAD_LU, abs=SPREAD_LU / 2)
    assert spread == pytest.approx(SPREAD_LU, rel=0.3)
    (counting,) = [change for change in report["changes"] if change["counts"]]
    assert counting["corrected_p_value"] < 0.05
    assert 0.25 <= counting["effect"] <= 1


def test_songs_that_always_lay_far_from_the_training_are_found_without_a_period_before(tmp_path: Path) -> None:
    log = write(tmp_path / "log", list(requests(draw(30, 1, others=3.0))))
    done = run(log, "--until", END.isoformat())
    assert done.exit_code == 3
    assert "against the training songs" in done.output.splitlines()[-1]
    assert "the period before has 0 songs" in done.output


def test_songs_that_come_nearer_to_the_training_are_no_reason_to_train(tmp_path: Path) -> None:
    log = write(
        tmp_path / "log",
        list(requests(draw(60, 1, others=1.8), END - WEEK)),
        list(requests(draw(60, 2))),
    )
    done = run(log, "--until", END.isoformat())
    assert done.exit_code == 0, done.output
    assert "does not count" in done.output
    assert done.output.splitlines()[-1] == "nothing changed in what comes in"


def test_errors_and_durations_are_remarked_on(tmp_path: Path) -> None:
    log = write(
        tmp_path / "log",
        list(requests(draw(50, 1), END - WEEK)),
        list(requests(draw(50, 2), seconds=60.0, failed=15)),
    )
    done = run(log, "--until", END.isoformat())
    assert done.exit_code == 0
    assert "the server failed 23.1 % of the requests, before 0.0 %" in done.output
    assert "a mix took 59.1 s, before 29.5 s" in done.output


def test_of_few_requests_nothing_is_claimed(tmp_path: Path) -> None:
    log = write(tmp_path / "log", list(requests(draw(19, 1, shift=5.0))))
    done = run(log)
    assert done.exit_code == 4
    assert done.output.splitlines()[-1] == "too few requests to tell: 19 songs, expected 20 or more"
    (tmp_path / "empty").touch()
    assert run(tmp_path / "empty").exit_code == 4


def test_damaged_lines_are_counted_and_named_and_rotated_files_are_read(tmp_path: Path) -> None:
    before, now = list(requests(draw(30, 1), END - WEEK)), list(requests(draw(30, 2)))
    log = write(tmp_path / "log", now)
    write(tmp_path / "log.1", before[15:])
    write(tmp_path / "log.2", before[:15])
    with open(log, "ab") as file:
        file.write(b'{"time": "2026-10-1\n\n[]\nwords\n{"a": NaN}\n\xff\xfe\n' + b"[" * 90_000 + b"\n")
    found = RequestLog.read(log)
    assert [request.time for request in found.requests] == [request.time for request in (*before, *now)]
    assert found.damaged == [f"log:{number}" for number in (31, 33, 34, 35, 36, 37)]
    done = run(log, "--until", END.isoformat())
    assert done.exit_code == 0
    assert "6 damaged lines were left out: log:31, log:33, log:34, …" in done.output


def test_periods_are_chosen_and_mistakes_are_one_line(tmp_path: Path) -> None:
    log = write(tmp_path / "log", list(requests(draw(70, 1))))
    report = tmp_path / "report.json"
    run(log, "--since", "24h", "--json", report)
    assert json.loads(report.read_text())["period"]["requests"] == 10
    run(log, "--since", "2026-10-10T00:00+00:00", "--until", "2026-10-12T00:00+00:00", "--json", report,
        "--baseline", "2026-10-08T00:00+00:00/2026-10-09T00:00+00:00")  # fmt: skip
    found = json.loads(report.read_text())
    assert (found["period"]["requests"], found["before"]["requests"]) == (20, 10)
    for options, status in (
        (["--since", "soon"], 2),
        (["--baseline", "2026-10-08"], 2),
        (["--since", "2027-01-01"], 1),
    ):
        done = run(log, *options)
        assert done.exit_code == status
        assert "expected" in done.output.splitlines()[-1]
    done = run(tmp_path / "none")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    with pytest.raises(DatasetError, match="none: cannot be read as a request log"):
        RequestLog.read(tmp_path / "none")
    done = run(log, "--json", log)
    assert done.exit_code == 1
    assert len(RequestLog.read(log).requests) == 70


def test_a_tally_is_what_its_differences_are_and_survives_the_registry() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(-20, 3, 100), generator.normal(-18, 3, 100)
    together = Tally()
    for mix, other in zip(first, second, strict=True):
        together = together.merged(
            Tally.of({"level": mix, "width": None}, {"level": other, "width": 1.0}, {"level": -14})
        )
    (found,) = together.measures.values()
    differences = second - first
    assert found.count == 100
    assert found.mean == pytest.approx(differences.mean(), rel=1e-6)
    assert found.spread == pytest.approx(differences.std(), rel=1e-5)
    assert found.other_nearer == np.sum(np.abs(second + 14) < np.abs(first + 14))
    assert found.nearer + found.other_nearer == 100
    assert Tally.by_version(Tally.as_text({"7": together})) == {"7": together}
    many = {str(version): together for version in range(100)}
    assert "99" in Tally.by_version(Tally.as_text(many))
    assert len(Tally.as_text(many)) <= 5_000
    for damaged in (None, "", "words", "[]", '{"1": 2}'):
        assert Tally.by_version(damaged) == {}

"""The report in a browser: it plays, switches without a gap, sorts, reads well on any screen, and fetches nothing."""

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile
from selenium.webdriver.common.action_chains import ActionChains

from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.effects import loudness
from fxnorm.evaluation import report, significance, songs
from fxnorm.evaluation.catalogue import COMPARED, METRICS
from fxnorm.evaluation.comparison import SplitMetrics
from fxnorm.evaluation.excerpts import Excerpts, affordable_seconds, loudest_start, matched_gains_db
from fxnorm.evaluation.songs import MIXES, Result, measure_all
from fxnorm.io import audio
from fxnorm.io.files import write_json
from fxnorm.io.names import addresses
from fxnorm.statistics import DatasetStatistics
from tests.browser import Browser
from tests.conftest import noise

SYSTEMS = ("reference", "input_sum", "normalized_sum", "crafx2", "another-one")
SECONDS = 3.0
PLAYERS = 3  # two wet songs and a dry one


def result(folder: Path, number: int, with_reference: bool) -> Result:
    """A finished song whose mixes are noises of different levels."""
    stems = {stem: noise(5, 0.1, seed=10 * number + index) for index, stem in enumerate(STEMS)}
    total = np.sum(list(stems.values()), axis=0)
    names = SYSTEMS if with_reference else SYSTEMS[1:]
    mixes = {name: (0.3 + 0.1 * place) * (total + noise(5, 0.1, 99 + place)) for place, name in enumerate(names)}
    write_json(folder / "metrics.json", measure_all(mixes, stems, DatasetStatistics())[0])
    songs.write_pictures(mixes, folder)
    songs.write_listening(mixes, folder, SECONDS)
    return Result(folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    splits = {}
    for split, with_reference in (("test_wet", True), ("test_dry", False)):
        names = ['B & "C"', "A <i>song</i>"] if with_reference else ["Dry"]
        results = {
            name: result(folder / "finished" / split / str(number), number, with_reference)
            for number, name in enumerate(names)
        }
        for name, found in results.items():
            shutil.copytree(found.folder / MIXES, folder / MIXES / split / addresses(results)[name])
        compared = SplitMetrics({name: found.metrics() for name, found in results.items()})
        splits[split] = report.Split(compared.songs, compared.means(), compared.intervals(), compared.pairs(), results)
    (folder / "songs.csv").write_text("split\n")
    report.write(folder / "report.html", splits, {"train.seed": 0, "Code": "<b>"})
    shutil.rmtree(folder / "finished")
    return folder / "report.html"


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[Browser]:
    browser.open(page)
    browser.wait(lambda: len(browser.find_all(".player button")) >= PLAYERS, "not every song has a player")
    yield browser
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri()]


def state(browser: Browser, player: int = 0) -> dict:
    """What a player does: whether it plays, where it is, and the gain of each of its mixes."""
    script = """const p = players[arguments[0]];
        return {playing: p.playing, position: p.position(), gains: p.gains.map((node) => node.gain.value),
                levels: p.data.mixes.map((_, index) => p.level(index)), sources: p.sources.length};"""
    found: dict = browser.run(script, player)
    return found


def heard(browser: Browser, player: int = 0) -> list[int]:
    """The mixes that are let through, at the level they should have."""
    now = state(browser, player)
    pairs = zip(now["gains"], now["levels"], strict=True)
    return [index for index, (gain, level) in enumerate(pairs) if gain > 0 and gain == pytest.approx(level, rel=1e-3)]


def wait_for(browser: Browser, index: int, player: int = 0) -> None:
    only = lambda: heard(browser, player) == [index] and sum(g > 0 for g in state(browser, player)["gains"]) == 1  # noqa: E731
    browser.wait(only, f"mix {index} is not the only one that is heard: {state(browser, player)}")


def test_playing_lets_one_mix_through_and_a_switch_goes_on_where_the_other_was(opened: Browser) -> None:
    opened.find(".player button").click()
    opened.wait(lambda: state(opened)["position"] > 0.3, "the position does not move")
    wait_for(opened, 0)
    assert state(opened)["sources"] == len(SYSTEMS), "all mixes run on side by side"
    opened.run("window.before = players[0].sources; window.startedAt = players[0].startedAt")
    opened.find_all(".player .systems label")[3].click()
    wait_for(opened, 3)
    assert opened.run("return players[0].sources === before && players[0].startedAt === startedAt"), "nothing restarts"
    opened.find(".player button").click()
    at = state(opened)["position"]
    assert not state(opened)["playing"]
    assert 0.3 < at < SECONDS
    assert state(opened)["position"] == at, "paused, it stays where it is"


def test_keys_play_pause_and_switch(opened: Browser) -> None:
    def press(key: str) -> None:
        ActionChains(opened.driver).send_keys(key).perform()

    press(" ")
    opened.wait(lambda: state(opened)["playing"], "space does not play")
    press("5")
    wait_for(opened, 4)
    assert opened.run("return players[0].radios[4].checked")
    press("9")
    wait_for(opened, 4)
    press(" ")
    opened.wait(lambda: not state(opened)["playing"], "space does not pause")


def test_one_player_at_a_time_and_the_position_can_be_moved(opened: Browser) -> None:
    first, second = opened.find_all(".player button")[:2]
    first.click()
    opened.wait(lambda: state(opened, 0)["playing"], "the first does not play")
    second.click()
    opened.wait(lambda: state(opened, 1)["playing"], "the second does not play")
    assert not state(opened, 0)["playing"]
    seek = "const s = players[1].seek; s.value = 2; s.dispatchEvent(new Event('input', {bubbles: true}))"
    opened.run(seek)
    moved = "const s = players[0].seek; s.value = 1; s.dispatchEvent(new Event('input', {bubbles: true}))"
    opened.run(moved)  # in the one that does not play, which then does
    first.click()
    opened.wait(lambda: state(opened, 0)["playing"], "the first does not play")
    assert not state(opened, 1)["playing"]
    assert 1 <= state(opened, 0)["position"] < SECONDS
    second.click()
    opened.wait(lambda: state(opened, 1)["playing"], "the second does not go on")
    assert 2 <= state(opened, 1)["position"] < SECONDS
    assert opened.find_all(".player output")[1].text.endswith("/ 0:03.0")


def test_mixes_play_at_one_loudness_unless_that_is_switched_off(opened: Browser, page: Path) -> None:
    levels = state(opened)["levels"]
    for split, song, player in (("test_wet", addresses(['B & "C"'])['B & "C"'], 0), ("test_dry", "Dry", 2)):
        names = SYSTEMS if split == "test_wet" else SYSTEMS[1:]
        played = opened.run("return players[arguments[0]].data.mixes.map((mix) => mix.audio)", player)
        gains = state(opened, player)["levels"]
        assert len(played) == len(names)
        measured = []
        for name, encoded, gain in zip(names, played, gains, strict=True):
            excerpt = decoded(encoded)
            measured.append(loudness.measure(gain * excerpt, SAMPLE_RATE))
            whole = audio.read(page.parent / MIXES / split / song / f"{name}.flac")[0]
            assert np.abs(excerpt).max() == pytest.approx(np.abs(whole).max(), rel=0.2), "the same level as the file"
        assert max(measured) - min(measured) < 0.1, "LU"
    opened.find(".player input[type=checkbox]").click()
    assert state(opened)["levels"] == [1] * len(SYSTEMS) != levels


def decoded(encoded: str) -> np.ndarray:
    samples, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)), dtype="float32")
    assert sample_rate == SAMPLE_RATE
    return np.ascontiguousarray(samples.T)


def test_the_table_of_songs_sorts_by_any_column_and_shows_any_metric(opened: Browser) -> None:
    table = opened.find(".songs")

    def column(index: int) -> list[str]:
        rows = opened.run("return [...arguments[0].querySelectorAll('tbody tr')]", table)
        return [opened.run("return arguments[0].cells[arguments[1]].textContent.trim()", row, index) for row in rows]

    assert column(0) == ['B & "C"', "A <i>song</i>"]
    headings = opened.find_all(".songs")[0].find_elements("css selector", "th button")
    headings[0].click()
    assert column(0) == ["A <i>song</i>", 'B & "C"']
    headings[4].click()
    ascending = [float(value) for value in column(4)]
    headings[4].click()
    assert [float(value) for value in column(4)] == sorted(ascending, reverse=True)
    assert ascending == sorted(ascending)
    assert opened.find(".songs th[aria-sort=descending]").text.startswith("CRAFx2")
    opened.run("const s = arguments[0].querySelector('select'); s.value = 'integrated_loudness_lufs';"
               "s.dispatchEvent(new Event('change'))", table)  # fmt: skip
    assert all(re.fullmatch(r"\N{MINUS SIGN}\d+\.\d", value) for value in column(1)), "the reference mix has a loudness"
    opened.run("""const {data, select} = songTables[0];
        delete data.metrics[select.value].values["A <i>song</i>"].crafx2;
        songTables[0].fill();""")
    for _ in range(2):
        assert column(4)[-1] == "\N{EN DASH}", "a song without a value comes last, whichever way the others go"
        headings[4].click()


def test_the_page_says_who_is_best_how_sure_that_is_and_what_was_run(opened: Browser) -> None:
    text = opened.find("main").text
    assert "2 songs cannot show a difference between systems" in text
    assert "no song has a reference mix" in text
    assert "The balance against the training mixtures is missing" in text
    assert "<b>" in text
    best = [element.text for element in opened.find_all("#test_wet ~ .scroll .best")]
    assert len(best) == len(COMPARED)
    headings = [cell.text for cell in opened.find_all("#test_wet ~ .scroll thead th")]
    (row,) = [
        row for row in opened.find_all("#test_wet ~ .scroll tbody tr") if row.text.startswith("Stereo loss b, matched")
    ]
    values = [cell.text.split()[0] for cell in row.find_elements("css selector", "td")]
    nearest = int(np.argmin([float(value) for value in values]))
    assert "best" in row.find_elements("css selector", "td")[nearest].text
    assert headings[1 + nearest] != "Reference mix"
    assert opened.find_all("#test_dry ~ .scroll .best") == []


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
def test_it_fits_the_screen_and_its_controls_have_names(browser: Browser, page: Path, width: int, dark: bool) -> None:
    browser.open(page, width=width, dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    ink, paper = (browser.run(f"return getComputedStyle(document.body).{key}") for key in ("color", "backgroundColor"))
    assert (brightness(paper) < brightness(ink)) == dark
    unnamed = """return [...document.querySelectorAll('button, a, input, select')].filter((e) =>
        !(e.ariaLabel || e.textContent.trim() || (e.labels && [...e.labels].some((l) => l.textContent.trim()))))
        .map((e) => e.outerHTML)"""
    assert browser.run(unnamed) == []
    repeated = "const i = [...document.querySelectorAll('[id]')].map((e) => e.id); return i.length - new Set(i).size"
    assert browser.run(repeated) == 0
    assert browser.complaints() == []


def brightness(colour: str) -> float:
    return sum(float(value) for value in re.findall(r"[\d.]+", colour)[:3])


def test_every_link_leads_to_a_file_beside_the_page_or_into_it(opened: Browser, page: Path) -> None:
    links = opened.run("return [...document.querySelectorAll('a')].map((link) => [link.href, link.hash])")
    assert len(links) > 10
    for address, fragment in links:
        if fragment:
            assert opened.run("return document.getElementById(arguments[0]) !== null", fragment[1:]), fragment
        else:
            assert Path(unquote(urlsplit(address).path)).is_file(), address


def test_matched_gains_bring_all_to_one_loudness_below_full_scale() -> None:
    levels, peaks = {"a": -20.0, "b": -10.0, "silent": -np.inf}, {"a": -1.0, "b": -0.5, "silent": -600.0}
    gains = matched_gains_db(levels, peaks)
    assert levels["a"] + gains["a"] == levels["b"] + gains["b"] <= -18
    assert peaks["a"] + gains["a"] <= -1
    assert gains["silent"] == 0


def test_the_excerpt_is_where_the_song_is_loudest() -> None:
    song = noise(10, 0.01)
    song[:, 6 * SAMPLE_RATE : 8 * SAMPLE_RATE] *= 20
    for mixes in ([song], [song, 0.1 * song]):
        assert loudest_start(mixes, 2.0) == pytest.approx(6, abs=0.1)
    assert loudest_start([song], 60.0) == 0
    found = Excerpts.of({"reference": song}, 2.0)
    assert found.start_seconds == pytest.approx(6, abs=0.1)
    assert found.seconds == 2


@pytest.mark.parametrize("samples", [1, 1000])
@pytest.mark.parametrize("level", [0.0, 0.5])
def test_silent_and_short_songs_have_excerpts_too(samples: int, level: float) -> None:
    found = Excerpts.of(
        {"reference": noise(1, level)[:, :samples] if level else np.zeros((2, samples), np.float32)}, 20
    )
    assert found.seconds == samples / SAMPLE_RATE
    json.dumps(found.mixes, allow_nan=False)


def test_excerpts_get_shorter_where_there_are_many() -> None:
    assert affordable_seconds(20, 60, mixes=10) == 20
    many = affordable_seconds(20, 60, mixes=250)
    assert 4 < many < 20
    assert affordable_seconds(20, 60, mixes=10_000) == 4
    assert affordable_seconds(2, 60, mixes=10_000) == 2


def test_the_markdown_table_marks_the_best_and_leaves_the_reference_out() -> None:
    means = {"test_wet": {"reference": {"integrated_loudness_lufs": -14.0},
                          "normalized_sum": {"stereo_loss_b": 2.0}, "crafx2": {"stereo_loss_b": 1.0}}}  # fmt: skip
    text = report.markdown(means, ["A sentence."])
    assert "| CRAFx2 | **1.000** |" in text
    assert "| sum of the normalized stems | 2.000 |" in text
    assert "reference" not in text


def test_every_metric_has_a_name_and_a_meaning_without_abbreviations() -> None:
    for name, metric in METRICS.items():
        assert metric.title, name
        assert metric.meaning.endswith("."), name
    assert significance.CONFIDENCE == 0.95, "the page says 95 %"

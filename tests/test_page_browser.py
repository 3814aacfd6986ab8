"""The page for musicians in a real browser: the whole way of a session of 24 files, and what the page looks like."""

import io
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import axe_core_python
import numpy as np
import pytest
import scipy.signal
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from fxnorm import Mixer
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE
from fxnorm.io import audio
from fxnorm.page import making
from fxnorm.page.making import Engine
from fxnorm.sessions.recordings import Progress
from fxnorm.sessions.stems import SessionStems, sum_groups
from fxnorm.sessions.table import Table
from tests.browser import Browser
from tests.conftest import noise
from tests.page_server import User, served

NAMES = (
    "01_Kick", "02_Snare", "03_OH_L", "04_OH_R", "05_Tom", "06_BassDI", "07_BassAmp", "08_Gtr_L", "09_Gtr_R",
    "10_Piano", "11_Synth", "12_LeadVox", "13_LeadVox_dbl", "14_BackingVox_L", "15_BackingVox_R", "16_Audio 7",
    "17_Audio 9", "18_Strings", "19_Shaker", "20_Organ", "21_Congas", "22_LeadVox_Alt", "23_Click",
)  # fmt: skip
HIGH_RATE, BROKEN = "21_Congas", "24_Broken"
CORRECTED = {"16_Audio 7": "vocals", "17_Audio 9": "bass"}
AXE = Path(axe_core_python.__file__).parent / "axe.min.js"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of 24 files: one is at 96 kHz, one is cut off."""
    made = tmp_path_factory.mktemp("files") / "A Session"
    for number, name in enumerate(NAMES):
        rate = 96_000 if name == HIGH_RATE else SAMPLE_RATE
        samples = noise(1.5, 0.2, number, channels=1 + number % 2)
        audio.write(made / f"{name}.wav", audio.resample(samples, SAMPLE_RATE, rate), rate, subtype="PCM_24")
    (made / f"{BROKEN}.wav").write_bytes((made / f"{NAMES[0]}.wav").read_bytes()[:20_000])
    return made


@pytest.fixture(scope="module")
def address(mixer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(Engine("a mixer", mixer=Mixer.load(mixer_folder)), tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Mixes are not made while it is clear."""
    going = threading.Event()
    going.set()

    def sum_when_going(table: Table, recordings: Any, progress: Progress, most: int) -> SessionStems:
        while not going.wait(0.02):
            progress(0, 1)  # where a mix is cancelled
        return sum_groups(table, recordings, progress, most)

    monkeypatch.setattr(making, "sum_groups", sum_when_going)
    return going


class Page:
    """The page as a person uses it."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        browser.driver.delete_all_cookies()
        browser.open(address, 1280, 900)
        browser.run("localStorage.clear()")
        browser.driver.refresh()
        self.find("#files")

    def find(self, selector: str) -> WebElement:
        """An element, once it is there."""
        found: WebElement = self.browser.wait(lambda: next(iter(self.browser.find_all(selector)), None), selector)
        return found

    def click(self, selector: str) -> None:
        """Click what is there and in sight."""
        element = self.find(selector)
        self.browser.run("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def row(self, name: str) -> str:
        """The selector of a track's row."""
        return f'#tracks [data-name="{name}.wav"]'

    def upload(self, folder: Path) -> None:
        """Choose a folder, and wait until its tracks are sorted."""
        self.find("#folder").send_keys(str(folder))
        self.browser.wait(lambda: len(self.browser.find_all("#tracks [data-file]")) == 24, "the table of 24 tracks")

    def mix(self) -> str:
        """Ask for a mix, and the id of it when it is there."""
        before = len(self.browser.find_all('#mixes [data-mix][data-state="done"]'))
        self.click("#make")
        done = '#mixes [data-mix][data-state="done"]'
        self.browser.wait(lambda: len(self.browser.find_all(done)) == before + 1, "a mix")
        self.find("#player")
        return str(self.browser.find_all("#mixes [data-mix]")[-1].get_attribute("data-mix"))

    def take(self, what: str, name: str) -> bytes:
        """What a click on an export leaves in the downloads."""
        path = self.browser.downloads / name
        path.unlink(missing_ok=True)
        self.click(f'[data-export="{what}"]')
        self.browser.wait(lambda: path.is_file() and not list(path.parent.glob("*.crdownload")), name)
        return path.read_bytes()

    def state(self) -> dict[str, Any]:
        """The session as the server has it."""
        found: dict[str, Any] = self.browser.driver.execute_async_script(
            "const done = arguments[0];"
            "fetch('/api/sessions').then((answer) => answer.json())"
            ".then(({sessions}) => fetch('/api/sessions/' + sessions.at(-1).id)).then((answer) => answer.json())"
            ".then(done)"
        )
        return found

    def play(self) -> None:
        """Begin to play, and wait until it sounds."""
        self.click("#play")
        self.browser.wait(
            lambda: float(self.browser.find("#player").get_attribute("data-position") or 0) > 0.05, "sound"
        )


def test_a_session_goes_in_is_mixed_listened_to_and_taken_away(
    browser: Browser, address: str, folder: Path, mixer_folder: Path, held: threading.Event, tmp_path: Path
) -> None:
    page = Page(browser, address)
    page.upload(folder)
    assert page.find(f"{page.row(BROKEN)} .problem").text
    assert {entry["sample_rate"] for entry in page.state()["files"] if entry["listened"]} == {SAMPLE_RATE, 96_000}
    first = browser.find("#tracks [data-file]")
    assert first.get_attribute("data-by") == "guess", "guesses come first"
    by_mouse, by_key = CORRECTED
    page.click(f'{page.row(by_mouse)} [value="{CORRECTED[by_mouse]}"]')
    browser.wait(lambda: browser.find(page.row(by_mouse)).get_attribute("data-group") == CORRECTED[by_mouse], "mouse")
    radio = browser.find(f'{page.row(by_key)} input[type="radio"]:checked')
    radio.send_keys(CORRECTED[by_key][0])
    browser.wait(lambda: browser.find(page.row(by_key)).get_attribute("data-group") == CORRECTED[by_key], "a key")

    browser.driver.refresh()
    page.find(page.row(by_mouse))
    for name, group in CORRECTED.items():
        row = browser.find(page.row(name))
        assert (row.get_attribute("data-group"), row.get_attribute("data-by")) == (group, "hand")

    held.clear()
    page.click("#make")
    page.click("#mixes .cancel")
    page.find('#mixes [data-mix][data-state="cancelled"]')
    page.click("#make")
    page.find('#mixes [data-mix][data-state="running"] progress')
    browser.driver.refresh()
    page.find('#mixes [data-mix][data-state="running"] progress')
    held.set()
    page.find('#mixes [data-mix][data-state="done"]')
    assert browser.find("#connection").text == ""

    page.play()
    page.click('.source[data-source="sum"]')
    browser.wait(lambda: browser.find("#player").get_attribute("data-source") == "sum", "the plain sum")
    assert browser.find("#player").get_attribute("data-playing") == "true"

    mix = page.take("mix", "A Session.wav")
    table = page.take("tracks", "A Session tracks.yaml")
    expected = tmp_path / "A Session"
    expected.mkdir()
    for file in folder.iterdir():
        (expected / file.name).write_bytes(file.read_bytes())
    (expected / "tracks.yaml").write_bytes(table)
    parts, output = tmp_path / "parts", tmp_path / "mix.wav"
    options = ["--tracks", str(expected / "tracks.yaml"), "--output", str(output), "--stems-out", str(parts)]
    main(["mix", str(mixer_folder), *options], standalone_mode=False)
    assert mix == output.read_bytes(), "the mix is that of the command, sample for sample"

    page.click('.fader[data-stem="bass"] .mute')
    fader = page.find('.fader[data-stem="vocals"] input')
    for _ in range(3):
        fader.send_keys(Keys.ARROW_DOWN)
    gain = float(str(fader.get_property("value")))
    assert gain == -1.5
    remixed = page.take("mix", "A Session.wav")
    again = tmp_path / "again.wav"
    change = ["--gain", f"vocals={gain}", "--mute", "bass"]
    main(["remix", str(parts), *change, "--output", str(again)], standalone_mode=False)
    assert remixed == again.read_bytes(), "the faders' mix is that of the command, sample for sample"

    browser.driver.refresh()
    page.find('.fader[data-stem="bass"] .mute[aria-pressed="true"]')
    page.click("#reset")
    assert page.take("mix", "A Session.wav") == mix
    with zipfile.ZipFile(io.BytesIO(page.take("all", "A Session.zip"))) as archive:
        assert archive.read("mix.wav") == mix
        assert archive.read("tracks.yaml") == table
    assert browser.complaints() == []


_TAP = """
const connect = AudioNode.prototype.connect;
window.blocks = [];
AudioNode.prototype.connect = function (target, ...rest) {
  const result = connect.call(this, target, ...rest);
  if (target === this.context.destination) {
    const tap = this.context.createScriptProcessor(4096, 2, 2);
    tap.onaudioprocess = ({ inputBuffer }) => {
      const block = [0, 1].map((channel) => Array.from(inputBuffer.getChannelData(channel)));
      if (block[0].some((sample) => sample !== 0)) window.blocks.push(block);
    };
    connect.call(this, tap);
    connect.call(tap, target);
  }
  return result;
};
"""


def test_what_is_heard_is_what_the_faders_say(browser: Browser, address: str, folder: Path) -> None:
    page = Page(browser, address)
    page.upload(folder)
    page.mix()
    assert not browser.find("#overs").text
    added = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _TAP})
    browser.driver.refresh()
    page.click('.fader[data-stem="bass"] .mute')
    fader = page.find('.fader[data-stem="vocals"] input')
    for _ in range(8):
        fader.send_keys(Keys.ARROW_DOWN)
    state = page.state()
    mix = state["mixes"][-1]
    user = User(address)
    user.http.cookies.update({cookie["name"]: cookie["value"] for cookie in browser.driver.get_cookies()})
    parts = {stem: user.piece(state["id"], mix["id"], f"part-{stem}", 0, 2**20) for stem in mix["parts"]}
    expected = parts["drums"] + parts["other"] + parts["vocals"] * np.float32(10 ** (-4 / 20))
    expected *= np.float32(10 ** (mix["sources"][0]["gain_db"] / 20))
    # a busy machine loses blocks, and the first and the last are partly silent: those that are whole are exact
    exact, distances = 0, list[float]()
    for _ in range(10):
        page.play()
        browser.wait(lambda: browser.find("#player").get_attribute("data-playing") != "true", "the end of the song")
        blocks = np.asarray(browser.run("return window.blocks.splice(0)"), np.float32)
        distances = [_distance(block, expected) for block in blocks]
        exact += sum(distance < 1e-5 for distance in distances)
        if exact >= 3:
            break
    assert exact >= 3, distances
    browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def _distance(block: np.ndarray, song: np.ndarray) -> float:
    """The largest difference of a block (2, samples) from where it fits best in a song (2, samples)."""
    alike = scipy.signal.correlate(song[0], block[0], "valid")
    place = int(np.argmax(alike))
    return float(np.abs(song[:, place : place + block.shape[1]] - block).max())


def test_what_plays_and_pairs_are_chosen_by_hand(browser: Browser, address: str, folder: Path) -> None:
    page = Page(browser, address)
    page.upload(folder)

    def track(name: str) -> dict[str, Any]:
        state = page.state()
        file = next(entry["id"] for entry in state["files"] if entry["name"] == f"{name}.wav")
        found: dict[str, Any] = next(row for row in state["table"]["tracks"] if row["file"] == file)
        return found

    first, second = "01_Kick", "05_Tom"
    page.click(f"{page.row(first)} .unfold button")
    source = page.find("#tracks .details .plays")
    source.send_keys(Keys.CONTROL, "a")
    source.send_keys("low drums", Keys.TAB)
    browser.wait(lambda: track(first)["source"] == "low drums", "another source")
    assert track(first)["by"] == "hand"
    page.find(f"#tracks .details .half option[value='{track(second)['file']}']").click()
    browser.wait(lambda: track(first)["pair"] == track(second)["file"], "a pair")
    assert (track(first)["side"], track(second)["side"]) == ("left", "right")
    assert track(second)["source"] == "low drums"
    page.click("#tracks .details .swap")
    browser.wait(lambda: (track(first)["side"], track(second)["side"]) == ("right", "left"), "the sides swapped")
    page.find("#tracks .details .half option[value='']").click()
    browser.wait(lambda: track(second)["pair"] is None, "no pair")


def test_an_accessibility_checker_finds_nothing_serious(browser: Browser, address: str, folder: Path) -> None:
    page = Page(browser, address)
    page.upload(folder)
    page.mix()
    browser.driver.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
    for width, dark in ((390, False), (1280, True), (1920, False)):
        browser.open(address, width, 900, dark)
        page.find("#player")
        page.find("[data-chart]")
        assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
        browser.run(AXE.read_text(encoding="utf-8"))
        found = browser.driver.execute_async_script("axe.run().then(arguments[0])")
        serious = [
            (violation["id"], node["target"], node["failureSummary"])
            for violation in found["violations"]
            if violation["impact"] in ("serious", "critical")
            for node in violation["nodes"]
        ]
        assert serious == []
        assert len(found["passes"]) > 20

"""A listening test of noise, a person in front of it, and participants who are made up."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from fxnorm.constants import STEMS
from fxnorm.io import audio
from fxnorm.listening_test.formats import ATTRIBUTES, RESULT_FORMAT, Key
from tests.browser import Browser
from tests.conftest import noise

SYSTEMS = ("crafx2", "input_sum", "normalized_sum")
PREFERENCE = {"crafx2": 80.0, "input_sum": 30.0, "normalized_sum": 50.0}
"""Where those who are made up see the systems."""


def write_mixes(folder: Path, seconds: float = 2.5) -> tuple[Path, Path]:
    """Mixes of two songs by three systems at very different levels, and a dataset of their stems."""
    for song_number, song in enumerate(("A Song", "B Song")):
        stems = {stem: noise(seconds, 0.1, 10 * song_number + number) for number, stem in enumerate(STEMS)}
        for stem, samples in stems.items():
            audio.write(folder / "stems" / song / f"{stem}.wav", samples)
        for number, system in enumerate(SYSTEMS):
            mix = noise(seconds, 0.9 / (1 + 4 * number), 100 + 10 * song_number + number)
            audio.write(folder / "mixes" / song / f"{system}.flac", mix)
    return folder / "mixes", folder / "stems"


def made_up_answers(
    key: Key, seed: int, preference: Mapping[str, float] = PREFERENCE, scatter: float = 6.0
) -> dict[str, Any]:
    """What the page gives for a participant with these preferences whose ratings scatter by so many points."""
    generator = np.random.default_rng(seed)
    bias = generator.normal(0, 5)
    trials = []
    for number in generator.permutation(len(key.trials)):
        name, trial = list(key.trials.items())[number]
        order = [str(clip) for clip in generator.permutation(list(trial.mixes))]
        ratings = {
            attribute: {
                clip: float(np.clip(preference[trial.mixes[clip]] + bias + generator.normal(0, scatter), 0, 100))
                for clip in order
            }
            for attribute in ATTRIBUTES
        }
        trials.append(
            {
                "trial": name,
                "started": "2026-01-02T10:00:00.000Z",
                "finished": "2026-01-02T10:04:00.000Z",
                "order": order,
                "listened_seconds": dict.fromkeys(order, 20.5),
                "ratings": ratings,
            }
        )
    return {
        "format": RESULT_FORMAT,
        "version": 1,
        "test": key.test,
        "participant": {
            "id": f"{seed:016x}",
            "code": f"P{seed}",
            "experience_years": 5,
            "role": "mixing_engineer",
            "device": "studio_monitors",
            "device_model": "",
        },
        "seed": seed,
        "started": "2026-01-02T10:00:00.000Z",
        "finished": "2026-01-02T10:30:00.000Z",
        "trials": trials,
        "comment": "",
    }


def write_answers(answers: Mapping[str, Any], folder: Path) -> Path:
    """As a participant's browser saves them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"listening-test-{answers['test']}-{answers['participant']['id']}.json"
    path.write_text(json.dumps(answers), encoding="utf-8")
    return path


class Person(Browser):
    """Someone who takes the test in a browser, with a mouse and a keyboard."""

    def wait_until(self, script: str) -> None:
        """Until the expression is true in the page."""
        self.wait(lambda: self.run(f"return {script}"), script)

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def section(self) -> str:
        """The part of the page that is shown."""
        return self.find("main > section:not([hidden])").get_attribute("id") or ""

    def answer_questions(self) -> None:
        self.find("#begin").click()
        self.find("#experience").send_keys("12")
        Select(self.find("#role")).select_by_value("mixing_engineer")
        Select(self.find("#device")).select_by_value("open_headphones")
        self.find("#questions-form button").click()

    def wait_for_sound(self) -> None:
        self.wait_until("!document.querySelector('#play').disabled")

    def order(self) -> list[str]:
        """The clips behind mix 1, 2, …"""
        return [button.get_attribute("data-clip") or "" for button in self.find_all("#mixes button")]

    def listen_to_all(self) -> None:
        for number in range(1, len(self.order()) + 1):
            self.press(str(number))
            self.wait_until(f"document.querySelectorAll('#mixes .state')[{number - 1}].textContent.startsWith('heard')")
        self.press(Keys.SPACE)

    def marker(self, attribute: int, mix: int) -> WebElement:
        return self.find(f"#axes > :nth-child({attribute + 1}) [aria-label$='mix {mix + 1}']")

    def place_by_keys(self, attribute: int, mix: int, tens: int) -> None:
        marker = self.marker(attribute, mix)
        marker.send_keys(Keys.HOME, *[Keys.PAGE_UP] * tens)

    def drag(self, attribute: int, mix: int, share: float) -> None:
        """To that share of the axis."""
        marker = self.marker(attribute, mix)
        axis = self.find(f"#axes > :nth-child({attribute + 1}) .axis-slider").rect
        middle = marker.rect["x"] + marker.rect["width"] / 2
        way = round(axis["x"] + share * axis["width"] - middle)
        detour = 20  # because a marker that happens to stand there would not be moved, and so not be placed
        ActionChains(self.driver).click_and_hold(marker).move_by_offset(way - detour, 0).move_by_offset(
            detour, 0
        ).release().perform()

    def rate(self, tens_of: Mapping[str, int]) -> None:
        """Place all mixes on all axes by keys: clip -> tens of points."""
        for mix, clip in enumerate(self.order()):
            for attribute in range(len(ATTRIBUTES)):
                self.place_by_keys(attribute, mix, tens_of[clip])

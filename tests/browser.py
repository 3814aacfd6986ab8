"""A headless Chromium (Debian's packages chromium and chromium-driver) that tests drive as a person would."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.waiting import PATIENCE

_INLINE = ("data:", "blob:")
_SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # a container's root cannot make the sandbox; the pages are our own
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",  # no calls home: a closed network refuses them, many at a time
    "--disable-component-update",
    "--no-first-run",
    "--window-size=1280,900",
)


class Browser:
    """One window; its pages' files land in ``downloads``."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads
        behaviour = {"behavior": "allow", "downloadPath": str(downloads), "eventsEnabled": True}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)

    def open(self, page: Path | str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open a file, or an address, in a window of this size; forget what earlier pages complained of and fetched."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.absolute().as_uri() if isinstance(page, Path) else page)

    def find(self, selector: str) -> WebElement:
        """The first element of a CSS selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def find_all(self, selector: str) -> list[WebElement]:
        """All elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def run(self, script: str, *arguments: Any) -> Any:
        """What ``script``, the body of a JavaScript function of ``arguments``, returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """The first true value of ``condition``; ``what`` says what did not happen if there is none."""
        return WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: condition(), what)

    def complaints(self) -> list[str]:
        """Errors and warnings of the page's console since it was opened."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """Addresses that the page fetched since it was opened, itself included, what it holds within itself not."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        addresses = [message["params"]["request"]["url"] for message in sent]
        return [address for address in addresses if not address.startswith(_INLINE)]

    def screenshot(self, path: Path) -> None:
        """The whole page, as long as it is, into a PNG file."""
        height = self.run("return Math.ceil(document.documentElement.scrollHeight)")
        width = self.run("return window.innerWidth")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.save_screenshot(str(path))


@contextlib.contextmanager
def chromium(profile: Path | None = None) -> Iterator[webdriver.Chrome]:
    """A running Chromium, which keeps what pages store in the folder ``profile``, or nowhere.

    Raises:
        RuntimeError: it is not installed; says which packages have it.
    """
    options = webdriver.ChromeOptions()
    options.binary_location = _installed("chromium", "chromium")
    for switch in (*_SWITCHES, *([f"--user-data-dir={profile}"] if profile else [])):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=_installed("chromedriver", "chromium-driver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


def _installed(program: str, package: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise RuntimeError(f"the tests of pages need {program}: install Debian's package {package}")
    return path

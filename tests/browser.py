"""A headless Chromium (Debian's packages chromium and chromium-driver) that tests drive as a person would."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from selenium import webdriver

# no calls home: a closed network refuses them, many at a time
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # tests may run as root
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


@contextlib.contextmanager
def browser(profile: Path, downloads: Path, width: int = 1280, height: int = 900) -> Iterator[webdriver.Chrome]:
    """A browser that keeps what pages store in the folder ``profile`` and what they save in ``downloads``."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for option in (*_OPTIONS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(option)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver"))
    try:
        yield driver
    finally:
        driver.quit()

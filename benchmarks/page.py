"""The page for musicians with a long session: how soon it shows and sounds, and the memory of server and browser.

    python benchmarks/page.py [--tracks 24] [--seconds 600]

A headless Chromium (Debian's packages chromium and chromium-driver) uploads a session to ``fxnorm page`` with the Mixer
that comes with the package, has it mixed, plays it, switches sources, jumps about in it and moves a fader. The time to
the first sound is that from the click until a block of samples that are not silent has reached the audio output, less
the block's own length. Memory is resident: the most that the server ever had, and what all processes of the browser
share out among them (PSS) before the song is shown and after a minute of jumps.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from sessions import write_session

from tests.browser import Browser, chromium
from tests.waiting import until

BLOCK = 1_024
_TAP = f"""
const connect = AudioNode.prototype.connect;
window.sounded = [];
window.clicked = 0;
addEventListener("click", ({{ timeStamp }}) => {{ window.clicked = timeStamp; }}, true);
AudioNode.prototype.connect = function (target, ...rest) {{
  const result = connect.call(this, target, ...rest);
  if (target === this.context.destination) {{
    const tap = this.context.createScriptProcessor({BLOCK}, 2, 2);
    tap.onaudioprocess = ({{ inputBuffer }}) => {{
      if (inputBuffer.getChannelData(0).some((sample) => sample !== 0)) window.sounded.push(performance.now());
    }};
    connect.call(this, tap);
    connect.call(tap, target);
  }}
  return result;
}};
"""
_PAINT = "return performance.getEntriesByName('first-contentful-paint').map((entry) => entry.startTime)[0]"


def _click_to_sound(browser: Browser, selector: str) -> float:
    """Milliseconds."""
    browser.run("window.sounded = []")
    browser.find(selector).click()
    heard = browser.wait(lambda: browser.run("return window.sounded[0]"), "sound")
    return float(heard) - float(browser.run("return window.clicked")) - 1_000 * BLOCK / 44_100


def _browser_megabytes(driver_process: int) -> float:
    family = psutil.Process(driver_process).children(recursive=True)
    return sum(process.memory_full_info().pss for process in family) / 1e6


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, chromium() as driver:
        folder = Path(temporary)
        write_session(folder, options.tracks, options.seconds)
        command = [sys.executable, "-m", "fxnorm", "page", "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split(": ")[0]
            browser = Browser(driver, folder / "downloads")
            driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _TAP})
            _measure(browser, address, folder / "session", server.pid)
        finally:
            server.terminate()
            server.wait()


def _measure(browser: Browser, address: str, session: Path, server: int) -> None:
    service = browser.driver.service.process.pid
    paints = []
    for _ in range(5):
        browser.open(address)
        browser.wait(lambda: browser.find_all("#files"), "the page")
        paints.append(float(browser.wait(lambda: browser.run(_PAINT), "paint")))
    print(f"first contentful paint, five times   {', '.join(f'{paint:.0f}' for paint in paints)} ms (target 1000)")
    start = time.perf_counter()
    browser.find("#folder").send_keys(str(session))
    until(lambda: browser.find_all("#tracks [data-file]"), seconds=1_800)
    print(f"upload and sorting                   {time.perf_counter() - start:.0f} s")
    start = time.perf_counter()
    browser.run("document.querySelector('#make').click()")
    until(lambda: browser.find_all("#mixes [data-state=done]"), seconds=1_800)
    print(f"mix                                  {time.perf_counter() - start:.0f} s")
    browser.open(address)
    browser.wait(lambda: browser.find_all("#player[data-position]"), "the player")
    time.sleep(3)
    browser.run("document.querySelector('#play').scrollIntoView({block: 'center'})")
    before = _browser_megabytes(service)
    first = _click_to_sound(browser, "#play")
    others = []
    for _ in range(5):
        browser.find("#play").click()
        time.sleep(1)
        others.append(_click_to_sound(browser, "#play"))
    times = ", ".join(f"{value:.0f}" for value in (first, *others))
    print(f"from the click to sound, six times   {times} ms (target 300)")
    begin = time.monotonic()
    song = browser.find("#song")
    while time.monotonic() - begin < 60:
        browser.run(_JUMP, song)
        for source in ("sum", "normalized", "mix"):
            browser.run(f"document.querySelector('.source[data-source={source}]').click()")
            time.sleep(1)
    after = _browser_megabytes(service)
    status = Path(f"/proc/{server}/status").read_text(encoding="utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(f"memory of the browser                {before:.0f} MB before, {after:.0f} MB after a minute of jumps")
    print(f"memory of the server                 {peak / 1e3:.0f} MB at most")


_JUMP = """
const box = arguments[0].getBoundingClientRect();
const at = {bubbles: true, clientX: box.left + Math.random() * box.width, clientY: box.top + box.height / 2};
for (const type of ["pointerdown", "pointerup", "click"]) {
  arguments[0].dispatchEvent(new PointerEvent(type, {...at, pointerId: 1, button: 0}));
}
"""


if __name__ == "__main__":
    main()

"""The listening test in a real browser: heard, switched, rated, interrupted, downloaded, posted, and analysed."""

import base64
import gzip
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
from click.testing import CliRunner
from selenium.webdriver import Keys

from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness
from fxnorm.evaluation.metrics import true_peak_dbtp
from fxnorm.io import audio
from fxnorm.listening_test import excerpts
from fxnorm.listening_test.answers import read_key
from fxnorm.listening_test.formats import Key, Result
from tests.browser import chromium
from tests.conftest import noise
from tests.listening import PREFERENCE, SYSTEMS, Person, made_up_answers, write_answers, write_mixes
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.system

PAGE = Path(excerpts.__file__).with_name("page")
MINIMUM = ("--minimum-listening", "0.3")
CAPTURE = """
const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) {
    const {context} = this;
    window.heard ??= new AnalyserNode(context, {fftSize: 32768});
    connect.call(this, window.heard);
  }
  return connect.call(this, target, ...rest);
};
"""
"""Lets a test hear what goes to the loudspeakers: the last 0.74 s, both channels' mean."""

OLD_AND_IMPATIENT = """
delete AbortSignal.timeout;
const {setTimeout} = window;
window.setTimeout = (act, wait, ...rest) => setTimeout(act, wait === 30000 ? 5000 : wait, ...rest);
"""
"""A browser of the oldest kind that the page is built for, in which half a minute is over soon."""


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def fail(*arguments: str | Path) -> str:
    """The error's text of a command that has to end with status 1."""
    done = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
    assert done.exit_code == 1, done.output
    return done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders of mixes and stems."""
    return write_mixes(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def built(sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Key]:
    """A test of two songs, one of them twice, and its key."""
    mixes, stems = sources
    output = tmp_path_factory.mktemp("built") / "test"
    run("listening-test", "build", mixes, output, "--stems", stems, "--seconds", "2", *MINIMUM)
    return output, read_key(output.with_name("test-key.json"))


def clip(folder: Path, name: str) -> np.ndarray:
    """The audio (2, samples) in one of the page's files."""
    match = re.fullmatch(
        r'listeningTestClip\("(\w+)","([\w+/=]+)"\);//[\w+/=]*\n', (folder / "audio" / f"{name}.js").read_text()
    )
    assert match is not None
    assert match[1] == name
    return audio.decode(base64.b64decode(match[2]), name)[0]


def clips_of(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: clip(folder, path.stem) for path in (folder / "audio").iterdir()}


def test_all_mixes_are_equally_loud_and_peaks_stay_under_the_limit(built: tuple[Path, Key]) -> None:
    folder, key = built
    clips = clips_of(folder)
    for trial in key.trials.values():
        for name in trial.mixes:
            assert loudness.measure(clips[name], SAMPLE_RATE) == pytest.approx(key.loudness, abs=0.02)
    assert max(true_peak_dbtp(each) for each in clips.values()) <= excerpts.TRUE_PEAK_LIMIT + 0.01


def titles_of(folder: Path) -> list[list[str]]:
    """Of the references of each trial."""
    page = (folder / "index.html").read_text(encoding="utf-8")
    match = re.search(r'<script type="application/json" id="test">(.*?)</script>', page, re.DOTALL)
    assert match is not None
    return [[reference["title"] for reference in trial["references"]] for trial in json.loads(match[1])["trials"]]


def test_a_sum_of_the_stems_that_is_a_mix_is_no_reference_of_any_song(
    sources: tuple[Path, Path], built: tuple[Path, Key], tmp_path: Path
) -> None:
    stem_titles = ["Vocals", "Bass", "Drums", "Other"]
    assert titles_of(built[0]) == [["Sum of the stems", *stem_titles]] * 3
    assert "sum of the unmixed stems" in (built[0] / "index.html").read_text(encoding="utf-8")
    shutil.copytree(sources[0], tmp_path / "mixes")
    stems = [audio.read(path)[0] for path in sorted((sources[1] / "B Song").iterdir())]
    total = np.sum(stems, axis=0)
    audio.write(tmp_path / "mixes" / "B Song" / "input_sum.flac", -0.3 * total)  # at another level, and turned over
    said = run("listening-test", "build", tmp_path / "mixes", tmp_path / "test", "--stems", sources[1])
    assert "no song has the reference 'Sum of the stems': it is the mix input_sum of B Song" in said
    assert titles_of(tmp_path / "test") == [stem_titles] * 3
    assert "sum of the unmixed stems" not in (tmp_path / "test" / "index.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "test" / "audio").iterdir())) == 2 * (len(SYSTEMS) + len(stem_titles))
    audio.write(tmp_path / "mixes" / "B Song" / "input_sum.flac", 0.3 * total + noise(2.5, 0.02, 77))
    said = run("listening-test", "build", tmp_path / "mixes", tmp_path / "other", "--stems", sources[1])
    assert "no song has" not in said
    assert titles_of(tmp_path / "other") == [["Sum of the stems", *stem_titles]] * 3


def test_a_target_that_peaks_do_not_allow_turns_all_mixes_down_alike(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    said = run("listening-test", "build", sources[0], tmp_path / "test", "--loudness", "-3")
    assert "held down by the true peak of" in said
    clips = clips_of(tmp_path / "test")
    key = read_key(tmp_path / "test-key.json")
    assert key.loudness < -3
    for each in clips.values():
        assert loudness.measure(each, SAMPLE_RATE) == pytest.approx(key.loudness, abs=0.02)
    highest = max(true_peak_dbtp(each) for each in clips.values())
    assert highest == pytest.approx(excerpts.TRUE_PEAK_LIMIT, abs=0.01)


def test_nothing_that_is_published_names_a_system_or_a_song(built: tuple[Path, Key]) -> None:
    folder, key = built
    content = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.*") if path.suffix != ".txt")
    for name in (*SYSTEMS, *key.songs, str(key.seed)):
        assert name not in content
    assert not list(folder.rglob("*key*"))
    for path in (folder / "audio").iterdir():
        assert re.fullmatch(r"[0-9a-f]{16}\.js", path.name)
        assert b"crafx2" not in base64.b64decode(path.read_text().split('"')[3])


def test_the_same_seed_builds_the_same_bytes_and_none_draws_others(sources: tuple[Path, Path], tmp_path: Path) -> None:
    def content(name: str, *options: str) -> list[tuple[str, str]]:
        run("listening-test", "build", sources[0], tmp_path / name, "--seconds", "1", *options)
        return [
            (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted(tmp_path.glob(f"{name}/**/*.*"))
        ]

    assert content("first", "--seed", "7") == content("second", "--seed", "7")
    assert content("third") != content("fourth")
    assert read_key(tmp_path / "third-key.json").seed.bit_length() > 96  # too many to be tried


def test_a_seed_that_was_chosen_is_warned_of(sources: tuple[Path, Path], tmp_path: Path) -> None:
    build = ("listening-test", "build", sources[0])
    warning = "--seed: for tests only; whoever finds it by trying can tell which mix is whose"
    assert warning in run(*build, tmp_path / "chosen", "--seconds", "1", "--seed", "0")
    assert warning not in run(*build, tmp_path / "drawn", "--seconds", "1")


def test_files_are_equally_long_whatever_is_in_them(tmp_path: Path) -> None:
    """Nearly so when a server compresses them."""
    for number, system in enumerate(SYSTEMS):
        mix = noise(3, 0.3, number)
        if number:  # as a network's output, with little above some frequency: far shorter as FLAC
            mix = scipy.signal.sosfilt(scipy.signal.butter(8, 500 * number, fs=SAMPLE_RATE, output="sos"), mix)
        audio.write(tmp_path / "mixes" / "Song" / f"{system}.flac", mix.astype(np.float32))
    run("listening-test", "build", tmp_path / "mixes", tmp_path / "test", "--repeats", "0")
    contents = [path.read_bytes() for path in (tmp_path / "test" / "audio").iterdir()]
    of_audio = [content.index(b'");//') for content in contents]
    assert max(of_audio) > 1.2 * min(of_audio)
    assert len({len(content) for content in contents}) == 1
    compressed = [len(gzip.compress(content)) for content in contents]
    assert max(compressed) < 1.03 * min(compressed)


def test_wrong_requests_get_one_line_and_write_nothing(sources: tuple[Path, Path], tmp_path: Path) -> None:
    mixes, stems = sources
    build = ("listening-test", "build", mixes, tmp_path / "test")
    assert "B Song: expected a mix reference" in fail(*build[:2], _with(mixes, tmp_path), tmp_path / "test")
    assert "--system" in fail(*build, "--system", "crafx2")
    assert "no such song; found A Song, B Song" in fail(*build, "--start", "C Song=1")
    assert "A Song lasts 2.5 s" in fail(*build, "--start", "2")
    assert "expected SECONDS or SONG=SECONDS" in fail(*build, "--start", "chorus")
    assert "--seconds nan: expected 1 to 600" in fail(*build, "--seconds", "nan")
    assert "--loudness 3: expected -60 to 0" in fail(*build, "--loudness", "3")
    assert "there are 2 songs" in fail(*build, "--repeats", "3")
    assert "must not lie in the folder" in fail(*build, "--key", tmp_path / "test" / "key.json")
    for address in ("ftp://example.org", "", " ", "https:", "http://[", "#answers"):
        assert "expected an http or https URL" in fail(*build, "--post-to", address)
    assert "expected the stems of A Song" in fail(*build, "--stems", _without(stems, "A Song", tmp_path))
    assert not (tmp_path / "test").exists()
    (tmp_path / "test-key.json").write_text("{}")
    assert "there is a key already" in fail(*build)


def _with(mixes: Path, tmp_path: Path) -> Path:
    """A folder in which one song has a mix more."""
    for path in mixes.rglob("*.flac"):
        target = tmp_path / "more" / path.relative_to(mixes)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (tmp_path / "more" / "A Song" / "reference.flac").write_bytes(path.read_bytes())
    return tmp_path / "more"


def _without(stems: Path, song: str, tmp_path: Path) -> Path:
    (tmp_path / "fewer").mkdir()
    for folder in stems.iterdir():
        if folder.name != song:
            (tmp_path / "fewer" / folder.name).symlink_to(folder)
    return tmp_path / "fewer"


def test_stems_that_could_be_those_of_two_songs_are_refused_in_one_line(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    mixes, stems = sources
    for split in ("test_dry", "test_wet"):
        (tmp_path / "mixes" / split).mkdir(parents=True)
        (tmp_path / "mixes" / split / "A Song").symlink_to(mixes / "A Song")
    for split in ("train", "test"):
        (tmp_path / "stems" / split).mkdir(parents=True)
        (tmp_path / "stems" / split / "A Song").symlink_to(stems / "A Song")
    build = ("listening-test", "build")
    said = fail(*build, tmp_path / "mixes", tmp_path / "test", "--stems", stems)
    assert "cannot tell whether the stems of A Song are those of" in said
    assert "test_dry/A Song or of" in said
    one_split = (*build, tmp_path / "mixes" / "test_dry", tmp_path / "test")
    said = fail(*one_split, "--stems", tmp_path / "stems")
    assert "expected the stems of A Song once, found" in said
    assert "train/A Song and" in said
    assert not (tmp_path / "test").exists()
    run(*one_split, "--stems", tmp_path / "stems" / "test", "--seconds", "1")


@pytest.mark.parametrize("page", [PAGE, PAGE.parents[1] / "page" / "client"], ids=["listening test", "musicians"])
def test_a_page_is_built_from_the_sources_beside_it(page: Path) -> None:
    """If it is not: make page."""
    files = ["package-lock.json", "package.json", "tsconfig.json"]
    files += [f"src/{path.name}" for path in (page / "src").iterdir()]
    digest = hashlib.sha256(b"build.mjs\0" + (PAGE / "build.mjs").read_bytes() + b"\0")
    for name in sorted(files):
        digest.update(f"{name}\0".encode() + (page / name).read_bytes() + b"\0")
    assert (page / "built" / "sources.sha256").read_text() == f"{digest.hexdigest()}\n"


def test_a_participant_listens_rates_is_interrupted_and_downloads(built: tuple[Path, Key], tmp_path: Path) -> None:
    folder, key = built
    downloads = tmp_path / "answers"
    downloads.mkdir()
    systems = {name: system for trial in key.trials.values() for name, system in trial.mixes.items()}
    tens = {name: round(PREFERENCE[system] / 10) for name, system in systems.items()}
    address = f"{(folder / 'index.html').as_uri()}?participant=P0"
    with chromium(tmp_path / "profile") as driver:
        person = Person(driver, downloads)
        driver.get(address)
        person.answer_questions()
        person.wait_for_sound()
        _rate_first_by_mouse(person, tens)
        person.find("#next").click()
        person.wait_for_sound()
        person.listen_to_all()
        person.place_by_keys(0, 0, tens[person.order()[0]])
        order = person.order()
    with chromium(tmp_path / "profile") as driver:  # the tab was closed in the middle of the second song
        person = Person(driver, downloads)
        driver.get(address)
        assert person.section() == "trial"
        assert person.find("#progress-text").text == "Song 2 of 3"
        assert person.order() == order
        assert person.find("#mixes .state").text == "heard, 1/3 placed"
        assert float(person.marker(0, 0).get_attribute("aria-valuenow") or "nan") == 10 * tens[order[0]]
        for _ in range(2):
            person.wait_for_sound()
            person.listen_to_all()
            person.rate(tens)
            person.find("#next").click()
        assert person.section() == "remarks"
        person.find("#comment").send_keys("=SUM(A1) <b>bold</b>")
        person.find("#finish").click()
        person.find("#download").click()
        person.wait_until("document.querySelector('#delivery').textContent.includes('download your answers')")
        path = _downloaded(person, downloads)
        assert person.complaints() == []
    result = Result.model_validate_json(path.read_bytes())
    result.check_against(key)
    assert result.participant.code == "P0"
    assert result.participant.experience_years == 12
    first, *others = result.trials
    for each in others:
        for ratings in each.ratings.values():
            assert ratings == {name: 10 * tens[name] for name in each.order}
    for ratings in first.ratings.values():  # by mouse: to a pixel
        assert ratings == pytest.approx({name: 10 * tens[name] for name in first.order}, abs=0.5)
    for each in result.trials:
        assert min(each.listened_seconds.values()) >= 0.3
    _analysis_finds_the_preference(key, folder.with_name("test-key.json"), path, tmp_path)


def _rate_first_by_mouse(person: Person, tens: dict[str, int]) -> None:
    """The first song: what is missing is said, and all is placed by dragging."""
    person.find("#next").click()
    assert person.section() == "trial"
    assert person.find("#todo").text == "Listen to mix 1 a little longer."
    person.listen_to_all()
    person.find("#next").click()
    assert person.find("#todo").text == "Place mix 1 on Production Value."
    for mix, name in enumerate(person.order()):
        for attribute in range(3):
            person.drag(attribute, mix, tens[name] / 10)
        assert person.find_all("#mixes button")[mix].get_attribute("aria-pressed") == "true"
    assert person.find("#todo").text == "All mixes are heard and placed."


@pytest.mark.parametrize("slow", ["BaseAudioContext.prototype.decodeAudioData", "AudioContext.prototype.resume"])
def test_a_volume_that_is_no_longer_set_when_the_sound_is_ready_is_not_heard(
    slow: str, built: tuple[Path, Key], tmp_path: Path
) -> None:
    script = f"""
        const slow = {slow}, start = AudioBufferSourceNode.prototype.start;
        {slow} = async function (...given) {{
          await new Promise((go) => {{ window.go = go; }});
          return slow.apply(this, given);
        }};
        window.starts = 0;
        AudioBufferSourceNode.prototype.start = function (...given) {{
          window.starts += 1;
          return start.apply(this, given);
        }};
    """
    with chromium() as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        person = Person(driver, tmp_path)
        driver.get((built[0] / "index.html").as_uri())
        person.find("#volume").click()
        person.wait_until("window.go !== undefined")
        person.find("#begin").click()
        assert person.section() == "questions"
        driver.execute_async_script("window.go(); setTimeout(arguments[0], 1000)")
        assert person.run("return window.starts") == 0


def test_a_hint_stays_while_a_mix_plays_until_something_else_is_left(tmp_path: Path) -> None:
    mixes, _ = write_mixes(tmp_path, seconds=9)
    run("listening-test", "build", mixes, tmp_path / "test", "--minimum-listening", "3")
    with chromium() as driver:
        person = Person(driver, tmp_path)
        driver.get((tmp_path / "test" / "index.html").as_uri())
        person.answer_questions()
        person.wait_for_sound()
        assert person.find("#todo").text == "12 things are left to do."
        person.press("2")
        person.wait_until("document.querySelector('#play').textContent === 'Stop'")
        written = person.driver.execute_async_script(
            """
            const done = arguments[0], todo = document.querySelector("#todo"), written = [];
            new MutationObserver(() => written.push(todo.textContent)).observe(todo, {childList: true});
            document.querySelector("#next").click();
            setTimeout(() => done(written), 1000);
            """
        )
        assert written == ["Listen to mix 1 a little longer."]
        person.wait_until("document.querySelectorAll('#mixes .state')[1].textContent.startsWith('heard')")
        person.wait_until("document.querySelector('#todo').textContent === '11 things are left to do.'")


def _downloaded(person: Person, folder: Path) -> Path:
    return until(lambda: list(folder.glob("*.json")))[0]


def _analysis_finds_the_preference(key: Key, key_file: Path, real: Path, tmp_path: Path) -> None:
    """Among participants who are made up, one of whom guesses."""
    answers = real.parent
    for seed in range(1, 9):
        write_answers(made_up_answers(key, seed), answers)
    guessed = write_answers(made_up_answers(key, 99, dict.fromkeys(SYSTEMS, 50.0), scatter=200.0), answers)
    said = run("listening-test", "analyse", answers, tmp_path / "found", "--key", key_file)
    for title in ("Production Value", "Clarity", "Excitement"):
        line = next(line for line in said.splitlines() if line.startswith(title))
        assert "crafx2 is rated highest" in line
        assert "shown to be over input_sum, normalized_sum" in line
    assert f"excluded: {guessed.name}: the same mix differs by" in said
    summary = json.loads((tmp_path / "found" / "summary.json").read_text())
    assert summary["participants"] == 9
    assert list(summary["excluded"]) == [f"{99:016x}"]
    report = (tmp_path / "found" / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;bold&lt;/b&gt;" in report
    assert "'=SUM(A1)" in (tmp_path / "found" / "participants.csv").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=["'](?!data:)""", report)


def test_switching_goes_on_at_the_same_sample_without_a_gap(built: tuple[Path, Key], tmp_path: Path) -> None:
    """What went to the loudspeakers is one mix up to the switch and the other from 8 ms after it, in step."""
    folder, _ = built
    with chromium(tmp_path / "profile") as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": CAPTURE})
        driver.set_script_timeout(PATIENCE)
        person = Person(driver, tmp_path)
        driver.get((folder / "index.html").as_uri())
        person.answer_questions()
        person.wait_for_sound()
        order = person.order()
        heard = np.array(_heard_around_a_switch(person), dtype=np.float32)
        person.press("0")
        assert person.find("#references button").get_attribute("aria-pressed") == "true"
        person.press(Keys.SPACE)
        assert person.find("#play").text == "Play"
    first, second = (clip(folder, name).mean(axis=0) for name in order[:2])
    start = _place_of(heard[:8192], first)
    expected = [np.take(mix, np.arange(start, start + heard.size), mode="wrap") for mix in (first, second)]
    errors = [np.abs(heard - each) < 1e-4 for each in expected]
    before = int(np.argmin(errors[0]))  # the first sample that is not the first mix's …
    after = heard.size - int(np.argmin(errors[1][::-1]))  # … and from here on it is the second's
    assert 8192 < before < after < heard.size - 4096
    assert after - before <= 0.012 * SAMPLE_RATE


def _heard_around_a_switch(person: Person) -> list[float]:
    """The last 0.74 s, from 0.3 to 0.5 s after key 2 was pressed while mix 1 was playing."""
    for _ in range(PATIENCE):  # a busy machine may look too late
        person.press("1")
        person.wait_until("document.querySelector('#mixes .state').textContent.startsWith('heard')")
        samples: list[float] | None = person.driver.execute_async_script(
            """
            const done = arguments[0];
            const analyser = window.heard, clock = () => analyser.context.currentTime;
            const look = (start) => {
              if (clock() < start + 0.3) return setTimeout(look, 5, start);
              const samples = new Float32Array(analyser.fftSize);
              analyser.getFloatTimeDomainData(samples);
              return done(clock() < start + 0.5 ? Array.from(samples) : null);
            };
            setTimeout(() => {
              document.dispatchEvent(new KeyboardEvent("keydown", {key: "2"}));
              look(clock());
            }, 800);
            """
        )
        if samples is not None:
            return samples
    raise AssertionError("the machine was too busy to listen")


def test_starts_and_stops_fade_instead_of_clicking(built: tuple[Path, Key], tmp_path: Path) -> None:
    """In the middle of noise, a stop and a start each take some milliseconds."""
    with chromium() as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": CAPTURE})
        driver.set_script_timeout(PATIENCE)
        person = Person(driver, tmp_path)
        driver.get((built[0] / "index.html").as_uri())
        person.answer_questions()
        person.wait_for_sound()
        person.press("1")
        person.wait_until("document.querySelector('#mixes .state').textContent.startsWith('heard')")
        stopped = np.array(_heard_around_a_toggle(person), dtype=np.float32)
        started = np.array(_heard_around_a_toggle(person), dtype=np.float32)
    assert not stopped[-1024:].any()  # it is silent in the end …
    assert not started[:1024].any()  # … and in the beginning
    for heard in (stopped[::-1], started):
        sound = heard[np.flatnonzero(heard)[0] :]
        level = np.sqrt(np.mean(np.square(sound[1024:5120])))
        assert np.sqrt(np.mean(np.square(sound[:44]))) < 0.2 * level  # the first millisecond of eight
        assert np.sqrt(np.mean(np.square(sound[400:1024]))) > 0.7 * level


def _heard_around_a_toggle(person: Person) -> list[float]:
    """The last 0.74 s, from 0.3 to 0.5 s after the space bar was pressed."""
    for _ in range(PATIENCE):  # a busy machine may look too late
        samples: list[float] | None = person.driver.execute_async_script(
            """
            const done = arguments[0];
            const analyser = window.heard, clock = () => analyser.context.currentTime;
            const toggle = () => document.dispatchEvent(new KeyboardEvent("keydown", {key: " "}));
            const look = (start) => {
              if (clock() < start + 0.3) return setTimeout(look, 5, start);
              const samples = new Float32Array(analyser.fftSize);
              analyser.getFloatTimeDomainData(samples);
              if (clock() < start + 0.5) return done(Array.from(samples));
              toggle(); // as before, to be tried again
              return setTimeout(done, 1000, null);
            };
            setTimeout(() => { toggle(); look(clock()); }, 1000);
            """
        )
        if samples is not None:
            return samples
    raise AssertionError("the machine was too busy to listen")


def _place_of(part: np.ndarray, whole: np.ndarray) -> int:
    """Where in ``whole``, which is looped, ``part`` is found: the highest correlation."""
    looped = np.concatenate([whole, whole[: part.size]])
    size = 1 << (looped.size + part.size).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(looped, size) * np.conj(np.fft.rfft(part, size)), size)
    return int(np.argmax(correlation[: whole.size]))


class _AnswersServer(SimpleHTTPRequestHandler):
    """Serves the page; does not answer when the first answers come, fails at the second and takes the third."""

    received: list[dict[str, Any]]
    ended: threading.Event

    def do_POST(self) -> None:
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        if len(self.received) == 1:
            self.ended.wait()
            return
        self.send_response(503 if len(self.received) == 2 else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def server(sources: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The address of a test of one song that is posted to its own server, and what that receives."""
    run("listening-test", "build", sources[0], tmp_path / "test", "--repeats", "0", "--post-to", "/answers", *MINIMUM)
    received: list[dict[str, Any]] = []
    ended = threading.Event()
    handler = type("Handler", (_AnswersServer,), {"received": received, "ended": ended})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path / "test"))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}/index.html", received
        ended.set()
        running.shutdown()
        thread.join()


def test_answers_are_posted_and_kept_when_the_server_fails(
    server: tuple[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    address, received = server
    with chromium(tmp_path / "profile") as driver:
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": OLD_AND_IMPATIENT})
        person = Person(driver, tmp_path)
        driver.get(f"{address}?participant=P7")
        person.answer_questions()
        for _ in range(2):
            person.wait_for_sound()
            person.listen_to_all()
            person.rate(dict.fromkeys(person.order(), 5))
            person.find("#next").click()
        person.find("#finish").click()
        person.wait_until("document.querySelector('#delivery').textContent.includes('the server did not answer')")
        person.find("#send-again").click()
        person.wait_until("document.querySelector('#delivery').textContent.includes('status 503')")
        assert person.find("#download").is_displayed()
        person.find("#send-again").click()
        person.wait_until("document.querySelector('#delivery').textContent.includes('were sent')")
        driver.refresh()  # and they are not sent again
        assert "were sent" in person.find("#delivery").text
        person.find("#restart").click()
        driver.switch_to.alert.accept()
        person.wait_until("document.querySelector('#welcome')?.hidden === false")
        assert person.run("return document.querySelector('#code').value") == ""
    assert received[0]["participant"]["code"] == "P7"
    assert len(received) == 3
    assert received[0] == received[1] == received[2]
    key = read_key(tmp_path / "test-key.json")
    Result.model_validate_json(json.dumps(received[0])).check_against(key)

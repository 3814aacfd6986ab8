"""Many sessions mixed in one go: which there are, what is mixed again, and what one bad session does to the others.

Kind: a run that was killed, that met a broken session or was done in parts gives the same files as one that was not.
"""

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxnorm import Mixer
from fxnorm.catalogue import loads, mix, report
from fxnorm.catalogue.find import Catalogue, File, catalogue_of
from fxnorm.catalogue.records import Drift, Row
from fxnorm.catalogue.targets import targets
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import DatasetError, FxnormError, OutputError
from fxnorm.io import audio
from fxnorm.mixing.options import MixOptions
from fxnorm.sessions.session import open_session
from fxnorm.sessions.stems import sum_groups
from fxnorm.stages import mix_all
from tests import servers
from tests.browser import Browser
from tests.conftest import noise
from tests.folders import contents

TRACKS = ("01_Kick.wav", "02_Bass.wav", "03_LeadVox.wav")
FLAC = MixOptions()


def session(folder: Path, *names: str, seed: int = 0, seconds: float = 0.4) -> Path:
    for number, name in enumerate(names or TRACKS):
        audio.write(folder / name, noise(seconds, 0.2, 10 * seed + number, channels=1), subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sessions of tracks, of which two have one name, and a song."""
    root = tmp_path_factory.mktemp("catalogue") / "sessions"
    for seed, name in enumerate(("A/One", "A/Two", "B/One")):
        session(root / name, seed=seed)
    session(root / "B/Song", "vocals.wav", "bass.wav", seed=7)
    return root


@pytest.fixture
def sessions(originals: Path, tmp_path: Path) -> Path:
    """A copy of them by links, to change."""
    root = tmp_path / "sessions"
    for file in originals.rglob("*.wav"):
        target = root / file.relative_to(originals)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, target)
    return root


@pytest.fixture(scope="module")
def mixed(originals: Path, mixer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run makes of them that nothing disturbs."""
    output = tmp_path_factory.mktemp("mixed") / "out"
    assert not run(mixer_folder, originals, output).failed
    return output


def run(mixer: Path, sessions: Path, output: Path, options: MixOptions = FLAC, **more: Any) -> mix_all.Summary:
    return mix_all.run(mixer, str(sessions), str(output), options, **({"workers": 1} | more))


def made(output: Path) -> dict[str, bytes]:
    """What users get of a run: all but the records."""
    return {name: content for name, content in contents(output).items() if not name.startswith(".mixes/")}


def rows(output: Path) -> dict[str, dict[str, str]]:
    with open(output / "mixes.csv", encoding="utf-8", newline="") as file:
        return {row["session"]: row for row in csv.DictReader(file)}


# ---- what is a session


def found(*names: str) -> Catalogue:
    return catalogue_of(File(name, 1, "") for name in names)


@pytest.mark.parametrize(
    "names, expected",
    [
        (("A/One/kick.wav", "A/Two/kick.wav", "Three/x.flac"), ["A/One", "A/Two", "Three"]),
        (("One/Drums/kick.wav", "One/Vox/lead.wav"), ["One"]),
        (("One/kick.wav", "One/more/snare.wav"), ["One"]),
        (("One/CD 1/a.wav", "One/CD 2/b.wav"), ["One"]),
        (("Album/CD 1/One/a.wav", "Album/CD 1/Two/b.wav"), ["Album/CD 1/One", "Album/CD 1/Two"]),
        (("One/raw/a.wav", "One/mixes/One.wav"), ["One"]),
        (("train/S/vocals.wav", "train/S/mixture.wav", "train/T/Bass.FLAC"), ["train/S", "train/T"]),
        (("One/vocals.wav", "One/gtr.wav"), ["One"]),
        (("One/tracks.yaml", "One/a/x.wav", "One/b/y.wav"), ["One"]),
        (("kick.wav", "bass.wav"), [""]),
        (("Drums/kick.wav", "Vox/lead.wav"), [""]),
        (("One/a.wav", "Two/a.wav", "readme.txt"), ["One", "Two"]),
    ],
)
def test_a_session_is_what_its_files_and_folders_are_called(names: tuple[str, ...], expected: list[str]) -> None:
    catalogue = found(*names)
    assert [session.name for session in catalogue.sessions] == expected
    assert catalogue.loose == ()


def test_a_song_is_mixed_of_its_stems_and_other_audio_beside_sessions_is_told() -> None:
    catalogue = found("S/Vocals.wav", "S/bass.mp3", "S/bass.flac", "S/mixture.wav", "stray.wav", "S/old/x.wav")
    (song,) = catalogue.sessions
    assert song.stems == {"vocals": "Vocals.wav", "bass": "bass.flac"}
    assert [file.name for file in song.files] == ["Vocals.wav", "bass.flac"]
    assert catalogue.loose == ("S/old/x.wav", "stray.wav")
    (song,) = found("S/Vocals.wav", "S/vocals.wav").sessions
    assert song.fault == "expected one file of vocals, found Vocals.wav and vocals.wav"


@pytest.mark.parametrize("name", ["One/../../x.wav", "/etc/x.wav", "One//x.wav", "One\\x.wav", "One/./x.wav"])
def test_a_key_that_leaves_the_folder_is_a_session_s_fault(name: str) -> None:
    bad = [session for session in found("Two/a.wav", name).sessions if session.fault is not None]
    assert len(bad) == 1 and "leaves the folder" in str(bad[0].fault)


def test_a_file_whose_name_is_no_text_is_the_fault_of_its_session() -> None:
    catalogue = found("One/a.wav", "One/sub/\udcff.wav", "Two/a.wav")
    faults = {session.name: session.fault for session in catalogue.sessions}
    assert faults == {"One": "One/sub/\\udcff.wav: expected a name in UTF-8; rename it", "Two": None}


def test_mixes_lie_as_their_sessions_do_and_no_two_are_one_file() -> None:
    names = ["A/One", "A/one", "A/Who?", "B/One", "B/One.flac/Two", "index.html/Three", "mixes"]
    named = targets(names, ".flac", "root")
    assert named.files["B/One"] != "B/One.flac" and named.files["B/One"].startswith("B/One-")
    assert named.files["B/One.flac/Two"] == "B/One.flac/Two.flac"
    assert not named.files["index.html/Three"].startswith("index.html/")
    assert len({file.casefold() for file in named.files.values()}) == len(names)
    assert any("A/One and A/one" in note for note in named.notes)
    assert targets(["A/One"], ".wav", "root").files == {"A/One": "A/One.wav"}
    assert targets([""], ".wav", "root").files == {"": "root.wav"}


# ---- what is mixed


def test_each_session_is_mixed_as_alone_under_its_own_name(originals: Path, mixed: Path, mixer_folder: Path) -> None:
    assert set(made(mixed)) == {"A/One.flac", "A/Two.flac", "B/One.flac", "B/Song.flac", "mixes.csv", "index.html"}
    mixer = Mixer.load(mixer_folder)
    opened = open_session(originals / "A/Two", mixer.recipe.statistics)
    stems = sum_groups(opened.table, opened.recordings).stems
    alone = mixer.mix(stems, SAMPLE_RATE, dry=True, song="Two")
    written = audio.read(mixed / "A/Two.flac")[0]
    assert np.abs(written - alone).max() <= 2**-23
    wet = {stem: audio.read(originals / f"B/Song/{stem}.wav")[0] for stem in ("vocals", "bass")}
    written = audio.read(mixed / "B/Song.flac")[0]
    assert np.abs(written - mixer.mix(wet, SAMPLE_RATE, song="Song")).max() <= 2**-23
    table = rows(mixed)
    assert {name: row["status"] for name, row in table.items()} == dict.fromkeys(table, "mixed")
    assert [table["A/One"][f"tracks_{stem}"] for stem in ("vocals", "bass", "drums", "other")] == ["1", "1", "1", ""]
    assert float(table["B/Song"]["seconds"]) == pytest.approx(0.4)


def test_a_second_run_keeps_what_is_the_same_and_mixes_what_changed(
    sessions: Path, mixed: Path, mixer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(mixed, output)
    assert run(mixer_folder, sessions, output).kept == 4, "wherever sessions and mixes lie"
    os.utime(sessions / "B/One/01_Kick.wav")  # another time, the same content
    (output / "A/Two.flac").write_bytes(b"somebody else's")
    (output / "B/Song.flac").unlink()
    (sessions / "A/One/01_Kick.wav").unlink()
    session(sessions / "A/One", "01_Kick.wav", seed=20)
    assert run(mixer_folder, sessions, output).kept == 1
    now, before = made(output), made(mixed)
    assert {name for name in now if now[name] != before[name]} == {"A/One.flac", "mixes.csv", "index.html"}
    shutil.rmtree(sessions / "A")
    options = MixOptions(target_loudness=-20.0, output_format="wav", bits="16")
    assert run(mixer_folder, sessions, output, options).kept == 0
    assert {name for name in made(output) if name.startswith("B/")} == {"B/One.wav", "B/Song.wav"}, "no older mix"
    assert float(rows(output)["B/One"]["loudness_lufs"]) == pytest.approx(-20, abs=0.1)


KILLED = """
import os, signal
from fxnorm.catalogue import mix
from fxnorm.cli import main

begun, open_session = [], mix.open_session

def open_or_die(*arguments, **options):
    begun.append(arguments)
    if len(begun) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return open_session(*arguments, **options)

mix.open_session = open_or_die
main()
"""
"""The command, killed as it begins with the third session."""


@pytest.mark.system
def test_a_killed_run_that_goes_on_in_shards_gives_the_same_bytes(
    originals: Path, mixed: Path, mixer_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    command = ["mix-all", str(originals), str(output), "--mixer", str(mixer_folder), "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], env=environment, cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (output / "mixes.csv").exists()
    done = [run(mixer_folder, originals, output, shard=(number, 3)) for number in (1, 2, 3)]
    assert 1 <= sum(part.kept for part in done) < 4
    assert sorted(row.session for part in done for row in part.rows) == list(rows(mixed))
    assert not (output / "mixes.csv").exists()
    mix_all.finish(mixer_folder, mix_all.Listing.of(str(originals)), str(output), FLAC, "a Mixer", parts=False)
    assert made(output) == made(mixed)


def test_parts_lie_beside_each_mix(sessions: Path, mixer_folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(sessions / "B/One")
    run(mixer_folder, sessions / "B", tmp_path / "out", parts=True)
    parts = {name.rpartition("/")[2] for name in made(tmp_path / "out") if name.startswith("Song parts/")}
    assert parts == {"vocals.wav", "bass.wav", "mix.wav", "mix.json"}
    summed = sum(audio.read(tmp_path / f"out/Song parts/{stem}.wav")[0] for stem in ("vocals", "bass"))
    assert np.abs(summed - audio.read(tmp_path / "out/Song.flac")[0]).max() <= 2**-23 + 1e-6
    assert run(mixer_folder, sessions / "B", tmp_path / "out", parts=True).kept == 1


# ---- what cannot be mixed


def test_bad_sessions_are_listed_with_a_line_and_the_others_mixed(
    sessions: Path, mixed: Path, mixer_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(mixed, output)
    (sessions / "A/Two/01_Kick.wav").unlink()
    (sessions / "A/Two/01_Kick.wav").write_bytes(b"")
    session(sessions / "link", "Bass.wav")
    (sessions / "link/Kick.wav").symlink_to("/etc/passwd")
    audio.write(sessions / "silent/Kick.wav", np.zeros((1, 4_410), np.float32))
    session(sessions / "table", "Kick.wav")
    (sessions / "table/tracks.yaml").write_text("folder: ../A\ntracks: [{file: One/01_Kick.wav, group: drums}]\n")
    with pytest.raises(SystemExit) as ended:
        arguments = [str(sessions), str(output), "--mixer", str(mixer_folder), "--workers", "1"]
        main.main(["mix-all", *arguments], standalone_mode=False)
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert f"{output}: 3 of 7 sessions mixed, 3 of them before" in printed.out
    assert "fxnorm: 4 sessions not mixed" in printed.err
    failures = {name: row["message"] for name, row in rows(output).items() if row["status"] == "failed"}
    assert "01_Kick.wav: the file is empty" in failures["A/Two"]
    assert failures["link"] == "Kick.wav: is a link that leaves the folder"
    assert "nothing usable" in failures["silent"]
    assert failures["table"] == "tracks.yaml: folder: ../A leaves the session's folder"
    for name, message in failures.items():
        assert f"not mixed: {name}: {message}\n" in printed.err
        assert str(tmp_path) not in message
    assert not (output / "A/Two.flac").exists(), "that of other files"
    assert made(output)["A/One.flac"] == made(mixed)["A/One.flac"]


def test_a_defect_in_one_session_keeps_its_trace_and_is_not_the_end(
    originals: Path,
    mixer_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = mix.mix_samples

    def broken(*arguments: Any, **options: Any) -> Any:
        if arguments[2].song == "Two":
            raise ZeroDivisionError("a defect")
        return plain(*arguments, **options)

    monkeypatch.setattr(mix, "mix_samples", broken)
    (bad,) = run(mixer_folder, originals / "A", tmp_path / "out").failed
    assert bad.message == "a defect of the program: ZeroDivisionError: a defect"
    assert "Traceback" in capsys.readouterr().err


def test_what_no_run_can_do_is_one_line_at_once(originals: Path, mixer_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected a folder of sessions, found nothing"):
        run(mixer_folder, tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty/notes").mkdir(parents=True)
    (tmp_path / "empty/notes/a.txt").write_text("by ear")
    with pytest.raises(DatasetError, match="found no audio file"):
        run(mixer_folder, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(FxnormError, match="expected a Mixer directory"):
        run(tmp_path / "empty", originals, tmp_path / "out")
    with pytest.raises(OutputError, match="expected a new or empty place"):
        run(mixer_folder, originals, tmp_path / "empty")
    with pytest.raises(OutputError, match="lies in an input"):
        run(mixer_folder, originals, originals / "mixes")
    assert not (tmp_path / "out").exists()


# ---- a store, memory, the page


def test_sessions_of_a_store_are_mixed_into_a_store_as_from_folders(
    originals: Path,
    mixed: Path,
    mixer_folder: Path,
    tmp_path: Path,
    s3_environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    client = servers.s3_client(s3_environment)
    for file in (originals / "B").rglob("*.wav"):
        client.upload_file(str(file), "fxnorm", f"c/sessions/{file.relative_to(originals).as_posix()}")
    client.put_object(Bucket="fxnorm", Key="c/sessions/.hidden/x.wav", Body=b"x")
    client.put_object(Bucket="fxnorm", Key="c/sessions/Bad/Kick.wav", Body=b"no audio")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for kept in (0, 2):
        summary = mix_all.run(mixer_folder, "s3://fxnorm/c/sessions", "s3://fxnorm/c/out", FLAC, workers=1)
        assert [row.session for row in summary.failed] == ["Bad"]
        assert str(summary.failed[0].message).startswith("Kick.wav: ")
        assert summary.kept == kept
    assert list(tmp_path.iterdir()) == [], "nothing that was fetched stays"
    for name in ("B/One.flac", "B/Song.flac"):
        assert client.get_object(Bucket="fxnorm", Key=f"c/out/{name}")["Body"].read() == made(mixed)[name]
    assert client.head_object(Bucket="fxnorm", Key="c/out/index.html")["ContentLength"]
    with pytest.raises(OutputError, match="s3://fxnorm/c: holds something"):
        mix_all.run(mixer_folder, str(originals), "s3://fxnorm/c", FLAC, workers=1)
    with pytest.raises(OutputError, match="s3://fxnorm/c/sessions/x: lies in an input"):
        mix_all.run(mixer_folder, "s3://fxnorm/c/sessions/", "s3://fxnorm/c/sessions/x", FLAC, workers=1)


def test_the_load_of_a_session_is_that_of_its_longest_file(originals: Path) -> None:
    (one, *_) = mix_all.Listing.of(str(originals)).found()[0]
    expected = loads.PROCESS_BYTES + 0.4 * loads.SECOND_BYTES
    assert loads.load_of(one, str(originals)) == pytest.approx(expected, rel=1e-3)
    assert loads.load_of(one, "s3://bucket/sessions") == pytest.approx(expected, rel=0.1)


def test_the_page_plays_orders_and_finds_mixes_and_takes_names_for_text(
    mixed: Path, browser: Browser, tmp_path: Path
) -> None:
    name = "A/<img src=x onerror=alert(1)> & Söhne?"
    drift = {"vocals": Drift(effect="panning", spreads=-5.2), "bass": Drift(effect="loudness", spreads=1.0)}
    some = [
        Row(session="A/One", status="mixed", kind="tracks", file="A/One.flac", seconds=0.4, loudness_lufs=-14.0,
            groups={"drums": 3}),
        Row(session=name, status="mixed", kind="stems", file="A/b %.flac", seconds=9.0, drift=drift,
            warnings=("<script>alert(2)</script>",)),
        Row(session="B/<b>", status="failed", kind="tracks", message="<i>0 bytes</i>"),
    ]  # fmt: skip
    (tmp_path / "A").mkdir()
    (tmp_path / "A/One.flac").write_bytes((mixed / "A/One.flac").read_bytes())
    (tmp_path / "index.html").write_bytes(report.page(some, {"Mixer": "<u>"}, ["<note>"]))
    assert report.page(some, {}) == report.page(some, {})
    browser.open(tmp_path / "index.html")
    shown = "return [...document.querySelectorAll('.mix:not([hidden]) h3')].map(one => one.textContent)"
    assert browser.run(shown) == ["A/One", name]
    assert browser.run("return document.querySelectorAll('main img, main script, main b, main i, main u').length") == 0
    assert browser.run("return document.querySelectorAll('audio')[1].getAttribute('src')") == "A/b%20%25.flac"
    browser.run("const o = document.getElementById('order'); o.value = 'worst'; o.dispatchEvent(new Event('change'))")
    assert browser.run(shown) == [name, "A/One"]
    browser.run("const f = document.getElementById('find'); f.value = 'söhne'; f.dispatchEvent(new Event('input'))")
    assert browser.run(shown) == [name]
    playable = """
        const player = document.querySelector('audio[src="A/One.flac"]'), done = arguments[0];
        player.onloadedmetadata = () => done(player.duration);
        player.onerror = () => done(String(player.error.message));
        player.load(); player.preload = 'auto'; player.play().catch(() => {});
    """
    assert browser.driver.execute_async_script(playable) == pytest.approx(0.4, abs=0.01)
    assert browser.complaints() == []
    browser.open(tmp_path / "index.html", width=390)
    assert browser.run("return document.documentElement.scrollWidth") == 390

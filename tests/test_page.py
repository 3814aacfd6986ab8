"""The page's server: what goes in, what comes out, and what it does not do."""

import base64
import errno
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import rpp
import soundfile
import yaml

from fxnorm import Mixer
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE
from fxnorm.effects import loudness
from fxnorm.errors import SettingsError
from fxnorm.io import audio
from fxnorm.io.folders import is_foreign_path
from fxnorm.page import labels, rows
from fxnorm.page.jobs import Job, Queue
from fxnorm.page.limits import CHUNK_BYTES, JSON_BYTES, Limits
from fxnorm.page.making import Engine
from fxnorm.page.refusal import Refused
from fxnorm.page.server import hosts_of, is_loopback
from fxnorm.page.session import Receiver
from fxnorm.page.store import Store, is_token, new_token, owner_of
from fxnorm.sessions import table as tables
from fxnorm.sessions.session import open_session
from fxnorm.sessions.stems import sum_groups
from tests.commands import fxnorm, the_line
from tests.conftest import noise
from tests.hostile import HOSTILE
from tests.page_server import User, served
from tests.waiting import until

pytestmark = pytest.mark.system

JSON = {"Content-Type": "application/json"}
BINARY = {"Content-Type": "application/octet-stream"}


def _file(seconds: float = 1.0, seed: int = 0, suffix: str = ".wav", **options: Any) -> bytes:
    return audio.encode(noise(seconds, 0.2, seed, **options), SAMPLE_RATE, suffix)


FILES = {
    "01_Kick.wav": _file(seed=1, channels=1),
    "02_OH_L.flac": _file(seed=2, suffix=".flac", channels=1),
    "02_OH_R.flac": _file(seed=3, suffix=".flac", channels=1),
    "Keys/03_Bass DI.wav": _file(seed=4),
    "04_Audio 7.wav": _file(seed=5),
    "05_LeadVox.wav": _file(1.2, seed=6),
}


@pytest.fixture(scope="module")
def engine(mixer_folder: Path) -> Engine:
    return Engine("a mixer", mixer=Mixer.load(mixer_folder))


@pytest.fixture(scope="module")
def address(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(engine, tmp_path_factory.mktemp("page")) as running:
        yield running


@pytest.fixture(scope="module")
def made(address: str) -> tuple[User, str, dict[str, Any]]:
    """A user, a session and its mix; tests look and change nothing."""
    user = User(address)
    session, _ = user.sorted_session(FILES)
    mix = user.mix(session, alternatives=2)
    assert mix["state"] == "done", mix["problem"]
    return user, session, mix


def _on_disk(folder: Path) -> Path:
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_tracks_are_sorted_as_the_command_sorts_them(
    made: tuple[User, str, dict[str, Any]], mixer_folder: Path, tmp_path: Path
) -> None:
    user, session, mix = made
    folder = _on_disk(tmp_path / "session")
    table = folder / "tracks.yaml"
    main(["tracks", str(folder), "--output", str(table), "--mixer", str(mixer_folder)], standalone_mode=False)
    _, content = user.taken(session, mix["id"], what="tracks")
    assert content == table.read_bytes()


def test_a_mix_and_its_remix_are_the_commands_sample_for_sample(
    made: tuple[User, str, dict[str, Any]], mixer_folder: Path, tmp_path: Path
) -> None:
    user, session, mix = made
    folder = _on_disk(tmp_path / "session")
    _, text = user.taken(session, mix["id"], what="tracks")
    (folder / "tracks.yaml").write_bytes(text)
    output, parts = tmp_path / "mix.wav", tmp_path / "parts"
    options = ["--tracks", str(folder), "--output", str(output), "--stems-out", str(parts), "--alternatives", "2"]
    main(["mix", str(mixer_folder), *options], standalone_mode=False)
    _, content = user.taken(session, mix["id"], what="mix")
    assert content == output.read_bytes()
    assert np.array_equal(user.piece(session, mix["id"], "mix", 0, 2**20), audio.read(output)[0])
    (other,) = (path for path in tmp_path.glob("mix-2-*.wav"))
    _, content = user.taken(session, mix["id"], what="mix", source="alternative-2")
    assert content == other.read_bytes()
    for stem in mix["parts"]:
        part = user.piece(session, mix["id"], f"part-{stem}", 0, 2**20)
        assert np.array_equal(part, audio.read(parts / f"{stem}.wav")[0])
    again = tmp_path / "again.flac"
    change = ["--gain", "vocals=-2.5", "--mute", "bass", "--target-loudness", "-20", "--bits", "24"]
    main(["remix", str(parts), *change, "--output", str(again)], standalone_mode=False)
    wish = {"gains_db": {"vocals": -2.5}, "muted": ["bass"], "target_loudness": -20.0, "bits": "24", "format": "flac"}
    told, content = user.taken(session, mix["id"], what="mix", **wish)
    assert content == again.read_bytes()
    assert told["name"] == "A Song.flac"
    assert told["sentence"].startswith("-20.0 LUFS")


def test_pieces_of_audio_join_without_a_gap(made: tuple[User, str, dict[str, Any]]) -> None:
    user, session, mix = made
    whole = user.piece(session, mix["id"], "sum", 0, 2**20)
    assert whole.shape == (2, mix["samples"])
    pieces = [user.piece(session, mix["id"], "sum", start, 10_007) for start in range(0, mix["samples"], 10_007)]
    assert np.array_equal(np.concatenate(pieces, axis=1), whole)
    assert user.piece(session, mix["id"], "sum", mix["samples"], 100).shape == (2, 0)


def test_sources_are_alike_in_loudness_and_within_full_scale(made: tuple[User, str, dict[str, Any]]) -> None:
    user, session, mix = made
    levels = []
    for source in mix["sources"]:
        heard = user.piece(session, mix["id"], source["id"], 0, 2**20) * np.float32(10 ** (source["gain_db"] / 20))
        levels.append(loudness.measure(heard, SAMPLE_RATE))
        assert np.abs(heard).max() <= 1
    assert [source["id"] for source in mix["sources"]] == ["mix", "sum", "normalized", "alternative-2"]
    assert max(levels) - min(levels) < 0.05


def test_the_plain_sum_is_that_of_the_stems_and_the_normalized_one_of_what_the_network_is_given(
    made: tuple[User, str, dict[str, Any]], mixer_folder: Path, tmp_path: Path
) -> None:
    user, session, mix = made
    opened = open_session(_on_disk(tmp_path / "session"), Mixer.load(mixer_folder).recipe.statistics)
    stems = sum_groups(opened.table, opened.recordings).stems
    length = max(stem.shape[1] for stem in stems.values())
    plain = sum(audio.pad_to(stem, length) for stem in stems.values())
    assert np.array_equal(user.piece(session, mix["id"], "sum", 0, 2**20), plain)
    normalized = Mixer.load(mixer_folder).normalize(stems, dry=True).reshape(4, 2, -1).sum(axis=0)
    assert np.array_equal(user.piece(session, mix["id"], "normalized", 0, 2**20), normalized)


def test_figures_tell_of_each_source(made: tuple[User, str, dict[str, Any]]) -> None:
    user, session, mix = made
    figures = user.ask("GET", f"sessions/{session}/mixes/{mix['id']}/figures")["sources"]
    assert set(figures) == {source["id"] for source in mix["sources"]}
    for source in mix["sources"]:
        found = figures[source["id"]]
        assert found["loudness_lufs"] == source["loudness_lufs"]
        assert len(found["spectrum"]["db"]) == len(found["spectrum"]["hertz"]) == 29
        assert len(found["stereo"]["side_to_middle_db"]) == len(found["stereo"]["balance_db"]) == 29
        assert len(found["waveform"]) == 480 and max(found["waveform"]) > 0


def test_all_can_be_taken_away_in_one_zip(made: tuple[User, str, dict[str, Any]], tmp_path: Path) -> None:
    user, session, mix = made
    told, content = user.taken(session, mix["id"], what="all")
    assert told["name"] == "A Song.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = set(archive.namelist())
        parts = {f"parts/{stem}.wav" for stem in mix["parts"]}
        assert names >= parts | {"mix.wav", "tracks.yaml", "report.json", "parts/mix.json", "parts/session.rpp"}
        assert any(name.startswith("alternative-2 ") for name in names)
    _, content = user.taken(session, mix["id"], what="daw")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert rpp.loads(archive.read("session.rpp").decode()).tag == "REAPER_PROJECT"
    _, content = user.taken(session, mix["id"], what="description")
    assert json.loads(content)["mixer"] == "a mixer"
    for format_, start in (("mp3", b"\xff"), ("flac", b"fLaC"), ("wav", b"RIFF")):
        assert user.taken(session, mix["id"], what="mix", format=format_)[1].startswith(start)


def test_another_rate_than_the_mixs_is_that_of_the_file(made: tuple[User, str, dict[str, Any]]) -> None:
    user, session, mix = made
    _, content = user.taken(session, mix["id"], what="mix", sample_rate=48_000, bits="16")
    samples, rate = audio.decode(content, "mix.wav", None)
    assert rate == 48_000
    assert samples.shape[1] == pytest.approx(mix["samples"] * 48 / 44.1, abs=2)


def test_two_users_do_not_see_each_others_sessions(made: tuple[User, str, dict[str, Any]], address: str) -> None:
    _, session, mix = made
    other = User(address)
    assert other.ask("GET", "sessions") == {"sessions": []}
    mixed = f"sessions/{session}/mixes/{mix['id']}"
    for method, path, body in (
        ("GET", f"sessions/{session}", None),
        ("GET", f"sessions/{session}/events", None),
        ("GET", f"sessions/{session}/waveforms", None),
        ("GET", f"{mixed}/audio/mix?start=0&count=10", None),
        ("GET", f"{mixed}/figures", None),
        ("DELETE", f"sessions/{session}", None),
        ("PATCH", f"sessions/{session}", {"name": "Mine"}),
        ("POST", f"sessions/{session}/files", {"name": "a.wav", "bytes": 10}),
        ("POST", f"{mixed}/exports", {"what": "mix"}),
        ("POST", f"{mixed}/cancel", {}),
    ):
        assert other.ask(method, path, 404, json=body)["error"] == "this session is gone"


def test_an_upload_goes_on_where_it_was_interrupted(address: str) -> None:
    user = User(address)
    session = user.session()
    content = FILES["01_Kick.wav"]
    announced = {"name": "01_Kick.wav", "bytes": len(content)}
    file = user.ask("POST", f"sessions/{session}/files", 201, json=announced)["file"]
    port = int(address.rpartition(":")[2])
    head = (
        f"PUT /api/sessions/{session}/files/{file}/content?offset=0 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Cookie: {'; '.join(f'{name}={value}' for name, value in user.http.cookies.items())}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + content[:20_000])  # and then the connection is lost
    until(lambda: user.state(session)["files"][0]["received"] == 20_000)
    refused = user.send(session, file, 0, content, 409)
    assert (refused["received"], refused["file"]) == (20_000, file)
    again = user.ask("POST", f"sessions/{session}/files", 200, json=announced)
    assert again == {"file": file, "received": 20_000}
    assert user.ask("POST", f"sessions/{session}/listen", 409, json={})["file"] == file
    assert user.send(session, file, 20_000, content[20_000:])["received"] == len(content)
    (told,) = user.listen(session)["files"]
    assert (told["channels"], told["sample_rate"], told["seconds"]) == (1, SAMPLE_RATE, 1.0)


def test_a_zip_is_unpacked_and_what_is_no_audio_passed_over(address: str) -> None:
    user = User(address)
    session = user.session()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(f"My Session/{name}", content)
        archive.writestr("My Session/notes.txt", "no audio")
        archive.writestr("__MACOSX/My Session/._01_Kick.wav", "no audio either")
    user.upload(session, "My Session.zip", packed.getvalue())
    state = user.listen(session)
    assert {file["name"] for file in state["files"]} == set(FILES)
    assert state["problems"] == []
    assert set(user.ask("GET", f"sessions/{session}/waveforms")) == {file["id"] for file in state["files"]}


def test_a_broken_file_is_told_beside_its_name_and_the_others_are_mixed(address: str) -> None:
    user = User(address)
    session, ids = user.sorted_session(FILES | {"06_Broken.wav": FILES["01_Kick.wav"][:5_000]})
    state = user.state(session)
    told = {file["id"]: file["problem"] for file in state["files"] if file["problem"] is not None}
    assert list(told) == [ids["06_Broken.wav"]]
    assert told[ids["06_Broken.wav"]].startswith("06_Broken.wav: truncated")
    assert state["problems"] == []
    row = next(row for row in state["table"]["tracks"] if row["file"] == ids["06_Broken.wav"])
    assert row["use"] is False
    table = user.table(session)
    next(row for row in table["tracks"] if row["file"] == ids["06_Broken.wav"])["use"] = True
    user.ask("PUT", f"sessions/{session}/table", json=table)
    refused = user.ask("POST", f"sessions/{session}/mixes", 409, json={})
    assert refused["file"] == ids["06_Broken.wav"]
    user.ask("DELETE", f"sessions/{session}/files/{ids['06_Broken.wav']}", 204)
    assert user.mix(session)["state"] == "done"


def test_a_persons_decisions_stay_when_files_come_and_go(address: str) -> None:
    user = User(address)
    session, ids = user.sorted_session(FILES)
    table = user.table(session)
    by_file = {row["file"]: row for row in table["tracks"]}
    by_file[ids["04_Audio 7.wav"]]["group"] = "vocals"
    by_file[ids["01_Kick.wav"]]["gain_db"] = 3.5
    by_file[ids["05_LeadVox.wav"]]["by"] = "hand"
    state = user.ask("PUT", f"sessions/{session}/table", json=table)
    decided = {row["file"]: row["by"] for row in state["table"]["tracks"]}
    assert decided[ids["04_Audio 7.wav"]] == "hand"
    assert decided[ids["01_Kick.wav"]] == "word"
    assert decided[ids["05_LeadVox.wav"]] == "hand", "a person says that it is right"
    user.ask("DELETE", f"sessions/{session}/files/{ids['02_OH_L.flac']}", 204)
    user.upload(session, "09_Tambourine.wav", _file(seed=9))
    rows_ = {row["file"]: row for row in user.listen(session)["table"]["tracks"]}
    assert (rows_[ids["04_Audio 7.wav"]]["group"], rows_[ids["04_Audio 7.wav"]]["by"]) == ("vocals", "hand")
    assert rows_[ids["01_Kick.wav"]]["gain_db"] == 3.5
    assert rows_[ids["02_OH_R.flac"]]["pair"] is None
    assert len(rows_) == len(FILES)


def test_a_table_that_comes_with_the_session_sorts_it(address: str) -> None:
    user = User(address)
    session = user.session()
    for name in ("01_Kick.wav", "04_Audio 7.wav", "05_LeadVox.wav"):
        user.upload(session, name, FILES[name])
    table = {"balance": "as_is", "tracks": [
        {"file": "01_Kick.wav", "group": "other"}, {"file": "04_Audio 7.wav", "group": "bass", "gain_db": -2.0},
    ]}  # fmt: skip
    user.upload(session, "tracks.yaml", yaml.safe_dump(table).encode())
    state = user.listen(session)
    names = {file["id"]: file["name"] for file in state["files"]}
    found = {names[row["file"]]: row for row in state["table"]["tracks"]}
    assert state["table"]["balance"] == "as_is"
    assert (found["01_Kick.wav"]["group"], found["04_Audio 7.wav"]["gain_db"]) == ("other", -2.0)
    assert (found["05_LeadVox.wav"]["use"], found["05_LeadVox.wav"]["why"]) == (False, "not in the session's table")
    user.upload(session, "tracks.yaml", yaml.safe_dump({"tracks": [{"file": "no.wav", "group": "bass"}]}).encode())
    state = user.listen(session)
    assert [problem["text"] for problem in state["problems"]] == ["tracks.yaml: no.wav: no such file"]
    assert {names[row["file"]]: row["group"] for row in state["table"]["tracks"]}["01_Kick.wav"] == "other"


def test_a_table_that_does_not_fit_is_told_row_by_row(address: str) -> None:
    user = User(address)
    session, ids = user.sorted_session(FILES)
    before = user.state(session)["table"]
    table = user.table(session)
    left = next(row for row in table["tracks"] if row["file"] == ids["02_OH_L.flac"])
    left["group"] = "other"
    refused = user.ask("PUT", f"sessions/{session}/table", 422, json=table)
    assert [problem["file"] for problem in refused["problems"]][:1] == [ids["02_OH_L.flac"]]
    assert "is of another group" in refused["error"]
    assert user.state(session)["table"] == before


def test_a_mix_can_be_cancelled_while_it_waits_and_while_it_is_made(address: str) -> None:
    user = User(address)
    session, _ = user.sorted_session(FILES)
    for _ in range(3):
        user.ask("POST", f"sessions/{session}/mixes", 202, json={"alternatives": 4})
    mixes = [mix["id"] for mix in user.state(session)["mixes"]]
    user.ask("POST", f"sessions/{session}/mixes/{mixes[1]}/cancel", 202, json={})
    user.ask("POST", f"sessions/{session}/mixes/{mixes[0]}/cancel", 202, json={})
    until(lambda: user.state(session)["mixes"][0]["state"] != "running")
    states = [mix["state"] for mix in user.state(session)["mixes"]]
    assert states[:2] == ["cancelled", "cancelled"]
    user.ask("DELETE", f"sessions/{session}/mixes/{mixes[1]}", 204)
    until(lambda: user.state(session)["mixes"][-1]["state"] == "done")


def test_a_reference_song_shapes_the_mix_and_is_heard(address: str) -> None:
    user = User(address)
    session, _ = user.sorted_session(FILES)
    song = user.upload(session, "A Record.flac", _file(4.0, seed=20, suffix=".flac"), reference=True)
    mix = user.mix(session, reference=song)
    assert mix["state"] == "done", mix["problem"]
    assert [source["label"] for source in mix["sources"]][-1] == "A Record.flac"
    plain = user.mix(session)
    first = user.piece(session, mix["id"], "mix", 0, 2**20)
    assert not np.allclose(first, user.piece(session, plain["id"], "mix", 0, 2**20), atol=1e-3)
    assert user.ask("POST", f"sessions/{session}/mixes", 404, json={"reference": "f999"})["error"].startswith("no such")


def test_a_change_of_the_table_makes_a_mix_outdated(address: str) -> None:
    user = User(address)
    session, _ = user.sorted_session(FILES)
    assert not user.mix(session)["outdated"]
    table = user.table(session)
    table["tracks"][0]["gain_db"] = 1.0
    user.ask("PUT", f"sessions/{session}/table", json=table)
    assert user.state(session)["mixes"][0]["outdated"]


def test_events_tell_of_every_change_until_the_session_is_gone(address: str) -> None:
    user = User(address)
    session = user.session("Before")
    with user.http.get(f"{address}/api/sessions/{session}/events", stream=True, timeout=60) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        lines = answer.iter_lines(decode_unicode=True)
        assert _event(lines) == ("state", "Before")
        user.ask("PATCH", f"sessions/{session}", json={"name": "After"})
        assert _event(lines) == ("state", "After")
        user.ask("DELETE", f"sessions/{session}", 204)
        assert _event(lines) == ("gone", "")


def _event(lines: Iterator[str]) -> tuple[str, str]:
    kind = next(line for line in lines if line.startswith("event: ")).removeprefix("event: ")
    return kind, json.loads(next(lines).removeprefix("data: ")).get("name", "")


def test_a_server_that_is_started_again_has_the_sessions(engine: Engine, tmp_path: Path) -> None:
    with served(engine, tmp_path / "kept") as first:
        user = User(first)
        session, _ = user.sorted_session({name: FILES[name] for name in ("01_Kick.wav", "05_LeadVox.wav")})
        mix = user.mix(session)
        before = user.state(session)
        heard = user.piece(session, mix["id"], "mix", 0, 2**20)
        token = next(value for name, value in user.http.cookies.items())
    (state,) = (tmp_path / "kept").glob("*/session.json")
    assert token not in state.read_text()
    with served(engine, tmp_path / "kept") as second:
        again = User(second)
        again.http.cookies.clear()
        again.http.cookies.set(f"fxnorm_page_{second.rpartition(':')[2]}", token)
        after = again.state(session)
        assert np.array_equal(again.piece(session, mix["id"], "mix", 0, 2**20), heard)
    changing = ("revision", "expires")
    assert {key: value for key, value in after.items() if key not in changing} == {
        key: value for key, value in before.items() if key not in changing
    }


def test_a_session_that_nobody_uses_is_removed_with_its_files(engine: Engine, tmp_path: Path) -> None:
    store = Store(tmp_path, engine, Limits(keep_hours=1.0))
    owner = owner_of(new_token())
    old, new = store.add(owner, "Old"), store.add(owner, "New")
    old._stored.used = datetime.now(UTC) - timedelta(hours=2)
    assert store.remove_expired() == 1
    assert [session.name for session in store.of(owner)] == ["New"]
    assert [path.name for path in tmp_path.iterdir()] == [new.id]
    with pytest.raises(Refused, match="this session is gone"):
        store.get(owner, old.id)
    store.close()


def test_sessions_files_and_bytes_are_bounded(engine: Engine, tmp_path: Path) -> None:
    limits = Limits(files=2, file_bytes=1_000, session_bytes=1_500, sessions=1, all_sessions=2)
    with served(engine, tmp_path, limits) as address:
        user, other, third = User(address), User(address), User(address)
        session = user.session()
        user.ask("POST", "sessions", 409, json={"name": "One more"})
        other.session()
        third.ask("POST", "sessions", 503, json={"name": "One more"})
        files = f"sessions/{session}/files"
        user.ask("POST", files, 413, json={"name": "a.wav", "bytes": 1_001})
        user.ask("POST", files, 413, json={"name": "a.wav", "bytes": 0})
        user.ask("POST", files, 201, json={"name": "a.wav", "bytes": 1_000})
        user.ask("POST", files, 413, json={"name": "b.wav", "bytes": 501})
        file = user.ask("POST", files, 201, json={"name": "b.wav", "bytes": 500})["file"]
        user.ask("POST", files, 413, json={"name": "c.wav", "bytes": 1})
        refused = user.send(session, file, 0, bytes(501), 413)
        assert refused["error"] == "b.wav: more than the 500 bytes that were announced"
        assert user.state(session)["files"][1]["received"] <= 500


def test_a_song_that_is_too_long_is_a_problem_of_its_file(engine: Engine, tmp_path: Path) -> None:
    with served(engine, tmp_path, Limits(seconds=1.1)) as address:
        user = User(address)
        session, ids = user.sorted_session({name: FILES[name] for name in ("01_Kick.wav", "05_LeadVox.wav")})
        told = {file["id"]: file["problem"] for file in user.state(session)["files"] if file["problem"] is not None}
        assert told == {ids["05_LeadVox.wav"]: "05_LeadVox.wav: 1 s, expected at most 1.1 s"}


def test_two_files_for_one_side_of_a_pair_are_left_to_a_person(address: str) -> None:
    user = User(address)
    names = ("OH L.wav", "OH_L.wav", "OH R.wav")
    session, _ = user.sorted_session({name: _file(seed=number, channels=1) for number, name in enumerate(names)})
    (problem,) = user.state(session)["problems"]
    assert "more files for one side of a stereo pair" in problem["text"]
    assert user.ask("PUT", f"sessions/{session}/table", json=user.table(session))["problems"] == []


def test_a_full_disk_is_told_and_loses_nothing(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    user = User(address)
    session = user.session()
    content = FILES["01_Kick.wav"]
    announced = {"name": "01_Kick.wav", "bytes": len(content)}
    file = user.ask("POST", f"sessions/{session}/files", 201, json=announced)["file"]
    user.send(session, file, 0, content[:10_000])
    with monkeypatch.context() as full:

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        full.setattr(Receiver, "write", refuse)
        refused = user.send(session, file, 10_000, content[10_000:], 507)
        assert refused["error"] == "the server cannot store this (No space left on device)"
    assert user.send(session, file, 10_000, content[10_000:])["received"] == len(content)


_NOBODY = {"Cookie": ""}
_DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("method", "path", "status", "options"),
    [
        ("GET", "/", 421, {"headers": {"Host": "evil.example"}}),
        ("GET", "/", 421, {"headers": {"Host": "127.0.0.1"}}),
        ("GET", "/", 421, {"headers": {"Host": "127.0.0.1.evil.example"}}),
        ("GET", "/api/sessions", 403, {"headers": {"Origin": "https://evil.example"}}),
        ("GET", "/api/sessions", 403, {"headers": {"Origin": "null"}}),
        ("POST", "/api/sessions", 403, {"json": {"name": "x"}, "headers": {"Origin": "http://127.0.0.1:1"}}),
        ("POST", "/api/sessions", 403, {"json": {"name": "x"}, "headers": {"Sec-Fetch-Site": "cross-site"}}),
        ("POST", "/api/sessions", 403, {"json": {"name": "x"}, "headers": {"Sec-Fetch-Site": "same-site"}}),
        ("GET", "/api/sessions", 401, {"headers": _NOBODY}),
        ("GET", "/api/sessions", 401, {"headers": {"Cookie": "{cookie}=short"}}),
        ("GET", "/api/sessions", 401, {"headers": {"Cookie": "{cookie}=" + "../" * 14 + "x"}}),
        ("GET", "/api/page", 431, {"headers": {f"X-{number}": "y" for number in range(120)}}),
        ("POST", "/api/sessions", 415, {"data": b'{"name": "x"}'}),
        ("POST", "/api/sessions", 415, {"data": b"name=x", "headers": {"Content-Type": "text/plain"}}),
        ("POST", "/api/sessions", 415, {"json": {"name": "x"}, "headers": {"Content-Encoding": "gzip"}}),
        ("POST", "/api/sessions", 422, {"json": {"name": ""}}),
        ("POST", "/api/sessions", 422, {"json": {"name": "x" * 201}}),
        ("POST", "/api/sessions", 422, {"json": {"name": "a\u202eb"}}),
        ("POST", "/api/sessions", 422, {"json": {"name": 3}}),
        ("POST", "/api/sessions", 422, {"json": {}}),
        ("POST", "/api/sessions", 422, {"json": {"name": "x", "folder": "/etc"}}),
        ("POST", "/api/sessions", 422, {"json": []}),
        ("POST", "/api/sessions", 422, {"data": b"{", "headers": JSON}),
        ("POST", "/api/sessions", 422, {"data": b"\xff\xfe", "headers": JSON}),
        ("POST", "/api/sessions", 422, {"data": _DEEP, "headers": JSON}),
        (
            "POST",
            "/api/sessions",
            413,
            {"data": bytes(JSON_BYTES + 1), "headers": JSON},
        ),
        ("PUT", "/api/sessions", 405, {"json": {}}),
        ("OPTIONS", "/api/sessions", 405, {"headers": {"Access-Control-Request-Method": "POST"}}),
        ("TRACE", "/api/sessions", 405, {}),
        ("GET", "/api/else", 404, {}),
        ("GET", "/etc/passwd", 404, {}),
        ("GET", "/built/../app.py", 404, {}),
        ("GET", "/built/..%2f..%2fapp.py", 404, {}),
        ("GET", "/built/%2e%2e%5capp.py", 404, {}),
        ("GET", "/built/index.html", 404, {}),
        ("GET", "/api/sessions/../sessions.json", 404, {}),
        ("GET", "/api/sessions/..%2f..%2fetc", 404, {}),
        ("GET", "/api/sessions/{session}/../../x", 404, {}),
        ("DELETE", "/api/sessions/..", 404, {}),
        ("DELETE", "/api/sessions/%2e%2e", 404, {}),
        ("POST", "{files}", 422, {"json": {"name": "../../etc/passwd.wav", "bytes": 10}}),
        ("POST", "{files}", 422, {"json": {"name": "a/../../b.wav", "bytes": 10}}),
        ("POST", "{files}", 422, {"json": {"name": "..\\..\\b.wav", "bytes": 10}}),
        ("POST", "{files}", 422, {"json": {"name": "C:\\b.wav", "bytes": 10}}),
        ("POST", "{files}", 422, {"json": {"name": "a\u0000b.wav", "bytes": 10}}),
        ("POST", "{files}", 422, {"json": {"name": "a\nb.wav", "bytes": 10}}),
        ("POST", "{files}", 422, {"json": {"name": "/", "bytes": 10}}),
        ("POST", "{files}", 422, {"json": {"name": "x" * 1_100 + ".wav", "bytes": 10}}),
        ("POST", "{files}", 415, {"json": {"name": "script.html", "bytes": 10}}),
        ("POST", "{files}", 415, {"json": {"name": ".htaccess", "bytes": 10}}),
        ("POST", "{files}", 415, {"json": {"name": "._Kick.wav", "bytes": 10}}),
        ("POST", "{files}", 413, {"json": {"name": "a.wav", "bytes": -1}}),
        ("POST", "{files}", 413, {"json": {"name": "a.wav", "bytes": 2**50}}),
        ("POST", "{files}", 422, {"json": {"name": "a.wav", "bytes": 2**70}}),
        ("POST", "{files}", 422, {"json": {"name": "a.wav", "bytes": 1.5}}),
        ("POST", "{files}", 422, {"json": {"name": "a.wav", "bytes": "10"}}),
        ("PUT", "{file}/content", 422, {"data": b"x", "headers": BINARY}),
        ("PUT", "{file}/content?offset=-1", 422, {"data": b"x", "headers": BINARY}),
        ("PUT", "{file}/content?offset=1e3", 422, {"data": b"x", "headers": BINARY}),
        ("PUT", "{file}/content?offset=0&offset=1", 422, {"data": b"x", "headers": BINARY}),
        ("PUT", "{file}/content?offset=99", 409, {"data": b"x", "headers": BINARY}),
        ("PUT", "{file}/content?offset=0", 415, {"data": b"x"}),
        ("PUT", "{file}/content?offset=0", 413, {"data": bytes(CHUNK_BYTES + 1), "headers": BINARY}),
        ("PUT", "{files}/f99/content?offset=0", 404, {"data": b"x", "headers": BINARY}),
        ("PUT", "{files}/..%2f/content?offset=0", 404, {"data": b"x", "headers": BINARY}),
        ("DELETE", "{files}/f99", 404, {}),
        ("DELETE", "{files}/session.json", 404, {}),
        ("POST", "/api/sessions/{session}/listen", 409, {"json": {}}),
        ("PUT", "/api/sessions/{session}/table", 409, {"json": {"tracks": []}}),
        ("POST", "/api/sessions/{session}/mixes", 409, {"json": {}}),
        ("POST", "{mixed}/exports", 422, {"json": {"what": "passwords"}}),
        ("POST", "{mixed}/exports", 422, {"json": {"what": "mix", "format": "exe"}}),
        ("POST", "{mixed}/exports", 422, {"json": {"what": "mix", "gains_db": {"vocals": 1e9}}}),
        ("POST", "{mixed}/exports", 422, {"json": {"what": "mix", "gains_db": {"../x": 1.0}}}),
        ("POST", "{mixed}/exports", 422, {"json": {"what": "mix", "sample_rate": 1}}),
        ("POST", "{mixed}/exports", 422, {"json": {"what": "mix", "format": "mp3", "bits": "24"}}),
        ("POST", "{mixed}/exports", 422, {"json": {"what": "mix", "muted": ["vocals", "bass", "drums", "other"]}}),
        ("POST", "{mixed}/exports", 404, {"json": {"what": "mix", "source": "../../session"}}),
        ("POST", "{mixed}/exports", 404, {"json": {"what": "mix", "source": "sum"}}),
        ("GET", "{mixed}/exports/..%2f..%2f..%2fsession.json", 404, {}),
        ("GET", "{mixed}/exports/mix.wav", 404, {}),
        ("GET", "{mixed}/audio/..%2freport.json?start=0&count=10", 404, {}),
        ("GET", "{mixed}/audio/report?start=0&count=10", 404, {}),
        ("GET", "{mixed}/audio/mix?start=0&count=99999999", 422, {}),
        ("GET", "{mixed}/audio/mix?start=-5&count=10", 422, {}),
        ("GET", "{mixed}/audio/mix?start=²&count=10", 422, {}),
        ("GET", "{mixed}/audio/mix", 422, {}),
        ("POST", "{mixes}", 422, {"json": {"target_loudness": 20.0}}),
        ("POST", "{mixes}", 422, {"json": {"sample_rate": 10**9}}),
        ("POST", "{mixes}", 422, {"json": {"alternatives": 10**6}}),
        ("POST", "{mixes}", 422, {"json": {"seed": -1}}),
        ("POST", "{mixes}", 422, {"json": {"keep": "everything"}}),
        (
            "POST",
            "{mixes}",
            422,
            {"data": b'{"target_loudness": NaN}', "headers": JSON},
        ),
        ("POST", "{mixes}/m99/cancel", 404, {"json": {}}),
        ("DELETE", "{mixes}/m99", 404, {}),
        ("DELETE", "{mixes}/..", 404, {}),
    ],
)
def test_what_nobody_means_well_is_refused(
    method: str, path: str, status: int, options: dict[str, Any], hostile_user: tuple[User, dict[str, str]]
) -> None:
    user, places = hostile_user
    target = path.format(**places)
    headers = {name: value.format(**places) for name, value in options.get("headers", {}).items()}
    prepared = user.http.prepare_request(requests.Request(method, user.address, **{**options, "headers": headers}))
    prepared.url = user.address + target  # as it stands: requests would tidy it up
    answer = user.http.send(prepared, timeout=60)
    assert answer.status_code == status, answer.text[:300]
    if method != "TRACE":
        assert "\n" not in answer.json()["error"]
    user.ask("GET", "sessions")


@pytest.fixture(scope="module")
def hostile_user(address: str, made: tuple[User, str, dict[str, Any]]) -> tuple[User, dict[str, str]]:
    user, done, mix = made
    session = user.session("Hostile")
    file = user.ask("POST", f"sessions/{session}/files", 201, json={"name": "x.wav", "bytes": 8 * 2**20})["file"]
    return user, {
        "session": session,
        "files": f"/api/sessions/{session}/files",
        "file": f"/api/sessions/{session}/files/{file}",
        "mixes": f"/api/sessions/{done}/mixes",
        "mixed": f"/api/sessions/{done}/mixes/{mix['id']}",
        "cookie": next(iter(user.http.cookies.keys())),
    }


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"../../x.wav": b"x"}, "leaves the folder"),
        ({"/etc/x.wav\x01": b"x"}, "printable"),
        ({"a.wav": bytes(200_000_000)}, "bytes when unpacked"),
        ({f"{number}.wav": b"x" for number in range(300)}, "files, expected at most 200"),
        ({f"{number}.wav": b"" for number in range(9_000)}, "too many members"),
        (b"PK\x03\x04 no archive", "not readable as a zip archive"),
        (b"", "not readable as a zip archive"),
    ],
    ids=["leaving", "control", "bomb", "files", "members", "damaged", "none"],
)
def test_an_archive_that_nobody_means_well_leaves_nothing(
    entries: dict[str, bytes] | bytes, said: str, engine: Engine, tmp_path: Path
) -> None:
    if isinstance(entries, bytes):
        content = entries or b"x" * 100
    else:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        content = packed.getvalue()
    with served(engine, tmp_path, Limits(session_bytes=100_000_000)) as address:
        user = User(address)
        session = user.session()
        file = user.ask("POST", f"sessions/{session}/files", 201, json={"name": "a.zip", "bytes": len(content)})["file"]
        assert said in user.send(session, file, 0, content, 422)["error"]
        assert user.state(session)["files"] == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted([session, "files", "mixes", "session.json"])


def test_the_command_serves_until_a_signal_and_leaves_nothing(mixer_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fxnorm", "page", "--mixer", str(mixer_folder), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None
        address, _, rest = run.stdout.readline().partition(": ")
        assert rest == "the page; Ctrl-C ends it\n"
        user = User(address.rstrip("/"))
        session = user.session()
        assert list(tmp_path.glob(f"*/{session}"))
        taken = fxnorm("page", "--mixer", mixer_folder, "--port", address.rstrip("/").rpartition(":")[2])
        assert "cannot listen there (Address already in use" in the_line(taken)
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=60)
    assert (run.returncode, errors) == (130, "fxnorm: stopped by SIGINT\n")
    assert list(tmp_path.iterdir()) == []


def test_a_page_for_others_has_a_name(mixer_folder: Path) -> None:
    result = fxnorm("page", "--host", "0.0.0.0")
    assert result.exit_code == 2
    assert "--host 0.0.0.0: expected --allow-host with the name that the page is opened by as well" in result.output
    assert "found both" in fxnorm("page", "--mixer", mixer_folder, "--endpoint", "http://127.0.0.1:5001").output
    assert "expected a Mixer directory" in the_line(fxnorm("page", "--mixer", mixer_folder / "none"))


def test_names_are_labels() -> None:
    assert labels.label("/Drums//./Kick.wav") == "Drums/Kick.wav"
    assert labels.label("Drums\\Kick.wav") == "Drums/Kick.wav"
    assert labels.download_name('a/b\\c:"<>|?*', ".wav") == "a_b_c_______.wav"
    assert labels.download_name("...", ".wav") == "mix.wav"
    assert is_foreign_path("__MACOSX/x.wav") and is_foreign_path("a/.x/b.wav") and not is_foreign_path("a/b.wav")


def test_names_of_the_server_are_known_with_and_without_port() -> None:
    assert "localhost:5005" in hosts_of("127.0.0.1", 5005, [])
    assert "localhost" not in hosts_of("127.0.0.1", 5005, [])
    assert "localhost" in hosts_of("127.0.0.1", 80, [])
    known = hosts_of("0.0.0.0", 5005, ["Mixes.example.org", "other:8080"])
    assert {"mixes.example.org", "mixes.example.org:5005", "other:8080"} <= known
    assert "other" not in known and "0.0.0.0:5005" not in known
    with pytest.raises(SettingsError, match=r"--allow-host \*: expected a name"):
        hosts_of("0.0.0.0", 5005, ["*"])
    assert is_loopback("127.0.0.2") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("example.org")


def test_of_a_page_that_others_reach_only_tried_decoders_read_files(engine: Engine, tmp_path: Path) -> None:
    ogg = io.BytesIO()
    soundfile.write(ogg, noise(0.5).T, SAMPLE_RATE, format="OGG")
    files = {"01_Kick.wav": FILES["01_Kick.wav"], "02_Bass.wav": ogg.getvalue()}
    for limits, said in (
        (Limits(), None),
        (Limits.of_strangers(1.0), "02_Bass.wav: not readable as WAV, FLAC or MP3 (it is OGG)"),
    ):
        with served(engine, tmp_path / str(said is None), limits) as address:
            user = User(address)
            session, ids = user.sorted_session(files)
            problems = {file["id"]: file["problem"] for file in user.state(session)["files"]}
            assert (problems[ids["01_Kick.wav"]], problems[ids["02_Bass.wav"]]) == (None, said)
            suffixes = set(user.ask("GET", "page")["suffixes"])
            assert (suffixes == {".wav", ".flac", ".mp3"}) == (said is not None)


def test_the_endpoints_hostile_requests_are_refused_too(hostile_user: tuple[User, dict[str, str]]) -> None:
    user, places = hostile_user
    large = ("100 MB", "128 tracks", "more than", "a FLAC of 599", "a FLAC of 700", "a track of 700", "a zip", "a gzip")
    paths = ("/api/sessions", places["files"], places["mixes"], f"{places['mixed']}/exports")
    for number, (name, build) in enumerate(HOSTILE.items()):
        if name.startswith(large):
            continue  # what announces more than a megabyte is refused before it is sent
        request, path = build(), paths[number % len(paths)]
        answer = user.http.post(user.address + path, data=request.body, headers=request.headers, timeout=60)
        assert 400 <= answer.status_code < 500, (name, path, answer.status_code)
    user.ask("GET", "sessions")


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(address: str) -> None:
    user = User(address)
    host = address.removeprefix("http://")
    cookie = "; ".join(f"{name}={value}" for name, value in user.http.cookies.items())
    with socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2]))) as connection:
        head = f"POST /api/sessions HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\n"
        connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100000000\r\n\r\n".encode())
        assert connection.recv(1_000).startswith(b"HTTP/1.1 413 ")


def test_hostile_files_are_told_beside_their_names_and_the_others_are_mixed(engine: Engine, tmp_path: Path) -> None:
    contents = {"a FLAC of 1300 s.wav": audio.encode(np.zeros((1, 8_000 * 1_300), np.float32), 8_000, ".flac")}
    for name, build in HOSTILE.items():
        if name.startswith(("a WAV", "an RF64", "a FLAC that", "a FLAC of unknown", "an MP3")):
            row = json.loads(build().body)["dataframe_records"][0]
            contents[f"{name}.wav"] = base64.b64decode(row["vocals"])
    assert len(contents) >= 13
    with served(engine, tmp_path, Limits.of_strangers(1.0)) as address:
        user = User(address)
        session, ids = user.sorted_session({"01_Kick.wav": FILES["01_Kick.wav"], **contents})
        table = {row["file"]: row["use"] for row in user.state(session)["table"]["tracks"]}
        assert [file for file, use in table.items() if use] == [ids["01_Kick.wav"]]
        assert user.mix(session)["state"] == "done"


def test_a_token_is_long_and_random_and_cannot_be_told_from_what_is_kept() -> None:
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100 and all(map(is_token, tokens))
    assert not is_token("x" * 42) and not is_token("x" * 42 + "é") and not is_token("x" * 42 + "/")
    assert not any(token in owner_of(token) for token in tokens)


def test_a_queue_does_jobs_in_order_and_outlives_one_that_fails() -> None:
    queue, done, hold = Queue("test", 3), list[int](), threading.Event()

    def work(number: int) -> Any:
        def run(job: Job) -> None:
            if number == 0:
                hold.wait()
            if number == 1:
                raise Refused(404, "gone")
            done.append(number)

        return run

    jobs = [Job(work(number), lambda: None) for number in range(4)]
    queue.add(jobs[0])
    until(lambda: jobs[0].is_running)
    for job in jobs[1:]:
        queue.add(job)
    assert [job.position for job in jobs] == [0, 1, 2, 3]
    with pytest.raises(Refused, match="3 wait already"):
        queue.add(Job(work(4), lambda: None))
    hold.set()
    assert jobs[3].wait(60.0)
    assert done == [0, 2, 3]
    queue.close()


def test_rows_without_a_file_lose_its_pair() -> None:
    table = tables.parse({"tracks": [
        {"file": "OH_L.wav", "group": "drums", "pair": "OH_R.wav"}, {"file": "OH_R.wav", "group": "drums"},
    ]}, "table")  # fmt: skip
    left = rows.without(table, "OH_R.wav")
    assert left is not None
    assert [(track.file, track.pair) for track in left.tracks] == [("OH_L.wav", None)]
    assert rows.without(left, "OH_L.wav") is None

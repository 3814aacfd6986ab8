"""The endpoint that users run, as a process of its own: what it mixes, and what it refuses."""

import base64
import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
import yaml

from fxnorm import Mixer, measure_stem
from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.data.recordings import Take
from fxnorm.effects import loudness
from fxnorm.errors import FxnormError
from fxnorm.io import audio
from fxnorm.mixing import limiter
from fxnorm.mixing.client import request_mix
from fxnorm.mixing.mixer import WEIGHTS_FILE
from fxnorm.mixing.options import MixOptions
from fxnorm.monitoring.records import RequestLog
from fxnorm.monitoring.tally import Tally
from fxnorm.registry import served_model
from fxnorm.serving.shadow import TAG
from fxnorm.sessions.recordings import Recording
from fxnorm.sessions.stems import sum_groups
from fxnorm.sessions.table import Table, Track
from tests import kernels, servers, stores
from tests.conftest import noise
from tests.hostile import HOSTILE, Request
from tests.metrics import dashboard_queries, families, value_of
from tests.mixers import changed
from tests.test_request_limiter import CONTENT_TYPES
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.system

SONG = {stem: noise(1.0, 0.2, seed=number) for number, stem in enumerate(STEMS)}
MEMORY_MB = 1_100.0
"""What a hostile request may cost: 100 MB of body, copied in the limiter, Starlette, MLflow and pandas."""
TOKEN = "a-long-and-random-text"
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}
"""Which a server that asks for none takes as well."""
NAME = "served"
MONITORING = Path(__file__).parents[1] / "deploy/monitoring"
TOTAL_MB = 2_200.0
"""What the server may hold after any number of them: with its libraries and the model it starts at 800 MB."""


def encoded(samples: np.ndarray, suffix: str = ".wav") -> str:
    return base64.b64encode(audio.encode(samples, SAMPLE_RATE, suffix)).decode()


def post(endpoint: str, rows: list[dict[str, Any]], **params: Any) -> requests.Response:
    content = {"dataframe_records": rows, "params": params}
    return requests.post(f"{endpoint}/invocations", json=content, headers=AUTHORIZATION, timeout=PATIENCE)


def mixed(answer: requests.Response, number: int = 0) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    content = base64.b64decode(answer.json()["predictions"][number]["mix"])
    return audio.decode(content, "mix")[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 store with a stem inside the prefix that the endpoint reads, and one outside."""
    with servers.s3(tmp_path_factory.mktemp("store") / "s3.log", "fxnorm") as environment:
        client = servers.s3_client(environment)
        bass = audio.encode(SONG["bass"], SAMPLE_RATE, ".wav")
        for key, content in (("stems/bass.wav", bass), ("secret/bass.wav", bass), ("stems/words.wav", b"words")):
            client.put_object(Bucket="fxnorm", Key=key, Body=content)
        yield environment


@pytest.fixture(scope="module")
def mixer_folder(mixer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Mixer, whose training songs differ, so that drift has a unit."""
    mixer = Mixer.load(mixer_folder)
    for number, stem in enumerate(STEMS):
        mixer.recipe.statistics.add(stem, measure_stem(noise(4.0, 0.1, seed=10 + number), SAMPLE_RATE, stem))
    folder = tmp_path_factory.mktemp("mixer") / "mixer"
    mixer.save(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, mixer_folder: Path) -> str:
    """A model as the registry keeps it."""
    folder = tmp_path_factory.mktemp("model") / "model"
    mlflow.pyfunc.save_model(str(folder), **served_model.contents(mixer_folder))
    kernels.bring(folder)
    return str(folder)


@dataclass(frozen=True)
class Registry:
    """A registry with the model as version 1, ``@champion``, and another one, with other weights, ``@challenger``.

    Attributes:
        uri: its address.
        model: the folder of version 1.
        mixer: the other version's.
    """

    uri: str
    model: Path
    mixer: Path

    @property
    def client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(self.uri, self.uri)

    def add(self, model: Path, alias: str) -> str:
        """Register a model's folder; gives the version's number."""
        with contextlib.suppress(mlflow.exceptions.MlflowException):  # it is there
            self.client.create_registered_model(NAME)
        version = str(self.client.create_model_version(NAME, model.as_uri()).version)
        self.client.set_registered_model_alias(NAME, alias, version)
        return version


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory, model: str, mixer_folder: Path) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    stores.new_database(folder / "mlflow.db")
    mixer = changed(mixer_folder, folder / "mixer", seed=1)
    other = folder / "other"
    shutil.copytree(model, other)
    shutil.copy(mixer / WEIGHTS_FILE, other / "artifacts/mixer" / WEIGHTS_FILE)
    found = Registry(f"sqlite:///{folder / 'mlflow.db'}", Path(model), mixer)
    found.add(Path(model), "champion")
    found.add(other, "challenger")
    return found


def environment(**variables: str) -> dict[str, str]:
    hidden = ("MLFLOW_", "FXNORM_", "AWS_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return own | {"OMP_NUM_THREADS": "1"} | variables


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The endpoint's request log."""
    return tmp_path_factory.mktemp("log") / "requests.jsonl"


@pytest.fixture(scope="module")
def endpoint(
    tmp_path_factory: pytest.TempPathFactory, registry: Registry, store: dict[str, str], log: Path
) -> Iterator[str]:
    limits = {"FXNORM_MAX_REQUEST_MB": "120", "FXNORM_MAX_TRACK_SECONDS": "2000"}
    watching = {
        "FXNORM_MODEL": f"models:/{NAME}@champion", "FXNORM_RELOAD": "1", "FXNORM_REQUEST_LOG": str(log),
        "FXNORM_SHADOW": f"models:/{NAME}@challenger", "FXNORM_SHADOW_SHARE": "1",
    }  # fmt: skip
    variables = environment(
        **store, **limits, **watching, FXNORM_S3_PREFIXES="s3://fxnorm/stems", MLFLOW_TRACKING_URI=registry.uri
    )
    with servers.scoring(f"models:/{NAME}@champion", tmp_path_factory.mktemp("endpoint"), variables) as address:
        post(address, [{"bass": encoded(SONG["bass"])}]).raise_for_status()
        yield address


@pytest.fixture(scope="module")
def expected(mixer_folder: Path) -> np.ndarray:
    """What the Mixer itself makes of the song."""
    return Mixer.load(mixer_folder).mix(SONG, SAMPLE_RATE)


def test_the_mix_is_the_mixers_to_the_last_bit(endpoint: str, expected: np.ndarray) -> None:
    answer = post(endpoint, [{stem: encoded(samples) for stem, samples in SONG.items()}], output_format="wav")
    assert np.array_equal(mixed(answer), expected)


def test_every_format_holds_the_same_mix(endpoint: str, expected: np.ndarray) -> None:
    row = {stem: encoded(samples) for stem, samples in SONG.items()}
    assert np.abs(mixed(post(endpoint, [row])) - expected).max() < 2.0**-22, "FLAC of 24 bits by default"
    compressed = mixed(post(endpoint, [row], output_format="mp3"))
    levels = [loudness.measure(mix, SAMPLE_RATE) for mix in (compressed, expected)]
    assert levels[0] == pytest.approx(levels[1], abs=1.0), "MP3 keeps no samples of noise, but its level"


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_json_is_taken_under_each_of_its_names(endpoint: str, content_type: str) -> None:
    body = json.dumps({"dataframe_records": [{"bass": encoded(SONG["bass"])}]})
    mixed(requests.post(f"{endpoint}/invocations", data=body, headers={"Content-Type": content_type}, timeout=PATIENCE))


def test_each_row_is_a_song_in_either_of_pandas_orientations(endpoint: str) -> None:
    rows = [{"bass": encoded(SONG["bass"]), "drums": ""}, {"bass": "", "drums": encoded(SONG["drums"])}]
    split = {"columns": ["bass", "drums"], "data": [list(row.values()) for row in rows]}
    by_records = post(endpoint, rows)
    by_split = requests.post(f"{endpoint}/invocations", json={"dataframe_split": split}, timeout=PATIENCE)
    for number in range(2):
        assert np.array_equal(mixed(by_records, number), mixed(by_split, number))
        assert np.array_equal(mixed(by_records, number), mixed(post(endpoint, [rows[number]])))


def test_the_example_that_travels_with_the_model_is_a_good_request(endpoint: str, model: str) -> None:
    content = (Path(model) / "serving_input_example.json").read_bytes()
    answer = requests.post(
        f"{endpoint}/invocations", data=content, headers={"Content-Type": "application/json"}, timeout=PATIENCE
    )
    assert mixed(answer).shape == (2, 2 * SAMPLE_RATE)


def test_the_report_says_how_loud_stems_and_mix_are_and_how_far_from_the_training_songs(endpoint: str) -> None:
    quiet = 0.1 * SONG["bass"]
    answer = post(endpoint, [{"bass": encoded(quiet), "vocals": encoded(np.zeros((2, 4_410)))}], output_format="wav")
    (report,) = answer.json()["predictions"]
    assert report["stem_loudness_lufs"] == {"vocals": None, "bass": loudness.measure(quiet, SAMPLE_RATE)}
    assert report["loudness_lufs"] == pytest.approx(loudness.measure(mixed(answer), SAMPLE_RATE), abs=1e-6)
    assert set(report["drift"]) == {"equalization", "compression", "panning", "loudness"}
    assert report["seconds"] > 0
    assert isinstance(report["warnings"], list)


def test_the_answer_is_json_though_a_mix_among_others_has_no_loudness(endpoint: str) -> None:
    click = np.zeros((2, 1), np.float32)
    click[:] = 0.01
    answer = post(endpoint, [{"bass": encoded(click)}, {"bass": encoded(SONG["bass"])}])
    assert answer.status_code == 200, answer.text

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    reports = json.loads(answer.content, parse_constant=refuse)["predictions"]
    assert [report["loudness_lufs"] is None for report in reports] == [True, False]


def test_the_mix_comes_at_the_loudness_that_was_asked_for_but_never_clips(endpoint: str) -> None:
    row = {"bass": encoded(SONG["bass"])}
    quiet = mixed(post(endpoint, [row], target_loudness=-30.0, output_format="wav"))
    assert loudness.measure(quiet, SAMPLE_RATE) == pytest.approx(-30.0, abs=0.02)
    answer = post(endpoint, [row], target_loudness=0.0, true_peak=-2.0, output_format="wav", bits="16")
    (report,) = answer.json()["predictions"]
    assert limiter.true_peak(mixed(answer)) <= -2.0
    assert 0 < report["reduction_db"] <= limiter.MOST_REDUCTION_DB
    assert "LU under the target of 0.0" in report["warnings"][-1]


def test_the_seed_draws_the_rooms_of_dry_stems(endpoint: str) -> None:
    row = {"vocals": encoded(SONG["vocals"])}
    first, again, other = (mixed(post(endpoint, [row], dry=True, seed=seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_stems_come_from_the_object_store_below_the_prefix(endpoint: str) -> None:
    by_uri = post(endpoint, [{"bass_uri": "s3://fxnorm/stems/bass.wav", "drums": encoded(SONG["drums"])}])
    by_file = post(endpoint, [{"bass": encoded(SONG["bass"]), "drums": encoded(SONG["drums"])}])
    assert np.array_equal(mixed(by_uri), mixed(by_file))


def test_the_commands_send_options_and_show_what_comes_back(endpoint: str, tmp_path: Path, mixer_folder: Path) -> None:
    audio.write(tmp_path / "bass.wav", SONG["bass"])
    options = ["--bass", "bass.wav", "--seed", "3", "--target-loudness", "-20", "--report", "report.json"]
    outputs, reports = {}, {}
    for name, command in {
        "here": ["-m", "fxnorm", "mix", str(mixer_folder)],
        "there": ["-m", "fxnorm", "mix", "--endpoint", endpoint],
    }.items():
        done = subprocess.run(
            [sys.executable, *command, *options, "--output", f"{name}.wav"],
            cwd=tmp_path,
            env=environment(PYTHONPATH=str(Path(__file__).parents[1])),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        outputs[name] = done.stdout
        reports[name] = json.loads((tmp_path / "report.json").read_text())
    here, there = (audio.read(tmp_path / f"{name}.wav")[0] for name in outputs)
    assert np.array_equal(here, there)
    assert "there.wav: -20.0 LUFS, mixed in" in outputs["there"]
    assert reports["there"]["loudness_lufs"] == pytest.approx(-20.0, abs=1e-3)
    told = ("stem_loudness_lufs", "drift", "warnings")
    assert {key: reports["here"][key] for key in told} == {key: reports["there"][key] for key in told}


def test_the_tracks_of_a_session_are_sorted_summed_and_mixed_as_the_library_does_it(
    endpoint: str, mixer_folder: Path
) -> None:
    files = {
        "01_Kick.wav": encoded(noise(1.0, 0.2, seed=1, channels=1)),
        "02_OH_L.flac": encoded(noise(1.0, 0.2, seed=2, channels=1), ".flac"),
        "03_OH_R.flac": encoded(noise(1.0, 0.2, seed=3, channels=1), ".flac"),
        "04_Bass.wav": "s3://fxnorm/stems/bass.wav",
        "05_Click.wav": encoded(noise(1.0, 0.2, seed=4, channels=1)),
        "06_Track.wav": encoded(noise(1.0, 0.2, seed=5)),
    }
    answer = post(endpoint, [{"tracks": files}], output_format="wav")
    (report,) = answer.json()["predictions"]
    assert {name: found["group"] for name, found in report["groups"].items() if found["use"]} == {
        "01_Kick.wav": "drums", "02_OH_L.flac": "drums", "03_OH_R.flac": "drums", "04_Bass.wav": "bass",
        "06_Track.wav": "other",
    }  # fmt: skip
    assert report["groups"]["01_Kick.wav"]["by"] == "word"
    assert any("05_Click.wav: not mixed: a click track" in warning for warning in report["warnings"])

    def read(file: str) -> np.ndarray:
        return SONG["bass"] if file.startswith("s3://") else audio.decode(base64.b64decode(file), "track")[0]

    table = Table(tracks=[Track(file=name, **found) for name, found in report["groups"].items()])
    sides = {"02_OH_L.flac": "left", "03_OH_R.flac": "right"}
    tracks = [track.model_copy(update={"side": sides.get(track.file)})
              for track in table.tracks]  # fmt: skip
    recordings = {
        name: Recording(partial(read, file), lambda: Take(None, lambda: (0, 1))) for name, file in files.items()
    }
    stems = sum_groups(table.model_copy(update={"tracks": tracks}), recordings).stems
    assert np.array_equal(mixed(answer), Mixer.load(mixer_folder).mix(stems, SAMPLE_RATE, dry=True))


def test_a_table_says_what_is_done_with_tracks(endpoint: str) -> None:
    files = {name: encoded(noise(1.0, 0.2, seed=seed)) for seed, name in enumerate(("a.wav", "b.wav"))}
    rows = [{"file": "a.wav", "group": "bass"}, {"file": "b.wav", "group": "vocals", "use": False, "why": "no"}]
    table = json.dumps({"balance": "as_is", "tracks": rows})
    by_table = post(endpoint, [{"tracks": files, "table": table}], dry=False, output_format="wav")
    assert np.array_equal(mixed(by_table), mixed(post(endpoint, [{"bass": files["a.wav"]}], output_format="wav")))


def test_the_command_sums_a_session_and_has_the_endpoint_mix_it(
    endpoint: str, tmp_path: Path, mixer_folder: Path
) -> None:
    for seed, name in enumerate(("Kick", "Snare", "Bass", "Vox")):
        audio.write(tmp_path / f"session/{name}.wav", noise(1.0, 0.2, seed=seed, channels=1))
    mixes = {}
    for name, where in {"here": [str(mixer_folder)], "there": ["--endpoint", endpoint]}.items():
        arguments = ["--tracks", str(tmp_path / "session"), "--output", str(tmp_path / f"{name}.wav")]
        report = tmp_path / f"{name}.json"
        main.main(["mix", *where, *arguments, "--report", str(report)], standalone_mode=False)
        assert {track["group"] for track in json.loads(report.read_text())["groups"].values()} == {
            "drums", "bass", "vocals",
        }  # fmt: skip
        mixes[name] = audio.read(tmp_path / f"{name}.wav")[0]
    assert np.abs(mixes["here"] - mixes["there"]).max() < 1e-4, "the stems are sent with 24 bits"


def test_the_page_on_the_endpoint_names_what_the_served_model_takes_and_gives() -> None:
    page = (Path(__file__).parents[1] / "docs/endpoint.md").read_text(encoding="utf-8")
    signature = served_model.signature()
    requests_, params, answers = (
        {name for row in rows.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
        for rows in re.findall(r"(?:^\|.*\n)+", page.partition("## Request")[2], re.MULTILINE)[:3]
    )
    assert requests_ == set(signature.inputs.input_names())
    assert params == {spec.name for spec in signature.params.params} == set(MixOptions.model_fields)
    assert answers == set(signature.outputs.input_names())


def test_the_command_wants_a_mixer_or_an_endpoint_and_not_both() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fxnorm", "mix", "mixer", "--endpoint", "http://127.0.0.1:9", "--output", "a.wav"],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert "expected either MIXER or --endpoint" in done.stderr


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_request_is_refused_and_the_next_good_one_works(
    endpoint: str, store: dict[str, str], name: str
) -> None:
    before = servers.reset_peak_memory(endpoint)
    request: Request = HOSTILE[name]()
    answer = requests.post(f"{endpoint}/invocations", data=request.body, headers=request.headers, timeout=PATIENCE)
    assert 400 <= answer.status_code < 500, answer.text[:500]
    if request.status is not None:
        assert answer.status_code == request.status
    message = answer.json()["message"]
    assert request.said in message
    assert len(message) < 500
    assert "\n" not in message
    assert "Traceback" not in message
    mixed(post(endpoint, [{"bass": encoded(SONG["bass"])}]))
    peak = servers.peak_memory(endpoint)
    assert peak - before < MEMORY_MB
    assert peak < TOTAL_MB


def test_at_least_fifty_requests_are_hostile() -> None:
    assert len(HOSTILE) >= 50


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory, model: str) -> Iterator[str]:
    """An endpoint with 4 seconds for a request and one place to wait in, which asks for a token."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"tests:{hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    variables = environment(FXNORM_TIMEOUT_SECONDS="4", FXNORM_MAX_WAITING="1", FXNORM_TOKENS_FILE=str(tokens))
    with servers.scoring(model, tmp_path_factory.mktemp("hurried"), variables) as address:
        yield address


def test_who_asks_for_too_much_or_comes_to_a_full_line_is_told_and_the_server_goes_on(hurried: str) -> None:
    long = [{"bass": encoded(noise(200.0, 0.2, channels=1), ".flac")}]
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(post(hurried, long).status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert requests.get(f"{hurried}/ping", timeout=PATIENCE).status_code == 200
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [503, 503, 504, 504]
    answer = post(hurried, long)
    assert answer.status_code == 504
    assert "not mixed within 4 s" in answer.json()["message"]
    mixed(post(hurried, [{"bass": encoded(SONG["bass"])}]))


def test_health_is_asked_for_where_mlflow_and_kserve_ask(endpoint: str) -> None:
    for path in ("/ping", "/health"):
        assert requests.get(endpoint + path, timeout=PATIENCE).status_code == 200


def test_metrics_count_requests_by_how_they_ended_and_tell_what_they_were_of(endpoint: str) -> None:
    before = after = families(endpoint)

    def grown(name: str, **labels: str) -> float:
        return value_of(after, name, **labels) - value_of(before, name, **labels)

    def counted() -> bool:  # which the server does once the answer has gone
        nonlocal after
        after = families(endpoint)
        return grown("fxnorm_requests_total") >= 2

    mixed(post(endpoint, [{"bass": encoded(SONG["bass"])}]))
    assert post(endpoint, [{"bass": "QUJD"}]).status_code == 400
    until(counted)
    assert grown("fxnorm_requests_total", status="200", reason="mixed") == 1
    assert grown("fxnorm_requests_total", status="400", reason="audio") == 1
    assert grown("fxnorm_requests_total") == grown("fxnorm_request_seconds_count") == 2
    assert grown("fxnorm_audio_seconds_total") == pytest.approx(1.0)
    assert grown("fxnorm_phase_seconds_count", phase="network") == 1
    for phase in ("wait", "decode", "normalize", "network", "encode"):
        assert 0 < grown("fxnorm_phase_seconds_sum", phase=phase) < grown("fxnorm_request_seconds_sum")
    assert grown("fxnorm_drift_count", effect="loudness", stem="bass") == 1
    assert grown("fxnorm_drift_count", stem="vocals") == 0
    assert value_of(after, "fxnorm_requests_waiting") == value_of(after, "fxnorm_songs_in_progress") == 0
    assert 1e8 < value_of(after, "fxnorm_memory_bytes") < 1e10
    (serving,) = after["fxnorm_serving"].samples
    assert (serving.labels["version"], serving.value) == ("1", 1.0)
    labels = [label for family in after.values() for sample in family.samples for label in sample.labels.values()]
    assert not any("." in label and "/" in label for label in labels)
    assert sum(len(family.samples) for family in after.values()) < 500


def test_the_request_log_has_a_line_a_request_and_neither_audio_nor_names(endpoint: str, log: Path) -> None:
    secret = "A Very Secret Name"
    until(lambda: len(RequestLog.read(log).requests) == value_of(families(endpoint), "fxnorm_requests_total"))
    before = len(RequestLog.read(log).requests)
    files = {f"{secret} Bass.wav": encoded(SONG["bass"])}
    answer = post(endpoint, [{"tracks": files}], song=secret)
    (report,) = answer.json()["predictions"]
    post(endpoint, [{f"guitar {secret}": ""}])
    until(lambda: len(RequestLog.read(log).requests) == before + 2)
    found = RequestLog.read(log)
    assert found.damaged == []
    good, refused = found.requests[-2:]
    assert (good.status, good.reason, good.version) == (200, "mixed", "1")
    (song,) = good.songs
    assert song.seconds == pytest.approx(1.0)
    assert song.loudness_lufs == report["stem_loudness_lufs"]
    assert song.drift == report["drift"]
    assert good.seconds >= sum(good.phases.values()) - 0.01
    assert (refused.status, refused.reason, refused.songs) == (400, "request", [])
    text = log.read_text()
    assert not any(word in text for word in (secret, "127.0.0.1", "UklG", "guitar", ".wav"))
    assert max(map(len, text.splitlines())) < 2_000


def test_a_wrong_token_is_refused_before_the_body_is_read_and_a_good_one_lets_in(hurried: str) -> None:
    host, port = hurried.removeprefix("http://").split(":")
    head = (
        f"POST /invocations HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 100000000\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as client:
        client.sendall(f"{head}Authorization: Bearer another\r\n\r\n".encode())  # and nothing of the body
        assert client.recv(1_000).startswith(b"HTTP/1.1 401 ")
    before = servers.reset_peak_memory(hurried)
    answer = requests.post(f"{hurried}/invocations", data=b"x" * 100_000_000, headers={
        "Content-Type": "application/json", "Authorization": "Bearer another"}, timeout=PATIENCE)  # fmt: skip
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "Authorization: Bearer" in answer.json()["message"]
    assert servers.peak_memory(hurried) - before < 20
    assert requests.get(f"{hurried}/metrics", timeout=PATIENCE).status_code == 401

    def refused() -> float:
        return value_of(families(hurried, headers=AUTHORIZATION), "fxnorm_requests_total", reason="token")

    until(lambda: refused() == 2)  # it is counted once the answer has gone
    for path in ("/ping", "/health"):
        assert requests.get(hurried + path, timeout=PATIENCE).status_code == 200
    mixed(post(hurried, [{"bass": encoded(SONG["bass"])}]))


def test_the_command_sends_its_token(hurried: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audio.write(tmp_path / "bass.wav", SONG["bass"])
    arguments = [
        "mix",
        "--endpoint",
        hurried,
        "--bass",
        str(tmp_path / "bass.wav"),
        "--output",
        str(tmp_path / "m.wav"),
    ]
    with pytest.raises(FxnormError, match=r"401: expected the header 'Authorization: Bearer TOKEN'"):
        request_mix(hurried, {"bass": tmp_path / "bass.wav"}, MixOptions())
    monkeypatch.setenv("FXNORM_TOKEN", TOKEN)
    main.main(arguments, standalone_mode=False)
    assert (tmp_path / "m.wav").is_file()


def test_the_other_model_mixes_in_the_shadow_and_the_registry_tells(endpoint: str, registry: Registry) -> None:
    mixed(post(endpoint, [{stem: encoded(samples) for stem, samples in SONG.items()}]))

    def compared() -> float:
        return value_of(families(endpoint), "fxnorm_shadow_songs_total", outcome="compared")

    until(lambda: compared() >= 1)
    until(lambda: value_of(families(endpoint), "fxnorm_shadow_difference_count", measure="true_peak_dbtp") >= 1)
    assert value_of(families(endpoint), "fxnorm_shadow_songs_total", outcome="failed") == 0
    until(lambda: TAG in registry.client.get_model_version(NAME, "2").tags)
    tallies = Tally.by_version(registry.client.get_model_version(NAME, "2").tags[TAG])
    assert tallies["1"].measures["side_to_middle_db"].count >= 1
    assert tallies["1"].measures["side_to_middle_db"].mean != 0


def test_another_champion_takes_over_without_a_dropped_request(endpoint: str, registry: Registry) -> None:
    song = {stem: encoded(samples) for stem, samples in SONG.items()}
    stop, answers = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            answers.append(post(endpoint, [song], output_format="wav"))

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    until(lambda: answers)
    same = requests.post(f"{endpoint}/reload", timeout=PATIENCE)
    registry.client.set_registered_model_alias(NAME, "champion", "2")
    taken = requests.post(f"{endpoint}/reload", timeout=PATIENCE)
    mixed(post(endpoint, [song]))
    stop.set()
    for client in clients:
        client.join()
    assert (same.status_code, same.json()["outcome"]) == (200, "same")
    assert (taken.status_code, taken.json()["outcome"], taken.json()["version"]) == (200, "taken", "2")
    expected = {
        "1": Mixer.load(registry.model / "artifacts/mixer").mix(SONG, SAMPLE_RATE),
        "2": Mixer.load(registry.mixer).mix(SONG, SAMPLE_RATE),
    }
    assert not np.array_equal(expected["1"], expected["2"])
    seen = [answer.headers["X-Model-Version"] for answer in answers]
    for answer, version in zip(answers, seen, strict=True):
        assert np.array_equal(mixed(answer), expected[version])
    assert seen[0] == "1"
    assert mixed(post(endpoint, [song])).any()
    serving = {sample.labels["version"]: sample.value for sample in families(endpoint)["fxnorm_serving"].samples}
    assert serving == {"1": 0.0, "2": 1.0}


def test_a_version_that_cannot_take_over_leaves_the_one_that_mixes(
    endpoint: str, registry: Registry, tmp_path: Path
) -> None:
    damaged, other_code = tmp_path / "damaged", tmp_path / "other"
    for folder in (damaged, other_code):
        shutil.copytree(registry.model, folder)
    (damaged / "artifacts/mixer" / WEIGHTS_FILE).write_bytes(b"words")
    (other_code / "requirements.txt").write_text("torch==1.0\n")
    before = post(endpoint, [{"bass": encoded(SONG["bass"])}]).headers["X-Model-Version"]
    for folder, status, said in (
        (damaged, 502, f"{WEIGHTS_FILE}: cannot be read"), (other_code, 409, "restart the server to take it"),
    ):  # fmt: skip
        number = registry.add(folder, "champion")
        answer = requests.post(f"{endpoint}/reload", timeout=PATIENCE)
        assert answer.status_code == status, answer.text
        assert said in answer.json()["message"]
        assert f"version {number}" in answer.json()["message"]
        assert answer.json()["message"].endswith(f"version {before} goes on mixing")
        again = post(endpoint, [{"bass": encoded(SONG["bass"])}])
        mixed(again)
        assert again.headers["X-Model-Version"] == before


def test_only_this_machine_reloads(endpoint: str, hurried: str) -> None:
    page = {"Origin": "http://page.example"}
    assert requests.post(f"{endpoint}/reload", headers=page, timeout=PATIENCE).status_code == 403
    elsewhere = {"X-Forwarded-For": "203.0.113.5"}  # as a proxy on this machine says it
    assert requests.post(f"{endpoint}/reload", headers=elsewhere, timeout=PATIENCE).status_code == 403
    answer = requests.post(f"{hurried}/reload", json={}, headers=AUTHORIZATION, timeout=PATIENCE)
    assert answer.status_code >= 400, "it is off"


@pytest.mark.slow
def test_a_real_prometheus_answers_every_query_of_dashboard_and_alerts(endpoint: str, tmp_path: Path) -> None:
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    configuration["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    (scrape,) = configuration["scrape_configs"]
    scrape["static_configs"] = [{"targets": [endpoint.removeprefix("http://")]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    shutil.copy(MONITORING / "alerts.yml", tmp_path)
    port = servers.free_port()
    command = ["prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    api = f"http://127.0.0.1:{port}/api/v1"

    def ask(query: str) -> list[dict[str, Any]]:
        answer = requests.get(f"{api}/query", params={"query": query}, timeout=PATIENCE).json()
        assert answer["status"] == "success", (query, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    with servers.running(command, port, tmp_path / "log"):
        # it listens before it has opened its store, and answers 503 until then
        until(lambda: requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=PATIENCE).status_code == 200)
        until(lambda: len(ask('up{job="fxnorm"} == 1')) == 1)
        mixed(post(endpoint, [{stem: encoded(samples) for stem, samples in SONG.items()}]))
        post(endpoint, [{"bass": "QUJD"}])
        until(lambda: bool(ask("fxnorm_shadow_difference_count > 0")))
        for written in dashboard_queries(MONITORING):
            query = written.replace("$__rate_interval", "1m").replace("$__range", "1m").replace("$instance", ".*")
            until(lambda query=query: ask(query), lambda query=query: f"no answer: {query}")  # type: ignore[misc]

        def rules_of() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = requests.get(f"{api}/rules", timeout=PATIENCE).json()["data"]["groups"][0][
                "rules"
            ]
            return found

        until(lambda: all(rule["health"] != "unknown" for rule in rules_of()))  # each was looked at once
        rules = rules_of()
        assert [rule["health"] for rule in rules] == ["ok"] * 8
        assert [rule["name"] for rule in rules if rule["state"] != "inactive"] == []


@pytest.mark.slow
def test_several_workers_count_together_and_take_another_version_together(registry: Registry, tmp_path: Path) -> None:
    registry.client.set_registered_model_alias(NAME, "champion", "1")
    watching = {"FXNORM_MODEL": f"models:/{NAME}@champion", "FXNORM_RELOAD": "1", "MLFLOW_TRACKING_URI": registry.uri}
    variables = environment(**watching, FXNORM_REQUEST_LOG=str(tmp_path / "log"), TMPDIR=str(tmp_path))
    with servers.scoring(f"models:/{NAME}@champion", tmp_path, variables, workers=2) as address:
        # a listening socket is there before both workers are
        until(lambda: value_of(families(address), "fxnorm_serving", version="1") == 2)
        for _ in range(6):
            mixed(post(address, [{"bass": encoded(SONG["bass"])}]))
        until(lambda: value_of(families(address), "fxnorm_requests_total", reason="mixed") == 6)
        found = families(address)
        assert len(found["fxnorm_memory_bytes"].samples) == 2
        until(lambda: len(RequestLog.read(tmp_path / "log").requests) == 6)
        registry.client.set_registered_model_alias(NAME, "champion", "2")
        assert requests.post(f"{address}/reload", timeout=PATIENCE).json()["outcome"] == "taken"
        until(lambda: [value_of(families(address), "fxnorm_serving", version=each) for each in "12"] == [0, 2])


@pytest.mark.slow
def test_a_variable_that_cannot_be_stops_the_start_with_one_line(model: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local", "-p"]
    command.append(str(servers.free_port()))
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        env=environment(FXNORM_TOKENS_FILE=str(tmp_path / "none"), PATH=programs),
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode != 0
    assert f"fxnorm: FXNORM_TOKENS_FILE={tmp_path / 'none'}: cannot be read (No such file or directory)" in done.stderr

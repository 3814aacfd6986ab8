"""Another version of the served model, and another model in its shadow, with a registry that tests play."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fxnorm import Mixer
from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import FxnormError
from fxnorm.mixing.options import MixOptions
from fxnorm.monitoring.tally import Tally
from fxnorm.serving import shadow, updates
from fxnorm.serving.metrics import Metrics
from fxnorm.serving.shadow import Shadow, ShadowSong
from fxnorm.serving.updates import Updates
from fxnorm.serving.versions import Origin, OtherCodeError, Served
from fxnorm.serving.watch import Activity
from fxnorm.serving.watching import Watching
from tests.conftest import noise
from tests.metrics import parsed, value_of
from tests.waiting import PATIENCE, until

ADDRESS = "models:/served@champion"
CODE = "0.1.0+abc"


class Registry:
    """What it has under the alias, and how often it was asked for it."""

    def __init__(self, mixer: Path) -> None:
        self.number = "1"
        self.error: FxnormError | None = None
        self.downloads = 0
        self._mixer = mixer

    def newest(self, address: str) -> str:
        assert address == ADDRESS
        if isinstance(self.error, FxnormError) and not isinstance(self.error, OtherCodeError):
            raise self.error
        return self.number

    def downloaded(self, address: str, number: str, code: str, folder: Path) -> Path:
        assert (address, number, code) == (ADDRESS, self.number, CODE)
        self.downloads += 1
        if self.error is not None:
            raise self.error
        return self._mixer


class Model:
    """What mixes."""

    def __init__(self, mixer: Path) -> None:
        self.served = Served(Mixer.load(mixer), Origin("1", CODE))

    def take(self, served: Served) -> None:
        self.served = served


@pytest.fixture
def registry(mixer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry(mixer_folder)
    for module in (updates, shadow):
        monkeypatch.setattr(module, "newest", found.newest)
        monkeypatch.setattr(module, "downloaded", found.downloaded)
    return found


@pytest.fixture
def mixing() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def test_a_watch_takes_what_the_alias_names_and_what_it_declined_once_only_when_asked(
    registry: Registry, mixer_folder: Path, mixing: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    model, metrics = Model(mixer_folder), Metrics()
    found = Updates(ADDRESS, model, mixing, metrics, None)
    found.begin(0.01)
    try:
        registry.number = "2"
        until(lambda: model.served.origin.version == "2")
        assert model.served.origin.code == CODE
        registry.error = FxnormError("the registry is away")
        until(lambda: count(metrics, "failed") >= 3)
        registry.number, registry.error, before = "3", OtherCodeError("version 3 has other code"), registry.downloads
        until(lambda: count(metrics, "refused") == 1)
        looks = count(metrics, "same")
        until(lambda: count(metrics, "same") >= looks + 3)
        assert (registry.downloads, model.served.origin.version) == (before + 1, "2")
        assert found.reload() == (
            409,
            {"outcome": "refused", "version": "2", "message": "version 3 has other code; version 2 goes on mixing"},
        )
    finally:
        found.end()
    said = [record.getMessage() for record in caplog.records]
    assert said.count("the registry is away; version 2 goes on mixing") == 1
    assert said.count("version 3 has other code; version 2 goes on mixing") == 1


def count(metrics: Metrics, outcome: str) -> float:
    return value_of(parsed(metrics.text().decode()), "fxnorm_reloads_total", outcome=outcome)


def test_a_version_that_one_worker_took_is_taken_by_the_others(
    registry: Registry, mixer_folder: Path, mixing: ThreadPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "_SECONDS_BETWEEN_LOOKS", 0.01)
    models = [Model(mixer_folder) for _ in range(3)]
    workers = [Updates(ADDRESS, model, mixing, None, tmp_path) for model in models]
    for worker in workers[:2]:
        worker.begin(0)
    registry.number = "2"
    status, answer = workers[0].reload()
    assert (status, answer["outcome"]) == (200, "taken")
    until(lambda: models[1].served.origin.version == "2")
    workers[2].begin(0)  # one that takes the place of another that ended began with the version of the start
    until(lambda: models[2].served.origin.version == "2")
    for worker in workers:
        worker.end()


@pytest.fixture
def quick_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "_IDLE_SECONDS", 0.02)
    monkeypatch.setattr(shadow, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(shadow.os, "nice", lambda _: None)


def song(mixer: Mixer, seconds: float = 1.0) -> ShadowSong:
    stems = {stem: noise(seconds, 0.2, seed=number) for number, stem in enumerate(("bass", "drums"))}
    mix = mixer.mix(stems, SAMPLE_RATE)
    return ShadowSong(stems, mix, MixOptions(as_is=True), None, mixer.recipe.statistics, "1")


def outcomes(metrics: Metrics) -> dict[str, float]:
    samples = parsed(metrics.text().decode())["fxnorm_shadow_songs"].samples
    return {sample.labels["outcome"]: sample.value for sample in samples if sample.value}


@pytest.mark.usefixtures("registry", "quick_shadow")
def test_the_same_model_in_the_shadow_mixes_the_same_and_a_request_ends_its_work_for_now(
    mixer_folder: Path, mixing: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, activity, began = Metrics(), Activity(), threading.Event()
    watching = Watching(shadow=ADDRESS, shadow_share=1.0)
    found = Shadow(watching, Origin("1", CODE), mixing, activity, metrics)
    monkeypatch.setattr(found, "_report", lambda now=False: None)
    go_on, disturbed = found._go_on, []

    def disturb(done: float = 0.0) -> None:
        began.set()
        try:
            go_on(done)
        except FxnormError:
            disturbed.append(done)
            raise

    monkeypatch.setattr(found, "_go_on", disturb)
    found.begin()
    found.offer(lambda: song(Mixer.load(mixer_folder)))
    assert began.wait(PATIENCE)
    with activity.request():
        until(lambda: disturbed != [])
        assert outcomes(metrics) == {}
    until(lambda: outcomes(metrics) == {"compared": 1.0})
    found.end()
    (tally,) = found._unsent.values()
    assert {measure.total for measure in tally.measures.values()} == {0.0}
    assert "true_peak_dbtp" in tally.measures


@pytest.mark.usefixtures("registry")
def test_songs_for_the_shadow_are_few_and_bounded_in_memory(mixer_folder: Path, mixing: ThreadPoolExecutor) -> None:
    made = song(Mixer.load(mixer_folder), seconds=0.5)
    metrics = Metrics()
    watching = Watching(shadow=ADDRESS, shadow_share=1.0, shadow_mb=2.5 * made.size / 1e6)
    found = Shadow(watching, Origin("1", CODE), mixing, Activity(), metrics)  # it does not begin
    for _ in range(4):
        found.offer(lambda: made)
    assert outcomes(metrics) == {"full": 2.0}
    large = ShadowSong({"bass": np.zeros((2, 10 * SAMPLE_RATE), np.float32)}, made.mix, *list(vars(made).values())[2:])
    found.offer(lambda: large)
    assert outcomes(metrics) == {"full": 2.0, "large": 1.0}
    none = Shadow(Watching(shadow=ADDRESS, shadow_share=0.0), Origin("1", CODE), mixing, Activity(), metrics)

    def chosen() -> ShadowSong:
        raise AssertionError("a song was chosen at a share of 0")

    for _ in range(100):
        none.offer(chosen)


@pytest.mark.usefixtures("quick_shadow")
def test_a_registry_that_is_away_costs_one_line_and_nothing_is_lost(
    registry: Registry,
    mixer_folder: Path,
    mixing: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tags: dict[str, str] = {shadow.TAG: Tally.as_text({"0": Tally.of({"a": 1.0}, {"a": 2.0}, {})})}
    away = True

    class Client:
        def get_model_version(self, name: str, version: str) -> Any:
            if away:
                raise OSError("no route to host")
            return type("Version", (), {"tags": tags})

        def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
            assert (name, version) == ("served", "1")
            tags[key] = value

    monkeypatch.setattr(shadow.mlflow, "MlflowClient", Client)
    monkeypatch.setattr(shadow, "_SECONDS_BETWEEN_REPORTS", 0.0)
    metrics = Metrics()
    found = Shadow(Watching(shadow=ADDRESS, shadow_share=1.0), Origin("1", CODE), mixing, Activity(), metrics)
    found.begin()
    made = song(Mixer.load(mixer_folder), seconds=0.5)
    for number in (1.0, 2.0):
        found.offer(lambda: made)
        until(lambda number=number: outcomes(metrics) == {"compared": number})  # type: ignore[misc]
    until(lambda: any("no route to host" in record.getMessage() for record in caplog.records))
    away = False
    found.offer(lambda: made)
    until(lambda: len(Tally.by_version(tags[shadow.TAG])) == 2)
    found.end()
    assert sum("no route to host" in record.getMessage() for record in caplog.records) == 1
    tallies = Tally.by_version(tags[shadow.TAG])
    assert tallies["0"].measures["a"].count == 1, "what was there stays"
    assert tallies["1"].measures["side_to_middle_db"].count == 3

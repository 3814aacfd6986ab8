"""The benchmark of the endpoint: what it takes for a mix, and when it says that a target is missed."""

import base64
import http.client
import importlib
import json
import os
from typing import Any

import numpy as np
import pytest

from fxnorm.constants import SAMPLE_RATE
from fxnorm.io import audio
from tests.conftest import noise

endpoint: Any = importlib.import_module("benchmarks.endpoint")  # the benchmarks are scripts, not a package


def answer(mix: np.ndarray) -> bytes:
    content = base64.encodebytes(audio.encode(mix, SAMPLE_RATE, ".flac")).decode()  # as MLflow does
    return json.dumps({"predictions": [{"mix": content}]}).encode()


def test_an_answer_counts_when_it_holds_a_mix_of_the_songs_length() -> None:
    assert endpoint.fault_of(answer(noise(0.5)), SAMPLE_RATE // 2) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b'{"predictions": []}', b'{"predictions": [{"mix": "QUJD"}]}', answer(noise(0.4)),
     answer(np.zeros((2, SAMPLE_RATE // 2)))],
)  # fmt: skip
def test_an_answer_without_a_mix_is_an_error(content: bytes) -> None:
    assert endpoint.fault_of(content, SAMPLE_RATE // 2)


def test_a_connection_that_breaks_off_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise http.client.RemoteDisconnected("gone")

    monkeypatch.setattr(endpoint.urllib.request, "urlopen", broken)
    found = endpoint.load("http://127.0.0.1:9", os.getpid(), b"", 1, 1, 0.5)
    assert found.latencies == []
    assert all("RemoteDisconnected" in error for error in found.errors)
    assert found.errors


def test_a_missed_target_is_said() -> None:
    level: dict[str, Any] = {"clients": 2, "throughput": 0.95, "error_count": 0, "growth": 0.01}
    assert endpoint.missed(level) == []
    for name, value in {"throughput": 0.8, "error_count": 1, "growth": 0.06, "kept": 0.06}.items():
        (said,) = endpoint.missed(level | {name: value})
        assert said.startswith("2 clients: ")


def test_of_few_songs_no_percentile_is_claimed() -> None:
    for songs, few in ((19, True), (20, False)):
        found = endpoint.Load([1.0] * songs, [], [100.0] * 9, 60.0, 30.0)
        assert bool(endpoint.summary(1, found, [songs, 1.5])["few"]) == few


def test_a_server_that_watches_is_measured_by_its_metrics_and_targets() -> None:
    text = '# HELP a_total of a\na_total{b="c",d="e"} 2.0\na_total{b="f",d="e"} 3.0\na_total_other 7.0\n'
    assert (endpoint.counted(text, "a_total"), endpoint.counted(text, "a_total", b="f")) == (5.0, 3.0)
    good: dict[str, Any] = {"throughput": 0.985, "scrape_longest": 0.1, "error_count": 0}
    assert endpoint.missed_watched(good) == []
    for name, value in {"throughput": 0.97, "scrape_longest": 0.3, "error_count": 1}.items():
        assert len(endpoint.missed_watched(good | {name: value})) == 1

"""The client of a served model, and files that its commands cannot write, against a server that breaks off."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from fxnorm.cli import main
from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import FxnormError
from fxnorm.io import audio
from fxnorm.mixing.client import request_mix
from fxnorm.mixing.options import MixOptions
from tests.conftest import noise

MIX = {"mix": base64.b64encode(audio.encode(noise(0.1), SAMPLE_RATE, ".wav")).decode(), "seconds": 0.5}


class _Answers(BaseHTTPRequestHandler):
    """By path: a mix, an error that breaks off, or an error of two lines."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/good"):
            self._answer(200, json.dumps({"predictions": [MIX]}).encode())
        elif self.path.startswith("/lines"):
            self._answer(400, json.dumps({"message": "one\ntwo"}).encode())
        else:
            self._answer(503, b'{"message": "the rest', announced=1_000)

    def _answer(self, status: int, body: bytes, announced: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(announced or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    "path, said", [("broken", "503: Service Unavailable .the rest did not arrive: "), ("lines", "400: one two$")]
)
def test_an_error_is_one_line_though_it_breaks_off_or_has_two(address: str, path: str, said: str) -> None:
    with pytest.raises(FxnormError, match=f"^{address}/{path}: {said}") as caught:
        request_mix(f"{address}/{path}", {}, MixOptions())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("output", ["file/mix.wav", "folder.wav"])
def test_an_output_that_cannot_be_written_is_one_line(
    address: str, mixer_folder: Path, tmp_path: Path, output: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder.wav").mkdir()
    audio.write(tmp_path / "bass.wav", noise(0.5))
    options = ["--output", str(tmp_path / output)]
    for command in (["--endpoint", f"{address}/good"], [str(mixer_folder), "--bass", str(tmp_path / "bass.wav")]):
        done = CliRunner().invoke(main, ["mix", *command, *options])
        assert done.exit_code == 1
        assert f"fxnorm: {tmp_path / output}: cannot be written (" in done.output.splitlines()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder.wav", "bass.wav"}

"""Programs that tests start in a moment end as those that a user starts: by themselves, by signals, and killed."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import prefork, servers
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.system


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """A server that started in a moment, and its port."""
    port = servers.free_port()
    command = [str(prefork.programs() / "python"), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with open(tmp_path / "log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
    until(lambda: servers.listens(port))
    yield process, port
    process.kill()
    process.wait()


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_signal_ends_the_program_behind_what_was_started(
    server: tuple["subprocess.Popen[str]", int], number: int, status: int
) -> None:
    process, port = server
    process.send_signal(number)
    assert process.wait(PATIENCE) == status
    until(lambda: not servers.listens(port))


def test_a_program_has_the_status_the_output_and_the_errors_of_a_users(tmp_path: Path) -> None:
    def run(*command: str) -> tuple[int, str, str]:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    programs = prefork.programs()
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}", "DVC_NO_ANALYTICS": "1"}
    status, output, errors = run(str(programs / "fxnorm"), "check", "nowhere")
    assert (status, output, errors[:38]) == (1, "", "fxnorm: nowhere: no such folder; expec")
    assert run(str(programs / "dvc"), "status")[0] == 253, "no repository"
    (tmp_path / "fxnorm.py").write_text("raise SystemExit('another')")
    assert run(str(programs / "fxnorm"), "--version") == (1, "", "another\n"), "what its own path leads to"
    assert run(str(programs / "python"), "-c", "import sys; print(sys.argv[1:])", "a b") == (0, "['a b']\n", "")

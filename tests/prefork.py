"""``fxnorm`` in processes that are forked from one which has imported PyTorch, MLflow and SciPy already.

A new Python takes three to five seconds of a core to import them, and the tests start a hundred. Nothing of this
project is imported before the fork: each process imports the code that its ``PYTHONPATH`` leads to, and has arguments,
environment, folder, files and status of its own. Kubeflow's tasks, servers, pages that start one, and what is signalled
or killed start without it, as a user starts them.
"""

import array
import atexit
import fcntl
import functools
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import uuid
from pathlib import Path

_LONGEST_REQUEST = 2**20  # bytes; arguments and environment have some thousands
_LOOK_SECONDS = 2.0

_CLIENT = """
import array, json, os, signal, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = json.dumps({"arguments": sys.argv[2:], "folder": os.getcwd(), "environment": dict(os.environ)})
    files = array.array("i", [0, 1, 2])
    server.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    server.sendall(request.encode())
    server.shutdown(socket.SHUT_WR)
    status = int(server.makefile().read() or "70")
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


_OTHERS = (
    "matplotlib.backends.backend_svg",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.metrics.cpu_monitor",
    "numba",
    "scipy.signal",
    "torch._dynamo",  # which an optimizer imports
)
"""What takes seconds to import, and is not this project's."""

_started: list["subprocess.Popen[bytes]"] = []


@functools.cache
def programs() -> Path:
    """A folder with a program ``fxnorm`` that starts in a moment; the workers of a test run share what is behind it."""
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = Path(tempfile.gettempdir()) / f"fxnorm-prefork-{run}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "bin/fxnorm").exists():
            _start(folder, owner)
    return folder / "bin"


def make_environment(folder: Path) -> None:
    """Make an environment that can be activated: the one that the tests run in, but for its ``fxnorm``."""
    original = Path(sys.prefix)
    (folder / "bin").mkdir(parents=True)
    for path in original.iterdir():
        if path.name != "bin":
            (folder / path.name).symlink_to(path)
    for path in (original / "bin").iterdir():
        if path.name == "activate":
            text = path.read_text(encoding="utf-8")
            (folder / "bin/activate").write_text(text.replace(str(original), str(folder)), encoding="utf-8")
        else:
            (folder / "bin" / path.name).symlink_to(programs() / "fxnorm" if path.name == "fxnorm" else path)


def _start(folder: Path, owner: int) -> None:
    address = folder / "socket"
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("PYTHONPATH", "MLFLOW_"))}
    server = subprocess.Popen(
        [sys.executable, "-P", __file__, str(address), str(owner)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    _started.append(server)
    assert server.stdout is not None
    assert server.stdout.readline() == b"listens\n"
    (folder / "client.py").write_text(_CLIENT)
    program = folder / "bin/fxnorm"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -IS '{folder}/client.py' '{address}' \"$@\"\n")
    program.chmod(0o755)


def _serve(address: str, owner: int) -> list[str] | None:
    """Answer requests while ``owner`` runs; gives the arguments in each process that is to run ``fxnorm``."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("listens", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that answer
        listener.settimeout(_LOOK_SECONDS)
        while True:
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                try:
                    os.kill(owner, 0)
                except ProcessLookupError:
                    return None
                continue
            if os.fork() == 0:
                break
            connection.close()
    connection.settimeout(None)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    files = array.array("i")
    _, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_LEN(3 * files.itemsize))
    files.frombytes(ancillary[0][2])
    request = json.loads(connection.makefile().read(_LONGEST_REQUEST))
    process = os.fork()
    if process:
        for file in files:
            os.close(file)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        connection.sendall(str(status).encode())
        os._exit(0)
    connection.close()
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = [text for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]
    return list(request["arguments"])


def _run(arguments: list[str]) -> int:
    """Run ``fxnorm``; gives the status."""
    sys.argv = ["fxnorm", *arguments]
    try:
        from fxnorm.cli import main

        main(prog_name="fxnorm")
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _end_with(status: int) -> None:
    """End as Python does, but for clearing away what the processes share, which would copy all of it first."""
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for name in _OTHERS:
        importlib.import_module(name)
    gc.freeze()  # what it would look through, it would copy
    arguments = _serve(sys.argv[1], int(sys.argv[2]))
    if arguments is None:
        shutil.rmtree(Path(sys.argv[1]).parent)
    else:
        _end_with(_run(arguments))

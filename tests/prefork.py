"""Programs in processes that are forked from one which has imported PyTorch, MLflow and SciPy already.

A new Python takes three to five seconds of a core to import them, and the tests start hundreds: ``fxnorm``, DVC,
MLflow's and moto's servers, Kubeflow's tasks. Nothing of this project is imported before the fork: each process imports
the code that its ``PYTHONPATH`` leads to, and has arguments, environment, folder, files and status of its own. Signals
to what was started reach the process; where it is killed, the process is. What asks how a program starts in an
environment, or what it takes of the machine, starts without this, as a user starts it.
"""

import array
import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import select
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
from typing import Any

_LOOK_SECONDS = 2.0

_OF_FXNORM = (
    "matplotlib.backends.backend_svg",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.system_metrics.metrics.cpu_monitor",
    "numba",
    "scipy.signal",
    "torch._dynamo",  # which an optimizer imports
)
_OF_SERVERS = (
    "fastapi",
    "flask",
    "graphene",
    "mlflow.pyfunc",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "starlette.middleware.wsgi",
)
_PROGRAMS = {
    "fxnorm": _OF_FXNORM,
    "dvc": ("dvc.cli.parser", "dvc.repo"),
    "mlflow": _OF_SERVERS,
    "uvicorn": _OF_SERVERS,
    "moto.server": ("moto.moto_server.werkzeug_app", "moto.s3.responses"),
    "kfp.dsl.executor_main": _OF_FXNORM,  # kfp itself imports less in a task than elsewhere: it stays to be imported
    "torch.distributed.run": (*_OF_FXNORM, "torch.distributed.launcher.api"),
    "runpy": _OF_FXNORM,  # any module of a test's own, as its first argument
}
"""Modules that are run as ``python -m`` runs them -> what takes seconds to import for them, and is not this project's.

It is imported when the first process of its kind is asked for.
"""
_BY_NAME = ("fxnorm", "dvc", "mlflow")
"""Those that are programs of their own, too."""

_CLIENT = """
import array, json, os, signal, socket, sys
kind, *options = sys.argv[2].split()
signals = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
request = {
    "options": options, "arguments": sys.argv[3:], "folder": os.getcwd(), "environment": dict(os.environ),
    "ignored": [number for number in signals if signal.getsignal(number) == signal.SIG_IGN],
}
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    files = array.array("i", [0, 1, 2])
    server.sendmsg([bytes([int(kind)])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
    server.sendall(json.dumps(request).encode() + b"\\n")
    for number in set(signals) - set(request["ignored"]):
        signal.signal(number, lambda number, frame: server.sendall(bytes([number])))
    status = int(server.makefile().read() or "70")
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
sys.exit(status)
"""
"""Arguments: the server's address; the program's number and how it was asked for; the program's own."""


_started: list["subprocess.Popen[bytes]"] = []


@functools.cache
def programs() -> Path:
    """A folder with programs that start in a moment; the workers of a test run share what is behind them.

    ``fxnorm``, ``dvc`` and ``mlflow``; and ``python``, which starts a few modules so, and else is the one of the tests.
    """
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    folder = Path(tempfile.gettempdir()) / f"fxnorm-prefork-{run}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / "lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "bin/python").exists():
            _start(folder, owner)
    return folder / "bin"


def make_environment(folder: Path) -> None:
    """Make an environment that can be activated: the one that the tests run in, but for programs that start quickly."""
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
            (folder / "bin" / path.name).symlink_to(programs() / path.name if path.name in _BY_NAME else path)


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
    client = f"exec '{sys.executable}' -IS '{folder}/client.py' '{address}'"
    (folder / "bin").mkdir()
    for name in _BY_NAME:
        _write_program(folder / "bin" / name, f"{client} '{_number(name)}' \"$@\"\n")
    asked = f"'-P -m mlflow') shift 3; {client} '{_number('mlflow')}' \"$@\";;\n"
    for name in _PROGRAMS:
        asked += f"'-m {name} '*) shift 2; {client} '{_number(name)} -m' \"$@\";;\n"
        asked += f"'-u -m {name}') shift 3; {client} '{_number(name)} -u -m' \"$@\";;\n"
    _write_program(folder / "bin/python", f'case "$1 $2 $3" in\n{asked}esac\nexec \'{sys.executable}\' "$@"\n')


def _number(name: str) -> int:
    return list(_PROGRAMS).index(name)


def _write_program(path: Path, script: str) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(f"#!/bin/sh\n{script}")
    unfinished.chmod(0o755)
    unfinished.rename(path)


def _serve(address: str, owner: int) -> str | None:
    """Answer requests while ``owner`` runs; gives the program in each process that is to run one."""
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
            connection.settimeout(None)
            files = array.array("i")
            kind, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_LEN(3 * files.itemsize))
            if not kind:  # it ended before it asked
                connection.close()
                continue
            files.frombytes(ancillary[0][2])
            program = list(_PROGRAMS)[kind[0]]
            _import(program)
            if os.fork() == 0:
                break
            connection.close()
            for file in files:
                os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    line = b""
    while b"\n" not in line:
        received = connection.recv(65536)
        if not received:
            os._exit(0)
        line += received
    line, _, signals = line.partition(b"\n")
    process = os.fork()
    if process:
        for file in files:
            os.close(file)
        _wait_for(process, connection, signals)
    connection.close()
    _become(json.loads(line), files, address)
    sys.argv[0] = program
    return program


@functools.cache
def _import(program: str) -> None:
    for name in _PROGRAMS[program]:
        importlib.import_module(name)
    gc.freeze()  # what it would look through, it would copy


def _wait_for(process: int, connection: socket.socket, signals: bytes) -> None:
    """Tell the status at the process's end; bring it the signals that the client gets, and its death."""
    watched: list[Any] = [os.pidfd_open(process), connection]
    while True:
        for number in signals:
            os.kill(process, number)
        ready, _, _ = select.select(watched, [], [])
        if watched[0] in ready:
            break
        signals = connection.recv(64)
        if not signals:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.killpg(process, signal.SIGKILL)
            break
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with contextlib.suppress(BrokenPipeError):  # nobody is left to be told
        connection.sendall(str(status).encode())
    os._exit(0)


def _become(request: dict[str, Any], files: "array.array[int]", address: str) -> None:
    """Take over what makes a process: its group, files, folder, environment, arguments and path."""
    os.setpgid(0, 0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    paths = [text for text in os.environ.get("PYTHONPATH", "").split(os.pathsep) if text]
    sys.path[:0] = [os.getcwd(), *paths] if request["options"] else paths
    if "-u" in request["options"] or os.environ.get("PYTHONUNBUFFERED"):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.argv = ["", *request["arguments"]]
    sys.executable = str(Path(address).with_name("bin") / "python")


def _run(program: str) -> int:
    """Run a program; gives the status."""
    try:
        if program == "fxnorm":
            from fxnorm.cli import main

            main(prog_name="fxnorm")
        else:
            runpy.run_module(program, run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        if isinstance(ending.code, str):
            print(ending.code, file=sys.stderr)
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
    program = _serve(sys.argv[1], int(sys.argv[2]))
    if program is None:
        shutil.rmtree(Path(sys.argv[1]).parent)
    else:
        _end_with(_run(program))

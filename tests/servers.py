"""Real servers that tests talk to, as processes of their own on ports that are free."""

import contextlib
import fcntl
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import boto3
import psycopg2
import requests
from werkzeug.serving import make_server

from tests import prefork, stores
from tests.waiting import PATIENCE, until

Gate = TypeVar("Gate", bound=Callable[..., Iterable[bytes]])

_PORTS = range(20_000, 32_000)
"""Below those that Linux gives to connections and to servers that ask for any."""
_held: list[int] = []


def free_port() -> int:
    """A port of this machine that nothing listens at, and that no other process of the tests is given.

    No connection gets it meanwhile either, as it may a port that the system itself has chosen a moment ago.
    """
    folder = Path(tempfile.gettempdir()) / f"fxnorm-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for port in random.Random(os.urandom(8)).sample(_PORTS, len(_PORTS)):
        lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:  # another process has it
            os.close(lock)
            continue
        _held.append(lock)  # until this process ends
        return port
    raise AssertionError("every port is taken")


@contextlib.contextmanager
def running(
    command: list[str], port: int, log: Path, environment: Mapping[str, str] | None = None, **process_options: Any
) -> Iterator[None]:
    """A server that listens at ``port`` within the block; the options are subprocess.Popen's."""
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            **process_options,
        )
    try:
        until(
            lambda: process.poll() is not None or listens(port),
            lambda: f"port {port}: no answer in time\n{log.read_text(encoding='utf-8')}",
        )
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(process.pid, signal.SIGTERM)  # its workers too
        process.wait(PATIENCE)


def answers(address: str) -> bool:
    """Whether an address is answered well, soon."""
    try:
        return requests.get(address, timeout=5).ok
    except requests.RequestException:
        return False


def listens(port: int) -> bool:
    """Whether a server listens at a port of this machine."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def s3(log: Path, *buckets: str) -> Iterator[dict[str, str]]:
    """An S3 store with empty buckets; gives the environment variables that say where it is."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [str(prefork.programs() / "python"), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with running(command, port, log):
        environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for bucket in buckets:
            s3_client(environment).create_bucket(Bucket=bucket)
        yield environment


@contextlib.contextmanager
def s3_behind(gate: Callable[[Any], Gate]) -> Iterator[tuple[Gate, str]]:
    """An S3 store without buckets in this process; what ``gate`` makes of it answers requests, at the address given.

    The stores of one process hold the same objects, so that each begins by forgetting those of earlier tests.
    """
    from moto.server import DomainDispatcherApplication, create_backend_app

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = DomainDispatcherApplication(create_backend_app)
    answered = gate(store)
    server = make_server("127.0.0.1", 0, answered, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        requests.post(f"{address}/moto-api/reset", timeout=PATIENCE).raise_for_status()
        yield answered, address
    finally:
        server.shutdown()
        thread.join()


def s3_client(environment: Mapping[str, str]) -> Any:
    """boto3's client for the store that :func:`s3` started."""
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def objects_read(log: Path, prefix: str, after: int = 0) -> Counter[str]:
    """How often each object was read from the store of :func:`s3`, by its key without slashes.

    Args:
        log: of the store.
        prefix: of the objects that count, with the bucket.
        after: lines of the log that do not count.
    """
    lines = log.read_text(encoding="utf-8").splitlines()[after:]
    paths = [line.split('"')[1].split()[1].partition("?")[0] for line in lines if f'"GET {prefix}' in line]
    return Counter(path.removeprefix(prefix).replace("/", "") for path in paths)


@contextlib.contextmanager
def git(folder: Path, log: Path) -> Iterator[str]:
    """A git server for the repositories in ``folder``; gives the address under which they are found."""
    port = free_port()
    command = ["git", "daemon", "--export-all", f"--base-path={folder}", "--listen=127.0.0.1", f"--port={port}"]
    with running(command, port, log):
        yield f"git://127.0.0.1:{port}"


@contextlib.contextmanager
def mlflow(folder: Path) -> Iterator[str]:
    """An MLflow tracking server that keeps all in ``folder``; gives its address."""
    artifacts = ["--artifacts-destination", str(folder / "artifacts")]
    stores.new_database(folder / "mlflow.db")
    with mlflow_on(f"sqlite:///{folder / 'mlflow.db'}", artifacts, folder / "mlflow.log") as address:
        yield address


@contextlib.contextmanager
def mlflow_on(
    database: str, artifacts: list[str], log: Path, credentials: Mapping[str, str] | None = None
) -> Iterator[str]:
    """An MLflow tracking server on a database; gives its address.

    Args:
        database: its address.
        artifacts: the server's options that say where they go.
        log: the file for what it prints.
        credentials: environment variables of the artifacts' store.
    """
    port = free_port()
    command = [str(prefork.programs() / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", database, *artifacts]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = (
        "false"  # whose processes take seconds to start, for nothing here
    )
    with running(command, port, log, environment | dict(credentials or {})):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def postgresql(log: Path) -> Iterator[str]:
    """A PostgreSQL server of its own with an empty database; gives the address of it that MLflow's server takes."""
    programs, port = _postgresql_programs(), free_port()
    # it does not run as root; and pytest's folders are for their owner alone
    user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        if user:
            shutil.chown(name, **user)
        data = f"{name}/data"
        create = [str(programs / "initdb"), "--pgdata", data, "--username", "mlflow", "--auth", "trust", "--no-sync"]
        subprocess.run(create, check=True, cwd=name, stdout=subprocess.DEVNULL, **user)
        options = ["-c", "fsync=off", "-c", f"unix_socket_directories={name}"]
        command = [str(programs / "postgres"), "-D", data, "-h", "127.0.0.1", "-p", str(port), *options]
        with running(command, port, log, cwd=name, **user):
            address = f"mlflow@127.0.0.1:{port}/postgres"
            _wait_for_database(f"postgresql://{address}", log)
            yield f"postgresql+psycopg2://{address}"


def _postgresql_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, "these tests need a PostgreSQL server: apt-get install postgresql"
    return found[-1].parent


def _wait_for_database(address: str, log: Path) -> None:
    def takes_connections() -> bool:
        try:
            psycopg2.connect(address).close()
        except psycopg2.OperationalError:  # it listens before it has started up
            return False
        return True

    until(takes_connections, lambda: log.read_text(encoding="utf-8"))


@contextlib.contextmanager
def scoring(
    model: str,
    folder: Path,
    environment: Mapping[str, str],
    programs: Path = Path(sys.executable).parent,
    workers: int = 1,
) -> Iterator[str]:
    """``mlflow models serve`` with the ``programs`` of a virtual environment; gives the endpoint's address."""
    port = free_port()
    command = [str(programs / "mlflow"), "models", "serve", "--model-uri", model, "--port", str(port)]
    command += ["--env-manager", "local", "--timeout", "120", "--workers", str(workers)]
    environment = {**environment, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    with running(command, port, folder / "scoring.log", environment, cwd=folder):
        yield f"http://127.0.0.1:{port}"


def reset_peak_memory(endpoint: str) -> float:
    """Let :func:`peak_memory` count from now on; gives what the server holds now, in megabytes."""
    (_scoring_process(endpoint) / "clear_refs").write_text("5")
    return peak_memory(endpoint)


def peak_memory(endpoint: str) -> float:
    """The most memory that the server behind a :func:`scoring` endpoint has held since the last reset, in megabytes."""
    status = (_scoring_process(endpoint) / "status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def _scoring_process(endpoint: str) -> Path:
    """Of the server itself, not of the command that started it."""
    port = endpoint.rpartition(":")[2].encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it may just have ended
            command = (process / "cmdline").read_bytes().split(b"\0")
            if port in command and any(part.endswith(b"uvicorn") for part in command):
                return process
    raise AssertionError(f"no server at {endpoint}")

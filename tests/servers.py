"""Real servers that tests talk to, as processes of their own on ports that are free."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3

_PATIENCE = 120  # seconds


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A server that listens at ``port`` within the block."""
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _listens(port):
            assert process.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, f"port {port}: no answer in time\n{log.read_text(encoding='utf-8')}"
            time.sleep(0.1)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its workers too
        process.wait(_PATIENCE)


def _listens(port: int) -> bool:
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
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
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


def s3_client(environment: Mapping[str, str]) -> Any:
    """boto3's client for the store that :func:`s3` started."""
    return boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


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
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    with running(command, port, folder / "mlflow.log", environment):
        yield f"http://127.0.0.1:{port}"

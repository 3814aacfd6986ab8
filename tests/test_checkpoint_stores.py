"""Stores that refuse, go away, or are written to by two: nobody trains for days without a checkpoint unawares.

The kind: a store that takes nothing is an error before the work begins; one that stops taking is said each time with
what is at stake, and if it answers and refuses, ends the work with what there is. Real HTTP servers: moto's S3 behind a
gate that refuses what other stores refuse.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from fxnorm.errors import FxnormError, ModelError, StoreError
from fxnorm.io import object_store
from fxnorm.training.checkpoints import StoredCheckpoints, opened
from tests.servers import s3_behind

pytestmark = pytest.mark.system

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ADDRESS = "s3://fxnorm/checkpoints"
_CHECKSUMS = ("HTTP_X_AMZ_SDK_CHECKSUM_ALGORITHM", "HTTP_X_AMZ_TRAILER", "HTTP_X_AMZ_CHECKSUM_CRC32")


class Gate:
    """In front of an S3 store: ``answer`` is what it says to requests that write, if it is not None."""

    def __init__(self, store: Application) -> None:
        self.store = store
        self.answer: str | None = None
        self.refuses_checksums = True
        self.code = "NotImplemented"

    def __call__(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        checksums = [name for name in _CHECKSUMS if name in request]
        if "aws-chunked" in request.get("HTTP_CONTENT_ENCODING", ""):
            checksums.append("aws-chunked")
        if checksums and self.refuses_checksums:
            return self._refuse(request, start, "501 Not Implemented", "NotImplemented")
        if self.answer is not None and request["REQUEST_METHOD"] in ("PUT", "POST"):
            return self._refuse(request, start, self.answer, self.code)
        return self.store(request, start)

    def _refuse(self, request: dict[str, Any], start: Callable[..., Any], status: str, code: str) -> Iterable[bytes]:
        request["wsgi.input"].read(int(request.get("CONTENT_LENGTH") or 0))
        start(status, [("Content-Type", "application/xml")])
        return [f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Gate, str]]:
    with s3_behind(Gate) as gate_and_address:
        yield gate_and_address


@pytest.fixture
def gate(served: tuple[Gate, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Gate]:
    """An older store with an empty bucket, where the environment says the store is."""
    gate, address = served
    for name in object_store._CHECKSUMS:
        # so that what is set meanwhile is taken back
        monkeypatch.setenv(f"AWS_{name.upper()}", "")
        monkeypatch.delenv(f"AWS_{name.upper()}")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "aws"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gate.answer, gate.code, gate.refuses_checksums = None, "NotImplemented", True
    monkeypatch.setattr(object_store, "_ATTEMPTS", 1)
    boto3.client("s3").create_bucket(Bucket="fxnorm")
    yield gate
    gate.answer, gate.refuses_checksums = None, False  # which S3 requires where many objects are removed at once
    bucket = boto3.resource("s3").Bucket("fxnorm")
    bucket.objects.all().delete()


def stored() -> list[str]:
    return sorted(item.key.rpartition("/")[2] for item in boto3.resource("s3").Bucket("fxnorm").objects.all())


def test_an_older_store_takes_checkpoints_and_stems(gate: Gate) -> None:
    with opened(ADDRESS, "run", keep=2) as checkpoints:
        checkpoints.fetch()
        checkpoints.save(1, {"step": 1})
        checkpoints.release()
    assert stored() == ["step-000000001.pt"]
    assert object_store.read(f"{ADDRESS}/run/step-000000001.pt")
    with opened(ADDRESS, "run", keep=2) as checkpoints:
        checkpoints.fetch()
        assert checkpoints.newest() == {"step": 1}


def test_mlflows_own_client_and_dvcs_ask_an_older_store_plainly_too(
    gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository
    from s3fs import S3FileSystem

    from fxnorm.tracking import runs

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    runs.configure()
    (tmp_path / "file").write_text("artifact")
    S3ArtifactRepository("s3://fxnorm/mlflow").log_artifact(str(tmp_path / "file"))
    files = S3FileSystem(skip_instance_cache=True)  # what DVC's remotes read and write with
    files.put(str(tmp_path / "file"), "fxnorm/dvc/copy")
    assert files.cat("fxnorm/dvc/copy") == b"artifact"
    assert stored() == ["copy", "file"]


@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_users_own_choice_of_checksums_stays(
    gate: Gate, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "environment":
        monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_supported")
    else:
        (tmp_path / "aws").write_text("[default]\nrequest_checksum_calculation = when_supported\n")
    with opened(ADDRESS, "run", keep=2) as checkpoints, pytest.raises(StoreError, match="NotImplemented"):
        checkpoints.fetch()


@pytest.mark.parametrize(
    "answer, code",
    [
        ("403 Forbidden", "AccessDenied"),
        ("403 Forbidden", "InvalidAccessKeyId"),
        ("400 Bad Request", "InvalidArgument"),
        ("501 Not Implemented", "NotImplemented"),
        ("404 Not Found", "NoSuchBucket"),
        ("503 Service Unavailable", "SlowDown"),
    ],
)
def test_a_store_that_takes_nothing_is_an_error_before_training(gate: Gate, answer: str, code: str) -> None:
    gate.answer, gate.code = answer, code
    with opened(ADDRESS, "run", keep=2) as checkpoints, pytest.raises(FxnormError) as caught:
        checkpoints.fetch()
    assert str(caught.value).startswith(f"{ADDRESS}/run/.owner: cannot be written (")
    assert code in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "answer, code", [("403 Forbidden", "AccessDenied"), ("400 Bad Request", "X"), ("501 Not Implemented", "X")]
)
def test_a_store_that_begins_to_refuse_ends_training_after_a_few_checkpoints_which_stay(
    gate: Gate, answer: str, code: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ModelError) as caught, opened(ADDRESS, "run", keep=2) as checkpoints:
        checkpoints.fetch()
        checkpoints.save(5, {"step": 5})
        gate.answer, gate.code = answer, code
        for step in (6, 7):
            checkpoints.save(step, {"step": step})
        checkpoints.save(8, {"step": 8})
    folder = checkpoints.folder
    assert "has refused 3 checkpoints in a row; training ends" in str(caught.value)
    assert str(folder) in str(caught.value) and str(folder) in caplog.text
    assert [path.name for path in sorted(folder.glob("*.pt"))] == ["step-000000007.pt", "step-000000008.pt"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("train: ")]
    assert len(lines) == 3, "said each time"
    assert all("NOTHING IS KEPT SINCE STEP 5: 0.0 hours of work are lost" in line for line in lines)


def test_a_store_that_is_away_for_a_while_gets_all_when_it_is_back(
    gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    with opened(ADDRESS, "run", keep=2) as checkpoints:
        checkpoints.fetch()
        gate.answer, gate.code = "503 Service Unavailable", "SlowDown"
        for step in range(1, 6):
            checkpoints.save(step, {"step": step})
        assert capsys.readouterr().out.count("NOTHING IS KEPT SINCE STEP 0") == 5
        gate.answer = None
        checkpoints.publish()
        assert "has all checkpoints again" in capsys.readouterr().out
    assert not checkpoints.folder.exists()
    assert stored() == [".owner", "step-000000004.pt", "step-000000005.pt"]


@pytest.mark.parametrize("ended", [False, True])
def test_a_run_that_was_replaced_ends_and_leaves_the_newer_ones_checkpoints(gate: Gate, ended: bool) -> None:
    with pytest.raises(ModelError) as caught, opened(ADDRESS, "run", keep=2) as first:
        first.fetch()
        first.save(1, {"step": 1})
        with opened(ADDRESS, "run", keep=2) as second:
            second.fetch()
            for step in (2, 3):
                second.save(step, {"step": step})
            if ended:
                second.release()
            first.save(2, {"step": "another"})
    assert str(caught.value).startswith(f"{ADDRESS}/run: these checkpoints were taken over by ")
    with opened(ADDRESS, "run", keep=2) as third:
        third.fetch()
        assert third.newest() == {"step": 3}
    assert isinstance(first, StoredCheckpoints)
    first.release()
    assert ".owner" in stored(), "only one's own name is taken away"

"""Objects of an S3 store; its address and credentials are boto3's own: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` …"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fxnorm.errors import DatasetError, FxnormError, SettingsError, StoreError, printable

SCHEME = "s3://"

_CONNECT_SECONDS = 10
_READ_SECONDS = 60
_ATTEMPTS = 3
_RANGE_CONNECT_SECONDS = 5
_RANGE_READ_SECONDS = 20  # without a byte
_CHANGED = "was changed: it is not the object that was stored; publish its song again"
_SHOWN = 200  # characters of an address in an error
_CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")
_RETRIABLE = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
"""Statuses of a store after which a later attempt may succeed, beside its own failures (500 and higher)."""


def is_address(text: str) -> bool:
    """Whether ``text`` names something in an S3 store."""
    return text.startswith(SCHEME)


def split(address: str) -> tuple[str, str]:
    """Bucket and key of ``s3://bucket/key``.

    Raises:
        SettingsError: it has no bucket or no key.
    """
    bucket, _, key = address.removeprefix(SCHEME).partition("/")
    if not is_address(address) or not bucket or not key.strip("/"):
        raise SettingsError(f"{address}: expected s3://BUCKET/KEY")
    return bucket, key.strip("/")


def read(address: str, most_bytes: int | None = None) -> bytes:
    """The content of an object; of one larger than ``most_bytes`` nothing is read.

    Raises:
        FxnormError: there is no such object, it may not be read, or it is larger.
        StoreError: the store does not answer or does not know the credentials, after a few attempts.
    """
    bucket, key = split(address)
    shown = printable(address, _SHOWN)
    with _as_user_error(shown, "read"):
        response = _client().get_object(Bucket=bucket, Key=key)
        with contextlib.closing(response["Body"]) as body:
            if most_bytes is not None and response["ContentLength"] > most_bytes:
                raise FxnormError(f"{shown}: {response['ContentLength']} bytes, expected at most {most_bytes}")
            return bytes(body.read(most_bytes))


def ranging_client(connections: int) -> Any:
    """A client for :func:`read_range`, whose caller asks again where it fails.

    Args:
        connections: that threads use at one time.
    """
    return _client(
        connect_timeout=_RANGE_CONNECT_SECONDS,
        read_timeout=_RANGE_READ_SECONDS,
        retries={"mode": "standard", "max_attempts": 1},
        max_pool_connections=connections,
    )


def read_range(client: Any, address: str, start: int, length: int, size: int, tag: str) -> bytes:
    """A stretch of an object, which has to be the one that was stored.

    Args:
        client: of :func:`ranging_client`.
        address: of the object.
        start: of the stretch, in bytes.
        length: likewise.
        size: of the whole object, in bytes.
        tag: the store's mark of its content.

    Raises:
        DatasetError: there is no such object, or it is another by now.
        StoreError: the store does not answer, fails, breaks off, or refuses.
    """
    from botocore.exceptions import ClientError

    bucket, key = split(address)
    stretch = f"bytes={start}-{start + length - 1}"
    try:
        with _as_user_error(address, "read"):
            try:
                response = client.get_object(Bucket=bucket, Key=key, Range=stretch, IfMatch=tag)
            except ClientError as error:
                status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
                if status in (HTTPStatus.PRECONDITION_FAILED, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
                    raise DatasetError(f"{address}: {_CHANGED}") from error
                raise
            with contextlib.closing(response["Body"]) as body:
                content = bytes(body.read())
    except (StoreError, DatasetError):
        raise
    except FxnormError as error:
        if _is_missing(error.__cause__):
            raise DatasetError(f"{error}; publish its song again") from error
        raise
    # of a store that knows no conditions
    total = str(response.get("ContentRange", "")).rpartition("/")[2]
    if str(response.get("ETag", tag)) != tag or (total.isdecimal() and int(total) != size):
        raise DatasetError(f"{address}: {_CHANGED}")
    if len(content) != length:
        raise StoreError(f"{address}: cannot be read ({len(content)} of {length} bytes came)")
    return content


def send_required_checksums_only() -> None:
    """Have this process's clients of S3 stores, also those of MLflow and DVC, send checksums where S3 requires them.

    By default they send them everywhere since 2025, in headers and trailers that other stores refuse (older
    MinIO, Ceph and others). A user's own choice, in the environment or AWS's configuration file, stays.
    """
    import botocore.session
    from botocore.exceptions import BotoCoreError

    try:
        configured = botocore.session.Session().get_scoped_config()
    except BotoCoreError:  # a profile that does not exist, which the client reports
        configured = {}
    for name in _CHECKSUMS:
        if name not in configured:
            os.environ.setdefault(f"AWS_{name.upper()}", "when_required")


def _client(**options: Any) -> Any:
    # boto3 costs a third of a second to import
    import boto3
    from botocore.config import Config

    send_required_checksums_only()
    retries = {"mode": "standard", "max_attempts": _ATTEMPTS}
    usual = {"connect_timeout": _CONNECT_SECONDS, "read_timeout": _READ_SECONDS, "retries": retries}
    return boto3.client("s3", config=Config(**(usual | options)))


@contextlib.contextmanager
def _as_user_error(name: str, action: str) -> Iterator[None]:
    from boto3.exceptions import Boto3Error, S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError, OSError) as error:
        text = f"{name}: cannot be {action} ({' '.join(str(error).split())})"
        if isinstance(error, ClientError) and _is_about_object(error.response):
            raise FxnormError(text) from error
        failure = StoreError(text)
        answer = error.__context__ if isinstance(error, S3UploadFailedError) else error
        failure.refused = isinstance(answer, ClientError) and _is_refusal(answer.response)
        raise failure from error


def _is_refusal(response: dict[str, Any]) -> bool:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", HTTPStatus.INTERNAL_SERVER_ERROR)
    return status == HTTPStatus.NOT_IMPLEMENTED or (
        HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in _RETRIABLE
    )


def _is_about_object(response: dict[str, Any]) -> bool:
    """Whether a store's error is about the object; status 403 may also mean that it knows no such access key."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status == HTTPStatus.NOT_FOUND or (
        status == HTTPStatus.FORBIDDEN and response.get("Error", {}).get("Code") == "AccessDenied"
    )


def _is_missing(error: BaseException | None) -> bool:
    response = getattr(error, "response", {})
    return bool(response.get("ResponseMetadata", {}).get("HTTPStatusCode") == HTTPStatus.NOT_FOUND)


@contextlib.contextmanager
def _none_if_missing() -> Iterator[None]:
    """Leave the block where an object is not there; whatever else goes wrong is raised."""
    try:
        yield
    except StoreError:
        raise
    except FxnormError as error:
        if not _is_missing(error.__cause__):
            raise


@dataclass(frozen=True)
class Stored:
    """An object below a folder of a store.

    Attributes:
        name: its key without that of the folder.
        size: bytes.
        tag: the store's own mark of its content (ETag).
    """

    name: str
    size: int
    tag: str


def _name_of(stored: Stored) -> str:
    return stored.name


class Folder:
    """All objects whose keys begin with that of ``address``, as files of one folder without folders in it.

    Raises:
        FxnormError: from every method when the store does not answer or refuses, after a few attempts; as :func:`read`.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._bucket, key = split(self.address)
        self._prefix = f"{key}/"
        with _as_user_error(self.address, "reached"):
            self._client = _client()

    def names(self) -> list[str]:
        """Sorted names of what lies in the folder itself."""
        with _as_user_error(self.address, "listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"
            )
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        # some tools make an empty object of the folder itself
        return sorted(key.removeprefix(self._prefix) for key in keys if key != self._prefix)

    def below(self) -> list[Stored]:
        """All objects below the folder, in folders of their own too, by name."""
        with _as_user_error(self.address, "listed"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            found = [
                Stored(item["Key"].removeprefix(self._prefix), int(item["Size"]), str(item.get("ETag", "")))
                for page in pages
                for item in page.get("Contents", [])
            ]
        return sorted((stored for stored in found if not stored.name.endswith("/") and stored.name), key=_name_of)

    def read(self, name: str, most_bytes: int | None = None) -> bytes | None:
        """The content of a small object, of at most so many bytes if that is said; None if it is not there."""
        with _none_if_missing():
            return read(f"{self.address}/{name}", most_bytes)
        return None

    def tag(self, name: str) -> str | None:
        """The store's mark of an object's content; None if it is not there."""
        with _none_if_missing(), _as_user_error(f"{self.address}/{name}", "read"):
            return str(self._client.head_object(Bucket=self._bucket, Key=self._prefix + name).get("ETag", ""))
        return None

    def stored(self, name: str) -> Stored | None:
        """Size and mark of an object; None if it is not there."""
        with _none_if_missing(), _as_user_error(f"{self.address}/{name}", "read"):
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            return Stored(name, int(head["ContentLength"]), str(head.get("ETag", "")))
        return None

    def write(self, name: str, content: bytes) -> None:
        """Write an object's content."""
        with _as_user_error(f"{self.address}/{name}", "written"):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content)

    def download(self, name: str, path: Path) -> None:
        """Write an object's content to ``path``."""
        with _as_user_error(f"{self.address}/{name}", "read"):
            self._client.download_file(self._bucket, self._prefix + name, str(path))

    def upload(self, path: Path, name: str) -> None:
        """Write a file's content to an object; it is there when it is whole."""
        with _as_user_error(f"{self.address}/{name}", "written"):
            self._client.upload_file(str(path), self._bucket, self._prefix + name)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with _as_user_error(f"{self.address}/{name}", "removed"):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

"""The connection to Kubeflow Pipelines: kfp's own client, with bounded waiting, no files, and errors of one line.

Left to itself, ``kfp.Client`` waits without end for a server that does not answer, takes a web page for an empty answer
and keeps a namespace and cookies in the home folder, which the next command would then depend on.
"""

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp
import kfp_server_api
import urllib3
from kfp.client import TokenCredentialsBase
from kfp_server_api.rest import RESTClientObject, RESTResponse

from fxnorm.errors import FxnormError, SettingsError

TOKEN_VARIABLE = "KFP_TOKEN"
"""Environment variable with the token, for want of a file."""

_TIMEOUT_SECONDS = (10, 60)  # to connect, to answer
_SERVER_ERRORS = 500
_TOO_MANY_REQUESTS = 429


class ServerError(FxnormError):
    """The server refused a request, or is not one of Kubeflow Pipelines."""


class UnavailableError(ServerError):
    """The server gave no answer this time; it may the next time."""


@dataclass(frozen=True)
class Connection:
    """Where Kubeflow Pipelines is, and as whom to speak to it."""

    host: str
    """Address of the user interface or of the API, ``http://…`` or ``https://…``."""
    namespace: str | None = None
    """The user's, where Kubeflow has several users; else None."""
    token_file: Path | None = None
    """Holds a bearer token, read anew for each request, because tokens expire and are written anew."""
    cookie_file: Path | None = None
    """Holds the ``Cookie`` header of a logged-in session: ``NAME=VALUE``."""
    certificate_file: Path | None = None
    """Certificates (PEM) to trust instead of the well-known ones."""

    def open(self) -> kfp.Client:
        """A client, after a request that shows whether the server is one of Kubeflow Pipelines.

        Raises:
            SettingsError: the address is none, a file cannot be read, or the namespace does not fit the server.
            ServerError: the server cannot be reached, refuses, or is something else.
        """
        try:
            address = urlsplit(self.host)
        except ValueError as error:
            raise SettingsError(f"--host {self.host}: not an address ({error})") from error
        if address.username or address.password:
            raise SettingsError("--host: no passwords or tokens in addresses; --token-file takes one")
        if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
            raise SettingsError(
                f"--host {self.host}: expected an address such as https://kubeflow.example.org/pipeline"
            )
        if self.certificate_file and not self.certificate_file.is_file():
            raise SettingsError(f"--ca-file {self.certificate_file}: no such file")
        client = _Client(self)
        several_users = bool(client.get_kfp_healthz().multi_user)
        if several_users and not client.get_user_namespace():
            raise SettingsError(f"--namespace: {self.host} has several users and expects the namespace of one")
        if self.namespace and not several_users:
            raise SettingsError(f"--namespace {self.namespace}: {self.host} has no namespaces of users; leave it out")
        return client


class _Client(kfp.Client):
    """kfp's client that leaves the home folder alone and sends its requests through :class:`_Rest`.

    Read in kfp 2.17.0 and kfp-server-api 2.17.3: the constructor of kfp.Client sets ``_healthz_api``,
    ``_existing_config`` and (with ``_load_context_setting_or_default``) ``_context_setting``, and may call
    ``get_kfp_healthz``. If these change, submitting a run fails or uses a namespace that an earlier command left in the
    home folder; tests/test_private_interfaces.py fails then.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        cookie = connection.cookie_file and _read_secret("--cookie-file", connection.cookie_file)
        token_file = connection.token_file
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="This client only works with", category=FutureWarning)
            super().__init__(
                host=connection.host,
                existing_token=None if token_file else os.environ.get(TOKEN_VARIABLE, "").strip() or None,
                credentials=_TokenFile(token_file) if token_file else None,
                cookies=cookie,
                ssl_ca_cert=str(connection.certificate_file) if connection.certificate_file else None,
            )

    def get_kfp_healthz(self, sleep_duration: int = 0) -> kfp_server_api.V2beta1GetHealthzResponse:
        """One request instead of kfp's five attempts; it is the first request of all, also in kfp's own constructor."""
        self._healthz_api.api_client.rest_client = _Rest(self._existing_config, self._connection.host)
        return self._healthz_api.healthz_service_get_healthz()

    def set_user_namespace(self, namespace: str) -> None:
        """As kfp's, but for this client only."""
        self._context_setting["namespace"] = namespace

    def _load_context_setting_or_default(self) -> None:
        self._context_setting = {"namespace": self._connection.namespace or ""}


class _TokenFile(TokenCredentialsBase):
    """kfp reads the token from it before each request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read()

    def _read(self) -> str:
        return _read_secret("--token-file", self._path)

    def refresh_api_key_hook(self, config: kfp_server_api.Configuration) -> None:
        config.api_key["authorization"] = self._read()


class _Rest(RESTClientObject):
    """HTTP that waits a bounded time, tries once, follows no redirection, and takes JSON objects only."""

    def __init__(self, configuration: kfp_server_api.Configuration, host: str) -> None:
        # a redirection leads to a login page; Retry-After would make urllib3 sleep for as long as the server likes
        configuration.retries = urllib3.Retry(0, raise_on_redirect=False, respect_retry_after_header=False)
        super().__init__(configuration)
        self._host = host

    def request(self, method: str, url: str, *arguments: Any, **options: Any) -> RESTResponse:
        options["_request_timeout"] = _TIMEOUT_SECONDS
        try:
            response = super().request(method, url, *arguments, **options)
        except kfp_server_api.ApiException as error:
            raise self._explain(error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(f"{self._host}: cannot be reached ({_reason(error)})") from error
        if not isinstance(_json(response.data), dict):
            raise ServerError(
                f"{self._host}: answers, but not as Kubeflow Pipelines does: another address, or a login is needed "
                f"(--token-file, --cookie-file)"
            )
        return response

    def _explain(self, error: kfp_server_api.ApiException) -> ServerError:
        status, reason = error.status, f"{error.status} {error.reason}"
        content = _json(error.body)
        message = content.get("message") or content.get("error") if isinstance(content, dict) else None
        if message:
            reason += f": {' '.join(str(message).split())}"
        if status in (401, 403):
            return ServerError(f"{self._host}: refuses this token or cookie, or wants one ({reason})")
        if 300 <= status < 400:
            target = urlsplit((error.headers or {}).get("Location", ""))
            target_address = f"{target.scheme}://{target.netloc}{target.path}" if target.netloc else target.path
            return ServerError(
                f"{self._host}: leads elsewhere, to {target_address}: a login (--token-file, --cookie-file)?"
            )
        if status == 404 and not message:
            return ServerError(f"{self._host}: is not an address of Kubeflow Pipelines ({reason})")
        error_type = UnavailableError if status >= _SERVER_ERRORS or status == _TOO_MANY_REQUESTS else ServerError
        return error_type(f"{self._host}: {reason}")


def _json(body: bytes | str | None) -> Any:
    """What a body holds; None if it is not JSON."""
    try:
        return json.loads(body or b"")
    except ValueError:
        return None


def _reason(error: BaseException) -> str:
    """The innermost reason in one line, without the object that urllib3 puts before it."""
    while isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason is not None:
        error = error.reason
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split("): ")[-1]


def _read_secret(option: str, path: Path) -> str:
    """A token or cookie, which must be one line; no error contains it."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{option} {path}: cannot be read ({reason})") from error
    if not secret or not secret.isprintable() or not secret.isascii():
        raise SettingsError(f"{option} {path}: expected one line of ASCII characters")
    return secret

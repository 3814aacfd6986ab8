"""The last task on a cluster: tell a chat how a run ended and where its report is, through a webhook.

The message is what Slack's incoming webhooks take (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks),
and Mattermost's, Rocket.Chat's and Discord's (below ``/slack``) with them. The webhook's address is a secret: whoever
has it can write there, so no message and no error shows it.
"""

import logging
import os
import time
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import urllib3

from fxnorm.errors import FxnormError, printable
from fxnorm.tracking import kubeflow_runs

VARIABLE = "FXNORM_WEBHOOK"
"""Environment variable with the webhook's address."""

_ATTEMPTS = 4
_SECONDS = 10.0
_PAUSE_SECONDS = 1.0  # before the second attempt; three and seven times as long before the next
_MOST_SHOWN = 500  # characters of an error
_ENDED = {"SUCCEEDED": "has ended well", "FAILED": "failed", "CANCELLED": "was cancelled"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """How a run of a pipeline ended.

    Attributes:
        pipeline: its name.
        run: its id.
        state: as Kubeflow has it: ``SUCCEEDED``, ``FAILED`` or ``CANCELLED``.
        error: why it failed; empty where that is not known.
    """

    pipeline: str
    run: str
    state: str
    error: str = ""


def run(ending: Ending, kubeflow: str, mlflow: str) -> None:
    """Send the message to the address in the environment. What goes wrong is logged: a run that ended well did so.

    Args:
        ending: how the run ended.
        kubeflow: address of Kubeflow's pages, for the link to the run; empty for none.
        mlflow: address of MLflow's pages, for the link to the report; empty for none.
    """
    address = os.environ.get(VARIABLE, "")
    if not address:
        _log.warning("announce: %s is not set, so nobody is told; it is a key of the secret fxnorm-webhook", VARIABLE)
        return
    try:
        evaluated = kubeflow_runs.evaluated_by(ending.run)
    except FxnormError as error:
        _log.warning("announce: %s; the message is sent without the report", error)
        evaluated = None
    try:
        send(address, message(ending, evaluated, kubeflow, mlflow))
    except FxnormError as error:
        _log.warning("announce: %s", error)


def message(ending: Ending, evaluated: kubeflow_runs.Evaluated | None, kubeflow: str, mlflow: str) -> str:
    """The text, in Slack's markup.

    Args:
        ending: how the run ended.
        evaluated: the MLflow run with its evaluation, if there is one.
        kubeflow: address of Kubeflow's pages, or empty.
        mlflow: address of MLflow's pages, or empty.
    """
    named = _link(f"{kubeflow.rstrip('/')}/#/runs/details/{ending.run}" if kubeflow else "", f"run {ending.run}")
    error = f": {_escaped(printable(ending.error, _MOST_SHOWN))}" if ending.error else ""
    lines = [f"*{_escaped(ending.pipeline)}*: {named} {_ENDED.get(ending.state, _escaped(ending.state))}{error}"]
    if evaluated is not None:
        page = f"{mlflow.rstrip('/')}/{evaluated.address}" if mlflow else ""
        lines += [f"Report: {_link(page, evaluated.name)}", _escaped(evaluated.verdicts)]
    return "\n".join(line for line in lines if line)


def send(address: str, text: str) -> None:
    """Post a message to a webhook, again if it does not answer.

    Raises:
        FxnormError: the address is none, or nobody there took the message. The text names the host alone.
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise FxnormError(f"{VARIABLE}: expected the https:// address of a webhook, found another text")
    reason = ""
    for attempt in range(_ATTEMPTS):  # urllib3's own attempts are logged with the address
        time.sleep(_PAUSE_SECONDS * (2**attempt - 1))
        try:
            with urllib3.PoolManager(timeout=_SECONDS, retries=False) as pool:
                status = pool.request("POST", address, json={"text": text}).status
        except (urllib3.exceptions.HTTPError, ValueError) as error:  # whose texts hold the address
            reason = type(error).__name__
            continue
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return
        reason = f"status {status}"
        if status != HTTPStatus.TOO_MANY_REQUESTS and status < HTTPStatus.INTERNAL_SERVER_ERROR:
            break
    raise FxnormError(f"{host}: the webhook did not take the message ({reason})")


def _link(address: str, text: str) -> str:
    return f"<{address}|{_escaped(text)}>" if address else _escaped(text)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

"""The client of a served model: stems go there, a mix and the report on it come back."""

import base64
import binascii
import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fxnorm.constants import SAMPLE_RATE
from fxnorm.errors import FxnormError
from fxnorm.io import audio, object_store
from fxnorm.mixing.options import MixOptions

TIMEOUT_SECONDS = 600.0
TOKEN_VARIABLE = "FXNORM_TOKEN"
"""Environment variable with the token of an endpoint that asks for one."""

_SHOWN = 200  # characters of an answer that is not the model's


@dataclass(frozen=True)
class ServedMix:
    """What an endpoint answers for one song.

    Attributes:
        content: the bytes of an audio file.
        report: the answer's other columns: ``sample_rate``, ``seconds`` and the fields of
            :class:`fxnorm.mixing.report.MixReport`.
    """

    content: bytes
    report: dict[str, Any]

    def sentence(self) -> str:
        """Level and time of the mix, in a few words."""
        level = self.report.get("loudness_lufs")
        loudness = "silent" if level is None else f"{level:.1f} LUFS"
        return f"{loudness}, mixed in {self.report.get('seconds', 0.0):.1f} s"


def request_mix(
    endpoint: str,
    stems: Mapping[str, str | Path | bytes],
    options: MixOptions,
    timeout: float = TIMEOUT_SECONDS,
    reference: str | Path | None = None,
) -> ServedMix:
    """Have an endpoint mix ``stems``; the token in ``FXNORM_TOKEN``, if there is one, is sent along.

    Args:
        endpoint: the server's address, such as ``http://127.0.0.1:5001``.
        stems: audio files by stem, or their bytes, which are sent, or ``s3://`` addresses, which the server reads; any
            may be missing.
        options: of the mix.
        timeout: seconds to wait for the answer.
        reference: the file, or the ``s3://`` address, of a song that the mix is brought to.

    Raises:
        FxnormError: a file cannot be read, the server cannot be reached, or it refuses the stems.
    """
    url = f"{endpoint.rstrip('/')}/invocations"
    if not url.startswith(("http://", "https://")):
        raise FxnormError(f"{endpoint}: expected an address that begins with http:// or https://")
    files = stems if reference is None else {**stems, "reference": reference}
    content = {"dataframe_records": [_row(files)], "params": options.model_dump(exclude_none=True)}
    request = urllib.request.Request(url, json.dumps(content).encode("ascii"), {"Content-Type": "application/json"})
    if token := os.environ.get(TOKEN_VARIABLE, "").strip():
        if not token.isascii() or not token.isprintable():
            raise FxnormError(f"{TOKEN_VARIABLE}: expected a token of ASCII letters, digits and signs")
        # not to be sent on to where an answer redirects to
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            report = dict(json.load(answer)["predictions"][0])
        return ServedMix(base64.b64decode(report.pop("mix")), report)
    except urllib.error.HTTPError as error:
        raise FxnormError(f"{endpoint}: {error.code}: {_message(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise FxnormError(f"{endpoint}: no answer ({getattr(error, 'reason', error)})") from error
    except (ValueError, KeyError, IndexError, TypeError, binascii.Error) as error:
        raise FxnormError(f"{endpoint}: not the answer of a served Mixer") from error


def files_of(stems: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    """Stems (1 or 2 channels, samples) at 44.1 kHz as the bytes of files: FLAC, or float WAV above full scale."""
    suffixes = {stem: ".wav" if audio.peak_dbfs(samples) > 0 else ".flac" for stem, samples in stems.items()}
    return {stem: audio.encode(samples, SAMPLE_RATE, suffixes[stem]) for stem, samples in stems.items()}


def _row(stems: Mapping[str, str | Path | bytes]) -> dict[str, str]:
    row = {}
    for stem, source in stems.items():
        if isinstance(source, bytes):
            row[stem] = base64.b64encode(source).decode("ascii")
            continue
        if object_store.is_address(str(source)):
            row[f"{stem}_uri"] = str(source)
            continue
        try:
            row[stem] = base64.b64encode(Path(source).read_bytes()).decode("ascii")
        except OSError as error:
            raise FxnormError(f"{source}: cannot be read ({error.strerror})") from error
    return row


def _message(error: urllib.error.HTTPError) -> str:
    """The server's error message, in one line."""
    try:
        body = error.read()
    except (OSError, http.client.HTTPException) as broken:  # the connection ended within the message
        return f"{error.reason} (the rest did not arrive: {broken})"
    try:
        return " ".join(str(json.loads(body)["message"]).split())
    except (ValueError, KeyError, TypeError):
        return " ".join(body.decode("utf-8", "replace").split())[:_SHOWN]

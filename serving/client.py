"""Post stems to a served Mixer and write the mix it answers with."""

import argparse
import base64
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from fxnorm.constants import STEMS
from fxnorm.errors import FxnormError
from fxnorm.files import whole_file

_TIMEOUT_SECONDS = 600.0


def request_mix(endpoint: str, stems: dict[str, Path], timeout: float = _TIMEOUT_SECONDS) -> bytes:
    """The mix of ``stems`` as the bytes of a FLAC file.

    Args:
        endpoint: the server's address, such as ``http://127.0.0.1:5001``.
        stems: audio files by stem; any stem may be missing.
        timeout: seconds to wait for the answer.

    Raises:
        FxnormError: a file cannot be read, the server cannot be reached, or it refuses the stems.
    """
    try:
        row = {stem: base64.b64encode(path.read_bytes()).decode("ascii") for stem, path in stems.items()}
    except OSError as error:
        raise FxnormError(f"{error.filename}: cannot be read ({error.strerror})") from error
    body = json.dumps({"dataframe_records": [row]}).encode("utf-8")
    headers = {"Content-Type": "application/json"}
    url = f"{endpoint.rstrip('/')}/invocations"
    if not url.startswith(("http://", "https://")):
        raise FxnormError(f"{endpoint}: expected an address that begins with http:// or https://")
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=timeout) as answer:
            prediction = json.load(answer)["predictions"][0]
    except urllib.error.HTTPError as error:
        raise FxnormError(f"{endpoint}: {error.code}: {_message(error.read())}") from error
    except (urllib.error.URLError, TimeoutError) as error:
        raise FxnormError(f"{endpoint}: no answer ({getattr(error, 'reason', error)})") from error
    return base64.b64decode(prediction["mix"])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint", help="the server's address, such as http://127.0.0.1:5001")
    for stem in STEMS:
        parser.add_argument(f"--{stem}", type=Path, metavar="FILE", help=f"the {stem} stem, WAV, FLAC or MP3")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the mix, a .flac file")
    arguments = parser.parse_args()
    stems = {stem: path for stem in STEMS if (path := getattr(arguments, stem)) is not None}
    try:
        mix = request_mix(arguments.endpoint, stems)
    except FxnormError as error:
        print(f"serving.client: {error}", file=sys.stderr)
        return 1
    with whole_file(arguments.output) as temporary:
        temporary.write_bytes(mix)
    return 0


def _message(body: bytes) -> str:
    """What the server said, in one line."""
    try:
        return str(json.loads(body)["message"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return " ".join(body.decode("utf-8", "replace").split())[:200]


if __name__ == "__main__":
    sys.exit(main())

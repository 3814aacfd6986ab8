"""Bearer tokens: who may mix, where a file lists them.

The file has the SHA-256 of each token and not the token, so that whoever reads it gets in nowhere. A token is a long
random text; for a password, which can be guessed, such a hash would be too quick to compute.
"""

import hashlib
import hmac
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from fxnorm.errors import SettingsError, system_reason

_LINE = re.compile(r"([\w.@-]{1,100}):([0-9a-fA-F]{64})")
_LARGEST_FILE = 1_000_000  # bytes
_SECONDS_BETWEEN_LOOKS = 1.0

_logger = logging.getLogger("uvicorn.error")  # the one whose lines the server shows


class Tokens:
    """The tokens of a file, which may change.

    Args:
        path: of the file: ``NAME:SHA256`` a line; empty lines and those that begin with ``#`` are left out.
        failed: called for each change of the file that cannot be read; the tokens stay as they were then.

    Raises:
        SettingsError: the file cannot be read, or holds no tokens.
    """

    def __init__(self, path: Path, failed: Callable[[], None]) -> None:
        self._path = path
        self._failed = failed
        self._state = self._seen()
        self._digests = self._read()
        self._looked = time.monotonic()

    def allow(self, authorization: bytes) -> bool:
        """Whether the content of an ``Authorization`` header has one of the tokens.

        Each of them is compared, in a time that does not depend on where they differ.
        """
        self._follow()
        scheme, _, token = authorization.partition(b" ")
        given = hashlib.sha256(token.strip()).digest()
        found = [hmac.compare_digest(given, digest) for digest in self._digests]
        return scheme.lower() == b"bearer" and any(found)

    def _follow(self) -> None:
        if time.monotonic() - self._looked < _SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        state = self._seen()
        if state == self._state:
            return
        self._state = state
        try:
            self._digests = self._read()
        except SettingsError as error:
            self._failed()
            _logger.error("%s; the tokens stay as they were", error)
        else:
            _logger.info("%s: %d tokens now", self._path, len(self._digests))

    def _seen(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:  # said where it is read
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> list[bytes]:
        try:
            with open(self._path, encoding="utf-8") as file:
                text = file.read(_LARGEST_FILE)
        except OSError as error:
            raise SettingsError(f"FXNORM_TOKENS_FILE={self._path}: cannot be read ({system_reason(error)})") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"FXNORM_TOKENS_FILE={self._path}: expected text in UTF-8") from error
        digests = []
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            match = _LINE.fullmatch(line.strip())
            if match is None:  # not shown: it may be a token
                raise SettingsError(
                    f"FXNORM_TOKENS_FILE={self._path}: line {number}: expected NAME:SHA256, the hash in 64 digits"
                )
            digests.append(bytes.fromhex(match[2]))
        if not digests:
            raise SettingsError(f"FXNORM_TOKENS_FILE={self._path}: expected at least one token, found none")
        return digests

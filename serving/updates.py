"""Taking another version of the model while the server runs: on demand, or when the model's alias has moved.

The new Mixer is loaded beside the old one, mixes a few seconds of noise, and takes over between two requests. One that
cannot leaves the old one where it is.
"""

import logging
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from fxnorm.errors import FxnormError
from fxnorm.io.files import whole_file
from fxnorm.mixing.mixer import Mixer
from fxnorm.serving.metrics import Metrics, Outcome
from fxnorm.serving.versions import OtherCodeError, Served, downloaded, newest

_REQUEST_FILE = "reload"
"""Its content is the version that a worker was asked to take; the others take it too."""
_SECONDS_BETWEEN_LOOKS = 1.0  # at that file
_STATUSES: dict[Outcome, int] = {"taken": 200, "same": 200, "refused": 409, "failed": 502}

_logger = logging.getLogger("uvicorn.error")  # the one whose lines the server shows


class Model(Protocol):
    """What mixes."""

    @property
    def served(self) -> Served:
        """What mixes now."""

    def take(self, served: Served) -> None:
        """Have another version mix from now on."""


class Updates:
    """Takes the version that an alias names.

    Args:
        address: ``models:/NAME@ALIAS``.
        model: that mixes.
        mixing: the one thread in which networks run.
        metrics: count what came of it.
        shared: the folder of this server's workers, if there are several.
    """

    def __init__(
        self, address: str, model: Model, mixing: ThreadPoolExecutor, metrics: Metrics | None, shared: Path | None
    ) -> None:
        self._address = address
        self._model = model
        self._mixing = mixing
        self._metrics = metrics
        self._request_file = None if shared is None else shared / _REQUEST_FILE
        self._one_at_a_time = threading.Lock()
        self._declined: set[str] = set()
        self._last_said = ""
        self._ended = threading.Event()

    def begin(self, seconds: float) -> None:
        """Look for another version every so many seconds, or never for 0, in a thread of its own."""
        if seconds:
            threading.Thread(target=self._watch, args=(seconds,), name="updates", daemon=True).start()
        if self._request_file is not None:
            threading.Thread(target=self._follow, args=(self._request_file,), name="reloads", daemon=True).start()

    def end(self) -> None:
        """Look no more."""
        self._ended.set()

    def reload(self) -> tuple[int, dict[str, Any]]:
        """Take the version that the alias names now; a status, and what came of it."""
        outcome, said = self._update(anew=True)
        if outcome == "taken" and self._request_file is not None:
            with whole_file(self._request_file) as temporary:
                temporary.write_text(self._model.served.origin.version)
        return _STATUSES[outcome], {"outcome": outcome, "version": self._model.served.origin.version, "message": said}

    def _watch(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            self._update()

    def _follow(self, file: Path) -> None:
        """Take what another worker was asked to take, also before this one began."""
        taken = ""
        while not self._ended.wait(_SECONDS_BETWEEN_LOOKS):
            asked = file.read_text() if file.is_file() else ""
            if asked not in (taken, self._model.served.origin.version):
                self._update(anew=True)
            taken = asked

    def _update(self, anew: bool = False) -> tuple[Outcome, str]:
        """Take the newest version, unless it is the one that mixes, or was declined before and is not asked for anew.

        Returns:
            the outcome, and a sentence.
        """
        with self._one_at_a_time:
            before = self._model.served.origin
            try:
                number = newest(self._address)
                if number == before.version or (number in self._declined and not anew):
                    return self._count("same", f"version {before.version} goes on mixing")
                with tempfile.TemporaryDirectory(prefix="fxnorm-version-") as name:
                    self._take(downloaded(self._address, number, before.code, Path(name)), number)
            except OtherCodeError as error:
                self._declined.add(number)
                return self._decline("refused", str(error))
            except FxnormError as error:
                return self._decline("failed", str(error))
            except Exception as error:  # a defect must not end the thread
                _logger.exception("%s: another version could not be taken", self._address)
                return self._decline("failed", f"{self._address}: {type(error).__name__}")
            self._declined.clear()
            said = f"{self._address}: version {number} mixes from now on, in place of {before.version}"
            _logger.info("%s", said)
            self._last_said = ""
            return self._count("taken", said)

    def _take(self, mixer: Path, number: str) -> None:
        try:
            loaded = self._mixing.submit(Mixer.load, mixer).result()
            self._model.take(Served(loaded, replace(self._model.served.origin, version=number)))
        except FxnormError as error:
            self._declined.add(number)
            raise FxnormError(f"{self._address}: version {number} cannot mix: {error}") from error

    def _decline(self, outcome: Outcome, reason: str) -> tuple[Outcome, str]:
        said = f"{reason}; version {self._model.served.origin.version} goes on mixing"
        if said != self._last_said:  # of a registry that is away for hours one line is enough
            _logger.error("%s", said)
        self._last_said = said
        return self._count(outcome, said)

    def _count(self, outcome: Outcome, said: str) -> tuple[Outcome, str]:
        if self._metrics is not None:
            self._metrics.reloads.labels(outcome).inc()
        return outcome, said

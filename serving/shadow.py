"""Another model in the shadow of the one that answers: it mixes some of the songs again, and the two are compared.

That happens after the answer has gone and while no request is in the server. As soon as one arrives the work is given
up, and begun again later. What is found goes to the metrics and, now and then, to the other version's tags in the
registry.
"""

import logging
import os
import random
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np

from fxnorm.constants import MIXTURE, SAMPLE_RATE
from fxnorm.errors import FxnormError
from fxnorm.io import audio
from fxnorm.mixing.mixer import Mixer, refuse_damaged
from fxnorm.mixing.options import MixOptions
from fxnorm.mixing.reference import Reference, delivered_mix
from fxnorm.monitoring.tally import Tally
from fxnorm.serving.metrics import Metrics, ShadowOutcome
from fxnorm.serving.versions import Origin, downloaded, newest, split
from fxnorm.serving.watch import Activity
from fxnorm.serving.watching import Watching
from fxnorm.statistics import DatasetStatistics
from fxnorm.tracking.errors import as_user_error, registry_server

TAG = "shadow.tally"
"""Of the other version: what was found, as JSON of :class:`fxnorm.monitoring.tally.Tally` by version of the first."""

_MOST_SONGS = 4
_MOST_ATTEMPTS = 20
_IDLE_SECONDS = 2.0
"""Without a request before the work begins: a client that sends one song after another is not disturbed."""
_LOOK_SECONDS = 0.2
_SECONDS_BETWEEN_LOOKS = 300.0  # at the registry, for another version
_SECONDS_BETWEEN_REPORTS = 600.0  # to the registry
_MIX, _OTHER = "served", "shadow"

_logger = logging.getLogger("uvicorn.error")  # the one whose lines the server shows


@dataclass(frozen=True)
class ShadowSong:
    """A song that was mixed.

    Attributes:
        stems: (1 or 2 channels, samples) at 44.1 kHz by name.
        mix: as it was delivered.
        options: of the mix.
        reference: that it was brought to.
        statistics: of the training songs of the model that mixed it.
        version: of that model.
    """

    stems: Mapping[str, np.ndarray]
    mix: np.ndarray
    options: MixOptions
    reference: Reference | None
    statistics: DatasetStatistics
    version: str

    @property
    def size(self) -> int:
        """Bytes of memory."""
        return self.mix.nbytes + sum(stem.nbytes for stem in self.stems.values())


class _DisturbedError(FxnormError):
    """A request arrived."""


class Shadow:
    """The other model, and the songs that wait for it.

    Args:
        watching: which model, and how much.
        origin: of the model that answers.
        mixing: the one thread in which networks run.
        activity: of the server.
        metrics: that count.
    """

    def __init__(
        self,
        watching: Watching,
        origin: Origin,
        mixing: ThreadPoolExecutor,
        activity: Activity,
        metrics: Metrics | None,
    ) -> None:
        assert watching.shadow is not None
        self._address = watching.shadow
        self._share = watching.shadow_share
        self._most_bytes = watching.shadow_bytes
        self._code = origin.code
        self._mixing = mixing
        self._activity = activity
        self._metrics = metrics
        self._changed = threading.Condition()
        self._songs: deque[ShadowSong] = deque()
        self._held_bytes = 0  # also of the song that is being compared
        self._ended = False
        self._loaded: tuple[Mixer, str] | None = None
        self._looked = self._reported = -float("inf")
        self._unsent: dict[str, Tally] = {}
        self._last_said = ""

    def begin(self) -> None:
        """Wait for songs, in a thread of its own."""
        threading.Thread(target=self._work, name="shadow", daemon=True).start()

    def end(self) -> None:
        """Give up."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def offer(self, song: Callable[[], ShadowSong]) -> None:
        """Choose a song or not; costs nothing but its memory until the work begins."""
        if random.random() >= self._share:
            return
        chosen = song()
        with self._changed:
            if chosen.size > self._most_bytes:
                self._count("large")
            elif len(self._songs) >= _MOST_SONGS or self._held_bytes + chosen.size > self._most_bytes:
                self._count("full")
            else:
                self._songs.append(chosen)
                self._held_bytes += chosen.size
                self._changed.notify()

    def _count(self, outcome: ShadowOutcome) -> None:
        if self._metrics is not None:
            self._metrics.shadow_songs.labels(outcome).inc()

    def _work(self) -> None:
        if sys.platform == "linux":  # of this thread alone; elsewhere it would be the whole process
            os.nice(19)
        while True:
            with self._changed:
                while not self._songs and not self._ended:
                    self._changed.wait()
                if self._ended:
                    return
                song = self._songs.popleft()
            try:
                self._count(self._outcome(song))
            finally:
                with self._changed:
                    self._held_bytes -= song.size
                del song
            self._report()

    def _outcome(self, song: ShadowSong) -> ShadowOutcome:
        for _ in range(_MOST_ATTEMPTS):
            while not self._activity.is_idle(_IDLE_SECONDS):
                if self._ended:
                    return "postponed"
                time.sleep(_LOOK_SECONDS)
            try:
                other = self._other()
                if other is None:
                    return "failed"
                self._compare(song, other[0])
                return "compared"
            except _DisturbedError:
                continue
            except FxnormError as error:
                self._say(f"{self._address}: a song was not compared: {error}")
                return "failed"
            except Exception:  # a defect must not end the thread
                _logger.exception("%s: a song was not compared", self._address)
                return "failed"
        return "postponed"

    def _say(self, sentence: str) -> None:
        if sentence != self._last_said:
            _logger.warning("%s", sentence)
        self._last_said = sentence

    def _compare(self, song: ShadowSong, mixer: Mixer) -> None:
        from fxnorm.evaluation import reference_free

        keeping = mixer.keeping(song.options.keep)
        # as Mixer.mix; but normalized here, at this thread's low priority, and by the network where all networks run
        seed = keeping.seed_of(song.options.seed, song.options.song)
        normalized = keeping.normalize(song.stems, bool(song.options.dry), seed, self._go_on)
        mixed = self._mixing.submit(keeping.mix_normalized, normalized, self._go_on).result()
        del normalized
        refuse_damaged(mixed)
        options = song.options.model_copy(update={"sample_rate": SAMPLE_RATE})
        other = delivered_mix(np.clip(mixed, -1.0, 1.0), options, mixer.recipe.statistics, song.reference).audio
        served = audio.resample(song.mix, song.options.sample_rate, SAMPLE_RATE)
        described: list[reference_free.Description] = []
        for mix in (served, other):
            self._go_on()
            described += reference_free.describe({"mix": mix}, song.stems, SAMPLE_RATE, song.statistics).values()
        self._note(Tally.of(described[0], described[1], _averages(song.statistics)), song.version)

    def _go_on(self, _done: float = 0.0) -> None:
        if self._ended or not self._activity.is_idle():
            raise _DisturbedError("a request arrived")

    def _other(self) -> tuple[Mixer, str] | None:
        """The other model, as new as a few minutes ago; None as long as there is none."""
        if time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            try:
                self._load()
            except FxnormError as error:
                self._say(str(error))
        return self._loaded

    def _load(self) -> None:
        number = newest(self._address)
        if self._loaded is not None and self._loaded[1] == number:
            return
        self._report(now=True)  # what was found of the version before
        with tempfile.TemporaryDirectory(prefix="fxnorm-shadow-") as name:
            folder = downloaded(self._address, number, self._code, Path(name))
            self._loaded = self._mixing.submit(Mixer.load, folder).result(), number
        _logger.info("%s: version %s mixes %g of all songs again", self._address, number, self._share)

    def _note(self, tally: Tally, version: str) -> None:
        self._unsent[version] = self._unsent.get(version, Tally()).merged(tally)
        if self._metrics is None:
            return
        for measure, found in tally.measures.items():
            self._metrics.shadow_difference.labels(measure).observe(found.total)
            self._metrics.shadow_squares.labels(measure).inc(found.squares)
            for model, nearer in ((_OTHER, found.other_nearer), (_MIX, found.nearer)):
                self._metrics.shadow_nearer.labels(measure, model).inc(nearer)

    def _report(self, now: bool = False) -> None:
        """Add what was found to the other version's tag in the registry, if the last time is long ago."""
        if not self._unsent or self._loaded is None:
            return
        if not now and time.monotonic() - self._reported < _SECONDS_BETWEEN_REPORTS:
            return
        self._reported = time.monotonic()
        (name, _, _), version = split(self._address), self._loaded[1]
        try:
            with as_user_error(f"{self._address}: the registry at {registry_server()} does not take the comparison"):
                client = mlflow.MlflowClient()
                before = Tally.by_version(client.get_model_version(name, version).tags.get(TAG))
                together = {key: before.get(key, Tally()) for key in {*before, *self._unsent}}
                together |= {key: together[key].merged(found) for key, found in self._unsent.items()}
                client.set_model_version_tag(name, version, TAG, Tally.as_text(together))
        except FxnormError as error:
            self._say(str(error))  # it stays, for the next time
        else:
            self._unsent = {}


def _averages(statistics: DatasetStatistics) -> dict[str, float]:
    """Measures of a mix whose average over the training mixtures is known; a balance is the distance from it."""
    known = {"spectral_balance_db": 0.0}
    if ("loudness", MIXTURE) in statistics:
        known["integrated_loudness_lufs"] = float(statistics.mean("loudness", MIXTURE))
    return known

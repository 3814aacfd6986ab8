"""What ``GET /metrics`` shows: counters of this server's requests and the distributions of what it was asked for.

Labels have few values, all known from the start, so that a hostile client cannot make a monitor's store grow.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fxnorm.constants import STEMS
from fxnorm.errors import FxnormError
from fxnorm.monitoring.records import PHASES, STATUSES, LoggedRequest, drift_keys
from fxnorm.serving.workers import is_alive

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.metrics_core import GaugeMetricFamily

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000)
_DRIFT = (0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 16)
"""Upper ends of buckets. Beyond 4 a warning is given."""
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own variable
_MEASURES = (
    "integrated_loudness_lufs", "loudness_range_lu", "true_peak_dbtp", "side_to_middle_db", "spectral_balance_db",
    *(f"masked_{stem}" for stem in STEMS),
)  # fmt: skip
"""Of :func:`fxnorm.evaluation.reference_free.describe`."""
Outcome = Literal["taken", "same", "refused", "failed"]
"""Of a look for another version: it mixes now, there is none, it has other code, it cannot be had or cannot mix."""
ShadowOutcome = Literal["compared", "large", "full", "postponed", "failed"]
"""Of a song for the other model: too large, too many wait, requests came again and again, or it could not be mixed."""


class Metrics:
    """The metrics of this process, or of all workers of this server together.

    Args:
        shared: the folder that the workers share; None for a single process.

    Raises:
        FxnormError: the values of several processes cannot be shared any more.
    """

    def __init__(self, shared: Path | None = None) -> None:
        if shared is not None:
            os.environ[_MULTIPROCESS] = str(shared)  # prometheus-client reads it when it is imported
        import prometheus_client
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, values

        if shared is not None and values.ValueClass is values.MutexValue:
            raise FxnormError(
                f"prometheus-client was imported before {_MULTIPROCESS} was set, and counts one process only"
            )
        prometheus_client.disable_created_metrics()
        self._shared = shared
        own = CollectorRegistry()
        if shared is None:
            own.register(_Memory(lambda: [str(os.getpid())]))
        self._registry = own
        self.requests = Counter(
            "fxnorm_requests", "Requests for mixes that were answered.", ("status", "reason"), registry=own
        )
        self._seconds = Histogram(
            "fxnorm_request_seconds", "Seconds from a request's arrival to its answer.", buckets=_SECONDS, registry=own
        )
        self._phases = Histogram(
            "fxnorm_phase_seconds", "Seconds of a mixed request by phase.", ("phase",), buckets=_SECONDS, registry=own
        )
        self._songs = Counter("fxnorm_songs", "Songs that were mixed.", registry=own)
        self._audio = Counter("fxnorm_audio_seconds", "Seconds of songs that were mixed.", registry=own)
        self._drift = Histogram(
            "fxnorm_drift",
            "Distance of stems from the training songs' average, in units of their spread, without its sign.",
            ("effect", "stem"),
            buckets=_DRIFT,
            registry=own,
        )
        self.waiting = Gauge(
            "fxnorm_requests_waiting", "Requests that wait for their turn.", multiprocess_mode="livesum", registry=own
        )
        self.in_progress = Gauge(
            "fxnorm_songs_in_progress",
            "Songs that are decoded, mixed or encoded.",
            multiprocess_mode="livesum",
            registry=own,
        )
        self._serving = Gauge(
            "fxnorm_serving",
            "Server processes that mix with this version of the model and this code.",
            ("version", "code"),
            multiprocess_mode="livesum",
            registry=own,
        )
        self.log_failures = Counter(
            "fxnorm_request_log_failures", "Requests that could not be written to the request log.", registry=own
        )
        self.tokens_failures = Counter(
            "fxnorm_tokens_file_failures", "Changes of the file of tokens that could not be read.", registry=own
        )
        self.reloads = Counter(
            "fxnorm_reloads", "Looks at the registry for another version.", ("outcome",), registry=own
        )
        self.shadow_songs = Counter(
            "fxnorm_shadow_songs", "Songs that were chosen for the other model.", ("outcome",), registry=own
        )
        self.shadow_difference = Summary(
            "fxnorm_shadow_difference", "The other model's mix less this one's, by measure.", ("measure",), registry=own
        )
        self.shadow_squares = Gauge(
            "fxnorm_shadow_difference_squares",
            "Sum of the squares of these differences.",
            ("measure",),
            multiprocess_mode="sum",
            registry=own,
        )
        self.shadow_nearer = Counter(
            "fxnorm_shadow_nearer",
            "Songs whose mix lay nearer to the training mixtures' average, by measure and model.",
            ("measure", "model"),
            registry=own,
        )
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """A rate of what has happened once for the first time is seen only if it was 0 before."""
        for reason, status in STATUSES.items():
            self.requests.labels(str(status), reason)
        for phase in PHASES:
            self._phases.labels(phase)
        for effect, stem in drift_keys():
            self._drift.labels(effect, stem)
        for outcome in get_args(Outcome):
            self.reloads.labels(outcome)
        for outcome in get_args(ShadowOutcome):
            self.shadow_songs.labels(outcome)
        for measure in _MEASURES:
            self.shadow_difference.labels(measure)
            self.shadow_squares.labels(measure)

    def serves(self, version: str, code: str, before: str | None = None) -> None:
        """Say which version mixes from now on, in place of which."""
        if before is not None:
            self._serving.labels(before, code).set(0)
        self._serving.labels(version, code).set(1)

    def count(self, request: LoggedRequest) -> None:
        """Count a request that was answered."""
        self.requests.labels(str(request.status), request.reason).inc()
        self._seconds.observe(request.seconds)
        if not request.songs:
            return
        for phase, seconds in request.phases.items():
            self._phases.labels(phase).observe(seconds)
        for song in request.songs:
            self._songs.inc()
            self._audio.inc(song.seconds)
            for effect, by_stem in song.drift.items():
                for stem, value in by_stem.items():
                    if value is not None:
                        self._drift.labels(effect, stem).observe(abs(value))

    @contextlib.contextmanager
    def mixing(self) -> Iterator[None]:
        """A song is in progress within the block."""
        self.in_progress.inc()
        try:
            yield
        finally:
            self.in_progress.dec()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry if self._shared is None else self._together(self._shared))

    @staticmethod
    def _together(shared: Path) -> "CollectorRegistry":
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

        workers = sorted({file.stem.rpartition("_")[2] for file in shared.glob("gauge_live*.db")})
        for worker in workers:
            if not is_alive(worker):
                mark_process_dead(int(worker), str(shared))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(shared))
        registry.register(_Memory(lambda: [worker for worker in workers if is_alive(worker)]))
        return registry


class _Memory:
    """Resident memory of processes; on Linux, which alone tells it without further packages."""

    def __init__(self, processes: Callable[[], list[str]]) -> None:
        self._processes = processes

    def collect(self) -> "Iterator[GaugeMetricFamily]":
        from prometheus_client.metrics_core import GaugeMetricFamily

        family = GaugeMetricFamily("fxnorm_memory_bytes", "Resident memory of a server's process.", labels=("process",))
        for process in self._processes():
            with contextlib.suppress(OSError):  # another system, or it has ended
                pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
                family.add_metric((process,), pages * os.sysconf("SC_PAGE_SIZE"))
        yield family

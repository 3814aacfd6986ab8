"""What the machine did while a run went on: processor, memory, disk, network and GPUs, measured by MLflow's monitors.

MLflow's own thread requests the run from the server at every sample, ends for good when it gets no answer, and whoever
stops it waits until then. This one sends nothing: its values go into the queue of the run's other metrics.
"""

import threading
from collections.abc import Callable, Mapping

from mlflow import environment_variables as variables
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

PREFIX = "system/"
"""MLflow's pages show metrics of this name as system metrics."""

_SECONDS = 10.0

Note = Callable[[int, Mapping[str, float]], None]
"""Takes the number of the sample and the values."""


def enabled() -> bool:
    """Whether they are not switched off by MLflow's own variable, ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING``."""
    variable = variables.MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING
    return bool(variable.get()) if variable.is_set() else True


class SystemMetrics:
    """A thread that measures every ten seconds (``MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL``) until it is stopped.

    Args:
        note: gets a sample's values; is called from the thread and must not keep it waiting.
        first_sample: the number of the first sample: where an earlier part of the run ended.
    """

    def __init__(self, note: Note, first_sample: int = 0) -> None:
        self._note = note
        self._sample = first_sample
        self._seconds = float(variables.MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or _SECONDS)
        self._monitors = _monitors()
        self._measure_all()  # the processor's first value is of no time at all
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="system metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample, so that a short run has one too, and end."""
        self._over.set()
        self._thread.join()
        self._measure()

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            self._measure()

    def _measure(self) -> None:
        self._note(self._sample, {f"{PREFIX}{name}": value for name, value in self._measure_all().items()})
        self._sample += 1

    def _measure_all(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        return values


def _monitors() -> list[BaseMetricsMonitor]:
    monitors = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        return [*monitors, GPUMonitor()]
    except (ImportError, RuntimeError):  # the library of NVIDIA's driver, or the device, is not there
        return monitors

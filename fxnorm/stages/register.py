"""Stage 5: the quality gate, then the MLflow registry."""

from pathlib import Path

from fxnorm import registry, tracking
from fxnorm.errors import DatasetError
from fxnorm.files import write_json
from fxnorm.mixer import Mixer
from fxnorm.settings import RegisterSettings, Settings
from fxnorm.stages.evaluate import METRICS_FILE, Metrics, read_metrics

REGISTRATION_FILE = "registration.json"


def run(settings: Settings, mixer_folder: Path, report: Path) -> dict[str, str]:
    """Register a Mixer: as ``@champion`` if it passes the gate, as ``@challenger`` with the reason if not.

    Args:
        settings: of all stages; the gate is the section ``register``.
        mixer_folder: what stage 3 wrote.
        report: what stage 4 wrote; ``registration.json`` is added to it.

    Returns:
        name, version, alias and reason, as they stand in ``registration.json``.
    """
    gate, metrics_file = settings.register_, report / METRICS_FILE
    metrics = read_metrics(report)
    system = str(Mixer.load(mixer_folder).network.config["name"])
    with tracking.run_of(mixer_folder, "registration") as run:
        alias, reason = _decide(gate, metrics, system, metrics_file, run)
        version = registry.register(mixer_folder, gate.name, run.run_id, alias, reason)
        decision = {"name": gate.name, "version": version, "alias": alias, "reason": reason}
        write_json(report / REGISTRATION_FILE, decision)
        run.set_tags({f"registration.{key}": value for key, value in decision.items()} | settings.flat("register"))
        run.add_file(report / REGISTRATION_FILE)
    return decision


def passes(settings: Settings, mixer_folder: Path, report: Path) -> bool:
    """Whether a Mixer is better than the baseline: worth a place in the registry, whatever the champion is like."""
    gate = settings.register_
    system = str(Mixer.load(mixer_folder).network.config["name"])
    value, baseline = _compared(gate, read_metrics(report), system, report / METRICS_FILE)
    return value < baseline - gate.margin


def _compared(gate: RegisterSettings, metrics: Metrics, system: str, source: Path) -> tuple[float, float]:
    """The metric of the network and of the baseline."""
    return (
        _look_up(metrics, gate.split, system, gate.metric, source),
        _look_up(metrics, gate.split, gate.baseline, gate.metric, source),
    )


def _decide(
    gate: RegisterSettings, metrics: Metrics, system: str, source: Path, run: tracking.TrackedRun
) -> tuple[str, str]:
    """The alias a candidate deserves, and why."""
    name = f"{gate.split}.{gate.metric}"
    value, baseline = _compared(gate, metrics, system, source)
    against = f"{system} {value:.3f}, {gate.baseline} {baseline:.3f}"
    if not value < baseline - gate.margin:
        return registry.CHALLENGER, f"not better than the baseline in {name}: {against}"
    tags = {key: tag for key, tag in run.tags().items() if key.startswith("test_data.")}
    champion = registry.champion_metric(gate.name, gate.split, gate.metric, tags)
    if champion is None:
        return registry.CHAMPION, f"passes the gate in {name}: {against}"
    version, best = champion
    against += f", champion (version {version}) {best:.3f}"
    if not value < best - gate.margin:
        return registry.CHALLENGER, f"not better than the champion in {name}: {against}"
    return registry.CHAMPION, f"passes the gate in {name}: {against}"


def _look_up(metrics: Metrics, split: str, system: str, metric: str, file: Path) -> float:
    try:
        return metrics[split][system][metric]
    except KeyError as error:
        raise DatasetError(f"{file}: expected {split}.{system}.{metric}, found no {error.args[0]!r}") from error

"""Stage 5: the quality gate, then the MLflow registry."""

import json
from pathlib import Path

from fxnorm import registry, tracking
from fxnorm.errors import DatasetError
from fxnorm.files import write_json
from fxnorm.mixer import Mixer
from fxnorm.settings import RegisterSettings, Settings
from fxnorm.stages.evaluate import METRICS_FILE

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
    gate = settings.register_
    metrics_file = report / METRICS_FILE
    if not metrics_file.is_file():
        raise DatasetError(f"{metrics_file}: no such file; 'fxnorm evaluate' writes it")
    metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
    system = str(Mixer.load(mixer_folder).network.config["name"])
    with tracking.run_of(mixer_folder, "registration") as run:
        alias, reason = _decide(gate, metrics, system, metrics_file, run)
        version = registry.register(mixer_folder, gate.name, run.run_id, alias, reason)
        decision = {"name": gate.name, "version": version, "alias": alias, "reason": reason}
        write_json(report / REGISTRATION_FILE, decision)
        run.set_tags({f"registration.{key}": value for key, value in decision.items()} | settings.flat("register"))
        run.add_file(report / REGISTRATION_FILE)
    return decision


def _decide(
    gate: RegisterSettings,
    metrics: dict[str, dict[str, dict[str, float]]],
    system: str,
    source: Path,
    run: tracking.TrackedRun,
) -> tuple[str, str]:
    """The alias a candidate deserves, and why."""
    name = f"{gate.split}.{gate.metric}"
    value = _look_up(metrics, gate.split, system, gate.metric, source)
    baseline = _look_up(metrics, gate.split, gate.baseline, gate.metric, source)
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


def _look_up(
    metrics: dict[str, dict[str, dict[str, float]]], split: str, system: str, metric: str, file: Path
) -> float:
    try:
        return metrics[split][system][metric]
    except KeyError as error:
        raise DatasetError(f"{file}: expected {split}.{system}.{metric}, found no {error.args[0]!r}") from error

"""What an endpoint's ``/metrics`` says, read by Prometheus' own client."""

import json
from pathlib import Path

import requests
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.waiting import PATIENCE


def families(endpoint: str, **options: object) -> dict[str, Metric]:
    """By name, of a scrape with requests' options."""
    answer = requests.get(f"{endpoint}/metrics", timeout=PATIENCE, **options)  # type: ignore[arg-type]
    answer.raise_for_status()
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return parsed(answer.text)


def parsed(text: str) -> dict[str, Metric]:
    """Families by name."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def value_of(found: dict[str, Metric], name: str, **labels: str) -> float:
    """The sum of the samples of a name that have these labels."""
    return sum(
        sample.value
        for family in found.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def dashboard_queries(monitoring: Path) -> list[str]:
    """The queries of the dashboard in the folder ``deploy/monitoring``."""
    dashboard = json.loads((monitoring / "grafana/dashboards/endpoint.json").read_text(encoding="utf-8"))
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]

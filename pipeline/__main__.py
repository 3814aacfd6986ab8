"""``python -m pipeline compile | run``: write the pipeline's YAML, or run it here."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fxnorm.errors import FxnormError
from pipeline.cluster import Cluster
from pipeline.parameters import Parameters

COMPILED = Path(__file__).with_name("pipeline.yaml")
"""The pipeline for a cluster with the default settings."""

_FILE = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """The five stages as a Kubeflow pipeline."""


_cluster = click.option("--cluster", type=_FILE, help="Image, training node, secrets, retries (YAML); else defaults.")


def _with_parameters(command: Callable[..., Any]) -> Callable[..., Any]:
    add_set = click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="A pipeline parameter.")
    add_file = click.option("--parameters", "parameter_file", type=_FILE, help="Pipeline parameters (YAML).")
    return add_file(add_set(command))


@main.command("compile")
@click.option("--output", type=_FILE, default=COMPILED, help="The file to write.")
@_cluster
def compile_(output: Path, cluster: Path | None) -> None:
    """Write the pipeline as the YAML that Kubeflow takes."""
    from pipeline import graph

    graph.compile_to(output, Cluster.load(cluster))
    click.echo(f"{output}: written")


@main.command()
@click.option("--runner", type=click.Choice(["subprocess", "docker"]), default="subprocess", show_default=True)
@click.option("--root", type=_FILE, default=Path("pipeline_runs"), show_default=True, help="Where artifacts go.")
@click.option("--environment", multiple=True, metavar="NAME", help="Environment variable to pass on to containers.")
@click.option("--cache", is_flag=True, help="Do not do again what was done before with the same inputs.")
@_cluster
@_with_parameters
def run(
    runner: str,
    root: Path,
    environment: tuple[str, ...],
    cache: bool,
    cluster: Path | None,
    parameter_file: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Run the pipeline on this machine, each task in a process or a container of its own."""
    from pipeline import local

    parameters = Parameters.load(parameter_file, overrides)
    local.run(Cluster.load(cluster), parameters, root, runner == "docker", environment, cache)


def _main() -> None:
    try:
        main()
    except FxnormError as error:
        click.echo(f"pipeline: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    _main()

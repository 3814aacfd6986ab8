"""``fxnorm pipeline``: write the pipeline's YAML, run it here, or start it on a cluster."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fxnorm.pipeline.parameters import BatchParameters, Parameters, SearchParameters

_FILE = click.Path(path_type=Path)
_NAMES = ("training", "batch", "search")  # of fxnorm.pipeline.graph, which takes seconds to import


@click.group()
def pipeline() -> None:
    """The five stages as a Kubeflow pipeline, one that mixes many sessions, and one that searches for settings."""


_cluster = click.option("--cluster", type=_FILE, help="Image, training node, secrets, retries (YAML); else defaults.")


def _with_parameters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add --parameters, --params and --set; the command gets ``parameters``, checked."""

    @functools.wraps(command)
    def with_parameters(
        name: str, parameter_file: Path | None, params: Path | None, overrides: tuple[str, ...], **arguments: Any
    ) -> None:
        from fxnorm.pipeline.parameters import BatchParameters, Parameters, SearchParameters

        kinds = {kind.pipeline: kind for kind in (Parameters, BatchParameters, SearchParameters)}
        kind: type[Parameters | BatchParameters | SearchParameters] = kinds[name]
        published = _published(arguments.get("experiment"))
        command(parameters=kind.load(parameter_file, overrides, params, published), **arguments)

    for add in reversed((
        click.option("--pipeline", "name", type=click.Choice(_NAMES), default=_NAMES[0], show_default=True,
                     help="The five stages, the mixes of many sessions, or a search for settings."),
        click.option("--parameters", "parameter_file", type=_FILE, help="Pipeline parameters (YAML)."),
        click.option("--params", type=_FILE, help="Settings of the stages (params.yaml), where these are not given."),
        click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="A pipeline parameter."),
    )):  # fmt: skip
        with_parameters = add(with_parameters)
    return with_parameters


def _published(experiment: str | None) -> str | None:
    """The experiment, if it is a published one; says what that brings."""
    from fxnorm.pipeline import experiments

    if experiment is None or not experiments.is_published(experiment):
        return None
    brings = experiments.parameters(experiment)
    first = f", pre-training of configs/{experiments.PRETRAINING}.yaml" if "pretraining" in brings else ""
    click.echo(f"experiment {experiment}: settings of configs/{experiment}.yaml{first}, where no others are given")
    return experiment


@pipeline.command("compile")
@click.option("--pipeline", "name", type=click.Choice((*_NAMES, "pretraining")),
              help="Only this one; pretraining is the training with a task for the front-end before it.")  # fmt: skip
@click.option("--output", type=_FILE, help="The file to write; default: pipeline/pipeline.yaml, batch.yaml, …")
@_cluster
def compile_(name: str | None, output: Path | None, cluster: Path | None) -> None:
    """Write the pipelines as the YAML that Kubeflow takes: all to their places, or one to a file."""
    from fxnorm.io import outputs
    from fxnorm.pipeline import graph
    from fxnorm.pipeline.cluster import Cluster

    chosen = [name or _NAMES[0]] if name is not None or output is not None else list(graph.PIPELINES)
    written = {one: output or graph.PIPELINES[one].file for one in chosen}
    outputs.check([cluster], files=written.values())
    settings = Cluster.load(cluster)
    for one, file in written.items():
        graph.compile_to(file, settings, one)
        click.echo(f"{file}: written")


@pipeline.command()
@click.option("--runner", type=click.Choice(["subprocess", "docker"]), default="subprocess", show_default=True)
@click.option("--root", type=_FILE, default=Path("pipeline_runs"), show_default=True, help="Where artifacts go.")
@click.option("--environment", multiple=True, metavar="NAME", help="Environment variable to pass on to containers.")
@click.option("--cache", is_flag=True, help="Do not do again what was done before with the same inputs.")
@click.option("--experiment", help="A published one (a name in configs/), for what is not given.")
@_cluster
@_with_parameters
def run(
    experiment: str | None,
    runner: str,
    root: Path,
    environment: tuple[str, ...],
    cache: bool,
    cluster: Path | None,
    parameters: "Parameters | BatchParameters | SearchParameters",
) -> None:
    """Run the pipeline on this machine, each task in a process or a container of its own."""
    from fxnorm.pipeline import experiments, local
    from fxnorm.pipeline.cluster import Cluster

    if experiment is not None and not experiments.is_published(experiment):
        experiments.parameters(experiment)  # says which there are
    settings = Cluster.load(cluster)
    parameters.check_on(settings)

    local.run(settings, parameters, root, runner == "docker", environment, cache)


@pipeline.command()
@click.option("--json", "json_file", type=_FILE, help="Write the numbers into this file, too.")
@_cluster
@_with_parameters
def estimate(
    json_file: Path | None, cluster: Path | None, parameters: "Parameters | BatchParameters | SearchParameters"
) -> None:
    """Show what a run of the five stages takes: songs, bytes that are moved, hours, memory and disk of each task.

    Songs are those of DVC's list of files; 24 of them are looked at. Hours of training are known where MLflow has an
    earlier training of the same network.
    """
    from fxnorm.errors import SettingsError
    from fxnorm.io import outputs
    from fxnorm.io.files import write_json
    from fxnorm.pipeline.cluster import Cluster
    from fxnorm.pipeline.parameters import Parameters

    if not isinstance(parameters, Parameters):
        raise SettingsError("--pipeline: expected training, whose tasks are estimated")
    outputs.check([cluster], files=[json_file])
    settings = Cluster.load(cluster)
    parameters.check_on(settings)
    from fxnorm.pipeline import estimate as estimates
    from fxnorm.stages import fetch

    commit = fetch.resolve(parameters.repository, parameters.revision)
    listing = fetch.list_songs(parameters.repository, commit, parameters.path, parameters.remote)
    found = estimates.estimate(listing, parameters, settings)
    click.echo(f"{parameters.path} at {commit[:10]}: {found.text()}")
    if json_file is not None:
        write_json(json_file, found.as_json())


def _with_connection(command: Callable[..., Any]) -> Callable[..., Any]:
    for add in reversed((
        click.option("--host", required=True, envvar="KF_PIPELINES_ENDPOINT", show_envvar=True,
                     help="Address of Kubeflow Pipelines: its user interface, or its API."),
        click.option("--namespace", help="Your namespace, where Kubeflow has several users."),
        click.option("--token-file", type=_FILE, help="File with a bearer token; or have it in KFP_TOKEN."),
        click.option("--cookie-file", type=_FILE, help="File with a session's cookie, NAME=VALUE."),
        click.option("--ca-file", "certificate_file", type=_FILE, help="Certificates to trust (PEM)."),
    )):  # fmt: skip
        command = add(command)
    return command


@pipeline.command()
@_with_connection
@click.option(
    "--experiment",
    default="fxnorm",
    show_default=True,
    help="Made if it is not there. The name of a published one (in configs/) brings what is not given.",
)
@click.option("--run-name", help="Default: the pipeline's name and the time.")
@click.option("--service-account", help="Kubernetes service account of the tasks.")
@click.option("--no-cache", is_flag=True, help="Do again what was done before with the same inputs.")
@click.option("--schedule", metavar="CRON", help="Run at each of these times: six fields, seconds first; in UTC.")
@click.option("--max-concurrency", type=click.IntRange(1, 10), default=1, show_default=True, help="Of a schedule.")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Show what happens until a run ends.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Longest wait; the run goes on.")
@click.option("--poll", type=click.FloatRange(min=0.01), default=10.0, show_default=True, metavar="SECONDS")
@_cluster
@_with_parameters
def submit(
    experiment: str,
    run_name: str | None,
    service_account: str | None,
    no_cache: bool,
    schedule: str | None,
    max_concurrency: int,
    wait: bool,
    timeout: float | None,
    poll: float,
    cluster: Path | None,
    parameters: "Parameters | BatchParameters | SearchParameters",
    **connection: Any,
) -> None:
    """Start the pipeline on a cluster, once or by a schedule; exit status 0 when the run that was waited for succeeds.

    Ctrl-C while waiting leaves the run as it is.
    """
    from fxnorm.pipeline.cluster import Cluster

    settings = Cluster.load(cluster)
    parameters.check_on(settings)
    from fxnorm.pipeline import remote
    from fxnorm.pipeline.client import Connection

    job = remote.Job(settings, parameters, experiment, run_name, service_account, cache=not no_cache)
    server = Connection(**connection)
    if schedule is not None:
        remote.schedule(server, job, schedule, max_concurrency, click.echo)
    else:
        remote.start(server, job, remote.Patience(poll, timeout) if wait else None, click.echo)

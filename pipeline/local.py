"""The pipeline on this machine, by Kubeflow's own local runners."""

import hashlib
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException
from kfp import local
from kfp.local import docker_task_handler

from fxnorm.errors import FxnormError, SettingsError, first_line
from fxnorm.io import outputs
from fxnorm.pipeline import graph
from fxnorm.pipeline.cluster import Cluster, Retries
from fxnorm.pipeline.parameters import BatchParameters, Parameters, SearchParameters

_SHARED_MEMORY = "1g"
_NONE = Retries(training=0, others=0)  # this machine is not taken away, and an error should be seen at once


def run(
    cluster: Cluster,
    parameters: Parameters | BatchParameters | SearchParameters,
    root: Path,
    containers: bool,
    environment: Iterable[str],
    cache: bool,
) -> None:
    """Run all tasks.

    Args:
        cluster: its image is what containers are made of; the rest is for clusters.
        parameters: of the pipeline.
        root: where artifacts go.
        containers: each task in a container, as this user and on this machine's network; else in a subprocess.
        environment: names of variables that containers are given; MLFLOW_TRACKING_URI must be among them.
        cache: take over results of earlier runs in ``root``.

    Raises:
        FxnormError: a task failed, after its own messages; or a variable is not set.
    """
    runner: local.DockerRunner | local.SubprocessRunner = local.SubprocessRunner(use_venv=False)
    if containers:
        # Read in kfp 2.17.0, whose own function takes a container that is gone already for one that succeeded. If kfp
        # calls another function, such a task counts as done again; tests/test_private_interfaces.py fails then.
        docker_task_handler.run_docker_container = _run_container
        if "MLFLOW_TRACKING_URI" not in environment:
            raise SettingsError("--environment MLFLOW_TRACKING_URI: expected, as containers themselves keep nothing")
        missing = [name for name in environment if name not in os.environ]
        if missing:
            raise SettingsError(f"--environment {missing[0]}: this variable is not set")
        runner = local.DockerRunner(
            user=f"{os.getuid()}:{os.getgid()}",  # another user could not write into this one's folder
            network_mode="host",
            shm_size=_SHARED_MEMORY,
            environment={name: os.environ[name] for name in environment},
        )
    outputs.check([], places=[root])
    root.mkdir(parents=True, exist_ok=True)
    local.init(
        runner=runner,
        pipeline_root=str(root),
        raise_on_error=True,
        enable_caching=cache,
        cache_root=str(cache_folder(root)),
    )
    with warnings.catch_warnings():
        # kfp takes images without 'python' in their name for images without Python
        warnings.filterwarnings("ignore", message="You may be attemping to run a task", category=RuntimeWarning)
        # nor has this machine nodes to choose from
        warnings.filterwarnings("ignore", message="Task .* have no effect in the current local runner")
        try:
            graph.PIPELINES[parameters.graph].build(cluster.model_copy(update={"retries": _NONE}))(
                **parameters.arguments()
            )
        except DockerException as error:
            raise FxnormError(f"no container engine answers ({first_line(error)})") from error
        except RuntimeError as error:
            raise FxnormError(f"the pipeline failed: {first_line(error)}") from error


def cache_folder(root: Path) -> Path:
    """Where kfp records finished tasks: with absolute addresses, so records from before a move do not count."""
    return root / ".kfp_cache" / hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]


def _run_container(
    client: docker.DockerClient, image: str, command: list[str], volumes: dict[str, Any], **options: Any
) -> int:
    """The exit status of a command in a container, whose output is shown as it comes; nothing of it stays."""
    container = client.containers.run(image, command, volumes=volumes, detach=True, **options)
    try:
        for part in container.logs(stream=True):
            print(part.decode(errors="replace"), end="")
        return int(container.wait()["StatusCode"])
    finally:
        container.remove(force=True)

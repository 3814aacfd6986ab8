"""The whole pipeline in containers of the image that ``make image`` builds; needs a container engine.

``make test-containers`` runs this; it is no part of ``make test``, which needs no engine.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import DockerException

from fxnorm.components.stages import IMAGE
from tests.cluster import Surroundings, surroundings
from tests.project import REPOSITORY, TINY, Project

ENGINE = docker.from_env()


def in_container(*command: str) -> str:
    return ENGINE.containers.run(IMAGE, list(command), remove=True, network_mode="host").decode()


@pytest.fixture(scope="module")
def around(
    project: Project, s3_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Surroundings]:
    """What the containers talk to."""
    with surroundings(project, tmp_path_factory.mktemp("around"), s3_environment) as found:
        yield found


def run(around: Surroundings, *options: str, **parameters: Any) -> str:
    """Run the pipeline with the environment variables that say where the stores are."""
    variables = [text for name in around.environment for text in ("--environment", name)]
    return around.run("docker", *variables, *options, **parameters)


def test_a_whole_run_in_containers_registers_a_model_with_the_metrics_of_dvc_repro(around: Surroundings) -> None:
    output = run(around, "--cache")
    _, tracked = around.champion()
    expected = around.reproduced_metrics()
    assert {name: tracked.data.metrics[name] for name in expected} == expected
    assert tracked.data.tags["git.commit"] == in_container("printenv", "FXNORM_COMMIT").strip().removesuffix("-dirty")
    assert around.environment["AWS_SECRET_ACCESS_KEY"] not in output


def test_a_training_begins_with_a_front_end_that_another_task_trained(around: Surroundings) -> None:
    output = run(around, "--cache", pretraining={**TINY, "batch_size": 1})
    assert "pretrain" in output
    _, tracked = around.champion()
    assert tracked.data.params["train.initial_weights"].endswith("weights")
    assert "crafx2_lb" in in_container("python", "-c", "from fxnorm.pipeline import experiments as e; print(e.names())")


def test_a_task_that_fails_in_its_container_fails_the_pipeline(around: Surroundings) -> None:
    with pytest.raises(AssertionError, match=r"fxnorm: the pipeline failed: .*'resolve'"):
        run(around, "--set", "revision=nowhere")


def test_the_image_runs_as_nobody_in_particular_and_holds_no_build_tools() -> None:
    assert in_container("id", "-u").strip() == "10001"
    for tool in ("gcc", "make"):
        with pytest.raises(DockerException):
            in_container(tool, "--version")
    assert "pip" not in in_container("ls", "/opt/fxnorm/bin").split()


def test_the_image_names_no_place_of_the_machine_it_was_built_on_and_no_secret() -> None:
    history = str(ENGINE.images.get(IMAGE).history())
    for word in ("password", "secret", "token", "AWS_", "MLFLOW_", str(REPOSITORY), str(Path.home())):
        assert word not in history, word
    assert in_container("sh", "-c", 'grep -rl "$0" /opt/fxnorm || test $? -eq 1', str(REPOSITORY)) == ""

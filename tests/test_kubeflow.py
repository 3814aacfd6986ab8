"""The pipeline as Kubeflow gets it, and a whole run of it by Kubeflow's local runner."""

from pathlib import Path

import pytest
import yaml

from fxnorm.errors import SettingsError
from pipeline import graph
from pipeline.cluster import Cluster
from pipeline.parameters import Parameters
from tests.cluster import surroundings
from tests.project import Project

COMPILED = Path(graph.__file__).with_name("pipeline.yaml")


def test_the_compiled_pipeline_is_that_of_the_code(tmp_path: Path) -> None:
    graph.compile_to(tmp_path / "pipeline.yaml", Cluster())
    found, expected = (list(yaml.safe_load_all(path.read_text())) for path in (COMPILED, tmp_path / "pipeline.yaml"))
    assert found == expected, "stale: run 'python -m pipeline compile'"


def test_parameters_are_checked_before_anything_runs() -> None:
    given = ["repository=here", "shards=2", "settings.train.seed=1"]
    assert Parameters.load(None, given).settings == {"train": {"seed": 1}}
    for wrong, said in (("shard=3", "shard: unknown parameter"), ("settings.train.seeds=1", "did you mean 'seed'")):
        with pytest.raises(SettingsError, match=said):
            Parameters.load(None, [*given, wrong])
    with pytest.raises(SettingsError, match="repository"):
        Parameters.load(None)


def test_settings_of_a_params_file_stand_where_no_others_are_given(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    params.write_text("train: {seed: 3, batch_size: 2}\nregister: {margin: 0.5}\n")
    found = Parameters.load(None, ["repository=here", "settings.train.seed=1"], params)
    assert found.settings == {"train": {"seed": 1, "batch_size": 2}, "register": {"margin": 0.5}}
    params.write_text("trian: {}\n")
    with pytest.raises(SettingsError, match="trian"):
        Parameters.load(None, ["repository=here"], params)


def test_the_compiled_pipeline_names_no_place_and_no_secret_of_anyone() -> None:
    text = COMPILED.read_text()
    assert str(Path(graph.__file__).parents[1]) not in text
    assert str(Path.home()) not in text
    (platforms,) = [document["platforms"] for document in yaml.safe_load_all(text) if "platforms" in document]
    executors = platforms["kubernetes"]["deploymentSpec"]["executors"].values()
    environments = {
        variable["envVar"]
        for executor in executors
        for secret in executor["secretAsEnv"]
        for variable in secret["keyToEnv"]
    }
    assert {"AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"} <= environments
    assert "env:" not in text, "values of environment variables would stand here"


def test_a_whole_run_registers_a_model_with_the_metrics_of_dvc_repro(
    project: Project, s3_environment: dict[str, str], tmp_path: Path
) -> None:
    with surroundings(project, tmp_path, s3_environment) as around:
        around.run("subprocess", {"training": {"accelerators": 0}})
        version, run = around.champion()
        expected = around.reproduced_metrics()
        assert {name: run.data.metrics[name] for name in expected} == expected
        tracked = yaml.safe_load((project.folder / "data.dvc").read_text())["outs"][0]["md5"]
        assert run.data.tags["data.dvc"] == tracked
        assert run.info.status == "FINISHED"
        assert version.run_id == run.info.run_id

"""The pipeline as Kubeflow gets it."""

from pathlib import Path

import pytest
import yaml

from fxnorm.errors import SettingsError
from pipeline import graph
from pipeline.cluster import Cluster
from pipeline.parameters import Parameters

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

"""What a cluster finds: a git repository behind a server, its data in an S3 store, a tracking server."""

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from fxnorm.evaluation import results
from tests import prefork, servers
from tests.project import Project

REVISION = "v1"
_MODEL = "fxnorm-automix"


@dataclass(frozen=True)
class Surroundings:
    """Everything that the pipeline's tasks talk to."""

    folder: Path
    project: Project
    repository: str
    environment: Mapping[str, str]
    """Variables that say where the stores are, and the credentials."""

    def run(self, runner: str, *options: str, margin: float = -1.0e6, **more: object) -> str:
        """Run the whole pipeline here with the project's settings; by default every network is accepted."""
        # of one song, no test tells anything
        settings = {"register": {"margin": margin, "confidence": 0.0}}
        parameters = {"repository": self.repository, "revision": REVISION, "shards": 2, "settings": settings, **more}
        (self.folder / "parameters.yaml").write_text(yaml.safe_dump(parameters))
        (self.folder / "cluster.yaml").write_text(yaml.safe_dump({"training": {"accelerators": 0}}))
        # what Kubeflow's runner starts for its tasks starts in a moment too
        fxnorm = str(prefork.programs() / "fxnorm")
        command = [fxnorm, "pipeline", "run", "--runner", runner, "--root", "runs", *options]
        done = subprocess.run(
            [
                *command,
                *("--parameters", "parameters.yaml"),
                *("--params", str(self.project.folder / "params.yaml")),
                *("--cluster", "cluster.yaml"),
            ],
            cwd=self.folder,
            env={**self.project.environment, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def champion(self) -> tuple[ModelVersion, Run]:
        """The registered model and the run that it is from."""
        client = MlflowClient(self.environment["MLFLOW_TRACKING_URI"])
        version = client.get_model_version_by_alias(_MODEL, "champion")
        assert version.run_id is not None
        return version, client.get_run(version.run_id)

    def reproduced_metrics(self) -> dict[str, float]:
        """What ``dvc repro`` found, with the same parameters and data."""
        content = json.loads((self.project.folder / "reports" / results.METRICS_FILE).read_text())
        return results.flat(content)


@contextlib.contextmanager
def surroundings(project: Project, folder: Path, s3: Mapping[str, str]) -> Iterator[Surroundings]:
    """Publish a project: its history behind a git server, its data in the bucket ``fxnorm``."""
    clone = Project(folder / "published/project")
    clone.environment |= s3
    clone.folder.parent.mkdir(parents=True)
    project.run("git", "clone", "-q", ".", str(clone.folder))
    clone.run("dvc", "config", "--local", "cache.dir", str(project.folder / ".dvc/cache"))
    clone.run("dvc", "remote", "add", "-q", "--default", "store", "s3://fxnorm/dvc")
    clone.run("dvc", "remote", "modify", "store", "endpointurl", s3["AWS_ENDPOINT_URL"])
    clone.run("dvc", "push", "-q", "data.dvc")
    clone.commit("remote")
    clone.run("git", "tag", REVISION)
    with servers.git(clone.folder.parent, folder / "git.log") as address, servers.mlflow(folder) as tracking:
        # sums depend in their last digits on threads, and on which processor's kernels BLAS is told to take
        alike = {name: text for name, text in project.environment.items() if name.startswith(("OMP_NUM", "OPENBLAS_"))}
        environment = {**s3, "MLFLOW_TRACKING_URI": tracking, **alike}
        yield Surroundings(folder, project, f"{address}/project", environment)

"""Where the pipeline runs: image, the training's node, secrets, retries. Settings of the cluster, not of the method."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.stages import IMAGE
from fxnorm.errors import SettingsError

Count = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Toleration(_Section):
    """A taint of nodes that training may run on; as Kubernetes has it."""

    key: str | None = None
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Secret(_Section):
    """A Kubernetes secret whose keys become environment variables; secrets themselves are in no file of ours."""

    name: str
    keys: dict[str, str]
    """Key of the secret -> environment variable."""
    optional: bool = True
    """Without it: a missing secret or key keeps the task from starting."""


class Training(_Section):
    """The node that trains."""

    accelerator: str = "nvidia.com/gpu"
    accelerators: Count = 1
    """How many; with more than one, training runs in as many processes. 0 trains on the CPU."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),)
    cpu: str = "8"
    memory: str = "32Gi"
    shared_memory: str = "8Gi"
    """Of ``/dev/shm``, through which reading processes hand over crops; Kubernetes' own 64 MiB is too little."""


class Retries(_Section):
    """How often a task that failed is done again, for nodes that are taken away."""

    training: Count = 5
    """It goes on from its checkpoint, so a retry costs little; see the pipeline parameter ``checkpoints``."""
    others: Count = 2
    """Few: what fails for a reason of its own, such as a revision that is not there, fails each time."""
    backoff_seconds: Count = 60
    backoff_factor: Annotated[float, Field(ge=1)] = 2.0
    backoff_max_seconds: Count = 3600


class Cluster(_Section):
    """All of the above."""

    image: str = IMAGE
    cpu: str = "2"
    memory: str = "8Gi"
    """Of every task but the training."""
    parallel_shards: Count = 8
    """How many shards are worked on at a time; 0 is no limit."""
    training: Training = Training()
    retries: Retries = Retries()
    secrets: tuple[Secret, ...] = (
        Secret(
            name="fxnorm-s3",
            keys={
                "access_key_id": "AWS_ACCESS_KEY_ID",
                "secret_access_key": "AWS_SECRET_ACCESS_KEY",
                "endpoint_url": "AWS_ENDPOINT_URL",
                "region": "AWS_DEFAULT_REGION",
            },
        ),
        Secret(
            name="fxnorm-mlflow",
            keys={
                "tracking_uri": "MLFLOW_TRACKING_URI",
                "username": "MLFLOW_TRACKING_USERNAME",
                "password": "MLFLOW_TRACKING_PASSWORD",
            },
        ),
    )

    @classmethod
    def load(cls, path: Path | None) -> "Cluster":
        """A cluster's settings from a YAML file; the defaults without one.

        Raises:
            SettingsError: the file is missing or not YAML, a key is unknown or a value does not fit; one line.
        """
        if path is None:
            return cls()
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise SettingsError(f"{path}: {place}: {first['msg']}, found {first['input']!r}") from error

"""Where the pipeline runs: image, the training's node, secrets, retries. Settings of the cluster, not of the method."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fxnorm.components.stages import IMAGE
from fxnorm.errors import SettingsError, first_line, printable
from fxnorm.io import bounded

Count = Annotated[int, Field(ge=0)]
Cores = Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?m?$")]
"""Of a processor, as Kubernetes has it: ``4`` or ``500m``."""
Bytes = Annotated[str, Field(pattern=r"^[1-9][0-9]*([KMGTPE]i?)?$")]
"""As Kubernetes has it: ``16Gi``, ``500M``."""
TaskName = Literal[
    "resolve", "list-songs", "divide", "check", "merge-checks", "stop-at-findings", "statistics", "merge-statistics",
    "normalize", "pretrain", "train", "evaluate", "register",
    "list-sessions", "mix-sessions", "finish-mixes", "stop-at-failures",
    "begin-search", "search-trial", "collect-search", "announce",
]  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Toleration(_Section):
    """A taint of nodes that training may run on; as Kubernetes has it."""

    key: str | None = None
    """Of the taint."""
    operator: Literal["Equal", "Exists"] = "Equal"
    """Whether the taint's value has to be ``value``, or may be any."""
    value: str | None = None
    """Of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Of the taint; null for any."""


class Secret(_Section):
    """A Kubernetes secret whose keys become environment variables; secrets themselves are in no file of ours."""

    name: str
    """Of the secret."""
    keys: dict[str, str]
    """Key of the secret -> environment variable."""
    optional: bool = False
    """Whether tasks start without it; where it is not, a missing secret or key keeps them from starting."""
    tasks: tuple[TaskName, ...] = ()
    """Who gets it; all if none is named."""


class Training(_Section):
    """The node that trains."""

    accelerator: str = "nvidia.com/gpu"
    """What Kubernetes calls it."""
    accelerators: Count = 1
    """How many; with more than one, training runs in as many processes. 0 trains on the CPU."""
    node_selector: dict[str, str] = {}
    """Labels that the node must have."""
    tolerations: tuple[Toleration, ...] = (Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule"),)
    """Taints that the node may have."""
    cpu: Cores = "8"
    """Cores."""
    memory: Bytes = "32Gi"
    """Memory, at most."""
    shared_memory: Bytes = "8Gi"
    """Of ``/dev/shm``, through which reading processes hand over crops; Kubernetes' own 64 MiB is too little."""


class Retries(_Section):
    """How often a task that failed is done again, for nodes that are taken away, and for how long at most.

    Kubeflow counts the time from a task's first beginning, and ends what is running when it is over.
    """

    training: Count = 5
    """It goes on from its checkpoint, so a retry costs little; see the pipeline parameter ``checkpoints``."""
    training_days: Annotated[int, Field(gt=0)] = 60
    """Longest time, retries included."""
    others: Count = 2
    """Few: what fails for a reason of its own, such as a revision that is not there, fails each time."""
    others_days: Annotated[int, Field(gt=0)] = 7
    """Longest time, retries included."""
    pause_seconds: Count = 60
    """Before each retry."""


class Announce(_Section):
    """A last task that tells a chat how a run ended, through the webhook of the secret ``fxnorm-webhook``."""

    kubeflow: str = ""
    """Address of Kubeflow's pages, for the link to the run; none if empty."""
    mlflow: str = ""
    """Address of MLflow's pages, for the link to the report; none if empty."""


class Cluster(_Section):
    """All of the above."""

    image: Annotated[str, Field(min_length=1)] = IMAGE
    """What all tasks run in; ``make image`` builds it."""
    cpu: Cores = "2"
    """Cores of every task but the training."""
    memory: Bytes = "8Gi"
    """Of every task but the training."""
    disk: Bytes | None = None
    """What a task may write to its node's disk beside its artifacts: its songs, or checkpoints. More ends this task and
    none of its neighbours; without it, the node's room is the limit."""
    data_cache: Annotated[str, Field(min_length=1)] | None = None
    """A persistent volume claim that tasks share (``ReadWriteMany``, writable for user 10001): files of the dataset by
    their hashes, each brought once for all tasks and runs. Without it, a task brings its songs for itself."""
    parallel_shards: Count = 8
    """How many shards are worked on at a time; 0 is no limit."""
    parallel_trials: Count = 4
    """How many trials of a search are trained at a time, each on a node of its own; 0 is no limit."""
    training: Training = Training()
    """The node that trains."""
    retries: Retries = Retries()
    """How often failed tasks are done again."""
    announce: Announce | None = None
    """Whether a last task tells how a run ended; null for none."""
    secrets: tuple[Secret, ...] = (
        Secret(
            name="fxnorm-s3",
            optional=True,  # data may lie elsewhere
            # MLflow may have its clients write artifacts to the store themselves
            tasks=(
                "resolve",
                "list-songs",
                "divide",
                "check",
                "statistics",
                "normalize",
                "pretrain",
                "train",
                "evaluate",
                "register",
                "list-sessions",
                "mix-sessions",
                "finish-mixes",
                "begin-search",
                "search-trial",
                "collect-search",
            ),
            keys={
                "access_key_id": "AWS_ACCESS_KEY_ID",
                "secret_access_key": "AWS_SECRET_ACCESS_KEY",
                "endpoint_url": "AWS_ENDPOINT_URL",
                "region": "AWS_DEFAULT_REGION",
            },
        ),
        Secret(
            name="fxnorm-mlflow",  # without it each task would write into its container, and all be lost
            tasks=(
                "pretrain",
                "train",
                "evaluate",
                "register",
                "list-sessions",
                "search-trial",
                "collect-search",
                "announce",
            ),
            keys={
                "tracking_uri": "MLFLOW_TRACKING_URI",
                "username": "MLFLOW_TRACKING_USERNAME",
                "password": "MLFLOW_TRACKING_PASSWORD",
            },
        ),
        Secret(
            name="fxnorm-search",
            optional=True,  # the study may be in a file of a folder that all tasks see
            tasks=("begin-search", "search-trial", "collect-search"),
            keys={"storage": "FXNORM_SEARCH_STORAGE"},
        ),
        Secret(
            name="fxnorm-webhook",
            optional=True,  # there is such a task only where ``announce`` asks for it
            tasks=("announce",),
            keys={"address": "FXNORM_WEBHOOK"},
        ),
    )
    """Secrets of the run's namespace that tasks get as environment variables."""

    @classmethod
    def load(cls, path: Path | None) -> "Cluster":
        """A cluster's settings from a YAML file; the defaults without one.

        Raises:
            SettingsError: the file is missing or not YAML, a key is unknown or a value does not fit; one line.
        """
        if path is None:
            return cls()
        try:
            return cls.model_validate(bounded.read_yaml(path) or {})
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"{path}: not readable as YAML ({first_line(error)})") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            value = printable(repr(first["input"]), 200)
            raise SettingsError(f"{path}: {key}: {first['msg']}, found {value}") from error

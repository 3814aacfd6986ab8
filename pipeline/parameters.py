"""What the pipeline is started with, from a file and ``--set``, checked before anything runs."""

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, ClassVar, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fxnorm.errors import SettingsError
from fxnorm.io import addresses, object_store
from fxnorm.pipeline import experiments
from fxnorm.pipeline.cluster import Cluster
from fxnorm.settings import Settings, apply_override, read_yaml


def _without_secret(repository: str) -> str:
    """Everybody who sees a run sees its parameters."""
    address = urlsplit(repository)
    if address.password or (address.username and address.scheme.startswith("http")):
        # not pydantic's own error, which would repeat the address
        raise SettingsError("repository: an address with a password or token; give these in a secret of the cluster")
    return repository


def _relative(path: str) -> str:
    normal = PurePosixPath(path)
    if normal.is_absolute() or ".." in normal.parts or not normal.name:
        raise ValueError("expected a folder within the repository")
    return str(normal)


class _Of(BaseModel):
    """Parameters of a pipeline."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    pipeline: ClassVar[str]

    @property
    def graph(self) -> str:
        """Which of :data:`fxnorm.pipeline.graph.PIPELINES` it takes."""
        return self.pipeline


def _store(place: str) -> str:
    return _on_all_nodes(place) if place else place


def _on_all_nodes(place: str) -> str:
    if object_store.is_address(place):
        object_store.split(place)
    elif not place.startswith("models:/") and not PurePosixPath(place).is_absolute():
        raise ValueError("expected s3://BUCKET/PREFIX, or an absolute path that all tasks see")
    return place


class _OfSongs(_Of):
    """Parameters of a pipeline that trains, with the sections of ``params.yaml`` together as ``settings``."""

    repository: Annotated[str, Field(min_length=1), AfterValidator(_without_secret)]
    """Address of the git repository that tracks the data with DVC, or a folder on this machine."""
    revision: Annotated[str, Field(min_length=1)] = "main"
    """Branch, tag or commit. The run works on the commit that it names when the run begins."""
    path: Annotated[str, Field(min_length=1), AfterValidator(_relative)] = "data"
    """The folder of the data in the repository."""
    remote: str = ""
    """Name of the DVC remote; empty for the repository's default."""
    shards: Annotated[int, Field(gt=0)] = 4
    """Into how many parts statistics and normalization divide the songs."""
    store: Annotated[str, AfterValidator(_store)] = ""
    """``s3://BUCKET/PREFIX``, or an absolute path of a folder that all tasks see, for normalized songs: a training
    reads them from there through a cache with a bound. If empty, they are artifacts of Kubeflow, and a training brings
    all of them to its node."""
    settings: dict[str, Any] = {}
    """The sections of ``params.yaml``."""

    @classmethod
    def load(
        cls,
        file: Path | None,
        overrides: Iterable[str] = (),
        params: Path | None = None,
        experiment: str | None = None,
    ) -> Self:
        """Parameters of a YAML file, then of ``name=value`` texts; ``settings.train.seed=1`` reaches into the settings.

        Args:
            file: the parameters' names and values.
            overrides: what comes before the file.
            params: a ``params.yaml``, for settings that are in neither of them.
            experiment: a published one, for what is in none of these.

        Raises:
            SettingsError: the file is not readable, or a parameter or setting is unknown, missing or does not fit.
        """
        content = {} if file is None else read_yaml(file)
        source = "--set" if file is None else str(file)
        for override in overrides:
            apply_override(content, override)
        if params is not None:
            content["settings"] = _filled_up(content.get("settings") or {}, read_yaml(params))
        if experiment is not None:
            content = _with_experiment(cls, content, experiment)
        parameters = _validated(cls, content, source)
        parameters._check(Settings.of(parameters.settings, f"{source}: settings"), source)
        return parameters

    def _check(self, settings: Settings, source: str) -> None:
        """Refuse now what a task would refuse after hours."""
        weights = settings.train.initial_weights
        if weights is None:
            return
        if not addresses.is_address(weights):
            raise SettingsError(
                f"{source}: settings.train.initial_weights: {weights} is on no node; expected s3://BUCKET/PREFIX,"
                " models:/NAME@ALIAS, models:/NAME/VERSION, runs:/RUN_ID or null"
            )
        try:
            addresses.check(weights)
        except SettingsError as error:
            raise SettingsError(f"{source}: settings.train.initial_weights: {error}") from error

    def check_on(self, cluster: Cluster) -> None:
        """Refuse what this cluster cannot do.

        Raises:
            SettingsError: the batch cannot be shared out among the accelerators.
        """
        batch, accelerators = Settings.of(self.settings).train.batch_size, cluster.training.accelerators
        if accelerators and batch % accelerators:
            raise SettingsError(
                f"settings.train.batch_size: expected a multiple of the {accelerators} accelerators, found {batch}"
            )

    def arguments(self) -> dict[str, Any]:
        """As the pipeline takes them: each section of the settings is a parameter of its own."""
        arguments = self.model_dump(exclude={"settings"})
        return arguments | {f"{section}_settings": values or {} for section, values in self.settings.items()}


Place = Annotated[str, Field(min_length=1), AfterValidator(_on_all_nodes)]


class Parameters(_OfSongs):
    """The pipeline's parameters, with the sections of ``params.yaml`` together as ``settings``."""

    pipeline: ClassVar = "training"

    checkpoints: str = ""
    """A folder, or ``s3://BUCKET/KEY``, from which a training goes on when its node was taken away."""
    pretraining: dict[str, Any] = {}
    """How CRAFx2's front-end is trained alone first, as the section ``train`` of ``params.yaml`` has it; the training
    begins with its weights. If empty, there is no such task. Kubeflow's cache keeps its result."""

    @property
    def graph(self) -> str:
        """With a task for the front-end where it is wanted."""
        return "pretraining" if self.pretraining else self.pipeline

    def _check(self, settings: Settings, source: str) -> None:
        super()._check(settings, source)
        if self.pretraining:
            self._check_pretraining(settings, source)
        if object_store.is_address(self.checkpoints):
            object_store.split(self.checkpoints)
        if settings.train.task != "mix":
            raise SettingsError(f"{source}: settings.train.task: expected 'mix', whose result can be evaluated")

    def _check_pretraining(self, settings: Settings, source: str) -> None:
        first = Settings.of({"train": {"task": "front_end", **self.pretraining}}, f"{source}: pretraining").train
        if first.task != "front_end" or first.network != "crafx2" or settings.train.network != "crafx2":
            raise SettingsError(f"{source}: pretraining: expected a front-end, of the network crafx2")
        if settings.train.initial_weights is not None or first.initial_weights is not None:
            raise SettingsError(f"{source}: pretraining: expected no train.initial_weights beside it")

    def check_on(self, cluster: Cluster) -> None:
        """Refuse what this cluster cannot do.

        Raises:
            SettingsError: a batch cannot be shared out among the accelerators.
        """
        super().check_on(cluster)
        batch, accelerators = Settings.of({"train": self.pretraining}).train.batch_size, cluster.training.accelerators
        if self.pretraining and accelerators and batch % accelerators:
            raise SettingsError(
                f"pretraining.batch_size: expected a multiple of the {accelerators} accelerators, found {batch}"
            )

    def arguments(self) -> dict[str, Any]:
        """As the pipeline takes them."""
        arguments = super().arguments()
        return arguments | {"pretraining_settings": arguments.pop("pretraining")}


class SearchParameters(_OfSongs):
    """Parameters of the pipeline that searches for settings."""

    pipeline: ClassVar = "search"

    space: dict[str, Any]
    """What is varied and how: all that a file for `fxnorm search` holds. Keys of ``statistics`` and ``normalize`` are
    not among it, as all trials share the normalized songs."""
    output: Place
    """``s3://BUCKET/PREFIX``, or an absolute path of a folder that all tasks see, for checkpoints and Mixers: new, or
    of an earlier run, which goes on."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] = "search"
    """Of the study: runs with the same one, in the same database, share their trials."""
    storage: str = ""
    """Address of the study's PostgreSQL database. If empty, it is that of the secret ``fxnorm-search``; where there is
    none either, a file in the folder ``output``."""

    def _check(self, settings: Settings, source: str) -> None:
        from fxnorm.search.space import Space  # with pydantic alone, as long as nothing is built
        from fxnorm.search.storage import address

        super()._check(settings, source)
        space = Space.of(self.space, f"{source}: space")
        for name in space.space:
            if not name.startswith("train."):
                raise SettingsError(f"{source}: space.space.{name}: expected settings of train alone on a cluster")
        if self.storage and address(self.storage).password:
            raise SettingsError(f"{source}: storage: an address with a password; give it in the secret fxnorm-search")
        space.check(settings, source)

    def check_on(self, cluster: Cluster) -> None:
        """Refuse what this cluster cannot do.

        Raises:
            SettingsError: a trial would have several accelerators.
        """
        if cluster.training.accelerators > 1:
            raise SettingsError(
                f"training.accelerators: expected 1 at most, as a trial trains in one process, found"
                f" {cluster.training.accelerators}"
            )

    def arguments(self) -> dict[str, Any]:
        """As the pipeline takes them; what is varied is a text, as Kubeflow makes fractions of whole numbers."""
        sections = {
            "check_settings",
            "statistics_settings",
            "normalize_settings",
            "train_settings",
            "resources_settings",
        }
        arguments = {name: value for name, value in super().arguments().items() if name in sections}
        return self.model_dump(exclude={"settings", "space"}) | arguments | {"space": json.dumps(self.space)}


class BatchParameters(_Of):
    """Parameters of the pipeline that mixes many sessions."""

    pipeline: ClassVar = "batch"

    sessions: Place
    """``s3://BUCKET/PREFIX`` with sessions and songs, or an absolute path of a folder that all tasks see."""
    output: Place
    """Likewise, for the mixes, ``mixes.csv`` and ``index.html``: new, empty, or of an earlier run, which goes on."""
    mixer: Place = "models:/fxnorm-automix@champion"
    """``models:/NAME@ALIAS``, ``s3://BUCKET/PREFIX``, or an absolute path. What it names when the run
    begins is what mixes."""
    shards: Annotated[int, Field(gt=0)] = 4
    """Into how many parts the sessions are divided, by the size of their files."""
    options: dict[str, Any] = {}
    """Of each mix: those of the [endpoint](endpoint.md#request) but for ``song``."""
    parts: bool = False
    """Whether to write what each stem contributes beside each mix, too."""
    most_failed: Annotated[int, Field(ge=0)] = 0
    """How many sessions may fail before the run counts as failed. All others are mixed in any case."""

    @classmethod
    def load(
        cls,
        file: Path | None,
        overrides: Iterable[str] = (),
        params: Path | None = None,
        experiment: str | None = None,
    ) -> Self:
        """As :meth:`Parameters.load`; there are no settings of stages.

        Raises:
            SettingsError: likewise.
        """
        from fxnorm.mixing.options import MixOptions  # with all that audio takes, which the other pipeline does not

        if params is not None:
            raise SettingsError(f"--params {params}: mixing takes no settings of stages; expected --set options.NAME=…")
        if experiment is not None:
            raise SettingsError(f"--experiment {experiment}: mixing is no training; expected the name of none")
        content = {} if file is None else read_yaml(file)
        for override in overrides:
            apply_override(content, override)
        source = "--set" if file is None else str(file)
        parameters = _validated(cls, content, source)
        try:
            if "song" in parameters.options:
                raise SettingsError("song: each session has its own")
            MixOptions.of(parameters.options)
        except SettingsError as error:
            raise SettingsError(f"{source}: options: {error}") from error
        return parameters

    def check_on(self, cluster: Cluster) -> None:
        """Any cluster can do it."""

    def arguments(self) -> dict[str, Any]:
        """As the pipeline takes them."""
        return self.model_dump()


Model = TypeVar("Model", bound=BaseModel)


def _validated(kind: type[Model], content: dict[str, Any], source: str) -> Model:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(kind.model_fields)
        reason = f"unknown parameter; expected {known}" if first["type"] == "extra_forbidden" else first["msg"]
        raise SettingsError(f"{source}: {name}: {reason}") from error


def _with_experiment(kind: type[BaseModel], content: dict[str, Any], name: str) -> dict[str, Any]:
    """Parameters with those of a published experiment where they are not given."""
    published = experiments.parameters(name)
    if "pretraining" in published and "pretraining" not in kind.model_fields:
        raise SettingsError(f"--experiment {name}: begins with a pre-training, which this pipeline does not have")
    settings = _filled_up(content.get("settings") or {}, published.pop("settings"))
    given = settings.get("train") if isinstance(settings, dict) else None
    if isinstance(given, dict) and given.get("initial_weights") is not None:
        published.pop("pretraining", None)  # these take its place
    return published | content | {"settings": settings}


def _filled_up(settings: Any, defaults: dict[str, Any]) -> Any:
    """``settings`` with the keys of ``defaults`` that its sections lack; other values stay, for the check to name."""
    if not isinstance(settings, dict):
        return settings
    sections = dict(settings)
    for name, values in defaults.items():
        section = sections.get(name)
        if section is None:
            sections[name] = values
        elif isinstance(section, dict) and isinstance(values, dict):
            sections[name] = values | section
    return sections

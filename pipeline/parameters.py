"""What the pipeline is started with, from a file and ``--set``, checked before anything runs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fxnorm.errors import SettingsError
from fxnorm.settings import Settings, apply_override, read_yaml


class Parameters(BaseModel):
    """The pipeline's parameters, under the names that :func:`pipeline.graph.build` gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: Annotated[str, Field(min_length=1)]
    revision: str = "main"
    path: str = "data"
    remote: str = ""
    shards: Annotated[int, Field(gt=0)] = 4
    checkpoints: str = ""
    settings: dict[str, Any] = {}

    @classmethod
    def load(cls, file: Path | None, overrides: Iterable[str] = ()) -> "Parameters":
        """Parameters of a YAML file, then of ``name=value`` texts; ``settings.train.seed=1`` reaches into the settings.

        Raises:
            SettingsError: the file is not readable, or a parameter or setting is unknown, missing or does not fit.
        """
        content = {} if file is None else read_yaml(file)
        source = "--set" if file is None else str(file)
        for override in overrides:
            apply_override(content, override)
        try:
            parameters = cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            known = ", ".join(cls.model_fields)
            reason = f"unknown parameter; expected {known}" if first["type"] == "extra_forbidden" else first["msg"]
            raise SettingsError(f"{source}: {name}: {reason}") from error
        Settings.of(parameters.settings, f"{source}: settings")
        return parameters

    def arguments(self) -> dict[str, Any]:
        """As Kubeflow takes them."""
        return self.model_dump()

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
    def load(cls, file: Path | None, overrides: Iterable[str] = (), params: Path | None = None) -> "Parameters":
        """Parameters of a YAML file, then of ``name=value`` texts; ``settings.train.seed=1`` reaches into the settings.

        Args:
            file: the parameters' names and values.
            overrides: what comes before the file.
            params: a ``params.yaml``, for settings that neither of them gives.

        Raises:
            SettingsError: the file is not readable, or a parameter or setting is unknown, missing or does not fit.
        """
        content = {} if file is None else read_yaml(file)
        source = "--set" if file is None else str(file)
        for override in overrides:
            apply_override(content, override)
        if params is not None:
            content["settings"] = _filled_up(content.get("settings") or {}, read_yaml(params))
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


def _filled_up(given: Any, rest: dict[str, Any]) -> Any:
    """``given`` with the keys of ``rest`` that its sections lack; what is no section stays for the check to name."""
    if not isinstance(given, dict):
        return given
    sections = dict(given)
    for name, values in rest.items():
        own = sections.get(name)
        if own is None:
            sections[name] = values
        elif isinstance(own, dict) and isinstance(values, dict):
            sections[name] = values | own
    return sections

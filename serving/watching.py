"""What the endpoint does beside mixing, most of it off by default: the environment variables that turn it on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fxnorm.errors import SettingsError, printable

_PREFIX = "FXNORM_"
_GUARDED = tuple(_PREFIX + name for name in ("METRIC", "REQUEST", "TOKENS", "TOKEN_", "RELOAD", "WATCH", "SHADOW"))
"""Beginnings of names: whoever misspells one would think that a token is asked for, or that a log is written."""
_MODELS = "models:/"


class Watching(BaseModel):
    """Settings by field; ``request_log`` is read from ``FXNORM_REQUEST_LOG``, and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    metrics: bool = True
    """``GET /metrics`` in Prometheus' text format."""
    request_log: Path | None = None
    """File that gets one line of JSON a request; by default none."""
    request_log_mb: Annotated[float, Field(gt=0, le=1e6)] = 50.0
    """Megabytes of that file. A larger one is renamed: five older ones stay."""
    tokens_file: Path | None = None
    """File with the SHA-256 of each token that may mix, reload and read metrics; by default nobody is asked for one."""
    model: str | None = None
    """Address of the model whose newest version is to be mixed with, such as ``models:/fxnorm-automix@champion``.
    ``fxnorm serve`` sets it."""
    reload: bool = False
    """``POST /reload``, from this machine alone, takes the version that the model's alias names now."""
    watch_seconds: Annotated[float, Field(ge=0)] = 0.0
    """How often to look whether the model's alias names another version, and take it; 0: never."""
    shadow: str | None = None
    """Address of another model, such as ``models:/fxnorm-automix@challenger``, that mixes some songs again when nobody
    waits."""
    shadow_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the songs that it mixes."""
    shadow_mb: Annotated[float, Field(gt=0, le=1e6)] = 500.0
    """Megabytes of memory for songs that wait for that; a larger song is passed over."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Settings of a server.

        Raises:
            SettingsError: a value that a setting cannot take, or a setting that does not exist; one line that names
                the variable.
        """
        known = {_PREFIX + field.upper() for field in cls.model_fields}
        if misspelt := sorted(name for name in environment if name.startswith(_GUARDED) and name not in known):
            raise SettingsError(f"{printable(misspelt[0])}: unknown, expected some of {', '.join(sorted(known))}")
        # a variable that is there and empty, as manifests have them, is off
        variables = {
            field: value
            for field in cls.model_fields
            if (value := environment.get(_PREFIX + field.upper(), "").strip())
        }
        try:
            found = cls.model_validate(variables)
        except ValidationError as error:
            first = error.errors()[0]
            name = _PREFIX + str(first["loc"][0]).upper()
            raise SettingsError(f"{name}={printable(str(first['input']))}: {first['msg']}") from error
        for name in ("model", "shadow"):
            address = getattr(found, name)
            if address is not None and not address.startswith(_MODELS):
                raise SettingsError(
                    f"{_PREFIX}{name.upper()}={printable(address)}: expected an address such as {_MODELS}NAME@ALIAS"
                )
        if (found.reload or found.watch_seconds) and "@" not in (found.model or ""):
            wanted = "RELOAD" if found.reload else "WATCH_SECONDS"
            raise SettingsError(
                f"{_PREFIX}MODEL={printable(found.model or '')}: expected an address with an alias, such as "
                f"{_MODELS}NAME@champion, because {_PREFIX}{wanted} is set"
            )
        return found

    @property
    def request_log_bytes(self) -> int:
        """``request_log_mb`` in bytes."""
        return round(self.request_log_mb * 1_000_000)

    @property
    def shadow_bytes(self) -> int:
        """``shadow_mb`` in bytes."""
        return round(self.shadow_mb * 1_000_000)

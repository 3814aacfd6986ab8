"""Which version of a registered model serves: ``@champion``, the one before it, and the one that was not better.

MLflow has no operation that moves an alias only if nobody else has moved it. So the aliases are read again right before
one is moved, and several are moved in an order in which ``@champion`` names a version at every moment.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from fxnorm.errors import FxnormError
from fxnorm.tracking.errors import as_user_error, registry_server, unless_missing

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
MODEL_PREFIX = "models:/"

_ATTEMPTS = 3


@dataclass(frozen=True)
class Version:
    """A version of a registered model, and what was noted of it."""

    name: str
    number: str
    tags: Mapping[str, str]
    run_id: str | None = None

    @property
    def uri(self) -> str:
        """The version's address, which stays when aliases move."""
        return f"{MODEL_PREFIX}{self.name}/{self.number}"

    @classmethod
    def of(cls, version: ModelVersion) -> "Version":
        """A version as MLflow describes it."""
        return cls(version.name, str(version.version), dict(version.tags), version.run_id)


def version_at(name: str, alias: str) -> Version | None:
    """The version with an alias; None if there is none, or no model of that name yet."""
    with _as_user_error(name):
        client = mlflow.MlflowClient()
        # for an alias that does not exist, MLflow gives the same error as for a name that no model can have
        model = unless_missing(client.get_registered_model, name)
        if model is None or alias not in model.aliases:
            return None
        model_version = unless_missing(client.get_model_version, name, str(model.aliases[alias]))
    return None if model_version is None else Version.of(model_version)


def version(name: str, number: str) -> Version | None:
    """A version by its number; None if there is none."""
    with _as_user_error(name):
        model_version = unless_missing(mlflow.MlflowClient().get_model_version, name, number)
    return None if model_version is None else Version.of(model_version)


def unfinished(name: str, run_id: str, tags: Mapping[str, str]) -> str | None:
    """The newest version of a run that has these tags and no description yet, which :func:`note` gives at the end."""
    with _as_user_error(name):
        versions = mlflow.MlflowClient().search_model_versions(f"run_id = '{run_id}'")
    numbers = [
        int(version.version)
        for version in versions
        if version.name == name and not version.description and tags.items() <= version.tags.items()
    ]
    return str(max(numbers)) if numbers else None


def registered(name: str, tags: Mapping[str, str]) -> list[Version]:
    """The versions of a model that have these tags and were registered whole, the newest first."""
    with _as_user_error(name):
        versions = mlflow.MlflowClient().search_model_versions(f"name = '{name}'")
    whole = [version for version in versions if version.description and tags.items() <= version.tags.items()]
    newest_first = sorted(whole, key=lambda version: int(version.version), reverse=True)
    return [Version.of(version) for version in newest_first]


def note(name: str, number: str, tags: Mapping[str, str], description: str | None = None) -> None:
    """Add tags to a version, and set its description."""
    with _as_user_error(name):
        client = mlflow.MlflowClient()
        for key, value in tags.items():
            client.set_model_version_tag(name, number, key, value)
        if description is not None:
            client.update_model_version(name, number, description)


def introduce(name: str, description: str) -> None:
    """Give a registered model a description, unless somebody wrote one."""
    with _as_user_error(name):
        client = mlflow.MlflowClient()
        if not client.get_registered_model(name).description:
            client.update_registered_model(name, description)


def promote(name: str, number: str, replaced: Version | None) -> None:
    """Make a version ``@champion``; the one that it takes the place of, if any, becomes ``@previous`` first."""
    if replaced is not None:
        _set(name, PREVIOUS, replaced.number)
    _set(name, CHAMPION, number)
    challenger = version_at(name, CHALLENGER)
    if challenger is not None and challenger.number == number:
        with _as_user_error(name):  # it was not better by another acceptance rule
            mlflow.MlflowClient().delete_registered_model_alias(name, CHALLENGER)


def challenge(name: str, number: str) -> None:
    """Make a version ``@challenger``."""
    _set(name, CHALLENGER, number)


def rollback(name: str) -> tuple[str, str | None]:
    """Make ``@previous`` the champion again, and the champion ``@previous``, so that another rollback undoes this one.

    Returns:
        the numbers of the champion and of the version that it took the place of, if there was one.

    Raises:
        FxnormError: there is no version to go back to.
    """
    previous, champion = version_at(name, PREVIOUS), version_at(name, CHAMPION)
    if previous is None:
        raise FxnormError(f"{name}: no version is @{PREVIOUS} at {registry_server()}; nothing to go back to")
    if champion is not None and champion.number == previous.number:
        raise FxnormError(f"{name}: version {champion.number} is @{PREVIOUS} and @{CHAMPION}; nothing to go back to")
    # the champion first: were it the other way round, an interruption would leave nothing that knows the way back
    _set(name, CHAMPION, previous.number)
    if champion is not None:
        _set(name, PREVIOUS, champion.number)
    return previous.number, None if champion is None else champion.number


def _set(name: str, alias: str, number: str) -> None:
    with _as_user_error(name):
        client = mlflow.MlflowClient()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                client.set_registered_model_alias(name, alias, number)
                return
            except MlflowException:
                # of two that set a new alias at once, the database refuses one; its second attempt moves the alias
                if attempt == _ATTEMPTS:
                    raise


def _as_user_error(name: str) -> contextlib.AbstractContextManager[None]:
    return as_user_error(f"{name}: the registry at {registry_server()} does not do it")

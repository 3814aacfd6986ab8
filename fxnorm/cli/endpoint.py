"""Starting MLflow's server for a registered model, as ``fxnorm serve`` does."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass

from fxnorm.constants import DEFAULT_MIXER
from fxnorm.errors import FxnormError, ModelError
from fxnorm.registry import registered
from fxnorm.registry.aliases import CHAMPION, MODEL_PREFIX
from fxnorm.tracking import runs
from fxnorm.tracking.embedded_store import database_of

_SERVER = "uvicorn"  # which MLflow starts by its name, from PATH


@dataclass(frozen=True)
class ServeCommand:
    """A command and its environment."""

    arguments: list[str]
    environment: dict[str, str]

    def replace_process(self) -> None:
        """Run it in place of this process: signals to this process are then the server's."""
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(self.arguments[0], self.arguments, self.environment)


def serve_command(model: str, host: str, port: int, timeout: int, environment: Mapping[str, str]) -> ServeCommand:
    """MLflow's command that serves a registered model with the packages of this Python.

    Args:
        model: ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION``; or ``default``, the Mixer of the package itself,
            for which neither store nor registry has to be there.
        host: the address to listen at.
        port: the port to listen at.
        timeout: seconds after which a request is given up.
        environment: variables by name, for the server.

    Raises:
        ModelError: the registry does not have the model.
        SettingsError: a variable of the server that cannot be, or that names a file that cannot be read.
        FxnormError: there is no store, or no server program.
    """
    if model != DEFAULT_MIXER and not model.startswith(MODEL_PREFIX):
        raise ModelError(
            f"{model}: expected {DEFAULT_MIXER} or a registered model, such as {MODEL_PREFIX}NAME@{CHAMPION}; "
            "'fxnorm register' makes one of a Mixer directory"
        )
    if "@" in model:  # MLflow hands the server a copy of the version: this says where a newer one would be
        environment = {**environment, "FXNORM_MODEL": model}
    _check_variables(environment, timeout)
    if model == DEFAULT_MIXER:
        model = str(registered.shipped_model())
    else:
        address = runs.configure()
        _check_store(address)
        registered.check(model)
        environment = {**environment, "MLFLOW_TRACKING_URI": address}
    # so that MLflow finds the server's program in an environment that nobody activated, too
    programs = sysconfig.get_path("scripts")
    path = os.pathsep.join(filter(None, (programs, environment.get("PATH"))))
    if shutil.which(_SERVER, path=path) is None:
        raise FxnormError(f"{_SERVER}: expected it in {programs} or on PATH, found it in neither")
    arguments = [sys.executable, "-P", "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    arguments += ["--model-uri", model, "--host", host, "--port", str(port), "--timeout", str(timeout)]
    return ServeCommand(arguments, {**environment, "PATH": path})


def _check_variables(environment: Mapping[str, str], timeout: int) -> None:
    """Refuse at once what the server would refuse when it has loaded the model."""
    from fxnorm.serving.limits import Limits
    from fxnorm.serving.tokens import Tokens
    from fxnorm.serving.watching import Watching

    Limits.from_environment(environment, timeout)
    watching = Watching.from_environment(environment)
    if watching.tokens_file is not None:
        Tokens(watching.tokens_file, lambda: None)


def _check_store(address: str) -> None:
    database = database_of(address)
    if database is not None and not database.is_file():  # MLflow would make an empty one
        raise FxnormError(
            f"{database}: no MLflow store; run this in a project's folder after 'dvc repro', or set MLFLOW_TRACKING_URI"
        )

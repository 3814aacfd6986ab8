"""The Mixer that a command was given."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fxnorm.mixing.mixer import Mixer


def open_mixer(mixer: str) -> "Mixer":
    """The Mixer in a directory, that of the package, or one of the registry: the latter alone needs MLflow."""
    if mixer.startswith("models:/"):
        from fxnorm.registry import registered

        return registered.open_mixer(mixer)
    from fxnorm.mixing.mixer import Mixer

    return Mixer.load(mixer)

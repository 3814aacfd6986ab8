"""The Mixer that comes with the package: ``default``, wherever a Mixer is named."""

from pathlib import Path

from fxnorm.constants import DEFAULT_MIXER, MIXER_FILE
from fxnorm.errors import ModelError

FOLDER = Path(__file__).parents[1] / "default_mixer"


def directory_of(mixer: str | Path) -> Path:
    """The directory of a Mixer that is named by it, or by the text :data:`~fxnorm.constants.DEFAULT_MIXER`.

    Raises:
        ModelError: the package lacks the Mixer that belongs to it.
    """
    if mixer != DEFAULT_MIXER:  # a Path is always a directory of its own
        return Path(mixer)
    if not (FOLDER / MIXER_FILE).is_file():
        raise ModelError(
            f"{DEFAULT_MIXER}: expected {FOLDER / MIXER_FILE}, which comes with the package; install it again"
        )
    return FOLDER

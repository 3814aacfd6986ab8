"""The two generators: ``records`` to train with, and ``records-check``, which shares neither soundfont, genres nor the
ranges of its mixes with it, so that a network can be validated on songs of another generator than its training's."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fxnorm.demo.records import playing
from fxnorm.demo.records.genres import GENRES_A, GENRES_B, Genre
from fxnorm.errors import FxnormError

_FLUID = Path("/usr/share/sounds/sf2/FluidR3_GM.sf2")
_PACKAGES = {"FluidR3_GM.sf2": "fluid-soundfont-gm"}


@dataclass(frozen=True)
class Rules:
    """How a generator's songs are written and mixed.

    Attributes:
        genres: by name.
        fonts: the soundfonts used unless others are named; None stands for the one that pretty_midi carries.
        balance_lu: mean loudness of the stems relative to the mix, in LU.
        balance_deviation: their standard deviation, in LU.
        loudness: mean and standard deviation of the mix in LUFS.
        tilt_deviation_db: of a stem's spectral tilt between songs, from one end of the spectrum to the other.
        band_deviation_db: of broad bumps and dips.
        hall_seconds, room_seconds: ranges of the RT60.
        send_db: mean level of the hall's return for each stem.
        dynamics_db: how much quieter the sparsest section is than the fullest, on average, for each stem.
        expression_db: standard deviation of the level from phrase to phrase, for each stem.
        peak_limit_db: how far a stem's peaks may stand over its active RMS, on average, before its bus limits them.
    """

    genres: Mapping[str, Genre]
    fonts: tuple[Path | None, ...]
    balance_lu: Mapping[str, float]
    balance_deviation: float
    loudness: tuple[float, float]
    tilt_deviation_db: float
    band_deviation_db: float
    hall_seconds: tuple[float, float]
    room_seconds: tuple[float, float]
    send_db: Mapping[str, float]
    dynamics_db: Mapping[str, float]
    expression_db: Mapping[str, float]
    peak_limit_db: Mapping[str, float]


RULES = {
    "records": Rules(
        genres=GENRES_A,
        fonts=(_FLUID,),
        balance_lu={"vocals": -5.0, "bass": -9.5, "drums": -5.5, "other": -6.5},
        balance_deviation=1.8,
        loudness=(-11.2, 1.8),
        tilt_deviation_db=4.0,
        band_deviation_db=2.0,
        hall_seconds=(1.0, 3.2),
        room_seconds=(0.2, 0.8),
        send_db={"vocals": -13.0, "bass": -34.0, "drums": -20.0, "other": -14.0},
        dynamics_db={"vocals": 7.0, "bass": 4.0, "drums": 5.0, "other": 8.0},
        expression_db={"vocals": 3.0, "bass": 2.0, "drums": 3.5, "other": 3.0},
        peak_limit_db={"vocals": 20.0, "bass": 16.0, "drums": 14.0, "other": 21.0},
    ),
    "records-check": Rules(
        genres=GENRES_B,
        fonts=(None,),
        balance_lu={"vocals": -5.0, "bass": -9.5, "drums": -5.5, "other": -6.5},
        balance_deviation=2.0,
        loudness=(-11.5, 1.7),
        tilt_deviation_db=3.5,
        band_deviation_db=2.5,
        hall_seconds=(0.8, 2.4),
        room_seconds=(0.15, 0.5),
        send_db={"vocals": -15.0, "bass": -36.0, "drums": -18.0, "other": -16.0},
        dynamics_db={"vocals": 6.0, "bass": 4.0, "drums": 5.0, "other": 7.0},
        expression_db={"vocals": 2.7, "bass": 1.8, "drums": 3.2, "other": 2.7},
        peak_limit_db={"vocals": 20.0, "bass": 16.0, "drums": 14.0, "other": 21.0},
    ),
}


def soundfonts(style: str, named: tuple[Path, ...]) -> tuple[Path, ...]:
    """The soundfonts of a style: those that are named, or its own.

    Raises:
        FxnormError: one is missing.
    """
    import pretty_midi  # optional: only the demo needs it

    carried = Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"
    paths = named or tuple(carried if path is None else path for path in RULES[style].fonts)
    for path in paths:
        if not path.is_file():
            package = _PACKAGES.get(path.name)
            remedy = f"install Debian's package {package}, or name" if package else "name"
            raise FxnormError(f"{path}: no such soundfont; {remedy} another one with --soundfont")
        _check(path)
    return paths


def _check(path: Path) -> None:
    """Refuse what the renderer does not read, before anything is rendered."""
    import midirenderer  # optional: only the demo needs it
    import pretty_midi

    file = io.BytesIO()
    pretty_midi.PrettyMIDI().write(file)
    try:
        midirenderer.render_wave_from(playing.read_font(path), file.getvalue())
    except RuntimeError as error:
        raise FxnormError(f"{path}: expected a soundfont of version 2, .sf2 ({error})") from error

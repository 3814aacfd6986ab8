"""Compile all that Numba compiles for the page once, so that an image starts with the compiled code."""

import tempfile
from pathlib import Path

import numpy as np

from fxnorm.constants import DEFAULT_MIXER, SAMPLE_RATE, STEMS
from fxnorm.io import audio
from fxnorm.mixing.mixer import Mixer
from fxnorm.page import exports, making
from fxnorm.sessions.proposal import propose
from fxnorm.sessions.recordings import in_file


def main() -> None:
    """Sort, mix and take away three seconds of noise."""
    mixer = Mixer.load(DEFAULT_MIXER)
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for stem in STEMS:
            noise = 0.1 * generator.standard_normal((2, 3 * SAMPLE_RATE))
            audio.write(folder / f"{stem}.wav", noise.astype(np.float32))
        recordings = {stem: in_file(folder / f"{stem}.wav") for stem in STEMS}
        table = propose(recordings, mixer.recipe.statistics).table
        order = making.Order("noise", table, recordings, making.Request(target_loudness=-9.0), None)
        (folder / "mix").mkdir()
        engine = making.Engine(DEFAULT_MIXER, mixer=mixer)
        made = making.make(engine, order, folder / "mix", 10 * SAMPLE_RATE, lambda *_: None)
        wish = exports.Wish(what="mix", muted=["bass"])
        exports.export(wish, made, table, folder / "mix", folder / "taken.wav")


if __name__ == "__main__":
    main()

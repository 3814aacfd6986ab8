"""Mix a folder of stems from Python: python examples/mix_song.py MIXER FOLDER OUTPUT.wav

FOLDER holds vocals, bass, drums and other in any format that is read; what is missing is silent.
"""

import sys
from pathlib import Path

from fxnorm import Mixer
from fxnorm.constants import STEMS
from fxnorm.mixing.mix_files import mix_files
from fxnorm.mixing.options import MixOptions


def main(mixer: str, folder: str, output: str) -> None:
    """Mix the stems as dry recordings, and print what the report warns of."""
    files = {path.stem.lower(): path for path in sorted(Path(folder).iterdir())}
    stems = {stem: files[stem] for stem in STEMS if stem in files}
    mixed = mix_files(Mixer.load(mixer), stems, MixOptions(dry=True), Path(output))
    print(f"{output}: {mixed.seconds:.1f} s at {mixed.delivered.loudness_lufs:.1f} LUFS")
    for warning in mixed.report()["warnings"]:
        print(warning)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Mix a folder of stems from Python: python examples/mix_song.py MIXER FOLDER OUTPUT.wav

FOLDER holds vocals, bass, drums and other as WAV, FLAC or MP3; what is missing is silent.
"""

import sys
from pathlib import Path

from fxnorm import Mixer
from fxnorm.constants import SAMPLE_RATE, STEMS
from fxnorm.io import audio


def main(mixer: str, folder: str, output: str) -> None:
    """Read the stems, mix them as dry recordings, and write the mix."""
    files = {path.stem.lower(): path for path in sorted(Path(folder).iterdir())}
    stems = {stem: audio.read(files[stem])[0] for stem in STEMS if stem in files}
    mix = Mixer.load(mixer).mix(stems, SAMPLE_RATE, dry=True)
    audio.write(output, mix, SAMPLE_RATE)
    print(f"{output}: {mix.shape[1] / SAMPLE_RATE:.1f} s, peak {audio.peak_dbfs(mix):.1f} dBFS")


if __name__ == "__main__":
    main(*sys.argv[1:])

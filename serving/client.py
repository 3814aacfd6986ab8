"""Post stems to a served Mixer and write the mix it answers with; prints the report as JSON."""

import argparse
import json
import sys
from pathlib import Path

from fxnorm import outputs
from fxnorm.constants import STEMS
from fxnorm.endpoint import TIMEOUT_SECONDS, request_mix
from fxnorm.errors import FxnormError
from fxnorm.files import whole_file
from fxnorm.mix_options import MixOptions


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint", help="the server's address, such as http://127.0.0.1:5001")
    for stem in STEMS:
        parser.add_argument(f"--{stem}", metavar="FILE", help=f"the {stem} stem, WAV, FLAC or MP3, or s3://…")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the mix, .wav, .flac or .mp3")
    parser.add_argument("--dry", action="store_true", help="the stems are recordings without effects")
    parser.add_argument("--seed", type=int, help="draws impulse responses; default: the training's")
    parser.add_argument("--song", metavar="NAME", help="reverberation of its own, as in the evaluation of this song")
    parser.add_argument("--target-loudness", type=float, metavar="LUFS", help="bring the mix there; default: as mixed")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_SECONDS, metavar="SECONDS", help="wait so long")
    arguments = parser.parse_args()
    stems = {stem: source for stem in STEMS if (source := getattr(arguments, stem)) is not None}
    try:
        options = MixOptions.for_file(
            arguments.output, arguments.dry, arguments.seed, arguments.target_loudness, arguments.song
        )
        outputs.check(stems.values(), files=[arguments.output])
        mix = request_mix(arguments.endpoint, stems, options, arguments.timeout)
        with whole_file(arguments.output) as temporary:
            temporary.write_bytes(mix.content)
    except FxnormError as error:
        print(f"serving.client: {error}", file=sys.stderr)
        return 1
    print(json.dumps(mix.report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

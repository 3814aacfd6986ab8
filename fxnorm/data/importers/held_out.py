"""Which songs of a dataset without a published split are for validation and for testing."""

import hashlib

_PER_CENT_TEST, _PER_CENT_VAL = 10, 10

REASON = "a tenth for testing and a tenth for validation, chosen by the hash of the song's name or number"


def split_of(song: str) -> str:
    """``train`` (80 %), ``val`` or ``test`` (10 % each) for a song, by the SHA-256 of its name or number.

    The hash spreads songs evenly, and the split of one song does not depend on which others are there: half of a
    download, both versions of a dataset or another order give a song the same split.
    """
    hundredth = int.from_bytes(hashlib.sha256(song.encode("utf-8", "surrogateescape")).digest(), "big") % 100
    if hundredth < _PER_CENT_TEST:
        return "test"
    return "val" if hundredth < _PER_CENT_TEST + _PER_CENT_VAL else "train"

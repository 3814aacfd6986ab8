"""What MUSDB18, MUSDB18-HQ and DSD100 have in common: splits, errata, licences.

Source: ``sigsep/sigsep-mus-db`` (``musdb/configs/mus.yaml``) and the page of the dataset, ``sigsep/website``.
"""

from collections.abc import Iterable

from fxnorm.data.importers.plan import plain_song

LICENCE = "academic use only"
"""By the song's source (``tracklist.csv``), 102 are restricted and 48, of MedleyDB and of remixes, CC BY-NC-SA."""

SPLITS = ("train", "val", "valid", "validation", "test")
"""Folders of MUSDB18 and MUSDB18-HQ. ``val`` is not published; people move songs to it by hand."""

VALIDATION = (
    "Actions - One Minute Smile",
    "Alexander Ross - Goodbye Bolero",
    "ANiMAL - Rockshow",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Fergessen - Nos Palpitants",
    "James May - On The Line",
    "Johnny Lokke - Promises & Lies",
    "Leaf - Summerghost",
    "Meaxic - Take A Step",
    "Patrick Talbot - A Reason To Leave",
    "Skelpolu - Human Mistakes",
    "Traffic Experiment - Sirens",
    "Triviul - Angelsaint",
    "Young Griffo - Pennies",
)
"""Songs of ``train`` that the dataset's own tools keep for validation, as published results do."""

ERRATA = {
    "Al James - Schoolboy Facination": "erratum: synthesized vocals are in other",
    "BKS - Bulldozer": "erratum: a cowbell is in other at 1:12",
    "Chris Durban - Celebrate": "erratum: the vocals have bleed",
    "Detsky Sad - Walkie Talkie": "erratum: a part of other is in drums",
    "Enda Reilly - Cur An Long Ag Seol": "erratum: speech is in other",
    "Hop Along - Sister Cities": "erratum: the vocals have bleed",
    "Leaf - Wicked": "erratum: a guitar is in drums at 2:20 and 3:02",
    "PR - Oh No": "erratum: the left channels of the stems do not add up to the mixture's",
}

_VALIDATION = {plain_song(name) for name in VALIDATION}
_ERRATA = {plain_song(name): text for name, text in ERRATA.items()}


def split(song: str, folder: str) -> tuple[str, str]:
    """The split of a song that lies in the folder of one, and where it is from."""
    if folder not in ("train", "test"):
        return "val", f"the folder {folder}"
    if folder == "train" and plain_song(song) in _VALIDATION:
        return "val", "one of the 14 songs that the dataset's own tools keep for validation"
    return folder, "the published split"


def remarks(song: str) -> tuple[str, ...]:
    """What is known to be wrong with a song."""
    text = _ERRATA.get(plain_song(song))
    return (text,) if text else ()


def missing_validation(songs: Iterable[str]) -> tuple[str, ...]:
    """A remark if a source has not all 14 songs for validation; they are found by name."""
    there = {plain_song(name) for name in songs}
    missing = [name for name in VALIDATION if plain_song(name) not in there]
    if not missing:
        return ()
    found = len(VALIDATION) - len(missing)
    return (f"{found} of the {len(VALIDATION)} songs for validation are there; not found: {', '.join(missing)}",)

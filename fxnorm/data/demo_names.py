"""The names of the demo's songs, by which a training knows that it learns from those."""

import re

# fmt: off
FIRST_WORDS = (
    "Copper", "Paper", "Silver", "Velvet", "Hollow", "Amber", "Northern", "Broken", "Quiet", "Electric",
    "Crimson", "Distant", "Golden", "Winter", "Salted", "Burning", "Glass", "Midnight", "Faded", "Wooden",
    "Restless", "Scarlet", "Borrowed", "Marble", "Sunken", "Painted", "Stolen", "Frozen", "Emerald", "Gentle",
    "Wandering", "Iron", "Cobalt", "Tangled", "Southern", "Hidden", "Weightless", "Sleeping", "Rolling",
    "Lonely",
)
SECOND_WORDS = (
    "Lanterns", "Rivers", "Letters", "Engines", "Harbours", "Mirrors", "Gardens", "Orchards", "Satellites",
    "Horses", "Windows", "Shadows", "Bridges", "Summers", "Highways", "Machines", "Feathers", "Islands",
    "Carousels", "Signals", "Rooftops", "Meadows", "Compasses", "Fireflies", "Trains", "Oceans", "Echoes",
    "Staircases", "Kingdoms", "Violets", "Anchors", "Postcards", "Swallows", "Chimneys", "Tides", "Balconies",
    "Thunder", "Avenues", "Canyons", "Sparrows",
)
# fmt: on

_NAME = re.compile(rf"(?:{'|'.join(FIRST_WORDS)}) (?:{'|'.join(SECOND_WORDS)})(?: \d+)?")


def is_of_the_demo(name: str) -> bool:
    """Whether a song's name is one that the demo's songs can have."""
    return _NAME.fullmatch(name) is not None

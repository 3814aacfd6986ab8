"""Names and numbers that the whole library agrees on."""

SAMPLE_RATE = 44_100
"""Hz. Everything inside the library is at this rate; other rates are resampled when they are read."""

STEMS = ("vocals", "bass", "drums", "other")
"""The stems, in the order in which the networks take them."""

MIXTURE = "mixture"
"""The name of the finished mix beside the stems of a song."""

SILENCE_DBFS = -50.0
"""A stem whose peak does not pass this level counts as silent: it is neither measured nor processed."""

DEFAULT_MIXER = "default"
"""The name of the Mixer that comes with the package; a directory that is called so is ``./default``."""

MIXER_FILE = "mixer.json"
"""In a Mixer directory, what its network is."""

WEIGHTS_FILE = "weights.safetensors"
"""In a Mixer directory, the network's weights."""

"""The Mixer: statistics, effect normalization and network as one object that turns stems into a mix.

A Mixer directory holds all that mixing needs and nothing that has to be unpickled: the recipe of the normalization,
``weights.safetensors`` and ``mixer.json``.
"""

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from fxnorm import models
from fxnorm.constants import MIXER_FILE, SAMPLE_RATE, SILENCE_DBFS, STEMS, WEIGHTS_FILE
from fxnorm.errors import AudioError, ModelError, SettingsError, printable
from fxnorm.io import audio, bounded
from fxnorm.io.files import whole_folder, write_json
from fxnorm.io.outputs import Contents
from fxnorm.mixing.delivery import DEFAULT_TRUE_PEAK, Delivery, deliver
from fxnorm.mixing.shares import TrackSignals
from fxnorm.mixing.shipped import directory_of
from fxnorm.models.device import default_device
from fxnorm.models.network import Progress, StemTracks
from fxnorm.normalization.recipe import FILES as RECIPE_FILES
from fxnorm.normalization.recipe import STATISTICS_FILE, Recipe, files_of, song_seed

FRONT_END_PREFIX = "front_end."
"""Of the names of a front-end's weights, in a network and by themselves."""

KEPT = {"panning": "panning", "dynamics": "compression"}
"""The effect that a normalization leaves out, by what stays of the stems."""

_FORMAT = 1
_LONGEST_RUN_IN_SECONDS = 3_600.0


@dataclass
class Mixer:
    """All that turns stems into a mix.

    Args:
        recipe: how stems are normalized.
        network: as ``fxnorm.models.build`` makes it.
        run_in_seconds: how much of a song's end is put before its start and cut off the mix again, so that the
            recurrent layers have settled when the song begins.
        device: where the network computes.
    """

    recipe: Recipe
    network: models.MixingNetwork
    run_in_seconds: float
    device: torch.device

    @classmethod
    def load(cls, path: str | Path, device: torch.device | None = None) -> "Mixer":
        """A Mixer from its directory, on ``device``; the default is the CUDA device if there is one.

        The text ``default`` names the one that comes with the package.

        Raises:
            ModelError: the directory is missing or incomplete, or its weights do not fit its network.
        """
        folder = directory_of(path)
        description = _read_description(folder)
        device = device or default_device()
        try:
            with safe_open(folder / WEIGHTS_FILE, "pt") as weights:
                shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118
            models.refuse_larger(description["network"], sum(map(math.prod, shapes)))
            network = models.build(**description["network"])
            network.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{folder / WEIGHTS_FILE}: cannot be read ({error})") from error
        except SettingsError as error:
            raise ModelError(f"{folder / MIXER_FILE}: {error}") from error
        except RuntimeError as error:
            detail = " ".join(str(error).split())
            raise ModelError(f"{folder / WEIGHTS_FILE}: does not fit {MIXER_FILE}'s network ({detail})") from error
        recipe = Recipe.load(folder)
        return cls(recipe, network.to(device).eval(), description["run_in_seconds"], device)

    def save(self, path: str | Path) -> None:
        """Write the Mixer directory, whole or not at all; an older one is replaced.

        Raises:
            OutputError: the folder holds something else, which stays, or the system refuses to write it.
        """
        with whole_folder(Path(path), CONTENTS.refuse_others) as folder:
            self.recipe.save(folder)
            weights = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
            write_weights(weights, folder / WEIGHTS_FILE)
            description = {
                "format": _FORMAT,
                "network": self.network.config,
                "run_in_seconds": self.run_in_seconds,
                "sample_rate": SAMPLE_RATE,
                "stems": list(STEMS),
            }
            write_json(folder / MIXER_FILE, description)

    def normalize(
        self,
        stems: Mapping[str, np.ndarray],
        dry: bool = False,
        seed: int | None = None,
        progress: Progress | None = None,
        taken: bool = False,
        into: np.ndarray | None = None,
        unchanged: Collection[str] = (),
        along: TrackSignals | None = None,
    ) -> np.ndarray:
        """What the network is given: normalized stems.

        Args:
            stems: arrays (1 or 2 channels, samples) at the library's sample rate; lengths may differ.
            dry: the stems are recordings without effects and get the pre-reverb first.
            seed: draws impulse responses and shelves; the default is the training's.
            progress: called before each stem; with 0, because all of this is a small part of a mix.
            taken: stems are taken out of ``stems``, a dictionary, one after the other, which frees their memory.
            into: what an earlier call returned for these stems, to be overwritten and returned again.
            unchanged: stems that are right in ``into``.
            along: signals that add up to the stems; each is overwritten with what its stem gets.

        Returns:
            (8, samples), in the order of STEMS with left before right.
        """
        length = max(stem.shape[1] for stem in stems.values())
        seed = self.seed_of(seed)
        normalizer = self.recipe.normalizer()
        normalized = np.zeros((2 * len(STEMS), length), dtype=np.float32) if into is None else into
        for number, stem in enumerate(STEMS):
            if stem in stems and stem not in unchanged:
                if progress is not None:
                    progress(0.0)
                samples = stems.pop(stem) if taken and isinstance(stems, dict) else stems[stem]
                padded = audio.pad_to(samples, length)
                del samples
                tracks = () if along is None else along.of(stem)
                normalized[2 * number : 2 * number + 2] = normalizer.normalize(
                    padded, SAMPLE_RATE, stem, seed=seed, dry=dry, along=tracks
                )
        return normalized

    def keeping(self, keep: str | None) -> "Mixer":
        """A Mixer with the same network whose normalization leaves an effect out: ``panning`` or ``dynamics``.

        Raises:
            SettingsError: the normalization does not have it; so nothing would stay that does not stay anyway.
        """
        if keep is None:
            return self
        effect, settings = KEPT[keep], self.recipe.settings
        if effect not in settings.effects:
            raise SettingsError(f"keep: {keep} stays anyway: this Mixer's normalization has no {effect}")
        effects = tuple(name for name in settings.effects if name != effect)
        recipe = replace(self.recipe, settings=settings.model_copy(update={"effects": effects}))
        return replace(self, recipe=recipe)

    def seed_of(self, seed: int | None = None, song: str | None = None) -> int:
        """What :meth:`normalize` takes as ``seed`` to draw as :meth:`mix` does with this seed and song."""
        seed = self.recipe.settings.seed if seed is None else seed
        return seed if song is None else song_seed(seed, song)

    def mix_normalized(self, normalized: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The network's mix (2, samples) of normalized stems (8, samples)."""
        with torch.inference_mode():
            stems = torch.from_numpy(np.ascontiguousarray(normalized, dtype=np.float32)).to(self.device)
            mixed = self.network.mix(stems, run_in=self._run_in, progress=progress)
        return mixed.float().cpu().numpy()

    def mix(
        self,
        stems: Mapping[str, np.ndarray],
        sample_rate: int,
        dry: bool = False,
        seed: int | None = None,
        progress: Progress | None = None,
        *,
        target_loudness: float | None = None,
        true_peak: float = DEFAULT_TRUE_PEAK,
        song: str | None = None,
        taken: bool = False,
    ) -> np.ndarray:
        """Mix stems.

        Args:
            stems: float arrays (1 or 2 channels, samples) under the names vocals, bass, drums, other. Any may be
                missing or shorter than the others; silence takes their place.
            sample_rate: Hz; another rate than 44,100 is resampled on the way in and out.
            dry: the stems are recordings without effects, rather than stems of a finished mix.
            seed: draws the impulse responses of the normalization; the default is the training's.
            progress: called with the fraction that is done.
            target_loudness: integrated loudness of the mix in LUFS; the default is as the network mixed it. One gain
                and a limiter bring the mix there (:mod:`fxnorm.mixing.delivery`).
            true_peak: in dBTP, which a mix that is brought to a loudness does not pass.
            song: name of the song, with which each song has draws of its own, as in training and evaluation. With it
                the mix is that of the evaluation, sample for sample.
            taken: stems are taken out of ``stems``, a dictionary, one after the other, which frees their memory.

        Returns:
            float32 (2, samples) at ``sample_rate``, as long as the longest stem, within full scale.

        Raises:
            AudioError: no stem, an unknown stem name, an array that no mix can be made of, or nothing but silence.
            ModelError: the network's mix is not finite.
        """
        refuse_unusable(stems)
        length = max(stem.shape[1] for stem in stems.values())
        prepared = {}
        for name in list(stems):
            stem = stems.pop(name) if taken and isinstance(stems, dict) else stems[name]
            prepared[name] = audio.resample(np.asarray(stem, dtype=np.float32), sample_rate, SAMPLE_RATE)
            del stem
        normalized = self.normalize(prepared, dry, self.seed_of(seed, song), progress, taken=True)
        mixed = self.mix_normalized(normalized, progress)
        del normalized
        refuse_damaged(mixed)
        if target_loudness is None:
            resampled = audio.resample(mixed, SAMPLE_RATE, sample_rate)
        else:
            delivery = Delivery(target_loudness, true_peak, sample_rate=sample_rate)
            resampled = deliver(mixed, delivery, self.recipe.statistics).audio
        # the network's tanh keeps it under full scale; resampling may pass it between the samples
        return np.clip(audio.pad_to(resampled, length)[:, :length], -1.0, 1.0)

    def mix_parts(
        self,
        stems: dict[str, np.ndarray],
        dry: bool = False,
        seed: int | None = None,
        progress: Progress | None = None,
        *,
        song: str | None = None,
        tracks: TrackSignals | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """As :meth:`mix` at 44.1 kHz, as the network mixes it, and what each stem contributes.

        Args:
            stems: as in :meth:`mix`. The dictionary is empty afterwards: each stem's memory is free as soon as it is
                normalized, if nobody else holds it.
            dry: as in :meth:`mix`.
            seed: as in :meth:`mix`.
            progress: as in :meth:`mix`.
            song: as in :meth:`mix`.
            tracks: signals that add up to the stems. Each is overwritten with its share of the mix; the shares of a
                stem add up to its part, but for the rounding of float32.

        Returns:
            the mix, float32 (2, samples), and its parts, float32 (4, 2, samples) in the order of STEMS, which add up to
            it.

        Raises:
            AudioError, ModelError: as :meth:`mix`; and a ModelError, if the network's mix is no sum of parts, an
                AudioError, if tracks are not as long as the longest stem.
        """
        refuse_unusable(stems)
        length = max(stem.shape[1] for stem in stems.values())
        if tracks is not None and tracks.audio.shape[2] != length:
            raise AudioError(f"tracks: expected {length} samples, as the stems have, found {tracks.audio.shape[2]}")
        if not self.network.has_parts:
            raise self.network.without_parts()
        for name, stem in stems.items():
            stems[name] = np.asarray(stem, dtype=np.float32)
        del stem
        normalized = self.normalize(stems, dry, self.seed_of(seed, song), progress, taken=True, along=tracks)
        shares = None
        if tracks is not None:
            shares = StemTracks(torch.from_numpy(tracks.audio), [STEMS.index(stem) for stem in tracks.stems])
        parts = torch.from_numpy(normalized).unflatten(0, (len(STEMS), 2))
        with torch.inference_mode():
            given = torch.from_numpy(normalized).to(self.device)  # on a CPU the same memory, which parts overwrite
            mixed = self.network.mix_parts(given, parts, self._run_in, progress, shares).float().cpu().numpy()
        refuse_damaged(mixed)
        return mixed, parts.numpy()

    @property
    def _run_in(self) -> int:
        return round(self.run_in_seconds * SAMPLE_RATE)


def refuse_damaged(mix: np.ndarray) -> None:
    """Refuse a network's mix that is not finite.

    Raises:
        ModelError: it is not.
    """
    if not np.isfinite(audio.peak_dbfs(mix)):
        raise ModelError("the network's mix holds NaN or infinite samples; its weights may be damaged")


def write_weights(weights: Mapping[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, by Python, whose error for a full disk is more precise than safetensors' own."""
    path.write_bytes(save(dict(weights), metadata))


def _foreign(folder: Path) -> str | None:
    """The file that shows that a folder holds neither a Mixer nor a front-end; None if it holds one of them."""
    name = MIXER_FILE if (folder / MIXER_FILE).is_file() else WEIGHTS_FILE
    try:
        if name == MIXER_FILE:
            description = bounded.read_json(folder / name)
            ours = isinstance(description, dict) and {"network", "stems"} <= description.keys()
        else:
            with safe_open(folder / name, "pt") as file:
                ours = all(key.startswith(FRONT_END_PREFIX) for key in file.keys())  # noqa: SIM118  it is no dictionary
    except (OSError, ValueError, SafetensorError):
        ours = False
    if ours:
        return None
    return next((file_name for file_name in (name, STATISTICS_FILE) if (folder / file_name).exists()), name)


CONTENTS = Contents(
    "a Mixer or a front-end",
    rf"mixer\.json|weights\.safetensors|mlflow_run\.json|trained_on\.json|static_mix\.json|{RECIPE_FILES}",
    _foreign,
)
"""What ``fxnorm train`` and ``fxnorm import-weights`` write, and may replace."""


def refuse_unusable(stems: Mapping[str, np.ndarray]) -> None:
    """Refuse stems that no mix can be made of.

    Raises:
        AudioError: as :meth:`Mixer.mix`.
    """
    if not stems:
        raise AudioError(f"expected at least one stem of {', '.join(STEMS)}, found none")
    for name, stem in stems.items():
        if name not in STEMS:
            raise AudioError(f"{name}: unknown stem; expected {', '.join(STEMS)}")
        audio.check(np.asarray(stem), name)
    if all(audio.peak_dbfs(stem) <= SILENCE_DBFS for stem in stems.values()):
        raise AudioError(f"{', '.join(stems)}: all stems are silent (peaks at or under {SILENCE_DBFS:g} dBFS)")


def _read_description(folder: Path) -> dict[str, Any]:
    file = folder / MIXER_FILE
    if not file.is_file():
        raise ModelError(f"{folder}: expected a Mixer directory with {MIXER_FILE}, found none")
    try:
        description = bounded.read_json(file)
        if description["format"] != _FORMAT:
            raise ModelError(f"{file}: format {description['format']}, expected {_FORMAT}")
        if tuple(description["stems"]) != STEMS or description["sample_rate"] != SAMPLE_RATE:
            raise ModelError(f"{file}: stems or sample rate differ from {', '.join(STEMS)} at {SAMPLE_RATE} Hz")
        network, run_in = description["network"], description["run_in_seconds"]
        if not isinstance(network, dict) or "name" not in network:
            raise ModelError(f"{file}: network: expected a name and sizes")
        if not isinstance(run_in, int | float) or not 0 <= run_in <= _LONGEST_RUN_IN_SECONDS:
            raise ModelError(f"{file}: run_in_seconds: expected 0 to {_LONGEST_RUN_IN_SECONDS:g}")
        return {"network": network, "run_in_seconds": run_in}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file}: not the description of a Mixer ({printable(repr(error), 200)})") from error


def mixer_digest(folder: Path) -> str:
    """A hash of all that the Mixer in ``folder`` is, wherever and in whichever run it was made."""
    total = hashlib.sha256()
    for path in sorted([folder / MIXER_FILE, folder / WEIGHTS_FILE, *files_of(folder)]):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()

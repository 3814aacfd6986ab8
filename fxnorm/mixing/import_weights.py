"""Weights that the method's reference implementation trained, as a Mixer that all other stages and entry points take.

Read are tensors and plain values only: a checkpoint that holds anything else is refused, not unpickled.
"""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from fxnorm import models
from fxnorm.effects.impulse_responses import PRE_REVERBERATION_RT60, REVERBERATION_RT60, ImpulseResponses
from fxnorm.errors import FxnormError, ModelError, SettingsError, first_line
from fxnorm.io import bounded, outputs
from fxnorm.io.files import whole_folder
from fxnorm.mixing.mixer import CONTENTS, FRONT_END_PREFIX, WEIGHTS_FILE, Mixer, write_weights
from fxnorm.models.sizes import Crafx2Sizes
from fxnorm.normalization.recipe import Recipe
from fxnorm.settings import Settings
from fxnorm.statistics import DatasetStatistics

_MOST_REPEATED = 4  # times the file's size that its tensors take, as some share their storage


def run(
    settings: Settings,
    checkpoint: Path,
    output: Path,
    statistics: Path,
    config: Path | None = None,
    impulse_responses: Path | None = None,
    pre_impulse_responses: Path | None = None,
) -> str:
    """Write a Mixer directory, or the front-end alone where nothing else was trained (``PRETRAIN`` in the
    configuration).

    Args:
        settings: of all stages: the normalization's, and the Mixer's run-in.
        checkpoint: a state dict that ``torch.save`` wrote, by itself or in a dictionary of other things.
        output: the Mixer directory.
        statistics: a ``.npz`` file of what the network's training stems were normalized to.
        config: a JSON or YAML file of the network's settings under the reference's names, where they do
            not follow from the weights' shapes, or differ from the published ones.
        impulse_responses: a folder of impulse responses for the reverberation; synthesized ones otherwise.
        pre_impulse_responses: likewise for the pre-reverb of dry recordings.

    Returns:
        a description of what was written.

    Raises:
        FxnormError: a file is missing, not readable or not what it should be; the text names it.
    """
    outputs.check(
        [checkpoint, statistics, config, impulse_responses, pre_impulse_responses],
        [outputs.Folder(output, CONTENTS.refuse_others)],
    )
    reference_config = _read_config(config)
    averages = DatasetStatistics.load(statistics)
    return write(settings, checkpoint, output, averages, reference_config, impulse_responses, pre_impulse_responses)


def write(
    settings: Settings,
    checkpoint: Path,
    output: Path,
    statistics: DatasetStatistics,
    reference_config: Mapping[str, Any],
    impulse_responses: Path | None,
    pre_impulse_responses: Path | None,
) -> str:
    """As :func:`run`, of what is read already, where whether ``output`` may be written is decided.

    Raises:
        FxnormError: a file is missing, not readable or not what it should be; the text names it.
    """
    weights = _read_checkpoint(checkpoint)
    try:
        # the pooling has no weights
        sizes = {"MAX_POOLING": Crafx2Sizes().pooling} | models.infer_config(weights) | dict(reference_config)
        network = models.from_reference(weights, sizes)
    except FxnormError as error:
        raise ModelError(f"{checkpoint}: {error}") from error
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if reference_config.get("PRETRAIN") and isinstance(network, models.CRAFx2):
        front_end = {f"{FRONT_END_PREFIX}{name}": value for name, value in network.front_end.state_dict().items()}
        with whole_folder(output, CONTENTS.refuse_others) as folder:
            write_weights(front_end, folder / WEIGHTS_FILE)
        return "a front-end for train.initial_weights"
    seed = settings.normalize.seed
    recipe = Recipe(
        statistics,
        settings.normalize,
        _impulse_responses(impulse_responses, REVERBERATION_RT60, seed),
        _impulse_responses(pre_impulse_responses, PRE_REVERBERATION_RT60, seed),
        {"checkpoint": hashlib.sha256(checkpoint.read_bytes()).hexdigest()},
    )
    Mixer(recipe, network, settings.train.run_in_seconds, torch.device("cpu")).save(output)
    return f"a Mixer with {network.config['name']}, {parameters:,} parameters"


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        bounded.refuse_inflating(path)
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such checkpoint") from error
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path}: not a checkpoint, or one with more than tensors, which is not unpickled") from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        detail = str(error).strip().partition("\n")[0]
        raise ModelError(f"{path}: not readable as a checkpoint ({detail})") from error
    candidates = [stored, *stored.values()] if isinstance(stored, Mapping) else []
    state_dicts = [candidate for candidate in candidates if _is_state_dict(candidate)]
    if len(state_dicts) != 1:
        raise ModelError(
            f"{path}: expected one dictionary of parameters, by itself or under a key, found {len(state_dicts)}"
        )
    weights = models.unwrapped(state_dicts[0])
    size = sum(value.numel() * value.element_size() for value in weights.values())
    if size > _MOST_REPEATED * path.stat().st_size:
        raise ModelError(f"{path}: refused: its tensors repeat what is stored, and would be larger than the file")
    return weights


def _is_state_dict(candidate: Any) -> bool:
    return (
        isinstance(candidate, Mapping)
        and bool(candidate)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in candidate.items())
    )


def _read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = bounded.read_yaml(path)  # JSON is YAML too
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: not readable as JSON or YAML ({first_line(error)})") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected settings with names, found {type(content).__name__}")
    return content


def _impulse_responses(folder: Path | None, rt60: float, seed: int) -> ImpulseResponses:
    if folder is not None:
        return ImpulseResponses.from_folder(folder)
    return ImpulseResponses.synthesized(rt60, seed=seed)

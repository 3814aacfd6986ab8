"""Weights of the method's reference implementation, under the names and settings of its checkpoints.

Its parameters are a fixed renaming of the parameters here. Its settings are translated to the sizes of the networks
here; a setting that they cannot have is refused. Most settings can be read off the weights' shapes.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from fxnorm.errors import ModelError
from fxnorm.models.crafx2 import CRAFx2
from fxnorm.models.sizes import Crafx2Sizes, Sizes, WaveUNetSizes, parse
from fxnorm.models.wave_u_net import WaveUNet, low_pass

_Network = TypeVar("_Network", CRAFx2, WaveUNet)

_CRAFX2_SIZES = {
    "filters": "N_FEATURES_ENCODER",
    "encoder_kernel": "KERNEL_SIZE_ENCODER",
    "pooling": "MAX_POOLING",
    "bottleneck": "N_FEATURES_SEPARATION_MODULE",
    "hidden": "N_FEATURES_TB",
    "skip": "N_FEATURES_OUT",
    "kernel": "KERNEL_SIZE_TB",
    "blocks": "N_TB_PER_REPEAT",
    "repeats": "N_REPEATS",
    "squeeze_ratio": "SE_AMP_RATIO",
}
_WAVE_U_NET_SIZES = {
    "features": "N_FEATURES_ENCODER",
    "levels": "LEVELS",
    "kernel": "KERNEL_SIZE_ENCODER",
    "stride": "STRIDES",
}
_SHARED_SETTINGS = {"n_channels": 2, "n_targets": 1, "n_stems": 4}
_WAVE_U_NET_SETTINGS = {"FEATURE_GROWTH": "double", "CONV_TYPE": "gn", "RES": "fixed", "DEPTH": 1}

_CRAFX2_NAMES = (
    (r"conv_1\.weight", "front_end.filters"),
    (r"conv_2\.0\.weight", "front_end.smoothing"),
    (r"layerNorm\.(\w+)", r"latent_mixer.norm.\1"),
    (r"bottleneck_conv1x1\.(\w+)", r"latent_mixer.bottleneck.\1"),
    (r"output\.0\.(\w+)", r"latent_mixer.output_activation.\1"),
    (r"output\.1\.(\w+)", r"latent_mixer.output.\1"),
    (r"blstm\.(\w+)", r"latent_mixer.recurrent.\1"),
    (r"se_block\.net\.0\.(\w+)", r"excitation.squeeze.\1"),
    (r"se_block\.net\.2\.(\w+)", r"excitation.excite.\1"),
)
_BLOCK_NAMES = {
    "conv1x1": "expand",
    "nonlinearity1": "expand_activation",
    "norm1": "expand_norm",
    "depthwise_conv": "depthwise",
    "nonlinearity2": "depthwise_activation",
    "norm2": "depthwise_norm",
    "skip_out": "skip",
    "res_out": "residual",
}
_WAVE_U_NET_NAMES = (
    (r"downsampling_blocks\.(\d+)\.", r"down.\1."),
    (r"upsampling_blocks\.(\d+)\.", r"up.\1."),
    (r"pre_shortcut_convs\.0\.", "before_shortcut."),
    (r"post_shortcut_convs\.0\.", "after_shortcut."),
    (r"(down|up)conv\.filter", "resample.filter"),
    (r"bottlenecks\.0\.", "bottleneck."),
    (r"output_conv\.", "output."),
)
_WAVE_U_NET_PREFIX = "network.waveunets.ALL."
_CRAFX2_FIRST = "conv_1.weight"
_WRAPPERS = ("module.", "_orig_mod.", "net.", "network.", "model.")
"""Prefixes of parameters in a network that computes in parallel, is compiled, or is an attribute of another one."""
_HIGHEST_STRIDE = 8


def from_reference(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> CRAFx2 | WaveUNet:
    """A network of the reference implementation, in evaluation mode.

    Args:
        state_dict: tensors under the reference's parameter names.
        config: its settings, as the reference names them (``N_FEATURES_ENCODER`` ...). Which network it is follows from
            the parameters' names. A front-end that was pre-trained alone (``PRETRAIN``) is a CRAFx2 too; what it was
            trained to give is its ``front_end(stems)``.

    Raises:
        ModelError: a setting is missing or not one that this network has, or names or shapes of parameters do not fit.
        SettingsError: a size that makes no sense.
    """
    _check(config, _SHARED_SETTINGS)
    if any(name.startswith(_WAVE_U_NET_PREFIX) for name in state_dict):
        _check(config, _WAVE_U_NET_SETTINGS)
        wave_u_net = parse(WaveUNetSizes, _sizes(config, _WAVE_U_NET_SIZES))
        weights = {_wave_u_net_name(name): value for name, value in state_dict.items()}
        return _load(WaveUNet, wave_u_net, weights)
    crafx2 = parse(Crafx2Sizes, _sizes(config, _CRAFX2_SIZES) | {"front_end": "random"})
    weights = {_crafx2_name(name, crafx2.blocks): value for name, value in state_dict.items()}
    return _load(CRAFx2, crafx2, weights)


def unwrapped(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict under the network's own names, if what it was stored with had put a prefix before all of them.

    Args:
        state_dict: tensors under the reference's parameter names, with prefixes such as ``module.`` or without.
    """
    weights = dict(state_dict)
    while not _has_own_names(weights):  # a Wave-U-Net's own names begin as those of a wrapped network
        prefix = next((prefix for prefix in _WRAPPERS if all(name.startswith(prefix) for name in weights)), None)
        if prefix is None:
            break
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def infer_config(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    """The reference's settings that follow from the weights' shapes: all but CRAFx2's ``MAX_POOLING``.

    Args:
        state_dict: tensors under the reference's parameter names.

    Raises:
        ModelError: a parameter from which a size follows is missing or of another shape.
    """
    if any(name.startswith(_WAVE_U_NET_PREFIX) for name in state_dict):
        return _infer_wave_u_net(state_dict)
    filters, _, encoder_kernel = _convolution(state_dict, _CRAFX2_FIRST)
    hidden, _, kernel = _convolution(state_dict, "repeats.0.0.depthwise_conv.weight")
    return {
        "N_FEATURES_ENCODER": filters,
        "KERNEL_SIZE_ENCODER": encoder_kernel,
        "N_FEATURES_SEPARATION_MODULE": _convolution(state_dict, "bottleneck_conv1x1.weight")[0],
        "N_FEATURES_TB": hidden,
        "N_FEATURES_OUT": _convolution(state_dict, "repeats.0.0.skip_out.weight")[0],
        "KERNEL_SIZE_TB": kernel,
        "N_TB_PER_REPEAT": _count(state_dict, r"repeats\.0\.(\d+)\."),
        "N_REPEATS": _count(state_dict, r"repeats\.(\d+)\."),
        "SE_AMP_RATIO": _parameter(state_dict, "se_block.net.0.bias", 1).shape[0] // filters,
    }


def _has_own_names(weights: Mapping[str, Tensor]) -> bool:
    return not weights or _CRAFX2_FIRST in weights or any(name.startswith(_WAVE_U_NET_PREFIX) for name in weights)


def _infer_wave_u_net(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
    first = f"{_WAVE_U_NET_PREFIX}downsampling_blocks.0."
    features, _, kernel = _convolution(state_dict, f"{first}pre_shortcut_convs.0.filter.weight")
    taps = _parameter(state_dict, f"{first}downconv.filter", 3)[:1].float()
    strides = [stride for stride in range(1, _HIGHEST_STRIDE + 1) if _same(taps, low_pass(stride))]
    if not strides:
        raise ModelError(f"{first}downconv.filter: not the low-pass of a stride of 1 to {_HIGHEST_STRIDE}")
    return {
        "N_FEATURES_ENCODER": features,
        "LEVELS": 1 + _count(state_dict, re.escape(_WAVE_U_NET_PREFIX) + r"downsampling_blocks\.(\d+)\."),
        "KERNEL_SIZE_ENCODER": kernel,
        "STRIDES": strides[0],
    }


def _parameter(state_dict: Mapping[str, Tensor], name: str, dimensions: int) -> Tensor:
    parameter = state_dict.get(name)
    if parameter is None or parameter.dim() != dimensions:
        description = "none" if parameter is None else f"one of {parameter.dim()}"
        raise ModelError(f"expected the reference's parameter {name!r} of {dimensions} dimensions, found {description}")
    return parameter


def _convolution(state_dict: Mapping[str, Tensor], name: str) -> tuple[int, int, int]:
    """Outputs, inputs of a group, and taps."""
    outputs, inputs, taps = _parameter(state_dict, name, 3).shape
    return outputs, inputs, taps


def _count(state_dict: Mapping[str, Tensor], pattern: str) -> int:
    """How many parts there are whose numbers the pattern finds in parameters' names."""
    return 1 + max(int(match[1]) for name in state_dict if (match := re.match(pattern, name)))


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, atol=1e-4)


def _check(config: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise ModelError(f"{name}: expected {value!r}, found {config[name]!r}")


def _sizes(config: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    for name in names.values():
        if name not in config:
            raise ModelError(f"{name}: missing in the reference's configuration")
    return {size: config[reference_name] for size, reference_name in names.items()}


def _crafx2_name(name: str, blocks_per_repeat: int) -> str:
    block = re.fullmatch(r"repeats\.(\d+)\.(\d+)\.(\w+)\.(\w+)", name)
    if block and block[3] in _BLOCK_NAMES:
        number = int(block[1]) * blocks_per_repeat + int(block[2])
        return f"latent_mixer.blocks.{number}.{_BLOCK_NAMES[block[3]]}.{block[4]}"
    for pattern, replacement in _CRAFX2_NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise ModelError(f"{name}: not a parameter of the reference's CRAFx2")


def _wave_u_net_name(name: str) -> str:
    renamed = name.removeprefix(_WAVE_U_NET_PREFIX)
    for pattern, replacement in _WAVE_U_NET_NAMES:
        renamed = re.sub(pattern, replacement, renamed)
    return renamed


def _load(build: Callable[[Sizes], _Network], sizes: Sizes, weights: Mapping[str, Tensor]) -> _Network:
    try:
        sizes.refuse_larger_than(sum(value.numel() for value in weights.values()))
        network = build(sizes)
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ModelError(f"reference weights do not fit: {' '.join(str(error).split())}") from error
    return network.eval()

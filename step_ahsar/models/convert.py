"""State dicts in the key layout of other libraries' models, and back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError, unknown
from step_ahsar.layers import SpikingConv, SpikingSelfAttention
from step_ahsar.models.qkformer import QKFormer, Stage
from step_ahsar.models.spikformer import Spikformer

StateDict = dict[str, Tensor]

_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class _Link:
    """Where one convolution and its norm live: here (several, if the other model joins their channels), and there."""

    ours: tuple[str, ...]
    conv: str
    norm: str
    bias: bool  # whether their convolution has one


def convert_state_dict(state_dict: Mapping[str, Tensor], model: nn.Module, to: str = "spikingjelly") -> StateDict:
    """Weights of ``model`` in another library's layout, or that library's weights in ours.

    In eval mode both models then give the same logits. A bias that the other side has no place for moves into the
    running mean of the norm behind it, which is exact in eval mode; a bias that it has besides is 0.

    Args:
        state_dict: of ``model`` for ``to="spikingjelly"``; of SpikingJelly's model for ``to="step_ahsar"``.
        model: a Spikformer or QKFormer of this package, as built for these weights.
        to: "spikingjelly" (2.0, ``spikingjelly.activation_based.model.spikformer`` and ``.qkformer``) or "step_ahsar".

    Raises:
        UserError: the other library has no such model, or a key is missing or has no counterpart.
    """
    if to not in ("spikingjelly", "step_ahsar"):
        raise unknown("layout", to, ["spikingjelly", "step_ahsar"])
    left = dict(state_dict)
    converted: StateDict = {}
    for link in _spikingjelly_links(model):
        if to == "spikingjelly":
            _put(converted, link.conv, link.norm, _join([_take(left, *_ours(path)) for path in link.ours]), link.bias)
        else:
            parts = _split(_take(left, link.conv, link.norm), len(link.ours))
            for path, part in zip(link.ours, parts, strict=True):
                _put(converted, *_ours(path), part, bias=_conv(model, path).conv.bias is not None)
    for key in ("head.weight", "head.bias"):
        if key in left:
            converted[key] = left.pop(key)
    if left:
        raise UserError(
            f"{next(iter(left))!r} has no counterpart in the layout {to!r}; it belongs to another model, "
            "or to a neuron whose state must be folded into the weights first"
        )
    return converted


def _spikingjelly_links(model: nn.Module) -> Iterator[_Link]:
    if isinstance(model, Spikformer):
        links = _spikformer_links(model)
    elif isinstance(model, QKFormer):
        links = _qkformer_links(model)
    else:
        raise UserError(f"no layout of SpikingJelly's is known for {type(model).__name__}; known: Spikformer, QKFormer")
    if model.ndim != 2:
        raise UserError("SpikingJelly's models take images, not sequences")
    for name, module in model.named_modules():
        if isinstance(module, SpikingConv) and module.pool is not None and not module.pool_first:
            raise UserError(
                f"SpikingJelly's models pool before the neuron, {name!r} after it; build with pool_first=True"
            )
        if isinstance(module, SpikingSelfAttention) and module.scale != 0.125:
            raise UserError(f"SpikingJelly's attention has the scale 0.125, {name!r} has {module.scale:g}")
    return links


def _spikformer_links(model: Spikformer) -> Iterator[_Link]:
    pools = [conv.pool is not None for conv in model.patch_embed.stages]
    if pools not in ([False, False, True, True], [True] * 4):
        raise UserError("SpikingJelly's Spikformer pools in the last two stages (patch_size 4) or in all four (16)")
    for i in range(len(pools)):
        yield _numbered(f"patch_embed.stages.{i}", there=f"patch_embed.stages.{i}.conv_bn.block")
    yield _numbered("patch_embed.position", there="patch_embed.positional_encoding.conv_bn.block")
    for i in range(len(model.blocks)):
        here = f"blocks.{i}"
        yield from _attention_links(f"{here}.attn", there=f"{here}.attn", joined="qkv")
        yield _numbered(f"{here}.mlp.fc1", there=f"{here}.mlp.fc1")
        yield _numbered(f"{here}.mlp.fc2", there=f"{here}.mlp.fc2")


def _qkformer_links(model: QKFormer) -> Iterator[_Link]:
    if model.form != "imagenet" or len(model.stages) != 3:
        raise UserError("SpikingJelly's QKFormer has the ImageNet form and three stages")
    for s, stage in enumerate(model.stages):
        assert isinstance(stage, Stage)
        here, embed = f"stages.{s}", f"patch_embed{s + 1}"
        convs = [f"stem.{i}" for i in range(len(stage.patch_embed.stem))] + ["main.0", "main.1"]
        for i, conv in enumerate(convs, start=1):
            yield _Link((f"{here}.patch_embed.{conv}",), f"{embed}.conv{i}", f"{embed}.bn{i}", bias=True)
        yield _numbered(f"{here}.patch_embed.shortcut", there=f"{embed}.shortcut", bias=True)
        joined = "qkv" if s == 2 else "qk"
        for j in range(len(stage.blocks)):
            block, there = f"{here}.blocks.{j}", f"stage{s + 1}.{j}"
            yield from _attention_links(f"{block}.attn", there=f"{there}.attn", joined=joined)
            for i in (1, 2):
                yield _Link((f"{block}.mlp.fc{i}",), f"{there}.mlp.fc{i}", f"{there}.mlp.bn{i}", bias=True)


def _attention_links(here: str, there: str, joined: str) -> Iterator[_Link]:
    yield _numbered(*(f"{here}.{letter}" for letter in joined), there=f"{there}.{joined}_conv_bn")
    yield _numbered(f"{here}.proj", there=f"{there}.proj_conv_bn")


def _numbered(*ours: str, there: str, bias: bool = False) -> _Link:
    return _Link(ours, f"{there}.0", f"{there}.1", bias)


def _ours(path: str) -> tuple[str, str]:
    return f"{path}.conv", f"{path}.norm"


def _conv(model: nn.Module, path: str) -> SpikingConv:
    module = model.get_submodule(path)
    assert isinstance(module, SpikingConv)
    return module


def _take(state_dict: StateDict, conv: str, norm: str) -> StateDict:
    """Removes a convolution and its norm from ``state_dict``: "conv" (and "conv_bias"), and the norm's tensors."""
    try:
        layer = {"conv": state_dict.pop(f"{conv}.weight"), **{key: state_dict.pop(f"{norm}.{key}") for key in _NORM}}
    except KeyError as missing:
        raise UserError(f"the state dict has no {missing.args[0]!r}; it does not belong to this model") from None
    if f"{conv}.bias" in state_dict:
        layer["conv_bias"] = state_dict.pop(f"{conv}.bias")
    return layer


def _put(state_dict: StateDict, conv: str, norm: str, layer: StateDict, bias: bool) -> None:
    """The reverse of :func:`_take`, for a convolution with or without a bias."""
    state_dict[f"{conv}.weight"] = layer["conv"]
    if bias:
        state_dict[f"{conv}.bias"] = layer.get("conv_bias", torch.zeros_like(layer["bias"]))
    for key in _NORM:
        state_dict[f"{norm}.{key}"] = layer[key]
    if not bias and "conv_bias" in layer:  # (x + b) - mean = x - (mean - b)
        state_dict[f"{norm}.running_mean"] = layer["running_mean"] - layer["conv_bias"]


def _join(layers: list[StateDict]) -> StateDict:
    """One layer with the output channels of all."""
    first = layers[0]
    return {key: torch.cat([layer[key] for layer in layers]) if first[key].ndim else first[key] for key in first}


def _split(layer: StateDict, parts: int) -> list[StateDict]:
    """``parts`` layers with an equal share of the output channels each."""
    shares = {key: value.chunk(parts) if value.ndim else [value] * parts for key, value in layer.items()}
    return [{key: share[i].clone() for key, share in shares.items()} for i in range(parts)]

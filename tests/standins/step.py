"""A small stand-in for STEP's code base: the names that its state dicts have, and layers built the way it builds them.

Faults included: the model's number of time steps reaches some layers only, and the node swallows ``act_func``.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from step_ahsar.libraries.braincog.adapter import load_nodes

pytest.importorskip("braincog")
bc = load_nodes()
SigmoidGrad, AtanGrad, QGateGrad, GateGrad = bc.SigmoidGrad, bc.AtanGrad, bc.QGateGrad, bc.GateGrad
Node = Callable[..., nn.Module]


class LIFNode(bc.LIFNode):
    """BrainCog's node for tokens too. What it does not know it swallows."""

    def __init__(
        self,
        threshold: float = 1.0,
        step: int = 4,
        layer_by_layer: bool = True,
        tau: float = 2.0,
        act_fun: Any = SigmoidGrad,
        mem_detach: bool = False,
        **_: Any,
    ) -> None:
        options = {"step": step, "layer_by_layer": layer_by_layer, "mem_detach": mem_detach}
        super().__init__(threshold, tau, act_fun, **options)
        self.act_fun = SigmoidGrad(alpha=4.0)

    def rearrange2node(self, inputs: Tensor) -> Tensor:
        return inputs.unflatten(0, (self.step, -1)) if self.layer_by_layer else inputs

    def rearrange2op(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(0, 1) if self.layer_by_layer else inputs


class Base(nn.Module):
    """As BrainCog's BaseModule: knows T, encodes, resets every node below it."""

    def __init__(self, step: int = 4) -> None:
        super().__init__()
        self.step = step

    def reset(self) -> None:
        for module in self.modules():
            if hasattr(module, "n_reset"):
                module.n_reset()

    def add(
        self, lif: str, conv: str, weights: nn.Module, norm: str, channels: int, ndim: int, node: nn.Module
    ) -> None:
        setattr(self, conv, weights)
        setattr(self, norm, (nn.BatchNorm1d if ndim == 1 else nn.BatchNorm2d)(channels))
        setattr(self, lif, node)


def node_maker(node: Node, options: dict[str, Any], step: int) -> Callable[..., nn.Module]:
    def make(threshold: float = options["threshold"]) -> nn.Module:
        act = options["act_func"](alpha=options["alpha"])
        shared = {"layer_by_layer": True, "mem_detach": False}
        return node(step=step, tau=options["tau"], act_func=act, threshold=threshold, **shared)

    return make


# -- Spikformer, CIFAR form --------------------------------------------------------------------------------------------


class SPS(Base):
    def __init__(self, node: Node, options: dict[str, Any], dim: int, in_channels: int, step: int = 4) -> None:
        super().__init__(step)
        make = node_maker(node, options, step)
        widths = [in_channels, dim // 8, dim // 4, dim // 2, dim]
        for i, (before, after) in enumerate(pairwise(widths)):
            n = str(i or "")
            weights = nn.Conv2d(before, after, 3, padding=1, bias=False)
            self.add(f"proj_lif{n}", f"proj_conv{n}", weights, f"proj_bn{n}", after, 2, make())
        self.add("rpe_lif", "rpe_conv", nn.Conv2d(dim, dim, 3, padding=1, bias=False), "rpe_bn", dim, 2, make())
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        for n in ("", "1", "2", "3"):
            x = getattr(self, f"proj_lif{n}")(getattr(self, f"proj_bn{n}")(getattr(self, f"proj_conv{n}")(x)))
            x = self.pool(x) if n in ("2", "3") else x
        return (x + self.rpe_lif(self.rpe_bn(self.rpe_conv(x)))).flatten(2).mT  # TB N C


class LinearLayers(Base):
    def layer(self, name: str, before: int, after: int, node: nn.Module) -> None:
        self.add(f"{name}_lif", f"{name}_linear", nn.Linear(before, after), f"{name}_bn", after, 1, node)

    def run(self, name: str, x: Tensor) -> Tensor:
        x = getattr(self, f"{name}_linear")(x)
        return getattr(self, f"{name}_lif")(getattr(self, f"{name}_bn")(x.mT).mT)


class TokenSSA(LinearLayers):
    def __init__(self, node: Node, options: dict[str, Any], dim: int, heads: int, step: int = 4) -> None:
        super().__init__(step)
        make = node_maker(node, options, step)
        for name in ("q", "k", "v"):
            self.layer(name, dim, dim, make())
        self.attn_lif = make(0.5)
        self.layer("proj", dim, dim, make())
        self.heads, self.scale = heads, 0.125

    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        q, k, v = (self.run(n, x).unflatten(2, (self.heads, -1)).transpose(1, 2) for n in ("q", "k", "v"))
        x = ((q @ k.mT) * self.scale @ v).transpose(1, 2).flatten(2)
        return self.run("proj", self.attn_lif(x))


class TokenMLP(LinearLayers):
    def __init__(self, node: Node, options: dict[str, Any], dim: int, step: int = 4) -> None:
        super().__init__(step)
        make = node_maker(node, options, step)
        self.layer("fc1", dim, 4 * dim, make())
        self.layer("fc2", 4 * dim, dim, make())

    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        return self.run("fc2", self.run("fc1", x))


class Block(nn.Module):
    def __init__(self, node: Node, options: dict[str, Any], dim: int, heads: int, step: int = 4) -> None:
        super().__init__()
        self.attn, self.mlp = TokenSSA(node, options, dim, heads, step), TokenMLP(node, options, dim, step)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class Model(Base):
    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        x = self.features(x.repeat(self.step, 1, 1, 1))  # TB ...
        return self.head(x.unflatten(0, (self.step, -1)).mean(0))


def _options(tau: float, threshold: float, act_func: Any, alpha: float) -> dict[str, Any]:
    return {"tau": tau, "threshold": threshold, "act_func": act_func, "alpha": alpha}


class Spikformer(Model):
    def __init__(
        self,
        step: int = 4,
        embed_dim: int = 64,
        num_heads: int = 2,
        depths: int = 2,
        in_channels: int = 3,
        num_classes: int = 10,
        node: Node = LIFNode,
        tau: float = 2.0,
        threshold: float = 1.0,
        act_func: Any = SigmoidGrad,
        alpha: float = 4.0,
    ) -> None:
        super().__init__(step)
        options = _options(tau, threshold, act_func, alpha)
        self.patch_embed = SPS(node, options, embed_dim, in_channels)  # nobody tells these of T
        self.block = nn.ModuleList(Block(node, options, embed_dim, num_heads) for _ in range(depths))
        self.head = nn.Linear(embed_dim, num_classes)

    def features(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for block in self.block:
            x = block(x)
        return x.mean(1)


# -- QKFormer, CIFAR form ----------------------------------------------------------------------------------------------


class ConvLayers(Base):
    def run(self, conv: str, norm: str, lif: str, x: Tensor, pool: bool = False) -> Tensor:
        x = getattr(self, norm)(getattr(self, conv)(x))
        return getattr(self, lif)(nn.functional.max_pool2d(x, 3, 2, 1) if pool else x)


class Embedding(ConvLayers):
    """PatchInit (names "proj", "proj1") or PatchEmbedding ("proj3", "proj4", which pools)."""

    def __init__(self, node: Node, options: dict[str, Any], first: int, dim: int, step: int) -> None:
        super().__init__(step)
        make = node_maker(node, options, step)
        self.names = ("proj", "proj1") if first else ("proj3", "proj4")
        half = dim // 2
        widths = ((first, half), (half, dim)) if first else ((half, dim), (dim, dim))
        for name, (before, after) in zip(self.names, widths, strict=True):
            weights = nn.Conv2d(before, after, 3, padding=1, bias=False)
            self.add(f"{name}_lif", f"{name}_conv", weights, f"{name}_bn", after, 2, make())
        shortcut = nn.Conv2d(half, dim, 1, stride=1 if first else 2, bias=False)
        self.add("proj_res_lif", "proj_res_conv", shortcut, "proj_res_bn", dim, 2, make())
        self.starts = bool(first)

    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        first, second = ((f"{name}_conv", f"{name}_bn", f"{name}_lif") for name in self.names)
        shortcut = ("proj_res_conv", "proj_res_bn", "proj_res_lif")
        inner = self.run(*first, x)
        return self.run(*second, inner, pool=not self.starts) + self.run(*shortcut, inner if self.starts else x)


class ChannelAttention(ConvLayers):
    """SSA ("q", "k", "v") or token QK attention ("q", "k")."""

    def __init__(self, node: Node, options: dict[str, Any], dim: int, heads: int, names: str, step: int) -> None:
        super().__init__(step)
        make = node_maker(node, options, step)
        for name in names:
            self.add(f"{name}_lif", f"{name}_conv", nn.Conv1d(dim, dim, 1, bias=False), f"{name}_bn", dim, 1, make())
        self.attn_lif = make(0.5)
        self.add("proj_lif", "proj_conv", nn.Conv1d(dim, dim, 1), "proj_bn", dim, 1, make())
        self.heads, self.names = heads, names
        if names == "qkv":
            self.scale = 0.125

    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        shape, tokens = x.shape, x.flatten(2)
        parts = [
            self.run(f"{n}_conv", f"{n}_bn", f"{n}_lif", tokens).unflatten(1, (self.heads, -1)) for n in self.names
        ]
        if self.names == "qkv":
            q, k, v = (part.mT for part in parts)
            gated = self.attn_lif(((q @ (k.mT @ v)) * self.scale).mT)
        else:
            gated = self.attn_lif(parts[0].sum(2, keepdim=True)) * parts[1]
        return self.run("proj_conv", "proj_bn", "proj_lif", gated.flatten(1, 2)).view(shape)


class ChannelMLP(ConvLayers):
    def __init__(self, node: Node, options: dict[str, Any], dim: int, step: int) -> None:
        super().__init__(step)
        make = node_maker(node, options, step)
        self.add("fc_lif1", "fc_conv1", nn.Conv2d(dim, 4 * dim, 1), "fc_bn1", 4 * dim, 2, make())
        self.add("fc_lif2", "fc_conv2", nn.Conv2d(4 * dim, dim, 1), "fc_bn2", dim, 2, make())

    def forward(self, x: Tensor) -> Tensor:
        self.reset()
        return self.run("fc_conv2", "fc_bn2", "fc_lif2", self.run("fc_conv1", "fc_bn1", "fc_lif1", x))


class ChannelBlock(nn.Module):
    def __init__(self, node: Node, options: dict[str, Any], dim: int, heads: int, names: str, step: int) -> None:
        super().__init__()
        self.attention = "ssa" if names == "qkv" else "tssa"
        setattr(self, self.attention, ChannelAttention(node, options, dim, heads, names, step))
        self.mlp = ChannelMLP(node, options, dim, step)

    def forward(self, x: Tensor) -> Tensor:
        x = x + getattr(self, self.attention)(x)
        return x + self.mlp(x)


class QKFormer(Model):
    def __init__(
        self,
        step: int = 4,
        embed_dim: int = 64,
        num_heads: int = 2,
        depths: int = 3,
        in_channels: int = 3,
        num_classes: int = 10,
        node: Node = LIFNode,
        tau: float = 2.0,
        threshold: float = 1.0,
        act_func: Any = SigmoidGrad,
        alpha: float = 4.0,
    ) -> None:
        super().__init__(step)
        options = _options(tau, threshold, act_func, alpha)
        for i, (dim, blocks) in enumerate(((embed_dim // 4, 1), (embed_dim // 2, 1), (embed_dim, depths - 2)), 1):
            setattr(self, f"patch_embed{i}", Embedding(node, options, in_channels if i == 1 else 0, dim, step))
            names = "qkv" if i == 3 else "qk"
            layers = (ChannelBlock(node, options, dim, num_heads, names, step) for _ in range(blocks))
            setattr(self, f"stage{i}", nn.ModuleList(layers))
        self.head = nn.Linear(embed_dim, num_classes)

    def features(self, x: Tensor) -> Tensor:
        for i in (1, 2, 3):
            x = getattr(self, f"patch_embed{i}")(x)
            for block in getattr(self, f"stage{i}"):
                x = block(x)
        return x.flatten(2).mean(2)


def train(model: nn.Module, batches: list[tuple[Tensor, Tensor]], epochs: int = 1) -> None:
    """The trainer's loop: it knows of no controller."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        model.train()
        for x, y in batches:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            for module in model.modules():  # an old SpikingJelly's reset_net
                if hasattr(module, "reset"):
                    module.reset()
        model.eval()
        with torch.no_grad():
            for x, _ in batches:
                model(x)

"""``spikformer_cifar`` and ``qkformer_cifar`` of STEP, whose models are built on BrainCog.

Spikformer pools after the neuron, QKFormer has the CIFAR form.
"""

from typing import Any

import torch
from torch import Tensor

from step_ahsar.errors import UserError
from step_ahsar.libraries.layout import (
    Layout,
    Link,
    ModelLayouts,
    check_images,
    check_pools,
    check_scales,
    check_spike_shortcuts,
)
from step_ahsar.models._staged import Stage
from step_ahsar.models.qkformer import QKFormer
from step_ahsar.models.spikformer import Spikformer


def _spikformer(model: Spikformer, layout: Layout) -> None:
    check_images(model, "braincog")
    check_pools(model, "STEP", before=False)
    check_scales(model, "STEP")
    pools = [conv.pool is not None for conv in model.patch_embed.stages]
    if pools != [False, False, True, True]:
        raise UserError("STEP's spikformer_cifar pools in the last two of its four stages")
    for i in range(len(pools)):
        conv, norm, lif = (f"patch_embed.proj_{part}{i or ''}" for part in ("conv", "bn", "lif"))
        layout.links.append(Link((f"patch_embed.stages.{i}",), conv, norm, lif))
    layout.links.append(_named("patch_embed.position", "patch_embed.rpe", "conv"))
    for i in range(len(model.blocks)):
        here, there = f"blocks.{i}", f"block.{i}"
        for part in ("attn.q", "attn.k", "attn.v", "attn.proj", "mlp.fc1", "mlp.fc2"):
            layout.links.append(_named(f"{here}.{part}", f"{there}.{part}", "linear", bias=True, axes=0))
        layout.apart[f"{there}.attn.attn_lif"] = f"{here}.attn.neuron"


def _qkformer(model: QKFormer, layout: Layout) -> None:
    check_spike_shortcuts(model, "STEP")
    check_images(model, "braincog")
    check_pools(model, "STEP", before=True)
    check_scales(model, "STEP")
    stages = [stage for stage in model.stages if isinstance(stage, Stage)]
    if model.form != "cifar" or len(model.stages) != 3 or any(len(stage.blocks) > 1 for stage in stages[:2]):
        raise UserError("STEP's qkformer_cifar has the CIFAR form and three stages, the first two of one block")
    for s, stage in enumerate(stages, start=1):
        here = f"stages.{s - 1}"
        embed, there = f"{here}.patch_embed", f"patch_embed{s}"
        convs = {"stem.0": "proj", "main.0": "proj1"} if s == 1 else {"main.0": "proj3", "main.1": "proj4"}
        for ours, name in {**convs, "shortcut": "proj_res"}.items():
            layout.links.append(_named(f"{embed}.{ours}", f"{there}.{name}", "conv"))
        attention, letters = ("ssa", "qkv") if s == 3 else ("tssa", "qk")
        for j in range(len(stage.blocks)):
            block, there = f"{here}.blocks.{j}", f"stage{s}.{j}"
            for letter in letters:
                layout.links.append(_named(f"{block}.attn.{letter}", f"{there}.{attention}.{letter}", "conv"))
            layout.links.append(_named(f"{block}.attn.proj", f"{there}.{attention}.proj", "conv", bias=True))
            layout.apart[f"{there}.{attention}.attn_lif"] = f"{block}.attn.neuron"
            for n in (1, 2):
                conv, norm, lif = (f"{there}.mlp.fc_{part}{n}" for part in ("conv", "bn", "lif"))
                layout.links.append(Link((f"{block}.mlp.fc{n}",), conv, norm, lif, bias=True, axes=2))


def _named(ours: str, there: str, kind: str, bias: bool = False, axes: int | None = None) -> Link:
    return Link((ours,), f"{there}_{kind}", f"{there}_bn", f"{there}_lif", bias, axes)


def _attributes(neuron: Any, there: str) -> dict[str, Any]:
    if neuron.reset == "soft":
        raise UserError("the models of 'braincog' have no soft reset")
    return {f"{there}.tau": neuron.tau}


def _state(neuron: Any, there: str) -> dict[str, Tensor]:
    """Thresholds and the surrogates' alphas are parameters."""
    return {
        f"{there}.threshold": torch.tensor(neuron.threshold),
        f"{there}.act_fun.alpha": torch.tensor(float(getattr(neuron, "alpha", 4.0))),
    }


LAYOUTS = ModelLayouts(
    models={Spikformer: _spikformer, QKFormer: _qkformer}, neurons=("lif",), attributes=_attributes, state=_state
)

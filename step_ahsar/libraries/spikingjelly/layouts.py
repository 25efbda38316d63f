"""Spikformer, QKFormer, Spike-driven Transformer and Max-Former of SpikingJelly 2.0's ``activation_based.model``.

Spikformer pools before the neuron, QKFormer has the ImageNet form, and Max-Former the form for CIFAR.
"""

from typing import Any

from torch import nn

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
from step_ahsar.models.maxformer import MaxFormer
from step_ahsar.models.qkformer import QKFormer
from step_ahsar.models.sdt import SpikeDrivenTransformer
from step_ahsar.models.spikformer import Spikformer


def _spikformer(model: Spikformer, layout: Layout) -> None:
    check_images(model, "spikingjelly")
    check_pools(model, "SpikingJelly", before=True)
    check_scales(model, "SpikingJelly")
    pools = [conv.pool is not None for conv in model.patch_embed.stages]
    if pools not in ([False, False, True, True], [True] * 4):
        raise UserError("SpikingJelly's Spikformer pools in the last two stages (patch_size 4) or in all four (16)")
    embed = {f"stages.{i}": f"stages.{i}" for i in range(len(pools))} | {"position": "positional_encoding"}
    for here, there in embed.items():
        there = f"patch_embed.{there}"
        layout.links.append(_numbered(f"patch_embed.{here}", there=f"{there}.conv_bn.block", neuron=f"{there}.neuron"))
    for i in range(len(model.blocks)):
        block = f"blocks.{i}"
        _attention(layout, f"{block}.attn", f"{block}.attn", "qkv")
        for n in (1, 2):
            mlp = f"{block}.mlp"
            layout.links.append(_numbered(f"{mlp}.fc{n}", there=f"{mlp}.fc{n}", neuron=f"{mlp}.neuron{n}"))


def _qkformer(model: QKFormer, layout: Layout) -> None:
    check_spike_shortcuts(model, "SpikingJelly")
    check_images(model, "spikingjelly")
    check_pools(model, "SpikingJelly", before=True)
    check_scales(model, "SpikingJelly")
    if model.form != "imagenet" or len(model.stages) != 3:
        raise UserError("SpikingJelly's QKFormer has the ImageNet form and three stages")
    for s, stage in enumerate(model.stages, start=1):
        here = f"stages.{s - 1}"
        assert isinstance(stage, Stage)
        embed, there, stem = f"{here}.patch_embed", f"patch_embed{s}", stage.patch_embed.get_submodule("stem")
        assert isinstance(stem, nn.Sequential)
        convs = [f"stem.{i}" for i in range(len(stem))] + ["main.0", "main.1"]
        for i, conv in enumerate(convs, start=1):
            names = f"{there}.conv{i}", f"{there}.bn{i}", f"{there}.lif{i}"
            layout.links.append(Link((f"{embed}.{conv}",), *names, bias=True))
        shortcut = f"{there}.shortcut"
        layout.links.append(_numbered(f"{embed}.shortcut", there=shortcut, neuron=f"{shortcut}.2", bias=True))
        for j in range(len(stage.blocks)):
            block, there = f"{here}.blocks.{j}", f"stage{s}.{j}"
            _attention(layout, f"{block}.attn", f"{there}.attn", "qkv" if s == 3 else "qk")
            for n in (1, 2):
                names = f"{there}.mlp.fc{n}", f"{there}.mlp.bn{n}", f"{there}.mlp.lif{n}"
                layout.links.append(Link((f"{block}.mlp.fc{n}",), *names, bias=True))


def _sdt(model: SpikeDrivenTransformer, layout: Layout) -> None:
    check_images(model, "spikingjelly")
    embed, links = "patch_embed", layout.links
    for i in range(3):
        stage = f"{embed}.stages.{i}"
        links.append(Link((stage,), f"{stage}.0", f"{stage}.1", f"{stage}.2", bias=True))
    final, position = f"{embed}.final_stage", f"{embed}.rpe"
    links.append(Link((f"{embed}.stages.3",), f"{final}.0", f"{final}.1", None, bias=True))
    links.append(Link((f"{embed}.position",), f"{position}_conv", f"{position}_bn", None))
    layout.apart[f"{embed}.final_lif"] = f"{embed}.stream.neuron"
    for i in range(len(model.blocks)):
        attn, mlp = f"blocks.{i}.attn", f"blocks.{i}.mlp"
        for name in ("q", "k", "v", "proj"):
            neuron = None if name == "proj" else f"{attn}.{name}_lif"
            links.append(
                Link((f"{attn}.{name}",), f"{attn}.{name}_conv", f"{attn}.{name}_bn", neuron, name == "proj", 2)
            )
        links.append(Link((f"{mlp}.fc1",), f"{mlp}.fc1", f"{mlp}.bn1", f"{mlp}.lif2", bias=True, axes=2))
        links.append(Link((f"{mlp}.fc2",), f"{mlp}.fc2", f"{mlp}.bn2", None, bias=True, axes=2))
        layout.apart[f"{attn}.shortcut_lif"] = f"{attn}.stream.neuron"
        layout.apart[f"{attn}.attn_lif"] = f"{attn}.neuron"
        layout.apart[f"{mlp}.lif1"] = f"{mlp}.stream.neuron"
    layout.apart["head_lif"] = "head_neuron.neuron"


def _maxformer(model: MaxFormer, layout: Layout) -> None:
    check_images(model, "spikingjelly")
    check_scales(model, "SpikingJelly")
    if model.form != "cifar" or len(model.stages) != 3:
        raise UserError("SpikingJelly's Max-Former of the authors' form is that for CIFAR, with three stages")
    links, apart, first = layout.links, layout.apart, "stages.0.patch_embed"
    links.append(Link((f"{first}.stem.0",), "patch_embed1.conv", "patch_embed1.bn", "patch_embed1.branch.0"))
    apart["patch_embed1.shortcut.0"] = f"{first}.stem.0.neuron"  # both read the same membrane
    for ours, there in (("main.0", "branch"), ("shortcut", "shortcut")):
        links.append(Link((f"{first}.{ours}",), f"patch_embed1.{there}.1", f"patch_embed1.{there}.2", None))
    for s in (2, 3):
        here, there = f"stages.{s - 1}.patch_embed", f"patch_embed{s}"
        apart[f"{there}.lif1"] = f"{here}.stem.0.neuron"
        links.append(Link((f"{here}.main.0",), f"{there}.conv1", f"{there}.bn1", f"{there}.lif2"))
        links.append(Link((f"{here}.main.1",), f"{there}.conv2", f"{there}.bn2", None))
        links.append(Link((f"{here}.shortcut",), f"{there}.shortcut.0", f"{there}.shortcut.1", None))
    for s, stage in enumerate(model.stages, start=1):
        assert isinstance(stage, Stage)
        for j in range(len(stage.blocks)):
            here, there = f"stages.{s - 1}.blocks.{j}", f"stage{s}.{j}"
            if s == 2:
                apart[f"{there}.lif"] = f"{here}.attn.stream.neuron"
                links.append(Link((f"{here}.attn.mix",), f"{there}.dwconv", f"{there}.bn", None, bias=True))
            elif s == 3:
                attn, joined = f"{there}.attn", tuple(f"{here}.attn.{letter}" for letter in "qkv")
                apart[f"{attn}.input_lif"] = f"{here}.attn.stream.neuron"
                apart[f"{attn}.attn_lif"] = f"{here}.attn.neuron"
                links.append(Link(joined, f"{attn}.qkv.0", f"{attn}.qkv.1", f"{attn}.qkv_lif"))
                links.append(Link((f"{here}.attn.proj",), f"{attn}.proj.0", f"{attn}.proj.1", None, bias=True))
            mlp = there if s == 1 else f"{there}.mlp"
            apart[f"{mlp}.lif1"] = f"{here}.mlp.stream.neuron"
            links.append(Link((f"{here}.mlp.fc1",), f"{mlp}.fc1", f"{mlp}.bn1", f"{mlp}.lif2", bias=True, axes=2))
            links.append(Link((f"{here}.mlp.fc2",), f"{mlp}.fc2", f"{mlp}.bn2", None, bias=True, axes=2))
    apart["head_lif"] = "head_neuron.neuron"


def _attention(layout: Layout, here: str, there: str, joined: str) -> None:
    ours = [f"{here}.{letter}" for letter in joined]
    layout.links.append(_numbered(*ours, there=f"{there}.{joined}_conv_bn", neuron=f"{there}.{joined}_lif"))
    layout.links.append(_numbered(f"{here}.proj", there=f"{there}.proj_conv_bn", neuron=f"{there}.proj_lif"))
    layout.apart[f"{there}.attn_lif"] = f"{here}.neuron"


def _numbered(*ours: str, there: str, neuron: str, bias: bool = False) -> Link:
    return Link(ours, f"{there}.0", f"{there}.1", neuron, bias)


def _attributes(neuron: Any, there: str) -> dict[str, Any]:
    """Thresholds, resets and time constants are plain attributes."""
    reset = {f"{there}.v_threshold": neuron.threshold, f"{there}.v_reset": None if neuron.reset == "soft" else 0.0}
    return reset | ({f"{there}.tau": neuron.tau} if neuron.name == "lif" else {})


LAYOUTS = ModelLayouts(
    models={Spikformer: _spikformer, QKFormer: _qkformer, SpikeDrivenTransformer: _sdt, MaxFormer: _maxformer},
    neurons=("if", "lif"),
    attributes=_attributes,
)

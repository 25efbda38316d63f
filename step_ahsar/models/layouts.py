"""Where the parts of a Spikformer or QKFormer live in other libraries' models of the same architecture.

"spikingjelly": ``spikformer`` and ``qkformer`` of SpikingJelly 2.0's ``activation_based.model``; the one pools before
the neuron, the other has the ImageNet form. "braincog": ``spikformer_cifar`` and ``qkformer_cifar`` of STEP, which is
built on BrainCog; the one pools after the neuron.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import nn

from step_ahsar.errors import UserError, unknown
from step_ahsar.layers import SpikingConv, SpikingSelfAttention
from step_ahsar.models.qkformer import QKFormer, Stage
from step_ahsar.models.spikformer import Spikformer


@dataclass(frozen=True)
class Link:
    """A convolution with its norm and its neuron, here and there.

    Args:
        ours: paths of a :class:`SpikingConv` here; several if the other model joins their channels.
        conv: their convolution or linear layer.
        norm: their norm.
        neuron: their neuron.
        bias: whether their convolution has one.
        axes: axes of size 1 at the end of their weight (linear 0, Conv1d 1, Conv2d 2); None if the weight is as ours.
    """

    ours: tuple[str, ...]
    conv: str
    norm: str
    neuron: str
    bias: bool = False
    axes: int | None = None


@dataclass(frozen=True)
class Layout:
    """Another library's model.

    Args:
        links: everything with weights but the head, whose keys are ours.
        attention: neurons behind the attention's product, by their paths here.
    """

    links: list[Link] = field(default_factory=list)
    attention: dict[str, str] = field(default_factory=dict)

    def neurons(self) -> Iterator[tuple[str, str]]:
        """Paths of all neurons here and there."""
        for link in self.links:
            yield from ((f"{path}.neuron", link.neuron) for path in link.ours)
        yield from self.attention.items()


def list_layouts() -> list[str]:
    """Names of the layouts."""
    return list(_LAYOUTS)


def layout_of(model: nn.Module, library: str) -> Layout:
    """Where the parts of ``model`` live in the model of ``library``. Raises UserError if it has no such model."""
    if library not in _LAYOUTS:
        raise unknown("layout", library, _LAYOUTS)
    if not isinstance(model, (Spikformer, QKFormer)):
        raise UserError(f"no layout of {library!r} is known for {type(model).__name__}; known: Spikformer, QKFormer")
    if model.ndim != 2:
        raise UserError(f"the models of {library!r} take images, not sequences")
    of_spikformer, of_qkformer = _LAYOUTS[library]
    layout = Layout()
    if isinstance(model, Spikformer):
        of_spikformer(model, layout)
    else:
        of_qkformer(model, layout)
    return layout


def _check_pools(model: nn.Module, library: str, before: bool) -> None:
    for name, module in model.named_modules():
        if isinstance(module, SpikingConv) and module.pool is not None and module.pool_first != before:
            there, here = ("before", "after") if before else ("after", "before")
            raise UserError(
                f"{library}'s model pools {there} the neuron, {name!r} {here} it; build with pool_first={before}"
            )


def _check_scales(model: nn.Module, library: str) -> None:
    for name, module in model.named_modules():
        if isinstance(module, SpikingSelfAttention) and module.scale != 0.125:
            raise UserError(f"{library}'s attention has the scale 0.125, {name!r} has {module.scale:g}")


def _stages(model: QKFormer) -> Iterator[tuple[str, Stage]]:
    for s, stage in enumerate(model.stages):
        assert isinstance(stage, Stage)
        yield f"stages.{s}", stage


# -- SpikingJelly ------------------------------------------------------------------------------------------------------


def _jelly_spikformer(model: Spikformer, layout: Layout) -> None:
    _check_pools(model, "SpikingJelly", before=True)
    _check_scales(model, "SpikingJelly")
    pools = [conv.pool is not None for conv in model.patch_embed.stages]
    if pools not in ([False, False, True, True], [True] * 4):
        raise UserError("SpikingJelly's Spikformer pools in the last two stages (patch_size 4) or in all four (16)")
    embed = {f"stages.{i}": f"stages.{i}" for i in range(len(pools))} | {"position": "positional_encoding"}
    for here, there in embed.items():
        there = f"patch_embed.{there}"
        layout.links.append(_numbered(f"patch_embed.{here}", there=f"{there}.conv_bn.block", neuron=f"{there}.neuron"))
    for i in range(len(model.blocks)):
        block = f"blocks.{i}"
        _jelly_attention(layout, f"{block}.attn", f"{block}.attn", "qkv")
        for n in (1, 2):
            mlp = f"{block}.mlp"
            layout.links.append(_numbered(f"{mlp}.fc{n}", there=f"{mlp}.fc{n}", neuron=f"{mlp}.neuron{n}"))


def _jelly_qkformer(model: QKFormer, layout: Layout) -> None:
    _check_pools(model, "SpikingJelly", before=True)
    _check_scales(model, "SpikingJelly")
    if model.form != "imagenet" or len(model.stages) != 3:
        raise UserError("SpikingJelly's QKFormer has the ImageNet form and three stages")
    for s, (here, stage) in enumerate(_stages(model), start=1):
        embed, there = f"{here}.patch_embed", f"patch_embed{s}"
        convs = [f"stem.{i}" for i in range(len(stage.patch_embed.stem))] + ["main.0", "main.1"]
        for i, conv in enumerate(convs, start=1):
            names = f"{there}.conv{i}", f"{there}.bn{i}", f"{there}.lif{i}"
            layout.links.append(Link((f"{embed}.{conv}",), *names, bias=True))
        shortcut = f"{there}.shortcut"
        layout.links.append(_numbered(f"{embed}.shortcut", there=shortcut, neuron=f"{shortcut}.2", bias=True))
        for j in range(len(stage.blocks)):
            block, there = f"{here}.blocks.{j}", f"stage{s}.{j}"
            _jelly_attention(layout, f"{block}.attn", f"{there}.attn", "qkv" if s == 3 else "qk")
            for n in (1, 2):
                names = f"{there}.mlp.fc{n}", f"{there}.mlp.bn{n}", f"{there}.mlp.lif{n}"
                layout.links.append(Link((f"{block}.mlp.fc{n}",), *names, bias=True))


def _jelly_attention(layout: Layout, here: str, there: str, joined: str) -> None:
    ours = [f"{here}.{letter}" for letter in joined]
    layout.links.append(_numbered(*ours, there=f"{there}.{joined}_conv_bn", neuron=f"{there}.{joined}_lif"))
    layout.links.append(_numbered(f"{here}.proj", there=f"{there}.proj_conv_bn", neuron=f"{there}.proj_lif"))
    layout.attention[f"{here}.neuron"] = f"{there}.attn_lif"


def _numbered(*ours: str, there: str, neuron: str, bias: bool = False) -> Link:
    return Link(ours, f"{there}.0", f"{there}.1", neuron, bias)


# -- BrainCog, that is STEP --------------------------------------------------------------------------------------------


def _step_spikformer(model: Spikformer, layout: Layout) -> None:
    _check_pools(model, "STEP", before=False)
    _check_scales(model, "STEP")
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
        layout.attention[f"{here}.attn.neuron"] = f"{there}.attn.attn_lif"


def _step_qkformer(model: QKFormer, layout: Layout) -> None:
    _check_pools(model, "STEP", before=True)
    _check_scales(model, "STEP")
    if model.form != "cifar" or len(model.stages) != 3 or any(len(s.blocks) > 1 for _, s in list(_stages(model))[:2]):
        raise UserError("STEP's qkformer_cifar has the CIFAR form and three stages, the first two of one block")
    for s, (here, stage) in enumerate(_stages(model), start=1):
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
            layout.attention[f"{block}.attn.neuron"] = f"{there}.{attention}.attn_lif"
            for n in (1, 2):
                conv, norm, lif = (f"{there}.mlp.fc_{part}{n}" for part in ("conv", "bn", "lif"))
                layout.links.append(Link((f"{block}.mlp.fc{n}",), conv, norm, lif, bias=True, axes=2))


def _named(ours: str, there: str, kind: str, bias: bool = False, axes: int | None = None) -> Link:
    return Link((ours,), f"{there}_{kind}", f"{there}_bn", f"{there}_lif", bias, axes)


_LAYOUTS: dict[str, tuple[Callable[[Spikformer, Layout], None], Callable[[QKFormer, Layout], None]]] = {
    "spikingjelly": (_jelly_spikformer, _jelly_qkformer),
    "braincog": (_step_spikformer, _step_qkformer),
}

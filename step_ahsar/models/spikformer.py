"""Spikformer: When Spiking Neural Network Meets Transformer (Zhou et al., ICLR 2023, arXiv 2209.15425).

Variants, facts and deviations: ``zoo/spikformer`` in the repository, ``step_ahsar/zoo/spikformer`` in the wheel.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers import MLP, Block, NeuronFactory, PatchSplitting, SpikingSelfAttention
from step_ahsar.models._base import SpikingTransformer
from step_ahsar.models._registry import register_family


class Spikformer(SpikingTransformer):
    """Patch splitting, then ``depth`` blocks of spiking self-attention and MLP, then a linear head.

    Shapes and the general arguments: :class:`SpikingTransformer`. Each block is a feature level.

    Args:
        dim: channels D of the blocks, a multiple of 8.
        depth: number of blocks.
        heads: attention heads.
        pools: which of the four stages of the patch splitting halve the size.
        pool_first: pool before the neuron (conv, norm, pool, neuron), or after it, as in the paper.
        qkv_bias: bias of the linear layers of q, k and v.
        attn_scale: factor on the attention product.
        mlp_ratio: hidden channels of the MLP, divided by ``dim``.
        neuron: name of the spiking neuron.
        backend: the library that simulates it.
        threshold: firing threshold of every neuron except those behind an attention product; None = the neuron's
            default.
        attn_threshold: threshold of the neurons behind an attention product; None = half of ``threshold``.
        neuron_options: further options of the neuron: tau, surrogate, alpha, reset, detach_reset, base, ...
    """

    def __init__(
        self,
        *,
        dim: int = 384,
        depth: int = 4,
        heads: int = 12,
        in_chans: int = 3,
        num_classes: int = 10,
        img_size: int | Sequence[int] | None = None,
        time_steps: int = 4,
        ndim: int = 2,
        pools: Sequence[bool] = (False, False, True, True),
        pool_first: bool = False,
        qkv_bias: bool = True,
        attn_scale: float = 0.125,
        mlp_ratio: float = 4.0,
        per_step: bool = False,
        global_pool: str = "avg",
        neuron: str = "lif",
        backend: str = "torch",
        threshold: float | None = None,
        attn_threshold: float | None = None,
        **neuron_options: Any,
    ) -> None:
        if depth < 1:
            raise UserError(f"depth must be >= 1, got {depth}")
        super().__init__(
            in_chans=in_chans,
            num_classes=num_classes,
            img_size=img_size,
            time_steps=time_steps,
            per_step=per_step,
            global_pool=global_pool,
            ndim=ndim,
            stride=2 ** sum(map(bool, pools)),
            num_features=dim,
        )
        make = NeuronFactory(neuron, backend, threshold, attn_threshold, neuron_options, time_steps)
        self.patch_embed = PatchSplitting(in_chans, dim, make, ndim=ndim, pools=pools, pool_first=pool_first)
        self.blocks = nn.ModuleList(
            Block(
                SpikingSelfAttention(dim, heads, make, scale=attn_scale, qkv_bias=qkv_bias),
                MLP(dim, make, ratio=mlp_ratio),
            )
            for _ in range(depth)
        )
        self.feature_info = [{"num_chs": dim, "reduction": self.stride, "module": f"blocks.{i}"} for i in range(depth)]
        self.reset_classifier(num_classes)

    @property
    def levels(self) -> nn.ModuleList:
        """The blocks."""
        return self.blocks

    def embed(self, x: Tensor) -> Tensor:
        """Patch splitting."""
        return self._run(self.patch_embed, x)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rates, in timm's format."""
        return {"stem": r"^patch_embed", "blocks": [(r"^blocks\.(\d+)", None)]}


register_family("spikformer", Spikformer, first_conv="patch_embed.stages.0.conv")

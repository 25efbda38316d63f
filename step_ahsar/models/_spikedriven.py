"""The skeleton that the later spike-driven transformers share: convolutional stages, then transformer stages."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import prod
from typing import Any

from torch import nn

from step_ahsar.errors import UserError
from step_ahsar.layers import MLP, Block, ConvMLP, Downsampling, SeparableConv
from step_ahsar.models._staged import StagedTransformer

Attention = Callable[[int], nn.Module]


class SpikeDrivenHierarchy(StagedTransformer):
    """Stages of separable convolutions, then stages of attention, on a stream of membranes.

    A neuron reads the pooled membranes in front of the head. Shapes and the general arguments:
    :class:`StagedTransformer`. A subclass calls :meth:`build_stages`.

    Args:
        dims: channels of each stage.
        convs: blocks of each convolutional stage.
        depths: blocks of each transformer stage.
        strides: by which factor the convolution in front of each stage shrinks the size.
        kernel: kernel size of the first convolution.
        heads: attention heads.
        mlp_ratio: hidden channels of MLPs, divided by the stage's channels.
    """

    def __init__(
        self,
        *,
        dims: Sequence[int] = (64, 128, 256, 512, 640),
        convs: Sequence[int] = (1, 1, 2),
        depths: Sequence[int] = (6, 2),
        strides: Sequence[int] = (2, 2, 2, 2, 1),
        kernel: int = 7,
        heads: int = 8,
        mlp_ratio: float = 4.0,
        **common: Any,
    ) -> None:
        count = len(convs) + len(depths)
        if len(dims) != count or len(strides) != count or min(*dims, *convs, *depths, *strides) < 1:
            raise UserError(
                f"dims and strides must be >= 1, one for each of the {count} stages of convs and depths, got "
                f"{list(dims)} and {list(strides)} for {list(convs)} and {list(depths)}"
            )
        super().__init__(stride=prod(strides), num_features=dims[-1], **common)
        self.dims, self.convs, self.depths, self.strides = dims, convs, depths, strides
        self.kernel, self.heads, self.mlp_ratio = kernel, heads, mlp_ratio

    def build_stages(self, transformer: Callable[[int], nn.Module], spiking_depthwise: bool) -> None:
        """Adds all stages and the head.

        Args:
            transformer: makes a block of the transformer stages for a number of channels.
            spiking_depthwise: whether a norm and a neuron follow the depthwise convolutions.
        """
        make, ndim = self.blueprint, self.ndim

        def convolutional(dim: int) -> nn.Module:
            mixer = SeparableConv(dim, 7, make, ndim=ndim, spiking_depthwise=spiking_depthwise)
            return Block(mixer, ConvMLP(dim, make, ratio=self.mlp_ratio, ndim=ndim))

        blocks = [(convolutional, n) for n in self.convs] + [(transformer, n) for n in self.depths]
        widths = pairwise([self.in_chans, *self.dims])
        for i, ((before, dim), stride, (block, depth)) in enumerate(zip(widths, self.strides, blocks, strict=True)):
            kernel = self.kernel if i == 0 else 3
            first = i == 0
            own = partial(Downsampling, before, dim, make, kernel_size=kernel, stride=stride, ndim=ndim, first=first)
            embedding = self.new_embedding(own, before, dim, stride, first=first)
            self.add_stage(embedding, [block(dim) for _ in range(depth)], dim, stride)
        self.build_head(neuron=True)

    def mlp(self, dim: int) -> nn.Module:
        """The channel mixer of a transformer block."""
        return MLP(dim, self.blueprint, ratio=self.mlp_ratio)

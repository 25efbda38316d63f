"""Dual spike self-attention of SpikingResformer, and its group-wise MLP."""

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from step_ahsar import ranks
from step_ahsar.errors import UserError
from step_ahsar.layers.attention import as_tokens, by_head, check_heads, joined
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import GainNeuron, SpikingConv, stream_neuron
from step_ahsar.layers.fixed import FixedSpikes
from step_ahsar.neurons import SpikingNeuron

_MOMENTUM = 0.999


class RunningRate(nn.Module):
    """The running firing rate of each head's input, by which products with it are scaled to unit variance.

    In training the rate of the batch is averaged into it, with a momentum of 0.999; the first batch sets it. Until
    then it is 1.

    Args:
        heads: h.
    """

    rate: Tensor
    seen: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("rate", torch.ones(heads))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def forward(self, spikes: Tensor) -> Tensor:
        """``[T, B, h, ...]`` to the running rates, [h, 1, 1]."""
        if self.training:
            now = reduce(spikes.detach().to(self.rate.dtype), "t b h ... -> h", "mean")
            now = ranks.mean(now, weight=spikes.numel())
            before = torch.where(self.seen, self.rate, now)
            self.rate.copy_(_MOMENTUM * before + (1 - _MOMENTUM) * now)
            self.seen.fill_(True)
        return self.rate.clamp(min=1e-4).to(spikes.dtype)[:, None, None]


class DualSpikeAttention(nn.Module):
    """Dual spike self-attention (DSSA; SpikingResformer, arXiv 2403.14302, section 4.2).

    A strided convolution of the spikes gives keys and values at fewer positions; both products multiply by spikes. Each
    product is scaled by the square root of its inputs' firing rate and width. ``[T, B, C, *S] -> membranes of the same
    shape``.

    Args:
        dim: channels C, a multiple of ``heads``.
        heads: attention heads.
        blueprint: makes the layers.
        reduction: kernel and stride of the convolution; it must divide the size.
        ndim: spatial dimensions.

    Raises:
        UserError: ``dim`` is not a multiple of ``heads``.
    """

    def __init__(self, dim: int, heads: int, blueprint: Blueprint, *, reduction: int = 1, ndim: int = 2) -> None:
        super().__init__()
        self.heads, self.reduction = check_heads(dim, heads), reduction
        behind = blueprint.new_spikes_behind_attention(dim)
        self.fixed = behind if isinstance(behind, FixedSpikes) else None
        if isinstance(behind, SpikingNeuron):
            self.stream = stream_neuron(blueprint, "attention", dim)
            self.reduce = SpikingConv(
                dim, 2 * dim, blueprint, None, ndim=ndim, kernel_size=reduction, stride=reduction, padding=0
            )
            self.input_rate, self.map_rate = RunningRate(heads), RunningRate(heads)
            self.match = GainNeuron(blueprint.new_neuron_behind_attention(heads))
            self.gather = GainNeuron(behind)
        self.proj = SpikingConv(dim, dim, blueprint, "attention", ndim=ndim, kernel_size=1, ends_branch=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``. Raises UserError for a size that ``reduction`` does not divide."""
        space = x.shape[3:]
        if any(size % self.reduction for size in space):
            raise UserError(f"this attention takes sizes that are multiples of {self.reduction}, got {list(space)}")
        if self.fixed is not None:
            return self.proj(self.fixed(as_tokens(x)).unflatten(-1, space))
        x = self.stream(x)
        reduced = by_head(as_tokens(self.reduce(x)), self.heads)  # [T, B, h, 2 d, N']
        keys, values = reduced.chunk(2, dim=3)
        spikes = by_head(as_tokens(x), self.heads)  # [T, B, h, d, N]
        width, few = keys.shape[-2:]
        attention = keys.mT @ spikes / (self.input_rate(spikes) * width).sqrt()
        # A neuron takes [T, B, C, ...]; here its channels are the heads.
        attention = self.match(rearrange(attention, "t b h m n -> t b h (m n)")).view_as(attention)
        out = values @ attention / (self.map_rate(attention) * few).sqrt()
        return self.proj(self.gather(joined(out)).unflatten(-1, space))


class GroupwiseMLP(nn.Module):
    """Group-wise spiking feed-forward network (GWSFFN; SpikingResformer, arXiv 2403.14302, section 4.3).

    1x1 to ``ratio * C`` channels, there a grouped 3x3 convolution with a shortcut of its own, 1x1 back to C.
    ``[T, B, C, *S] -> membranes of the same shape``.

    Args:
        dim: channels C.
        blueprint: makes the layers.
        ratio: hidden channels, divided by C.
        group_size: channels of a group; it must divide the hidden channels.
        ndim: spatial dimensions.
    """

    def __init__(
        self, dim: int, blueprint: Blueprint, *, ratio: float = 4.0, group_size: int = 64, ndim: int = 2
    ) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        if hidden < 1 or group_size < 1 or hidden % group_size:
            raise UserError(f"groups of {group_size} channels must divide the {hidden} hidden channels")
        self.stream = stream_neuron(blueprint, "mlp", dim)
        self.expand = SpikingConv(dim, hidden, blueprint, "mlp", ndim=ndim, kernel_size=1, ends_branch=True)
        self.hidden = stream_neuron(blueprint, "mlp", hidden)
        self.mix = SpikingConv(
            hidden, hidden, blueprint, "mlp", ndim=ndim, groups=hidden // group_size, ends_branch=True
        )
        self.mixed = stream_neuron(blueprint, "mlp", hidden)
        self.project = SpikingConv(hidden, dim, blueprint, "mlp", ndim=ndim, kernel_size=1, ends_branch=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        hidden = self.expand(self.stream(x))
        hidden = hidden + self.mix(self.hidden(hidden))
        return self.project(self.mixed(hidden))

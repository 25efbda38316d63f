"""Spiking experts mixture (SEMM): attention and MLP whose parts are chosen by spikes."""

from einops import rearrange, reduce
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers.attention import as_tokens
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import SpikingConv, SpikingLinear


class ExpertsAttention(nn.Module):
    """Experts mixture spiking attention (EMSA; SEMM, NeurIPS 2024). ``[T, B, C, *S] -> spikes of the same shape``.

    The heads are experts: each has queries of its own, and all share keys and values. The spikes of a router decide at
    each token which experts' outputs are added.

    Args:
        dim: channels C.
        experts: number of experts m.
        blueprint: makes the layers.
        width: channels of queries and keys.
        scale: factor in front of the product's neuron.
        key_bias: bias of the layer of the keys.
    """

    folds_into_weights = False  # the factor is not part of a state dict

    def __init__(
        self,
        dim: int,
        experts: int,
        blueprint: Blueprint,
        *,
        width: int = 96,
        scale: float = 0.125,
        key_bias: bool = True,
    ) -> None:
        super().__init__()
        if min(experts, width) < 1 or not scale > 0:
            raise UserError(f"experts, width and scale must be > 0, got {experts}, {width} and {scale:g}")
        self.experts, self.scale = experts, scale
        self.router = SpikingLinear(dim, experts, blueprint, "attention")
        self.random = blueprint.attention == "random"
        if not self.random:
            self.q = SpikingLinear(dim, experts * width, blueprint, "attention", bias=False)
            self.k = SpikingLinear(dim, width, blueprint, "attention", bias=key_bias)
            self.v = SpikingLinear(dim, dim, blueprint, "attention", bias=False)
        self.neuron = blueprint.new_spikes_behind_attention(experts * dim)
        self.proj = SpikingLinear(dim, dim, blueprint, "attention", ends_branch=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        space, x = x.shape[3:], as_tokens(x)
        spikes = self.neuron(x if self.random else self._products(x) * self.scale)
        outputs = rearrange(spikes, "t b (m c) n -> t b m c n", m=self.experts)
        chosen = reduce(outputs * self.router(x)[:, :, :, None], "t b m c n -> t b c n", "sum")
        return self.proj(chosen).unflatten(-1, space)

    def _products(self, x: Tensor) -> Tensor:
        """``[T, B, C, N] -> [T, B, m * C, N]``."""
        queries = rearrange(self.q(x), "t b (m e) n -> t b m e n", m=self.experts)
        shared = (self.v(x) @ self.k(x).mT)[:, :, None]  # [T, B, 1, C, e]
        return rearrange(shared @ queries, "t b m c n -> t b (m c) n")

    def fold_scale(self, scale: float) -> None:
        """Divides the input of the product's neuron by ``scale`` > 0."""
        self.scale /= float(scale)


class ExpertsMLP(nn.Module):
    """Experts mixture spiking perceptron (EMSP; SEMM, NeurIPS 2024). ``[T, B, C, *S] -> spikes of the same shape``.

    The hidden channels are halved. One half, through a depthwise convolution, decides which channels of the other half
    are passed on.

    Args:
        dim: channels C.
        blueprint: makes the layers.
        ratio: hidden channels, divided by C; their number must be even.
        ndim: spatial dimensions.
    """

    def __init__(self, dim: int, blueprint: Blueprint, *, ratio: float = 4.0, ndim: int = 2) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        if hidden < 2 or hidden % 2:
            raise UserError(f"an MLP of experts needs an even number of hidden channels, got {hidden}")
        half = hidden // 2
        self.fc1 = SpikingLinear(dim, hidden, blueprint, "mlp")
        self.router = SpikingConv(half, half, blueprint, "mlp", ndim=ndim, groups=half, bias=True)
        self.fc2 = SpikingLinear(half, dim, blueprint, "mlp", ends_branch=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        routing, passed = self.fc1(x).chunk(2, dim=2)
        return self.fc2(self.router(routing) * passed)

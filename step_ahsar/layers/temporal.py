"""The temporal interaction module (TIM), a recurrence over time steps outside a neuron."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from step_ahsar import internals
from step_ahsar.errors import UserError
from step_ahsar.layers.attention import SpikingSelfAttention, joined
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import GainNeuron


class TemporalInteraction(nn.Module):
    r"""Mixes the queries of each time step with those before (TIM; Shen et al., IJCAI 2024, arXiv 2401.11687).

    .. math:: q'_t = N_2(a N_1(\mathrm{conv}(q'_{t-1})) + (1 - a) q_t), \qquad q'_0 = q_0

    ``[T, B, h, d, N] -> [T, B, h, d, N]``. The convolution runs along the d channels of a head; its channels are the
    tokens, so it takes one number of tokens only.

    Args:
        dim: channels of all heads.
        tokens: N.
        blueprint: makes the layers. The threshold of N_1 is 0.3 times the model's; that of N_2 is ``attn_threshold``.
        mixing: a.

    Raises:
        UserError: ``mixing`` is not in (0, 1).
    """

    def __init__(self, dim: int, tokens: int, blueprint: Blueprint, *, mixing: float = 0.5) -> None:
        super().__init__()
        if not 0 < mixing < 1:
            raise UserError(f"the mixing of TIM must be in (0, 1), got {mixing:g}")
        self.tokens, self.mixing = tokens, mixing
        self.conv = blueprint.new_conv(tokens, tokens, 5, ndim=1, padding=2)
        self.past = GainNeuron(blueprint.new_neuron("attention", dim, factor=0.3))
        self.mixed = GainNeuron(blueprint.new_neuron_behind_attention(dim))

    def forward(self, q: Tensor) -> Tensor:
        """``[T, B, h, d, N] -> [T, B, h, d, N]``. Raises UserError for another N."""
        if q.shape[-1] != self.tokens:
            raise UserError(f"TIM was made for {self.tokens} tokens, got {q.shape[-1]}; img_size sets their number")
        # Each application of the equation to all time steps at once gets one more step right. That takes any neuron,
        # also one that needs all of its time steps at once. The last application is the one that is counted.
        result = q
        with internals.unwatched():
            for _ in range(len(q) - 2):
                result = self._advance(q, result, counted=False)
        return self._advance(q, result, counted=True)

    def _advance(self, q: Tensor, result: Tensor, counted: bool) -> Tensor:
        past, mixed = (n if counted else n.foresee for n in (self.past, self.mixed))
        _, batch, heads, width, _ = q.shape
        read = self.conv(rearrange(result[:-1], "t b h d n -> (t b h) n d"))
        read = past(_from_rest(rearrange(read, "(t b h) n d -> t b (h d) n", b=batch, h=heads)))
        mix = mixed(_from_rest(self.mixing * read[1:] + (1 - self.mixing) * joined(q[1:])))
        return torch.cat([q[:1], rearrange(mix[1:], "t b (h d) n -> t b h d n", d=width)])


def _from_rest(x: Tensor) -> Tensor:
    """A first time step of zeros, at which the neurons rest. ``[T - 1, B, C, N] -> [T, B, C, N]``."""
    return F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))


class TemporalAttention(SpikingSelfAttention):
    """Spiking self-attention whose queries pass through :class:`TemporalInteraction`.

    Arguments: :class:`SpikingAttention`.

    Args:
        tokens: number of tokens.
        mixing: share of the past in the mixed queries.
    """

    def __init__(
        self, dim: int, heads: int, blueprint: Blueprint, *, tokens: int, mixing: float = 0.5, **options: object
    ) -> None:
        super().__init__(dim, heads, blueprint, **options)  # type: ignore[arg-type]
        if not self.random:
            self.interaction = TemporalInteraction(dim, tokens, blueprint, mixing=mixing)

    def product(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # type: ignore[override]
        """``[T, B, h, d, N]`` each to ``[T, B, C, N]``."""
        return super().product(self.interaction(q), k, v)

"""The transformer block: attention and MLP on a residual stream of spike counts."""

from einops import rearrange
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers.conv import SpikingLinear
from step_ahsar.layers.factory import NeuronFactory


class MLP(nn.Module):
    """Two spiking linear layers, ``C -> ratio * C -> C``. ``[T, B, C, N] -> spikes [T, B, C, N]``."""

    def __init__(self, dim: int, neuron: NeuronFactory, *, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        if hidden < 1:
            raise UserError(f"an MLP of {dim} channels cannot have {ratio:g} times as many hidden ones")
        self.fc1 = SpikingLinear(dim, hidden, neuron("mlp", hidden))
        self.fc2 = SpikingLinear(hidden, dim, neuron("mlp", dim))

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, N] -> [T, B, C, N]``."""
        return self.fc2(self.fc1(x))


class Block(nn.Module):
    """``x + attn(x)``, then ``x + mlp(x)``. Spikes are added to the stream, so its values are integers.

    Args:
        attn: attention over tokens [T, B, C, N].
        mlp: of the same shapes.
    """

    def __init__(self, attn: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``. Every position is a token."""
        tokens = rearrange(x, "t b c ... -> t b c (...)")
        tokens = tokens + self.attn(tokens)
        tokens = tokens + self.mlp(tokens)
        return tokens.view_as(x)

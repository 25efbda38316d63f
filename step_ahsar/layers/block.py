"""The transformer block: a token mixer and a channel mixer on a residual stream."""

from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import SpikingLinear, stream_neuron


class MLP(nn.Module):
    """Two spiking linear layers, ``C -> ratio * C -> C``. ``[T, B, C, *S] -> [T, B, C, *S]``.

    With membrane shortcuts a neuron on the stream comes first, and the second layer has none: its output is a membrane.
    """

    def __init__(self, dim: int, blueprint: Blueprint, *, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        if hidden < 1:
            raise UserError(f"an MLP of {dim} channels cannot have {ratio:g} times as many hidden ones")
        self.stream = stream_neuron(blueprint, "mlp", dim)
        self.fc1 = SpikingLinear(dim, hidden, blueprint, "mlp")
        self.fc2 = SpikingLinear(hidden, dim, blueprint, "mlp", ends_branch=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        return self.fc2(self.fc1(self.stream(x)))


class Block(nn.Module):
    """``x + attn(x)``, then ``x + mlp(x)``.

    With spike shortcuts spikes are added to the stream, so its values are integers; else membranes are.

    Args:
        attn: the token mixer.
        mlp: the channel mixer.
    """

    def __init__(self, attn: nn.Module, mlp: nn.Module) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``. Every position is a token."""
        x = x + self.attn(x)
        return x + self.mlp(x)

"""The transformer block: a token mixer and a channel mixer on a residual stream."""

from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import PlainConv, SpikingConv, SpikingLinear, stream_neuron


class MLP(nn.Module):
    """Two spiking linear layers, ``C -> ratio * C -> C``. ``[T, B, C, *S] -> [T, B, C, *S]``.

    With membrane shortcuts a neuron on the stream comes first, and the second layer has none: its output is a membrane.

    Args:
        dim: channels C.
        blueprint: makes the layers.
        ratio: hidden channels, divided by C.
        bias: bias of both layers.
        inner_shortcut: whether, with a ratio of 1, each of the two layers has a membrane shortcut of its own.
    """

    def __init__(
        self, dim: int, blueprint: Blueprint, *, ratio: float = 4.0, bias: bool = True, inner_shortcut: bool = False
    ) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        if hidden < 1:
            raise UserError(f"an MLP of {dim} channels cannot have {ratio:g} times as many hidden ones")
        self.inner_shortcut = inner_shortcut and hidden == dim and blueprint.membrane_shortcut
        self.stream = stream_neuron(blueprint, "mlp", dim)
        self.fc1 = SpikingLinear(dim, hidden, blueprint, "mlp", bias=bias, ends_branch=self.inner_shortcut)
        self.hidden = stream_neuron(blueprint, "mlp", dim) if self.inner_shortcut else nn.Identity()
        self.fc2 = SpikingLinear(hidden, dim, blueprint, "mlp", bias=bias, ends_branch=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        hidden = self.fc1(self.stream(x))
        if self.inner_shortcut:
            return hidden + self.fc2(self.hidden(x + hidden))
        return self.fc2(hidden)


class Block(nn.Module):
    """``x + attn(x)``, then ``x + mlp(x)``.

    With spike shortcuts spikes are added to the stream, so its values are integers; else membranes are.

    Args:
        attn: the token mixer; None = there is none.
        mlp: the channel mixer.
    """

    def __init__(self, attn: nn.Module | None, mlp: nn.Module) -> None:
        super().__init__()
        self.attn = attn
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``. Every position is a token."""
        if self.attn is not None:
            x = x + self.attn(x)
        return x + self.mlp(x)


class Residual(nn.Module):
    """``x + branch(x)``. ``[T, B, C, *S] -> [T, B, C, *S]``."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        return x + self.branch(x)


class DepthwiseMixer(nn.Module):
    """A depthwise convolution as a token mixer. ``[T, B, C, *S] -> [T, B, C, *S]``.

    Args:
        dim: channels C.
        kernel_size: odd.
        blueprint: makes the layers.
        ndim: spatial dimensions.
    """

    def __init__(self, dim: int, kernel_size: int, blueprint: Blueprint, *, ndim: int = 2) -> None:
        super().__init__()
        self.stream = stream_neuron(blueprint, "attention", dim)
        self.mix = SpikingConv(
            dim, dim, blueprint, "attention",
            ndim=ndim, kernel_size=kernel_size, groups=dim, bias=True, ends_branch=True,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        return self.mix(self.stream(x))


class SeparableConv(nn.Module):
    """Separable convolution as a token mixer (Meta-SpikeFormer, arXiv 2404.03663, section 3.2).

    1x1 to 2C channels, depthwise, 1x1 back to C. ``[T, B, C, *S] -> membranes [T, B, C, *S]``.

    Args:
        dim: channels C.
        kernel_size: of the depthwise convolution, odd.
        blueprint: makes the layers.
        ndim: spatial dimensions.
        spiking_depthwise: whether a norm and a neuron follow the depthwise convolution (E-SpikeFormer). Without them
            the last convolution multiplies real numbers.
    """

    def __init__(
        self, dim: int, kernel_size: int, blueprint: Blueprint, *, ndim: int = 2, spiking_depthwise: bool = False
    ) -> None:
        super().__init__()
        wide = 2 * dim
        self.stream = stream_neuron(blueprint, "attention", dim)
        self.expand = SpikingConv(dim, wide, blueprint, "attention", ndim=ndim, kernel_size=1)
        self.mix: nn.Module
        if spiking_depthwise:
            self.mix = SpikingConv(
                wide, wide, blueprint, "attention", ndim=ndim, kernel_size=kernel_size, groups=wide
            )  # fmt: skip
        else:
            self.mix = PlainConv(
                blueprint.new_conv(
                    wide, wide, kernel_size, ndim=ndim, padding=kernel_size // 2, groups=wide, bias=False
                )
            )
        self.project = SpikingConv(wide, dim, blueprint, "attention", ndim=ndim, kernel_size=1, ends_branch=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        return self.project(self.mix(self.expand(self.stream(x))))


class ConvMLP(nn.Module):
    """Two 3x3 convolutions as a channel mixer, ``C -> ratio * C -> C``. ``[T, B, C, *S] -> membranes [T, B, C, *S]``.

    Args:
        dim: channels C.
        blueprint: makes the layers.
        ratio: hidden channels, divided by C.
        ndim: spatial dimensions.
    """

    def __init__(self, dim: int, blueprint: Blueprint, *, ratio: float = 4.0, ndim: int = 2) -> None:
        super().__init__()
        hidden = int(dim * ratio)
        self.stream = stream_neuron(blueprint, "mlp", dim)
        self.conv1 = SpikingConv(dim, hidden, blueprint, "mlp", ndim=ndim)
        self.conv2 = SpikingConv(hidden, dim, blueprint, "mlp", ndim=ndim, ends_branch=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C, *S] -> [T, B, C, *S]``."""
        return self.conv2(self.conv1(self.stream(x)))

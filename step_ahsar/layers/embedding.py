"""From pixels or samples to tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import GainNeuron, SpikingConv, stream_neuron


class PatchSplitting(nn.Module):
    """Spiking patch splitting with a relative position (Spikformer, arXiv 2209.15425, section 3.2).

    Four 3x3 stages of D/8, D/4, D/2 and D channels, then ``x + position(x)``.
    ``[T, B, in_chans, *S] -> [T, B, dim, *S / stride]``, integers 0 to 2. With membrane shortcuts (Spike-driven
    Transformer, arXiv 2307.01694, eq. 2 to 4) the last stage has no neuron, and the position reads the membrane through
    one: the output is a membrane.

    Args:
        in_chans: channels of the input.
        dim: D, a multiple of 8.
        blueprint: makes the layers.
        ndim: spatial dimensions.
        pools: which of the four stages halve the size.
        pool_first: pool before the neuron rather than after it.

    Raises:
        UserError: ``dim`` is not a multiple of 8, or ``pools`` is not four flags.
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        blueprint: Blueprint,
        *,
        ndim: int = 2,
        pools: Sequence[bool] = (False, False, True, True),
        pool_first: bool = False,
    ) -> None:
        super().__init__()
        last = len(pools) - 1
        self.stages = nn.Sequential(
            *(
                SpikingConv(
                    before, after, blueprint, "stem",
                    ndim=ndim, pool=pool, pool_first=pool_first, ends_branch=i == last,
                )
                for i, (before, after, pool) in enumerate(_doubling(in_chans, dim, pools))
            )
        )  # fmt: skip
        self.stream = stream_neuron(blueprint, "stem", dim)
        self.position = SpikingConv(dim, dim, blueprint, "stem", ndim=ndim, ends_branch=True)

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, in_chans, *S] -> [T, B, dim, *S / stride]``."""
        x = self.stages(x)
        return x + self.position(self.stream(x))


class ConvStem(nn.Module):
    """Five 3x3 convolutions of D/8, D/4, D/2, D and D channels (Spikingformer, arXiv 2304.11954, section 4.2).

    ``[T, B, in_chans, *S] -> [T, B, dim, *S / stride]``. With membrane shortcuts the last one has no neuron: the output
    is a membrane.

    Args:
        in_chans: channels of the input.
        dim: D, a multiple of 8.
        blueprint: makes the layers.
        ndim: spatial dimensions.
        pools: which of the four convolutions behind the first have a pool in front, which halves the size.

    Raises:
        UserError: ``dim`` is not a multiple of 8, or ``pools`` is not four flags.
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        blueprint: Blueprint,
        *,
        ndim: int = 2,
        pools: Sequence[bool] = (False, False, True, True),
    ) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(
                SpikingConv(before, after, blueprint, "stem", ndim=ndim, pool=pool)
                for before, after, pool in _doubling(in_chans, dim, pools)
            ),
            SpikingConv(dim, dim, blueprint, "stem", ndim=ndim, ends_branch=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, in_chans, *S] -> [T, B, dim, *S / stride]``."""
        return self.stages(x)


def _doubling(in_chans: int, dim: int, pools: Sequence[bool]) -> list[tuple[int, int, bool]]:
    """Channels before and after each of four convolutions of D/8, D/4, D/2 and D channels, and whether it pools."""
    if dim < 8 or dim % 8:
        raise UserError(f"this stem starts with dim / 8 channels: dim must be a multiple of 8, got {dim}")
    if len(pools) != 4:
        raise UserError(f"pools must be four flags, one for each convolution that widens the stem, got {list(pools)}")
    widths = [in_chans, dim // 8, dim // 4, dim // 2, dim]
    return [(before, after, bool(pool)) for before, after, pool in zip(widths, widths[1:], pools, strict=False)]


Shrinks = Literal["pool", "stride"] | None


@dataclass(frozen=True)
class EmbeddingPlan:
    """The layers of one :class:`DeformedShortcutEmbedding`.

    Args:
        stem: 3x3 convolutions before the fork of main branch and shortcut, each as (divisor, shrinks): it has
            ``dim / divisor`` output channels, and its size is halved by a max pool ("pool"), by its stride ("stride"),
            or not (None).
        main: the same for the main branch.
        shortcut: how the 1x1 shortcut shrinks, by its stride or by a max pool, which halves the size.
    """

    stem: tuple[tuple[int, Shrinks], ...]
    main: tuple[tuple[int, Shrinks], ...]
    shortcut: Literal["stride", "pool"] = "stride"

    @property
    def stride(self) -> int:
        """The factor by which the size shrinks."""
        return 2 ** sum(shrinks is not None for _, shrinks in self.stem + self.main)


class DeformedShortcutEmbedding(nn.Module):
    """Spiking patch embedding with a deformed shortcut (SPEDS; QKFormer, arXiv 2403.16552, section 3.4).

    ``stem``, then the sum of the ``main`` branch and a 1x1 shortcut. ``[T, B, in_chans, *S] -> [T, B, dim, *S /
    stride]``, integers 0 to 2. With membrane shortcuts both branches end without a neuron, and the output is a
    membrane; an embedding without a stem then reads its input through a neuron.

    Args:
        in_chans: channels of the input.
        dim: channels of the output.
        plan: widths and pools.
        blueprint: makes the layers.
        ndim: spatial dimensions.
        pool_first: pool before the neuron rather than after it.

    Raises:
        UserError: ``dim`` is not a multiple of the plan's divisors.
    """

    def __init__(
        self,
        in_chans: int,
        dim: int,
        plan: EmbeddingPlan,
        blueprint: Blueprint,
        *,
        ndim: int = 2,
        pool_first: bool = True,
    ) -> None:
        super().__init__()
        for divisor, _ in plan.stem + plan.main:
            if dim % divisor:
                raise UserError(
                    f"this patch embedding has layers of dim / {divisor} channels; dim must be a multiple of "
                    f"{divisor}, got {dim}"
                )

        def branch(width: int, convs: Sequence[tuple[int, Shrinks]], ends: bool) -> list[nn.Module]:
            layers: list[nn.Module] = []
            for i, (divisor, shrinks) in enumerate(convs, start=1):
                after = dim // divisor
                conv = SpikingConv(
                    width, after, blueprint, "stem",
                    ndim=ndim, stride=2 if shrinks == "stride" else 1, pool=shrinks == "pool", pool_first=pool_first,
                    ends_branch=ends and i == len(convs),
                )  # fmt: skip
                layers.append(conv)
                width = after
            return layers

        width = dim // plan.stem[-1][0] if plan.stem else in_chans
        pooled, stride = plan.shortcut == "pool", EmbeddingPlan((), plan.main).stride
        first = branch(in_chans, plan.stem, ends=False)
        if not first and blueprint.membrane_shortcut:
            first = [GainNeuron(blueprint.new_neuron("stem", width))]
        self.stem = nn.Sequential(*first)
        self.main = nn.Sequential(*branch(width, plan.main, ends=True))
        self.shortcut = SpikingConv(
            width, dim, blueprint, "stem",
            ndim=ndim, kernel_size=1, stride=1 if pooled else stride, pool=pooled, pool_first=pool_first,
            ends_branch=True,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, in_chans, *S] -> [T, B, dim, *S / stride]``."""
        x = self.stem(x)
        return self.main(x) + self.shortcut(x)


class Downsampling(nn.Module):
    """A convolution in front of a stage. ``[T, B, C_in, *S] -> [T, B, C_out, *S / stride]``.

    Spikes, or with membrane shortcuts a membrane, and then the input is read through a neuron unless it is the model's.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        blueprint: makes the layers.
        kernel_size: side of the kernel.
        stride: of the convolution.
        padding: on each side; None for half of the kernel.
        ndim: spatial dimensions.
        first: whether it reads the model's input.
        bias: whether the convolution has a bias.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blueprint: Blueprint,
        *,
        kernel_size: int = 3,
        stride: int = 2,
        padding: int | None = None,
        ndim: int = 2,
        first: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.stream = nn.Identity() if first else stream_neuron(blueprint, "stem", in_channels)
        self.conv = SpikingConv(
            in_channels, out_channels, blueprint, "stem",
            ndim=ndim, kernel_size=kernel_size, stride=stride, padding=padding, bias=bias, ends_branch=True,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C_in, *S] -> [T, B, C_out, *S / stride]``."""
        return self.conv(self.stream(x))


class PatchEmbedding(Downsampling):
    """One linear map of each patch, and no other convolution. ``[T, B, C_in, *S] -> [T, B, C_out, *S / stride]``.

    Spikes, or with membrane shortcuts a membrane. It stands for a stem or an embedding of convolutions, to show what
    they are worth.

    Args:
        in_channels: C_in.
        out_channels: C_out.
        blueprint: makes the layers.
        stride: side of a patch.
        ndim: spatial dimensions.
        first: whether it reads the model's input.
    """

    def __init__(
        self, in_channels: int, out_channels: int, blueprint: Blueprint, *, stride: int, ndim: int = 2, first: bool
    ) -> None:
        super().__init__(
            in_channels, out_channels, blueprint,
            kernel_size=stride, stride=stride, padding=0, ndim=ndim, first=first, bias=False,
        )  # fmt: skip

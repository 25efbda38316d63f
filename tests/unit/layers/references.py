"""Parts of the layers written down a second time, in plain tensor operations. Nothing is shared with the package.

Everything is [T, B, C, *S] and meant for float64. There no spike hangs on the order of a sum.
"""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def lively(module: M, seed: int = 0) -> M:
    """In float64, with no parameter at 0 or 1, so that none can be left out unnoticed."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.3, 0.3)
        elif isinstance(part, nn.Conv1d | nn.Conv2d):
            for parameter in part.parameters():
                nn.init.normal_(parameter, std=0.3)
    return module.double()


def membranes(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spikes(*shape: int, seed: int = 0) -> Tensor:
    return (membranes(*shape, seed=seed) > 0).double()


def same(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


# -- neurons -----------------------------------------------------------------------------------------------------------


class Fire(torch.autograd.Function):
    """1 where u >= 0, with the derivative of sigmoid(4 u)."""

    @staticmethod
    def forward(ctx, u):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (u,) = ctx.saved_tensors
        return grad * 4 * torch.exp(-4 * u.abs()) / (1 + torch.exp(-4 * u.abs())) ** 2


def lif_step(x: Tensor, v: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """One step with tau 2, a decayed input, and a hard reset to 0 without a gradient. Spikes and next membrane."""
    v = v + (x - v) / 2
    s = Fire.apply(v - threshold)
    return s, v * (1 - s.detach())


def lif(x: Tensor, threshold: float) -> Tensor:
    """Spikes of a layer, some of whose neurons fire; if none or all did, a test with it would show nothing."""
    v, fired = torch.zeros_like(x[0]), []
    for step in x:
        s, v = lif_step(step, v, threshold)
        fired.append(s)
    result = torch.stack(fired)
    assert 0 < result.mean() < 1
    return result


def ternary_if(x: Tensor, threshold: float) -> Tensor:
    """Spikes of both signs, without a leak. Either sets the membrane to 0."""
    v, fired = torch.zeros_like(x[0]), []
    for step in x:
        v = v + step
        s = (v >= threshold).to(v) - (v <= -threshold).to(v)
        v = torch.where(s == 0, v, 0.0)
        fired.append(s)
    result = torch.stack(fired)
    assert result.unique().tolist() == [-1, 0, 1]
    return result


# -- weights and norms -------------------------------------------------------------------------------------------------


def convolved(x: Tensor, conv: nn.Module, *, bias: bool, **options: int) -> Tensor:
    """The same convolution at each time step. ``bias`` says whether there must be one."""
    assert isinstance(conv, nn.Conv1d | nn.Conv2d)
    assert (conv.bias is not None) == bias
    run = F.conv1d if x.ndim == 4 else F.conv2d
    return torch.stack([run(step, conv.weight, conv.bias, **options) for step in x])


def linear(x: Tensor, conv: nn.Module, *, bias: bool) -> Tensor:
    """The same matrix at each position."""
    assert isinstance(conv, nn.Conv1d | nn.Conv2d)
    assert (conv.bias is not None) == bias
    out = torch.einsum("oc,tbc...->tbo...", conv.weight.flatten(1), x)
    return out if conv.bias is None else out + per_channel(conv.bias, x)


def depthwise(x: Tensor, conv: nn.Module, *, bias: bool) -> Tensor:
    """A convolution of odd kernel for each channel by itself."""
    assert isinstance(conv, nn.Conv1d | nn.Conv2d)
    assert (conv.bias is not None) == bias
    run, padding = (F.conv1d if x.ndim == 4 else F.conv2d), conv.weight.shape[-1] // 2
    outs = [
        torch.stack([run(step[:, c, None], conv.weight[c, None], padding=padding)[:, 0] for step in x])
        for c in range(x.shape[2])
    ]
    out = torch.stack(outs, 2)
    return out if conv.bias is None else out + per_channel(conv.bias, x)


def normed(x: Tensor, norm: nn.Module, channels: slice = slice(None)) -> Tensor:
    """Batch norm by this input's statistics over time, batch and space; ``channels`` are those of the norm."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    axes = [0, 1, *range(3, x.ndim)]
    mean = x.mean(axes, keepdim=True)
    variance = (x - mean).square().mean(axes, keepdim=True)
    weight, bias = (per_channel(p[channels], x) for p in (norm.weight, norm.bias))
    return (x - mean) / (variance + 1e-5).sqrt() * weight + bias


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 3))


def pooled(x: Tensor, stride: int = 2) -> Tensor:
    """The greatest of three, or of three times three, neighbours."""
    run = F.max_pool1d if x.ndim == 4 else F.max_pool2d
    return torch.stack([run(step, 3, stride, 1) for step in x])


def by_tokens(x: Tensor) -> Tensor:
    """``[T, B, C, *S] -> [T, B, N, C]``, as the papers write tokens."""
    return x.reshape(*x.shape[:3], math.prod(x.shape[3:])).mT

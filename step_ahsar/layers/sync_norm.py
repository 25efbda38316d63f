"""Batch norm whose statistics are those of the joined batch of all ranks, on any device.

torch's own ``SyncBatchNorm`` runs on accelerators alone, and not in front of a TEBN's factors. The equations are the
same: forward and backward pass each exchange one vector.
"""

from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar import ranks
from step_ahsar.errors import UserError
from step_ahsar.neurons.kernels.dynamics import working_dtype
from step_ahsar.neurons.norms import TemporalEffectiveNorm, TemporalEffectiveNorm1d, TemporalEffectiveNorm2d


class JoinedStatistics(nn.Module):
    """Mixed with a class of batch norms: normalises by the joined batch in training, and as before in evaluation."""

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, *S] -> [N, C, *S]``. N may differ between ranks, and be 0 on some."""
        if not self.training or ranks.size() == 1:
            return super().forward(x)
        norm: Any = self
        mean, var, count = _joined_statistics(x)
        _average(norm, mean, var, count)
        return _Normalise.apply(x, norm.weight, norm.bias, mean, var, norm.eps, count)


class SyncBatchNorm1d(JoinedStatistics, nn.BatchNorm1d):
    """Over [N, C, L]."""


class SyncBatchNorm2d(JoinedStatistics, nn.BatchNorm2d):
    """Over [N, C, H, W]."""


class SyncTemporalEffectiveNorm1d(TemporalEffectiveNorm, JoinedStatistics, nn.BatchNorm1d):
    """TEBN over [T, B, C, L]."""


class SyncTemporalEffectiveNorm2d(TemporalEffectiveNorm, JoinedStatistics, nn.BatchNorm2d):
    """TEBN over [T, B, C, H, W]."""


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_JOINED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncBatchNorm1d,
    nn.BatchNorm2d: SyncBatchNorm2d,
    TemporalEffectiveNorm1d: SyncTemporalEffectiveNorm1d,
    TemporalEffectiveNorm2d: SyncTemporalEffectiveNorm2d,
}


def sync_batch_norms(model: nn.Module) -> None:
    """Makes every batch norm of ``model`` one over the joined batch. Names, parameters and buffers stay.

    Raises:
        UserError: a batch norm of a class that is not known.
    """
    for name, norm in model.named_modules():
        if type(norm) in _JOINED:
            # The module stays where it is, with its hooks: it only gets another forward pass.
            norm.__class__ = _JOINED[type(norm)]
        elif isinstance(norm, _NORMS) and not isinstance(norm, JoinedStatistics):
            raise UserError(
                f"the statistics of {name!r}, a {type(norm).__name__}, cannot be joined over processes; set "
                "train.sync_bn: false, or train in one process"
            )


def _joined_statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance by channel, [C], over all ranks, and the number of values that they are of, 0-d."""
    x = x.detach().to(working_dtype(x.dtype)).transpose(0, 1).flatten(1)  # [C, n]
    number = x.shape[1]
    own_mean = x.mean(1) if number else x.new_zeros(len(x))
    own_squares = ((x - own_mean[:, None]) ** 2).sum(1)
    mine = torch.cat([own_mean, own_squares, own_mean.new_full((1,), number)])
    each = ranks.stacked(mine)
    means, squares, numbers = each[:, : len(x)], each[:, len(x) : -1], each[:, -1:]
    count = numbers.sum()
    if count < 2:
        raise UserError("batch norm needs more than one value for each channel in training")
    mean = (means * numbers).sum(0) / count
    var = (squares + numbers * (means - mean) ** 2).sum(0) / count
    return mean, var, count


@torch.no_grad()
def _average(norm: Any, mean: Tensor, var: Tensor, count: Tensor) -> None:
    """Updates the norm's running averages, as torch's batch norm does: the variance is the unbiased one."""
    if norm.running_mean is None:
        return
    norm.num_batches_tracked.add_(1)
    weight = 1.0 / norm.num_batches_tracked if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), weight)
    norm.running_var.lerp_((var * count / (count - 1)).to(norm.running_var.dtype), weight)


class _Normalise(torch.autograd.Function):
    """The norm by given statistics of the joined batch, whose dependence on the input the backward pass knows."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
        count: Tensor,
    ) -> Tensor:
        scale = torch.rsqrt(var + eps)
        ctx.save_for_backward(x, weight, mean, scale, count)
        out = (x.to(mean.dtype) - _by_channel(mean, x)) * _by_channel(scale, x)
        if weight is not None and bias is not None:
            out = out * _by_channel(weight, x) + _by_channel(bias, x)
        return out.to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        grad = grad.to(mean.dtype)
        normed = (x.to(mean.dtype) - _by_channel(mean, x)) * _by_channel(scale, x)
        others = [0, *range(2, x.ndim)]
        grad_bias, grad_weight = grad.sum(others), (grad * normed).sum(others)
        shift, slope = ranks.total(torch.stack([grad_bias, grad_weight])) / count
        factor = scale if weight is None else scale * weight
        grad_x = (grad - _by_channel(shift, x) - normed * _by_channel(slope, x)) * _by_channel(factor, x)
        if weight is None:
            return grad_x.to(x.dtype), *[None] * 6
        # The gradients of the parameters are those of this rank: DDP averages them as it does all others.
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), *[None] * 4


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    """[C] as [1, C, 1, ...]."""
    return values.view(1, -1, *[1] * (x.ndim - 2))

"""Changes of a trained model: other thresholds, noise on its weights, weights of few bits."""

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron


@torch.no_grad()
def scale_thresholds(model: nn.Module, factor: float) -> None:
    """Multiplies the threshold of every spiking neuron, learnt and regulated ones included."""
    for module in model.modules():
        if isinstance(module, SpikingNeuron):
            module.multiply_threshold(torch.tensor(factor))


@torch.no_grad()
def add_noise(model: nn.Module, size: float) -> None:
    """Adds Gaussian noise to the weights of convolutions and linear layers, drawn from torch's generator.

    Args:
        model: the model.
        size: the noise's standard deviation, relative to that of the weights of the same layer.
    """
    for weight in _weights(model):
        noise = torch.randn(weight.shape, dtype=torch.float64).to(weight)  # the same draws on every device
        weight.add_(noise * (size * weight.std(unbiased=False)))


@torch.no_grad()
def quantise(model: nn.Module, bits: int) -> None:
    """Rounds the weights of convolutions and linear layers to so many bits, without any training afterwards.

    Each output channel has 2^bits - 1 levels, symmetric around 0 and equally far apart, of which the outermost is the
    channel's largest weight.
    """
    levels = 2 ** (bits - 1) - 1
    for weight in _weights(model):
        step = weight.abs().amax(tuple(range(1, weight.ndim)), keepdim=True) / levels
        step = torch.where(step > 0, step, 1.0)
        weight.copy_((weight / step).round() * step)


def _weights(model: nn.Module) -> list[Tensor]:
    """The weights of all convolutions and linear layers.

    Raises:
        UserError: a weight that is computed from others, so that it cannot be changed.
    """
    found: list[Tensor] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | _ConvNd):
            if not isinstance(module.weight, nn.Parameter):
                raise UserError(f"the weight of {name} is computed from others; it cannot be perturbed")
            found.append(module.weight)
    return found

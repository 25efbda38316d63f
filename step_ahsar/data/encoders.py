"""Encoders: from values in [0, 1] to spikes over T time steps."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from step_ahsar.errors import UserError
from step_ahsar.registry import Registry

DIRECT = "direct"  # the values at every time step; the model repeats its input by itself

PHASES = 8  # number of phases of Kim et al. (2018), the bits of a pixel
BURST = 5  # most spikes in a burst, N_max of Guo et al. (2021)


@dataclass(frozen=True)
class Encoder:
    """An entry of :data:`ENCODERS`.

    Args:
        run: a function of values in [0, 1], [C, *S], the number of steps T and a generator, which gives [T, C, *S].
        random: whether it draws from the generator.
    """

    run: Callable[[Tensor, int, torch.Generator | None], Tensor]
    random: bool = False


ENCODERS = Registry[Encoder]("encoder")


def encode(x: Tensor, name: str, time_steps: int, generator: torch.Generator | None) -> Tensor:
    """Encodes ``x`` as spikes, 0 or 1; with ``direct`` as the values themselves.

    Args:
        x: values in [0, 1], [C, *S].
        name: one of :data:`ENCODERS`.
        time_steps: T, at least 1.
        generator: generator of a random encoder; None = torch's own.

    Returns:
        float32 [T, C, *S] on the device of ``x``.

    Raises:
        UserError: values outside [0, 1] or not a number, T < 1, an encoder that does not exist.
    """
    encoder = ENCODERS[name]
    if time_steps < 1:
        raise UserError(f"an encoder needs at least one time step, got {time_steps}")
    x = x.float()
    if x.numel():
        low, high = (bound.item() for bound in x.aminmax())
        if not (low >= 0 and high <= 1):  # also true if a value is nan
            raise UserError(f"encoder {name!r} takes values in [0, 1], got values in [{low:g}, {high:g}]")
    return encoder.run(x, time_steps, generator).float()


def phase_weights(time_steps: int) -> Tensor:
    """The weight of a spike of encoder ``phase`` at each step: 2^-(1 + t mod K) with K = min(T, 8), float32 [T].

    >>> phase_weights(4)
    tensor([0.5000, 0.2500, 0.1250, 0.0625])
    """
    return 0.5 ** (1 + torch.arange(time_steps) % min(time_steps, PHASES)).float()


def _rate(x: Tensor, time_steps: int, generator: torch.Generator | None) -> Tensor:
    """A spike with probability x at each step, independently: a Poisson train in discrete time."""
    device = x.device if generator is None else generator.device
    return torch.rand((time_steps, *x.shape), generator=generator, device=device).to(x.device) < x


def _ttfs(x: Tensor, time_steps: int, generator: torch.Generator | None) -> Tensor:
    """Time to first spike: one spike at step round((1 - x)(T - 1)), halves to even; none where x = 0."""
    first = ((1 - x) * (time_steps - 1)).round()
    return (_steps(x, time_steps) == first) & (x > 0)


def _phase(x: Tensor, time_steps: int, generator: torch.Generator | None) -> Tensor:
    """Weighted spikes (Kim et al., "Deep neural networks with weighted spikes", Neurocomputing 311, 2018).

    The K = min(T, 8) most significant bits of x, one a step, over and over: over each period of K steps the sum of
    spikes times :func:`phase_weights` is x to within 2^-K. With T >= 8 they are the bits of an 8-bit pixel.
    """
    phases = min(time_steps, PHASES)
    largest = 2**phases - 1  # x = 1 would need one bit more, so it is encoded as the largest value
    value = (x * 2**phases).floor().clamp(max=largest).to(torch.int32)
    shift = phases - 1 - _steps(x, time_steps) % phases
    return value >> shift & 1


def _delta(x: Tensor, time_steps: int, generator: torch.Generator | None) -> Tensor:
    """Sigma-delta modulation of a constant signal (Yoon, IEEE TNNLS 28, 2017).

    The title of the paper is "LIF and simplified SRM neurons encode signals into spikes via a form of asynchronous
    pulse sigma-delta modulation". x is integrated, starting from 1/2. Whenever the integral reaches 1 there is a spike,
    and 1 is subtracted. So the number of spikes in the first t steps is floor(t x + 1/2), within 1/2 of t x. (Plain
    delta modulation encodes changes, of which a still image has none.)
    """
    steps = _steps(x, time_steps).double()  # in float64 the product of t and a float32 is exact
    signal = x.double()
    return (signal * (steps + 1) + 0.5).floor() - (signal * steps + 0.5).floor()


def _burst(x: Tensor, time_steps: int, generator: torch.Generator | None) -> Tensor:
    """Burst coding (Guo et al., "Neural coding in spiking neural networks: a comparative study", Front. Neurosci. 15,
    2021).

    A burst starts at step 0 and has N = ceil(N_max x) spikes at intervals of ceil(I_max - (I_max - 1) x) steps: a
    larger x gives more spikes at shorter intervals. N_max = min(5, T), and I_max = (T - 1) // (N_max - 1), the longest
    interval at which N_max spikes fit into T steps. With T < 9 all intervals are 1, and only N depends on x.
    """
    most = min(BURST, time_steps)
    longest = (time_steps - 1) // max(most - 1, 1) or 1
    number = (most * x).ceil()
    interval = (longest - (longest - 1) * x).ceil()
    steps = _steps(x, time_steps)
    return (steps % interval == 0) & (steps < number * interval)


def _steps(x: Tensor, time_steps: int) -> Tensor:
    """0, 1, ..., T - 1 along a new first axis of ``x``."""
    return torch.arange(time_steps, device=x.device).view(-1, *[1] * x.ndim)


ENCODERS.add(DIRECT, Encoder(lambda x, time_steps, generator: x.expand(time_steps, *x.shape)))
ENCODERS.add("rate", Encoder(_rate, random=True))
ENCODERS.add("ttfs", Encoder(_ttfs))
ENCODERS.add("phase", Encoder(_phase))
ENCODERS.add("delta", Encoder(_delta))
ENCODERS.add("burst", Encoder(_burst))

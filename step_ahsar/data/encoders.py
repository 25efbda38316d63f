"""From values in [0, 1] to binary spike trains over T steps.

``direct``, which shows the values themselves at every step, needs nothing from here.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from step_ahsar.errors import UserError, unknown

PHASES = 8  # bits of a pixel; Kim et al. (2018) use as many phases
BURST = 5  # most spikes of a burst, N_max of Guo et al. (2021)


def encode(x: Tensor, name: str, time_steps: int, generator: torch.Generator | None) -> Tensor:
    """The spikes that stand for ``x``, 0 or 1.

    Args:
        x: values in [0, 1], [C, *S].
        name: one of :data:`ENCODERS`.
        time_steps: T, at least 1.
        generator: what ``rate`` draws from; None = torch's own. The others draw nothing.

    Returns:
        float32 [T, C, *S] on the device of ``x``.

    Raises:
        UserError: values outside [0, 1] or not a number, T < 1, an encoder that does not exist.
    """
    if name not in _encoders:
        raise unknown("encoder", name, ENCODERS)
    if time_steps < 1:
        raise UserError(f"an encoder needs at least one time step, got {time_steps}")
    x = x.float()
    if x.numel():
        low, high = (bound.item() for bound in x.aminmax())
        if not (low >= 0 and high <= 1):  # which nan is not, either
            raise UserError(f"encoder {name!r} takes values in [0, 1], got values in [{low:g}, {high:g}]")
    return _encoders[name](x, time_steps, generator).float()


def phase_weights(time_steps: int) -> Tensor:
    """What a spike of encoder ``phase`` is worth at each step: 2^-(1 + t mod K) with K = min(T, 8), float32 [T].

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
    value = (x * 2**phases).floor().clamp(max=2**phases - 1).to(torch.int32)  # 1 has no finite binary fraction < 1
    shift = phases - 1 - _steps(x, time_steps) % phases
    return value >> shift & 1


def _delta(x: Tensor, time_steps: int, generator: torch.Generator | None) -> Tensor:
    """Sigma-delta modulation of a constant signal (Yoon, "LIF and simplified SRM neurons encode signals into spikes via
    a form of asynchronous pulse sigma-delta modulation", IEEE TNNLS 28, 2017).

    x is integrated from 1/2; a spike comes whenever the integral reaches 1, and is taken off it. So the spikes of the
    first t steps number floor(t x + 1/2): within 1/2 of t x. (Plain delta modulation sends changes: of a still image,
    nothing.)
    """
    steps = _steps(x, time_steps).double()  # in which t x of a float32 is exact
    signal = x.double()
    return (signal * (steps + 1) + 0.5).floor() - (signal * steps + 0.5).floor()


def _burst(x: Tensor, time_steps: int, generator: torch.Generator | None) -> Tensor:
    """Burst coding (Guo et al., "Neural coding in spiking neural networks: a comparative study", Front. Neurosci. 15,
    2021).

    From step 0 on, N = ceil(N_max x) spikes at intervals of ceil(I_max - (I_max - 1) x) steps: the stronger, the more
    spikes in quicker succession. N_max = min(5, T), and I_max = (T - 1) // (N_max - 1), the longest interval at which
    N_max spikes fit into T steps; with T < 9 spikes come back to back and only N tells.
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


_encoders: dict[str, Callable[[Tensor, int, torch.Generator | None], Tensor]] = {
    "rate": _rate,
    "ttfs": _ttfs,
    "phase": _phase,
    "delta": _delta,
    "burst": _burst,
}
ENCODERS = tuple(_encoders)

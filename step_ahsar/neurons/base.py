"""The contract that every spiking neuron keeps, whatever its backend."""

import inspect
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError

GROUPS = ("stem", "attention", "mlp", "head")


class Sensor:
    """Counts a layer's spikes in training, for the controller to read.

    Attributes:
        observed: spikes and neuron-steps seen since the controller last looked, [2] fp32; None while not regulated.
        max_spikes: the most that one neuron emits in one time step; firing rates are divided by it.
    """

    training: bool
    max_spikes: float = 1.0
    observed: Tensor | None = None
    _seen_forward = False

    def _observing(self) -> bool:
        """Training forwards count once each, also under activation checkpointing, which runs some of them twice.

        Inside the backward pass a forward is a recomputation. It is the first sight of the activity only under
        reentrant checkpointing, whose outer forward runs without gradients.
        """
        if not (self.training and torch.is_grad_enabled()):
            return False
        if torch.compiler.is_compiling():
            return True
        if torch._C._current_graph_task_id() != -1:
            return not self._seen_forward
        self._seen_forward = True
        return True

    def _observe(self, count: Tensor, numel: int) -> None:
        observed = _observed(self)
        observed[0] += count.detach() / self.max_spikes
        observed[1] += numel

    def clear_observed(self) -> None:
        """Forgets what was observed; the controller calls it once per iteration."""
        _observed(self).zero_()
        self._seen_forward = False


class SpikingNeuron(nn.Module, Sensor):
    """A layer of spiking neurons.

    ``forward(x: [T, B, ...]) -> spikes [T, B, ...]``: T time steps first, any rank. Every call is one independent run
    from rest; nothing is kept between calls. A subclass implements :meth:`simulate`, reads its threshold from
    :meth:`scaled_threshold` at every call, and honours each option of its constructor or raises UserError.

    Args:
        threshold: firing threshold, > 0.
        group: which spiking layers it is regulated and reported with: "stem", "attention", "mlp" or "head".

    Attributes:
        threshold_scale: what AHSAR multiplies the threshold by; 0-d fp32 buffer, None until regulated.
    """

    name: ClassVar[str] = ""
    backend: ClassVar[str] = ""
    scales_with_input: ClassVar[bool] = False  # x / s at threshold theta spikes exactly as x at s * theta
    without: ClassVar[tuple[str, ...]] = ()  # options of the classes it extends that it does not have

    threshold_scale: Tensor | None

    def __init__(self, threshold: float = 1.0, group: str | None = None) -> None:
        super().__init__()
        if not threshold > 0:
            raise UserError(f"threshold must be > 0, got {threshold} (neuron {self.name!r})")
        self.threshold = float(threshold)
        self.group = group
        self.register_buffer("threshold_scale", None)

    @classmethod
    def option_names(cls) -> list[str]:
        """Names of the constructor's options; ``**options`` of one class are those of the class it extends."""
        names: list[str] = []
        for each in cls.__mro__:
            if "__init__" in vars(each):
                parameters = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
                names += [p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in (*names, "group")]
                if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                    break
        return [name for name in names if name not in cls.without]

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]``, and their number (0-d) if the pass over x gave it for nothing."""
        raise NotImplementedError(f"{type(self).__name__} lacks simulate()")

    def simulate_normed(self, x: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor | None]:
        """:meth:`simulate` of ``norm(x)``; a backend that can do both in one pass does."""
        return self.simulate(norm(x.flatten(0, 1)).unflatten(0, x.shape[:2]))

    def forward(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """``x: [T, B, ...]`` to spikes of the same shape and dtype.

        Args:
            x: input currents.
            norm: a norm that the input goes through first, over [T*B, ...].
        """
        if x.ndim < 2:
            raise UserError(f"{type(self).__name__} takes [T, B, ...], got shape {list(x.shape)}")
        spikes, count = self.simulate(x) if norm is None else self.simulate_normed(x, norm)
        if self.observed is not None and self._observing():
            if count is None:
                count = spikes.detach().sum(dtype=torch.float32)
            self._observe(count, spikes.numel())
        return spikes

    def scaled_threshold(self, x: Tensor) -> Tensor:
        """The threshold in force, 0-d, on x's device: ``threshold`` times ``threshold_scale``."""
        if self.threshold_scale is None:
            return scalar(self.threshold, x)
        return self.threshold * self.threshold_scale

    # -- regulation: AHSAR reads `observed` and writes `threshold_scale`, nothing else -------------------------------

    def start_regulation(self) -> None:
        """Makes the neuron one that AHSAR can observe and scale. Spikes stay as they are: the scale starts at 1."""
        if self.threshold_scale is None:
            self.register_buffer("threshold_scale", torch.ones(()))
        assert self.threshold_scale is not None
        self.observed = torch.zeros(2, device=self.threshold_scale.device)

    def stop_regulation(self) -> None:
        """Back to the plain neuron."""
        self.register_buffer("threshold_scale", None)
        self.observed = None

    def _apply(self, fn: Any, recurse: bool = True) -> "SpikingNeuron":
        """Moves with the model, but the controller's numbers stay fp32 under ``model.half()`` and the like."""
        scale = self.threshold_scale
        super()._apply(fn, recurse)
        if scale is not None:
            assert self.threshold_scale is not None
            self.threshold_scale = scale.to(self.threshold_scale.device)
            if self.observed is not None:
                self.observed = self.observed.to(self.threshold_scale.device)
        return self

    def extra_repr(self) -> str:
        """The options in force; every option is an attribute of the same name."""
        options = ["threshold", *self.option_names()]
        shown = [f"{name}={getattr(self, name)!r}" for name in dict.fromkeys(options)]
        shown += [f"group={self.group!r}"] if self.group else []
        return ", ".join(shown + (["regulated"] if self.threshold_scale is not None else []))


def scalar(value: float, x: Tensor) -> Tensor:
    """``value`` as a 0-d tensor on x's device; fp32, or fp64 for an x of that."""
    return torch.full((), value, device=x.device, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)


def _observed(layer: Sensor) -> Tensor:
    assert layer.observed is not None, "not regulated"
    return layer.observed

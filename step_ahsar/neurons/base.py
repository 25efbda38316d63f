"""The base class of every spiking neuron, on all backends."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, get_type_hints

import torch
from torch import Tensor, nn

from step_ahsar import internals
from step_ahsar.errors import UserError
from step_ahsar.neurons.norms import normalised

GROUPS = ("stem", "attention", "mlp", "head")
_MANY_PASSES = 100  # more than anyone accumulates gradients over before an update


class Sensor:
    """Counts the spikes of a layer during training, for the controller to read.

    Attributes:
        observed: number of spikes, and of neurons times time steps, since the controller last read them, [2] fp32; None
            without a controller.
        signed: whether spikes may be negative. They count as spikes.
        max_spikes: the most spikes that one neuron emits in one time step; firing rates are divided by it.
        spike_value: the value of one spike in the output.
        trained: whether a forward pass in training was counted since the controller last looked.
        evaluated: whether the layer ran in eval mode since the controller last looked.
        watched: whether every forward pass counts, those in eval mode too: for adaptation at test time.
    """

    training: bool
    signed: ClassVar[bool] = False
    max_spikes: float = 1.0
    spike_value: float = 1.0
    observed: Tensor | None = None
    trained: bool = False
    evaluated: bool = False
    watched: bool = False
    _counted: bool = False  # whether a forward pass was counted since clear_observed(), other than a recomputation
    _passes: int = 0  # how many were counted since clear_observed(), without those of compiled models

    def sense(self, spikes: Tensor, count: Tensor | None = None) -> None:
        """Counts the spikes of one forward pass in training, if somebody observes the layer; if watched, of every pass.

        Args:
            spikes: the layer's output.
            count: the number of spikes, 0-d, if it is known already.
        """
        if self.observed is None:
            return
        if not (self.training or self.watched):
            self.evaluated = True
        elif self.watched or self._counts():
            self.trained = True
            if count is None:
                counted = spikes.detach().abs() if self.signed else spikes.detach()
                count = counted.sum(dtype=torch.float32)
            self.observed[0] += count.detach() / self.max_spikes
            self.observed[1] += spikes.numel()

    def clear_observed(self) -> None:
        """Resets the counts. The controller calls it once per iteration."""
        assert self.observed is not None, "without a controller nothing is observed"
        self.observed.zero_()
        self.trained = self._counted = False
        self._passes = 0

    def _counts(self) -> bool:
        """Whether the current forward pass is to be counted.

        Activation checkpointing runs a forward pass a second time, during the backward pass. Only one of the two is
        counted: the first, or under reentrant checkpointing the second, because there the first runs without gradients
        and is not counted.
        """
        if not torch.is_grad_enabled():
            return False
        if internals.is_compiling():
            return True
        if internals.in_backward():
            return not self._counted
        self._counted = True
        self._passes += 1
        if self._passes == _MANY_PASSES:
            warnings.warn(
                f"{_MANY_PASSES} forward passes in training without a step of the controller: the thresholds are not "
                "regulated. Call the controller's step() after each update of the weights. With auto=True, and in a "
                "model that regulates itself, this happens after each step of a torch optimiser that holds parameters "
                "of the model",
                stacklevel=2,
            )
        return True


class SpikingNeuron(internals.KeepsPrecision, Sensor):
    """A layer of spiking neurons.

    ``forward(x: [T, B, ...]) -> spikes [T, B, ...]``: the time steps come first, the rank is free. Every call runs from
    rest; no state is kept between calls. A subclass implements :meth:`simulate`, reads its threshold from
    :meth:`scaled_threshold` in every call, and applies every option of its constructor or raises UserError.

    Args:
        threshold: firing threshold, > 0.
        group: "stem", "attention", "mlp" or "head": the layers that it is regulated and reported with.

    Attributes:
        threshold_scale: factor by which a controller multiplies the threshold; 0-d fp32 buffer, None in a plain neuron.
        before_training: called with the neuron before its forward passes in training mode; returns whether it could do
            its work. None if there is nothing to do. See :mod:`step_ahsar.ahsar.neuron`.
    """

    name: ClassVar[str] = ""
    backend: ClassVar[str] = ""
    # Whether dividing the input by a factor gives the same spikes as multiplying the threshold by it.
    scales_with_input: ClassVar[bool] = False
    # Options of its base classes that it does not take.
    without: ClassVar[tuple[str, ...]] = ()
    precise: ClassVar[tuple[str, ...]] = ("threshold_scale", "observed")

    threshold_scale: Tensor | None
    before_training: Callable[["SpikingNeuron"], bool] | None = None

    def __init__(self, threshold: float = 1.0, group: str | None = None) -> None:
        super().__init__()
        if not threshold > 0:
            raise UserError(f"threshold must be > 0, got {threshold} (neuron {self.name!r})")
        self.threshold = float(threshold)
        self.group = group
        self.register_buffer("threshold_scale", None)

    @classmethod
    def option_defaults(cls) -> dict[str, Any]:
        """The constructor's options with their defaults, including those that ``**options`` passes to base classes."""
        return {name: default for name, (default, _) in cls._options().items()}

    @classmethod
    def option_types(cls) -> dict[str, Any]:
        """The types of the same options."""
        return {name: annotation for name, (_, annotation) in cls._options().items()}

    @classmethod
    def _options(cls) -> dict[str, tuple[Any, Any]]:
        found: dict[str, tuple[Any, Any]] = {}
        for each in cls.__mro__:
            if "__init__" in vars(each):
                constructor = vars(each)["__init__"]
                parameters = list(inspect.signature(constructor).parameters.values())[1:]
                types = get_type_hints(constructor)
                named = {p.name: (p.default, types.get(p.name, Any)) for p in parameters if p.kind is not p.VAR_KEYWORD}
                found |= {name: option for name, option in named.items() if name not in found}
                if len(named) == len(parameters):
                    break
        return {name: option for name, option in found.items() if name not in ("group", *cls.without)}

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]``, and their number (0-d) if the same pass computes it, else None."""
        raise NotImplementedError(f"{type(self).__name__} lacks simulate()")

    def simulate_normed(self, x: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor | None]:
        """:meth:`simulate` of ``norm(x)``. A subclass may do both in one pass."""
        return self.simulate(normalised(norm, x))

    def forward(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """``x: [T, B, ...]`` to spikes of the same shape and dtype.

        Args:
            x: input currents.
            norm: a norm that is applied to the input first, see :mod:`step_ahsar.neurons.norms`.
        """
        if x.ndim < 2:
            raise UserError(f"{type(self).__name__} takes [T, B, ...], got shape {list(x.shape)}")
        _prepare(self)
        spikes, count = self.simulate(x) if norm is None else self.simulate_normed(x, norm)
        self.sense(spikes, count)
        return spikes

    def scaled_threshold(self, x: Tensor) -> Tensor:
        """The current threshold, 0-d, on x's device: ``threshold`` times ``threshold_scale``."""
        if self.threshold_scale is None:
            return scalar(self.threshold, x)
        return self.threshold * self.threshold_scale

    # -- regulation: a controller reads `observed` and writes `threshold_scale`, nothing else ------------------------

    def add_scale(self) -> None:
        """Gives the neuron a ``threshold_scale`` of 1 unless it has one. Its spikes do not change."""
        if self.threshold_scale is None:
            self.register_buffer("threshold_scale", torch.ones(()))

    def start_regulation(self) -> None:
        """Lets a controller observe the neuron and scale its threshold."""
        self.add_scale()
        assert self.threshold_scale is not None
        self.observed = torch.zeros(2, device=self.threshold_scale.device)

    def stop_observing(self) -> None:
        """Ends the observation by a controller. The scale stays."""
        self.observed, self.evaluated, self.watched = None, False, False

    def prepared(self) -> bool:
        """Calls ``before_training``. Returns whether nothing is left to do."""
        return self.before_training is None or self.before_training(self)

    def stop_regulation(self) -> None:
        """Makes the neuron a plain one, without a scale."""
        self.register_buffer("threshold_scale", None)
        self.before_training = None
        self.stop_observing()

    @torch.no_grad()
    def absorb_scale(self) -> None:
        """Multiplies the neuron's own threshold by the scale, and removes the scale. The spikes do not change."""
        if self.threshold_scale is not None:
            self.multiply_threshold(self.threshold_scale)
            self.stop_regulation()

    def multiply_threshold(self, scale: Tensor) -> None:
        """Multiplies the neuron's own threshold, or the parameter that plays its part, by ``scale``, 0-d."""
        self.threshold = float(self.threshold * scale)

    def extra_repr(self) -> str:
        """The neuron's options; each is an attribute of the same name."""
        options = ["threshold", *self.option_defaults()]
        shown = [f"{name}={getattr(self, name)!r}" for name in dict.fromkeys(options)]
        shown += [f"group={self.group!r}"] if self.group else []
        return ", ".join(shown + (["regulated"] if self.threshold_scale is not None else []))


def _prepare(neuron: SpikingNeuron) -> None:
    # The graph of a compiled call depends on the training mode, because it is read here and not in prepared().
    if not neuron.training:
        return
    if internals.is_compiling():
        from step_ahsar.neurons import tracing

        # In a compiled function that is no module's method, the model is not on the call stack while the call is
        # traced. It is when the call runs.
        if not tracing.prepared(neuron):
            tracing.prepared_outside_graphs(neuron)
        return
    if neuron.prepared():
        return
    neuron._passes += 1
    if neuron._passes == _MANY_PASSES:
        warnings.warn(
            f"a self-regulating neuron ran {_MANY_PASSES} times in training, but in no module that is running, so it "
            "is not regulated. Call the model that it is in, or put the neurons under a controller: "
            "regulate(nn.ModuleList([...]), auto=True)",
            stacklevel=3,
        )


def own_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters of ``model`` that belong to its neurons: thresholds, time constants, gates and so on."""
    neurons = [(name, module) for name, module in model.named_modules() if isinstance(module, SpikingNeuron)]
    return {f"{name}.{own}" if name else own for name, neuron in neurons for own in _names(neuron)}


def _names(module: nn.Module) -> Iterable[str]:
    return (name for name, _ in module.named_parameters())


def scalar(value: float, x: Tensor) -> Tensor:
    """``value`` as a 0-d tensor on x's device; fp32, or fp64 for an x of that."""
    return torch.full((), value, device=x.device, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)

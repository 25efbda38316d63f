"""Spiking neurons of other libraries, regulated where they stand: SpikingJelly, BrainCog, snnTorch.

A regulated node stays the node it was, with a buffer ``threshold_scale`` (so checkpoints and copies keep it) and two
forward hooks. While it runs, the attribute that holds its threshold is hidden behind the threshold times the scale, a
tensor on the device: nothing is compiled anew when the scale moves, and no host waits for a device.

No library is imported here. A node is known by the name of a class it extends, and by the package which that is from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.neurons.base import Sensor

_SCALE = "threshold_scale"  # the buffer's name, as on the registry's neurons
_LAYER = "_ahsar_layer"  # where a regulated node keeps its ForeignLayer
_ABSENT = object()


@dataclass(frozen=True)
class Treatment:
    """How a scale s enters a node.

    Args:
        threshold: the attribute that scales as the threshold does. It is multiplied by s, unless ``divides``.
        divides: divide the input by s instead, which is the same for a neuron that is linear below its threshold.
        surrogate: what stands in for the attribute ``surrogate_function`` while the node runs, from (itself, s).
        ones: spikes are 1 each; otherwise (bursts, graded or negative spikes) what is not 0 counts as one.
    """

    threshold: str | None
    divides: bool = False
    surrogate: Callable[[Any, Tensor], Any] | None = None
    ones: bool = True

    def stand_ins(self, node: nn.Module, scale: Tensor) -> dict[str, Any]:
        """What the node sees in place of its own attributes while it runs."""
        found = {}
        if self.threshold is not None and not self.divides:
            found[self.threshold] = getattr(node, self.threshold) * scale
        if self.surrogate is not None:
            found["surrogate_function"] = self.surrogate(node.surrogate_function, scale)
        return found


class ForeignLayer(Sensor):
    """What the controller needs of a layer (:class:`step_ahsar.ahsar.controller.Regulated`), for a library's node.

    Args:
        node: the library's module.
        treatment: how a scale enters it, or why none can.
    """

    def __init__(self, node: nn.Module, treatment: Treatment | str) -> None:
        self.node, self.treatment = node, treatment
        self.max_spikes = float(getattr(getattr(node, "surrogate_function", None), "max_spike_count", 1))
        self._hooks: list[Any] = []
        self._hidden: dict[str, Any] = {}

    @property
    def training(self) -> bool:  # type: ignore[override]
        """Whether the node trains."""
        return self.node.training

    @property
    def threshold_scale(self) -> Tensor | None:
        """What the node's threshold is multiplied by, 0-d; None while not regulated."""
        return self.node._buffers.get(_SCALE)

    def start_regulation(self) -> None:
        """Adds buffer and hooks, unless they are there. Raises UserError for a node that cannot be regulated."""
        self._treatment()
        if self.threshold_scale is None:
            self.node.register_buffer(_SCALE, torch.ones(()))
            vars(self.node)[_LAYER] = self
            self._hooks = [
                self.node.register_forward_pre_hook(self._before),
                self.node.register_forward_hook(self._after, always_call=True),
            ]
        assert self.threshold_scale is not None
        self.observed = torch.zeros(2, device=self.threshold_scale.device)

    def stop_regulation(self) -> None:
        """Takes buffer and hooks away: the node is what it was."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        del vars(self.node)[_LAYER], self.node._buffers[_SCALE]
        self.observed = None

    @torch.no_grad()
    def settle(self) -> None:
        """Writes the scaled threshold into the node, and stops. Raises UserError if the node has no place for it."""
        treatment, scale = self._treatment(), self.threshold_scale
        assert scale is not None
        if treatment.threshold is None:
            raise UserError(f"{type(self.node).__name__} has no threshold that could be replaced; keep it regulated")
        own = getattr(self.node, treatment.threshold)
        scaled = own * scale
        if isinstance(own, nn.Parameter):
            scaled = nn.Parameter(scaled, requires_grad=own.requires_grad)
        setattr(self.node, treatment.threshold, scaled if isinstance(own, Tensor) else scaled.item())
        self.stop_regulation()

    def _treatment(self) -> Treatment:
        if isinstance(self.treatment, str):
            raise UserError(
                f"{type(self.node).__name__} cannot be regulated, {self.treatment}; leave it out of the groups"
            )
        return self.treatment

    def _before(self, node: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        treatment, scale = self._treatment(), self.threshold_scale
        assert scale is not None
        own = vars(node)  # what stands here comes before parameters, buffers and submodules of the same name
        for name, value in treatment.stand_ins(node, scale).items():
            self._hidden[name] = own.get(name, _ABSENT)
            own[name] = value
        return (args[0] / scale, *args[1:]) if treatment.divides else None

    def _after(self, node: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        own = vars(node)
        for name, value in self._hidden.items():
            if value is _ABSENT:
                del own[name]
            else:
                own[name] = value
        self._hidden.clear()
        if output is None or not self._observing():  # None: the forward pass raised
            return
        spikes = (output[0] if isinstance(output, (tuple, list)) else output).detach()
        assert self.observed is not None
        if self.observed.device != spikes.device:  # no buffer, which model.half() would make too coarse to count in
            self.observed = self.observed.to(spikes.device)
        ones = self._treatment().ones
        self._observe(spikes.sum(dtype=torch.float32) if ones else spikes.count_nonzero(), spikes.numel())


def find_layer(module: nn.Module) -> ForeignLayer | None:
    """The layer that a module of another library is, whether or not it can be regulated; None for other modules."""
    layer = vars(module).get(_LAYER)
    if layer is not None:
        return layer
    for cls in type(module).__mro__:
        treatments = LIBRARIES.get(cls.__module__.partition(".")[0], {})
        if cls.__name__ in treatments:
            return ForeignLayer(module, treatments[cls.__name__](module))
    return None


# -- what is known of each library -------------------------------------------------------------------------------------


def _like(treatment: Treatment) -> Callable[[Any], Treatment | str]:
    return lambda _: treatment


def _refused(reason: str) -> Callable[[Any], Treatment | str]:
    return lambda _: reason


def _plain_call(surrogate: Any, _: Tensor) -> Any:
    """SpikingJelly's fused kernels, whose thresholds are floats, take surrogates that they know by type."""
    return getattr(surrogate, "forward", surrogate)


def _stretched(surrogate: Any, scale: Tensor) -> Any:
    """Spikes as ``surrogate`` does, and makes up for a divided input in the derivative."""
    return lambda u: surrogate(u * scale)


def _spikingjelly(node: Any) -> Treatment | str:
    if getattr(node, "backend", "torch") != "torch":  # releases before 2.0
        return f"its backend {node.backend!r} compiles the threshold in (set backend='torch' on it)"
    return Treatment("v_threshold", surrogate=_plain_call)


def _braincog(node: Any) -> Treatment | str:
    if node.sigmoid_thres:
        return "its threshold is the sigmoid of the one that it stores (sigmoid_thres)"
    return Treatment("threshold")


_MEMBRANE = _refused("what it gives are membranes, not spikes")

LIBRARIES: Mapping[str, Mapping[str, Callable[[Any], Treatment | str]]] = {
    "spikingjelly": {
        "BaseNode": _spikingjelly,
        "SimpleBaseNode": _spikingjelly,
        "ActivationAwareIFNode": _spikingjelly,
        "ILCBaseNode": _spikingjelly,
        "ComplementaryLIFNode": _like(Treatment("v_threshold")),
        "TernaryIFNode": _like(Treatment("v_threshold", ones=False)),
        "TernaryLIFNode": _like(Treatment("v_threshold", ones=False)),
        "PSN": _like(Treatment("bias")),  # where other neurons have a threshold, these have a bias of less than 0
        "MaskedPSN": _like(Treatment("bias")),
        "SlidingPSN": _like(Treatment("bias")),
        "ILIFNode": _like(Treatment("v_threshold", divides=True)),
        "GatedLIFNode": _like(Treatment(None, divides=True, surrogate=_stretched)),  # thresholds are sigmoids
        "LIAFNode": _MEMBRANE,
        "MPBNBaseNode": _refused("its threshold is part of a norm"),
        "DSRIFNode": _refused("its spikes are as high as its threshold"),
        "DSRLIFNode": _refused("its spikes are as high as its threshold"),
        "NoisyBaseNode": _refused("its spikes are noisy"),
        "FewSpikeNode": _refused("its thresholds are those of a conversion"),
        "STBIFNode": _refused("its threshold is the step of a quantiser"),
        "FlexSN": _refused("nothing is known of its equation"),
    },
    "braincog": {
        "BaseNode": _braincog,
        "BaseMCNode": _like(Treatment("threshold")),
        "BurstLIFNode": _like(Treatment("threshold", ones=False)),
        "BackEINode": _like(Treatment("threshold", ones=False)),
        "ReLUNode": _refused("it is no spiking neuron"),
        "BiasReLUNode": _refused("it is no spiking neuron"),
        "DGLIFNode": _MEMBRANE,
        "HTDGLIFNode": _MEMBRANE,
        "LIAFNode": _MEMBRANE,
        "OnlineLIFNode": _refused("what it gives are spikes and rates in one tensor"),
    },
    "snntorch": {
        "SpikingNeuron": _like(Treatment("threshold", ones=False)),
        "LeakyParallel": _like(Treatment("threshold", ones=False)),
        "LeakyKernel": _like(Treatment("threshold", ones=False)),
        "AssociativeLeaky": _refused("what it gives is a readout, not spikes"),
    },
}

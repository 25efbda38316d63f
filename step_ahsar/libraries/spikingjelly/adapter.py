"""SpikingJelly's neurons (2.0): ``pip install "step-ahsar[spikingjelly]"``.

Most of them call a function of ``spikingjelly.activation_based.functional``, the one that the node class calls, too.
Such a function keeps no state, and takes learnt parameters and the threshold as arguments.

SpikingJelly's fused kernels take the threshold as a number. The threshold of a regulated neuron is a tensor on the
device that changes in every iteration, so such a neuron takes SpikingJelly's plain torch code instead. It gives the
same spikes, and nothing is recompiled or read back to the host.

SpikingJelly has no Hodgkin-Huxley, HD-LIF, Rouser and LTMD.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from step_ahsar.libraries.adapter import LibraryNeuron, NodeNeuron
from step_ahsar.neurons import torch as ours
from step_ahsar.neurons.equations import Fire
from step_ahsar.neurons.registry import register_neuron

_SURROGATES = {
    "sigmoid": "Sigmoid",
    "atan": "ATan",
    "piecewise_quadratic": "PiecewiseQuadratic",
    "rectangle": "Rect",
}


class SpikingJellyNeuron(LibraryNeuron):
    """A neuron that calls a function of SpikingJelly for all time steps, with SpikingJelly's surrogates if it has them.

    Attributes:
        function: name of the function.
        takes: its arguments that are the neuron's attributes of the same name.
        constants: its arguments that are always the same.
    """

    module = "spikingjelly.activation_based.functional"
    function: ClassVar[str]
    takes: ClassVar[tuple[str, ...]] = ()
    constants: ClassVar[Mapping[str, object]] = {}

    _surrogate: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        object.__setattr__(self, "_surrogate", self.make_surrogate())  # not to be registered as a submodule

    def make_surrogate(self) -> nn.Module | None:
        """A surrogate of SpikingJelly for this neuron alone, None if it lacks the one asked for."""
        if self.surrogate not in _SURROGATES:
            return None
        surrogates = import_module("spikingjelly.activation_based.surrogate")
        return getattr(surrogates, _SURROGATES[self.surrogate])(alpha=self.alpha)

    @property
    def fire(self) -> Fire:
        """SpikingJelly's ``surrogate_function``. A fused kernel is chosen by the type of this object.

        A regulated neuron gets the surrogate's method ``forward`` instead, for whose type there is no kernel.
        """
        if self._surrogate is None:
            return super().fire
        return self._surrogate if self.threshold_scale is None else self._surrogate.forward

    def arguments(self, x: Tensor) -> dict[str, Any]:
        """Arguments of the function, except input and state."""
        return {
            "v_threshold": self.threshold if self.threshold_scale is None else self.scaled_threshold(x),
            "v_reset": 0.0 if self.reset == "hard" else None,
            "surrogate_function": self.fire,
            "detach_reset": self.detach_reset,
            **{name: getattr(self, name) for name in self.takes},
            **self.constants,
        }

    def state(self, x: Tensor) -> list[Tensor]:
        """The state variables at rest."""
        return [torch.full_like(x[0], value) for value in self.rest]

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        from spikingjelly.activation_based import functional

        return getattr(functional, self.function)(x, *self.state(x), **self.arguments(x))[0]


class SteppedNeuron(SpikingJellyNeuron):
    """A neuron that calls a function of SpikingJelly for each time step."""

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        from spikingjelly.activation_based import functional

        state, arguments, spikes = self.state(x), self.arguments(x), []
        for step in x:
            s, *state = getattr(functional, self.function)(step, *state, **arguments)
            spikes.append(s)
        return torch.stack(spikes)


@register_neuron("if", backend="spikingjelly")
class IF(SpikingJellyNeuron, ours.IF):
    """Integrate-and-fire."""

    node_class = "IFNode"
    function = "if_multi_step"


@register_neuron("lif", backend="spikingjelly")
class LIF(SpikingJellyNeuron, ours.LIF):
    """Leaky integrate-and-fire: with decay_input."""

    node_class = "LIFNode"
    function = "lif_multi_step"
    takes = ("tau",)
    constants: ClassVar = {"decay_input": True}


@register_neuron("plif", backend="spikingjelly")
class PLIF(SpikingJellyNeuron, ours.PLIF):
    """Parametric LIF: with decay_input."""

    node_class = "ParametricLIFNode"
    function = "plif_multi_step"
    takes = ("w",)
    constants: ClassVar = {"decay_input": True}


@register_neuron("eif", backend="spikingjelly")
class EIF(SpikingJellyNeuron, ours.EIF):
    """Exponential integrate-and-fire."""

    node_class = "EIFNode"
    function = "eif_multi_step"
    takes = ("tau", "v_reset", "v_rest", "theta_rh", "delta_t")


@register_neuron("qif", backend="spikingjelly")
class QIF(SpikingJellyNeuron, ours.QIF):
    """Quadratic integrate-and-fire."""

    node_class = "QIFNode"
    function = "qif_multi_step"
    takes = ("tau", "v_reset", "v_rest", "v_c", "a0")


@register_neuron("izhikevich", backend="spikingjelly")
class Izhikevich(SpikingJellyNeuron, ours.Izhikevich):
    """Izhikevich's neuron."""

    node_class = "IzhikevichNode"
    function = "izhikevich_multi_step"
    takes = ("tau", "v_reset", "v_rest", "v_c", "a0", "a", "b", "tau_w")


@register_neuron("klif", backend="spikingjelly")
class KLIF(SteppedNeuron, ours.KLIF):
    """KLIF: with decay_input, without scale_reset."""

    node_class = "KLIFNode"
    function = "klif_step"
    takes = ("k", "tau")
    constants: ClassVar = {"decay_input": True, "scale_reset": False}


@register_neuron("clif", backend="spikingjelly")
class CLIF(SteppedNeuron, ours.CLIF):
    """Complementary LIF."""

    node_class = "ComplementaryLIFNode"
    function = "clif_step"

    def arguments(self, x: Tensor) -> dict[str, Any]:
        """Arguments of the function, except input and state."""
        threshold = super().arguments(x)["v_threshold"]
        return {"tau": self.tau, "v_threshold": threshold, "spike_function": self.fire}


@register_neuron("cubalif", backend="spikingjelly")
class CUBALIF(SteppedNeuron, ours.CUBALIF):
    """Current-based LIF."""

    node_class = "CUBALIFNode"
    function = "cuba_lif_step"
    takes = ("current_decay", "voltage_decay")


@register_neuron("glif", backend="spikingjelly")
class GLIF(SpikingJellyNeuron, ours.GLIF):
    """Gated LIF. SpikingJelly's voltages are below 1, here they are below twice the threshold."""

    node_class = "GatedLIFNode"

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        from spikingjelly.activation_based import functional

        by_channel = x.reshape(*x.shape[:2], self.channels or 1, -1)
        learnt = {name: p.sigmoid() for name, p in self.step_parameters(x).items() if name != "threshold"}
        unit = 2 * self.scaled_threshold(x)
        arguments = {
            "alpha": learnt["gate_decay"],
            "beta": learnt["gate_input"],
            "gamma": learnt["gate_reset"],
            "tau": learnt["decay"],
            "v_threshold": unit * learnt["level"],
            "linear_decay": unit * learnt["leak"],
            "v_subreset": unit * learnt["subtract"],
            "surrogate_function": self.fire,
        }
        v, s = self.state(by_channel)
        spikes = []
        for step, conduct in zip(by_channel, learnt["conductance"], strict=True):
            s, v = functional.gated_lif_step(step, v, s, conduct=conduct, **arguments)
            spikes.append(s)
        return torch.stack(spikes).view(x.shape)


@register_neuron("ilif", backend="spikingjelly")
class ILIF(SpikingJellyNeuron, ours.ILIF):
    """Integer LIF.

    The scale of a regulated neuron divides its input instead of multiplying its threshold, because SpikingJelly's
    function takes the threshold as a number only. In exact arithmetic the spikes are the same.
    """

    node_class = "ILIFNode"
    function = "ilif_multi_step"

    def make_surrogate(self) -> nn.Module:
        """SpikingJelly's rounding."""
        return import_module("spikingjelly.activation_based.surrogate").MultiLevelSpikeCount(self.max_count)

    def arguments(self, x: Tensor) -> dict[str, Any]:
        """Arguments of the function, except input and state."""
        return {
            "v_threshold": self.threshold,
            "tau": self.tau,
            "surrogate_function": self._surrogate,
            "detach_reset": self.detach_reset,
        }

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        return super().run(x if self.threshold_scale is None else x / self.threshold_scale)


@register_neuron("nilif", backend="spikingjelly")
class NILIF(ILIF, ours.NILIF):
    """Normalised integer LIF: divided by D."""

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        return super().run(x) / self.max_count


@register_neuron("ternary_if", backend="spikingjelly")
class TernaryIF(SteppedNeuron, ours.TernaryIF):
    """Ternary integrate-and-fire."""

    node_class = "TernaryIFNode"
    function = "ternary_if_step"


@register_neuron("ternary_lif", backend="spikingjelly")
class TernaryLIF(SteppedNeuron, ours.TernaryLIF):
    """Ternary leaky integrate-and-fire: with decay_input."""

    node_class = "TernaryLIFNode"
    function = "ternary_lif_step"
    takes = ("tau",)
    constants: ClassVar = {"decay_input": True}


class ParallelNeuron(NodeNeuron, SpikingJellyNeuron):
    """A neuron that calls a module of SpikingJelly, for all time steps, with this neuron's weights."""

    weight: nn.Parameter
    bias: nn.Parameter

    def make_node(self, **options: Any) -> nn.Module:
        """The module."""
        nodes = import_module("spikingjelly.activation_based.neuron")
        return getattr(nodes, self.node_class)(surrogate_function=self.fire, **options)

    def weights(self, x: Tensor) -> dict[str, Tensor]:
        """The module's parameters."""
        bias = self.bias if self.threshold_scale is None else self.bias * self.threshold_scale
        return {"weight": self.weight.to(x.dtype), "bias": bias.to(x.dtype)}

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        with torch.autocast(x.device.type, enabled=False):
            return functional_call(self.node, self.weights(x), (x,))


@register_neuron("psn", backend="spikingjelly")
class PSN(ParallelNeuron, ours.PSN):
    """Parallel spiking neuron."""

    node_class = "PSN"

    def make_node(self, **options: Any) -> nn.Module:
        """The module."""
        return super().make_node(T=self.time_steps, **options)


@register_neuron("masked_psn", backend="spikingjelly")
class MaskedPSN(PSN, ours.MaskedPSN):
    """Masked parallel spiking neuron."""

    node_class = "MaskedPSN"

    def make_node(self, **options: Any) -> nn.Module:
        """The module."""
        return super().make_node(k=self.order, step_mode="m", **options)

    def weights(self, x: Tensor) -> dict[str, Tensor]:
        """The module's parameters. The masking stays on the CPU, because the module reads its value."""
        self.node.to(x.device)
        return super().weights(x) | {"_lambda_": torch.tensor(self.masking)}


@register_neuron("sliding_psn", backend="spikingjelly")
class SlidingPSN(ParallelNeuron, ours.SlidingPSN):
    """Sliding parallel spiking neuron."""

    node_class = "SlidingPSN"

    def make_node(self, **options: Any) -> nn.Module:
        """The module."""
        return super().make_node(k=self.order, step_mode="m", **options)

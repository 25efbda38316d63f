"""Sinabs's neurons (3.1): ``pip install "step-ahsar[sinabs]"``.

All of them run on the function of Sinabs's LIF layer, ``v <- alpha v + x``. Sinabs takes spike function and reset as
arguments; these are the project's own. Sinabs has none of the project's surrogates, the derivative of its SingleSpike
cannot be differentiated again, and its hard reset is always detached while its soft reset never is.

With alpha = 1 the function is IF. With alpha = 1 - 1 / tau, which Sinabs calls exp(-1 / tau_mem), and the input x / tau
it is LIF. CUBA-LIF has a synapse as well. Sinabs's synapse multiplies its input by its decay, so the input is first
divided by that decay. All are exact up to rounding: in fp32 the last bit of a membrane may differ, so a spike may, too.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from step_ahsar.errors import UserError
from step_ahsar.libraries.adapter import LibraryNeuron
from step_ahsar.neurons import equations
from step_ahsar.neurons import torch as ours
from step_ahsar.neurons.base import scalar
from step_ahsar.neurons.equations import Fire
from step_ahsar.neurons.registry import register_neuron


class Drive(NamedTuple):
    """Arguments of Sinabs's function: the input, and the decays, 0-d (``alpha_syn`` is None without a synapse)."""

    x: Tensor
    alpha_mem: Tensor
    alpha_syn: Tensor | None = None


class SinabsNeuron(LibraryNeuron):
    """The dynamics of Sinabs's LIF layer."""

    module = "sinabs.layers.functional"

    def drive(self, x: Tensor) -> Drive:
        """The arguments of Sinabs's function for ``x: [T, B, ...]``."""
        raise NotImplementedError(f"{type(self).__name__} lacks drive()")

    def run(self, x: Tensor) -> Tensor:
        """Spikes of ``x: [T, B, ...]``."""
        from sinabs.layers.functional import lif_forward

        drive = self.drive(x)
        spikes, _, _ = lif_forward(
            drive.x.transpose(0, 1),
            alpha_mem=drive.alpha_mem,
            alpha_syn=drive.alpha_syn,
            state={"v_mem": torch.zeros_like(x[0]), "i_syn": torch.zeros_like(x[0])},
            spike_threshold=self.scaled_threshold(x),
            spike_fn=_SpikeFunction(self.fire),
            reset_fn=self._reset,
            surrogate_grad_fn=None,
            min_v_mem=None,
            norm_input=False,
        )
        return spikes.transpose(0, 1)

    def _reset(self, spikes: Tensor, state: dict[str, Any], threshold: Tensor) -> dict[str, Any]:
        reset = equations.hard_reset if self.reset == "hard" else equations.soft_reset
        return state | {"v_mem": reset(state["v_mem"], spikes.detach() if self.detach_reset else spikes, threshold)}


class _SpikeFunction:
    """A spike function in the form in which Sinabs calls it, as a class with ``apply``."""

    required_states = ("v_mem",)

    def __init__(self, fire: Fire) -> None:
        self.fire = fire

    def apply(self, v_mem: Tensor, threshold: Tensor, _: Any) -> Tensor:
        """Spikes of the membrane."""
        return self.fire(v_mem - threshold)


@register_neuron("if", backend="sinabs")
class IF(SinabsNeuron, ours.IF):
    """Integrate-and-fire."""

    node_class = "IAF"

    def drive(self, x: Tensor) -> Drive:
        """No leak."""
        return Drive(x, scalar(1.0, x))


@register_neuron("lif", backend="sinabs")
class LIF(SinabsNeuron, ours.LIF):
    """Leaky integrate-and-fire: with norm_input."""

    node_class = "LIF"

    def drive(self, x: Tensor) -> Drive:
        """A leak of 1 / tau."""
        return Drive(x / self.tau, scalar(1 - 1 / self.tau, x))


@register_neuron("plif", backend="sinabs")
class PLIF(SinabsNeuron, ours.PLIF):
    """Parametric LIF: with norm_input and train_alphas."""

    node_class = "LIF"

    def drive(self, x: Tensor) -> Drive:
        """A learnt leak."""
        leak = self.w.sigmoid()
        return Drive(x * leak, 1 - leak)


@register_neuron("cubalif", backend="sinabs")
class CUBALIF(SinabsNeuron, ours.CUBALIF):
    """Current-based LIF: with tau_syn, without norm_input.

    Args:
        options: of the torch neuron; ``current_decay`` must be > 0.
    """

    node_class = "LIF"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.current_decay > 0:
            raise UserError(f"current_decay must be > 0 on backend 'sinabs', got {self.current_decay}")

    def drive(self, x: Tensor) -> Drive:
        """A leak and a synapse."""
        return Drive(x / self.current_decay, scalar(self.voltage_decay, x), scalar(self.current_decay, x))

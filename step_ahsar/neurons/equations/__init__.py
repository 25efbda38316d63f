"""Pure step equations, one function per neuron. :mod:`step_ahsar.neurons.kernels` runs them over time.

Every step has the form ``step(x, *state, fire, reset, **parameters) -> (spikes, *state)`` for one time step, in which

- ``x`` is the input current, of any shape; state variables and spikes have the same shape,
- parameters are tensors that broadcast against ``x``, most of them 0-d; the neuron has an attribute for each of them,
- ``fire(u)`` is the Heaviside step of ``u`` with a surrogate derivative,
- ``reset(v, s, threshold)`` applies the reset after a spike (:func:`hard_reset` or :func:`soft_reset`).

In the equations H is the Heaviside step with H(0) = 1, :math:`\\theta` the threshold, :math:`\\sigma` the logistic
function.
"""

from step_ahsar.neurons.equations.excitable import (
    HH_REST,
    eif_step,
    hodgkin_huxley_step,
    izhikevich_step,
    qif_step,
)
from step_ahsar.neurons.equations.gated import HDLIF_REST, glif_step, hdlif_step
from step_ahsar.neurons.equations.integer import ilif_step, nilif_step
from step_ahsar.neurons.equations.leaky import (
    clif_step,
    cubalif_step,
    if_step,
    klif_step,
    lif_step,
    ltmd_step,
    plif_step,
    trsg_step,
)
from step_ahsar.neurons.equations.parallel import masked_psn_weight, psn_step, sliding_psn_weight
from step_ahsar.neurons.equations.reset import RESETS, Fire, Reset, hard_reset, soft_reset
from step_ahsar.neurons.equations.ternary import ternary_if_step, ternary_lif_step

__all__ = [
    "HDLIF_REST",
    "HH_REST",
    "RESETS",
    "Fire",
    "Reset",
    "clif_step",
    "cubalif_step",
    "eif_step",
    "glif_step",
    "hard_reset",
    "hdlif_step",
    "hodgkin_huxley_step",
    "if_step",
    "ilif_step",
    "izhikevich_step",
    "klif_step",
    "lif_step",
    "ltmd_step",
    "masked_psn_weight",
    "nilif_step",
    "plif_step",
    "psn_step",
    "qif_step",
    "sliding_psn_weight",
    "soft_reset",
    "ternary_if_step",
    "ternary_lif_step",
    "trsg_step",
]

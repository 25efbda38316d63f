"""The fused multi-step forms of the step equations.

``dynamics.py`` unrolls an equation over time. ``multi_step.py`` runs it in one forward and one backward pass.
``normed.py`` includes the batch norm in front of the neuron in these passes. ``compiling.py`` compiles the passes,
``first_order.py`` refuses second derivatives.
"""

from step_ahsar.neurons.kernels.compiling import compiler_available, run_pass
from step_ahsar.neurons.kernels.dynamics import UNROLL, Dynamics, State, Step, heaviside, working_dtype
from step_ahsar.neurons.kernels.multi_step import multi_step
from step_ahsar.neurons.kernels.normed import can_fuse, normed_multi_step

__all__ = [
    "UNROLL",
    "Dynamics",
    "State",
    "Step",
    "can_fuse",
    "compiler_available",
    "heaviside",
    "multi_step",
    "normed_multi_step",
    "run_pass",
    "working_dtype",
]

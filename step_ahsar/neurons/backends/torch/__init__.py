"""The project's own neurons: step equations of functional through the fused kernels."""

from step_ahsar.neurons.backends.torch.adaptive import LTMD, Rouser
from step_ahsar.neurons.backends.torch.base import RESETS, TorchNeuron, check_tau
from step_ahsar.neurons.backends.torch.excitable import EIF, QIF, HodgkinHuxley, Izhikevich
from step_ahsar.neurons.backends.torch.gated import GLIF, HDLIF
from step_ahsar.neurons.backends.torch.integer import ILIF, NILIF
from step_ahsar.neurons.backends.torch.leaky import CLIF, CUBALIF, IF, KLIF, LIF, PLIF
from step_ahsar.neurons.backends.torch.parallel import PSN, MaskedPSN, ParallelNeuron, SlidingPSN

__all__ = [
    "CLIF",
    "CUBALIF",
    "EIF",
    "GLIF",
    "HDLIF",
    "IF",
    "ILIF",
    "KLIF",
    "LIF",
    "LTMD",
    "NILIF",
    "PLIF",
    "PSN",
    "QIF",
    "RESETS",
    "HodgkinHuxley",
    "Izhikevich",
    "MaskedPSN",
    "ParallelNeuron",
    "Rouser",
    "SlidingPSN",
    "TorchNeuron",
    "check_tau",
]

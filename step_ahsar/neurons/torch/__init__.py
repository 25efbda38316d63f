"""The project's own neurons: step equations that run through the fused kernels."""

from step_ahsar.neurons.torch.adaptive import DSATGO, LTMD, Rouser, TrSG
from step_ahsar.neurons.torch.base import RESETS, TorchNeuron, check_tau
from step_ahsar.neurons.torch.excitable import EIF, QIF, HodgkinHuxley, Izhikevich
from step_ahsar.neurons.torch.gated import GLIF, HDLIF
from step_ahsar.neurons.torch.integer import ILIF, NILIF
from step_ahsar.neurons.torch.leaky import CLIF, CUBALIF, IF, KLIF, LIF, PLIF
from step_ahsar.neurons.torch.parallel import PSN, MaskedPSN, ParallelNeuron, SlidingPSN
from step_ahsar.neurons.torch.ternary import TernaryIF, TernaryLIF

__all__ = [
    "CLIF",
    "CUBALIF",
    "DSATGO",
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
    "TernaryIF",
    "TernaryLIF",
    "TorchNeuron",
    "TrSG",
    "check_tau",
]

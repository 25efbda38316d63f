"""How a threshold scale enters snnTorch's nodes."""

from step_ahsar.libraries.regulation import NodeRule, ScaleRule, always, refused

NODES: dict[str, NodeRule] = {
    "SpikingNeuron": always(ScaleRule("threshold", ones=False)),
    "LeakyParallel": always(ScaleRule("threshold", ones=False)),
    "LeakyKernel": always(ScaleRule("threshold", ones=False)),
    "AssociativeLeaky": refused("its output is a readout, not spikes"),
}

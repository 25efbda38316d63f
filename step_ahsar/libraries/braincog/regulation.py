"""How a threshold scale enters BrainCog's nodes."""

from typing import Any

from step_ahsar.libraries.regulation import NodeRule, ScaleRule, always, refused

_MEMBRANE = refused("its output is membranes, not spikes")


def _base_node(node: Any) -> ScaleRule | str:
    if node.sigmoid_thres:
        return "its threshold is the sigmoid of the one that it stores (sigmoid_thres)"
    return ScaleRule("threshold")


NODES: dict[str, NodeRule] = {
    "BaseNode": _base_node,
    "BaseMCNode": always(ScaleRule("threshold")),
    "BurstLIFNode": always(ScaleRule("threshold", ones=False)),
    "BackEINode": always(ScaleRule("threshold", ones=False)),
    "ReLUNode": refused("it is not a spiking neuron"),
    "BiasReLUNode": refused("it is not a spiking neuron"),
    "DGLIFNode": _MEMBRANE,
    "HTDGLIFNode": _MEMBRANE,
    "LIAFNode": _MEMBRANE,
    "OnlineLIFNode": refused("its output is spikes and rates in one tensor"),
}

"""How a threshold scale enters SpikingJelly's nodes, including those of releases before 2.0."""

from typing import Any

from torch import Tensor

from step_ahsar.libraries.regulation import NodeRule, ScaleRule, always, refused


def _plain_call(surrogate: Any, _: Tensor) -> Any:
    """Keeps SpikingJelly from using a fused kernel, which takes the threshold as a number.

    Kernels are chosen by the type of the surrogate. Its method ``forward`` has none of these types.
    """
    return getattr(surrogate, "forward", surrogate)


def _stretched(surrogate: Any, scale: Tensor) -> Any:
    """Corrects the surrogate's derivative for an input that was divided by ``scale``. The spikes are not changed."""
    return lambda u: surrogate(u * scale)


def _set_reset_value(node: Any, threshold: Any) -> None:
    """Before release 0.0.0.0.14 the threshold was a memory: every ``reset_net`` sets it to its reset value."""
    if "v_threshold" in getattr(node, "_memories_rv", {}):
        node.set_reset_value("v_threshold", threshold)


def _base_node(node: Any) -> ScaleRule:
    # The CuPy and Lava backends of releases before 2.0 take a threshold that is a number; the torch code of the same
    # node takes a tensor.
    other_backend = getattr(node, "backend", "torch") != "torch"
    return ScaleRule(
        "v_threshold",
        surrogate=_plain_call,
        meanwhile={"backend": "torch"} if other_backend else {},
        settled=_set_reset_value,
    )


NODES: dict[str, NodeRule] = {
    "BaseNode": _base_node,
    "SimpleBaseNode": _base_node,
    "ActivationAwareIFNode": _base_node,
    "ILCBaseNode": _base_node,
    "ComplementaryLIFNode": always(ScaleRule("v_threshold")),
    "TernaryIFNode": always(ScaleRule("v_threshold", ones=False)),
    "TernaryLIFNode": always(ScaleRule("v_threshold", ones=False)),
    # The bias of a parallel neuron is the negative threshold.
    "PSN": always(ScaleRule("bias")),
    "MaskedPSN": always(ScaleRule("bias")),
    "SlidingPSN": always(ScaleRule("bias")),
    "ILIFNode": always(ScaleRule("v_threshold", divides=True)),
    # Its thresholds are sigmoids of parameters.
    "GatedLIFNode": always(ScaleRule(None, divides=True, surrogate=_stretched)),
    "LIAFNode": refused("its output is membranes, not spikes"),
    "MPBNBaseNode": refused("its threshold is part of a norm"),
    "DSRIFNode": refused("its spikes have the height of its threshold"),
    "DSRLIFNode": refused("its spikes have the height of its threshold"),
    "NoisyBaseNode": refused("its spikes are noisy"),
    "FewSpikeNode": refused("its thresholds come from the conversion of an ANN"),
    "STBIFNode": refused("its threshold is the step of a quantiser"),
    "FlexSN": refused("its equation is not known"),
}

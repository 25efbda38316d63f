"""Regulating spiking modules of other libraries, or of your own, without replacing them.

A regulated module ("node") keeps its class. It gets a buffer ``threshold_scale``, which checkpoints and copies keep,
and two forward hooks. While it runs, the attribute that holds its threshold is replaced by the threshold times the
scale. The scale is a tensor on the device: nothing is recompiled when it changes, and it is never read back to the
host.

``step_ahsar/libraries/<library>/regulation.py`` lists a library's classes of nodes in ``NODES``, each with a function
from a node to its :class:`ScaleRule`, or to the reason why it cannot be regulated. The library itself is not imported:
a node is recognised by the names of its base classes and of their package.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from step_ahsar.errors import UserError
from step_ahsar.libraries import list_libraries, load_part
from step_ahsar.neurons.base import Sensor

_SCALE = "threshold_scale"  # the buffer's name, as on the registry's neurons
_LAYER = "_ahsar_layer"  # the attribute of a regulated node that holds its NodeLayer
_ABSENT = object()


@dataclass(frozen=True)
class ScaleRule:
    """How a threshold scale s enters a spiking module.

    Args:
        threshold: name of the attribute that holds the threshold: a number, a tensor or a parameter. While the module
            runs it is multiplied by s. None if there is no such attribute.
        divides: divide the module's input by s instead, which has the same effect for a neuron that is linear below
            its threshold.
        surrogate: a function of the attribute ``surrogate_function`` and s; its result replaces that attribute while
            the module runs.
        meanwhile: further attributes, with the values that they have while the module runs.
        settled: called with the module and its new threshold when the scale is folded into the threshold; for modules
            that store the threshold in a second place.
        ones: whether every spike is 1. If not (bursts, graded or negative spikes), every value other than 0 counts as
            one spike.
    """

    threshold: str | None
    divides: bool = False
    surrogate: Callable[[Any, Tensor], Any] | None = None
    meanwhile: Mapping[str, Any] = field(default_factory=dict)
    settled: Callable[[Any, Any], None] | None = None
    ones: bool = True

    def stand_ins(self, node: nn.Module, scale: Tensor) -> dict[str, Any]:
        """The values that replace the node's own attributes while it runs, by name."""
        found = dict(self.meanwhile)
        if self.threshold is not None and not self.divides:
            found[self.threshold] = getattr(node, self.threshold) * scale
        if self.surrogate is not None:
            found["surrogate_function"] = self.surrogate(node.surrogate_function, scale)
        return found


Rules = Mapping[type[nn.Module], ScaleRule]
NodeRule = Callable[[Any], ScaleRule | str]


def always(rule: ScaleRule) -> NodeRule:
    """The entry in ``NODES`` of a class whose nodes all follow one rule."""
    return lambda node: rule


def refused(reason: str) -> NodeRule:
    """The entry in ``NODES`` of a class whose nodes cannot be regulated."""
    return lambda node: reason


class NodeLayer(Sensor):
    """A node as a layer that the controller can regulate (:class:`step_ahsar.ahsar.controller.Regulated`).

    Args:
        node: the module.
        rule: how a scale enters it, or the reason why it cannot be regulated.
    """

    def __init__(self, node: nn.Module, rule: ScaleRule | str) -> None:
        self.node, self.rule = node, rule
        self.max_spikes = float(getattr(getattr(node, "surrogate_function", None), "max_spike_count", 1))
        self._hooks: list[Any] = []
        self._hidden: dict[str, Any] = {}

    @property
    def training(self) -> bool:  # type: ignore[override]
        """Whether the node is in training mode."""
        return self.node.training

    @property
    def threshold_scale(self) -> Tensor | None:
        """Factor on the node's threshold, 0-d; None if it is not regulated."""
        return getattr(self.node, _SCALE, None)

    def start_regulation(self) -> None:
        """Adds buffer and hooks unless they exist. Raises UserError for a node that cannot be regulated."""
        self._check_rule()
        if self.threshold_scale is None:
            self.node.register_buffer(_SCALE, torch.ones(()))
            vars(self.node)[_LAYER] = self
            self._hooks = [
                self.node.register_forward_pre_hook(self._before),
                self.node.register_forward_hook(self._after, always_call=True),
            ]
        assert self.threshold_scale is not None
        self.observed = torch.zeros(2, device=self.threshold_scale.device)

    def stop_observing(self) -> None:
        """Ends the observation by a controller. The scale stays."""
        self.observed, self.evaluated, self.watched = None, False, False

    def stop_regulation(self) -> None:
        """Removes buffer and hooks."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        del vars(self.node)[_LAYER]
        delattr(self.node, _SCALE)
        self.stop_observing()

    @torch.no_grad()
    def absorb_scale(self) -> None:
        """Multiplies the scale into the node's threshold and ends regulation.

        Raises:
            UserError: the node has no attribute for its threshold.
        """
        rule, scale = self._usable_rule(), self.threshold_scale
        if scale is None:
            return
        if rule.threshold is None:
            raise UserError(f"{type(self.node).__name__} has no attribute for its threshold; keep it regulated")
        own = getattr(self.node, rule.threshold)
        scaled: Any = own * scale
        if isinstance(own, nn.Parameter):
            scaled = nn.Parameter(scaled, requires_grad=own.requires_grad)
        elif not isinstance(own, Tensor):
            scaled = scaled.item()
        setattr(self.node, rule.threshold, scaled)
        if rule.settled is not None:
            rule.settled(self.node, scaled)
        self.stop_regulation()

    def _usable_rule(self) -> ScaleRule:
        if isinstance(self.rule, str):
            raise self._refusal(f"{self.rule}; leave it out of the groups")
        return self.rule

    def _check_rule(self) -> None:
        rule = self._usable_rule()
        if rule.threshold is None:
            if not rule.divides:
                raise self._refusal("its ScaleRule has neither a threshold nor divides=True, so a scale has no effect")
            return
        if not hasattr(self.node, rule.threshold):
            raise self._refusal(f"it has no attribute {rule.threshold!r}, the threshold of its ScaleRule")
        value = getattr(self.node, rule.threshold)
        if isinstance(value, bool) or not isinstance(value, (Real, Tensor)):
            raise self._refusal(f"its {rule.threshold!r} is no number and no tensor but {value!r}")

    def _refusal(self, reason: str) -> UserError:
        return UserError(f"{type(self.node).__name__} cannot be regulated: {reason}")

    def _before(self, node: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        rule, scale = self._usable_rule(), self.threshold_scale
        assert scale is not None
        for name, value in rule.stand_ins(node, scale).items():
            if isinstance(getattr(type(node), name, None), property):  # an entry in vars(node) would have no effect
                self._hidden[name] = getattr(node, name)
                setattr(node, name, value)
            else:  # an entry in vars(node) takes precedence over a parameter, buffer or submodule of the same name
                self._hidden[name] = vars(node).get(name, _ABSENT)
                vars(node)[name] = value
        return (args[0] / scale, *args[1:]) if rule.divides else None

    def _after(self, node: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        for name, value in self._hidden.items():
            if isinstance(getattr(type(node), name, None), property):
                setattr(node, name, value)
            elif value is _ABSENT:
                del vars(node)[name]
            else:
                vars(node)[name] = value
        self._hidden.clear()
        if output is None or self.observed is None:  # None: the forward pass raised
            return
        spikes = (output[0] if isinstance(output, (tuple, list)) else output).detach()
        if self.observed.device != spikes.device:  # it is no buffer, because model.half() would make it too coarse
            self.observed = self.observed.to(spikes.device)
        self.sense(spikes, None if self._usable_rule().ones else spikes.count_nonzero())


def find_layer(module: nn.Module, rules: Rules | None = None) -> NodeLayer | None:
    """A module as a layer, whether or not it can be regulated; None for a module of an unknown class.

    Args:
        module: any module that is not this package's.
        rules: rules by class. They take precedence over those of the libraries.
    """
    layer = vars(module).get(_LAYER)
    if layer is not None:
        return layer
    for cls in type(module).__mro__:
        if rules and cls in rules:
            return NodeLayer(module, rules[cls])
        nodes = _nodes_of(cls.__module__.partition(".")[0])
        if cls.__name__ in nodes:
            return NodeLayer(module, nodes[cls.__name__](module))
    return None


def regulated_libraries() -> list[str]:
    """Names of the libraries whose nodes can be regulated."""
    return list_libraries("regulation")


@cache
def _nodes_of(library: str) -> Mapping[str, NodeRule]:
    """The ``NODES`` of a library; empty for a package that has no folder here."""
    regulation = load_part(library, "regulation")
    return {} if regulation is None else regulation.NODES

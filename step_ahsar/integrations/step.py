"""AHSAR in STEP's trainer: a neuron with the interface of BrainCog's nodes. docs/step.md shows how to use it.

STEP builds its layers from a node class and trains them in a loop that has no place for a controller. A model of these
nodes therefore regulates itself at its first forward pass in training. At their first call the nodes also take over the
model's number of time steps, which STEP passes to some of its layers only.
"""

import abc
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from step_ahsar.ahsar.neuron import regulate_own_model
from step_ahsar.ahsar.running import running_model
from step_ahsar.errors import UserError, unknown
from step_ahsar.neurons import SpikingNeuron, list_surrogates
from step_ahsar.neurons.base import scalar
from step_ahsar.neurons.equations import Fire, hard_reset, lif_step
from step_ahsar.neurons.kernels import Dynamics, State, multi_step
from step_ahsar.neurons.surrogate import resolve_alpha
from step_ahsar.neurons.torch.base import check_size, check_tau

Act = str | nn.Module | type | Callable[[Tensor], Tensor] | None

# Surrogates of BrainCog and STEP that the fused kernels support. BrainCog's atan and gate fire on >, the kernels on >=.
_FUSED = {
    "SigmoidGrad": "sigmoid",
    "Sigmoid_Grad": "sigmoid",
    "AtanGrad": "atan",
    "QGateGrad": "piecewise_quadratic",
    "QGate_Grad": "piecewise_quadratic",
}
# Further options of BrainCog's nodes, with the only value that is supported here.
_FIXED = {
    "v_reset": 0.0,
    "dt": 1.0,
    "n_groups": 1,
    "requires_thres_grad": False,
    "sigmoid_thres": False,
    "requires_mem": False,
}


class AHSARNode(SpikingNeuron):
    """LIF under AHSAR with the interface of BrainCog's nodes: ``[T*B, ...] -> spikes [T*B, ...]``, T outermost.

    With ``layer_by_layer`` a call runs ``step`` time steps from rest. Without it a call is one time step of ``[B,
    ...]``, and the membrane is kept until :meth:`n_reset`.

    In training the model around it is regulated as by ``regulate(model, auto=True)``, unless ``regulate`` was called
    before. :func:`step_ahsar.ahsar.controller_of` returns the controller.

    Args:
        threshold: initial firing threshold, > 0.
        tau: membrane time constant in time steps, > 1.
        act_func: surrogate: one of BrainCog's (instance, class or name), the name of one of the registry's, or any
            function of membrane minus threshold that returns spikes. None is the sigmoid with alpha 4.
        step: time steps T, unless the model around the node has another ``step`` or ``T``.
        layer_by_layer: whether a call runs all time steps.
        mem_detach: whether gradients are cut between time steps.
        input_dims: accepted and not needed: the node takes the shape of its input.
        act_fun: BrainCog's name of ``act_func``.
        alpha: the surrogate's parameter, if ``act_func`` is a class or a name; None is its default.
        requires_fp: keep the spikes of every time step in ``feature_map`` until :meth:`n_reset`.
        fixed: BrainCog's other options, with their default values.

    Raises:
        UserError: an option that is out of range or unknown, or a value that is not supported.

    >>> node = AHSARNode(step=4, tau=2.0, threshold=1.0, layer_by_layer=True, mem_detach=False)
    >>> node(torch.full((4 * 3, 8), 1.5)).unflatten(0, (4, 3))[:, 0, 0]
    tensor([0., 1., 0., 1.])
    """

    name = "AHSARNode"
    scales_with_input = True

    mem: Tensor | None

    def __init__(
        self,
        threshold: float = 1.0,
        tau: float = 2.0,
        act_func: Act = None,
        step: int = 4,
        layer_by_layer: bool = True,
        mem_detach: bool = False,
        input_dims: Any = None,
        *,
        act_fun: Act = None,
        alpha: float | None = None,
        requires_fp: bool = False,
        **fixed: Any,
    ) -> None:
        super().__init__(float(threshold))
        for option, value in fixed.items():
            if option not in _FIXED:
                raise unknown("option of AHSARNode:", option, [*_FIXED, "step", "tau", "act_func", "layer_by_layer"])
            if value != _FIXED[option]:
                raise UserError(f"AHSARNode has {option}={_FIXED[option]!r} only, got {value!r}")
        if act_func is not None and act_fun is not None:
            raise UserError("act_func and act_fun are two names of one option of AHSARNode; give one")
        self.tau, self.step = check_tau(tau, self.name), check_size(step, self.name, "step")
        self.layer_by_layer, self.mem_detach, self.input_dims = layer_by_layer, mem_detach, input_dims
        self.surrogate, self.alpha, self.act_fun = _resolve(act_fun if act_func is None else act_func, alpha)
        self.requires_fp = requires_fp
        self.add_scale()  # at once, so that state dicts have the same keys before and after the first training step
        self.n_reset()
        self.before_training = regulate_own_model
        self._knows_model = False

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        """``[T*B, ...]`` (``[B, ...]`` unless layer by layer) to spikes of the same shape and dtype."""
        _learn_model(self)
        steps = self.step if self.layer_by_layer else 1
        if len(inputs) % steps:
            raise UserError(
                f"AHSARNode runs {steps} time steps, so it takes [{steps} * B, ...], got {list(inputs.shape)}"
            )
        spikes = super().forward(rearrange(inputs, "(t b) ... -> t b ...", t=steps))
        if self.requires_fp:
            self.feature_map += spikes.unbind(0)
        return rearrange(spikes, "t b ... -> (t b) ...")

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]``, and their number if the fused pass computes it, else None."""
        v = None if self.layer_by_layer else self.mem
        if v is not None and v.shape != x.shape[1:]:
            raise UserError(
                f"AHSARNode holds the membranes of an input {list(v.shape)} and got one of {list(x.shape[1:])}; "
                "call n_reset() between inputs"
            )
        params = {"threshold": self.scaled_threshold(x), "tau": scalar(self.tau, x)}
        state, keep = None if v is None else (v,), not self.layer_by_layer
        count: Tensor | None
        if self.act_fun is None and not self.mem_detach:
            spikes, count, last = multi_step(self._dynamics(), x, params, scalar(self.alpha, x), state, keep)
        else:
            spikes, count, last = self._loop(x, params, state)
        self.mem = last[0] if keep else None
        return spikes, count

    def n_reset(self) -> None:
        """Drops the membrane and the feature map."""
        self.mem = None
        self.feature_map: list[Tensor] = []

    def get_thres(self) -> Tensor:
        """The current threshold, 0-d, under BrainCog's name."""
        scale = torch.ones(()) if self.threshold_scale is None else self.threshold_scale
        return self.threshold * scale

    def extra_repr(self) -> str:
        """The node's options."""
        act = f"surrogate={self.surrogate!r}, alpha={self.alpha}, " if self.act_fun is None else ""
        flags = f"layer_by_layer={self.layer_by_layer}, mem_detach={self.mem_detach}"
        return f"threshold={self.threshold}, tau={self.tau}, step={self.step}, {act}{flags}"

    def _dynamics(self) -> Dynamics:
        return Dynamics(lif_step, (0.0,), self.surrogate, "hard", detach_reset=True)

    def _loop(self, x: Tensor, params: dict[str, Tensor], state: State | None) -> tuple[Tensor, None, State]:
        """Runs the time steps one by one, for surrogates that the kernels do not support and for cut gradients."""
        fire: Fire = self.act_fun or self._dynamics().fire(scalar(self.alpha, x))
        work = x.to(torch.promote_types(x.dtype, torch.float32))
        v = torch.zeros_like(work[0]) if state is None else state[0]
        spikes = []
        for now in work:
            v = v.detach() if self.mem_detach else v
            s, v = lif_step(now, v, fire=fire, reset=lambda v, s, *_: hard_reset(v, s.detach(), v), **params)
            spikes.append(s)
        return torch.stack(spikes).to(x.dtype), None, (v,)


def _resolve(act: Act, alpha: float | None) -> tuple[str, float, Callable[[Tensor], Tensor] | None]:
    """The surrogate as (name, alpha, function).

    For a surrogate that the kernels support, the function is None. For others, name and alpha have no effect.
    """
    if act is None or isinstance(act, str):
        name = _FUSED.get(act or "sigmoid", act or "sigmoid")
        if name not in list_surrogates():
            raise unknown("act_func", act, [*_FUSED, *list_surrogates()])
        return name, resolve_alpha(name, alpha), None
    if isinstance(act, type):
        act = act() if alpha is None else act(alpha=alpha)
    elif alpha is not None:
        raise UserError(f"alpha goes with a class or a name; the given {type(act).__name__} has an alpha of its own")
    if not callable(act):
        raise UserError(f"act_func must be a surrogate or the name of one, got {act!r}")
    own = getattr(act, "alpha", None)
    if type(act).__name__ in _FUSED and isinstance(own, Tensor) and not own.requires_grad:
        name = _FUSED[type(act).__name__]
        return name, resolve_alpha(name, own.item()), None
    return "sigmoid", 4.0, act


@torch.compiler.assume_constant_result
def _learn_model(node: AHSARNode) -> None:
    """Once: takes over the model's number of time steps, and makes the model's methods count AHSARNode as a node."""
    model = None if node._knows_model else running_model(node)
    if model is None:
        return
    node._knows_model = True
    steps = _time_steps(model)
    if node.layer_by_layer and steps not in (None, node.step):
        warnings.warn(
            f"an AHSARNode was created with step={node.step}; it runs the {steps} time steps of its model",
            stacklevel=2,
        )
        node.step = steps or node.step
    _count_as_node(model)


def _time_steps(model: nn.Module) -> int | None:
    """The number of time steps of the outermost module that has one."""
    others = (module for module in model.modules() if not isinstance(module, AHSARNode))
    declared = (getattr(module, name, None) for module in others for name in ("step", "T"))
    return next((t for t in declared if isinstance(t, int) and not isinstance(t, bool) and t > 0), None)


def _count_as_node(model: nn.Module) -> None:
    """Makes AHSARNode a node to the methods of BrainCog's BaseModule (get_fp, get_threshold, ...) around ``model``.

    These methods ask whether a module is an instance of the ``BaseNode`` in their own Python module. ``BaseNode`` is an
    abstract base class, so AHSARNode can be registered as a subclass of it.
    """
    for module in model.modules():
        for cls in type(module).__mro__:
            base = getattr(sys.modules.get(cls.__module__), "BaseNode", None)
            if cls.__name__ == "BaseModule" and isinstance(base, abc.ABCMeta):
                base.register(AHSARNode)

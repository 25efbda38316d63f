"""AHSAR in STEP's trainer, by name: a neuron that keeps BrainCog's node contract. docs/step.md shows the patch.

STEP builds its layers from a node class and trains them in a loop that has no place for a controller. So these nodes
find the model that they are in when it is first called, take the model's number of time steps (STEP hands it to some of
its layers only), and put the model under a controller that hooks drive.
"""

import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from step_ahsar.ahsar.controller import Controller
from step_ahsar.ahsar.regulate import regulate
from step_ahsar.errors import UserError, unknown
from step_ahsar.neurons import SpikingNeuron, list_surrogates
from step_ahsar.neurons.backends.torch.base import check_size, check_tau
from step_ahsar.neurons.base import scalar
from step_ahsar.neurons.functional import Fire, hard_reset, lif_step
from step_ahsar.neurons.kernels import Dynamics, State, multi_step
from step_ahsar.neurons.surrogate import resolve_alpha

Act = str | nn.Module | type | Callable[[Tensor], Tensor] | None

# BrainCog's and STEP's surrogates that the fused kernels know; of BrainCog's, atan and gate fire on >, these on >=.
_FUSED = {
    "SigmoidGrad": "sigmoid",
    "Sigmoid_Grad": "sigmoid",
    "AtanGrad": "atan",
    "QGateGrad": "piecewise_quadratic",
    "QGate_Grad": "piecewise_quadratic",
}
# What BrainCog's nodes take besides, in the one value that this one can honour.
_FIXED = {
    "v_reset": 0.0,
    "dt": 1.0,
    "n_groups": 1,
    "requires_thres_grad": False,
    "sigmoid_thres": False,
    "requires_mem": False,
}


class AHSARNode(SpikingNeuron):
    """LIF under AHSAR with BrainCog's node contract: ``[T*B, ...] -> spikes [T*B, ...]``, any rank, T outermost.

    Layer by layer, each call is one run of ``step`` time steps from rest. Otherwise each call is one time step of
    ``[B, ...]``, and the membrane is kept until :meth:`n_reset`.

    In training the model around it is regulated as by ``regulate(model, auto=True)``, unless that was called with other
    arguments before; :func:`controller_of` gives the controller.

    Args:
        threshold: firing threshold to start from, > 0.
        tau: membrane time constant in time steps, > 1.
        act_func: surrogate: one of BrainCog's (instance or class), the name of one or of one of the registry's, or any
            function of membrane minus threshold that gives spikes. None is the sigmoid of alpha 4.
        step: time steps T, unless the model around the node says otherwise by its ``step`` or ``T``.
        layer_by_layer: all time steps in one call.
        mem_detach: no gradient from one time step to the one before.
        input_dims: taken for the contract's sake: the node learns the shape from its input.
        act_fun: BrainCog's name of ``act_func``.
        alpha: the surrogate's parameter, where ``act_func`` is a class or a name; None is its default.
        requires_fp: keep the spikes of every time step in ``feature_map`` until :meth:`n_reset`.
        fixed: BrainCog's other options, in their default values.

    Raises:
        UserError: an option out of range, unknown, or in a value that is not honoured.

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
        self.register_buffer("threshold_scale", torch.ones(()))  # from the start, so all copies have the same keys
        self.n_reset()
        self._model_known = False
        _wait_for_model(self)

    def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
        """``[T*B, ...]`` (``[B, ...]`` unless layer by layer) to spikes of the same shape and dtype."""
        steps = self.step if self.layer_by_layer else 1
        if len(inputs) % steps:
            raise UserError(
                f"AHSARNode runs {steps} time steps, so it takes [{steps} * B, ...], got {list(inputs.shape)}"
            )
        spikes = super().forward(inputs.unflatten(0, (steps, -1)))
        if self.requires_fp:
            self.feature_map += spikes.unbind(0)
        return spikes.flatten(0, 1)

    def simulate(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Spikes of ``x: [T, B, ...]``, and their number if the fused pass gave it."""
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
        """Forgets the membrane and the feature map. Layer by layer there is no membrane to forget."""
        self.mem = None
        self.feature_map: list[Tensor] = []

    def extra_repr(self) -> str:
        """The options in force."""
        act = f"surrogate={self.surrogate!r}, alpha={self.alpha}, " if self.act_fun is None else ""
        flags = f"layer_by_layer={self.layer_by_layer}, mem_detach={self.mem_detach}"
        return f"threshold={self.threshold}, tau={self.tau}, step={self.step}, {act}{flags}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if not self._model_known:
            _wait_for_model(self)

    def _dynamics(self) -> Dynamics:
        return Dynamics(lif_step, (0.0,), self.surrogate, "hard", detach_reset=True)

    def _loop(self, x: Tensor, params: dict[str, Tensor], state: State | None) -> tuple[Tensor, None, State]:
        """The time steps one by one, as a surrogate of unknown kind or a cut gradient needs them."""
        fire: Fire = self.act_fun or self._dynamics().differentiable_fire(scalar(self.alpha, x))
        work = x.to(torch.promote_types(x.dtype, torch.float32))
        v = torch.zeros_like(work[0]) if state is None else state[0]
        spikes = []
        for now in work:
            v = v.detach() if self.mem_detach else v
            s, v = lif_step(now, v, fire=fire, reset=lambda v, s, *_: hard_reset(v, s.detach(), v), **params)
            spikes.append(s)
        return torch.stack(spikes).to(x.dtype), None, (v,)


def _resolve(act: Act, alpha: float | None) -> tuple[str, float, Callable[[Tensor], Tensor] | None]:
    """Name and alpha of a surrogate that the kernels know; else the function itself."""
    if act is None or isinstance(act, str):
        name = _FUSED.get(act or "sigmoid", act or "sigmoid")
        if name not in list_surrogates():
            raise unknown("act_func", act, [*_FUSED, *list_surrogates()])
        return name, resolve_alpha(name, alpha), None
    if isinstance(act, type):
        act = act() if alpha is None else act(alpha=alpha)
    elif alpha is not None:
        raise UserError(f"alpha goes with a class or a name; {type(act).__name__}, which was given, has its own")
    if not callable(act):
        raise UserError(f"act_func must be a surrogate or the name of one, got {act!r}")
    own = getattr(act, "alpha", None)
    if type(act).__name__ in _FUSED and isinstance(own, Tensor) and not own.requires_grad:
        name = _FUSED[type(act).__name__]
        return name, resolve_alpha(name, own.item()), None
    return "sigmoid", 4.0, act


# -- finding the model -------------------------------------------------------------------------------------------------

_waiting: weakref.WeakSet[AHSARNode] = weakref.WeakSet()  # nodes whose model was not called yet
_controllers: weakref.WeakKeyDictionary[nn.Module, Controller] = weakref.WeakKeyDictionary()
_watch: Any = None


def controller_of(model: nn.Module) -> Controller:
    """The controller that the nodes of ``model`` made when it was first trained. Raises UserError if there is none."""
    if model not in _controllers:
        raise UserError(f"no AHSARNode has put {type(model).__name__} under a controller; it was not trained yet")
    return _controllers[model]


def _wait_for_model(node: AHSARNode) -> None:
    global _watch
    _waiting.add(node)
    if _watch is None:
        _watch = register_module_forward_pre_hook(_meet_model)


def _meet_model(module: nn.Module, _: Any) -> None:
    """Before any module runs, the outermost first: does it hold nodes that wait?"""
    global _watch
    if isinstance(module, AHSARNode):  # called by itself
        return
    nodes = [m for m in module.modules() if isinstance(m, AHSARNode) and m in _waiting]
    for node in nodes:
        node._model_known = True
        _waiting.discard(node)
    if not _waiting:
        _watch.remove()
        _watch = None
    if not nodes:
        return
    _take_time_steps(module, nodes)
    module.register_forward_pre_hook(_regulate_once)
    _regulate_once(module, _)


def _take_time_steps(model: nn.Module, nodes: list[AHSARNode]) -> None:
    """Gives the nodes the T of the outermost module that has one."""
    declared = (
        getattr(m, name, None) for m in model.modules() if not isinstance(m, AHSARNode) for name in ("step", "T")
    )
    steps = next((t for t in declared if isinstance(t, int) and not isinstance(t, bool) and t > 0), None)
    wrong = [node for node in nodes if node.layer_by_layer and steps not in (None, node.step)]
    for node in wrong:
        warnings.warn(f"an AHSARNode was made for {node.step} time steps and runs its model's {steps}", stacklevel=2)
        node.step = steps or node.step


def _regulate_once(model: nn.Module, _: Any) -> None:
    if not model.training or model in _controllers:
        return
    if all(node.observed is None for node in model.modules() if isinstance(node, AHSARNode)):  # nobody regulates them
        _controllers[model] = regulate(model, auto=True)

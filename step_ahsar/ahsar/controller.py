"""The controller: it keeps the homeostatic state, reads the neurons' spike counts and writes their threshold scales."""

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from step_ahsar import internals, ranks
from step_ahsar.ahsar import law
from step_ahsar.ahsar.calibration import REACH, TRIALS, Calibration
from step_ahsar.ahsar.config import FIRST_LAW, FIRST_RATE, LOUDEST, SHARES, AHSARConfig
from step_ahsar.errors import UserError, shortened
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.passes import without_traces

_STATE = ("h", "rate", "seen", "gamma")  # attributes that change in training, without their underscore
_FIXED = ("group", "low", "high", "unit", "asked")  # attributes that do not
_KEPT_AS = "_ahsar_controller"  # the model's attribute that holds its controller; not part of the state dict
_ROUNDING = 1e-5  # two devices may compute the same scale with such a relative difference
_MANY_STEPS = 100  # steps of optimisers that do not hold the model, while it is trained, before this is said
_SETTLED = 10  # steps after which every layer should have been seen

# The controller of each regulated layer. Copies of a layer are in it only if the controller is copied along.
_regulating: "weakref.WeakKeyDictionary[Any, weakref.ref[Controller]]" = weakref.WeakKeyDictionary()


class Regulated(Protocol):
    """A layer as the controller sees it: a SpikingNeuron, or a NodeLayer around a module of another library."""

    trained: bool
    evaluated: bool

    @property
    def training(self) -> bool:
        """Whether the layer is in training mode."""

    @property
    def threshold_scale(self) -> Tensor | None:
        """Factor on the threshold, 0-d; None unless regulated. The controller writes it in place."""

    @property
    def observed(self) -> Tensor | None:
        """Number of spikes, and of neurons times time steps, seen in training, [2] fp32; None without a controller."""

    def clear_observed(self) -> None:
        """Sets ``observed`` to 0, for the next iteration."""

    def start_regulation(self) -> None:
        """Adds a scale of 1 unless there is one, and starts observing. Raises UserError if this is not possible."""

    def stop_observing(self) -> None:
        """Ends observing. The scale stays."""

    def stop_regulation(self) -> None:
        """Removes the scale and ends observing."""


class Controller:
    """AHSAR for the layers of one model. Use :func:`step_ahsar.ahsar.regulate` to create it.

    Call :meth:`step` after the optimiser's step and :meth:`epoch_end` after validation. The controller reads firing
    rates and writes thresholds; it adds no parameters and does not change gradients.

    Args:
        layers: for each group its layers in the order of the model, by their names in the model.
        config: constants of the law.
        model: the model that holds the layers. It keeps the controller, so that copies of it have one, too. The
            controller ends with it.
        auto: call :meth:`step` after each step of an optimiser that holds parameters of the model, and
            :meth:`epoch_end` before the first step after an evaluation.

    Attributes:
        skipped: for each layer the number of observed rates that were not finite or not in [0, 1], [n]. They had no
            effect.
        self_made: whether the model created this controller by itself, because nobody had called ``regulate``.
    """

    def __init__(
        self,
        layers: Mapping[str, Mapping[str, Regulated]],
        config: AHSARConfig,
        model: nn.Module,
        auto: bool = False,
    ) -> None:
        self.config, self.auto = config, auto
        self._model: Callable[[], nn.Module | None] = weakref.ref(model)
        self._finalizer: Any = None
        self.self_made = self._released = False
        self.groups = tuple(layers)
        self._names = [name for group in layers.values() for name in group]
        self._layers: Sequence[Regulated] = [layer for group in layers.values() for layer in group.values()]
        group_of = [i for i, group in enumerate(layers.values()) for _ in group]
        self._check_groups("band", config.band if isinstance(config.band, Mapping) else ())
        bands = [config.band_of(self.groups[i]) for i in group_of]
        self._group = torch.tensor(group_of)
        self._low, self._high = torch.tensor(bands).T.contiguous()
        n = len(self._layers)
        self._found = [
            None if layer.threshold_scale is None else layer.threshold_scale.clone() for layer in self._layers
        ]
        self._hook: Any = None
        self._silenced: list[tuple[SpikingNeuron, Any]] = []  # neurons in no group, with what they do before training
        for name, layer in zip(self._names, self._layers, strict=True):
            try:
                layer.start_regulation()
            except UserError as error:
                self.release()
                raise UserError(f"layer {name!r}: {error}") from None
        self._gamma = torch.full((len(self.groups),), config.gamma)
        self._rate, self._seen = torch.zeros(n), torch.zeros(n, dtype=torch.bool)
        self.skipped = torch.zeros(n, dtype=torch.int64)
        self._h = torch.zeros(n)
        self._written = torch.ones(n)  # the scales as this controller left them
        self._budget = config.budget if config.budget_ops is None else FIRST_RATE
        self._unit, self._units = self._divided()
        self._asked = self._wanted()
        self._calibration = self._new_calibration()
        self._notice_loaded_scales()
        self._best: float | None = None
        self._paused = False
        self._steps = self._epochs = 0
        # All processes have drawn their weights from one seed, and so draw the same numbers here.
        self._random = torch.Generator("cpu").manual_seed(torch.initial_seed()) if config.placebo else None
        self._epoch_ended = False  # whether the model was evaluated and then trained, since the last step
        self._steps_of_others = 0  # of optimisers that hold no parameter of the model, since the last step
        vars(model)[_KEPT_AS] = self
        self._attach()

    @property
    def model(self) -> nn.Module:
        """The model that is regulated."""
        model = self._model()
        assert model is not None, "a controller ends with its model"
        return model

    @property
    def budget(self) -> float | Mapping[str, float] | None:
        """The firing rate of the whole model that is held now, or those of groups; None without a budget.

        The rate of the whole model may be set, as whoever counts operations does under a budget of these.

        Raises:
            UserError: set to no rate in (0, 0.45], or without a budget for the whole model.
        """
        return self._budget

    @budget.setter
    def budget(self, rate: float) -> None:
        if not isinstance(self._budget, float):
            raise UserError("this controller holds no firing rate of the whole model: create it with a budget for it")
        if not 0 < rate <= LOUDEST:
            raise UserError(f"budget must be a firing rate above 0 and at most {LOUDEST}, got {rate}")
        self._budget = float(rate)
        self._asked = self._wanted().to(self._asked.device)

    def silence(self, neurons: Iterable[SpikingNeuron]) -> None:
        """Keeps neurons that would regulate themselves from doing so, until the controller is released."""
        for neuron in neurons:
            self._silenced.append((neuron, neuron.before_training))
            neuron.before_training = None

    # -- the start -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def calibrate(self, forward: Callable[[], Any]) -> dict[str, float]:
        """Sets the thresholds so that the mean firing rate is ``config.level``, or that groups have their budgets.

        It takes a few forward passes. Without it the first iterations of training do the same, one change each.

        Args:
            forward: runs the model once from rest, in training mode, always on the same batch (of several processes
                each on its own). Running averages and random numbers are as before afterwards.

        Returns:
            The rate that was reached, of the model or by group or layer.

        Raises:
            UserError: the config names no rate, or no layer of the controller ran.

        Warns:
            UserWarning: a rate that was not reached.
        """
        self._check_in_use()
        search = self._new_calibration()
        if search is None:
            raise UserError("there is no firing rate to calibrate to; set calibrate or budget in AHSARConfig")
        self._notice_loaded_scales()
        with self.paused(), without_traces(self.model, map(_scale, self._layers)):
            while not search.done:
                for layer in self._layers:
                    layer.clear_observed()
                with torch.enable_grad():  # passes without gradients are not observed
                    forward()
                rate, valid, steps = self._rates()
                if not valid.any():
                    raise UserError("calibrate: no regulated layer ran in training mode")
                self._change(search.changes(*self._levels(rate, valid, steps)))
        self._end(search)
        return dict(zip(search.names, search.level.tolist(), strict=True))

    def _divided(self) -> tuple[Tensor, list[str]]:
        """What layers share a factor: its number for each layer, [n], and the names of what it is of."""
        per: str = self.config.calibrate_per
        if self.budget is not None:
            per = "model" if self._undivided else "group"
        return {
            "model": (torch.zeros_like(self._group), ["model"]),
            "group": (self._group, list(self.groups)),
            "layer": (torch.arange(len(self._group)), self._names),
        }[per]

    @property
    def _undivided(self) -> bool:
        """Whether one factor on all thresholds holds a budget of the whole model."""
        return self.config.shares is None and isinstance(self.budget, float)

    def _wanted(self) -> Tensor:
        """The rate of each factor, nan where any will do; of a budget for the whole model its shares, [factors]."""
        config, budget = self.config, self.budget
        if budget is None:
            return torch.full((len(self._units),), config.level or torch.nan)
        if self._undivided:
            return torch.ones(1)
        own = budget if isinstance(budget, Mapping) else {}
        self._check_groups("budget", own)
        self._check_groups("shares", (config.shares or {}).keys() - SHARES.keys())
        asked, rest = (own, torch.nan) if isinstance(budget, Mapping) else (config.shares_of(budget), 1.0)
        return torch.tensor([asked.get(group, rest) for group in self.groups])

    def _check_groups(self, key: str, named: Iterable[str]) -> None:
        """Raises UserError if a setting names a group that no layer is in."""
        if unknown := [group for group in named if group not in self.groups]:
            there = ", ".join(self.groups)
            raise UserError(f"ahsar.{key}: no layer is in {shortened(unknown)}; groups are {there}")

    def _new_calibration(self) -> Calibration | None:
        return Calibration(self._units) if self.config.calibrates else None

    def _levels(self, rate: Tensor, valid: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """The rates of what shares a factor, nan where no layer ran, and the rates that they are to have, [factors]."""
        budget, n = self.budget, len(self._units)
        weight = valid * (1 if budget is None else steps)  # of a budget each neuron counts alike
        of_unit = rate.new_zeros(n).index_add_(0, self._unit, weight.to(rate.dtype))
        level = torch.where(of_unit > 0, law.mean_by_group(rate, weight, self._unit, n), torch.nan)
        if budget is None or isinstance(budget, Mapping):
            return level, self._asked
        return level, law.set_points(budget, self._asked, of_unit, LOUDEST)

    def _end(self, search: Calibration) -> None:
        self._calibration = None
        if missed := search.missed():
            warnings.warn(
                f"thresholds could not be calibrated in {TRIALS} trials; firing rates: {shortened(missed)}",
                stacklevel=4,
            )

    def _change(self, by: Tensor) -> None:
        """Adds to the logarithms of the scales, [factors]."""
        scale = (self._written.log() + by[self._unit]).exp()
        self._h = law.state_of_scale(scale, self._gamma[self._group], self.config.a, self.config.gain)
        self._write()

    # -- the two loops -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> None:
        """The fast loop. Call it once per training iteration, after the optimiser's step.

        Layers without a forward pass since the last step keep their rate and their state, and are skipped by the
        diffusion. With several processes (``torch.distributed``) spikes are counted over all of them. No value is read
        from the device, except in two of the first steps, which name the layers that were not seen in training, and in
        those that calibrate.

        A layer whose scale is not the one that the controller gave it, as after ``model.load_state_dict``, continues
        from the scale that it has.
        """
        if self._paused:
            return
        self._check_in_use()
        rate, valid, steps = self._rates()
        ran = steps != 0
        for layer in self._layers:
            layer.clear_observed()
        self._steps += 1
        if self._steps == 1 and not self.self_made:  # a self-made one was created within a forward pass
            self._check_seen(ran, at_all=True)
        self._notice_loaded_scales()
        self.skipped += ran & ~valid
        config = self.config
        self._rate = torch.where(valid, law.sense(self._rate, rate, self._seen, config.eta), self._rate)
        self._seen |= valid
        if self._calibration is not None:
            if valid.any():
                self._change(self._calibration.changes(*self._levels(rate, valid, steps)))
            if self._calibration.done:
                self._end(self._calibration)
        elif self._rests:
            pass
        elif config.has_budget:
            change = config.k * law.towards(*self._levels(rate, valid, steps)).clamp(-REACH, REACH)
            self._change(change.nan_to_num())
        else:
            d = self._deviation(valid)
            before = law.nearest_before(valid, self._group)
            moved = law.react(self._h, d, before, config.k, config.leak, config.diffusion)
            self._h = torch.where(valid, moved, self._h)
            self._write()
        if self._steps == _SETTLED:
            self._check_seen(self._seen)

    @torch.no_grad()
    def epoch_end(self, metric: float | None = None) -> None:
        """The slow loop. Call it once per epoch, after validation. Under a budget it does nothing but count epochs.

        Args:
            metric: validation metric, higher is better; None, or a value that is not finite, counts as no progress.
        """
        self._check_in_use()
        if self._paused:
            return
        self._epochs += 1
        if self.config.gamma == 0 or self.config.mu == 0 or self.config.has_budget or self._rests:
            return
        self._notice_loaded_scales()
        progress = 0.0
        if metric is not None and abs(metric) < float("inf"):
            if self._best is not None:
                progress = max(-1.0, min(1.0, (metric - self._best) / max(abs(self._best), 1e-12)))
            self._best = metric if self._best is None else max(self._best, metric)
        config = self.config
        if (
            config.gain == "threshold" and not config.placebo
        ):  # it raises or lowers all thresholds, so the deviations keep their signs
            d, power = law.deviation(self._rate, self._low, self._high, config.eps), 1
        else:
            d, power = self._deviation(self._seen), 2
        energy = law.mean_by_group(d**power, self._seen, self._group, len(self.groups))
        self._gamma = law.slow_gain(self._gamma, energy, progress, config.mu, config.gamma_min, config.gamma_max)
        self._write()

    def _deviation(self, counted: Tensor) -> Tensor:
        """The deviation of each layer from its band, or from the mean running rate of the layers ``counted``, [n]."""
        if self._random is not None:
            return 2 * torch.rand(len(self._h), generator=self._random, device="cpu").to(self._h) - 1
        low, high = self._low, self._high
        if self.config.centre == "layers":
            low = high = law.mean_by_group(self._rate, counted, self._group, len(self.groups))[self._group]
        return law.deviation(self._rate, low, high, self.config.eps)

    @property
    def _rests(self) -> bool:
        """Whether thresholds rest because enough epochs have ended."""
        return self.config.rest_after is not None and self._epochs >= self.config.rest_after

    def _rates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Firing rates since the last iteration, over all processes; which are valid; neurons times steps. [n] each."""
        observed = counted(self._layers)
        self._move(observed.device)
        spikes, steps = observed.unbind(1)
        rate = spikes / steps
        valid = (rate >= 0) & (rate <= 1 + 1e-4)  # false for NaN; a sum in fp32 may round up
        return rate, valid, steps

    def _write(self) -> None:
        self._written = law.threshold_scale(self._h, self._gamma[self._group], self.config.a, self.config.gain)
        internals.copy_all([_scale(layer) for layer in self._layers], list(self._written.unbind()))

    def _notice_loaded_scales(self) -> None:
        found = torch.stack([_scale(layer) for layer in self._layers]).to(self._h.device)
        loaded = (found - self._written).abs() > _ROUNDING * self._written
        state = law.state_of_scale(found, self._gamma[self._group], self.config.a, self.config.gain)
        self._h = torch.where(loaded, state, self._h)
        self._written = torch.where(loaded, found, self._written)

    def _check_seen(self, seen: Tensor, at_all: bool = False) -> None:
        """Names the layers that were not seen; with ``at_all`` only if no layer was."""
        ran = list(zip(self._names, self._layers, seen.tolist(), strict=True))
        unseen = [name for name, layer, was_seen in ran if not was_seen and layer.training]
        if unseen and not (at_all and any(was_seen for _, _, was_seen in ran)):
            warnings.warn(
                f"{len(unseen)} of the {len(self._names)} regulated layers were not seen in training since the model "
                f"was put under its controller: {shortened(unseen)}. Either they did not run in training mode with "
                "gradients, or they were compiled and called before the model was regulated; in that case call "
                "torch.compiler.reset() once",
                stacklevel=4,
            )

    def _check_in_use(self) -> None:
        if self._released:
            raise UserError("this controller was released; regulate(model) creates a new one")

    # -- auto=True -----------------------------------------------------------------------------------------------------

    def _attach(self) -> None:
        """Notes which layers it regulates, and with ``auto`` registers the hook that calls the two loops.

        When the controller is deleted without having ended, the hook is removed and its layers are no longer observed.
        """
        the_controller = weakref.ref(self)
        for layer in self._layers:
            _regulating[layer] = the_controller

        def after_optimizer_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            controller = the_controller()
            if controller is not None:
                controller._after_step_of(optimizer)

        self._hook = register_optimizer_step_post_hook(after_optimizer_step) if self.auto else None
        self._finalizer = weakref.finalize(self, _clean_up, list(self._layers), self._hook)
        self._finalizer.atexit = False

    def _after_step_of(self, optimizer: torch.optim.Optimizer) -> None:
        model = self._model()
        if model is None:
            return
        ran = any(layer.trained for layer in self._layers)
        # A part of the model that is frozen in eval mode is evaluated in every iteration, but never trained.
        self._epoch_ended |= any(layer.trained and layer.evaluated for layer in self._layers)
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if any(id(p) in held for p in model.parameters()):
            if self._epoch_ended:
                self.epoch_end()
            self.step()
            for layer in self._layers:
                layer.evaluated = False
            self._epoch_ended, self._steps_of_others = False, 0
        elif ran and any(p.requires_grad for p in model.parameters()):
            self._steps_of_others += 1
            for layer in self._layers:
                layer.trained = False
            if self._steps_of_others == _MANY_STEPS:
                warnings.warn(
                    f"{type(model).__name__} ran in training, and {type(optimizer).__name__} made {_MANY_STEPS} "
                    "steps, but it holds no parameter of the model, so the controller made none. If this optimiser "
                    "trains the model (through copies of its parameters), call controller_of(model).step() after its "
                    "steps",
                    stacklevel=2,
                )

    # -- for the training loop -----------------------------------------------------------------------------------------

    def layers(self) -> dict[str, dict[str, Any]]:
        """For each layer, by its name in the model: group, running firing rate in training, threshold scale.

        The rate is None for a layer that was never seen in training.
        """
        if not self._released:
            self._notice_loaded_scales()
        scales = self._written.tolist()
        rates = [rate if seen else None for rate, seen in zip(self._rate.tolist(), self._seen.tolist(), strict=True)]
        return {
            name: {"group": self.groups[group], "rate": rate, "threshold_scale": scale}
            for name, group, rate, scale in zip(self._names, self._group.tolist(), rates, scales, strict=True)
        }

    def gammas(self) -> dict[str, float]:
        """The slow gain of each group."""
        return dict(zip(self.groups, self._gamma.tolist(), strict=True))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Suspends the controller inside the block: for profiling in training mode and the like."""
        kept = [(_observed(layer).clone(), layer.trained, layer.evaluated) for layer in self._layers]
        was, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = was
            layers = [] if self._released else zip(self._layers, kept, strict=True)
            for layer, (observed, trained, evaluated) in layers:
                layer.clear_observed()
                _observed(layer).copy_(observed)
                layer.trained, layer.evaluated = trained, evaluated

    def leave(self) -> None:
        """Ends regulation. The threshold scales keep their present values, and the model does not regulate itself."""
        if self._released:
            return
        self.end()
        for layer in self._layers:
            if isinstance(layer, SpikingNeuron):
                layer.before_training = None

    def end(self) -> None:
        """Ends regulation. The scales stay; neurons that regulate themselves get a new controller when they run."""
        if self._released:
            return
        if self._finalizer is not None:
            self._finalizer.detach()
        if (model := self._model()) is not None:
            vars(model).pop(_KEPT_AS, None)
        self._released = True
        for layer in self._layers:
            _regulating.pop(layer, None)
        _clean_up(self._layers, self._hook)

    def release(self) -> None:
        """Ends regulation and restores the model as it was before. To keep the learnt thresholds, fold it first.

        A model of ``ahsar`` neurons regulates itself again at its next forward pass in training.
        """
        if self._released:  # another controller may have taken over since
            return
        self.end()
        for layer, found in zip(self._layers, self._found, strict=True):
            if layer.threshold_scale is None:
                continue
            if found is None:
                layer.stop_regulation()
            else:
                _scale(layer).copy_(found)
        for neuron, before_training in self._silenced:
            neuron.before_training = before_training

    # -- checkpoints and copies ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The controller's state. The scales are in the model's state dict. A run resumes from both bit for bit."""
        tensors = {name: getattr(self, f"_{name}").clone() for name in _STATE}
        search = None if self._calibration is None else self._calibration.state_dict()
        return tensors | {
            "skipped": self.skipped.clone(),
            "best": self._best,
            "epochs": self._epochs,
            "calibration": search,
            "budget": self._budget if isinstance(self._budget, float) else None,  # those of groups are in the config
            "random": None if self._random is None else self._random.get_state(),
            "bounds": [self.config.a, self.config.gain],
            "names": list(self._names),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores a :meth:`state_dict`. Raises ValueError if it belongs to other layers."""
        if state["names"] != self._names:
            raise ValueError(f"the state belongs to other layers: {state['names'][:3]}..., not {self._names[:3]}...")
        self._check_bounds(state)
        for name in _STATE:
            setattr(self, f"_{name}", state[name].clone())
        self.skipped, self._best = state["skipped"].clone(), state["best"]
        self._epochs = state.get("epochs", 0)  # states of earlier releases have none
        if isinstance(self._budget, float) and state.get("budget") is not None:  # earlier releases wrote fewer
            self.budget = state["budget"]
        if self._random is not None:
            self._random.set_state(state["random"].cpu())
        search = state.get("calibration")  # states of earlier releases have none
        self._calibration = None if search is None else self._new_calibration()
        if self._calibration is not None and search is not None:
            self._calibration.load_state_dict(search)
        for name in _FIXED:
            setattr(self, f"_{name}", getattr(self, f"_{name}").to(self._h.device))
        with torch.no_grad():
            self._write()

    @torch.no_grad()
    def _check_bounds(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError if the state means other thresholds under this controller's constants."""
        a, gain = self.config.a, self.config.gain
        own = [a, gain]
        if "bounds" in state:
            saved = state["bounds"]
        else:  # earlier releases did not write them; then the model's scales, if they are loaded already, tell
            gamma = state["gamma"][self._group.cpu()]
            meant = law.threshold_scale(state["h"].cpu(), gamma.cpu(), a, gain)
            found = torch.stack([_scale(layer) for layer in self._layers]).cpu()
            saved = own if torch.allclose(meant, found, rtol=_ROUNDING) else [FIRST_LAW["a"], "exponent"]
        if saved != own:
            raise ValueError(
                f"the state was saved under ahsar.a {saved[0]:.4g} and gain {saved[1]}, and this controller has "
                f"{a:.4g} and {gain}, under which its thresholds would be others; use the constants of its run"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_hook": None, "_finalizer": None, "_model": self._model()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        model = state["_model"]
        self._model = (lambda: None) if model is None else weakref.ref(model)
        self._attach()  # a copy or a loaded model has parameters of its own, so it needs a hook of its own

    def _move(self, device: torch.device) -> None:
        if self._h.device != device:
            for name in (*_STATE, *_FIXED, "written"):
                setattr(self, f"_{name}", getattr(self, f"_{name}").to(device))
            self.skipped = self.skipped.to(device)


def counted(layers: Iterable[Regulated]) -> Tensor:
    """Spikes, and neurons times time steps, of each layer since its counts were cleared, over all processes, [n, 2]."""
    return ranks.total(torch.stack([_observed(layer) for layer in layers]))


def controller_at(layer: Any) -> Controller | None:
    """The controller that regulates this layer; None if there is none."""
    found = _regulating.get(layer)
    return None if found is None else found()


def controllers_of(layers: Iterable[Any]) -> list[Controller]:
    """The controllers that regulate any of these layers."""
    found = map(controller_at, layers)
    return list(dict.fromkeys(controller for controller in found if controller is not None))


def _clean_up(layers: Iterable[Regulated], hook: Any) -> None:
    if hook is not None:
        hook.remove()
    for layer in layers:
        layer.stop_observing()


def _scale(layer: Regulated) -> Tensor:
    assert layer.threshold_scale is not None
    return layer.threshold_scale


def _observed(layer: Regulated) -> Tensor:
    assert layer.observed is not None
    return layer.observed

"""The constants of the control law. This module does not import torch, so that reading a config is fast."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from step_ahsar.errors import UserError

Band = tuple[float, float]

LOUDEST = 0.45  # the largest firing rate that a calibration or a budget asks for
FIRST_RATE = 0.05  # the rate that is held under a budget of operations, until these are counted
# The constants of the first law, which had no calibrated start: it held every layer in a narrow band throughout.
FIRST_LAW: Mapping[str, Any] = {
    "band": (0.2, 0.4),
    "eta": 0.1,
    "k": 0.2,
    "leak": 0.005,
    "diffusion": 0.05,
    "a": math.log(4.0),
    "mu": 0.05,
    "calibrate": None,
}
# Relative rates of groups at a budget of SMALL_BUDGET or less. At LARGE_BUDGET or more all groups have equal rates, and
# in between the shares are raised to a power that falls from 1 to 0.
SHARES = {"attention": 0.15, "mlp": 2.5, "stem": 4.0}
SMALL_BUDGET, LARGE_BUDGET = 0.02, 0.2


@dataclass(frozen=True)
class AHSARConfig:
    """Constants of the control law. The defaults, the second law, need no tuning; :data:`FIRST_LAW` has the first ones.

    Args:
        band: target firing rates [lo, hi], in spikes per neuron and time step. Inside the band the deviation of a layer
            is 0; leak and diffusion still act on its state. One band for all groups, or one per group.
        eta: weight of the newest firing rate in the running average, in (0, 1].
        k: reaction: the most that the deviation moves the state in one iteration.
        leak: share by which the state decays towards 0 per iteration.
        diffusion: share of the difference to a neighbour that is exchanged per iteration, in [0, 1/4].
        a: logarithm of the largest threshold scale at gain 1.
        eps: added to both firing rates in the logarithm of the deviation, which keeps it finite for a silent layer.
        gamma: initial gain; 0 turns regulation off.
        gamma_min: smallest gain that the slow loop sets.
        gamma_max: largest gain that the slow loop sets.
        mu: speed of the slow loop per epoch; 0 keeps the gain constant.
        centre: what a deviation is from: the "band", or the mean rate of the group's "layers", so that the fast loop
            only balances them.
        gain: where the gain acts: in the "exponent", where it widens and narrows the scales, or on the "threshold",
            as a factor of all thresholds of the group, which the slow loop moves towards the band.
        rest_after: number of epochs after which all thresholds rest; None to regulate throughout.
        placebo: a control: deviations are random numbers from [-1, 1], so that thresholds move within the same range,
            but not towards anything.
        thresholds_of: folder of a finished run of the same model, with whose last threshold scales training begins; a
            "{seed}" in it stands for the seed of the run. The training engine reads them; with k, leak and mu 0 they
            rest.
        calibrate: mean firing rate, in spikes per neuron and time step, to which the first batch sets the thresholds
            before training, whatever they were given as; None trains from the given ones. A budget or ``thresholds_of``
            takes its place.
        calibrate_per: what shares one factor of the calibration, and one mean rate: the whole "model", each "group", or
            each "layer".
        budget: firing rate of the whole model, in spikes per neuron and time step, each neuron counting alike, that
            thresholds hold from the start of training; or the rate of each group. Then groups are regulated, each by
            one factor on the thresholds of its layers (see ``shares``); band, leak and diffusion have no say.
        budget_ops: synaptic operations of one sample, on the mean, in place of a firing rate. The rate of the whole
            model, ``Controller.budget``, is then moved until the operations are these: by the training engine, which
            counts them; the controller cannot.
        shares: by which one budget is divided: relative rates of groups, whatever the budget. Those that are not named
            have the defaults, see :meth:`shares_of`, or 1. With None the budget is not divided: one factor on all
            thresholds of the model holds it, and groups stand to one another as they do by themselves.

    Raises:
        UserError: a constant outside its range, or a band that is not 0 <= lo < hi <= 1.
    """

    band: Band | Mapping[str, Band] = (0.02, 0.6)
    eta: float = 1.0
    k: float = 0.2
    leak: float = 0.0
    diffusion: float = 0.0
    a: float = 2.5
    eps: float = 1e-3
    gamma: float = 1.0
    gamma_min: float = 0.5
    gamma_max: float = 2.0
    mu: float = 0.0
    centre: Literal["band", "layers"] = "band"
    gain: Literal["exponent", "threshold"] = "exponent"
    rest_after: int | None = None
    placebo: bool = False
    thresholds_of: str | None = None
    calibrate: float | None = 0.2
    calibrate_per: Literal["model", "group", "layer"] = "model"
    budget: float | Mapping[str, float] | None = None
    budget_ops: float | None = None
    shares: Mapping[str, float] | None = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("eta", self.eta, 1e-6, 1.0),
            ("k", self.k, 0.0, 1.0),
            ("leak", self.leak, 0.0, 1.0),
            ("diffusion", self.diffusion, 0.0, 0.25),
            ("a", self.a, 0.0, 10.0),
            ("eps", self.eps, 1e-12, 0.1),
            ("gamma", self.gamma, 0.0, 10.0),
            ("gamma_min", self.gamma_min, 0.0, self.gamma_max),
            ("gamma_max", self.gamma_max, self.gamma_min, 10.0),
            ("mu", self.mu, 0.0, 1.0),
        ):
            if not low <= value <= high:
                raise UserError(f"ahsar.{name} must be in [{low:g}, {high:g}], got {value}")
        if self.budget == {}:
            raise UserError("ahsar.budget names no group; give it a rate, or one for each of some groups")
        for name, rate in self._rates().items():
            if rate is None or not 0 < rate <= LOUDEST:
                raise UserError(f"{name} must be a firing rate above 0 and at most {LOUDEST}, got {rate}")
        if self.budget_ops is not None and not 0 < self.budget_ops < math.inf:
            raise UserError(f"ahsar.budget_ops must be a number of operations > 0, got {self.budget_ops}")
        levels = ("budget", "budget_ops", "thresholds_of")
        given = [key for key in levels if getattr(self, key) is not None]
        if len(given) > 1:
            raise UserError(f"ahsar.{given[0]} and ahsar.{given[1]} both set the level of activity: give one of them")
        if self.gamma == 0 and given:
            raise UserError(f"ahsar.gamma is 0, which turns regulation off: leave ahsar.{given[0]} null")
        if self.rest_after is not None and self.rest_after < 1:
            raise UserError(f"ahsar.rest_after must be an epoch >= 1, got {self.rest_after}; without updates use k: 0")
        if self.placebo and self.has_budget:
            raise UserError(
                "ahsar.placebo is about the law, and under a budget thresholds follow another: give one of them"
            )
        for group, share in (self.shares or {}).items():
            if not 0 < share < math.inf:
                raise UserError(f"ahsar.shares.{group} must be > 0, got {share}")
        if not self.has_budget:  # without one shares have no say, and two configs that differ in them are the same
            object.__setattr__(self, "shares", {})
        for name, choice, known in (
            ("calibrate_per", self.calibrate_per, ("model", "group", "layer")),
            ("centre", self.centre, ("band", "layers")),
            ("gain", self.gain, ("exponent", "threshold")),
        ):
            if choice not in known:
                raise UserError(f"ahsar.{name} must be {', '.join(known[:-1])} or {known[-1]}, got {choice!r}")
        if self.gain == "threshold" and not min(self.gamma, self.gamma_min) > 0:
            raise UserError(
                "with ahsar.gain threshold the gain is a factor of thresholds: ahsar.gamma and ahsar.gamma_min must "
                f"be > 0, got {self.gamma} and {self.gamma_min}"
            )
        for group, band in self.band.items() if isinstance(self.band, Mapping) else (("", self.band),):
            if len(band) != 2 or not 0 <= band[0] < band[1] <= 1:
                where = f" of group {group!r}" if group else ""
                raise UserError(f"ahsar.band{where} must be [lo, hi] with 0 <= lo < hi <= 1, got {list(band)}")

    @property
    def calibrates(self) -> bool:
        """Whether thresholds are calibrated at the start."""
        return self.has_budget or self.level is not None

    @property
    def level(self) -> float | None:
        """The mean firing rate of the calibrated start; None if there is none, or if a budget takes its place."""
        off = self.gamma == 0 or self.has_budget or self.thresholds_of is not None
        return None if off else self.calibrate

    @property
    def has_budget(self) -> bool:
        """Whether firing rates of groups are held, in place of the law."""
        return self.budget is not None or self.budget_ops is not None

    def shares_of(self, budget: float) -> dict[str, float]:
        """Relative rates of groups under a budget for the whole model; groups that are not in it have 1.

        The smaller the budget, the more uneven: :data:`SHARES` at 0.02 and less, equal rates at 0.2 and more, and in
        between powers of the shares that fall with the logarithm of the budget.

        >>> AHSARConfig(budget=0.02, shares={"mlp": 3.0}).shares_of(0.02)
        {'attention': 0.15, 'mlp': 3.0, 'stem': 4.0}
        >>> AHSARConfig().shares_of(0.2)
        {'attention': 1.0, 'mlp': 1.0, 'stem': 1.0}
        """
        power = math.log(LARGE_BUDGET / budget) / math.log(LARGE_BUDGET / SMALL_BUDGET)
        power = min(max(power, 0.0), 1.0)
        return {group: share**power for group, share in SHARES.items()} | dict(self.shares or {})

    def _rates(self) -> dict[str, float | None]:
        """The rates that are asked for, by their keys."""
        if isinstance(self.budget, Mapping):
            return {f"ahsar.budget.{group}": rate for group, rate in self.budget.items()}
        given = {"ahsar.calibrate": self.calibrate, "ahsar.budget": self.budget}
        return {key: rate for key, rate in given.items() if rate is not None}

    def band_of(self, group: str) -> Band:
        """The band of ``group``; the default band if ``band`` is a mapping without that group."""
        if isinstance(self.band, Mapping):
            return self.band.get(group, AHSARConfig.band)  # type: ignore[arg-type]
        return self.band

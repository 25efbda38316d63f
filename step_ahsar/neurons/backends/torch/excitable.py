"""Neurons whose membrane excites itself. Their spike is a runaway that only a fixed reset ends: none can subtract."""

from typing import Any, ClassVar

from step_ahsar.errors import UserError
from step_ahsar.neurons import functional
from step_ahsar.neurons.backends.torch.base import Step, TorchNeuron, check_positive, check_tau
from step_ahsar.neurons.registry import register_neuron


class ExcitableNeuron(TorchNeuron):
    """Rests at ``v_rest``, returns to ``v_reset`` after a spike, and starts there.

    Args:
        tau: membrane time constant in time steps, > 1.
        v_rest: resting potential.
        v_reset: potential after a spike, <= 0.
        options: of :class:`TorchNeuron`, without reset.
    """

    without = ("reset",)
    scales_with_input = False

    def __init__(self, *, tau: float = 2.0, v_rest: float = 0.0, v_reset: float = -0.1, **options: Any) -> None:
        super().__init__(reset="hard", **options)
        if not v_reset <= 0:
            raise UserError(f"v_reset must be <= 0, below every threshold, got {v_reset} (neuron {self.name!r})")
        self.tau = check_tau(tau, self.name)
        self.v_rest, self.v_reset = float(v_rest), float(v_reset)
        self.rest = (self.v_reset,)


@register_neuron("eif", backend="torch")
class EIF(ExcitableNeuron):
    """Exponential integrate-and-fire, :func:`functional.eif_step`. Defaults are SpikingJelly's.

    Args:
        delta_t: sharpness of the spike's onset, > 0; towards 0 it is a LIF.
        theta_rh: rheobase threshold, where the onset is.
        options: of :class:`ExcitableNeuron`.
    """

    step = staticmethod(functional.eif_step)

    def __init__(self, *, delta_t: float = 1.0, theta_rh: float = 0.8, **options: Any) -> None:
        super().__init__(**options)
        self.delta_t = check_positive(delta_t, self.name, "delta_t")
        self.theta_rh = float(theta_rh)


@register_neuron("qif", backend="torch")
class QIF(ExcitableNeuron):
    """Quadratic integrate-and-fire, :func:`functional.qif_step`. Defaults are SpikingJelly's.

    Args:
        a0: curvature, > 0.
        v_c: critical potential, beyond which the membrane runs away.
        options: of :class:`ExcitableNeuron`.
    """

    step: ClassVar[Step] = staticmethod(functional.qif_step)

    def __init__(self, *, a0: float = 1.0, v_c: float = 0.8, **options: Any) -> None:
        super().__init__(**options)
        self.a0 = check_positive(a0, self.name, "a0")
        self.v_c = float(v_c)


@register_neuron("izhikevich", backend="torch")
class Izhikevich(QIF):
    """Izhikevich's neuron, :func:`functional.izhikevich_step`. Defaults are SpikingJelly's: a and b 0, no recovery.

    In this dimensionless form a threshold is what it is for a LIF; with Izhikevich's constants in mV it is the spike's
    peak of 30 mV, which hardly decides whether there is a spike, so that AHSAR has little to hold.

    Args:
        v_rest: resting potential.
        v_reset: potential after a spike, <= 0.
        tau_w: time constant of the recovery w in time steps, > 1.
        a: coupling of the recovery to the membrane.
        b: what a spike adds to the recovery.
        options: of :class:`QIF`.
    """

    step = staticmethod(functional.izhikevich_step)

    def __init__(
        self,
        *,
        v_rest: float = -0.1,
        v_reset: float = 0.0,
        tau_w: float = 2.0,
        a: float = 0.0,
        b: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(v_rest=v_rest, v_reset=v_reset, **options)
        self.tau_w = check_tau(tau_w, self.name, "tau_w")
        self.a, self.b = float(a), float(b)
        self.rest = (self.v_reset, 0.0)


@register_neuron("hodgkin_huxley", backend="torch")
class HodgkinHuxley(TorchNeuron):
    """Hodgkin and Huxley's neuron, :func:`functional.hodgkin_huxley_step`, in mV, ms and uA/cm^2.

    Its spike is all or none, so no voltage is worth scaling. The threshold is on the input: an input as large as the
    threshold injects ``current``, which at the defaults makes it spike in the second time step, then every 12 ms.

    Args:
        current: uA/cm^2, > 0.
        dt: ms in a time step, > 0, about 1 for accuracy; at most one spike is counted in it.
        options: threshold, surrogate and alpha of :class:`TorchNeuron`.
    """

    step = staticmethod(functional.hodgkin_huxley_step)
    rest: tuple[float, ...] = functional.HH_REST
    unroll_steps, compiled = 1, False  # a time step is a program of its own
    without = ("reset", "detach_reset")

    def __init__(self, *, current: float = 20.0, dt: float = 1.0, **options: Any) -> None:
        super().__init__(reset="hard", detach_reset=True, **options)
        self.current = check_positive(current, self.name, "current")
        self.dt = check_positive(dt, self.name, "dt")

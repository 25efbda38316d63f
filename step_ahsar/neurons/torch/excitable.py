"""Neurons whose membrane excites itself.

Above the threshold their membrane grows by itself, so their reset is hard: a soft one would not stop the growth.
"""

from typing import Any, ClassVar

from step_ahsar.errors import UserError
from step_ahsar.neurons import equations
from step_ahsar.neurons.registry import register_neuron
from step_ahsar.neurons.torch.base import Step, TorchNeuron, check_positive, check_tau


class ExcitableNeuron(TorchNeuron):
    """A neuron that rests at ``v_rest``, is set to ``v_reset`` by a spike, and starts at ``v_reset``.

    Args:
        tau: membrane time constant in time steps, > 1.
        v_rest: resting potential.
        v_reset: potential after a spike, <= 0.
        options: those of :class:`TorchNeuron` except ``reset``.
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
    """Exponential integrate-and-fire, :func:`equations.eif_step`. Defaults are SpikingJelly's.

    Args:
        delta_t: sharpness of the onset of a spike, > 0; near 0 the neuron is a LIF.
        theta_rh: rheobase threshold, the membrane at which the onset begins.
        options: of :class:`ExcitableNeuron`.
    """

    step = staticmethod(equations.eif_step)

    def __init__(self, *, delta_t: float = 1.0, theta_rh: float = 0.8, **options: Any) -> None:
        super().__init__(**options)
        self.delta_t = check_positive(delta_t, self.name, "delta_t")
        self.theta_rh = float(theta_rh)


@register_neuron("qif", backend="torch")
class QIF(ExcitableNeuron):
    """Quadratic integrate-and-fire, :func:`equations.qif_step`. Defaults are SpikingJelly's.

    Args:
        a0: curvature, > 0.
        v_c: critical potential, above which the membrane grows by itself.
        options: of :class:`ExcitableNeuron`.
    """

    step: ClassVar[Step] = staticmethod(equations.qif_step)

    def __init__(self, *, a0: float = 1.0, v_c: float = 0.8, **options: Any) -> None:
        super().__init__(**options)
        self.a0 = check_positive(a0, self.name, "a0")
        self.v_c = float(v_c)


@register_neuron("izhikevich", backend="torch")
class Izhikevich(QIF):
    """Izhikevich's neuron, :func:`equations.izhikevich_step`.

    The defaults are SpikingJelly's, with a = b = 0: there is no recovery. In this dimensionless form the threshold acts
    as that of a LIF. With Izhikevich's constants in mV the threshold is the peak of a spike, 30 mV, which hardly
    decides whether there is a spike; AHSAR then has little influence.

    Args:
        v_rest: resting potential.
        v_reset: potential after a spike, <= 0.
        tau_w: time constant of the recovery w in time steps, > 1.
        a: coupling of the recovery to the membrane.
        b: amount that a spike adds to the recovery.
        options: of :class:`QIF`.
    """

    step = staticmethod(equations.izhikevich_step)

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
    """Hodgkin and Huxley's neuron, :func:`equations.hodgkin_huxley_step`, in mV, ms and uA/cm^2.

    Its spikes are all or none, so no voltage of it can serve as the threshold. The threshold scales the input instead:
    an input equal to the threshold injects ``current``. With the defaults the neuron then spikes in the second time
    step and every 12 ms after that.

    Args:
        current: uA/cm^2, > 0.
        dt: ms per time step, > 0; about 1 for accuracy. At most one spike is counted per time step.
        options: threshold, surrogate and alpha of :class:`TorchNeuron`.
    """

    step = staticmethod(equations.hodgkin_huxley_step)
    rest: tuple[float, ...] = equations.HH_REST
    unroll_steps, compiled = 1, False  # one time step alone is a long program
    without = ("reset", "detach_reset", "surrogate_scale")

    def __init__(self, *, current: float = 20.0, dt: float = 1.0, **options: Any) -> None:
        super().__init__(reset="hard", detach_reset=True, **options)
        self.current = check_positive(current, self.name, "current")
        self.dt = check_positive(dt, self.name, "dt")

import math

import pytest
import torch

from step_ahsar.neurons import create_neuron
from step_ahsar.neurons.surrogate import get_surrogate

layers = pytest.importorskip("sinabs.layers")
activation = pytest.importorskip("sinabs.activation")


def sinabs_layer(name, reset):
    common = {
        "spike_threshold": torch.tensor(0.5),
        "spike_fn": activation.SingleSpike,
        "reset_fn": activation.MembraneReset() if reset == "hard" else activation.MembraneSubtract(),
        "surrogate_grad_fn": lambda v, threshold: get_surrogate("sigmoid")(v - threshold, torch.tensor(4.0)),
    }
    return layers.IAF(**common) if name == "if" else layers.LIF(-1 / math.log(0.75), **common)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("name", ["if", "lif", "plif"])
def test_is_sinabss_layer(name, reset):
    """Sinabs's resets: to 0 without a gradient, by subtraction with one."""
    options = {} if name == "if" else {"tau": 4.0}
    ours = create_neuron(name, "sinabs", threshold=0.5, reset=reset, detach_reset=reset == "hard", **options)
    x, weight = torch.randn(5, 3, 40, requires_grad=True), torch.randn(5, 3, 40)
    layer = sinabs_layer(name, reset)
    (spikes, gradient), (expected, wanted) = (
        (s, torch.autograd.grad((s * weight).sum(), x)[0]) for s in (ours(x), layer(x.transpose(0, 1)).transpose(0, 1))
    )
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)

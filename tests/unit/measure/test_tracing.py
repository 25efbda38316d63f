"""The spikes of every layer in one pass; what they are in models is tested by tests/integration/test_look.py."""

import torch
from torch import nn

from step_ahsar.measure import trace
from step_ahsar.neurons import create_neuron


def test_a_layer_that_runs_twice_and_one_that_does_not_run():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.neuron, self.unused = create_neuron("if", group="mlp"), create_neuron("if")

        def forward(self, x):
            return self.neuron(x) + self.neuron(0 * x)

    x = torch.full((3, 2, 4), 2.0)
    found = trace(Twice(), x)
    assert list(found.spikes) == ["neuron"]
    assert found.groups == {"neuron": "mlp"}
    assert torch.equal(found.spikes["neuron"], torch.cat([torch.ones(3, 2, 4), torch.zeros(3, 2, 4)], 1))
    assert torch.equal(found.outputs, torch.ones(3, 2, 4))


def test_no_hook_is_left_after_an_error():
    model = nn.Sequential(create_neuron("if"), nn.Linear(3, 3))
    for _ in range(2):
        try:
            trace(model, torch.zeros(2, 1, 4))
        except RuntimeError:
            assert not model[0]._forward_hooks
        else:
            raise AssertionError("the sizes do not fit")

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron

snntorch = pytest.importorskip("snntorch")


def run(node, x):
    """A node of snnTorch as its users run it."""
    mem, spikes = node.reset_mem(), []
    for step in x:
        s, mem = node(step, mem)
        spikes.append(s)
    return torch.stack(spikes)


@pytest.mark.parametrize("detach_reset", [True, False])
@pytest.mark.parametrize(("name", "beta", "gain"), [("if", 1.0, 1.0), ("lif", 0.75, 0.25), ("plif", 0.75, 0.25)])
def test_is_leaky(name, beta, gain, detach_reset):
    options = {} if name == "if" else {"tau": 4.0}
    ours = create_neuron(name, "snntorch", threshold=0.5, surrogate="atan", detach_reset=detach_reset, **options)
    node = snntorch.Leaky(
        beta, threshold=0.5, reset_mechanism="zero", reset_delay=detach_reset
    )  # atan, 2, is its default
    x, weight = torch.randn(5, 3, 40, requires_grad=True), torch.randn(5, 3, 40)
    (spikes, gradient), (expected, wanted) = (
        (s, torch.autograd.grad((s * weight).sum(), x)[0]) for s in (ours(x), run(node, x * gain))
    )
    assert torch.equal(spikes, expected)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-6)


def test_ties_are_the_known_difference():
    x = torch.ones(1, 1, 1)
    assert create_neuron("if", "snntorch")(x) == 1
    assert run(snntorch.Leaky(1.0), x) == 0


def test_soft_reset_is_refused():
    with pytest.raises(UserError, match="'lif' on backend 'snntorch' has reset='hard' only, got 'soft'"):
        create_neuron("lif", "snntorch", reset="soft")


def test_its_soft_reset_is_another():
    """Behind the refusal: from 1.0, subtracting before the leak gives (1 - 0.5) / 2, after it 1 / 2 - 0.5."""
    x = torch.tensor([1.0, 0.3]).view(2, 1, 1)
    theirs = run(snntorch.Leaky(0.5, threshold=0.5), x)
    ours = create_neuron("lif", threshold=0.5, reset="soft")(2 * x)
    assert theirs.flatten().tolist() == [1, 0]
    assert ours.flatten().tolist() == [1, 1]


def test_nodes_are_not_kept_alive():
    before = len(snntorch.SpikingNeuron.instances)
    create_neuron("lif", "snntorch")
    assert len(snntorch.SpikingNeuron.instances) == before

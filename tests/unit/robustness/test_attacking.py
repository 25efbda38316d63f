"""Attacks with the surrogate's gradient."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from step_ahsar.measure.firing import FiringRateMeter
from step_ahsar.neurons import create_neuron
from step_ahsar.robustness import Attacker

MEAN, STD = torch.tensor([0.4, 0.5]).view(-1, 1, 1), torch.tensor([0.2, 0.3]).view(-1, 1, 1)


class Net(nn.Module):
    """A spiking classifier of images [B, 2, 4, 4], over two time steps."""

    def __init__(self, per_step=False):
        super().__init__()
        self.conv, self.neuron = nn.Conv2d(2, 6, 3, padding=1), create_neuron("lif", threshold=0.3)
        self.head, self.per_step = nn.Linear(96, 3), per_step

    def forward(self, x):
        spikes = self.neuron(self.conv(x).expand(2, *x.shape[:1], 6, 4, 4))
        found = self.head(spikes.flatten(2))
        return found if self.per_step else found.mean(0)


@pytest.fixture(params=[False, True])
def net(request):
    torch.manual_seed(0)
    return Net(request.param).eval()


def images(count=5):
    torch.manual_seed(1)
    return (torch.rand(count, 2, 4, 4) - MEAN) / STD, torch.arange(count) % 3


def attacked(net, attack, size):
    inputs, targets = images()
    [(x, y)] = Attacker(net, MEAN, STD, 3).batches([(inputs, targets)], attack, size)
    assert torch.equal(y, targets)
    return inputs * STD + MEAN, x * STD + MEAN


def test_fgsm_is_a_step_along_the_sign_of_the_gradient(net):
    before, after = attacked(net, "fgsm", 8)
    x = before.clone().requires_grad_()
    outputs = net((x - MEAN) / STD)
    F.cross_entropy(outputs.mean(0) if net.per_step else outputs, images()[1]).backward()
    assert (x.grad != 0).any()
    assert torch.allclose(after, (before + 8 / 255 * x.grad.sign()).clamp(0, 1), atol=1e-5)


def test_pgd_stays_in_its_box_and_hurts_more_than_noise(net):
    before, after = attacked(net, "pgd", 16)
    assert (after - before).abs().max() <= 16 / 255 + 1e-5
    assert after.min() >= -1e-5
    assert after.max() <= 1 + 1e-5

    def loss(x):
        outputs = net((x - MEAN) / STD)
        return F.cross_entropy(outputs.mean(0) if net.per_step else outputs, images()[1]).item()

    noise = (before + 16 / 255 * torch.randn(before.shape).sign()).clamp(0, 1)
    assert loss(after) > max(loss(before), loss(noise))


def test_an_attack_of_no_size_changes_nothing(net):
    before, after = attacked(net, "pgd", 0)
    assert torch.allclose(before, after, atol=1e-6)


def test_only_the_seed_decides(net):
    assert torch.equal(attacked(net, "pgd", 8)[1], attacked(net, "pgd", 8)[1])


def test_nobody_counts_the_spikes_of_an_attack(net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    attacker = Attacker(net, MEAN, STD, 3)
    with torch.inference_mode(), FiringRateMeter(net) as meter:  # as in evaluation
        list(attacker.batches([images()], "fgsm", 8))
    assert meter.layers() == {}
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())

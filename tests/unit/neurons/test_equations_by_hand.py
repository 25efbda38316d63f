"""Traces worked out by hand; every number is exact in binary."""

import torch

from step_ahsar.neurons import equations
from step_ahsar.neurons.kernels import heaviside


def trace(step, xs, reset, **parameters):
    v, spikes, membranes = torch.zeros(()), [], []
    parameters = {name: torch.tensor(value) for name, value in parameters.items()}
    for x in xs:
        s, v = step(torch.tensor(x), v, fire=heaviside, reset=reset, **parameters)
        spikes.append(s.item())
        membranes.append(v.item())
    return spikes, membranes


def test_if_soft_reset_keeps_the_rest():
    # 0.75; 1.5 fires, keeps 0.5; 1.25 fires, keeps 0.25
    assert trace(equations.if_step, [0.75, 0.75, 0.75], equations.soft_reset, threshold=1.0) == (
        [0, 1, 1],
        [0.75, 0.5, 0.25],
    )


def test_lif_hard_reset_and_a_tie():
    # 0 + 1.5/2 = 0.75; 0.75 + (1.25 - 0.75)/2 = 1.0 fires on the tie, back to 0; 0 + 1/2 = 0.5
    assert trace(equations.lif_step, [1.5, 1.25, 1.0], equations.hard_reset, threshold=1.0, tau=2.0) == (
        [0, 1, 0],
        [0.75, 0.0, 0.5],
    )


def test_lif_tau_4():
    # 4/4 = 1; 1 + (5 - 1)/4 = 2 fires at 2, loses it; 0 + 1/4
    assert trace(equations.lif_step, [4.0, 5.0, 1.0], equations.soft_reset, threshold=2.0, tau=4.0) == (
        [0, 1, 0],
        [1.0, 0.0, 0.25],
    )


def test_plif_leaks_by_sigmoid_of_w():
    # sigmoid(0) = 1/2: the LIF of tau 2
    xs = [1.5, 1.25, 1.0, -3.0, 9.0]
    lif = trace(equations.lif_step, xs, equations.hard_reset, threshold=1.0, tau=2.0)
    assert trace(equations.plif_step, xs, equations.hard_reset, threshold=1.0, w=0.0) == lif

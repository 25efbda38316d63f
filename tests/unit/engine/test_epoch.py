"""The arithmetic of an epoch's steps, on a linear model for which it can be written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from step_ahsar.config import Config
from step_ahsar.engine.device import create_accelerator
from step_ahsar.engine.epoch import train_epoch
from step_ahsar.engine.state import TrainingState

LR = 0.1


class Regression:
    """A task in its smallest form."""

    def mix(self, inputs, targets, epoch):
        return inputs, targets

    def loss(self, model, inputs, targets):
        return F.mse_loss(model(inputs), targets)


def batches(count, size=8):
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(size, 3, generator=generator), torch.randn(size, 2, generator=generator)) for _ in range(count)
    ]


def start(**train):
    values = {"train.optimizer": "sgd", "train.lr": LR, "train.weight_decay": 0.0, "train.schedule": "constant"}
    config = Config().with_values(values | {f"train.{key}": value for key, value in train.items()})
    torch.manual_seed(0)
    return config, TrainingState.start(nn.Linear(3, 2, dtype=torch.float32), config, create_accelerator(None))


def run(count, **train):
    config, state = start(**train)
    steps = []
    result = train_epoch(state, Regression(), batches(count), config, epoch=1, on_step=steps.append)
    return state.model, result, steps


def by_hand(chunks):
    """Plain gradient descent (Nesterov momentum is timm's for sgd) on the joint batches of each chunk."""
    _, state = start()
    model, momentum, losses = state.model, None, []
    for chunk in chunks:
        inputs, targets = (torch.cat(each) for each in zip(*chunk, strict=True))
        loss = F.mse_loss(model(inputs), targets)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        momentum = gradients if momentum is None else [0.9 * m + g for m, g in zip(momentum, gradients, strict=True)]
        with torch.no_grad():
            for parameter, gradient, velocity in zip(model.parameters(), gradients, momentum, strict=True):
                parameter -= LR * (gradient + 0.9 * velocity)
        losses.append(loss.item())
    return model, losses


class WithHead(nn.Sequential):
    def get_classifier(self):
        return self[1]


def test_the_learning_rate_that_is_told_is_not_the_heads():
    config = start()[0].with_values({"train.head_lr": 20.0})
    model = WithHead(nn.Linear(3, 3), nn.Linear(3, 2))
    state = TrainingState.start(model, config, create_accelerator(None))
    assert train_epoch(state, Regression(), batches(2), config, epoch=1).lr == pytest.approx(LR)
    assert max(group["lr"] for group in state.optimizer.param_groups) == pytest.approx(20 * LR)


@pytest.mark.parametrize(("accumulate", "count"), [(1, 4), (2, 4), (4, 4), (2, 3), (3, 2)])
def test_accumulated_batches_are_one_joint_batch(accumulate, count):
    """Loss and update are those of the joint batch, also in a last step that has fewer batches."""
    ours, result, steps = run(count, accumulate=accumulate)
    given = batches(count)
    chunks = [given[i : i + accumulate] for i in range(0, count, accumulate)]
    theirs, losses = by_hand(chunks)
    assert [step["loss"] for step in steps] == pytest.approx(losses, rel=1e-5)
    assert [(step["step"], step["steps"]) for step in steps] == [(i + 1, len(chunks)) for i in range(len(chunks))]
    assert result.train_loss == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_gradients_are_clipped_after_they_were_accumulated():
    """At a limit between the joint gradient and those of the parts, only the joint one decides."""
    _, state = start()
    given = batches(2)
    joint = F.mse_loss(state.model(torch.cat([given[0][0], given[1][0]])), torch.cat([given[0][1], given[1][1]]))
    gradients = torch.autograd.grad(joint, list(state.model.parameters()))
    limit = 0.5 * torch.cat([gradient.flatten() for gradient in gradients]).norm().item()
    clipped, _, _ = run(2, accumulate=2, clip_grad=limit)
    for parameter, before, gradient in zip(clipped.parameters(), state.model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter, before - LR * 1.9 * 0.5 * gradient, atol=1e-6, rtol=1e-4)


class Drawing(Regression):
    """Notes what mixing and the model draw."""

    def __init__(self):
        self.mixing, self.model = [], []

    def mix(self, inputs, targets, epoch):
        self.mixing.append(torch.rand(()).item())
        return inputs, targets

    def loss(self, model, inputs, targets):
        self.model.append(torch.rand(()).item())
        return super().loss(model, inputs, targets)


def test_every_step_draws_anew_and_the_same_in_every_run():
    def drawn(epochs, seed=0):
        config, state = start(accumulate=2)
        task = Drawing()
        for epoch in epochs:
            train_epoch(state, task, batches(4), config.with_values({"seed": seed}), epoch)
        return task.mixing, task.model

    both = drawn([1, 2])
    assert all(len(set(draws)) == 8 for draws in both)  # two epochs of two steps of two batches
    assert drawn([2]) == tuple(draws[4:] for draws in both)  # a resumed run
    assert not set(drawn([1], seed=1)[0]) & set(both[0])
    assert not set(drawn([1], seed=1)[1]) & set(both[1])


class Pull:
    """A penalty whose gradient is 1 for every parameter."""

    def __init__(self, model):
        self.model, self.steps = model, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def term(self, samples):
        return sum(parameter.sum() for parameter in self.model.parameters())

    def step(self):
        self.steps += 1


def test_a_penalty_counts_once_for_a_step_of_several_batches():
    ends, losses = [], []
    for parts in (1, 2):
        config, state = start(accumulate=parts)
        state.penalty = Pull(state.model)
        given = batches(2)
        if parts == 1:
            given = [tuple(torch.cat(each) for each in zip(*given, strict=True))]
        losses.append(train_epoch(state, Regression(), given, config, epoch=1).train_loss)
        ends.append([parameter.detach() for parameter in state.model.parameters()])
        assert state.penalty.steps == 1
    torch.testing.assert_close(*ends)
    assert losses[0] == pytest.approx(losses[1])
    assert losses[0] == pytest.approx(by_hand([batches(2)])[1][0])  # the task's own

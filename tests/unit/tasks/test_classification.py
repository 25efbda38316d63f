"""Loss, mixing, metric and samples of classification."""

import numpy as np
import pytest
import torch
from torch import nn

from step_ahsar.config import Config, DataConfig, TrainConfig
from step_ahsar.errors import UserError
from step_ahsar.tasks import TASKS, create_task


def task(classes=3, **config):
    return create_task(Config(train=TrainConfig(**config)), [f"class {i}" for i in range(classes)])


def cross_entropy(logits, probabilities):
    """-sum p log softmax, written out."""
    log = logits - logits.exp().sum(-1, keepdim=True).log()
    return -(probabilities * log).sum(-1).mean()


def test_loss_is_cross_entropy_with_smoothed_targets():
    logits, targets = torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    smooth = torch.nn.functional.one_hot(targets, 3) * 0.7 + 0.3 / 3
    loss = task(label_smoothing=0.3).loss(nn.Identity(), logits, targets)
    torch.testing.assert_close(loss.double(), cross_entropy(logits, smooth), atol=1e-6, rtol=1e-6)


def test_tet_averages_the_loss_over_time_steps():
    logits, targets = torch.randn(5, 4, 3), torch.tensor([0, 2, 1, 1])
    each = torch.stack([task().loss(nn.Identity(), step, targets) for step in logits])
    torch.testing.assert_close(task(loss="tet").loss(nn.Identity(), logits, targets), each.mean())
    soft = torch.rand(4, 3).softmax(-1)
    each = torch.stack([task().loss(nn.Identity(), step, soft) for step in logits])
    torch.testing.assert_close(task(loss="tet").loss(nn.Identity(), logits, soft), each.mean())


def test_tet_draws_logits_towards_one_by_its_lambda():
    logits, targets = torch.randn(5, 4, 3), torch.tensor([0, 2, 1, 1])
    plain = task(loss="tet").loss(nn.Identity(), logits, targets)
    squares = ((logits - 1) ** 2).mean()
    found = task(loss="tet", tet_lambda=0.2).loss(nn.Identity(), logits, targets)
    torch.testing.assert_close(found, 0.8 * plain + 0.2 * squares)
    with pytest.raises(UserError, match=r"train\.tet_lambda is for train\.loss 'tet', not for 'ce'; leave it at 0"):
        task(tet_lambda=0.1)


def test_calibration_error_by_hand():
    """Of 4 samples 2 are in each of two bins of confidence, 0.75 and 0.95; right are one and both."""
    logits = torch.log(torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.95, 0.05], [0.05, 0.95]]))
    targets = torch.tensor([0, 0, 0, 1])
    found, other = (task(2).metrics(calibration=True) for _ in range(2))
    found.update(logits[:3], targets[:3])
    other.update(logits[3:], targets[3:])
    found.merge(other)
    assert found.compute() == {"acc1": 0.75, "ece": pytest.approx((abs(0.5 - 0.75) + abs(1 - 0.95)) / 2, abs=1e-5)}


def test_tet_asks_the_model_for_every_time_step():
    asked = []
    task(loss="tet").build(lambda **options: asked.append(options))
    task(loss="ce").build(lambda **options: asked.append(options))
    assert asked == [{"num_classes": 3, "per_step": True}, {"num_classes": 3}]


def test_mixed_targets_are_smoothed_once():
    mixing = task(mixup=1.0, label_smoothing=0.3)
    inputs, targets = torch.randn(4, 1, 2, 2), torch.tensor([0, 2, 1, 1])
    mixed, soft = mixing.mix(inputs.clone(), targets, epoch=1)
    assert not torch.equal(mixed, inputs)
    torch.testing.assert_close(soft.sum(-1), torch.ones(4))
    assert soft.min() >= 0.1 - 1e-6
    logits = torch.randn(4, 3)
    torch.testing.assert_close(mixing.loss(nn.Identity(), logits, soft), cross_entropy(logits, soft))


@pytest.mark.parametrize("config", [{"mixup": 1.0}, {"cutmix": 1.0}, {"mixup": 0.5, "cutmix": 0.5}])
def test_mixing_ends_with_its_last_epoch(config):
    mixing = task(**config, mixup_off_epoch=2)
    inputs, targets = torch.randn(4, 1, 8, 8), torch.tensor([0, 2, 1, 1])
    np.random.seed(0)  # noqa: NPY002
    assert mixing.mix(inputs.clone(), targets, epoch=2)[1].is_floating_point()
    untouched = mixing.mix(inputs, targets, epoch=3)
    assert untouched[0] is inputs
    assert untouched[1] is targets


def test_metrics_of_two_parts_are_those_of_the_whole():
    torch.manual_seed(0)
    logits, targets = torch.randn(50, 3), torch.randint(3, (50,))
    whole, first, second = (task(classes=3).metrics() for _ in range(3))
    whole.update(logits, targets)
    first.update(logits[:17], targets[:17])
    second.update(logits[17:], targets[17:])
    first.merge(second)
    first.merge(task(classes=3).metrics())  # of a process without samples
    assert first.compute() == whole.compute()


def test_accuracy_is_over_all_samples_and_exact():
    metrics = task(classes=2).metrics()
    logits = torch.tensor([[1.0, 0.0]]).repeat(500, 1)
    targets = torch.tensor([0] * 450 + [1] * 50)
    for part in range(0, 500, 64):
        metrics.update(logits[part : part + 64], targets[part : part + 64])
    assert metrics.compute() == {"acc1": 0.9}


def test_predictions_over_time_are_those_of_the_mean():
    outputs = torch.tensor([[[2.0, 0.0]], [[0.0, 3.0]]])  # [T, B, K]
    metrics = task(classes=2, loss="tet").metrics()
    metrics.update(outputs, torch.tensor([1]))
    assert metrics.compute() == {"acc1": 1.0}
    (sample,) = task(classes=2).show(outputs, torch.tensor([0]))
    assert (sample["truth"], sample["prediction"]) == ("class 0", "class 1")
    assert sample["confidence"] == pytest.approx(torch.tensor([1.0, 1.5]).softmax(0)[1].item())


def test_half_precision_outputs_are_judged_in_fp32():
    logits = torch.randn(4, 3)
    loss = task().loss(nn.Identity(), logits.bfloat16(), torch.tensor([0, 1, 2, 0]))
    assert loss.dtype == torch.float32


def test_unknown_task():
    assert list(TASKS) == ["classification", "detection", "segmentation"]
    with pytest.raises(UserError, match="unknown task 'clasification'; did you mean 'classification'"):
        create_task(Config(task="clasification"), ["a"])


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ((4, 2, 8, 8), {}),
        ((3, 4, 2, 8, 8), {}),
        ((4, 2, 16), {}),
        ((3, 4, 1, 16), {"sequence": {"axis": "time"}}),
        ((3, 4, 2, 16), {"encoder": "rate"}),
    ],
)
def test_mixup_mixes_samples_whole_whatever_their_shape(shape, data):
    """Each mixed sample is a blend of it and one other, by the same share at all steps as its target is."""
    mixing = create_task(Config(train=TrainConfig(mixup=1.0), data=DataConfig(**data)), ["a", "b", "c", "d"])
    batch = 1 if len(shape) == 5 or data else 0
    inputs = torch.eye(4).reshape(*[1] * batch, 4, *[1] * (len(shape) - batch - 2), 4)
    inputs = inputs.repeat_interleave(shape[-1] // 4, -1).expand(shape).contiguous()
    np.random.seed(0)  # noqa: NPY002
    mixed, targets = mixing.mix(inputs.clone(), torch.arange(4), epoch=1)
    assert mixed.shape == inputs.shape
    shares = mixed.movedim(batch, 0).reshape(4, -1, 4, shape[-1] // 4).mean((1, 3))
    torch.testing.assert_close(shares, targets)
    assert not torch.equal(targets.argmax(-1), targets.float().argmin(-1))

"""Segmentation: losses by hand, metrics against scikit-learn, test-time views, pictures, and what it refuses."""

import math
from functools import partial

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, jaccard_score
from torch import nn
from torchmetrics.classification import MulticlassJaccardIndex

import step_ahsar.models  # noqa: F401  # registers them
from step_ahsar.ahsar import regulate
from step_ahsar.config import Config, HeadConfig, ModelConfig, TrainConfig
from step_ahsar.errors import UserError
from step_ahsar.tasks.base import head_neurons
from step_ahsar.tasks.segmentation import PixelMetrics, Segmentation

CLASSES = ("background", "one", "two")


def task(classes=CLASSES, head=None, model=None, **train):
    config = Config(
        task="segmentation",
        head=HeadConfig(**head or {}),
        model=ModelConfig(time_steps=2, **model or {}),
        train=TrainConfig(**train),
    )
    return Segmentation(config, classes)


def build(task, name="qkformer_imagenet_3_64", in_chans=1, img_size=32):
    torch.manual_seed(0)
    model = task.config.model

    def backbone(**options):
        sizes = {"in_chans": in_chans, "img_size": img_size, "time_steps": model.time_steps}
        neuron = {"neuron": model.neuron, "threshold": model.threshold, **model.neuron_options()}
        return timm.create_model(name, **sizes, **neuron, **options)

    return task.build(backbone)


class Given(nn.Module):
    """A model that answers with given logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x):
        return self.logits


def loss_of(task, logits, targets):
    return task.loss(Given(logits), torch.zeros(len(logits), 1, *logits.shape[-2:]), targets)


def one_pixel_each(*probabilities):
    """Logits [1, K, 1, n] with these probabilities."""
    return torch.tensor(probabilities).log().T[None, :, None, :]


# -- losses ---------------------------------------------------------------------------------------------------------


def test_cross_entropy_is_the_mean_over_pixels_that_are_not_ignored():
    logits = one_pixel_each([0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6])
    loss = loss_of(task(), logits, torch.tensor([[[0, 1, 255]]]))
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)


def test_dice_by_hand():
    logits = one_pixel_each([0.5, 0.25, 0.25], [0.2, 0.8, 0.0001], [0.1, 0.1, 0.8])
    # class 0: p = .5, .2 and g = 1, 0; class 1: p = .25, .8 and g = 0, 1; class 2 is not in the targets
    zero, one = 2 * 0.5 / (0.25 + 0.04 + 1), 2 * 0.8 / (0.0625 + 0.64 + 1)
    loss = loss_of(task(loss="dice"), logits, torch.tensor([[[0, 1, 255]]]))
    assert loss.item() == pytest.approx(1 - (zero + one) / 2, rel=1e-3)


def test_dice_is_pooled_over_the_batch_and_reaches_its_ends():
    targets = torch.randint(0, 3, (2, 4, 4))
    sure = 50 * nn.functional.one_hot(targets, 3).movedim(-1, 1).float()
    assert loss_of(task(loss="dice"), sure, targets).item() == pytest.approx(0, abs=1e-6)
    assert loss_of(task(loss="dice"), -sure, targets).item() > 0.5
    joined = torch.cat([*sure], -1)[None], torch.cat([*targets], -1)[None]
    noisy = sure + 30 * torch.rand_like(sure)
    together = loss_of(task(loss="dice"), torch.cat([*noisy], -1)[None], joined[1])
    torch.testing.assert_close(loss_of(task(loss="dice"), noisy, targets), together)


def test_the_sum_of_both():
    logits, targets = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    single = [loss_of(task(loss=name), logits, targets) for name in ("ce", "dice")]
    torch.testing.assert_close(loss_of(task(loss="ce+dice"), logits, targets), sum(single))


@pytest.mark.parametrize("name", ["ce", "dice", "ce+dice"])
def test_a_batch_without_a_counted_pixel_teaches_nothing(name):
    model = Given(torch.randn(1, 3, 2, 2))
    loss = task(loss=name).loss(model, torch.zeros(1, 1, 2, 2), torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0
    assert not model.logits.grad.any()


@pytest.mark.parametrize("name", ["ce", "dice", "ce+dice"])
def test_ignored_pixels_get_no_gradient(name):
    model, targets = Given(torch.randn(1, 3, 4, 4)), torch.randint(0, 3, (1, 4, 4))
    targets[:, :2] = 255
    task(loss=name).loss(model, torch.zeros(1, 1, 4, 4), targets).backward()
    assert not model.logits.grad[:, :, :2].any()
    assert model.logits.grad[:, :, 2:].all()


def test_labels_are_smoothed():
    logits, targets = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    soft = nn.functional.one_hot(targets, 3).movedim(-1, 1) * 0.7 + 0.1
    expected = -(soft * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss_of(task(label_smoothing=0.3), logits, targets), expected)


# -- metrics --------------------------------------------------------------------------------------------------------


def scores_for(predicted, classes):
    return nn.functional.one_hot(torch.as_tensor(predicted), classes).movedim(-1, 1).float()


@given(st.integers(2, 5), st.integers(0, 2**31), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_metrics_are_those_of_one_pooled_confusion_matrix(classes, seed, batches):
    rng = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(classes)]
    truth = rng.choice([*range(classes), 255], (batches, 2, 3, 4))
    truth[0, 0, 0, 0] = 0
    predicted = rng.integers(0, classes, truth.shape)
    metrics, theirs = PixelMetrics(names), MulticlassJaccardIndex(classes, ignore_index=255)
    for guess, target in zip(predicted, truth, strict=True):
        metrics.update(scores_for(guess, classes), torch.as_tensor(target))
        theirs.update(torch.as_tensor(guess), torch.as_tensor(target))
    found = metrics.compute()
    parts = []
    for guess, target in zip(predicted, truth, strict=True):
        parts.append(PixelMetrics(names))
        parts[-1].update(scores_for(guess, classes), torch.as_tensor(target))
        if len(parts) > 1:
            parts[0].merge(parts[-1])
    assert parts[0].compute() == found

    t, p = truth[truth != 255], predicted[truth != 255]
    union = sorted({*t.tolist(), *p.tolist()})
    each = jaccard_score(t, p, labels=union, average=None)
    assert {k: v for k, v in found.items() if k.startswith("iou_")} == pytest.approx(
        {f"iou_c{i}": iou for i, iou in zip(union, each, strict=True)}
    )
    assert found["miou"] == pytest.approx(each.mean())
    assert found["miou"] == pytest.approx(theirs.compute().item(), abs=1e-6)
    matrix = confusion_matrix(t, p, labels=sorted({*t.tolist()} | {*p.tolist()})).astype(np.float64)
    assert found["pixel_accuracy"] == pytest.approx(np.trace(matrix) / matrix.sum())
    rows = matrix.sum(1) > 0
    assert found["class_accuracy"] == pytest.approx((np.diag(matrix)[rows] / matrix.sum(1)[rows]).mean())


def test_metrics_by_hand():
    metrics = PixelMetrics(["sky", "road", "car", "bus"])
    metrics.update(scores_for([[[0, 0, 1, 2]]], 4), torch.tensor([[[0, 1, 1, 255]]]))
    # sky: 1 of 2, road: 1 of 2; the car lies on an ignored pixel, and there is no bus anywhere
    assert metrics.compute() == {
        "miou": 0.5,
        "pixel_accuracy": pytest.approx(2 / 3),
        "class_accuracy": 0.75,
        "iou_sky": 0.5,
        "iou_road": 0.5,
    }


def test_pooling_is_not_the_mean_over_images():
    metrics = PixelMetrics(["a", "b"])
    metrics.update(scores_for([[[0, 0, 0, 0]], [[1, 1, 1, 0]]], 2), torch.tensor([[[0, 0, 0, 0]], [[0, 1, 1, 0]]]))
    assert metrics.compute()["miou"] == pytest.approx((5 / 6 + 2 / 3) / 2)  # by image: 1, and (1/2 + 2/3) / 2


def test_nothing_but_ignored_pixels_cannot_be_measured():
    metrics = PixelMetrics(["a", "b"])
    metrics.update(torch.zeros(1, 2, 2, 2), torch.full((1, 2, 2), 255))
    with pytest.raises(UserError, match="the metrics are undefined: all pixels are ignored"):
        metrics.compute()


@pytest.mark.parametrize("stage", ["loss", "metrics"])
def test_class_ids_beyond_the_list_are_named(stage):
    targets = torch.tensor([[[0, 3], [7, 255]]])
    check = partial(loss_of, task()) if stage == "loss" else task().metrics().update
    with pytest.raises(UserError, match="masks have class ids 3, 7, but the data set has 3 classes: 0 to 2, or 255"):
        check(torch.zeros(1, 3, 2, 2), targets)


# -- the model ------------------------------------------------------------------------------------------------------


HIERARCHICAL = (
    "maxformer_imagenet_3_64",
    "metaspikeformer_imagenet_2_64",
    "espikeformer_imagenet_2_64",
    "qsd_imagenet_2_64",
    "spikingresformer_imagenet_3_64",
)


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_every_hierarchical_family_is_a_backbone(name):
    model = build(task(head={"channels": 8}), name, img_size=64)
    logits = model(torch.rand(2, 1, 64, 64))
    assert logits.shape == (2, 3, 64, 64)
    logits.square().mean().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["qkformer_imagenet_3_64", "qkformer_3_64", "spikformer_2_64", "spikformer_dvs_2_64"])
@pytest.mark.parametrize("head", [None, "fcn", "fpn", "upernet"])
@pytest.mark.parametrize("spiking", [False, True])
def test_logits_have_the_size_of_the_input(name, head, spiking):
    model = build(task(head={"name": head, "channels": 8, "spiking": spiking}), name)
    assert model(torch.rand(2, 1, 32, 48)).shape == (2, 3, 32, 48)
    assert model(torch.rand(3, 2, 1, 32, 32)).shape == (2, 3, 32, 32)  # three time steps


def test_without_a_name_the_head_is_a_semantic_fpn():
    assert type(build(task()).head.body).__name__ == "SemanticFPN"


@pytest.mark.parametrize("spiking", [False, True])
def test_the_head_is_regulated_with_the_rest(spiking):
    t = task(head={"channels": 8, "spiking": spiking}, model={"neuron": "ahsar"})
    model = build(t)
    controller = regulate(model)
    assert ("head" in controller.groups) == spiking
    t.loss(model, torch.rand(2, 1, 32, 32), torch.randint(0, 3, (2, 32, 32))).backward()
    controller.step()
    layers = {name: layer for name, layer in controller.layers().items() if layer["group"] == "head"}
    assert all(name.startswith("head.body.") for name in layers)
    assert any(layer["threshold_scale"] != 1 for layer in layers.values()) == spiking
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.head.parameters())


def test_the_heads_neurons_are_the_models():
    model = {"neuron": "ahsar", "base": "masked_psn", "threshold": 0.7, "alpha": 3.0, "args": {"order": 2, "depth": 1}}
    neuron = head_neurons(task(model=model).config).new_neuron("head", 8)
    assert (neuron.name, neuron.threshold, neuron.alpha, neuron.order) == ("masked_psn", 0.7, 3.0, 2)
    assert neuron.threshold_scale is not None


def test_the_heads_norms_are_the_models():
    t = task(head={"channels": 8, "spiking": True}, model={"norm": "tdbn", "threshold": 0.5})
    norms = [module for module in build(t).head.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert all(round(norm.weight[0].item(), 4) in (0.5, 0.3536) for norm in norms)  # theta, or over the root of 2


@pytest.mark.parametrize(("spiking", "lr", "enough"), [(False, 0.003, 0.9), (True, 0.03, 0.7)])
def test_a_toy_image_is_learnt_in_twenty_steps(spiking, lr, enough):
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    truth = ((rows - 12) ** 2 + (columns - 12) ** 2 < 64).long()[None]
    truth[:, 20:30, 18:30] = 2  # the background alone is worth 0.23
    image = truth[:, None] / 2
    t = task(head={"channels": 16, "spiking": spiking}, loss="ce+dice")
    model = build(t, "spikformer_2_64")
    optimizer = torch.optim.AdamW(model.parameters(), lr)
    for _ in range(20):
        optimizer.zero_grad()
        t.loss(model, image, truth).backward()
        optimizer.step()
    metrics = t.metrics()
    metrics.update(t.predict(model, image), truth)
    assert metrics.compute()["miou"] > enough


def test_a_size_that_the_stride_does_not_divide_is_refused():
    with pytest.raises(UserError, match="cannot take size 32x40: height and width must be multiples of 16"):
        build(task())(torch.rand(1, 1, 32, 40))


# -- test-time views ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("time", [(), (2,)])
def test_mirrored_inputs_give_mirrored_predictions_under_flip_testing(time):
    t = task(head={"channels": 8, "test_flip": True, "test_scales": (1.0, 1.5)})
    model, x = build(t, "spikformer_2_64"), torch.rand(*time, 2, 1, 32, 32)
    for _ in range(20):
        model(x)  # the norms' running averages settle, without which nothing fires
    model.eval()
    straight, mirrored = t.predict(model, x), t.predict(model, x.flip(-1))
    torch.testing.assert_close(mirrored, straight.flip(-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(straight.sum(1), torch.ones(2, 32, 32))
    assert (model(x.flip(-1)) - model(x).flip(-1)).abs().max() > 0.01  # one view alone is not symmetric


def test_views_are_averaged_as_probabilities_at_sizes_that_the_backbone_takes():
    class Shapes(nn.Module):
        stride = 16

        def forward(self, x):
            seen.append(tuple(x.shape))
            return x.mean(0) if x.ndim == 5 else x

    seen = []
    x = torch.randn(2, 1, 3, 32, 64)
    scores = task(head={"test_scales": (0.3, 1.0, 1.6), "test_flip": True}).predict(Shapes(), x)
    assert [shape[-2:] for shape in seen[::2]] == [(16, 16), (32, 64), (48, 96)]
    assert all(shape[:3] == (2, 1, 3) for shape in seen)
    assert seen[::2] == seen[1::2]

    def view(size):
        small = nn.functional.interpolate(x.flatten(0, 1), size, mode="bilinear").mean(0, keepdim=True)
        return nn.functional.interpolate(small, (32, 64), mode="bilinear").softmax(1)

    expected = sum(view(size) for size in ((16, 16), (32, 64), (48, 96))) / 3  # mirrored twice is as it was
    torch.testing.assert_close(scores, expected)


# -- for people -----------------------------------------------------------------------------------------------------


def test_samples_say_what_is_there_and_what_was_found():
    targets = torch.tensor([[[0, 1], [1, 255]], [[255, 255], [255, 255]]])
    shown = task().show(scores_for([[[0, 1], [2, 2]], [[0, 0], [0, 0]]], 3), targets)
    assert shown[0] == {
        "truth": "background, one",
        "prediction": "background, one, two",
        "pixel_accuracy": pytest.approx(2 / 3),
        "miou": pytest.approx(0.5),
    }
    assert shown[1] == {"truth": "", "prediction": ""}


@pytest.mark.parametrize("inputs", [torch.rand(2, 1, 16, 16), torch.rand(2, 3, 16, 16), torch.rand(4, 2, 2, 16, 16)])
def test_pictures_of_input_truth_and_prediction(inputs):
    targets = torch.zeros(2, 16, 16, dtype=torch.long)
    targets[0, :8], targets[0, 8:, 8:] = 1, 255
    right, wrong = task().draw(inputs, scores_for(torch.stack([targets[0] % 255, targets[1]]), 3), targets)
    thirds = [np.asarray(right.crop((x, 30, x + 256, right.height))) for x in (0, 264, 528)]
    assert (thirds[0] != thirds[1]).any()
    assert (thirds[1] != thirds[2]).any()  # the hatching
    assert right.width > wrong.width == 3 * 264 + 256  # background alone needs no legend


def test_wrong_pixels_are_red_in_the_picture():
    targets = torch.zeros(1, 16, 16, dtype=torch.long)
    targets[0, :4] = 255
    found = torch.zeros(1, 16, 16, dtype=torch.long)
    found[0, :, 8:] = 1
    (picture,) = task().draw(torch.rand(1, 1, 16, 16), scores_for(found, 3), targets)
    panel = np.asarray(picture.crop((3 * 264, picture.height - 256, 3 * 264 + 256, picture.height)))
    is_red = (panel == (208, 32, 32)).all(-1)[8::16, 8::16]
    assert is_red.tolist() == (found[0].bool() & (targets[0] == 0)).tolist()


def test_the_score_of_a_sample_is_its_miou():
    targets = torch.tensor([[[0, 0, 1, 1]], [[2, 2, 2, 2]], [[255, 255, 255, 255]]])
    found = torch.tensor([[[0, 1, 1, 1]], [[2, 2, 2, 2]], [[0, 0, 0, 0]]])
    # of the first sample by hand: 1 of 2 pixels of class 0, 2 of 3 of class 1
    assert task().judge(scores_for(found, 3), targets)[0] == pytest.approx([(1 / 2 + 2 / 3) / 2, 1, 1])
    maps = task().kept(scores_for(found, 3))
    assert maps.tolist() == found.tolist()
    assert task().show(maps, targets) == task().show(scores_for(found, 3), targets)


def test_confusions_are_of_pixels_that_count():
    targets = torch.tensor([[[0, 0, 255, 1]]])
    _, pairs = task().judge(scores_for(torch.tensor([[[0, 2, 1, 1]]]), 3), targets)
    assert [divmod(pair, 3) for pair in pairs.tolist()] == [(0, 0), (0, 2), (1, 1)]


# -- what does not apply --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup": 0.2}, "train.mixup does not apply to segmentation"),
        ({"cutmix": 1.0}, "train.cutmix does not apply to segmentation"),
        ({"eventmix": 0.5}, "train.eventmix does not apply to segmentation"),
        ({"loss": "tet"}, "unknown loss of segmentation .tet.; known: ce, ce\\+dice, dice"),
        ({"loss": "dice", "label_smoothing": 0.1}, "train.label_smoothing does not apply to train.loss 'dice'"),
        ({"head": {"anchor_scale": 2.0}}, "head.anchor_scale does not apply to segmentation"),
        ({"head": {"score_threshold": 0.5}}, "head.score_threshold does not apply to segmentation"),
    ],
)
def test_options_that_do_not_apply_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        task(**options)


def test_heads_of_detection_are_refused():
    with pytest.raises(UserError, match="unknown segmentation head 'fcos'; known: fcn, fpn, upernet"):
        build(task(head={"name": "fcos"}))

"""Torchvision's detectors on spiking backbones."""

import copy

import pytest
import safetensors.torch
import timm
import torch
from torchvision.ops import box_iou

import step_ahsar.models  # noqa: F401
from step_ahsar.errors import UserError
from step_ahsar.heads.detection import DETECTIONS, STRIDES, Detector, _roi_align
from step_ahsar.layers import Blueprint
from step_ahsar.neurons import SpikingNeuron, list_neurons

HEADS = ("fcos", "retinanet", "faster_rcnn", "mask_rcnn")
MODELS = ("spikformer_2_64", "qkformer_imagenet_3_64")
T = 2


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")


def build(head="fcos", model=MODELS[1], spiking=False, classes=3, **options):
    torch.manual_seed(0)
    body = timm.create_model(
        model, in_chans=1, img_size=64, time_steps=T, features_only=True, per_step=spiking, neuron="lif"
    )
    neuron = Blueprint(time_steps=T) if spiking else None
    return Detector(head, body, classes, channels=32, blueprint=neuron, **options)


def target(boxes=(), labels=(), crowd=None, size=64):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    masks = torch.zeros(len(boxes), size, size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.long().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    return {
        "boxes": boxes,
        "labels": torch.tensor(labels, dtype=torch.int64),
        "crowd": torch.tensor(crowd or [False] * len(boxes), dtype=torch.bool),
        "area": (boxes[:, 2:] - boxes[:, :2]).prod(1),
        "masks": masks,
    }


TARGETS = [target([[8, 8, 30, 30], [20, 20, 60, 44]], [0, 2]), target()]


@pytest.mark.parametrize(
    "model",
    [
        "maxformer_imagenet_3_64",
        "metaspikeformer_imagenet_2_64",
        "espikeformer_imagenet_2_64",
        "qsd_imagenet_2_64",
        "spikingresformer_imagenet_3_64",
    ],
)
def test_every_hierarchical_family_is_a_backbone(model):
    detector = build("retinanet", model)
    sum(detector(torch.rand(2, 1, 64, 64), TARGETS).values()).backward()
    assert [key for key, p in detector.body.named_parameters() if p.grad is None] == []
    assert len(detector.eval()(torch.rand(2, 1, 64, 64))) == 2


@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("head", HEADS)
def test_every_detector_trains_and_detects(head, model, spiking):
    detector = build(head, model, spiking, score_threshold=0.0)
    inputs = torch.rand(2, 1, 64, 64)
    losses = detector(inputs, TARGETS)
    sum(losses.values()).backward()
    assert all(loss.isfinite() and loss.ndim == 0 for loss in losses.values())
    stem = next(detector.body.parameters())
    assert stem.grad is not None
    assert stem.grad.abs().sum() > 0
    unused = [name for name, weight in detector.named_parameters() if weight.grad is None]
    assert not unused
    neurons = [n for n in detector.pyramid.modules() if isinstance(n, SpikingNeuron)]
    assert {n.group for n in neurons} == ({"head"} if spiking else set())

    with torch.inference_mode():
        outputs = detector.eval()(inputs)
    assert len(outputs) == 2
    for found in outputs:
        n = len(found["scores"])
        assert 0 < n <= DETECTIONS
        assert found["boxes"].shape == (n, 4)
        assert found["boxes"].dtype == torch.float32
        assert found["boxes"].min() >= 0
        assert found["boxes"].max() <= 64
        assert (found["boxes"][:, 2:] >= found["boxes"][:, :2]).all()
        assert set(found["labels"].tolist()) <= {0, 1, 2}
        assert (found["scores"].diff() <= 0).all()
        assert ("masks" in found) == (head == "mask_rcnn")
        if "masks" in found:
            assert found["masks"].shape == (n, 1, 28, 28)  # within the boxes


@pytest.mark.parametrize("head", HEADS)
def test_a_batch_without_any_box_trains(head):
    losses = build(head)(torch.rand(2, 1, 64, 64), [target(), target()])
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("head", HEADS)
def test_crowds_and_boxes_without_area_are_not_learnt_from(head):
    detector = build(head)
    inputs = torch.rand(2, 1, 64, 64)
    more = target(
        [[8, 8, 30, 30], [0, 0, 64, 64], [20, 20, 60, 44], [5, 5, 5, 20], [7, 7, 7, 7]],
        [0, 1, 2, 1, 1],
        [False, True, False, False, False],
    )
    torch.manual_seed(1)
    expected = detector(inputs, TARGETS)
    torch.manual_seed(1)
    assert detector(inputs, [more, TARGETS[1]]) == expected


@pytest.mark.parametrize("head", HEADS)
def test_labels_count_from_0_in_and_out(head):
    """Every class, the first and the last too, comes out as the class that went in."""
    detector = build(head, classes=2)
    seen = {}
    learn = detector.net.forward
    detector.net.forward = lambda images, targets=None: seen.update(targets=targets) or learn(images, targets)
    detector(torch.rand(1, 1, 64, 64), [target([[8, 8, 30, 30], [20, 20, 60, 44]], [0, 1])])
    background = head in ("faster_rcnn", "mask_rcnn")
    assert seen["targets"][0]["labels"].tolist() == ([1, 2] if background else [0, 1])
    detector.net.forward = lambda images: [{"labels": seen["targets"][0]["labels"]}]
    assert detector.eval()(torch.rand(1, 1, 64, 64))[0]["labels"].tolist() == [0, 1]


@pytest.mark.parametrize("head", HEADS)
def test_images_reach_the_backbone_as_they_are(head):
    detector, seen = build(head), []
    detector.body.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    static, timed = torch.randn(2, 1, 48, 64), torch.randn(T, 2, 1, 48, 64)
    for inputs in (static, timed):
        detector.eval()(inputs)
        assert torch.equal(seen.pop(), inputs)


@pytest.mark.parametrize("size", [64, 80])  # of 80 pixels, the maps' sizes are 20, 10, 5 and 3
@pytest.mark.parametrize("level", range(4))
def test_a_planted_box_comes_out_in_pixels_of_the_input(level, size):
    detector = build().eval()
    stride, row, column = STRIDES[level], 1, 0
    sides = [-(-size // s) for s in STRIDES]
    cells = sum(n * n for n in sides)
    at = sum(n * n for n in sides[:level]) + row * sides[level] + column
    logits, codes = torch.full((1, cells, 3), -20.0), torch.zeros(1, cells, 4)
    logits[0, at, 2] = 20.0
    codes[0, at] = torch.tensor([-0.125, 0.5, 1.0, 0.25])  # to the left, top, right and bottom of the point, in strides
    planted = {"cls_logits": logits, "bbox_regression": codes, "bbox_ctrness": torch.full((1, cells, 1), 20.0)}
    detector.net.head.register_forward_hook(lambda module, args, output: planted)
    (found,) = detector(torch.rand(1, 1, size, size))
    x, y = column * stride, row * stride
    expected = torch.tensor([[x + 0.125 * stride, y - 0.5 * stride, x + stride, y + 0.25 * stride]])
    assert torch.equal(found["boxes"], expected)
    assert found["labels"].tolist() == [2]


def test_anchors_lie_at_the_strides_of_the_maps_and_are_not_rounded():
    detector, seen = build("retinanet", anchor_scale=0.5), []
    generator = detector.net.anchor_generator
    generator.register_forward_hook(lambda module, args, anchors: seen.append(anchors))
    detector.eval()(torch.rand(1, 1, 80, 80))
    anchors = seen[0][0].reshape(-1, 9, 4)
    centres = (anchors[:, 0, :2] + anchors[:, 0, 2:]) / 2
    assert centres[20 * 20 - 1].tolist() == [76, 76]
    assert centres[-1].tolist() == [64, 64]  # 2 * 32, of a map of 3 x 3
    width, height = (anchors[0, :, 2:] - anchors[0, :, :2]).T
    side = torch.tensor([2 * 2 ** (i / 3) for i in range(3)]).repeat(3)
    torch.testing.assert_close((width * height).sqrt(), side)
    torch.testing.assert_close(height / width, torch.tensor([0.5, 1.0, 2.0]).repeat_interleave(3))


def test_regions_are_pooled_from_the_level_that_fits_their_size():
    """FPN, arXiv 1612.03144, eq. 1: level 4 + log2(side / 224) rounded down, strides 2 ** level, here 4 to 32."""
    maps = {str(i): torch.full((1, 1, 512 // s, 512 // s), float(s)) for i, s in enumerate(STRIDES)}
    boxes = torch.tensor([[9.0, 9.0, 9.0 + side, 9.0 + side] for side in (20, 111, 113, 223, 225, 449)])
    pooled = _roi_align(2)(maps, [boxes], [(80, 80)])  # whatever the image's size
    assert pooled[:, 0, 0, 0].tolist() == [4, 4, 8, 8, 16, 32]


@pytest.mark.parametrize("spiking", [False, True])
def test_frames_that_repeat_an_image_are_the_image(spiking):
    detector = build(spiking=spiking, score_threshold=0.0).eval()
    inputs = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        for static, timed in zip(detector(inputs), detector(inputs.repeat(T, 1, 1, 1, 1)), strict=True):
            torch.testing.assert_close(timed, static)
    losses = detector.train()(inputs.repeat(T, 1, 1, 1, 1), TARGETS)
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("head", HEADS)
def test_what_is_found_does_not_depend_on_the_batch(head):
    detector = build(head, spiking=True, score_threshold=0.0).eval()
    inputs = torch.rand(3, 1, 64, 64)
    with torch.inference_mode():
        together = detector(inputs)
        for i in range(3):
            (alone,) = detector(inputs[i : i + 1])
            for key, rows in alone.items():
                torch.testing.assert_close(rows[:20], together[i][key][:20], atol=1e-3, rtol=1e-3)


def test_train_and_test_sizes_may_differ():
    detector = build("faster_rcnn")
    detector(torch.rand(2, 1, 64, 64), TARGETS)
    for size in ((32, 32), (48, 96)):
        (found,) = detector.eval()(torch.rand(1, 1, *size))
        if len(found["boxes"]):
            assert found["boxes"][:, 2].max() <= size[1]


@pytest.mark.parametrize("head", HEADS)
def test_mixed_precision(head):
    detector = build(head, spiking=True)
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector(torch.rand(2, 1, 64, 64), TARGETS)
        sum(losses.values()).backward()
        found = detector.eval()(torch.rand(1, 1, 64, 64))[0]
    assert all(loss.isfinite() for loss in losses.values())
    assert found["boxes"].dtype == torch.float32


@pytest.mark.parametrize("head", HEADS)
def test_it_is_built_on_meta_copied_and_saved(head, tmp_path):
    list_neurons("torch")
    with torch.device("meta"):
        build(head, spiking=True)
    detector = build(head, spiking=True)
    detector(torch.rand(2, 1, 64, 64), TARGETS)
    detector(torch.rand(2, 1, 64, 64), TARGETS)
    copied = copy.deepcopy(detector)
    safetensors.torch.save_file(detector.state_dict(), tmp_path / "weights.safetensors")
    fresh = build(head, spiking=True)
    fresh.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    inputs = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        (expected,) = detector.eval()(inputs)
        for other in (copied, fresh):
            torch.testing.assert_close(other.eval()(inputs)[0], expected)


def test_fcos_learns_one_image_by_heart():
    detector = build(spiking=True)
    image = torch.zeros(1, 1, 64, 64)
    image[..., 12:36, 20:44] = 1.0
    truth = target([[20, 12, 44, 36]], [1])
    optimizer = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        sum(detector(image, [truth]).values()).backward()
        optimizer.step()
    with torch.inference_mode():
        (found,) = detector.eval()(image)
    assert found["labels"][0] == 1
    iou = box_iou(found["boxes"][:1], truth["boxes"]).item()
    assert iou > 0.5


def test_bad_input_is_explained():
    with pytest.raises(UserError, match="unknown detection head 'fcoss'; did you mean 'fcos'"):
        build("fcoss")
    body = timm.create_model(MODELS[0], in_chans=1, img_size=64, features_only=True)
    for head in ("fcos", "retinanet"):
        with pytest.raises(UserError, match=f"head.channels of {head} must be a multiple of 32, got 48"):
            Detector(head, body, 3, channels=48)
    without = [{key: value for key, value in each.items() if key != "masks"} for each in TARGETS]
    with pytest.raises(UserError, match=r"needs a mask of each object.* such as faster_rcnn"):
        build("mask_rcnn")(torch.rand(2, 1, 64, 64), without)
    with pytest.raises(UserError, match="cannot take size 60x64: height and width must be multiples of 16"):
        build()(torch.rand(2, 1, 60, 64), TARGETS)

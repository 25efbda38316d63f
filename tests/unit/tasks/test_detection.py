"""Options, metrics, views and pictures of detection."""

import contextlib
import io
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import step_ahsar.models  # noqa: F401
from step_ahsar.config import Config, HeadConfig, ModelConfig, TrainConfig
from step_ahsar.errors import UserError
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.tasks.detection import AveragePrecision, Detection

CLASSES = ("cat", "dog", "bird")
NAMES = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")


def task(head=None, train=None, model=None, classes=CLASSES):
    config = Config(
        head=HeadConfig(**{"channels": 32, **(head or {})}),
        train=TrainConfig(**(train or {})),
        model=ModelConfig(**{"time_steps": 2, **(model or {})}),
    )
    return Detection(config, classes)


def backbone(**options):
    return timm.create_model("qkformer_imagenet_3_64", in_chans=1, img_size=64, time_steps=2, **options)


def target(boxes=(), labels=(), crowd=None, masks=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    made = {
        "boxes": boxes,
        "labels": torch.tensor(labels, dtype=torch.int64),
        "crowd": torch.tensor(crowd or [False] * len(boxes), dtype=torch.bool),
        "area": (boxes[:, 2:] - boxes[:, :2]).prod(1),
    }
    return made if masks is None else {**made, "masks": masks}


def detections(boxes=(), labels=(), scores=()):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), "scores": torch.tensor(scores)}


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["mixup", "cutmix", "eventmix", "label_smoothing"])
def test_what_does_not_apply_is_refused(option):
    with pytest.raises(UserError, match=f"train.{option} does not apply to .*detection"):
        task(train={option: 0.1})


def test_fcos_has_no_anchors_to_scale():
    for name in (None, "fcos"):
        with pytest.raises(UserError, match=r"head\.anchor_scale does not apply to fcos"):
            task(head={"name": name, "anchor_scale": 2.0})
    task(head={"name": "retinanet", "anchor_scale": 2.0})


def test_heads_and_losses_of_other_tasks_are_refused():
    with pytest.raises(UserError, match=r"unknown detection head 'fpn'; known: faster_rcnn, fcos"):
        task(head={"name": "fpn"})
    for loss in ("tet", "dice", "ce\\+dice"):
        with pytest.raises(UserError, match=f"unknown loss of detection '{loss}'.* known: ce"):
            task(train={"loss": loss.replace("\\", "")})


@pytest.mark.parametrize("name", [None, "retinanet", "faster_rcnn", "mask_rcnn"])
def test_the_config_reaches_the_detector(name):
    head = {"name": name, "channels": 64, "score_threshold": 0.5, "spiking": True}
    if name is not None:
        head["anchor_scale"] = 2.0
    model = {"neuron": "lif", "threshold": 0.7, "tau": 3.0}
    built = task(head, model=model).build(backbone)
    net = built.net
    kinds = {None: "FCOS", "retinanet": "RetinaNet", "faster_rcnn": "FasterRCNN", "mask_rcnn": "MaskRCNN"}
    assert type(net).__name__ == kinds[name]
    assert built.pyramid.out_channels == 64
    neurons = [n for n in built.pyramid.modules() if isinstance(n, SpikingNeuron)]
    assert neurons
    assert {(n.threshold, n.tau, n.group) for n in neurons} == {(0.7, 3.0, "head")}
    if name in (None, "retinanet"):
        assert net.score_thresh == 0.5
        assert net.detections_per_img == 100
    else:
        assert net.roi_heads.score_thresh == 0.5
        assert net.rpn.anchor_generator.sizes == ((8.0,), (16.0,), (32.0,), (64.0,))
    if name == "retinanet":
        assert net.anchor_generator.sizes[0][0] == 8.0
        assert net.anchor_generator.sizes[3] == pytest.approx([64, 64 * 2 ** (1 / 3), 64 * 2 ** (2 / 3)])
    assert not [n for n in task({"name": name}).build(backbone).pyramid.modules() if isinstance(n, SpikingNeuron)]


def test_the_loss_is_the_sum_of_the_detector_s():
    model = lambda inputs, targets: {"a": torch.tensor(1.5), "b": torch.tensor(2.0)}  # noqa: E731
    assert task().loss(model, torch.zeros(1), [target()]).item() == 3.5


def test_it_trains_and_predicts():
    torch.manual_seed(0)
    detection = task({"name": "mask_rcnn", "score_threshold": 0.0, "test_scales": (1.0, 0.5), "test_flip": True})
    model, inputs = detection.build(backbone), torch.rand(2, 1, 64, 64)
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[:, 8:30, 8:30] = True
    targets = [target([[8, 8, 30, 30]], [1], masks=masks), target(masks=masks[:0])]
    loss = detection.loss(model, inputs, targets)
    loss.backward()
    assert loss.isfinite()
    metrics = detection.metrics()
    with torch.inference_mode():
        outputs = detection.predict(model.eval(), inputs)
        metrics.update(outputs, targets)
    assert outputs[0]["masks"].shape == (len(outputs[0]["boxes"]), 64, 64)
    assert outputs[0]["masks"].dtype == torch.bool
    assert all(len(found["boxes"]) <= 100 for found in outputs)
    found = metrics.compute()
    assert {"map", "map_50", "mask_map", "ap_dog"} <= set(found)
    assert all(0 <= value <= 1 for value in found.values())
    assert len(detection.draw(inputs, outputs, targets)) == len(detection.show(outputs, targets)) == 2


# -- metrics -----------------------------------------------------------------------------------------------------------


def reference(truths, outputs, kind="bbox"):
    """The evaluation of pycocotools, which has no boxes without area to count: its six means, and AP by class."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    rle = pytest.importorskip("pycocotools.mask")

    def entries(items, more):
        rows = []
        for image, item in enumerate(items):
            for i, (x0, y0, x1, y1) in enumerate(item["boxes"].double().tolist()):
                row = {"id": len(rows) + 1, "image_id": image, "category_id": item["labels"][i].item()}
                row |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
                if "masks" in item:
                    row["segmentation"] = rle.encode(np.asfortranarray(item["masks"][i].numpy().astype(np.uint8)))
                    if kind == "segm":
                        row["area"] = float(item["masks"][i].sum())
                row |= more(item, i)
                if (x1 > x0 and y1 > y0) or "score" in row:
                    rows.append(row)
        return rows

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = coco.COCO(), coco.COCO()
        images = [{"id": i, "height": 160, "width": 160} for i in range(len(truths))]
        common = {"images": images, "categories": [{"id": i} for i in range(3)]}
        truth.dataset = {
            **common,
            "annotations": entries(truths, lambda t, i: {"iscrowd": int(t["crowd"][i]), "area": t["area"][i].item()}),
        }
        found.dataset = {**common, "annotations": entries(outputs, lambda t, i: {"score": t["scores"][i].item()})}
        truth.createIndex()
        found.createIndex()

        def stats(classes):
            run = evaluation.COCOeval(truth, found, kind)
            run.params.catIds = classes
            run.evaluate()
            run.accumulate()
            run.summarize()
            return run.stats[:6].tolist()

        expected = dict(zip(NAMES, stats([0, 1, 2]), strict=True))
        expected |= {f"ap_{name}": stats([i])[0] for i, name in enumerate(CLASSES)}
    return {name: value for name, value in expected.items() if value >= 0}


def random_scenes(seed, images=6, size=160, with_masks=False):
    """Objects of all sizes, with crowds, boxes without area and empty images; detections near some of them."""
    rng = np.random.default_rng(seed)

    def masks_of(boxes):
        masks = torch.zeros(len(boxes), size, size, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().long().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        return {"masks": masks} if with_masks else {}

    truths, outputs = [], []
    for _ in range(images):
        n = int(rng.integers(0, 6))
        corner = rng.uniform(0, size / 2, (n, 2))
        side = rng.uniform(4, size / 2, (n, 2))
        boxes = torch.from_numpy(np.concatenate([corner, corner + side], 1)).float()
        if with_masks:
            boxes = boxes.round()
        if n > 2:
            boxes[0, 2] = boxes[0, 0]  # no area
        truth = target(boxes.tolist(), rng.integers(0, 3, n).tolist(), (rng.random(n) < 0.25).tolist())
        truth["area"] = truth["area"] * 0.8  # a mask's, say
        truths.append({**truth, **masks_of(boxes)})
        near = boxes.repeat(2, 1) + torch.from_numpy(rng.normal(0, 4, (2 * n, 4))).float()
        near[:, 2:] = torch.maximum(near[:, 2:], near[:, :2] + 1)
        if with_masks:
            near = near.round().clamp(0, size - 1)
        labels = torch.where(torch.from_numpy(rng.random(2 * n) < 0.8), truth["labels"].repeat(2), 0)
        outputs.append({**detections(near.tolist(), labels.tolist(), rng.random(2 * n).tolist()), **masks_of(near)})
    return truths, outputs


def measured(truths, outputs, masks=False, batch=4):
    metrics = AveragePrecision(CLASSES, masks)
    for i in range(0, len(truths), batch):
        metrics.update(outputs[i : i + batch], truths[i : i + batch])
    return metrics.compute()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_metrics_are_those_of_pycocotools(seed):
    truths, outputs = random_scenes(seed)
    truths.append(target([[10, 10, 50, 60]], [0]))  # one object at least
    outputs.append(detections([[12, 10, 50, 55]], [0], [0.9]))
    assert measured(truths, outputs) == pytest.approx(reference(truths, outputs), abs=2e-6)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_masks_are_those_of_pycocotools(seed):
    truths, outputs = random_scenes(seed, with_masks=True)
    found = measured(truths, outputs, masks=True)
    expected = reference(truths, outputs)
    expected["mask_map"] = reference(truths, outputs, "segm")["map"]
    assert found == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("masks", [False, True])
def test_metrics_of_two_parts_are_those_of_the_whole(masks):
    truths, outputs = random_scenes(0, with_masks=masks)
    first, second = AveragePrecision(CLASSES, masks), AveragePrecision(CLASSES, masks)
    first.update(outputs[:2], truths[:2])
    second.update(outputs[2:], truths[2:])
    first.merge(pickle.loads(pickle.dumps(second)))  # as it comes from another process
    assert first.compute() == measured(truths, outputs, masks)


def test_an_empty_part_adds_nothing():
    """Fault: whether there is any object was asked before the parts were merged."""
    truths, outputs = random_scenes(0)
    first, second = AveragePrecision(CLASSES), AveragePrecision(CLASSES)
    second.update(outputs, truths)
    first.merge(second)
    assert first.compute() == measured(truths, outputs)


def test_metrics_by_hand():
    """One of two cats found, and a dog where there is none: precision 1 up to recall 0.5 (51 of 101 points)."""
    found = measured(
        [target([[0, 0, 40, 40], [50, 50, 90, 90]], [0, 0])],
        [detections([[0, 0, 40, 40], [0, 0, 9, 9]], [0, 1], [0.9, 0.8])],
    )
    value = pytest.approx(51 / 101, abs=1e-6)
    assert found == {"map": value, "map_50": value, "map_75": value, "map_medium": value, "ap_cat": value}


def test_perfect_and_empty_detections():
    truths = [target([[0, 0, 20, 20], [10, 20, 60, 90]], [0, 2]), target()]
    perfect = [
        {**detections(), **{k: t[k] for k in ("boxes", "labels")}, "scores": t["area"] * 0 + 0.5} for t in truths
    ]
    assert measured(truths, perfect) == dict.fromkeys((*NAMES[:5], "ap_cat", "ap_bird"), 1.0)
    nothing = measured(truths, [detections(), detections()])
    assert nothing == dict.fromkeys((*NAMES[:5], "ap_cat", "ap_bird"), 0.0)


def test_crowds_and_boxes_without_area_are_ignored():
    alone = measured([target([[0, 0, 20, 20]], [0])], [detections([[0, 0, 20, 20]], [0], [0.5])])
    truths = [target([[0, 0, 20, 20], [30, 30, 90, 90], [5, 5, 5, 20]], [0, 0, 0], [False, True, False])]
    inside = [detections([[0, 0, 20, 20], [40, 40, 60, 60], [50, 40, 70, 70]], [0, 0, 0], [0.5, 0.9, 0.8])]
    assert measured(truths, inside) == alone
    with pytest.raises(UserError, match="the metrics are undefined: there is no object"):
        measured([target([[30, 30, 90, 90]], [0], [True]), target()], [detections(), detections()])


def test_masks_are_needed_to_measure_masks():
    with pytest.raises(UserError, match="this detector needs a mask of each object"):
        AveragePrecision(CLASSES, masks=True).update([detections()], [target()])


# -- views -------------------------------------------------------------------------------------------------------------


class Planted(nn.Module):
    """Finds one object at fixed fractions of the image, on the side that a bright column tells."""

    stride = 4

    def __init__(self):
        super().__init__()
        self.sizes = []

    def forward(self, inputs):
        height, width = inputs.shape[-2:]
        mirrored = inputs.flatten(0, -3).mean(0)[0, -1] > 0.5
        self.sizes.append((height, width, bool(mirrored)))
        x0, x1 = (0.625, 0.875) if mirrored else (0.125, 0.375)
        box = torch.tensor([[x0 * width, 0.25 * height, x1 * width, 0.75 * height]])
        masks = torch.zeros(1, 1, 28, 28)  # within the box: its left half, or its right one in a mirror image
        masks[..., slice(14, 28) if mirrored else slice(14)] = 1.0
        score = 0.5 + 0.001 * width + 0.01 * mirrored
        one = {"boxes": box, "labels": torch.tensor([1]), "scores": score[None], "masks": masks}
        return [dict(one) for _ in range(inputs.shape[-4])]


def marked_inputs(*lead):
    inputs = torch.zeros(*lead, 1, 32, 64)
    inputs[..., :4] = 1.0
    return inputs


@pytest.mark.parametrize("lead", [(3,), (2, 3)])
def test_views_are_merged_in_pixels_of_the_input(lead):
    model = Planted()
    outputs = task({"test_scales": (1.0, 0.5, 1.55), "test_flip": True}).predict(model, marked_inputs(*lead))
    sizes = [(32, 64), (16, 32), (48, 100)]  # 1.55 * 32 = 49.6 and 1.55 * 64 = 99.2, to multiples of 4
    assert model.sizes == [(*size, flip) for size in sizes for flip in (False, True)]
    assert len(outputs) == 3
    for found in outputs:  # the best of the six views, and no other
        torch.testing.assert_close(found["boxes"], torch.tensor([[8.0, 8.0, 24.0, 24.0]]))
        assert found["scores"].item() == pytest.approx(0.61)
        expected = torch.zeros(1, 32, 64, dtype=torch.bool)
        expected[:, 8:24, 8:16] = True
        assert found["masks"].dtype == torch.bool
        assert (found["masks"] ^ expected).float().mean() < 0.03  # pasted masks end up to a pixel off


def test_one_view_is_left_as_it_is():
    model = Planted()
    (found,) = task().predict(model, marked_inputs(1))
    assert model.sizes == [(32, 64, False)]
    assert found["boxes"].tolist() == [[8.0, 8.0, 24.0, 24.0]]
    assert found["masks"].shape == (1, 32, 64)
    assert found["masks"][0, 8:24, 8:16].float().mean() > 0.9
    assert found["masks"].sum() == pytest.approx(16 * 8, abs=20)


def test_nothing_found_has_no_masks():
    class Blind(Planted):
        def forward(self, inputs):
            return [{key: part[:0] for key, part in each.items()} for each in super().forward(inputs)]

    (found,) = task({"test_scales": (0.5, 1.0)}).predict(Blind(), marked_inputs(1))
    assert found["masks"].shape == (0, 32, 64)


def test_views_merge_within_a_class_only():
    other = SimpleNamespace(labels=iter(([0], [1])))

    class Two(Planted):
        def forward(self, inputs):
            return [{**each, "labels": torch.tensor(next(other.labels))} for each in super().forward(inputs)]

    (found,) = task({"test_flip": True}).predict(Two(), marked_inputs(1))
    assert sorted(found["labels"].tolist()) == [0, 1]


# -- for people --------------------------------------------------------------------------------------------------------

TRUTH = target([[4, 8, 20, 24], [30, 30, 60, 60], [1, 1, 1, 9]], [0, 2, 1], [False, True, False])
FOUND = detections([[4, 8, 21, 24], [40, 2, 62, 20], [0, 0, 9, 9]], [0, 1, 2], [0.9, 0.4, 0.1])


def test_show_counts_and_names():
    assert task().show([FOUND, detections()], [TRUTH, target()]) == [
        {
            "truth": "3: 1 x cat, 1 x bird, 1 x dog",
            "prediction": "2: 1 x cat, 1 x dog",
            "best": [
                {"class": "cat", "score": 0.9, "box": [4.0, 8.0, 21.0, 24.0]},
                {"class": "dog", "score": 0.4, "box": [40.0, 2.0, 62.0, 20.0]},
                {"class": "bird", "score": 0.1, "box": [0.0, 0.0, 9.0, 9.0]},
            ],
        },
        {"truth": "0", "prediction": "0", "best": []},
    ]


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (2, 3, 64, 64), (4, 2, 2, 64, 64)])
def test_draw_marks_truth_and_predictions(shape):
    pictures = task().draw(torch.rand(shape), [FOUND, detections()], [TRUTH, target()])
    assert len(pictures) == 2
    assert pictures[0].size == pictures[1].size
    width = (pictures[0].width - 24) // 4
    assert width == 256
    panels = [np.asarray(pictures[0].crop((i * (width + 8), 20, i * (width + 8) + width, 276))) for i in range(4)]
    assert (panels[0] != panels[1]).any()
    assert (panels[1] != panels[2]).any()
    assert (panels[3] != panels[1]).any()  # what was found lies over the truth
    truth, both = (np.asarray(pictures[1].crop((264 * i, 20, 264 * i + 256, 276))) for i in (1, 3))
    assert (truth == both).all()  # nothing was found


def test_the_score_of_an_image_is_the_f1_of_what_is_shown():
    """By hand: of three objects one is found, one in the wrong class, and one twice."""
    truth = target([[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 60, 60]], [0, 1, 2])
    found = detections(
        [[0, 0, 10, 9], [20, 20, 30, 30], [40, 40, 60, 54], [40, 46, 60, 60], [0, 50, 9, 59]],
        [0, 0, 2, 2, 1],
        [0.9, 0.8, 0.7, 0.6, 0.2],  # the last one is too unlikely to be shown
    )
    both_right = 2 * 2 / (2 * 2 + 2 + 1)  # two right, two wrong, one missed
    scores, pairs = task().judge([found, detections(), detections()], [truth, truth, target()])
    assert scores == [both_right, 0.0, 1.0]
    assert pairs is None


def test_detections_in_a_crowd_do_not_count():
    truth = target([[0, 0, 10, 10], [20, 20, 50, 50]], [0, 0], crowd=[False, True])
    found = detections([[0, 0, 10, 10], [22, 22, 30, 30], [52, 2, 60, 9]], [0, 0, 0], [0.9, 0.8, 0.7])
    assert task().judge([found], [truth])[0] == [2 / 3]
    assert task().judge([detections()], [target([[20, 20, 50, 50]], [0], crowd=[True])])[0] == [1.0]


def test_draw_fills_masks_of_objects():
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[:, 16:48, 16:48] = True
    truth = target([[16, 16, 48, 48]], [0], masks=masks)
    found = {**detections([[16, 16, 48, 48]], [0], [0.9]), "masks": masks}
    (picture,) = task({"name": "mask_rcnn"}).draw(torch.zeros(1, 1, 64, 64), [found], [truth])
    (plain,) = task().draw(torch.zeros(1, 1, 64, 64), [detections()], [truth])
    inside = 264 + 128, 20 + 128
    assert picture.getpixel(inside) != (0, 0, 0)
    assert picture.getpixel(inside) == picture.getpixel((inside[0] + 264, inside[1]))
    assert plain.getpixel(inside) == (0, 0, 0)


def test_of_several_guesses_at_one_object_the_best_is_shown():
    """Suppression within classes leaves a guess of each class, and the last one drawn would hide the others."""
    boxes = [[8, 8, 40, 40], [9, 8, 40, 41], [44, 44, 60, 60]]
    many, best = detections(boxes, [0, 1, 2], [0.8, 0.35, 0.5]), detections([boxes[0], boxes[2]], [0, 2], [0.8, 0.5])
    inputs, truth = torch.zeros(1, 1, 64, 64), [target()]
    assert task().show([many], truth)[0]["prediction"] == task().show([best], truth)[0]["prediction"]
    (picture,), (wanted,) = (task().draw(inputs, [found], truth) for found in (many, best))
    assert picture.tobytes() == wanted.tobytes()

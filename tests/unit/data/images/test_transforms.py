"""timm's pipeline, set up from a config."""

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image

from step_ahsar.config import DataConfig
from step_ahsar.data import find_dataset, seeded
from step_ahsar.data.images.transforms import build_transform
from step_ahsar.errors import UserError


def transform(training=True, name="torch/cifar10", **config):
    return build_transform(DataConfig(name=name, **config), find_dataset(name), training)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def test_photographs_are_normalised_as_by_timm():
    spec = find_dataset("folder/flowers")
    assert (spec.mean, spec.std) == (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)


def test_without_augmentation_training_and_test_images_are_treated_alike(image):
    assert torch.equal(transform(True)(image), transform(False)(image))


@pytest.mark.parametrize(
    "config",
    [
        {"hflip": 1.0},
        {"scale": (0.2, 0.3)},
        {"ratio": (0.5, 0.6)},
        {"color_jitter": 0.4},
        {"color_jitter": 0.4, "auto_augment": "3a"},
        {"auto_augment": "rand-m9-mstd0.5-inc1"},
        {"re_prob": 1.0},
        {"re_prob": 1.0, "re_mode": "pixel"},
    ],
)
def test_each_key_changes_training_images_only(config, image):
    with seeded(0):
        changed = transform(True, **config)(image)
    assert not torch.equal(changed, transform(True)(image))
    assert torch.equal(transform(False, **config)(image), transform(False)(image))


@pytest.mark.parametrize(
    "config", [{"mean": (0.0, 0.0, 0.0)}, {"std": (1.0, 1.0, 1.0)}, {"crop_pct": 0.5}, {"img_size": 48}]
)
def test_each_key_changes_test_images(config, image):
    changed, plain = transform(False, **config)(image), transform(False)(image)
    assert changed.shape != plain.shape or not torch.equal(changed, plain)


def test_the_interpolation_counts_when_sizes_differ(image):
    made = {
        name: transform(False, img_size=48, interpolation=name)(image) for name in ("bilinear", "bicubic", "nearest")
    }
    assert not torch.equal(made["bilinear"], made["bicubic"])
    assert not torch.equal(made["bilinear"], made["nearest"])


@pytest.mark.parametrize("policy", ["rand-m10-n12-inc1", "rand-m10-n12", "v0", "augmix-m10-w2-d4"])
@pytest.mark.parametrize("name", ["torch/cifar10", "digits"])
def test_policies_run_at_full_magnitude_in_colour_and_grey(policy, name, image):
    """Pillow 13 refuses what timm asks of it at magnitude 10."""
    made = transform(True, name=name, auto_augment=policy)
    for _ in range(60):
        assert made(image.convert("L") if name == "digits" else image).isfinite().all()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"name": "digits", "hflip": 0.5}, "data.hflip must be 0 for dataset 'digits'"),
        ({"name": "torch/mnist", "hflip": 0.5}, "data.hflip must be 0"),
        ({"mean": (0.5,)}, "data.mean must have one value per channel, 3 for dataset 'torch/cifar10', got [0.5]"),
        ({"std": (0.5,)}, "data.std must have one value per channel"),
        (
            {"color_jitter": 0.4, "auto_augment": "rand-m9"},
            "data.color_jitter must be 0 with data.auto_augment 'rand-m9'",
        ),
        ({"auto_augment": "rnd-m9"}, "data.auto_augment must be a policy of timm"),
        ({"auto_augment": "rand-x3"}, "data.auto_augment must be a policy of timm"),
    ],
)
def test_faults(config, words):
    with pytest.raises(UserError) as error:
        transform(**config)
    assert words in str(error.value)

"""What timm's own tests of models ask, for every model of the zoo.

Left out: TorchScript and FX; the number of feature levels, since models of one resolution have as many as blocks, small
ones two; and ``feature_dim``, which timm reads for pooled outputs [B, C] and for others, here [T, B, C, H, W], alike.
"""

import pytest
import timm
import torch
from torch import Tensor

from step_ahsar.models import SpikingTransformer
from tests.contract.models.zoo import ALL, SMALL, small


def create(name: str, **options: object) -> SpikingTransformer:
    torch.manual_seed(0)
    return timm.create_model(name, **options)


def images(name: str, batch: int) -> Tensor:
    """Of the size that the model was published for; a series has no height."""
    channels, height, width = timm.get_pretrained_cfg(name).input_size
    size = (width,) if "_seq_" in name else (height, width)
    if max(size) > 64 and small(name):  # the size of ImageNet, made small
        size = (64, 64)
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_forward(name: str) -> None:
    logits = create(name).eval()(images(name, 1))
    assert logits.shape == (1, timm.get_pretrained_cfg(name).num_classes)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", SMALL)
def test_backward(name: str) -> None:
    model = create(name, num_classes=42).train()
    logits = model(images(name, 2))
    logits.mean().backward()
    assert logits.shape == (2, 42)
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ALL)
def test_record(name: str) -> None:
    """The record says what the model is: sizes, first convolution, classifier."""
    with torch.device("meta"):
        model = create(name)
    cfg = model.default_cfg
    state = model.state_dict()
    for layer in (cfg["first_conv"], cfg["classifier"]):
        assert {f"{layer}.weight", f"{layer}.parametrizations.weight.original"} & set(state)
    _, height, width = cfg["input_size"]
    assert cfg["pool_size"] == (1 if model.ndim == 1 else height // model.stride, width // model.stride)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_unpooled_and_without_a_classifier(name: str) -> None:
    model, x = create(name).eval(), images(name, 1)
    space = tuple(n // model.stride for n in x.shape[2:])
    features = model.forward_features(x)
    assert features.shape == (model.time_steps, 1, model.num_features, *space)
    model.reset_classifier(0)
    assert model(x).shape == (1, model.num_features)
    model.reset_classifier(0, "")
    assert model(x).shape == (1, model.num_features, *space)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_features(name: str) -> None:
    x = images(name, 1)
    model = create(name, features_only=True).eval()
    outputs = model(x)
    assert len(outputs) == len(model.feature_info.channels()) >= 2
    for out, channels, reduction in zip(
        outputs, model.feature_info.channels(), model.feature_info.reduction(), strict=True
    ):
        assert out.shape == (1, channels, *(n // reduction for n in x.shape[2:]))
        assert out.isfinite().all()
    whole = create(name).eval()
    final, intermediates = whole.forward_intermediates(x)
    assert torch.equal(final, whole.forward_features(x))
    for out, same in zip(outputs, intermediates, strict=True):
        assert torch.equal(out, same)
    assert all(whole.get_submodule(level["module"]) is not None for level in whole.feature_info)

"""Fairness: what is asked for arrives in every small model."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from step_ahsar.errors import UserError
from step_ahsar.layers import (
    ConvStem,
    DeformedShortcutEmbedding,
    Downsampling,
    DualSpikeAttention,
    ExpertsAttention,
    PatchEmbedding,
    PatchSplitting,
    SpikingAttention,
)
from step_ahsar.layers.fixed import FixedSpikes
from step_ahsar.models import model_arguments
from tests.contract.models.zoo import FAMILIES, FOR_MANY_CASES, SMALL, create, inputs, lively


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_every_option_changes_the_logits(name: str) -> None:
    reference = lively(name)
    x = inputs(reference)
    logits = reference(x)
    pools_first = any(getattr(module, "pool_first", False) for module in reference.modules())
    changes: list[dict[str, Any]] = [
        {"time_steps": 2}, {"threshold": 1.3}, {"attn_threshold": 9.0}, {"tau": 3.0}, {"reset": "soft"},
        {"neuron": "if"}, {"attn_scale": 0.02}, {"pool_first": not pools_first}, {"mixing": 0.9},
        {"weight_bits": 3}, {"stem": "patch"}, {"attention": "random"}, {"attention": "none"},
    ]  # fmt: skip
    own = {*(model_arguments(name) or ()), "tau", "reset"}
    without = {"attn_threshold", "attention"} if FAMILIES[name] == "swformer" else set()
    if name == "msqkformer_3_64":
        without = {"pool_first"}  # all its pools are at the ends of branches, where no neuron follows
    for change in changes:
        if change.keys() <= own - without:
            assert not torch.equal(
                lively(name, **{"attn_threshold": None, **change} if "attention" in change else change)(x), logits
            ), change


@pytest.mark.parametrize("name", SMALL)
def test_options_of_the_gradient_change_the_gradient(name: str) -> None:
    def gradient(**options: Any) -> Tensor:
        model = create(name, **options)
        model(inputs(model)).square().sum().backward()
        first = next(model.parameters()).grad
        assert first is not None
        return first

    published = {"surrogate": "sigmoid", "alpha": 4.0, "detach_reset": True}
    reference = gradient(**published)
    for change in ({"surrogate": "atan"}, {"alpha": 2.0}, {"detach_reset": False}):
        assert not torch.equal(gradient(**{**published, **change}), reference), change
    if FAMILIES[name] == "spikingresformer":
        published = {"surrogate": "atan", "alpha": 2.0}
    assert torch.equal(gradient(), gradient(**published))


@pytest.mark.parametrize("name", FOR_MANY_CASES)
def test_ablations_leave_out_what_they_say(name: str) -> None:
    """A stem of patches has one convolution; without attention none is left; random attention has no product."""

    def kinds(**options: Any) -> list[torch.nn.Module]:
        return list(lively(name, **options).modules())

    if FAMILIES[name] == "swformer":
        with pytest.raises(UserError, match="SWformer mixes tokens without attention"):
            create(name, attention="none")
    else:
        attentions = (SpikingAttention, DualSpikeAttention, ExpertsAttention)
        assert any(isinstance(m, attentions) for m in kinds())
        assert not any(isinstance(m, attentions) for m in kinds(attention="none", attn_threshold=None))
        random = lively(name, attention="random", attn_threshold=None)
        assert any(isinstance(m, FixedSpikes) for m in random.modules())
        random(inputs(random)).square().sum().backward()
        assert not [key for key, p in random.named_parameters() if p.grad is None]
        with pytest.raises(UserError, match="unknown attention 'x'; known: none, own, random"):
            create(name, attention="x")
        with pytest.raises(UserError, match="attn_threshold has no effect without the family's own attention"):
            create(name, attention="none", attn_threshold=0.5)
    stems = (PatchSplitting, ConvStem, DeformedShortcutEmbedding, Downsampling)
    assert not any(type(m) in stems for m in kinds(stem="patch"))
    assert any(isinstance(m, PatchEmbedding) for m in kinds(stem="patch"))
    with pytest.raises(UserError, match="unknown stem 'x'; known: conv, patch"):
        create(name, stem="x")


@pytest.mark.parametrize("name", ["spikformer_2_64", "qkformer_3_64"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_steps": 0}, "time_steps must be an integer >= 1, got 0"),
        ({"time_steps": 2.5}, "time_steps must be an integer >= 1, got 2.5"),
        ({"threshold": 0}, "threshold must be > 0"),
        ({"attn_threshold": -1.0}, "threshold must be > 0"),
        ({"tau": 1.0}, "tau"),
        ({"neuron": "liff"}, "did you mean 'lif'"),
        ({"backend": "torhc"}, "did you mean 'torch'"),
        ({"surrogate": "sigmiod"}, "did you mean 'sigmoid'"),
        ({"neuron": "if", "tau": 2.0}, "tau"),
        ({"drop_path_rate": 0.1}, "drop_path_rate"),
        ({"heads": 7}, "heads must divide"),
        ({"in_chans": 0}, "in_chans must be >= 1"),
        ({"ndim": 3}, "ndim must be 1"),
    ],
)
def test_options_it_cannot_honour(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        timm.create_model(name, **options)
    assert "\n" not in str(error.value)

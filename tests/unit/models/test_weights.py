"""Files of weights that fit a model, that can be made to fit, and that do not fit."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from torch import nn

import step_ahsar.models  # noqa: F401  # registers the models
from step_ahsar.ahsar import fold
from step_ahsar.errors import UserError

pytestmark = pytest.mark.xdist_group("weights")  # what every model's weights look like is found once in a process


def file_of(model: nn.Module, folder: Path) -> dict[str, Any]:
    safetensors.torch.save_file(model.state_dict(), folder / "weights.safetensors")
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(folder / "weights.safetensors")}}


def refusal(name: str, given: dict[str, Any], **options: Any) -> str:
    with pytest.raises(UserError) as error:
        timm.create_model(name, **given, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_fits_is_read_without_a_word(tmp_path: Path) -> None:
    model = timm.create_model("sdt_2_64", neuron="ahsar")
    with torch.no_grad():
        model.blocks[0].attn.q.neuron.threshold_scale.fill_(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = timm.create_model("sdt_2_64", neuron="ahsar", **file_of(model, tmp_path))
    for key, value in model.state_dict().items():
        assert torch.equal(read.state_dict()[key], value)


@pytest.mark.parametrize(("neuron", "what"), [("ahsar", "threshold_scale"), ("plif", "w")])
def test_another_neuron_keeps_what_it_owns(neuron: str, what: str, tmp_path: Path) -> None:
    plain = timm.create_model("sdt_2_64")
    with pytest.warns(UserWarning, match=f"the weights hold no {what} of neurons: 19 tensors stay as in a new model"):
        read = timm.create_model("sdt_2_64", neuron=neuron, **file_of(plain, tmp_path))
    for key, value in plain.state_dict().items():
        assert torch.equal(read.state_dict()[key], value)


def test_learnt_thresholds_are_not_dropped(tmp_path: Path) -> None:
    regulated = timm.create_model("sdt_2_64", neuron="ahsar")
    for name, buffer in regulated.named_buffers():
        if name.endswith("threshold_scale"):
            buffer.fill_(0.5)
    told = refusal("sdt_2_64", file_of(regulated, tmp_path))
    assert "19 have no place in it, 'blocks.0.attn.k.neuron.threshold_scale' first" in told
    assert "They fit sdt_2_64, " in told
    assert told.endswith("if neuron, norm and classes are those that they were trained with")
    for plain in (fold(regulated), timm.create_model("sdt_2_64", neuron="ahsar")):  # scales of 1 are none
        read = timm.create_model("sdt_2_64", **file_of(plain, tmp_path))
        assert torch.equal(read.head.weight, plain.head.weight)


def test_quantised_layers_take_full_precision(tmp_path: Path) -> None:
    plain = timm.create_model("sdt_2_64")
    read = timm.create_model("sdt_2_64", weight_bits=4, **file_of(plain, tmp_path))
    weight, layer = plain.blocks[1].attn.q.conv.weight, read.blocks[1].attn.q.conv
    assert torch.equal(layer.parametrizations.weight.original, weight)
    expected = 2 * weight.abs().flatten(1).mean(1) / 7**0.5  # LSQ, section 2.1
    torch.testing.assert_close(layer.parametrizations.weight[0].step.data, expected.detach())
    told = refusal("sdt_2_64", file_of(read, tmp_path))
    assert "parametrizations.weight.0.step' first. Such keys have models of sdt or spikformer, of another size" in told


@pytest.mark.parametrize(
    ("there", "options", "here", "words"),
    [
        ("spikingformer_2_64", {}, "sdt_2_64", "They fit spikingformer_2_64"),
        ("sdt_2_64", {"dim": 32}, "sdt_2_64", "Such keys have models of "),
        ("sdt_2_64", {"depth": 3}, "sdt_2_64", "Such keys have models of "),
        ("qkformer_3_64", {}, "maxformer_3_64", "They fit msqkformer_3_64, qkformer_3_64"),
        ("sdt_2_64", {"norm": "tebn"}, "sdt_2_64", "of another size, norm,"),
        ("qsd_2_64", {}, "metaspikeformer_2_64", "They fit qsd_2_64"),
    ],
)
@pytest.mark.parametrize("classes", [10, 3])  # timm reads files for other classes less strictly
def test_weights_of_another_model(
    there: str, options: dict[str, Any], here: str, words: str, classes: int, tmp_path: Path
) -> None:
    told = refusal(here, file_of(timm.create_model(there, **options), tmp_path), num_classes=classes)
    assert told.startswith(f"the weights do not fit this {type(timm.create_model(here)).__name__}: ")
    assert words in told


def test_a_norm_of_another_number_of_steps(tmp_path: Path) -> None:
    weights = file_of(timm.create_model("sdt_2_64", norm="tebn", time_steps=4), tmp_path)
    told = refusal("sdt_2_64", weights, norm="tebn", time_steps=8)
    assert "'patch_embed.stages.0.norm.step_scale' first, which is [4], not [8]" in told


def test_classes_and_channels_that_nobody_named(tmp_path: Path) -> None:
    """The record says 10 classes and 3 channels."""
    weights = file_of(timm.create_model("sdt_2_64", num_classes=7, in_chans=1), tmp_path)
    assert "'head.weight' first, which is [7, 64], not [10, 64]" in refusal("sdt_2_64", weights, in_chans=1)
    assert "'patch_embed.stages.0.conv.weight' first, which is [8, 1, 3, 3], not [8, 3, 3, 3]" in refusal(
        "sdt_2_64", weights, num_classes=7
    )
    weights["pretrained_cfg_overlay"] |= {"num_classes": 7, "input_size": (1, 32, 32)}
    timm.create_model("sdt_2_64", **weights)


def test_a_file_that_is_not_there() -> None:
    assert refusal("sdt_2_64", {"pretrained": True, "pretrained_cfg_overlay": {"file": "no.pth"}}) == (
        "weights for 'sdt_2_64': there is no 'no.pth'"
    )

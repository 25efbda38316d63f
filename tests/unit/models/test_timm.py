"""The models behave as timm's users expect."""

import copy
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import timm.data
import timm.optim
import torch
from timm.models import group_parameters

from step_ahsar.errors import UserError
from step_ahsar.models import list_models
from step_ahsar.neurons import list_neurons
from step_ahsar.variants import list_variants

# Every name that the zoo promises.
PUBLISHED = {
    "spikformer_4_384", "spikformer_8_384", "spikformer_8_512", "spikformer_8_768", "spikformer_dvs_2_256",
    "spikformer_seq_4_384", "qkformer_4_384", "qkformer_10_384", "qkformer_10_512", "qkformer_10_768",
    "qkformer_dvs_2_256", "msqkformer_4_384",
    *(f"spikingformer_{size}" for size in ("4_256", "2_384", "4_384", "8_384", "8_512", "8_768", "dvs_2_256")),
    *(f"sdt_{size}" for size in ("8_384", "6_512", "8_512", "10_512", "8_768", "2_512", "dvs_2_256")),
    *(f"maxformer_{size}" for size in ("4_384", "10_384", "10_512", "10_768", "dvs_2_256")),
    *(f"{family}_{size}" for family in ("metaspikeformer", "qsd") for size in ("8_256", "8_384", "8_512")),
    *(f"espikeformer_{size}" for size in "tsml"),
    *(f"spikingresformer_{size}" for size in ("ti", "s", "m", "l", "cifar_ti")),
    "tim_dvs_2_256", "semm_4_384", "semm_8_512",
    *(f"sglformer_{size}" for size in ("4_384", "8_384", "8_512", "8_768")),
    *(f"swformer_{size}" for size in ("4_384", "6_512", "8_512")),
}  # fmt: skip


def create(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, threshold=0.3, **options).eval()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_registry() -> None:
    assert set(list_models()) >= PUBLISHED
    assert set(timm.list_models("spikformer*")) == set(list_models("spikformer"))
    assert set(timm.list_models("*qkformer*")) == set(list_models("qkformer"))
    assert set(timm.list_models(module="qkformer")) == set(list_models("qkformer"))
    assert all(timm.is_model(name) for name in list_models())
    assert not set(timm.list_pretrained()) & set(list_models())


def test_variants_are_known_as_timm_knows_them() -> None:
    sizes = {name: variant.input_size for name, variant in list_variants().items()}
    assert sizes == {name: timm.get_pretrained_cfg(name).input_size for name in list_models()}
    assert (sizes["qkformer_4_384"], sizes["qkformer_seq_4_384"]) == ((3, 32, 32), (3, 1, 1024))


def test_cfg() -> None:
    cfg = timm.models.get_pretrained_cfg("spikformer_4_384")
    assert (cfg.input_size, cfg.num_classes, cfg.classifier) == ((3, 32, 32), 10, "head")
    model = create("qkformer_3_64")
    assert model.default_cfg is model.pretrained_cfg
    assert model.default_cfg["architecture"] == "qkformer_3_64"
    for key in ("first_conv", "classifier"):
        assert isinstance(model.get_submodule(model.default_cfg[key]), torch.nn.Conv2d | torch.nn.Linear)
    assert timm.models.get_pretrained_cfg("spikformer_seq_2_64").input_size == (1, 1, 64)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 32, 32)


def test_create_model_arguments() -> None:
    model = create("spikformer_2_64", num_classes=7, in_chans=1, img_size=(16, 8), time_steps=3)
    assert model(images(2, 1, 16, 8)).shape == (2, 7)
    assert model(images(2, 1, 8, 8)).shape == (2, 7)  # another size that fits
    assert model.forward_features(images(2, 1, 16, 8)).shape == (3, 2, 64, 4, 2)


def test_pretrained_weights_are_refused_or_read_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights are published for 'qkformer_3_64'"):
        timm.create_model("qkformer_3_64", pretrained=True)
    model = create("qkformer_3_64")
    safetensors.torch.save_file(model.state_dict(), tmp_path / "own.safetensors")
    overlay = {"file": str(tmp_path / "own.safetensors")}
    loaded = create("qkformer_3_64", pretrained=True, pretrained_cfg_overlay=overlay)
    x = images(2, 3, 16, 16)
    assert torch.equal(loaded(x), model(x))
    finetuned = create("qkformer_3_64", pretrained=True, pretrained_cfg_overlay=overlay, in_chans=1, num_classes=3)
    assert finetuned(images(2, 1, 16, 16)).shape == (2, 3)


def test_classifier() -> None:
    model = create("spikformer_2_64")
    x = images(2, 3, 16, 16)
    assert model.get_classifier() is model.head
    assert 0 < model.head.weight.std() < 0.03
    assert not model.head.bias.any()
    model.reset_classifier(4)
    assert model(x).shape == (2, 4)
    assert model.num_classes == 4
    features = model.forward_features(x)
    assert torch.equal(model.forward_head(features), model(x))
    assert torch.equal(model.forward_head(features, pre_logits=True), features.flatten(3).mean(3).mean(0))
    model.reset_classifier(0)
    assert model(x).shape == (2, model.num_features)
    model.reset_classifier(0, "")
    assert torch.equal(model(x), features.mean(0))
    assert create("spikformer_2_64", num_classes=0, global_pool="")(x).shape == (2, 64, 4, 4)
    for classes, pool in ((3, None), (-1, "avg"), (3, "max")):
        with pytest.raises(UserError, match="global_pool"):
            model.reset_classifier(classes, pool)


@pytest.mark.parametrize(
    ("name", "channels", "reduction"),
    [
        ("spikformer_2_64", [64, 64], [4, 4]),
        ("spikformer_imagenet_2_64", [64, 64], [16, 16]),
        ("qkformer_3_64", [16, 32, 64], [1, 2, 4]),
        ("qkformer_imagenet_3_64", [16, 32, 64], [4, 8, 16]),
        ("qkformer_dvs_2_64", [32, 64], [8, 16]),
    ],
)
def test_features_only(name: str, channels: list[int], reduction: list[int]) -> None:
    model = create(name, features_only=True, in_chans=3)
    assert model.feature_info.channels() == channels
    assert model.feature_info.reduction() == reduction
    x = images(2, 3, 32, 64)
    outputs = model(x)
    assert [tuple(o.shape) for o in outputs] == [
        (2, c, 32 // r, 64 // r) for c, r in zip(channels, reduction, strict=True)
    ]
    assert not any("head" in key for key in model.state_dict())
    whole = create(name, in_chans=3)
    assert torch.equal(outputs[-1], whole.forward_features(x).mean(0))
    assert all(whole.get_submodule(info["module"]) for info in whole.feature_info)

    first = create(name, features_only=True, in_chans=3, out_indices=(0,))
    assert torch.equal(first(x)[0], outputs[0])
    assert first.feature_info.channels() == channels[:1]
    assert len(first.model.levels) == 1  # what lies behind is gone
    assert len(create(name, features_only=True, in_chans=3, out_indices=(-1,))(x)) == 1


def test_features_of_a_sequence() -> None:
    outputs = create("qkformer_seq_3_64", features_only=True)(images(2, 1, 32))
    assert [tuple(o.shape) for o in outputs] == [(2, 16, 32), (2, 32, 16), (2, 64, 8)]


def test_forward_intermediates() -> None:
    model = create("qkformer_3_64")
    x = images(2, 3, 16, 16)
    final, features = model.forward_intermediates(x)
    assert torch.equal(final, model.forward_features(x))
    assert len(features) == 3
    assert torch.equal(features[-1], final.mean(0))
    (last,) = model.forward_intermediates(x, indices=1, intermediates_only=True)
    assert torch.equal(last, features[-1])
    (tokens,) = model.forward_intermediates(x, indices=[1], output_fmt="NLC", intermediates_only=True, stop_early=True)
    assert torch.equal(tokens, features[1].flatten(2).mT)
    model.per_step = True
    steps = model.forward_intermediates(x, indices=[0, -1], norm=True, intermediates_only=True)
    assert [tuple(s.shape) for s in steps] == [(4, 2, 16, 16, 16), (4, 2, 64, 4, 4)]
    with pytest.raises(UserError, match="output_fmt must be 'NCHW' or 'NLC', got 'NHWC'"):
        model.forward_intermediates(x, output_fmt="NHWC")


def test_prune_intermediate_layers() -> None:
    model = create("qkformer_3_64")
    x = images(2, 3, 16, 16)
    _, features = model.forward_intermediates(x)
    assert model.prune_intermediate_layers([0, 1]) == [0, 1]
    assert model.num_features == 32
    assert torch.equal(model(x), features[1])
    model.reset_classifier(3, "avg")
    assert model(x).shape == (2, 3)


def test_features_alone_have_no_neuron_of_the_head() -> None:
    """It would never run, and a controller would wait for it."""
    features = timm.create_model("sdt_2_64", features_only=True, time_steps=2)
    assert not [name for name, _ in features.named_modules() if "head_neuron.neuron" in name]
    assert [name for name, _ in create("sdt_2_64").named_modules() if "head_neuron.neuron" in name]


@pytest.mark.parametrize("name", ["spikformer_2_64", "qkformer_3_64"])
def test_gradient_checkpointing_changes_nothing(name: str) -> None:
    plain = create(name).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.set_grad_checkpointing()
    x = images(3, 3, 16, 16)
    for model in (plain, checkpointed):
        model(x).square().sum().backward()
    for p, q in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)
    for (key, p), q in zip(plain.named_buffers(), checkpointed.buffers(), strict=True):
        assert torch.equal(p, q), key
    assert int(next(q for key, q in checkpointed.named_buffers() if key.endswith("tracked"))) == 1


@pytest.mark.parametrize("name", ["spikformer_2_64", "qkformer_3_64"])
@pytest.mark.parametrize("coarse", [False, True])
def test_group_matcher(name: str, coarse: bool) -> None:
    model = create(name)
    groups = group_parameters(model, model.group_matcher(coarse=coarse))
    assert sorted(p for group in groups.values() for p in group) == sorted(n for n, _ in model.named_parameters())
    by_name = {parameter: index for index, group in groups.items() for parameter in group}
    first, last = by_name[f"{model.default_cfg['first_conv']}.weight"], by_name["head.weight"]
    assert first == 0
    assert last == max(groups)
    assert len(groups) >= 1 + len(model.levels)


@pytest.mark.parametrize("neuron", [name for name in list_neurons("torch") if name != "ahsar"])
def test_weight_decay_spares_norms_biases_and_neurons(neuron: str) -> None:
    """Fault: neurons' own parameters of two dimensions (psn, glif, hdlif) decayed."""
    model = create("spikformer_2_64", neuron=neuron)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {n for n, _ in model.named_parameters() if n.endswith("conv.weight")} | {"head.weight"}


# What timm's train.py passes to create_model for every model, at its defaults.
TRAIN_PY: dict[str, Any] = {
    "pretrained": False,
    "in_chans": 3,
    "num_classes": 10,
    "drop_rate": 0.0,
    "drop_path_rate": None,
    "drop_block_rate": None,
    "global_pool": None,
    "bn_momentum": None,
    "bn_eps": None,
    "scriptable": False,
    "checkpoint_path": "",
}


def test_the_arguments_of_timms_train_py() -> None:
    """Fault: drop_rate=0.0 and the like, which every model of timm takes, were refused."""
    assert create("spikformer_2_64", **TRAIN_PY)(images(2, 3, 16, 16)).shape == (2, 10)
    neutral = {"drop_path_rate": 0.0, "drop_block_rate": 0.0, "attn_drop_rate": 0.0, "proj_drop_rate": 0.0}
    create("qkformer_3_64", **{**TRAIN_PY, **neutral})
    for name in ("drop_rate", "drop_path_rate", "drop_block_rate", "attn_drop_rate"):
        with pytest.raises(UserError, match=rf"model 'spikformer_2_64' has no {name}; leave it at 0, got 0.1"):
            create("spikformer_2_64", **{**TRAIN_PY, name: 0.1})


@pytest.mark.parametrize("name", ["spikformer_seq_2_64", "qkformer_seq_3_64"])
@pytest.mark.parametrize("length", [29, 78, 1])
def test_sequences_of_any_length(name: str, length: int) -> None:
    """Fault: lengths that the stride does not divide were refused. Zeros follow up to the next multiple."""
    model = create(name, img_size=length)
    for parameter in model.parameters():
        if parameter.ndim == 1:  # of norms: with them zeros are not without effect
            torch.nn.init.uniform_(parameter, 0.1, 1)
    x = images(2, 1, length)
    padded = torch.nn.functional.pad(x, (0, -length % model.stride))
    assert padded.shape[-1] % model.stride == 0
    assert torch.equal(model(x), model(padded))

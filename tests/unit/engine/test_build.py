"""What validate() finds without training."""

import pytest

from step_ahsar.config import Config
from step_ahsar.engine import build, validate
from step_ahsar.errors import UserError
from step_ahsar.neurons import registry
from step_ahsar.neurons.torch import LIF


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task": "segmantation"}, "unknown task 'segmantation'"),
        ({"data.name": "digit"}, "unknown dataset 'digit'; did you mean 'digits'?"),
        ({"model.name": "spikformer_2_46"}, "unknown model 'spikformer_2_46'; did you mean 'spikformer_2_64'?"),
        ({"model.name": "resnet18"}, "model 'resnet18' takes no argument 'img_size': it seems to be no spiking model"),
        ({"model.neuron": "liff"}, "unknown neuron 'liff'; did you mean 'lif'?"),
        ({"model.backend": "tensorflow"}, "unknown backend 'tensorflow'"),
        ({"model.surrogate": "sigmoyd"}, "unknown surrogate 'sigmoyd'; did you mean 'sigmoid'?"),
        ({"model.neuron": "if", "model.tau": 2.0}, "tau"),
        ({"model.neuron": "ahsar", "model.base": "liff"}, "unknown neuron 'liff'"),
        ({"model.base": "lif"}, "base"),
        ({"model.args": {"dpeth": 3}}, "dpeth"),
        (
            {"data.img_size": 10},
            "cannot take size 10x10: height and width must be multiples of 4, such as 8x8 or 12x12",
        ),
        ({"train.optimizer": "adamv"}, "unknown optimizer 'adamv'; did you mean 'adam"),
        ({"data.hflip": 0.5}, "data.hflip must be 0"),
        ({"data.auto_augment": "x"}, "data.auto_augment"),
    ],
)
def test_faults(values, words):
    with pytest.raises(UserError) as error:
        validate(Config().with_values(values))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data.name": "torch/cifra10"}, "unknown dataset 'torch/cifra10'; did you mean 'torch/cifar10'"),
        ({"data.name": "digits/typo"}, "dataset 'digits' takes no title"),
        ({"head.name": "fpm", "task": "segmentation", "data.name": "digits_scenes"}, "unknown segmentation head 'fpm'"),
        ({"data.encoder": "rat"}, "unknown encoder 'rat'; did you mean 'rate'"),
        ({"train.loss": "tte"}, "unknown loss of classification 'tte'; did you mean 'tet'"),
        ({"data.name": "digits_events", "data.events.representation": "tim"}, "unknown representation of events 'tim'"),
        ({"model.args": {"no_jit": True}}, "unknown argument of model 'spikformer_2_64' with neuron 'lif': 'no_jit'"),
        ({"model.args": {"pretrained_strict": False}}, "'pretrained_strict'"),
        ({"model.args": {"drop_rate": 0.1}}, "'drop_rate'"),
        ({"model.args": {"base": "plif"}, "model.neuron": "ahsar"}, "model.args.base: set model.base instead"),
        ({"model.args": {"threshold": 0.5}}, "model.args.threshold: set model.threshold instead"),
        ({"model.args": {"num_classes": 3}}, "model.args.num_classes: cannot be set; it follows from the data"),
        ({"model.args": {"img_size": 8}}, "model.args.img_size: cannot be set here; set data.img_size"),
    ],
)
def test_names_and_arguments(values, words):
    """Faults: several of these were accepted, or failed only when the model was built for training."""
    with pytest.raises(UserError) as error:
        validate(Config().with_values(values))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_type_error_of_the_program_is_none_of_the_user(monkeypatch):
    """Fault: a TypeError of our own constructor became a user error."""

    def broken(*_, **__):
        raise TypeError("unsupported operand type(s) for +: 'int' and 'str'")

    monkeypatch.setattr(build.timm, "create_model", broken)
    with pytest.raises(TypeError, match="unsupported operand"):
        validate(Config())


def helper(value):
    return value


class Broken(LIF):
    """Its constructor calls a function in a wrong way, with an argument that is called as one of a model's."""

    def __init__(self, **options):
        super().__init__(**options)
        helper(threshold=self.threshold)


def test_a_type_error_inside_a_neuron_is_none_of_the_user(monkeypatch):
    """Fault: it was taken for an argument that the model does not have."""
    monkeypatch.setitem(registry._factories, ("broken", "torch"), Broken)
    with pytest.raises(TypeError, match="helper"):
        validate(Config().with_values({"model.neuron": "broken"}))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"depth": "two"}, "model.args.depth must be an integer, got 'two'"),
        ({"dim": 64.0}, "model.args.dim must be an integer, got 64.0"),
        ({"dim": [16]}, "model.args.dim must be an integer, got [16]"),
        ({"dim": True}, "model.args.dim must be an integer, got True"),
        ({"pools": 3}, "model.args.pools"),
        ({"pools": [1, 2, 3, 4]}, "model.args.pools[0] must be true or false, got 1"),
        ({"mlp_ratio": "x"}, "model.args.mlp_ratio must be a number, got 'x'"),
        ({"qkv_bias": "abc"}, "model.args.qkv_bias must be true or false, got 'abc'"),
        ({"attn_scale": "x"}, "model.args.attn_scale must be a number, got 'x'"),
        ({"pretrained_cfg": "x"}, "model.args.pretrained_cfg"),
        (
            {"pretrained_cfg_overlay": {"fil": "x"}},
            "unknown field of model.args.pretrained_cfg_overlay: 'fil'; did you",
        ),
        ({"mlp_ratio": float("nan")}, "model.args.mlp_ratio must be finite, got nan"),
        ({"mlp_ratio": float("inf")}, "model.args.mlp_ratio must be finite, got inf"),
        ({"dim": 8 * 10**9}, "model.args {'dim': 8000000000} is too large"),
        ({"pretrained_cfg": {"num_classes": "x"}}, "model.args.pretrained_cfg.num_classes must be an integer, got 'x'"),
        ({"pretrained_cfg_overlay": {"input_size": "x"}}, "model.args.pretrained_cfg_overlay.input_size is wrong"),
        ({"dim": 0}, "dim must be a multiple of 8, got 0"),
        ({"dim": -8}, "dim must be a multiple of 8, got -8"),
        ({"depth": 0}, "depth must be >= 1, got 0"),
        ({"heads": 0}, "cannot have 0 heads"),
        ({"mlp_ratio": 0}, "an MLP of 64 channels cannot have 0 times as many hidden ones"),
        ({"mlp_ratio": -1}, "cannot have -1 times"),
        ({"attn_scale": 0}, "the scale of an attention product must be > 0, got 0"),
        ({"channels": 5}, "model.args.channels: cannot be set; every layer has its own number of channels"),
    ],
)
def test_types_and_ranges_of_arguments(args, words):
    """Faults: most of these were tracebacks, and some were valid."""
    neuron = {"model.neuron": "glif"} if "channels" in args else {}
    with pytest.raises(UserError) as error:
        validate(Config().with_values({"model.args": args, **neuron}))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "args",
    [
        {"pretrained_cfg": None, "pretrained_cfg_overlay": None, "pretrained": False},  # timm's own defaults
        {"pretrained_cfg_overlay": {"input_size": [3, 8, 8], "mean": [0.5, 0.5, 0.5]}},
        {"mlp_ratio": 4, "attn_scale": 1},
    ],
)
def test_arguments_that_are_right(args):
    validate(Config().with_values({"model.args": args}))


def test_types_of_a_neurons_options():
    with pytest.raises(UserError, match=r"model.args.order must be an integer, got 'x'"):
        validate(Config().with_values({"model.neuron": "sliding_psn", "model.args": {"order": "x"}}))


def test_every_cell_is_checked():
    cells = [{"id": "good"}, {"id": "bad", "model.neuron": "liff"}]
    with pytest.raises(UserError, match=r"compare\.cells 'bad': unknown neuron 'liff'"):
        validate(Config().with_values({"compare.cells": cells}))


def test_data_need_not_be_there():
    validate(
        Config().with_values({"data.name": "torch/cifar100", "data.root": "/nowhere", "model.name": "qkformer_3_64"})
    )
    validate(Config().with_values({"data.name": "folder/x", "model.name": "spikformer_imagenet_2_64"}))

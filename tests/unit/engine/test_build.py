"""What validate() finds without training."""

import pytest

from step_ahsar.config import Config
from step_ahsar.engine import validate
from step_ahsar.errors import UserError


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task": "segmantation"}, "unknown task 'segmantation'"),
        ({"data.name": "digit"}, "unknown dataset 'digit'; did you mean 'digits'?"),
        ({"model.name": "spikformer_2_46"}, "unknown model 'spikformer_2_46'; did you mean 'spikformer_2_64'?"),
        ({"model.name": "resnet18"}, "model 'resnet18' cannot be made with model.* of this config"),
        ({"model.neuron": "liff"}, "unknown neuron 'liff'; did you mean 'lif'?"),
        ({"model.backend": "tensorflow"}, "unknown backend 'tensorflow'"),
        ({"model.surrogate": "sigmoyd"}, "unknown surrogate 'sigmoyd'; did you mean 'sigmoid'?"),
        ({"model.neuron": "if", "model.tau": 2.0}, "tau"),
        ({"model.neuron": "ahsar", "model.base": "liff"}, "unknown neuron 'liff'"),
        ({"model.base": "lif"}, "base"),
        ({"model.args": {"dpeth": 3}}, "dpeth"),
        (
            {"data.img_size": 10},
            "cannot take size 10x10: height and width must be a multiple of 4, such as 8x8 or 12x12",
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


def test_every_cell_is_checked():
    cells = [{"id": "good"}, {"id": "bad", "model.neuron": "liff"}]
    with pytest.raises(UserError, match=r"compare\.cells 'bad': unknown neuron 'liff'"):
        validate(Config().with_values({"compare.cells": cells}))


def test_data_need_not_be_there():
    validate(
        Config().with_values({"data.name": "torch/cifar100", "data.root": "/nowhere", "model.name": "qkformer_3_64"})
    )
    validate(Config().with_values({"data.name": "folder/x", "model.name": "spikformer_imagenet_2_64"}))

"""Names of conditions."""

import pytest
import torch
from torch import nn

from step_ahsar.config import load_config
from step_ahsar.data import find_dataset, list_corruptions
from step_ahsar.errors import UserError
from step_ahsar.robustness import CONDITIONS, expand


def expanded(*names, config="classification/static/digits", overrides=()):
    settings = load_config(config, overrides)
    return expand(names, settings, find_dataset(settings.data.name))


def test_the_clean_test_set_comes_first_and_nothing_twice():
    assert [each.name for each in expanded("jpeg:3", "clean", "jpeg:3", "time_steps:2")] == [
        "clean",
        "jpeg:3",
        "time_steps:2",
    ]


@pytest.mark.parametrize(
    ("config", "number"),
    [
        ("classification/static/digits", 8),
        ("classification/event/digits_events", 4),
        ("classification/sequence/digits_sequence", 3),
    ],
)
def test_corruptions_are_all_of_the_data_at_five_severities(config, number):
    found = expanded("corruptions", config=config)
    spec = find_dataset(load_config(config).data.name)
    assert len(list_corruptions(spec)) == number
    assert [each.name for each in found[1:]] == [f"{name}:{s}" for name in list_corruptions(spec) for s in range(1, 6)]
    assert all(each.settings == {"data.corruption": each.name} for each in found[1:])


def test_what_conditions_set():
    steps, threshold, attack = expanded("time_steps:8", "threshold:0.5", "pgd:8")[1:]
    assert steps.settings == {"model.time_steps": 8}
    assert (attack.attack, attack.size) == ("pgd", 8)
    model = nn.Sequential()
    assert threshold.change(model) is None
    assert [each.of_model for each in (steps, threshold, attack)] == [True, True, False]


def test_every_kind_says_what_its_value_is():
    assert set(CONDITIONS) == {"time_steps", "threshold", "weight_noise", "weight_bits", "fgsm", "pgd"}
    assert all(kind.values for kind in CONDITIONS.values())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("jpg:3", "unknown condition of static data 'jpg'; did you mean 'jpeg'"),
        ("hot_pixels:1", "unknown condition of static data 'hot_pixels'"),
        ("jpeg:6", "a severity from 1 to 5, got 'jpeg:6'"),
        (
            "time_steps:0",
            "'time_steps:0': its value, number of time steps T, must be a whole number >= 1, got '0'",
        ),
        ("time_steps:2.5", "must be a whole number >= 1, got '2.5'"),
        ("threshold:0", "factor on every threshold, must be a number >= 0.001, got '0'"),
        ("threshold:nan", "must be a number >= 0.001, got 'nan'"),
        ("threshold:inf", "must be a number >= 0.001, got 'inf'"),
        ("threshold", "must be a number >= 0.001, got ''"),
        ("weight_bits:1", "must be a whole number from 2 to 16, got '1'"),
        ("fgsm:256", "must be a number from 0 to 255, got '256'"),
    ],
)
def test_names_and_values_that_do_not_exist(name, message):
    with pytest.raises(UserError) as fault:
        expanded(name)
    assert message in str(fault.value)


@pytest.mark.parametrize(
    ("name", "config", "overrides", "message"),
    [
        ("fgsm:8", "classification/event/digits_events", (), "here it is classification of event data"),
        ("fgsm:8", "segmentation/static/digits_scenes", (), "here it is segmentation of static data"),
        ("pgd:8", "classification/static/digits", ("data.encoder=rate",), "with data.encoder 'rate'"),
        ("corruptions", "segmentation/sequence/digits_scenes", (), "there are none for its samples"),
    ],
)
def test_conditions_that_do_not_apply(name, config, overrides, message):
    with pytest.raises(UserError, match=message):
        expanded(name, config=config, overrides=overrides)


def test_draws_are_those_of_torch():
    """So that seeding it decides the noise."""
    [_, noise] = expanded("weight_noise:0.5")
    models = [nn.Linear(4, 4) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        torch.manual_seed(3)
        noise.change(model)
    assert torch.equal(models[0].weight, models[1].weight)

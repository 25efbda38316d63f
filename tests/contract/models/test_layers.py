"""The layers of every small model: their groups and thresholds, and that all of them take part."""

import math

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.layers import SpikingAttention
from tests.contract.models.zoo import FAMILIES, SMALL, create, inputs, lively, neurons


@pytest.mark.parametrize("name", SMALL)
def test_groups(name: str) -> None:
    """Token mixers are attention, channel mixers mlp, embeddings stem; a neuron in front of the classifier is head."""
    places = {
        "stem": ("patch_embed.",),
        "attention": (".attn.", ".branch.mix.", ".0.branch."),
        "mlp": (".mlp.", ".branch."),
        "head": ("head_neuron.",),
    }
    groups = {path: neuron.group for path, neuron in neurons(create(name))}
    assert {"stem", "attention", "mlp"} <= set(groups.values())
    for path, group in groups.items():
        local = FAMILIES[name] == "sglformer" and ".branch." in path and ".branch.mix." not in path
        expected = "mlp" if local else next(g for g, words in places.items() if any(word in path for word in words))
        assert group == expected, path


@pytest.mark.parametrize("name", SMALL)
def test_thresholds_and_attention_scale(name: str) -> None:
    model = create(name, threshold=0.6)
    share = 1.0 if FAMILIES[name] in ("espikeformer", "qsd", "spikingresformer") else 0.5

    def threshold(path: str) -> float:
        if path.endswith("interaction.past.neuron"):
            return 0.3 * 0.6
        behind = ("attn.neuron", "attn.0.neuron", "match.neuron", "gather.neuron", "interaction.mixed.neuron")
        return share * 0.6 if path.endswith(behind) else 0.6

    for path, neuron in neurons(model):
        assert neuron.threshold == pytest.approx(threshold(path)), path
    if FAMILIES[name] == "swformer":
        with pytest.raises(UserError, match="attention and attn_threshold would have no effect"):
            create(name, attn_threshold=0.9)
        return
    changed = {neuron.threshold for _, neuron in neurons(create(name, threshold=0.6, attn_threshold=0.9))}
    assert changed <= {0.6, 0.9, 0.3 * 0.6}
    assert 0.9 in changed
    scales = {m.scale for m in model.modules() if isinstance(m, SpikingAttention)}
    published = {"spikformer_dvs_2_64": {0.25}, "tim_dvs_2_64": {0.25}, "qkformer_dvs_2_64": {1.0, 0.125}}
    of_family = {"qsd": {0.25}, "sdt": {1.0}, "qkformer": {1.0, 0.125}, "semm": set(), "spikingresformer": set()}
    of_family |= {"espikeformer": {2 / math.sqrt(24), 2 / math.sqrt(32)}}  # 2 / sqrt(d), d channels per head
    assert scales == published.get(name, of_family.get(FAMILIES[name], {0.125}))


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_fires_and_images_differ(name: str) -> None:
    # Q-K attention sums over a head's channels: at half the threshold its mask would never be 0.
    model = create(name) if FAMILIES[name] == "qkformer" else lively(name)
    rates: dict[str, float] = {}
    for path, neuron in neurons(model):
        neuron.register_forward_hook(lambda _, __, out, path=path: rates.update({path: float(out.abs().mean())}))
    with torch.no_grad():
        logits = model(inputs(model, batch=3))
    assert rates.keys() == dict(neurons(model)).keys()
    assert all(0 < rate < 1 for rate in rates.values()), rates
    assert logits.std(0).min() > 1e-3


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("neuron", ["lif", "plif"])
def test_every_parameter_gets_a_gradient(name: str, neuron: str) -> None:
    """In eval mode: a norm by batch statistics would cancel the gradient of the biases before it."""
    model = lively(name, neuron=neuron)
    model(inputs(model)).square().sum().backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.isfinite().all(), key
        assert p.grad.any(), key

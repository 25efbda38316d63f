"""What every small model takes: any number of time steps and images, any size that fits, half precision, and copies."""

import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from step_ahsar.errors import UserError
from tests.contract.models.zoo import SMALL, create, inputs, one_length


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("time_steps", [1, 2, 5])
@torch.no_grad()
def test_any_number_of_time_steps(name: str, time_steps: int) -> None:
    model = create(name, time_steps=time_steps)
    x = inputs(model)
    logits = model(x)
    assert logits.shape == (2, 5)
    over_time = x.repeat(time_steps, *[1] * x.ndim)
    assert torch.equal(model(over_time), logits)
    if one_length(model):
        with pytest.raises(UserError, match=f"was made for 3 time steps and .* got {time_steps} and"):
            create(name)(over_time)
        return
    assert torch.equal(create(name)(over_time), logits)  # the T of the input counts
    model.per_step = True
    assert model(x).shape == (time_steps, 2, 5)
    torch.testing.assert_close(model(x).mean(0), logits)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_steps_count_in_their_order(name: str) -> None:
    if one_length(create(name)):
        pytest.skip("has no logits for each time step")
    model = create(name, per_step=True)
    x = inputs(model, time_steps=3)
    logits = model(x)
    assert torch.equal(model(x[:2]), logits[:2])  # the past does not depend on the future
    assert not torch.equal(model(x.flip(0)).flip(0), logits)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_batch_invariance(name: str) -> None:
    model = create(name)
    x = inputs(model, batch=5)
    logits = model(x)
    for i in (0, 3):
        torch.testing.assert_close(model(x[i : i + 1]), logits[i : i + 1], rtol=0, atol=1e-12)
    torch.testing.assert_close(model(x[[4, 1]]), logits[[4, 1]], rtol=0, atol=1e-12)
    assert torch.equal(model(x), logits)  # nothing is left from call to call


@pytest.mark.parametrize("name", SMALL)
def test_shapes_it_cannot_take(name: str) -> None:
    model = create(name)
    x = inputs(model)
    size = "H, W" if model.ndim == 2 else "L"
    wants = rf"takes \[B, {model.in_chans}, {size}\] or \[T, B, {model.in_chans}, {size}\], got "
    for bad in (x[0], x[None, None], x.repeat(1, 2, *[1] * model.ndim), x[None][:0], x[:0]):
        with pytest.raises(UserError, match=wants):
            model(bad)
    if model.ndim == 2:
        with pytest.raises(UserError, match=f"multiples of {model.multiple}, such as") as error:
            model(x[..., : model.multiple + 1])
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"cannot take size .*> 0"):
        model(x[..., :0])
    wrong_size: Any
    for wrong_size in (*([model.multiple + 1] if model.ndim == 2 else []), 0, (8,) * (model.ndim + 1)):
        with pytest.raises(UserError, match="cannot take size"):
            timm.create_model(name, img_size=wrong_size)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_copies_and_saved_weights(name: str, tmp_path: Path) -> None:
    model = create(name, neuron="ahsar")
    x = inputs(model)
    logits = model(x)
    assert torch.equal(copy.deepcopy(model)(x), logits)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = timm.create_model(name, num_classes=5, time_steps=3, neuron="ahsar", threshold=1.0).double().eval()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other(x), logits)
    assert torch.equal(create(name)(x), logits)  # a scale of 1 is the plain neuron


@torch.no_grad()
def test_half_precision_runs() -> None:
    model = create("spikformer_2_64")
    x = inputs(model)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.float()(x.float()).isfinite().all()
    assert model.bfloat16()(x.bfloat16()).isfinite().all()

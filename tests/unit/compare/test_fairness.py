"""Cells of one comparison share initial weights, data order and augmentation draws, seed by seed."""

from hashlib import sha256

import pytest
import torch

from step_ahsar.config import load_config
from step_ahsar.data import derive_seed, open_data
from step_ahsar.engine import build_model
from step_ahsar.tasks import create_task


def digest(tensors):
    found = sha256()
    for name, tensor in tensors:
        found.update(name.encode())
        found.update(tensor.detach().numpy().tobytes())
    return found.hexdigest()


def starts(seed):
    """By model: what each cell of the quick start begins from under that seed."""
    config = load_config("quickstart", ["data.scale=[0.8,1.0]", "data.color_jitter=0.2"])
    weights, batches = {}, {}
    for _, cell in config.cells():
        cell = cell.with_values({"seed": seed})
        data = open_data(cell)
        torch.manual_seed(derive_seed(seed, "weights"))
        model = build_model(cell.model, create_task(cell, data.classes), data.in_chans, data.sizes, data.spec.ndim)
        weights.setdefault(cell.model.name, []).append(digest(sorted(model.named_parameters())))
        images, labels = next(iter(data.train_batches(seed)(1)))
        batches.setdefault(cell.model.name, []).append(digest([("images", images), ("labels", labels)]))
    return weights, batches


@pytest.fixture(scope="module")
def both():
    return starts(0), starts(1)


def test_cells_of_a_model_start_from_the_same_weights(both):
    (zero, _), (one, _) = both
    for model, digests in zero.items():
        assert len(digests) > 1
        assert len(set(digests)) == 1
        assert set(digests).isdisjoint(one[model])


def test_all_cells_see_the_same_augmented_batches(both):
    (_, zero), (_, one) = both
    assert len({d for digests in zero.values() for d in digests}) == 1
    assert zero != one

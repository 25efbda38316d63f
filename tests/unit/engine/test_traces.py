"""Recorded traces of firing rates and thresholds in the last epoch of a run: no layer oscillates."""

import torch

from step_ahsar.ahsar import Controller
from step_ahsar.config import Config
from step_ahsar.engine import train
from tests.unit.engine.small import SMALL

VALUES = {
    **SMALL,
    "data.train_limit": 384,
    "data.test_limit": 50,
    "data.batch_size": 64,
    "model.args": {"dim": 32, "heads": 2, "depth": 1},
    "model.neuron": "ahsar",
    "train.epochs": 4,
    "train.lr": 2e-3,
}


def last_epoch(values, tmp_path, monkeypatch):
    """Rates and threshold scales of the layers after each step of the last epoch, [steps, n] each."""
    rates, scales, step = [], [], Controller.step

    def recorded(self):
        rates.append(self._rates()[0].clone())
        step(self)
        scales.append(self._written.clone())

    monkeypatch.setattr(Controller, "step", recorded)
    train(Config().with_values(VALUES | values), tmp_path / "run")
    steps = len(rates) // VALUES["train.epochs"]
    return torch.stack(rates[-steps:]), torch.stack(scales[-steps:])


def spread(trace):
    return trace.std(0) / trace.mean(0)


def test_the_law(tmp_path, monkeypatch):
    rates, scales = last_epoch({}, tmp_path, monkeypatch)
    assert spread(rates).max() < 0.1
    assert spread(scales).max() < 1e-3  # thresholds rest


def test_a_budget(tmp_path, monkeypatch):
    """Thresholds follow the rate of each batch, but hardly move.

    Layers below a rate of 0.02 vary by chance, from batch to batch, as much as they do with thresholds at rest.
    """
    rates, scales = last_epoch({"ahsar.budget": 0.05}, tmp_path, monkeypatch)
    counted = rates.mean(0) > 0.02
    assert counted.sum() > 4
    assert spread(rates)[counted].max() < 0.1
    assert spread(scales).max() < 0.02

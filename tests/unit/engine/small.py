"""A small model on small images, and its state before the first step, for the tests of this folder."""

from step_ahsar.config import Config
from step_ahsar.data import open_data
from step_ahsar.engine.device import create_accelerator
from step_ahsar.engine.train import prepare

SMALL = {"data.img_size": 8, "model.args": {"dim": 16, "heads": 2, "depth": 1}, "model.time_steps": 2}


def prepared(values):
    """Config, task, state and batches by epoch of a run with these settings."""
    config = Config().with_values(SMALL | values)
    data = open_data(config)
    task, state = prepare(config, data, create_accelerator(None))
    return config, task, state, data.train_batches(config.seed)

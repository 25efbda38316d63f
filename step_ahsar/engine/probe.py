"""Measuring what a run will cost, by a few of its steps."""

from dataclasses import dataclass
from time import perf_counter

from step_ahsar.config import Config
from step_ahsar.data import Data
from step_ahsar.engine.device import create_accelerator
from step_ahsar.engine.epoch import WARMUP_STEPS, train_epoch
from step_ahsar.engine.evaluate import measure
from step_ahsar.engine.train import prepare

_STEPS = 5  # optimiser steps that are timed
_TESTS = 2  # batches of an evaluation that are timed


@dataclass(frozen=True)
class Cost:
    """What a run costs.

    Args:
        start: seconds that it needs once, to build its model and to compile its kernels.
        epoch: seconds of an epoch of training and its validation.
        test: seconds of an evaluation of the test set.
        state: bytes of a checkpoint.
    """

    start: float
    epoch: float
    test: float
    state: int


def probe(config: Config, data: Data) -> Cost:
    """Trains a few steps of a run, and evaluates a few batches. Nothing is written."""
    began = perf_counter()
    task, state = prepare(config, data, create_accelerator(config.train.amp))
    batches = data.train_batches(config.seed)(1)
    validation, tests, accumulate = data.validation_batches(), data.test_batches(), config.train.accumulate
    warm = batches.first(WARMUP_STEPS * accumulate)
    train_epoch(state, task, warm, config, 1)
    measure(state.judged, task, tests.first(1), state.accelerator)
    start = perf_counter() - began
    steps = -(-len(batches) // accumulate)
    trained = train_epoch(state, task, batches.first(_STEPS * accumulate), config, 1)
    began = perf_counter()
    few = tests.first(_TESTS)
    measure(state.judged, task, few, state.accelerator)
    test_batch = (perf_counter() - began) / len(few)
    evaluated = len(tests if validation is None else validation) + min(config.train.recalibrate_norms, len(batches))
    return Cost(
        start, steps * trained.step_ms / 1000 + test_batch * evaluated, test_batch * len(tests), state.resident_bytes
    )

"""What each of two processes does in test_ranks.py. It writes what it saw into a file of its own.

torchrun --nproc-per-node 2 ranks_worker.py FOLDER
"""

import os
import shutil
import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from step_ahsar import engine, ranks
from step_ahsar.config import Config
from step_ahsar.engine.device import create_accelerator
from step_ahsar.errors import UserError
from step_ahsar.layers import sync_batch_norms
from step_ahsar.neurons.norms import TemporalEffectiveNorm1d

SMALL = {
    "data.name": "digits",
    "data.batch_size": 27,  # the two processes have 14 and 13 samples
    "data.train_limit": 110,
    "data.test_limit": 41,
    "data.validation": 0.2,
    "model.name": "spikformer_2_64",
    "model.neuron": "ahsar",
    "model.time_steps": 2,
    "model.args": {"dim": 16, "depth": 1, "heads": 2},
    "train.epochs": 2,
    "train.accumulate": 3,  # the last step of an epoch has one batch
    "train.clip_grad": 0.5,
    "train.ema_decay": 0.5,
}
RUNS = {
    "plain": {},
    "budget": {"ahsar.budget": 0.05},
    "mixed": {
        "data.batch_size": 22,
        "data.scale": [0.6, 1.0],
        "data.re_prob": 0.5,
        "train.recalibrate_norms": 2,
        "train.mixup": 0.5,
        "train.cutmix": 0.5,
        "train.accumulate": 1,
        "train.rate_penalty.budget": 0.02,
    },
    "tebn": {"model.norm": "tebn", "train.accumulate": 1, "train.optimizer": "sgd"},
    "rates": {"model.name": "spikingresformer_3_64", "model.args": {}, "train.epochs": 1, "train.accumulate": 1},
}


def config_of(name):
    return Config().with_values(SMALL | RUNS[name])


def norms():
    """Batch norms, and an input for each, of which this rank takes its share."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, generator=generator)

    cases = {
        "1d": (nn.BatchNorm1d(3), drawn(7, 3, 5), 0),
        "2d": (nn.BatchNorm2d(3), drawn(7, 3, 4, 4), 0),
        "of one rank": (nn.BatchNorm2d(3), drawn(1, 3, 4, 4), 0),  # the other one has no sample at all
        "average": (nn.BatchNorm2d(3, momentum=None), drawn(5, 3, 2, 2), 0),
        "plain": (nn.BatchNorm2d(3, affine=False, track_running_stats=False), drawn(5, 3, 2, 2), 0),
        "tebn": (TemporalEffectiveNorm1d(4, 3), drawn(4, 5, 3, 6), 1),
    }
    for name, (norm, x, axis) in cases.items():
        for parameter in norm.parameters():
            nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
        yield name, norm, x, drawn(*x.shape), axis


def through(norm, x, grad, axis):
    """The norm's output, gradients and running averages, of two batches."""
    x.requires_grad_()
    (norm(0.5 * x).detach(), norm(x))  # two batches, for the averages
    out = norm(x)
    (out * grad).sum().backward()
    averages = list(norm.buffers())
    return out.detach().movedim(axis, 0), x.grad.movedim(axis, 0), [p.grad for p in norm.parameters()], averages


def joined_norms():
    found = {}
    for name, norm, x, grad, axis in norms():
        sync_batch_norms(norm)
        mine = (ranks.share(each.movedim(axis, 0)).movedim(0, axis).clone() for each in (x, grad))
        out, grad_x, grads, averages = through(norm, *mine, axis)
        number = x.shape[axis]
        found[name] = (
            ranks.joined(out, number),
            ranks.joined(grad_x, number),
            [ranks.total(each) for each in grads],
            averages,
        )
    return found


def collectives():
    number = ranks.rank()

    def fails():
        assert number == 0, "only the main process acts"
        raise UserError("no")

    told = []
    try:
        ranks.agreed(fails)
    except UserError as error:
        told = [type(error).__name__, str(error)]
    batch = torch.arange(10).view(5, 2)
    return {
        "total": ranks.total(torch.tensor([1.0 + number])),
        "mean": ranks.mean(torch.tensor([10.0 * number]), weight=1 + 2 * number),
        "gathered": ranks.gathered(f"rank {number}"),
        "agreed": ranks.agreed(lambda: f"of rank {number}"),
        "error": told,
        "share": ranks.share(batch),
        "joined": ranks.joined(ranks.share(batch), 5),
        "block": list(ranks.block(5)),
    }


class Stop(UserError):
    """Ends a run after its first epoch."""


def train(folder, name):
    config, path = config_of(name), folder / name
    told = []
    result = engine.train(config, path, on_epoch=told.append, on_step=told.append)
    return result, len(told)


def stop(path):
    """Trains one epoch. Returns what ended the run."""

    def end(_):
        raise Stop("stopped")

    try:
        engine.train(config_of("plain"), path, on_epoch=end)
    except UserError as error:
        return str(error)
    return None


def stop_and_go_on(folder):
    told = stop(folder / "stopped")
    if ranks.is_main():
        shutil.copytree(folder / "stopped", folder / "stopped-copy")
    return told, engine.train(config_of("plain"), folder / "stopped", resume=True)


def tried(folder, name, **values):
    try:
        engine.train(config_of("plain").with_values(values), folder / name)
    except UserError as error:
        return type(error).__name__, str(error)
    return None


def main(folder):
    torch.set_default_dtype(torch.float64)
    create_accelerator(None)
    found = {
        "collectives": collectives(),
        "norms": joined_norms(),
        "runs": {name: train(folder, name) for name in RUNS},
        "again": train(folder, "plain"),
        "begun by one": engine.train(config_of("plain"), folder / "begun-by-one", resume=True),
        "stopped": stop_and_go_on(folder),
        "one sample": tried(folder, "one", **{"data.batch_size": 1}),
        "unknown": tried(folder, "unknown", **{"data.name": "nothing"}),
        "apart": tried(
            folder,
            "apart",
            **{"train.sync_bn": False, "train.epochs": 1, "data.validation": 0, "train.ema_decay": None},
        ),
    }
    torch.save(found, folder / f"rank-{ranks.rank()}.pt")


def die(folder):
    """The rank that RANK_THAT_DIES names ends without a word in the second epoch."""
    module = import_module("step_ahsar.engine.train")
    train_epoch = module.train_epoch

    def dying(state, task, batches, config, epoch, on_step):
        if epoch == 2 and ranks.rank() == int(os.environ["RANK_THAT_DIES"]):
            os._exit(9)
        return train_epoch(state, task, batches, config, epoch, on_step)

    module.train_epoch = dying
    engine.train(config_of("plain"), folder / f"died-{os.environ['RANK_THAT_DIES']}")


if __name__ == "__main__":
    {"main": main, "die": die}[sys.argv[2]](Path(sys.argv[1]))

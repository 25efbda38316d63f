"""What reading a batch costs beside training on it."""

from collections.abc import Iterator

from step_ahsar.bench.timing import Step
from step_ahsar.config import Config, list_configs, load_config
from step_ahsar.data import Batches, open_data
from step_ahsar.engine.device import create_accelerator
from step_ahsar.engine.epoch import train_epoch
from step_ahsar.engine.train import prepare


def embedded_configs() -> Iterator[tuple[str, Config]]:
    """The packaged configs of single runs whose data are in the package, and which prepare no batch beside a step."""
    for name in list_configs():
        config = load_config(name)
        if config.compare is None and config.data.root is None and not config.data.workers:
            yield name, config


def reading_and_training(config: Config) -> dict[str, Step]:
    """A step that reads and prepares a batch in this process, and one that trains on such a batch."""
    data = open_data(config)
    of_epoch = data.train_batches(config.seed)
    epoch = 1
    left = iter(of_epoch(epoch))

    def read() -> object:
        nonlocal epoch, left
        batch = next(left, None)
        if batch is None:
            epoch, left = epoch + 1, iter(of_epoch(epoch + 1))
            batch = next(left)
        return batch

    task, state = prepare(config, data, create_accelerator(config.train.amp))
    first: Batches = of_epoch(1).first(1)
    kept = list(first)

    def train() -> object:
        return train_epoch(state, task, kept, config, 1)  # type: ignore[arg-type]  # a list of batches is as good

    return {"reading a batch": read, "training on it": train}

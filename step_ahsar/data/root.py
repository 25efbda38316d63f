"""Where a data set is looked for."""

from pathlib import Path

from step_ahsar.config import DataConfig
from step_ahsar.errors import UserError


def given_root(config: DataConfig, wanted: str) -> Path:
    """``data.root``, there or not. Raises UserError, saying what is ``wanted`` there, if it is not set."""
    if config.root is None:
        raise UserError(f"data.root is not set: dataset {config.name!r} is looked for there, as {wanted}")
    return Path(config.root).expanduser()

"""Where the package's data lies: inside the wheel, or beside the package in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _data_dir(installed: str, checkout: str) -> Path:
    inside = _PACKAGE / installed
    return inside if inside.is_dir() else _PACKAGE.parent / checkout


def zoo_dir() -> Path:
    """The model zoo: ``<family>/variants.yaml``, ``CARD.md``, ``golden.json``."""
    return _data_dir("zoo", "models")


def configs_dir() -> Path:
    """The packaged experiment configs: ``<task>/<modality>/*.yaml``."""
    return _data_dir("configs", "configs")

"""Locations of the package's data: inside the package if it was installed from a wheel, or beside it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _data_dir(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


def zoo_dir() -> Path:
    """The model zoo: ``<family>/variants.yaml``, ``CARD.md``, ``golden.json``."""
    return _data_dir("zoo")


def configs_dir() -> Path:
    """The packaged experiment configs: ``<task>/<modality>/*.yaml``."""
    return _data_dir("configs")

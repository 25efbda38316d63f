"""Other libraries of spiking neurons, one folder for each.

A folder may hold three modules. ``adapter.py`` makes the library's neurons a backend of the registry, ``regulation.py``
says how a threshold scale enters its nodes, and ``layouts.py`` says where its models keep their weights. To support
another library, add a folder; nothing else has to be changed. Code that the folders share is beside them.
"""

import pkgutil
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def list_libraries(part: str | None = None) -> list[str]:
    """Names of the libraries, whether or not they are installed; with ``part`` those whose folder has this module."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    return [name for name in names if part is None or find_spec(f"{__name__}.{name}.{part}") is not None]


def load_part(library: str, part: str) -> ModuleType | None:
    """A module of a library's folder; None if the folder has no such module, or if there is no folder."""
    return import_module(f"{__name__}.{library}.{part}") if library in list_libraries(part) else None

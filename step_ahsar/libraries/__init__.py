"""Other libraries of spiking neurons, one folder for each.

A folder may hold three modules. ``adapter.py`` makes the library's neurons a backend of the registry, ``regulation.py``
says how a threshold scale enters its nodes, and ``layouts.py`` says where its models keep their weights. To support
another library, add a folder; nothing else has to be changed. Another package may hold such a folder, named by an entry
point in the group ``step_ahsar.libraries``. Code that the folders share is beside them.
"""

import pkgutil
import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from types import ModuleType

from step_ahsar.errors import first_line


def list_libraries(part: str | None = None) -> list[str]:
    """Names of the libraries, whether or not they are installed; with ``part`` those whose folder has this module."""
    folders = _folders()
    return [name for name in sorted(folders) if part is None or _has(folders[name], part)]


def modules_of(part: str) -> dict[str, str]:
    """For each library whose folder has this module the module's name. It is not imported."""
    return {name: f"{_folders()[name]}.{part}" for name in list_libraries(part)}


def load_part(library: str, part: str) -> ModuleType | None:
    """A module of a library's folder; None if the folder has no such module, or if there is no folder."""
    module = modules_of(part).get(library)
    return None if module is None else import_module(module)


@cache
def _has(folder: str, part: str) -> bool:
    """Whether a folder has a module. The packages around it are imported."""
    try:
        return find_spec(f"{folder}.{part}") is not None
    except Exception as error:  # whatever a foreign package raises
        warnings.warn(f"library {folder!r} is left out: {first_line(error)}", stacklevel=3)
        return False


@cache
def _folders() -> dict[str, str]:
    """For each library the package that is its folder."""
    own = {module.name: f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__) if module.ispkg}
    return {entry.name: entry.value for entry in entry_points(group="step_ahsar.libraries")} | own

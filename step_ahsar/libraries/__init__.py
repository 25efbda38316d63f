"""Other libraries of spiking neurons, one folder for each.

A folder may hold three modules. ``adapter.py`` makes the library's neurons a backend of the registry, ``regulation.py``
says how a threshold scale enters its nodes, and ``layouts.py`` says where its models keep their weights. To support
another library, add a folder; nothing else has to be changed. Code that the folders share is beside them.
"""

import pkgutil


def list_libraries() -> list[str]:
    """Names of the libraries, whether or not they are installed."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)

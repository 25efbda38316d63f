"""Other packages' additions, found by entry points.

A package names a module in the group ``step_ahsar.plugins``; it is imported before names are looked up for the first
time, and registers what it adds: neurons, models, data sets, launchers, tasks and so on. See docs/plugins.md.
"""

import warnings
from importlib.metadata import entry_points

from step_ahsar.errors import first_line

GROUP = "step_ahsar.plugins"
_begun = False


def load_plugins() -> None:
    """Imports the modules of other packages, once.

    Warns:
        UserWarning: a module that cannot be imported. The others are, and everything else works.
    """
    global _begun
    if _begun:  # or beginning: plugins look up names themselves
        return
    _begun = True
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            entry.load()
        except Exception as error:  # whatever a foreign module raises
            warnings.warn(
                f"plugin {entry.name!r} ({entry.value}) cannot be loaded and is left out: {first_line(error)}",
                stacklevel=2,
            )

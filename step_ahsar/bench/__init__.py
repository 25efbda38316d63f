"""How fast the package is, beside other libraries and beside what the hardware allows.

``timing.py`` times several contenders in turn. ``networks.py`` builds the same network by this package, by other
libraries, with ReLU for neurons, and as its matrix products alone. ``parts.py`` holds what is measured.
"""

from step_ahsar.bench.parts import PARTS, Setting, run_bench
from step_ahsar.bench.timing import Row

__all__ = ["PARTS", "Row", "Setting", "run_bench"]

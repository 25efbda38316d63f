"""AHSAR, Adaptive Homeostatic Spiking Activity Regulation (arXiv 2512.05015).

``law.py`` is the control law as pure functions, ``controller.py`` owns its state, ``regulate.py`` attaches it to any
model (``grouping.py``: which layers go together; ``foreign.py``: neurons of other libraries; ``step_node.py``: a node
for STEP's trainer), ``fold.py`` moves the learnt scales into the weights.
"""

from step_ahsar.ahsar.controller import Controller
from step_ahsar.ahsar.fold import fold
from step_ahsar.ahsar.law import AHSARConfig
from step_ahsar.ahsar.regulate import is_regulated, regulate
from step_ahsar.ahsar.step_node import AHSARNode, controller_of

__all__ = ["AHSARConfig", "AHSARNode", "Controller", "controller_of", "fold", "is_regulated", "regulate"]

"""AHSAR, Adaptive Homeostatic Spiking Activity Regulation (arXiv 2512.05015).

``law.py`` holds the control law as pure functions, ``config.py`` its constants, ``controller.py`` its state.
``finding.py`` finds the spiking layers of a model, ``grouping.py`` sorts them into groups, ``regulation.py`` puts them
under a controller. ``neuron.py`` is the neuron ``ahsar``; a model of such neurons regulates itself when it is trained
(``running.py`` finds the model).
``folding.py`` moves the learnt scales into the weights, ``adapting.py`` moves thresholds at test time.
"""

from typing import TYPE_CHECKING

from step_ahsar.lazy import lazily

if TYPE_CHECKING:
    from step_ahsar.ahsar.adapting import Adaptation, adapt_thresholds, record_rates
    from step_ahsar.ahsar.config import FIRST_LAW, AHSARConfig
    from step_ahsar.ahsar.controller import Controller
    from step_ahsar.ahsar.folding import fold
    from step_ahsar.ahsar.regulation import controller_of, is_regulated, regulate
    from step_ahsar.libraries.regulation import ScaleRule

# The module of each name. It is imported on first use, because configs need only the constants, and no torch.
_HOMES = {
    "AHSARConfig": "step_ahsar.ahsar.config",
    "Adaptation": "step_ahsar.ahsar.adapting",
    "Controller": "step_ahsar.ahsar.controller",
    "FIRST_LAW": "step_ahsar.ahsar.config",
    "ScaleRule": "step_ahsar.libraries.regulation",
    "adapt_thresholds": "step_ahsar.ahsar.adapting",
    "controller_of": "step_ahsar.ahsar.regulation",
    "fold": "step_ahsar.ahsar.folding",
    "is_regulated": "step_ahsar.ahsar.regulation",
    "record_rates": "step_ahsar.ahsar.adapting",
    "regulate": "step_ahsar.ahsar.regulation",
}

__all__ = [
    "FIRST_LAW",
    "AHSARConfig",
    "Adaptation",
    "Controller",
    "ScaleRule",
    "adapt_thresholds",
    "controller_of",
    "fold",
    "is_regulated",
    "record_rates",
    "regulate",
]

__getattr__ = lazily(__name__, _HOMES)

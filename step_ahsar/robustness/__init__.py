"""What a trained model withstands: test data, thresholds, weights and time steps other than those of its training.

``conditions.py`` knows the names of all conditions, ``perturbing.py`` changes thresholds and weights, ``attacking.py``
perturbs images along the gradient, ``scoring.py`` sums the results of a run up. They are measured by
:mod:`step_ahsar.engine.conditions`.
"""

from step_ahsar.robustness.attacking import Attacker
from step_ahsar.robustness.conditions import (
    ADAPTED,
    CLEAN,
    CONDITIONS,
    CORRUPTIONS,
    Condition,
    check_installed,
    evaluations,
    expand,
)
from step_ahsar.robustness.scoring import SCORES, scores

__all__ = [
    "ADAPTED",
    "CLEAN",
    "CONDITIONS",
    "CORRUPTIONS",
    "SCORES",
    "Attacker",
    "Condition",
    "check_installed",
    "evaluations",
    "expand",
    "scores",
]

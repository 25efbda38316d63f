"""Training and evaluation, which bring data, model, task and controller together. Each file is one stage.

``train.py`` calls them in this order: ``check.py`` (can the config be run?), ``build.py`` (the model), ``state.py``
(all that changes in training), ``epoch.py`` (one epoch of steps), ``evaluate.py`` (measuring), ``record.py`` (the
records of a run). ``device.py`` asks accelerate for the device, ``track.py`` tells TensorBoard and other trackers.
``conditions.py`` and ``early_exit.py`` measure trained models otherwise. ``run.py`` and ``checkpoint.py`` read and
write the run's folder. ``export`` writes a trained model for others, ``looking.py`` shows what it does with one
sample; ``opening.py`` opens it, with its data, for both.
"""

from step_ahsar.engine.build import build_model
from step_ahsar.engine.check import check, validate
from step_ahsar.engine.conditions import conditions_of, measure_conditions, measured_conditions
from step_ahsar.engine.early_exit import check_early_exit, measure_early_exit, measured_early_exit
from step_ahsar.engine.epoch import NonFiniteLoss
from step_ahsar.engine.evaluate import evaluate
from step_ahsar.engine.export import export, export_model
from step_ahsar.engine.looking import Look, look
from step_ahsar.engine.probe import Cost, probe
from step_ahsar.engine.record import OPERATIONS, counted, energies, git_commit, hardware, versions
from step_ahsar.engine.run import METRICS, RESULT, InUse, Run, is_vacant
from step_ahsar.engine.train import read_result, train

__all__ = [
    "METRICS",
    "OPERATIONS",
    "RESULT",
    "Cost",
    "InUse",
    "Look",
    "NonFiniteLoss",
    "Run",
    "build_model",
    "check",
    "check_early_exit",
    "conditions_of",
    "counted",
    "energies",
    "evaluate",
    "export",
    "export_model",
    "git_commit",
    "hardware",
    "is_vacant",
    "look",
    "measure_conditions",
    "measure_early_exit",
    "measured_conditions",
    "measured_early_exit",
    "probe",
    "read_result",
    "train",
    "validate",
    "versions",
]

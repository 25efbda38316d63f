"""Where data, model, task and controller meet: training, evaluation, checkpoints, run directories."""

from step_ahsar.engine.build import build_model, validate
from step_ahsar.engine.errors import NonFiniteLoss
from step_ahsar.engine.evaluation import evaluate
from step_ahsar.engine.export import export, export_model
from step_ahsar.engine.manifest import git_commit, hardware, versions
from step_ahsar.engine.run import Run
from step_ahsar.engine.training import read_result, train

__all__ = [
    "NonFiniteLoss",
    "Run",
    "build_model",
    "evaluate",
    "export",
    "export_model",
    "git_commit",
    "hardware",
    "read_result",
    "train",
    "validate",
    "versions",
]

"""Writing a trained model for others, see docs/export.md.

``weights.py`` writes state dicts in the layouts of other libraries' models, ``graphs.py`` the model as a graph for
inference (torch.export, ONNX), ``folder.py`` a folder that timm loads, with a model card (``card.py``).
"""

from collections.abc import Iterable
from pathlib import Path

from step_ahsar.data import Datasets
from step_ahsar.engine.export.folder import write_folder
from step_ahsar.engine.export.graphs import GRAPHS, write_graph
from step_ahsar.engine.export.weights import export_model, write_weights
from step_ahsar.engine.restore import LOADING, config_of
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError, unknown
from step_ahsar.files import is_there
from step_ahsar.libraries.layout import list_layouts

__all__ = ["export", "export_model"]


def export(
    run: str | Path,
    to: str,
    out: str | Path | None = None,
    which: str = "last",
    overrides: Iterable[str] = (),
    datasets: Datasets | None = None,
) -> Path:
    """Writes the model of a run.

    Args:
        run: the run's directory.
        to: "torch" (this package's models with plain neurons), or a library that has such models, for a state dict;
            "timm" for a folder that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads; "pt2"
            (torch.export) or "onnx" for a graph. The last three read the run's test data.
        out: the file or folder; None is ``export/`` in the run's directory, and there a name after ``to``.
        which: "last", or "best" by the task's metric.
        overrides: where the data are, such as ``"data.root=DIR"``, for what reads them.
        datasets: for a run of the data set `own` the user's data sets, as in :func:`step_ahsar.engine.train`.

    Returns:
        Its path.

    Raises:
        UserError: no run, no readable checkpoint, a model or a task that cannot be written so, a package that is
            missing, a graph that does not compute what the model does, or a path that is there already.
    """
    targets = ["torch", *list_layouts(), "timm", *GRAPHS]
    if to not in targets:
        raise unknown("target of an export:", to, targets)
    opened = Run.existing(Path(run))
    suffix = "" if to == "timm" else f".{to}" if to in GRAPHS else ".safetensors"
    name = "model" if to in GRAPHS else to
    path = opened.path / "export" / f"{name}{suffix}" if out is None else Path(out)
    if is_there(path):
        raise UserError(f"{path} exists; remove it or give another path")
    if to == "timm":
        write_folder(opened, path, which, overrides, datasets)
    elif to in GRAPHS:
        write_graph(opened, to, path, which, overrides, datasets)
    else:
        config_of(opened, overrides, LOADING, "in an export")  # nothing is read from there, but other keys are refused
        write_weights(opened, to, path, which)
    return path

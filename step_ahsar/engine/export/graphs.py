"""The model as a graph for inference, by torch.export: a file for torch (.pt2), or an ONNX file."""

import json
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from step_ahsar.ahsar import fold
from step_ahsar.data import Datasets
from step_ahsar.engine.opening import Trained, open_trained
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError
from step_ahsar.files import replacing
from step_ahsar.progress import work

GRAPHS = ("pt2", "onnx")
ABOUT = "about.json"  # the name inside a .pt2 file of what the graph is about
_NEEDED = {"onnx": ("onnx", "onnxscript"), "pt2": ()}
_TASKS = ("classification", "segmentation")
_DIFFERING = 0.01  # of the scores, on the mean: a few spikes may move by rounding; more of them mean another function


def write_graph(run: Run, to: str, path: Path, which: str, overrides: Iterable[str], datasets: Datasets | None) -> None:
    """Writes the folded model of a run as a graph with any batch size, and compares it with the model.

    The graph takes what the data pipeline yields, normalised: [B, C, *S], or [T, B, C, *S] for data with a time axis,
    and returns the model's scores. Its metadata are model, neuron, time_steps, mean, std, classes and axes.

    Args:
        run: the run.
        to: "pt2" or "onnx".
        path: the file.
        which: "last", or "best" by the task's metric.
        overrides: where the data are.
        datasets: the data themselves, if they are the user's own.

    Raises:
        UserError: as :func:`step_ahsar.engine.export`.
    """
    if missing := [name for name in _NEEDED[to] if find_spec(name) is None]:
        raise UserError(f"exporting to {to} needs {' and '.join(missing)}: pip install 'step-ahsar[onnx]'")
    if run.config.task not in _TASKS:
        raise UserError(
            f"{run.path} is a run of {run.config.task}, whose boxes are decoded outside of the model; runs of "
            f"{' and '.join(_TASKS)} can be written as graphs"
        )
    with work("export", 4) as part:
        part("opening the run")
        trained = open_trained(run, which, overrides, datasets)
        inputs = trained.inputs()
        batch_axis = trained.task.batch_axis(inputs)
        part("following the model")
        program = graph_of(inference_model(trained.model), inputs, batch_axis)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                part("writing the graph")
                run_it = _WRITERS[to](program, partial, _about(trained, inputs, batch_axis))
                part("comparing it with the model")
                _compare(trained.model, run_it, inputs, batch_axis, to)
        except OSError as error:
            raise UserError(f"cannot write {path}: {error}") from error


def inference_model(model: nn.Module) -> nn.Module:
    """A copy in which thresholds and norms are folded, see :func:`step_ahsar.ahsar.fold`.

    Where scaling the input is not the same as scaling the threshold, the scales stay as they are.
    """
    try:
        return fold(model, norms=True)
    except UserError:
        return model


def graph_of(model: nn.Module, inputs: Tensor, batch_axis: int) -> ExportedProgram:
    """The graph of a model in eval mode for inputs such as these, with any batch size.

    It holds no value of the inputs, and no path of this machine.

    Args:
        model: the model.
        inputs: any, [B, C, *S] or [T, B, C, *S], of which only the shape counts.
        batch_axis: the number of the axis B.

    Raises:
        UserError: the model has something that torch.export cannot follow.
    """
    shape = list(inputs.shape)
    shape[batch_axis] = 2  # an axis of size 1 would be taken for a constant
    example = inputs.new_zeros(shape)
    try:
        with torch.no_grad():
            model(example)  # what layers compute once and keep has values then
            program = torch.export.export(model, (example,), dynamic_shapes=({batch_axis: Dim("batch")},))
    except Exception as error:  # whatever a layer raises that is called without values
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"torch.export cannot follow {type(model).__name__}: {reason}") from error
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def _about(trained: Trained, inputs: Tensor, batch_axis: int) -> dict[str, str]:
    """The graph's metadata, as texts."""
    model, statistics = trained.config.model, trained.data.statistics
    axes = ["batch" if axis == batch_axis else size for axis, size in enumerate(inputs.shape)]
    found = {
        "task": trained.config.task,
        "model": model.name,
        "neuron": model.neuron,
        "time_steps": model.time_steps,
        "epoch": trained.epoch,
        "input": axes,
        "classes": list(trained.data.classes),
        "mean": None if statistics is None else statistics[0],
        "std": None if statistics is None else statistics[1],
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}


def _write_pt2(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> Callable[[Tensor], Tensor]:
    content = BytesIO()  # torch wants a path to end in .pt2, which that of an unfinished file does not
    torch.export.save(program, content, extra_files={ABOUT: json.dumps(about)})
    path.write_bytes(content.getvalue())
    return torch.export.load(BytesIO(path.read_bytes())).module()


def _write_onnx(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> Callable[[Tensor], Tensor] | None:
    """Writes it, and returns what runs the file; None without onnxruntime."""
    graph = torch.onnx.export(program, dynamo=True, verbose=False, input_names=["input"], output_names=["scores"])
    assert graph is not None
    graph.model.metadata_props.update(about)
    graph.save(path)
    if find_spec("onnxruntime") is None:
        return None
    from onnxruntime import InferenceSession

    session = InferenceSession(str(path))
    return lambda x: torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


_WRITERS: dict[str, Callable[[ExportedProgram, Path, Mapping[str, str]], Any]] = {
    "pt2": _write_pt2,
    "onnx": _write_onnx,
}


@torch.no_grad()
def _compare(
    model: nn.Module, run_it: Callable[[Tensor], Tensor] | None, inputs: Tensor, batch_axis: int, to: str
) -> None:
    """Raises UserError if the graph's scores differ from the model's, also for one sample alone."""
    if run_it is None:
        return
    for samples in (inputs, inputs.narrow(batch_axis, 0, 1)):
        expected = model(samples).double()
        differing = ((run_it(samples) - expected).abs().mean() / expected.abs().mean().clamp(min=1e-12)).item()
        if not differing <= _DIFFERING:
            raise UserError(
                f"the {to} graph does not compute what the model does: on test data its scores differ by "
                f"{differing:.0%} on the mean, so it was not kept"
            )

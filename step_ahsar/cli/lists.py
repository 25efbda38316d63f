"""`step-ahsar list ...`: the names that a config may use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from step_ahsar.cli.invoking import TorchCommand
from step_ahsar.errors import UserError

app = typer.Typer(
    help="List neurons, models, data sets and whatever else a config may name.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command(cls=TorchCommand)
def neurons() -> None:
    """Neurons, and the backends that have them."""
    from step_ahsar.neurons import list_backends, list_neurons

    _print_table("neuron", {backend: list_neurons(backend) for backend in list_backends()})


@app.command(cls=TorchCommand)
def models(
    name: Annotated[str, typer.Argument(metavar="FILTER", help="Part of a name, or a pattern: 'qk*_4_*'.")] = "",
) -> None:
    """Models, each with its default input size."""
    from step_ahsar.variants import list_variants

    pattern = name if any(sign in name for sign in "*?[") else f"*{name}*"
    known = list_variants()
    found = {model: variant for model, variant in known.items() if fnmatchcase(model, pattern)}
    if not found:
        raise UserError(f"no model matches {name!r}; known: {', '.join(known)}")
    rows = [[model, " x ".join(map(str, variant.input_size))] for model, variant in found.items()]
    _print(["model", "input (C, H, W)"], rows)


@app.command(cls=TorchCommand)
def surrogates() -> None:
    """Surrogate gradients."""
    from step_ahsar.neurons import list_surrogates

    _print(None, [[name] for name in list_surrogates()])


@app.command(cls=TorchCommand)
def datasets() -> None:
    """Data sets, and the tasks for which they have targets."""
    from step_ahsar.data import DATASETS

    _print(
        ["dataset", "modality", "tasks", "classes"],
        [
            [
                f"{name}/<name>" if spec.needs_title else name,
                spec.modality,
                ", ".join(spec.tasks),
                str(spec.num_classes or "as found"),
            ]
            for name, spec in DATASETS.items()
        ],
    )


@app.command(cls=TorchCommand)
def tasks() -> None:
    """Tasks, and the metric that each is judged by."""
    from step_ahsar.tasks import TASKS

    _print(["task", "judged by"], [[name, task.metric] for name, task in TASKS.items()])


@app.command(cls=TorchCommand)
def losses() -> None:
    """Training losses, for train.loss, and the tasks that have them."""
    from step_ahsar.tasks import TASKS

    _print_table("loss", {name: task.losses for name, task in TASKS.items()})


@app.command(cls=TorchCommand)
def heads() -> None:
    """Heads of segmentation and detection, for head.name."""
    from step_ahsar.heads import detection, segmentation

    _print_table("head", {"segmentation": segmentation.HEADS, "detection": detection.HEADS})


@app.command(cls=TorchCommand)
def encoders() -> None:
    """Encoders from images to time steps, for data.encoder."""
    from step_ahsar.data.encoders import ENCODERS

    _print(None, [[name] for name in ENCODERS])


@app.command(cls=TorchCommand)
def representations() -> None:
    """Representations of events as frames, for data.events.representation."""
    from step_ahsar.data.events.representations import REPRESENTATIONS

    _print(None, [[name] for name in REPRESENTATIONS])


@app.command(cls=TorchCommand)
def corruptions() -> None:
    """Corruptions of test data, at severities 1 to 5, and the kinds of data that have them."""
    from step_ahsar.data.events import corruptions as of_events
    from step_ahsar.data.images import corruptions as of_images
    from step_ahsar.data.sequences import corruptions as of_series

    found: dict[str, Collection[str]] = {"static": of_images.CORRUPTIONS, "event": of_events.CORRUPTIONS}
    _print_table("corruption", found | {"series": of_series.CORRUPTIONS})


@app.command(cls=TorchCommand)
def conditions() -> None:
    """Conditions under which trained models are tested, besides corruptions: NAME:VALUE, and what the value is.

    Behind any of them, a corruption or `clean`: +thresholds or +norm, which are then adapted to the test data.
    """
    from step_ahsar.robustness import CONDITIONS

    _print(["condition", "value"], [[name, kind.values] for name, kind in CONDITIONS.items()])


@app.command(cls=TorchCommand)
def launchers() -> None:
    """Launchers of comparisons, for launch.launcher."""
    from step_ahsar.compare.launchers import LAUNCHERS

    _print(None, [[name] for name in LAUNCHERS])


@app.command(cls=TorchCommand)
def configs() -> None:
    """Configs of the package, to run or to extend, each with its first line."""
    from step_ahsar.config import list_configs
    from step_ahsar.paths import configs_dir

    rows = []
    for name in list_configs():
        lines = (configs_dir() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        rows.append([name, next((line.lstrip("# ") for line in lines if line.startswith("#")), "")])
    _print(None, rows)


def _print_table(kind: str, places: Mapping[str, Collection[str]]) -> None:
    """Names as rows, and for each place whether it has that name."""
    names = sorted({name for there in places.values() for name in there})
    _print([kind, *places], [[name, *("yes" if name in there else "-" for there in places.values())] for name in names])


def _print(header: list[str] | None, rows: list[list[str]]) -> None:
    """Columns, aligned; plain text, so that it can be piped."""
    table = ([header] if header else []) + rows
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

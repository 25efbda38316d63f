"""`step-ahsar list ...`: what there is, by name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

import typer

from step_ahsar.errors import UserError

app = typer.Typer(
    help="List neurons, models, surrogates, datasets, encoders, corruptions or configs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def neurons() -> None:
    """Neurons, and the backends that have them."""
    from step_ahsar.neurons import list_backends, list_neurons

    backends = {backend: set(list_neurons(backend)) for backend in list_backends()}
    _print(
        ["neuron", *backends],
        [[name, *("yes" if name in there else "-" for there in backends.values())] for name in list_neurons()],
    )


@app.command()
def models(
    name: Annotated[str, typer.Argument(metavar="FILTER", help="Part of a name, or a pattern: 'qk*_4_*'.")] = "",
) -> None:
    """Models, with the input they are made for unless told otherwise."""
    import timm

    from step_ahsar.models import list_models

    pattern = name if any(sign in name for sign in "*?[") else f"*{name}*"
    found = [model for model in list_models() if fnmatchcase(model, pattern)]
    if not found:
        raise UserError(f"no model matches {name!r}; known: {', '.join(list_models())}")
    rows = []
    for model in found:
        made_for = timm.get_pretrained_cfg(model)
        assert made_for is not None  # registered with one
        rows.append([model, " x ".join(map(str, made_for.input_size))])
    _print(["model", "input (C, H, W)"], rows)


@app.command()
def surrogates() -> None:
    """Surrogate gradients."""
    from step_ahsar.neurons import list_surrogates

    _print(None, [[name] for name in list_surrogates()])


@app.command()
def datasets() -> None:
    """Data sets, and the tasks that their targets are good for."""
    from step_ahsar.data import find_dataset, list_datasets

    specs = [find_dataset(name) for name in list_datasets()]
    _print(
        ["dataset", "modality", "tasks", "classes"],
        [[spec.name, spec.modality, ", ".join(spec.tasks), str(spec.num_classes or "as found")] for spec in specs],
    )


@app.command()
def encoders() -> None:
    """Encoders from images to time steps, for data.encoder."""
    from step_ahsar.data.encoders import ENCODERS

    _print(None, [[name] for name in ("direct", *ENCODERS)])


@app.command()
def corruptions() -> None:
    """Corruptions of test data, at severities 1 to 5, and the kinds of data that have them."""
    from step_ahsar.data.events.corruptions import CORRUPTIONS as OF_EVENTS
    from step_ahsar.data.images.corruptions import CORRUPTIONS as OF_IMAGES

    _print(
        ["corruption", "static", "event"],
        [
            [name, *("yes" if name in kind else "-" for kind in (OF_IMAGES, OF_EVENTS))]
            for name in sorted({*OF_IMAGES, *OF_EVENTS})
        ],
    )


@app.command()
def configs() -> None:
    """Configs that come with the package, to run or to extend, each with its first line."""
    from step_ahsar.config import list_configs
    from step_ahsar.paths import configs_dir

    rows = []
    for name in list_configs():
        lines = (configs_dir() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        rows.append([name, next((line.lstrip("# ") for line in lines if line.startswith("#")), "")])
    _print(None, rows)


def _print(header: list[str] | None, rows: list[list[str]]) -> None:
    """Columns, aligned; plain text, so that it can be piped."""
    table = ([header] if header else []) + rows
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    for row in table:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

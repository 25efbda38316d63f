"""The report as a single HTML page. Styles, plots and pictures are inside, so it needs no other file."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from step_ahsar.errors import UserError
from step_ahsar.files import write_file
from step_ahsar.progress import followed
from step_ahsar.report import plots, text
from step_ahsar.report.figure import STYLES
from step_ahsar.report.formats import as_latex, as_markdown
from step_ahsar.report.single import (
    Single,
    attention_on_sample,
    confusion_matrix,
    confusions,
    examples,
    layers_by_depth,
    layers_on_sample,
)
from step_ahsar.report.style import DEPTHS, Theme

REPORT = "report.html"
PICTURES = 3  # pictures of predictions per cell
LARGE = 150_000  # bytes; larger pictures are embedded as JPEG to keep the page small

Summary = dict[str, Any]


def write(
    summary: Summary,
    directory: Path,
    pictures: Mapping[str, Sequence[Path]] | None = None,
    run: Single | None = None,
) -> Path:
    """Writes DIRECTORY/report.html atomically and returns its path.

    Args:
        summary: a summary in the format of docs/summary.md.
        directory: an existing folder.
        pictures: those of each cell; None for what :func:`find_pictures` finds in the folder.
        run: of the page of a single run, what it has left for a reader.
    """
    page = render(summary, find_pictures(summary, directory) if pictures is None else pictures, run)
    try:
        write_file(directory / REPORT, page)
        return directory / REPORT
    except OSError as error:
        raise UserError(f"cannot write {directory / REPORT}: {error}") from error


def find_pictures(summary: Summary, directory: Path) -> dict[str, list[Path]]:
    """For each cell of segmentation or detection the first pictures of predictions of its first seed that has any.

    They are in DIRECTORY/runs/<cell>/<seed>/predictions, or for the folder of a single run in DIRECTORY/predictions.
    """
    found = {}
    for cell in summary["cells"]:
        if cell["task"] == "classification":
            continue
        folders = [directory / "runs" / cell["id"] / str(seed["seed"]) for seed in cell["seeds"]]
        if len(summary["cells"]) == 1:
            folders.append(directory)
        of_runs = (sorted((folder / "predictions").glob("[0-9]*.png")) for folder in folders)
        if pictures := next(filter(None, of_runs), []):
            found[cell["id"]] = pictures[:PICTURES]
    return found


def render(summary: Summary, pictures: Mapping[str, Sequence[Path]] | None = None, run: Single | None = None) -> str:
    """The page of a summary.

    Args:
        summary: a summary in the format of docs/summary.md.
        pictures: by cell, PNG files with input, truth and prediction of the first test samples.
        run: of the page of a single run, what it has left for a reader.
    """
    manifest, cells = summary["manifest"], summary["cells"]
    theme = Theme(cells)
    started = [cell for cell in cells if any(seed["epochs"] for seed in cell["seeds"])]
    ended = [cell for cell in cells if cell["n"]]
    # Accuracies on different data say nothing about each other.
    by_place = _grouped(ended, lambda cell: (cell["metric"], text.place(cell)))
    limits = plots.layer_limits(started)
    pictures = pictures or {}
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.globals.update(text=text, swatch=lambda cell: _swatch(cell, theme))
    template = environment.from_string(_resource("page.html.jinja"))
    return template.render(
        manifest=manifest,
        headline=_headline(manifest, cells),
        facts=_facts(manifest),
        cells=cells,
        comparisons=summary["comparisons"],
        equal={
            line: text.beside_the_line(summary["comparisons"], line)
            for line in ("equal_operations", "equal_rate", "equal_accuracy")
        },
        copies=[("Markdown", as_markdown(summary)), ("LaTeX", as_latex(summary))],
        script=Markup(_resource("page.js")),
        verdicts=text.verdicts(summary["comparisons"], manifest["margin"]),
        unpaired=summary["unpaired"],
        ranking=summary["ranking"],
        ranks=Markup(plots.critical_differences(summary["ranking"], theme)) if summary["ranking"] else None,
        detectable=text.detectable(summary["comparisons"]),
        failures=text.failures(cells),
        about_data=text.about_data(manifest["datasets"]),
        groups=plots.groups_of(cells),
        presets=text.presets(cells),
        metric=text.common_metric(cells),
        chosen=text.chosen_on(cells),
        models=[list(group) for _, group in groupby(cells, key=_place)],
        further=[(same, names) for same in _grouped(ended, itemgetter("metric")) if (names := _further(same))],
        pictures=[(cell, [_inline(path) for path in paths]) for cell in cells if (paths := pictures.get(cell["id"]))],
        light=Markup(theme.variables(dark=False)),
        dark=Markup(theme.variables(dark=True)),
        depths=DEPTHS,
        styles=STYLES,
        commands=text.commands(summary),
        configs=[(part["name"], _yaml(part["config"])) for part in manifest["parts"]]
        or [(None, _yaml(manifest["config"]))],
        curves=[
            (same, Markup(plots.training_curves(same, manifest["target"], theme))) for same in _grouped(started, _place)
        ],
        rates=[(same, Markup(plots.metric_against_rate(same, theme))) for same in by_place if len(same) > 1],
        costs=[
            (same, Markup(plot))
            for same in by_place
            if len(same) > 1 and (plot := plots.metric_against_cost(same, theme))
        ],
        robust=[
            (same, text.scores(same), _kinds(same), [Markup(row) for row in rows])
            for same in by_place
            if (rows := plots.metric_under_conditions(same, theme))
        ],
        exits=[(same, _criteria(same), Markup(plot)) for same in by_place if (plot := plots.early_exits(same, theme))],
        thresholds=[
            (same, Markup(plot))
            for same in by_place
            if (plot := plots.against_threshold(same, manifest["target"], theme))
        ],
        activity=[
            (cell, Markup(plot))
            for cell in followed("drawing the activity of each cell", ended)
            if (plot := plots.activity_by_depth(cell, theme))
        ],
        layers=[
            (cell, Markup(plots.layers_over_time(cell, limits, theme)), _gains(cell))
            for cell in followed("drawing the layers of each cell", started)
        ],
        depth=_depth(started, theme) if len(cells) == 1 else None,
        run=None if run is None else _run(run, cells[0]["task"], theme),
    )


def _depth(started: list[dict[str, Any]], theme: Theme) -> Markup | None:
    """The heat maps of a single run; None before its first epoch."""
    plot = layers_by_depth(started[0]["seeds"][0], theme) if started else None
    return None if plot is None else Markup(plot)


def _run(run: Single, task: str, theme: Theme) -> dict[str, Any]:
    """What the template shows of a single run's samples."""
    look = run.record["look"]
    sample = next(each for each in run.record["examples"] if each["sample"] == look["sample"])
    matrix, attention = confusion_matrix(run, theme), attention_on_sample(run, theme)
    return {
        "epoch": run.record["epoch"],
        "examples": examples(run, task, _inline),
        "confusions": confusions(run),
        "matrix": None if matrix is None else Markup(matrix),
        "unit": "pixels" if task == "segmentation" else "samples",
        "sample": look["sample"],
        "picture": _inline(run.folder / sample["picture"]),
        "truth": ", ".join(f"{name} {text.brief(value)}" for name, value in look["truth"].items() if name != "best"),
        "layers": Markup(layers_on_sample(look, theme)),
        "attention": None if attention is None else Markup(attention),
    }


def _resource(name: str) -> str:
    """A file beside this one."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _yaml(config: dict[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=110)


def _headline(manifest: dict[str, Any], cells: list[dict[str, Any]]) -> str:
    """What was compared, in one line."""
    models = list(dict.fromkeys(cell["model"] for cell in cells))
    neurons = list(dict.fromkeys(text.neuron(cell) for cell in cells))
    data = list(dict.fromkeys(text.place(cell) for cell in cells))
    count = f"{len(cells)} cells × {len(manifest['seeds'])} seeds" if len(cells) > 1 else f"seed {manifest['seeds'][0]}"
    return f"{_and(models)} with {_and(neurons)} on {_and(data)}: {count}"


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _facts(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Versions, hardware, data sets and commit of the manifest, each as (name, one line)."""
    records = [("versions", manifest["versions"]), ("hardware", manifest["hardware"])]
    records += [("data", data) for data in manifest["datasets"]]
    facts = [
        (name, ", ".join(f"{key} {value}" for key, value in record.items() if value is not None and key != "skipped"))
        for name, record in records
    ]
    folders = [("joined folders", ", ".join(part["name"] for part in manifest["parts"]))] if manifest["parts"] else []
    return [*folders, *facts, ("git commit", manifest["git_commit"] or "none")]


def _grouped(cells: list[dict[str, Any]], key: Callable[[dict[str, Any]], Any]) -> list[list[dict[str, Any]]]:
    """Groups the cells by a key, in the order of their first cells."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return list(groups.values())


def _place(cell: dict[str, Any]) -> tuple[str, str]:
    return cell["model"], text.place(cell)


def _criteria(cells: list[dict[str, Any]]) -> str:
    """The criteria of early exit."""
    found = [seed["early_exit"]["criterion"] for cell in cells for seed in cell["seeds"] if seed["early_exit"]]
    return _and(list(dict.fromkeys(found)))


def _kinds(cells: list[dict[str, Any]]) -> list[str]:
    """The conditions under which some of the cells were tested, without the clean test set."""
    names = dict.fromkeys(name for cell in cells for name in cell["mean"]["conditions"] or ())
    return [name for name in names if name != "clean"]


def _further(cells: list[dict[str, Any]]) -> list[str]:
    """Names of the metrics other than the one that the cells are judged by."""
    return list(dict.fromkeys(name for cell in cells for name in cell["mean"]["metrics"] if name != cell["metric"]))


def _inline(path: Path) -> str:
    """A PNG file as a data URL; as JPEG if the file is large and JPEG is shorter."""
    try:
        png = path.read_bytes()
        if len(png) > LARGE and len(jpeg := _jpeg(png)) < len(png):
            return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    except (OSError, SyntaxError) as error:  # SyntaxError is Pillow's, of a damaged file
        raise UserError(f"cannot read picture {path}: {error}") from error
    return f"data:image/png;base64,{b64encode(png).decode()}"


def _jpeg(png: bytes) -> bytes:
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(buffer := io.BytesIO(), format="JPEG", quality=88, optimize=True)
    return buffer.getvalue()


def _gains(cell: dict[str, Any]) -> str:
    """The controller's slow gain of each group at the end of training, mean over seeds; empty for plain cells."""
    last = [seed["epochs"][-1]["gamma"] for seed in cell["seeds"] if seed["status"] == "ok"]
    known = [gains for gains in last if gains]
    if not known:
        return ""
    return ", ".join(f"{group} {sum(gains[group] for gains in known) / len(known):.2f}" for group in known[0])


def _swatch(cell: dict[str, Any], theme: Theme) -> Markup:
    """A small picture of the cell's line and marker in the plots."""
    style = theme.cells[cell["id"]]
    dash = " ".join(f"{step * style.width:g}" for step in style.dash)
    return Markup(
        '<svg class="swatch" viewBox="0 0 34 12" aria-hidden="true" style="color: var(--{})">'
        '<line x1="1" y1="6" x2="33" y2="6" stroke="currentColor" stroke-width="{}" stroke-dasharray="{}"/>'
        '<path d="{}" fill="currentColor"/></svg>'
    ).format(style.colour, style.width, dash or "none", _MARKER_PATHS[style.marker])


_MARKER_PATHS = {
    "o": "M13 6a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "s": "M13.5 2.5h7v7h-7z",
    "D": "M17 1.5l4.5 4.5l-4.5 4.5l-4.5-4.5z",
    "^": "M17 1.5l4.5 8h-9z",
    "v": "M17 10.5l4.5-8h-9z",
    "P": "M15.5 2h3v2.5h2.5v3h-2.5v2.5h-3v-2.5h-2.5v-3h2.5z",
    "X": "M14 2l3 2.3l3-2.3l1 1.2l-2.4 2.8l2.4 2.8l-1 1.2l-3-2.3l-3 2.3l-1-1.2l2.4-2.8l-2.4-2.8z",
    "*": "M17 1l1.3 3.4l3.7.2l-2.9 2.3l1 3.6l-3.1-2l-3.1 2l1-3.6l-2.9-2.3l3.7-.2z",
}

"""The commands. They import heavy modules inside their functions, so that --help is fast."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from step_ahsar import __version__
from step_ahsar.cli import lists
from step_ahsar.cli.invoking import FAILED, Commands, TorchCommand, interruptible, is_main, say
from step_ahsar.libraries import list_libraries

if TYPE_CHECKING:
    from step_ahsar.compare import Observer
    from step_ahsar.report import Single

app = typer.Typer(
    cls=Commands,
    help="Train spiking transformers, and compare them fairly.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(lists.app, name="list")

_EXPORTED = list_libraries("layouts")


def _configs(begun: str) -> list[str]:
    """Names of packaged configs that begin so, for the shell's completion."""
    from step_ahsar.config import list_configs

    return [name for name in list_configs() if name.startswith(begun)]


_Config = Annotated[
    str,
    typer.Argument(metavar="CONFIG", help="A YAML file, or a name that `list configs` shows.", autocompletion=_configs),
]
_Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Keys to replace, such as model.time_steps=2 train.lr=5e-4."),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"step-ahsar {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


@app.command(cls=TorchCommand)
def validate(config: _Config, overrides: _Overrides = None) -> None:
    """Check a config, without running it.

    This checks keys and values, the names of models, neurons and data sets, and whether the shapes fit; of a comparison
    also its factors, conditions and launcher.
    """
    from step_ahsar import engine
    from step_ahsar.compare import planned
    from step_ahsar.config import load_config

    settings = load_config(config, overrides or ())
    with progress_bar():
        if settings.compare is None:
            engine.validate(settings)
            found = f"one run of {settings.train.epochs} epochs"
        else:
            seeds = len(settings.compare.seeds)
            found = f"a comparison of {len(planned(settings)) // seeds} cells x {seeds} seeds"
    typer.echo(f"valid: {found}")


@app.command(cls=TorchCommand)
def train(
    config: _Config,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The run's folder; it must be new or hold the same run.")],
    overrides: _Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
) -> None:
    """Train one model, in one process or in those that torchrun or accelerate launch starts.

    On several devices: accelerate launch -m step_ahsar train CONFIG --out DIR
    """
    from rich.console import Console

    from step_ahsar import engine
    from step_ahsar.cli.results import print_training
    from step_ahsar.config import load_config
    from step_ahsar.report import text

    settings = load_config(config, overrides or ())
    with interruptible("continue with the same command and --resume"), progress_bar() as bar:
        try:
            result = engine.train(settings, out, resume, **bar.follow(settings))
        except engine.NonFiniteLoss as fault:
            if is_main():
                say(f"error: training diverged: {fault}; the results of earlier epochs are kept in {out}")
            raise typer.Exit(FAILED) from None
    if not is_main():
        return
    print_training(out, result, Console())
    for line in text.about_data([engine.Run.existing(out).manifest()["dataset"]]):
        typer.echo(line)


@app.command(cls=TorchCommand)
def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Keys of testing to replace, such as head.test_flip=true."),
    ] = None,
    checkpoint: Annotated[str, typer.Option(metavar="last|best", help="Which epoch's weights.")] = "last",
    condition: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:VALUE",
            help="Measure under this condition, see `list corruptions` and `list conditions`; may be repeated.",
        ),
    ] = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Measure under every corruption of the test data, at five severities.")
    ] = False,
    early_exit: Annotated[
        str | None,
        typer.Option(
            metavar="confidence|entropy", help="Samples leave when they are certain: accuracy against time steps."
        ),
    ] = None,
    adapt: Annotated[
        str | None,
        typer.Option(
            metavar="thresholds|norm", help="Also with thresholds or norms adapted to the test data, without labels."
        ),
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="RUN", help="The run that mean corruption errors are relative to.")
    ] = None,
    operations: Annotated[
        bool, typer.Option("--operations", help="Also count the operations of every layer, over the whole test set.")
    ] = False,
) -> None:
    """Measure a trained model on its test set, under other conditions, or with early exit.

    What is measured under conditions and with early exit is kept in RUN, and not measured again.
    """
    from rich.console import Console

    from step_ahsar import engine
    from step_ahsar.cli.results import print_conditions, print_early_exit, print_evaluation
    from step_ahsar.errors import UserError

    conditions = [*(condition or ()), *(["corruptions"] if corruptions else [])]
    if adapt is not None:
        conditions += [f"{each}+{adapt}" for each in conditions or ["clean"]]
    if early_exit is not None:
        if conditions or operations:
            raise UserError("--early-exit is a measurement of its own; leave out --operations and conditions")
        with progress_bar():
            exits = engine.measure_early_exit(run, early_exit, checkpoint, overrides or ())
        if is_main():
            print_early_exit(run, exits, Console())
        return
    if not conditions:
        if reference is not None:
            raise UserError("--reference is for --corruptions")
        with progress_bar():
            found = engine.evaluate(run, checkpoint, overrides or (), operations)
        if is_main():
            print_evaluation(run, found, Console())
        return
    if operations:
        raise UserError("--operations is for the clean test set; leave out --condition, --corruptions and --adapt")
    measured = partial(engine.measure_conditions, conditions=conditions, which=checkpoint, overrides=overrides or ())
    with progress_bar():
        found = measured(run)
        theirs = None if reference is None else measured(reference)
    if is_main():
        print_conditions(run, found, reference, theirs, Console())


@app.command(cls=TorchCommand)
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    to: Annotated[
        str,
        typer.Option(metavar="TARGET", help=f"What will load it: torch, {', '.join(_EXPORTED)}, timm, pt2 or onnx."),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Where the data are: data.root=DIR.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="PATH", help="Default: a new one in RUN/export.")] = None,
    checkpoint: Annotated[str, typer.Option(metavar="last|best", help="Which epoch's weights.")] = "last",
) -> None:
    """Write a trained model for other libraries, for timm, or as a graph.

    For torch, spikingjelly and braincog: a safetensors file in that library's key layout, AHSAR's scales folded into
    the weights. For timm: a folder with weights, config and model card. pt2 (torch.export) and onnx are graphs for
    inference, with thresholds and norms folded into the weights; they are compared with the model on test data.
    """
    from step_ahsar import engine

    with progress_bar():
        path = engine.export(run, to, out, checkpoint, overrides or ())
    typer.echo(path)


@app.command(cls=TorchCommand)
def compare(
    config: _Config,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The comparison's folder, new or of an earlier comparison.")],
    overrides: _Overrides = None,
    jobs: Annotated[int | None, typer.Option(metavar="N", help="Train N runs at a time; launch.jobs.")] = None,
    launcher: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where they are trained; launch.launcher.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be trained, how long it takes and what it needs.")
    ] = False,
) -> None:
    """Train and compare; the same command continues.

    Every cell of the config's section `compare` is trained once per seed, into DIR/runs. summary.json and report.html
    are written into DIR. If it was interrupted, the same command continues the comparison. If cells or seeds have
    changed, the runs of those that are the same are kept.
    """
    from rich.console import Console

    from step_ahsar import report
    from step_ahsar.cli.results import print_estimate
    from step_ahsar.compare import compare as run_comparison
    from step_ahsar.compare import estimate
    from step_ahsar.config import load_config

    options = {"jobs": jobs, "launcher": launcher}
    given = [f"launch.{key}={value}" for key, value in options.items() if value is not None]
    settings = load_config(config, [*(overrides or ()), *given])
    if dry_run:
        with progress_bar():
            found = estimate(settings, out)
        print_estimate(found, out, settings.launch.jobs, Console())
        return
    with interruptible("all finished epochs are kept; continue with the same command"), progress_bar() as bar:
        summary = run_comparison(settings, out, bar)
    with progress_bar():
        page = report.write(summary, out)
    report.print_table(summary, Console())
    typer.echo(f"\n{page}")
    if not any(cell["n"] for cell in summary["cells"]):
        say("error: every run failed")
        raise typer.Exit(FAILED)


@app.command(cls=TorchCommand)
def bench(
    parts: Annotated[
        list[str] | None,
        typer.Argument(metavar="PART", help="What to measure; `bench --parts` lists them. Default: everything."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where bench.json, bench.md and bench.png go.")] = Path(
        "bench"
    ),
    rounds: Annotated[int, typer.Option(metavar="N", help="How often each contender is measured, in turn.")] = 15,
    threads: Annotated[int, typer.Option(metavar="N", help="Of torch, on a CPU.")] = 2,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda or mps.")] = "cpu",
    small: Annotated[
        bool, typer.Option("--small", help="Sizes that take seconds, to see that everything runs.")
    ] = False,
    list_parts: Annotated[bool, typer.Option("--parts", help="List the parts, and measure nothing.")] = False,
) -> None:
    """Measure the speed and memory of neurons, training and inference, beside other libraries'."""
    from step_ahsar.bench import PARTS, Setting, run_bench
    from step_ahsar.report.bench import lines, write

    if list_parts:
        for name, part in PARTS.items():
            typer.echo(f"{name:<12} {part.about}")
        return
    setting = Setting(device, threads, rounds, small)
    with interruptible(f"what was measured is in {out}"), progress_bar():
        for found in run_bench(parts or (), setting):
            typer.echo("\n".join(lines(found["rows"][-1])))
            write(found, out)
    typer.echo(out)


@app.command(cls=TorchCommand)
def look(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    sample: Annotated[int, typer.Option(metavar="N", help="Its number in the test set, from 0.")] = 0,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Where the data are: data.root=DIR.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: RUN/look/N.png.")] = None,
    checkpoint: Annotated[str, typer.Option(metavar="last|best", help="Which epoch's weights.")] = "last",
) -> None:
    """Show what a trained model does with one sample: its layers through time, and its attention.

    It prints the spikes per neuron of every layer at each time step, and draws them, beside the sample and the spikes
    behind each attention's product over it, into a PNG.
    """
    from step_ahsar import engine
    from step_ahsar.errors import UserError
    from step_ahsar.report.look import draw
    from step_ahsar.report.text import brief

    path = run / "look" / f"{sample}.png" if out is None else out
    if path.suffix != ".png":
        raise UserError(f"--out must be a file whose name ends in .png, got {path}")
    with progress_bar():
        found = engine.look(run, sample, checkpoint, overrides or ())
    typer.echo(", ".join(f"{key}: {brief(value)}" for key, value in found.truth.items()))
    width = max(map(len, found.rates))
    for name, rates in found.rates.items():
        typer.echo(f"{name:<{width}}  {'  '.join(f'{rate:.3f}' for rate in rates)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(found).savefig(path, dpi=130)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    typer.echo(path)


@app.command(cls=TorchCommand)
def doctor() -> None:
    """Say what is installed and what works, and what to do about the rest."""
    from step_ahsar.cli.doctor import SECTIONS, findings
    from step_ahsar.progress import followed

    with progress_bar():
        sections = list(followed("looking at what there is", findings(), SECTIONS))
    for title, found in sections:
        typer.echo(title)
        for name, value, advice in found:
            typer.echo(f"  {name:<22}{value}{f'  -> {advice}' if advice else ''}")


@app.command("report", cls=TorchCommand)
def report_(
    directories: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="The folders of comparisons or of runs; several are joined.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write. Default: DIR, if that is one.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", metavar="json|csv|md|latex", help="Print this, and write nothing.")
    ] = None,
) -> None:
    """Rebuild summary.json and report.html, or print the results for another program.

    A folder may hold a finished or an unfinished comparison or run. Several go into one page, with pairs of cells of
    different folders. CSV has a line for each run; Markdown and LaTeX are the tables of the cells and of the pairs.
    """
    from rich.console import Console

    from step_ahsar import report
    from step_ahsar.compare import write
    from step_ahsar.errors import UserError, unknown
    from step_ahsar.report.formats import FORMATS

    if form is not None and form not in FORMATS:
        raise unknown("format", form, FORMATS)
    if form is None and out is None and len(directories) > 1:
        raise UserError("the page of several folders needs a folder of its own: --out DIR")
    if form is not None and out is not None:
        raise UserError("--format prints and --out writes; give one of them")
    with progress_bar():
        summary, pictures, run = _summarised(directories, "joined" if out is None else out.resolve().name)
    if form is not None:
        typer.echo(FORMATS[form](summary).rstrip("\n"))
        return
    out = _page_folder(directories[0] if out is None else out, directories)
    write(summary, out)
    with progress_bar():
        page = report.write(summary, out, pictures, run)
    report.print_table(summary, Console())
    typer.echo(f"\n{page}")


def main() -> None:
    """The program `step-ahsar`."""
    app()


def progress_bar() -> AbstractContextManager[Observer]:
    """Shows on stderr how far the work in a block is, as the commands do; see docs/training.md.

    Returns:
        A context manager. What it yields has the hooks of :func:`step_ahsar.engine.train`, and is an observer for
        :func:`step_ahsar.compare.compare`.
    """
    from step_ahsar.cli.progress import shown

    return shown()


def _summarised(directories: list[Path], title: str) -> tuple[dict[str, Any], dict[str, list[Path]], Single | None]:
    """The summary of the folders, joined if there are several, the pictures of its cells, and what a run has left."""
    from step_ahsar.compare import collect, join
    from step_ahsar.errors import UserError
    from step_ahsar.progress import work
    from step_ahsar.report import find_pictures, find_single

    resolved = [directory.resolve() for directory in directories]
    if twice := [given for i, given in enumerate(directories) if resolved[i] in resolved[:i]]:
        raise UserError(f"{twice[0]} is given twice")
    names = [path.name for path in resolved]
    if len(set(names)) < len(names):
        names = [str(directory) for directory in directories]
    parts = {}
    with work("folder", len(names)) as begin:
        for name, directory in zip(names, directories, strict=True):
            begin(name)
            parts[name] = collect(directory)
    pictures = [find_pictures(part, folder) for part, folder in zip(parts.values(), directories, strict=True)]
    if len(directories) == 1:
        return parts[names[0]], pictures[0], find_single(directories[0])
    summary = join(parts, title)
    cells = [part["cells"] for part in summary["manifest"]["parts"]]
    of_cell = [(id, found.get(there)) for ids, found in zip(cells, pictures, strict=True) for id, there in ids.items()]
    return summary, {id: paths for id, paths in of_cell if paths}, None


def _page_folder(out: Path, directories: list[Path]) -> Path:
    """The folder for a page, made if it is not there. One that holds other runs would lose its own page."""
    from step_ahsar.compare import COMPARISON
    from step_ahsar.errors import UserError

    if directories != [out] and any((out / file).exists() for file in (COMPARISON, "config.yaml")):
        raise UserError(f"{out} is the folder of other runs, whose page would be lost; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(f"cannot write to output folder {out}: {fault}") from fault
    return out

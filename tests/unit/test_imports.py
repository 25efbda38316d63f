"""Which part of the package may import which, and what an import may load."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import step_ahsar

ROOT = Path(step_ahsar.__file__).parent

# Each part of the package, and the parts that it may import. data, tasks and models do not import each other: the
# engine brings them together. The report reads summaries, which are plain dicts.
ALLOWED = {
    "errors": set(),
    "paths": set(),
    "files": set(),
    "internals": set(),
    "passes": set(),
    "progress": set(),
    "lazy": set(),
    "ranks": {"errors"},
    "plugins": {"errors"},
    "registry": {"errors", "plugins"},
    "variants": {"paths", "plugins"},
    "neurons": {"errors", "internals", "plugins", "ranks", "registry"},
    "layers": {"errors", "internals", "ranks", "neurons"},
    "models": {"errors", "internals", "paths", "plugins", "variants", "neurons", "layers"},
    "libraries": {"errors", "neurons", "layers", "models"},
    "ahsar": {"errors", "internals", "lazy", "passes", "ranks", "neurons", "libraries"},
    "integrations": {"errors", "neurons", "libraries", "ahsar"},
    "measure": {"errors", "internals", "ranks", "neurons", "ahsar"},
    "config": {"errors", "files", "paths", "ahsar"},
    "heads": {"errors", "registry", "layers"},
    "data": {"errors", "files", "internals", "progress", "ranks", "registry", "config"},
    "tasks": {"errors", "registry", "config", "neurons", "layers", "heads"},
    "engine": {
        *("errors", "files", "internals", "passes", "progress", "ranks", "config", "neurons", "layers", "models"),
        *("libraries", "ahsar", "measure", "data", "tasks", "robustness"),
    },
    "robustness": {"errors", "registry", "config", "neurons", "data", "tasks"},
    "compare": {
        *("errors", "files", "lazy", "progress", "registry", "config", "neurons", "measure", "data", "robustness"),
        "engine",
    },
    "bench": {
        *("errors", "internals", "progress", "libraries", "config", "neurons", "models", "ahsar", "measure", "data"),
        "engine",
    },
    "report": {"errors", "files", "progress"},
    "__main__": {"cli"},
    "cli": {
        *("errors", "paths", "plugins", "progress", "variants", "libraries", "config", "neurons", "heads", "measure"),
        *("data", "tasks", "robustness", "engine", "compare", "bench", "report"),
    },
}
# The same inside of data: a kind of data knows what all have in common, and scenes are made of images and events.
DATA = {
    "common": set(),
    "encoders": set(),
    "images": {"common"},
    "events": {"common"},
    "sequences": {"common"},
    "scenes": {"common", "images", "events"},
    "embedded": {"common", "images", "events", "sequences", "scenes"},
    "cache": {"common", "events", "scenes"},
    "pipeline": {"common", "encoders", "images", "events", "sequences", "scenes"},
    "own": {"common"},
    "loading": {"common", "cache", "events", "own", "pipeline"},
}
OPTIONAL = ("spikingjelly", "braincog", "snntorch", "sinabs", "tonic")
SLOW = ("timm", "torchvision", "torch._dynamo", "accelerate", "scipy", "sklearn", "matplotlib")  # 0.3 s or more each


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in ROOT.rglob("*.py")}


def imports(file: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in MODULES else str(node.module) for full in names.values()}
    return {name for name in found if name.startswith("step_ahsar.")}


def arrows(folder: str) -> dict[str, set[str]]:
    """For each module and package directly in a package, which others in it it imports."""
    found: dict[str, set[str]] = {}
    for module, file in MODULES.items():
        if module.startswith(f"{folder}."):
            part = module.removeprefix(f"{folder}.").split(".")[0]
            inside = {name for name in imports(file) if name.startswith(f"{folder}.")}
            others = {name.removeprefix(f"{folder}.").split(".")[0] for name in inside} - {part}
            found[part] = found.get(part, set()) | others
    return found


@pytest.mark.parametrize(("folder", "allowed"), [("step_ahsar", ALLOWED), ("step_ahsar.data", DATA)])
def test_imports_go_one_way(folder, allowed):
    found = arrows(folder)
    assert found.keys() == allowed.keys(), "say here what a new part may import"
    for part, others in found.items():
        assert others <= allowed[part], f"{folder}.{part} must not import {', '.join(sorted(others - allowed[part]))}"
        assert others >= allowed[part], f"{folder}.{part} does not import {', '.join(sorted(allowed[part] - others))}"


def loaded_by_name(file: Path) -> set[str]:
    """The parts of the package that a file names in texts, as for ``import_module``. Docstrings do not count."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in bare)
    return {text.split(".")[1] for text in texts if isinstance(text, str) and text.startswith("step_ahsar.")}


def test_what_is_loaded_by_name():
    """Registering neurons, and reading files of other libraries' weights, go against the direction of imports."""
    found: dict[str, set[str]] = {}
    for module, file in MODULES.items():
        if module != "step_ahsar":
            part = module.split(".")[1]
            found[part] = found.get(part, set()) | loaded_by_name(file) - {part}
    against = {part: others - ALLOWED[part] for part, others in found.items() if others - ALLOWED[part]}
    assert against == {"neurons": {"libraries", "ahsar"}, "models": {"libraries"}}


@pytest.mark.parametrize("folder", sorted({name.rpartition(".")[0] for name in MODULES} - {""}))
def test_there_are_no_circles(folder):
    try:
        list(TopologicalSorter(arrows(folder)).static_order())
    except CycleError as circle:
        pytest.fail(f"{folder}: {' -> '.join(circle.args[1])}")


def loaded_by(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["step_ahsar", "step_ahsar.cli", "step_ahsar.config", "step_ahsar.ahsar"])
def test_without_torch(module):
    """The package, the command line with its --help, and configs."""
    assert loaded_by(f"import {module}").isdisjoint({"torch", "timm", "numpy", "matplotlib", *OPTIONAL})


def test_the_core_needs_torch_and_einops_alone():
    """Then it can be put beside any release of timm, or of whatever else a training loop is made of."""
    core = (
        "from step_ahsar.ahsar import AHSARConfig, Adaptation, Controller, ScaleRule, adapt_thresholds, controller_of\n"
        "from step_ahsar.ahsar import fold, is_regulated, record_rates, regulate\n"
        "from step_ahsar.integrations.step import AHSARNode\n"
        "from step_ahsar.neurons import create_neuron\ncreate_neuron('ahsar')"
    )
    requirements = {re.split(r"[\[>=<;]", line)[0].lower() for line in importlib.metadata.requires("step-ahsar")}
    others = requirements - {"torch", "einops", "numpy"}
    providers = importlib.metadata.packages_distributions()
    third = {name for name in loaded_by(core) if others & {each.lower() for each in providers.get(name, ())}}
    assert third == set()


def test_a_config_is_read_without_torch():
    assert "torch" not in loaded_by("from step_ahsar.config import load_config; load_config('quickstart')")


def test_help_is_printed_without_torch():
    code = "import sys; sys.argv = ['step-ahsar', '--help']\nfrom step_ahsar.cli import main\ntry: main()\nexcept: pass"
    assert "torch" not in loaded_by(code)


def test_lists_are_printed_without_what_is_slow_to_import():
    """All of them in one process; models, launchers and configs are known without torch, too."""
    code = """
import sys
from typer.testing import CliRunner
from step_ahsar.cli import app, lists
without_torch = ["models", "launchers", "configs"]
others = {command.callback.__name__ for command in lists.app.registered_commands} - {*without_torch}
for name in without_torch + sorted(others):
    assert CliRunner().invoke(app, ["list", name]).exit_code == 0
    print(name, name in without_torch, *sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) > 10
    for name, without_torch, *loaded in lines:
        slow = {*SLOW, *OPTIONAL, *(["torch"] if without_torch == "True" else [])}
        assert slow.isdisjoint(loaded), f"list {name} imports {', '.join(slow & {*loaded})}"


def test_no_optional_backend_is_loaded_before_it_is_asked_for():
    everything = "import step_ahsar.engine, step_ahsar.compare.runner, step_ahsar.report"
    assert loaded_by(f"{everything}\nfrom step_ahsar.neurons import create_neuron; create_neuron('lif')").isdisjoint(
        OPTIONAL
    )


def test_the_report_needs_no_torch():
    assert "torch" not in loaded_by("import step_ahsar.report")

"""Who may import whom, and what an import may bring with it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import step_ahsar

ROOT = Path(step_ahsar.__file__).parent

# Each part of the package, and the parts that it may import. Stages (data, tasks, models) do not know each other:
# the engine joins them. The report reads summaries, which are plain dicts, and knows nothing of what made them.
ALLOWED = {
    "errors": set(),
    "paths": set(),
    "neurons": {"errors"},
    "ahsar": {"errors", "neurons"},
    "config": {"errors", "paths", "ahsar"},
    "layers": {"errors", "neurons"},
    "models": {"errors", "paths", "neurons", "layers"},
    "data": {"errors", "config"},
    "heads": {"errors", "neurons", "layers"},
    "tasks": {"errors", "config", "neurons", "layers", "heads"},
    "engine": {"errors", "paths", "config", "neurons", "ahsar", "data", "models", "tasks"},
    "compare": {"errors", "config", "data", "engine"},
    "report": {"errors"},
    "cli": {"errors", "paths", "config", "neurons", "models", "data", "tasks", "engine", "compare", "report"},
}
OPTIONAL = ("spikingjelly", "braincog", "snntorch", "sinabs", "tonic")


def imports(file: Path) -> set[str]:
    """The parts of the package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("step_ahsar.")}
    return found - {"__version__"}


@pytest.mark.parametrize("part", sorted(path.stem for path in ROOT.iterdir() if path.stem[0] != "_"))
def test_imports_go_one_way(part):
    assert part in ALLOWED, f"say in ALLOWED what step_ahsar.{part} may import"
    path = ROOT / part
    for file in path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]:
        forbidden = imports(file) - ALLOWED[part] - {part}
        assert not forbidden, f"{file} imports {', '.join(sorted(forbidden))}"


def loaded_by(statement: str) -> set[str]:
    """Top-level names of the modules that a fresh interpreter has after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_is_light():
    assert loaded_by("import step_ahsar").isdisjoint({"torch", "timm", "numpy", *OPTIONAL})


def test_the_command_line_starts_without_torch():
    assert loaded_by("import step_ahsar.cli").isdisjoint({"torch", "timm", "numpy", "matplotlib", *OPTIONAL})


def test_no_optional_backend_is_loaded_before_it_is_asked_for():
    everything = "import step_ahsar.engine, step_ahsar.compare, step_ahsar.report"
    assert loaded_by(f"{everything}\nfrom step_ahsar.neurons import create_neuron; create_neuron('lif')").isdisjoint(
        OPTIONAL
    )


def test_the_report_needs_no_torch():
    assert "torch" not in loaded_by("import step_ahsar.report")

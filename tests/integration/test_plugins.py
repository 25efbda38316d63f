"""docs/plugins.md: the package that it shows is installed, by its metadata, and used."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

try:
    import tomllib
except ImportError:  # before Python 3.11
    import tomli as tomllib

from step_ahsar import plugins

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with the page's files, and with metadata as pip writes them."""
    files = dict(re.findall(r"`([\w/.]+)`(?:[^`\n]|\n(?!\n))*\n\n```\w+\n(.*?)```", PAGE, re.DOTALL))
    assert {"my_spikes/neuron.py", "my_spikes/zoo/tinyformer/variants.yaml", "plugin.yaml", "mylib.py"} <= set(files)
    for name, content in {**files, "my_spikes/mylib/__init__.py": ""}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    metadata = tmp_path / "my_spikes-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 1.0\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return tmp_path


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{ROOT}", "STEP_AHSAR_COMPILE": "0"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=package, env=environment, capture_output=True, text=True, timeout=300
    )


def test_what_a_package_adds_is_used(package: Path) -> None:
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    commands = [shlex.split(line)[1:] for line in block.splitlines()]
    code = f"""
import timm
import step_ahsar.models
assert timm.is_model("tinyformer_1_32")  # although nobody has looked up a name of this package
from typer.testing import CliRunner
from step_ahsar.cli import app
for command in {commands!r}:
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    print(done.output)
from mylib import MyNode
from torch import nn
from step_ahsar.ahsar import regulate
print(regulate(nn.Sequential(nn.Linear(2, 2), MyNode())).layers())
"""
    (package / "use.py").write_text(f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}")
    done = run(package, "use.py")
    assert done.returncode == 0, done.stderr
    assert "tinyformer_1_32" in done.stdout  # in the list of models
    assert "'threshold_scale': 1.0" in done.stdout
    accuracies = [float(found) for found in re.findall(r"test accuracy (\d+\.\d+) %", done.stdout)]
    assert accuracies
    assert (package / "runs" / "plugin_compare" / "report.html").is_file()


def test_a_plugin_that_cannot_be_loaded_is_named_and_left_out(package: Path) -> None:
    (package / "my_spikes" / "__init__.py").write_text("import nothing_of_this_name")
    done = run(package, "-c", "from step_ahsar.neurons import create_neuron, list_neurons; create_neuron('lif')")
    assert done.returncode == 0, done.stderr
    assert (
        "plugin 'my_spikes' (my_spikes) cannot be loaded and is left out: ModuleNotFoundError: No module" in done.stderr
    )


def test_plugins_are_loaded_once_and_may_look_up_names(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    class Entry:
        value = "module"

        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> Any:
            loaded.append(self.name)
            plugins.load_plugins()  # as a plugin's module does that looks up a name

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Entry("b"), Entry("a")])
    monkeypatch.setattr(plugins, "_begun", False)
    plugins.load_plugins()
    plugins.load_plugins()
    assert loaded == ["a", "b"]

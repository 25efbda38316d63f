"""The wheel, built from a clean copy and installed into a clean environment, works and has its data inside."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("step_ahsar", "zoo", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def test_zoo_and_configs_are_inside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for inside, folder in (("step_ahsar/zoo/", "zoo"), ("step_ahsar/configs/", "configs")):
        packed = {name.removeprefix(inside) for name in names if name.startswith(inside)}
        there = {str(p.relative_to(ROOT / folder)) for p in (ROOT / folder).rglob("*") if p.is_file()}
        assert packed == there
    assert not any(name.startswith("tests") for name in names)


def test_it_runs_where_there_is_no_checkout(wheel, tmp_path):
    """Dependencies come from this environment; the package and its data from the wheel alone."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    site = next((tmp_path / "env").glob("lib/python*/site-packages"))
    python = tmp_path / "env" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    dependencies = [p for p in sys.path if p.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(dependencies))
    step_ahsar = [str(tmp_path / "env" / "bin" / "step-ahsar")]
    for what, expected in (("models", "qkformer_4_384"), ("configs", "quickstart"), ("neurons", "ahsar")):
        ran = subprocess.run([*step_ahsar, "list", what], check=True, capture_output=True, text=True, cwd=tmp_path)
        assert expected in ran.stdout
    where = "import step_ahsar.paths as p; print(p.zoo_dir())"
    ran = subprocess.run([python, "-c", where], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert str(site) in ran.stdout

"""What the README shows is run."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict = {}
    exec(compile(example, "README.md", "exec"), names)
    from step_ahsar.ahsar import is_regulated

    assert is_regulated(names["model"])
    assert not is_regulated(names["plain"])
    assert any(layer["threshold_scale"] != 1 for layer in names["controller"].layers().values())


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("script", re.findall(r"^\./(scripts/\w+)", README, flags=re.MULTILINE))
def test_the_two_commands_exist(script):
    assert (ROOT / script).stat().st_mode & 0o111


def test_ci_runs_the_test_command():
    assert "./scripts/test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_precommit_config_is_yaml():
    assert yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]

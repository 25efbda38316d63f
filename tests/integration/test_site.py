"""The site: it is built without dead links, and its first hour runs as it stands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from step_ahsar.cli import app

ROOT = Path(__file__).parents[2]
FEWER = ["data.train_limit=128", "data.test_limit=64", "train.epochs=1", "model.time_steps=2"]
FEWER_THERE = "data: {train_limit: 128, test_limit: 64}\nmodel: {time_steps: 2, args: {depth: 1, dim: 32}}\n"


def test_the_first_hour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
    page = (ROOT / "docs" / "first-hour.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "sh", "yaml", "sh", "python", "sh"]
    for kind, block in blocks:
        if kind == "yaml":
            assert "save it as `mine.yaml`" in page
            Path("mine.yaml").write_text(block + FEWER_THERE, encoding="utf-8")
        elif kind == "python":
            exec(compile(block, "first-hour.md", "exec"), {})
        for line in block.splitlines() if kind == "sh" else ():
            command, *arguments = shlex.split(line)
            assert command == "step-ahsar"
            arguments += FEWER if arguments[0] == "train" else []
            arguments = [word for word in arguments if word not in ("--jobs", "2")]  # processes take longer to start
            done = CliRunner().invoke(app, arguments, catch_exceptions=False)
            assert done.exit_code == 0, (line, done.output)
    for file in (
        "digits/report.html",
        "mine/report.html",
        "digits/export/timm/README.md",
        "digits/export/model.pt2",
        "digits/look/3.png",
    ):
        assert (tmp_path / "runs" / file).is_file()


@pytest.mark.skipif(
    sys.version_info < (3, 11), reason="the last mkdocstrings and pymdown-extensions for Python 3.10 do not fit"
)
def test_the_site_is_built(tmp_path: Path) -> None:
    """Strictly: a dead link, a dead anchor or a public name that is not found is an error."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "reference" / "ahsar.html").read_text(encoding="utf-8")
    for name in ("regulation.regulate", "config.AHSARConfig", "controller.Controller.epoch_end"):
        assert f'id="step_ahsar.ahsar.{name}"' in reference
    assert ">>>" not in re.sub(r"<pre>.*?</pre>", "", reference, flags=re.DOTALL)
    assert (tmp_path / "results" / "main" / "report.html").is_file()
    assert (tmp_path / "zoo" / "spikformer.html").is_file()
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="contributing.html"' in index

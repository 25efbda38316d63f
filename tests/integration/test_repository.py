"""What is around the package: workflows, citation, release."""

import subprocess
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_workflows_call_scripts_that_are_there() -> None:
    called = set()
    for file in (ROOT / ".github" / "workflows").glob("*.yml"):
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            called |= {step["run"] for step in job["steps"] if "run" in step}
    assert called == {"./scripts/test", "./scripts/test-core", "./scripts/docs", "./scripts/package"}
    assert all((ROOT / command).stat().st_mode & 0o111 for command in called)


def test_issue_templates_and_citation_are_complete() -> None:
    for file in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert {"name", "description", "body"} <= yaml.safe_load(file.read_text()).keys()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert f'version = "{citation["version"]}"' in (ROOT / "pyproject.toml").read_text()


def test_a_release_refuses_what_is_not_ready() -> None:
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "clone"
        for name in ("scripts", "pyproject.toml", "CITATION.cff", "CHANGELOG.md"):
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-r", str(ROOT / name), str(there / name)], check=True)

        def git(*arguments: str) -> None:
            identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
            subprocess.run(["git", "-C", str(there), *identity, *arguments], check=True, capture_output=True)

        def refusal() -> str:
            done = subprocess.run([str(there / "scripts" / "release")], capture_output=True, text=True)
            assert done.returncode == 2
            return done.stderr

        git("init")
        assert "changes that are not committed" in refusal()
        git("add", "-A"), git("commit", "-m", "all")
        assert "CHANGELOG.md has no section [0.1.0]" in refusal()
        changes = there / "CHANGELOG.md"
        changes.write_text(changes.read_text().replace("## [Unreleased]", "## [0.1.0]", 1))
        git("commit", "-am", "released")
        git("tag", "v0.1.0")
        assert "there is a tag v0.1.0 already" in refusal()
        (there / "CITATION.cff").write_text("version: 0.0.9\n")
        git("commit", "-am", "another version")
        assert "CITATION.cff has another version than pyproject.toml, 0.1.0" in refusal()

"""What a run was made with."""

import json

import torch

from step_ahsar.engine import git_commit, hardware, versions


def test_manifest_parts():
    assert versions()["torch"] == torch.__version__
    assert set(versions()) >= {"step-ahsar", "python", "timm", "numpy"}
    assert set(hardware()) == {"platform", "cpu", "cores", "threads", "accelerator"}
    assert git_commit() is None or len(git_commit().removesuffix("-dirty")) == 40
    json.dumps([versions(), hardware()])

import subprocess
import sys

import pytest


@pytest.fixture
def in_new_process():
    """Runs code in a Python of its own; what it asserts must hold."""

    def run(code):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return run

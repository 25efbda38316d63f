"""Signals end a command: the first with its state saved, the second at once."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")

# A command that says when it works, and takes very long to save its state.
COMMAND = """
import sys, time, typer
from step_ahsar.cli.invoking import interruptible
try:
    with interruptible("go on with the same command"):
        try:
            print("working", flush=True)
            time.sleep(60)
        finally:
            print("saving", flush=True)
            time.sleep({saving})
            print("saved", flush=True)
except typer.Exit as ending:
    sys.exit(ending.exit_code)
"""


def start(saving):
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(saving=saving)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell lets what it runs in the background ignore SIGINT, and this would be inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_after_its_state_is_saved(number, status):
    process = start(saving=0)
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output.split()) == (status, ["saving", "saved"])
    assert errors == "interrupted; go on with the same command\n"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(second):
    process = start(saving=60)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "saving\n"
    began = time.monotonic()
    process.send_signal(second)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (143, "")
    assert time.monotonic() - began < 10

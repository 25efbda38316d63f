"""The peak is that of the steps, and of nothing before or after."""

import subprocess
import sys

import pytest
import torch

from step_ahsar.measure.memory import PeakMemory

# Blocks above 32 MiB come from and go to the system one by one; smaller ones the heap may keep.
STEPS = """
import torch
from step_ahsar.measure.memory import PeakMemory

MIB = 2**20
before = torch.ones(100 * MIB // 4)
del before
kept = torch.ones(34 * MIB // 4)
memory = PeakMemory(torch.device("cpu"))
memory.start()
for _ in range(3):
    a = torch.ones(40 * MIB // 4)
    b = torch.ones(36 * MIB // 4)
    del a, b
memory.stop(resident=kept.nbytes)
print(memory.mib)
memory.start()
memory.stop(resident=0)
print(memory.mib)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's high-water mark is Linux's")
def test_peak_on_a_cpu():
    # A process of its own: the mark is the whole process's, and here threads of other tests may still allocate.
    output = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True).stdout
    assert [float(line) for line in output.split()] == pytest.approx([110, 110], abs=5)


def test_where_the_platform_does_not_tell(monkeypatch, tmp_path):
    monkeypatch.setattr("step_ahsar.measure.memory._CLEAR", tmp_path / "none" / "clear_refs")
    memory = PeakMemory(torch.device("cpu"))
    memory.start()
    memory.stop(resident=1)
    assert memory.mib is None

import pytest
import torch


@pytest.fixture
def eager(monkeypatch):
    """Compiling takes longer than small runs do."""
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")


@pytest.fixture
def one_thread():
    """Small runs are faster with one, and equal to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

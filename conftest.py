import os
import random

import numpy as np
import pytest
import torch

# Compiling costs seconds per graph; tests that are about compiled graphs switch it on.
os.environ.setdefault("STEP_AHSAR_COMPILE", "0")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """Frames and fingerprints of data sets are kept in a folder of the tests, not in the user's home."""
    monkeypatch.setattr("step_ahsar.data.common.files.CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def seeded():
    """Tests that draw numbers draw the same ones, whatever ran before them."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  # tonic and timm draw from it
    random.seed(0)

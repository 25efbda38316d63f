"""Small data sets on disk."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def save():
    """Writes an image: uint8 arrays as they are, sizes (H, W) as noise in colours; with palette=True as indices."""

    def write(path, content, palette=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            content = np.random.default_rng(0).integers(0, 256, (*content, 3))
        image = Image.fromarray(np.asarray(content, np.uint8))
        if palette:
            image = image.copy()
            image.putpalette(np.random.default_rng(1).integers(0, 256, 768).tolist())
        image.save(path)
        return path

    return write

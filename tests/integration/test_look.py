"""`step-ahsar look`: what it shows is what the model does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from step_ahsar import engine
from step_ahsar.cli import app
from step_ahsar.config import load_config
from step_ahsar.data import open_data
from step_ahsar.engine.build import build_model
from step_ahsar.engine.opening import Trained
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError
from step_ahsar.measure.firing import FiringRateMeter
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.tasks import create_task

LIVELY = ["model.threshold=0.3", "model.time_steps=3", "data.batch_size=2", "data.test_limit=20"]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Opens the untrained model of a config as that of a run."""

    def open_it(name: str, *overrides: str) -> Trained:
        config = load_config(name, [*LIVELY, *overrides])
        torch.manual_seed(0)
        data = open_data(config)
        task = create_task(config, data.classes)
        model = build_model(config.model, task, data.in_chans, data.sizes, data.spec.ndim).eval()
        trained = Trained(Run(tmp_path, config), config, data, task, model, 1)
        monkeypatch.setattr("step_ahsar.engine.looking.open_trained", lambda *_: trained)
        monkeypatch.setattr(Run, "existing", lambda path: trained.run)
        return trained

    return open_it


CASES = {  # the size of the picture, and of the image that lies under the maps
    "classification/static/digits": ((128, 128), (12, 12)),
    "classification/event/digits_events": ((3 * 96 + 2 * 8, 96), (32, 32)),
    "classification/sequence/digits_sequence": ((256, 96), None),
    "segmentation/static/digits_scenes": (None, (64, 64)),
    "detection/static/digits_scenes": ((4 * 256 + 3 * 8, 276), (64, 64)),
}


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_it_shows_what_the_model_does_with_a_sample(name: str, opened: Any, tmp_path: Path) -> None:
    trained, (picture, image) = opened(name), CASES[name]
    found = engine.look(tmp_path, 11)
    axis = trained.task.batch_axis(next(iter(trained.data.test_batches()))[0])
    batches = [inputs for inputs, _ in trained.data.test_batches()]
    assert batches[0].shape[axis] <= 11  # so that it is not in the first one
    alone = torch.cat(batches, axis).narrow(axis, 11, 1)
    with FiringRateMeter(trained.model) as meter:
        trained.model(alone)
    assert list(found.rates) == [n for n, m in trained.model.named_modules() if isinstance(m, SpikingNeuron)]
    for layer, rates in found.rates.items():
        assert len(rates) == alone.shape[0] if axis else 3
        assert np.mean(rates) == pytest.approx(meter.layers()[layer].rate, abs=1e-6)
        assert found.groups[layer] == meter.layers()[layer].group
    assert len({round(r, 4) for rates in found.rates.values() for r in rates}) > 5
    assert picture is None or found.picture.size == picture
    assert image == (None if found.image is None else found.image.size)
    for layer, tokens in found.attention.items():
        assert tokens.ndim == 2
        assert (len(tokens) == 1) == (image is None)
        assert tokens.mean() == pytest.approx(np.mean(found.rates[layer]), rel=1e-4)
    assert "truth" in found.truth or trained.config.task != "classification"

    done = CliRunner().invoke(app, ["look", str(tmp_path), "--sample", "11"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    file = tmp_path / "look" / "11.png"
    lines = done.output.splitlines()
    assert lines[-1] == str(file)
    first = next(iter(found.rates))
    assert next(line for line in lines if line.startswith(first)).split()[1] == f"{found.rates[first][0]:.3f}"
    assert np.asarray(Image.open(file).convert("L")).std() > 10


def test_attention_lies_over_the_image_as_the_tokens_do(opened: Any, tmp_path: Path) -> None:
    """One token that fires in one channel of two at one of three steps."""
    from step_ahsar.engine.looking import _over_tokens

    spikes = torch.zeros(3, 1, 2, 8)
    spikes[1, 0, 0, 5] = 1
    tokens = _over_tokens(spikes, torch.Size([8, 16]), is_series=False)
    assert tokens.shape == (2, 4)
    assert tokens[1, 1] == pytest.approx(1 / 6)
    assert tokens.sum() == pytest.approx(1 / 6)
    assert _over_tokens(spikes, torch.Size([1, 16]), is_series=True).shape == (1, 8)


def test_attention_within_windows_has_no_map(opened: Any, tmp_path: Path) -> None:
    """Its windows lie along the batch. The other attentions of the model have one."""
    opened("classification/static/digits", "model.name=sglformer_2_64", "data.img_size=32")
    found = engine.look(tmp_path, 0)
    maps = {name: tokens.shape for name, tokens in found.attention.items()}
    assert maps
    assert all(rows == columns for rows, columns in maps.values())
    windowed = [name for name in found.rates if name.endswith("attn.neuron") and name not in maps]
    assert windowed


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("a.txt", "must be a file whose name ends in .png, got a.txt"),
        ("/dev/null/a.png", "cannot write /dev/null/a.png"),
    ],
)
def test_places_where_no_picture_can_be(out: str, words: str, opened: Any, tmp_path: Path) -> None:
    opened("classification/static/digits")
    done = CliRunner().invoke(app, ["look", str(tmp_path), "--sample", "0", "--out", out])
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


@pytest.mark.parametrize("sample", [-1, 20])
def test_samples_that_are_not_there(sample: int, opened: Any, tmp_path: Path) -> None:
    opened("classification/static/digits")
    with pytest.raises(UserError, match=rf"there is no sample {sample}; the test set has those from 0 to 19"):
        engine.look(tmp_path, sample)

"""Checkpoints: written whole, read without running code, damage noticed."""

import json
import pickle
from types import SimpleNamespace

import pytest
import torch

from step_ahsar.engine import checkpoint as checkpoints
from step_ahsar.engine.checkpoint import Checkpoint
from step_ahsar.errors import UserError
from step_ahsar.files import digest, sealed

CPU = torch.device("cpu")


def make(epoch, best=1, ema=None):
    model = {"w": torch.full((2, 3), float(epoch)).T, "n": torch.tensor(epoch), "s": torch.tensor(0.5)}
    return Checkpoint(epoch, best, model, ema, {"x": {"y": [torch.ones(2), 3, None, "text"]}})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])  # the second is that of a process among several
def test_round_trip(device, tmp_path):
    path = checkpoints.save(tmp_path, make(3, best=2, ema={"w": torch.zeros(1)}))
    found = checkpoints.load(path, torch.device(device), averaged=True)
    assert (found.epoch, found.best) == (3, 2)
    assert torch.equal(found.model["w"], torch.full((3, 2), 3.0))
    assert found.model["n"].dtype == torch.int64
    assert found.model["s"].shape == ()
    assert torch.equal(found.ema["w"], torch.zeros(1))
    y = found.state["x"]["y"]
    assert torch.equal(y[0], torch.ones(2))
    assert y[1:] == [3, None, "text"]


def test_the_last_two_and_the_best_are_kept(tmp_path):
    for epoch, best in ((1, 1), (2, 2), (3, 2), (4, 2), (5, 2)):
        checkpoints.save(tmp_path, make(epoch, best))
    assert names(tmp_path) == ["epoch-0002", "epoch-0004", "epoch-0005"]
    checkpoints.save(tmp_path, make(6, 6))
    assert names(tmp_path) == ["epoch-0005", "epoch-0006"]
    assert checkpoints.find(tmp_path, "last").name == checkpoints.find(tmp_path, "best").name == "epoch-0006"


def test_an_interrupted_write_leaves_no_checkpoint(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, make(1))
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(UserError, match=r"cannot write checkpoint .*epoch-0002: disk full"):
        checkpoints.save(tmp_path, make(2))
    monkeypatch.undo()
    assert names(tmp_path) == ["epoch-0001"]
    found, faults = checkpoints.load_last(tmp_path, CPU, averaged=False)
    assert (found.epoch, faults) == (1, [])
    checkpoints.save(tmp_path, make(2))
    assert checkpoints.load_last(tmp_path, CPU, averaged=False)[0].epoch == 2


@pytest.mark.parametrize("file", ["model.safetensors", "state.pt"])
@pytest.mark.parametrize("size", [0, 40, -8, None])
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, file, size):
    checkpoints.save(tmp_path, make(1))
    damaged = checkpoints.save(tmp_path, make(2)) / file
    content = damaged.read_bytes()
    damaged.unlink() if size is None else damaged.write_bytes(content[:size])
    found, faults = checkpoints.load_last(tmp_path, CPU, averaged=False)
    assert found.epoch == 1
    assert len(faults) == 1
    assert "epoch-0002 is damaged or incomplete" in faults[0]
    assert "\n" not in faults[0]


def test_missing_averaged_weights_are_damage(tmp_path):
    """Fault: the raw weights were evaluated instead, without a word."""
    path = checkpoints.save(tmp_path, make(1, ema={"w": torch.zeros(1)}))
    assert torch.equal(checkpoints.load(path, CPU, averaged=True).judged["w"], torch.zeros(1))
    (path / "ema.safetensors").unlink()
    with pytest.raises(UserError, match=r"epoch-0001 is damaged or incomplete: .*No such file"):
        checkpoints.load(path, CPU, averaged=True)
    checkpoints.save(tmp_path, make(2, ema={"w": torch.zeros(1)}))
    (checkpoints.save(tmp_path, make(3, ema={"w": torch.zeros(1)})) / "ema.safetensors").unlink()
    found, faults = checkpoints.load_last(tmp_path, CPU, averaged=True)  # in resuming
    assert found.epoch == 2
    assert "epoch-0003 is damaged" in faults[0]
    plain = checkpoints.load(checkpoints.save(tmp_path, make(2)), CPU, averaged=False)
    assert plain.ema is None
    assert plain.judged is plain.model


def test_what_an_interrupted_write_left_is_removed(tmp_path):
    left = tmp_path / ".epoch-0001.4711.partial"
    left.mkdir()
    (left / "model.safetensors").write_text("half of it")
    checkpoints.save(tmp_path, make(1))
    assert names(tmp_path) == ["epoch-0001"]


def seal(path):
    """Gives a checkpoint that was altered its checksums."""
    files = [file for file in path.iterdir() if file.name != "checksums.json"]
    sums = {file.name: digest(file.read_bytes()) for file in files}
    (path / "checksums.json").write_text(sealed(json.dumps(sums)))


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ([1, 2], "state.pt holds a list"),
        ({"epoch": 1}, "it has no 'best'"),
        ({"epoch": 1, "best": [1]}, "its .* no integer"),
    ],
)
def test_states_of_another_form_are_damage(tmp_path, state, reason):
    """Fault: they were tracebacks."""
    path = checkpoints.save(tmp_path, make(1))
    torch.save(state, path / "state.pt")
    seal(path)
    with pytest.raises(UserError, match=f"epoch-0001 is damaged or incomplete: {reason}"):
        checkpoints.load(path, CPU, averaged=False)
    with pytest.raises(UserError, match=f"epoch-0001 is damaged or incomplete: {reason}"):
        checkpoints.find(tmp_path, "best")


def test_a_full_disk_names_the_room_that_is_needed(tmp_path, monkeypatch):
    """Half a million numbers of four bytes, in the model and in the state."""
    checkpoint = Checkpoint(2, 1, {"w": torch.zeros(250_000)}, None, {"x": {"y": [torch.ones(250_000)]}})
    monkeypatch.setattr(torch, "save", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_500_000))
    with pytest.raises(UserError, match=r"No space left on device; it needs 2\.0 MB and 1\.5 MB are free\. Make room"):
        checkpoints.save(tmp_path / "new", checkpoint)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    with pytest.raises(UserError, match=r"No space left on device$"):
        checkpoints.save(tmp_path, checkpoint)


def test_weights_of_another_model_are_named(tmp_path):
    path = checkpoints.save(tmp_path, make(1))
    with pytest.raises(
        UserError, match=r'epoch-0001 does not fit the model of the run.s config: Missing key.*"weight"'
    ):
        checkpoints.put_into(torch.nn.Linear(2, 2), {}, path)


def test_nothing_but_damage(tmp_path):
    (checkpoints.save(tmp_path, make(1)) / "state.pt").write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        checkpoints.load_last(tmp_path, CPU, averaged=False)


def test_no_checkpoint(tmp_path):
    assert checkpoints.load_last(tmp_path / "none", CPU, averaged=False) == (None, [])
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoints.find(tmp_path / "none", "last")


def test_loading_runs_no_code(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (pytest.fail, ("code ran",))

    path = checkpoints.save(tmp_path, make(1))
    (path / "state.pt").write_bytes(pickle.dumps(Malicious(), protocol=2))
    with pytest.raises(UserError, match="damaged"):
        checkpoints.load(path, CPU, averaged=False)

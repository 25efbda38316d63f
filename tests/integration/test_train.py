"""Whole runs: train, stop, resume, diverge, evaluate."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from step_ahsar import engine
from step_ahsar.config import Config
from step_ahsar.data import DATASETS, find_dataset, register_dataset
from step_ahsar.data.embedded.digits import ArrayImages, open_digits
from step_ahsar.engine import NonFiniteLoss, Run, checkpoint, evaluate, read_result, train
from step_ahsar.errors import UserError
from step_ahsar.files import sealed, unsealed
from step_ahsar.measure import PRESETS, energy

pytestmark = pytest.mark.usefixtures("eager", "one_thread")

# Few digits of 8x8 pixels, a model of width 16, five steps an epoch: a run takes less than a second.
TINY = {
    "data.name": "few_digits",
    "data.img_size": 8,
    "data.batch_size": 32,
    "model.args": {"dim": 16, "heads": 2, "depth": 1},
    "model.time_steps": 2,
    "train.epochs": 2,
    "train.lr": 0.01,
}
LOUD = {"model.threshold": 0.2}  # without it the tiny model hardly fires
TIMINGS = ("seconds", "step_ms")
EVERYTHING = {  # all that has a state, or draws numbers
    "model.neuron": "ahsar",
    "model.threshold": 2.0,
    "ahsar.calibrate": 0.1,
    "data.auto_augment": "rand-m9-n1-mstd0.5-inc1",
    "data.re_prob": 0.2,
    "data.batch_size": 16,
    "train.accumulate": 2,
    "train.mixup": 0.5,
    "train.cutmix": 0.5,
    "train.mixup_off_epoch": 3,
    "train.label_smoothing": 0.1,
    "train.ema_decay": 0.8,
    "train.clip_grad": 1.0,
    "train.rate_penalty.budget": 0.02,
    "train.recalibrate_norms": 2,
    "train.warmup_epochs": 1,
    "train.cooldown_epochs": 1,
}


class Stop(BaseException):
    """A run's process being killed, as far as a test in the same process can tell."""


def open_few(config):
    splits = open_digits(config)
    train, test = (
        ArrayImages(each.pixels[:n], each.labels[:n]) for each, n in ((splits.train, 180), (splits.test, 60))
    )
    return replace(splits, train=train, test=shown_at_test(test))


def shown_at_test(images):
    """The test part of few_digits. Tests replace this function."""
    return images


if "few_digits" not in DATASETS:
    register_dataset(replace(find_dataset("digits"), name="few_digits", open=open_few))


def tiny(values=None, **more):
    return Config().with_values(TINY | (values or {}) | {key.replace("__", "."): value for key, value in more.items()})


def metrics(run):
    rows = [unsealed(line) for line in (run / "metrics.jsonl").read_bytes().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows]


def last_state(run):
    """Weights and state of the last checkpoint, as bytes and plain values."""
    folder = max((run / "checkpoints").iterdir())
    state = torch.load(folder / "state.pt", weights_only=True)
    state.pop("peak_memory_mib")
    weights = {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}
    return folder.name, weights, plain(state)


def plain(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


# -- a run, from beginning to end ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An AHSAR run of two epochs with what it said on the way."""
    out, epochs, steps = tmp_path_factory.mktemp("runs") / "run", [], []
    os.environ["STEP_AHSAR_COMPILE"] = "0"
    result = train(tiny(model__neuron="ahsar", model__threshold=2.0), out, on_epoch=epochs.append, on_step=steps.append)
    return out, result, epochs, steps


def test_what_a_run_leaves(finished):
    out, result, _, _ = finished
    assert {path.name for path in out.iterdir()} == {
        ".lock",
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "rates.json",
        "checkpoints",
        "tensorboard",
        "predictions",
        "result.json",
    }
    assert read_result(out) == result
    manifest = unsealed((out / "manifest.json").read_bytes())
    assert manifest["dataset"]["fingerprint"].startswith("sha256:")
    parameters = sum(
        p.numel() for n, p in load_file(max((out / "checkpoints").iterdir()) / "model.safetensors").items()
    )
    assert 0 < manifest["parameters"] < parameters  # which counts buffers as well
    assert manifest["seed"] == 0


def test_epochs_are_told_as_they_are_written(finished):
    out, result, epochs, _ = finished
    assert epochs == result["epochs"] == [unsealed(line) for line in (out / "metrics.jsonl").read_bytes().splitlines()]
    for number, row in enumerate(epochs, start=1):
        assert row["epoch"] == number
        expected = "epoch train_loss metric metrics lr step_ms firing_rate dead_fraction layers gamma seconds"
        assert set(row) == set(expected.split())
        assert set(row["firing_rate"]) == set(row["gamma"]) == {"stem", "attention", "mlp"}
        assert 0 <= row["dead_fraction"] <= 1
        for layer in row["layers"].values():
            assert set(layer) == {"group", "rate", "threshold_scale", "dead_fraction"}
            assert 0 <= layer["rate"] <= 1
            assert layer["threshold_scale"] != 1.0


def test_steps_are_told(finished):
    _, _, _, steps = finished
    assert [(s["epoch"], s["step"]) for s in steps] == [(e, s) for e in (1, 2) for s in range(1, 6)]
    assert all(s["epochs"] == 2 and s["steps"] == 5 and math.isfinite(s["loss"]) for s in steps)


def test_the_result_is_that_of_the_test_set(finished):
    _, result, epochs, _ = finished
    last = epochs[-1]
    assert (result["seed"], result["status"], result["error"]) == (0, "ok", None)
    assert result["metrics"] != last["metrics"]  # which are those of 18 validation samples
    assert all(round(60 * value, 3).is_integer() for value in result["metrics"].values())
    assert all(round(18 * value, 3).is_integer() for row in epochs for value in row["metrics"].values())
    stem = [layer["threshold_scale"] for layer in last["layers"].values() if layer["group"] == "stem"]
    assert result["threshold_scale"]["stem"] == pytest.approx(sum(stem) / len(stem))
    assert result["step_ms"] > 0


def test_the_best_epoch_is_the_first_of_the_best(finished):
    _, result, epochs, _ = finished
    judged = [row["metrics"]["acc1"] for row in epochs]
    assert result["best"]["epoch"] == 1 + judged.index(max(judged))


def test_evaluating_gives_what_training_measured(finished):
    """Although AHSAR's slow loop changes the thresholds after validation."""
    out, result, epochs, _ = finished
    found = evaluate(out, "last")
    for key in ("metrics", "firing_rate", "dead_fraction"):
        assert found[key] == result[key], key
    scales = {name: layer["threshold_scale"] for name, layer in found["layers"].items()}
    assert scales == {name: layer["threshold_scale"] for name, layer in epochs[-1]["layers"].items()}
    silent = {name: layer["dead_fraction"] for name, layer in found["layers"].items()}
    assert silent == {name: neurons.dead for name, neurons in found["neurons"].items()}
    assert len(set(silent.values())) > 1
    assert len(found["samples"]) == 8
    assert set(found["samples"][0]) == {"truth", "prediction", "confidence"}
    assert found["operations"] is None
    counted = evaluate(out, "last", operations=True)["operations"]
    for kind in ("macs", "macs_repeated", "synaptic_operations", "dense_macs", "updates", "spikes"):
        assert result["operations"][kind] == getattr(counted, kind)
    assert engine.counted(result) == engine.counted(read_result(out)) == counted
    assert result["neurons"] == {name: asdict(each) for name, each in found["neurons"].items()}
    assert result["energy"] == {preset: 1e-6 * energy(counted, preset).spiking for preset in PRESETS}
    assert counted.samples == 60
    own = evaluate(out, overrides=["energy.mine.like=compute-int8", "energy.mine.add=1"], operations=True)["presets"]
    assert own["mine"].add == 1
    assert own["mine"].multiply == PRESETS["compute-int8"].multiply
    best = evaluate(out, "best")
    assert (best["epoch"], best["metrics"]) == (result["best"]["epoch"], result["best"]["metrics"])


def test_a_model_whose_operations_cannot_be_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("step_ahsar.measure.counting._COUNTED", {})
    result = train(tiny(train__epochs=1), tmp_path / "run")
    assert (result["status"], result["operations"], result["energy"]) == ("ok", None, None)
    said = "operations of aten::convolution in patch_embed.stages.0.conv (Conv2d) cannot be counted"
    assert said in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot be counted"):
        evaluate(tmp_path / "run", operations=True)


def test_a_finished_run_is_not_trained_again(finished):
    out, result, _, _ = finished
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    again = train(tiny(model__neuron="ahsar", model__threshold=2.0), out, on_step=pytest.fail)
    assert again == result
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_evaluation_refuses_other_data(finished, tmp_path):
    out, _, _, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    manifest = unsealed((copy / "manifest.json").read_bytes())
    manifest["dataset"]["fingerprint"] = "sha256:other"
    (copy / "manifest.json").write_text(sealed(json.dumps(manifest)))
    with pytest.raises(UserError, match=r"is not what .* was trained on"):
        evaluate(copy)


def test_a_run_is_not_continued_on_other_data(finished, tmp_path):
    out, _, _, _ = finished
    copy = tmp_path / "run"
    shutil.copytree(out, copy)
    (copy / "result.json").unlink()
    manifest = unsealed((copy / "manifest.json").read_bytes())
    manifest["dataset"]["fingerprint"] = "sha256:other"
    (copy / "manifest.json").write_text(sealed(json.dumps(manifest)))
    with pytest.raises(UserError, match=r"is not what .* was trained on"):
        train(Run.existing(copy).config, copy, resume=True, on_step=pytest.fail)


def test_evaluation_of_a_run_with_earlier_fingerprints(finished, tmp_path):
    """Fault: it was said to be of other data, although nothing had changed."""
    copy = tmp_path / "run"
    shutil.copytree(finished[0], copy)
    manifest = unsealed((copy / "manifest.json").read_bytes())
    del manifest["dataset"]["fingerprint_version"]
    (copy / "manifest.json").write_text(sealed(json.dumps(manifest)))
    evaluate(copy)  # the embedded sets have the same fingerprint still
    manifest["dataset"]["fingerprint"] = "sha256:other"
    (copy / "manifest.json").write_text(sealed(json.dumps(manifest)))
    with pytest.raises(
        UserError, match=r"was made by an earlier version, whose fingerprints of data cannot be compared"
    ):
        evaluate(copy)


@pytest.mark.parametrize("damage", ["optimizer", "weights"])
def test_resuming_from_a_damaged_checkpoint_names_it(tmp_path, damage):
    """Fault: a traceback."""
    config, out = tiny(train__epochs=1), tmp_path / "run"
    train(config, out)
    (out / "result.json").unlink()
    place = checkpoint.path_of(out / "checkpoints", 1)
    if damage == "optimizer":
        torch.save({"epoch": 1, "best": 1}, place / "state.pt")
    else:
        weights = load_file(place / "model.safetensors")
        del weights["head.weight"]
        save_file(weights, place / "model.safetensors")
    with pytest.raises(UserError, match=r"checkpoint .*epoch-0001 is damaged or incomplete") as error:
        train(config, out, resume=True)
    assert "\n" not in str(error.value)


def test_evaluation_of_what_is_not_there(finished, tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        evaluate(tmp_path)
    with pytest.raises(UserError, match="'last' or 'best', got 'first'"):
        evaluate(finished[0], "first")


# -- what the test set decides ---------------------------------------------------------------------------------------


def wrongly_labelled(images):
    return ArrayImages(images.pixels, images.labels // 10)  # every label is 0


def test_the_test_set_decides_nothing(tmp_path, monkeypatch):
    """Wrong test labels change the result and nothing else: no epoch, no threshold, no choice of the best epoch."""
    config = tiny(model__neuron="ahsar", model__threshold=2.0, train__epochs=3)
    honest = train(config, tmp_path / "honest")
    monkeypatch.setattr(sys.modules[__name__], "shown_at_test", wrongly_labelled)
    wrong = train(config, tmp_path / "wrong")
    assert wrong["metrics"] != honest["metrics"]
    assert wrong["best"]["metrics"] != honest["best"]["metrics"]
    assert wrong["best"]["epoch"] == honest["best"]["epoch"]
    assert metrics(tmp_path / "wrong") == metrics(tmp_path / "honest")
    assert last_state(tmp_path / "wrong") == last_state(tmp_path / "honest")


def test_without_validation_the_test_set_is_what_epochs_are_judged_on(tmp_path, monkeypatch):
    config = tiny(model__neuron="ahsar", model__threshold=2.0, train__epochs=3, data__validation=0)
    honest = train(config, tmp_path / "honest")
    assert honest["metrics"] == honest["epochs"][-1]["metrics"]
    assert honest["best"]["metrics"] == max((row["metrics"] for row in honest["epochs"]), key=lambda row: row["acc1"])
    monkeypatch.setattr(sys.modules[__name__], "shown_at_test", wrongly_labelled)
    wrong = train(config, tmp_path / "wrong")
    assert [row["metrics"] for row in wrong["epochs"]] != [row["metrics"] for row in honest["epochs"]]


def test_the_test_set_is_read_after_the_last_epoch(tmp_path, monkeypatch):
    order = []

    class Watched(ArrayImages):
        def __getitem__(self, index):
            order.append("test")
            return super().__getitem__(index)

    monkeypatch.setattr(sys.modules[__name__], "shown_at_test", lambda images: Watched(images.pixels, images.labels))
    train(tiny(), tmp_path / "run", on_epoch=lambda row: order.append(row["epoch"]))
    assert order[:2] == [1, 2]
    assert set(order[2:]) == {"test"}


# -- the same again --------------------------------------------------------------------------------------------------


def test_one_seed_repeats_a_run_bit_for_bit(tmp_path):
    for name in ("a", "b"):
        train(tiny(EVERYTHING, train__epochs=3), tmp_path / name)
        torch.rand(7)  # what else the process draws does not matter
    assert metrics(tmp_path / "a") == metrics(tmp_path / "b")
    assert last_state(tmp_path / "a") == last_state(tmp_path / "b")


def test_seeds_differ(tmp_path):
    losses = {
        train(tiny(train__epochs=1, seed=seed), tmp_path / str(seed))["epochs"][0]["train_loss"] for seed in (0, 1)
    }
    assert len(losses) == 2


def test_cells_share_weights_order_and_draws(tmp_path):
    """AHSAR with its gain at 0 is the plain neuron: only if all else is shared, the runs are equal bit for bit."""
    values = EVERYTHING | {"ahsar.gamma": 0.0, "ahsar.gamma_min": 0.0, "ahsar.calibrate": None}
    train(tiny(values, train__epochs=3), tmp_path / "ahsar")
    train(tiny(values, train__epochs=3, model__neuron="lif"), tmp_path / "lif")
    for ours, theirs in zip(metrics(tmp_path / "ahsar"), metrics(tmp_path / "lif"), strict=True):
        assert (ours["train_loss"], ours["metrics"]) == (theirs["train_loss"], theirs["metrics"])
        assert ours["firing_rate"] == theirs["firing_rate"]


# -- a budget of spikes ----------------------------------------------------------------------------------------------


def test_a_penalty_brings_the_rate_to_its_budget(tmp_path):
    """In fifty steps. The loss that is told is that of the task alone; the weight begins at 0."""
    loud = tiny(model__threshold=0.5, train__epochs=10)
    free = train(loud, tmp_path / "free")
    held = train(loud.with_values({"train.rate_penalty.budget": 0.06}), tmp_path / "held")
    rows = metrics(tmp_path / "held")
    rates = [row["rate_penalty"]["rate"] for row in rows]
    assert rates[0] > 0.1
    assert rates[-1] < 0.08
    assert rows[-1]["rate_penalty"]["weight"] > 1
    assert "rate_penalty" not in metrics(tmp_path / "free")[-1]
    assert all(held["firing_rate"][group] < 0.7 * free["firing_rate"][group] for group in free["firing_rate"])
    assert max(row["train_loss"] for row in rows) < 2.5  # with the penalty it would be above 3


# -- stopping and going on -------------------------------------------------------------------------------------------


def stop_at(epoch, step):
    def on_step(event):
        if (event["epoch"], event["step"]) == (epoch, step):
            raise Stop

    return on_step


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["plain", "everything"])
def test_a_resumed_run_is_the_run_that_never_stopped(values, tmp_path):
    config = tiny(values, train__epochs=4)
    train(config, tmp_path / "straight")
    for epoch, step in ((1, 3), (3, 2), (4, 5)):  # before any checkpoint, within an epoch, at the end of one
        with pytest.raises(Stop):
            train(config, tmp_path / "stopped", resume=True, on_step=stop_at(epoch, step))
    train(config, tmp_path / "stopped", resume=True)
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "stopped")
    assert last_state(tmp_path / "straight") == last_state(tmp_path / "stopped")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, and a function that sets the disk's size in bytes."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(size, *options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", str(folder)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if not shutil.which("mount") or not mount(2**20):
        pytest.skip("no right to mount a disk")
    yield folder, lambda size: mount(size, "remount")
    subprocess.run(["umount", str(folder)], check=True)


def test_a_run_on_a_full_disk_keeps_its_checkpoint_and_goes_on_when_there_is_room(small_disk, tmp_path):
    folder, resize = small_disk
    config = tiny(model__neuron="ahsar", train__epochs=3)
    train(config, tmp_path / "straight")
    size = sum(file.stat().st_size for file in (tmp_path / "straight" / "checkpoints" / "epoch-0003").iterdir())
    assert resize(int(1.5 * size))
    with pytest.raises(UserError, match=r"cannot write checkpoint .*epoch-0002.*; it needs .* MB are free\. Make room"):
        train(config, folder / "run")
    assert [path.name for path in (folder / "run" / "checkpoints").iterdir()] == ["epoch-0001"]
    assert resize(10 * size)
    train(config, folder / "run", resume=True)
    assert metrics(folder / "run") == metrics(tmp_path / "straight")
    assert last_state(folder / "run") == last_state(tmp_path / "straight")


def flip(path, place):
    """Changes one bit of a file, at a share of its length."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.0, 0.31, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("file", ["model.safetensors", "ema.safetensors", "state.pt", "checksums.json"])
def test_one_flipped_bit_of_a_checkpoint_costs_an_epoch(file, place, averaged, tmp_path, capsys):
    """Of two epochs the second is trained again, and gives what it gave."""
    straight, kept = averaged
    shutil.copytree(straight, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    flip(tmp_path / "run" / "checkpoints" / "epoch-0002" / file, place)
    epochs = []
    train(kept, tmp_path / "run", resume=True, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [2]
    assert "epoch-0002 is damaged or incomplete" in capsys.readouterr().err
    assert metrics(tmp_path / "run") == metrics(straight)


@pytest.mark.parametrize("place", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("file", ["metrics.jsonl", "manifest.json", "config.yaml"])
def test_one_flipped_bit_of_a_record_is_named(file, place, averaged, tmp_path):
    straight, kept = averaged
    shutil.copytree(straight, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    flip(tmp_path / "run" / file, place)
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "run"))):
        train(kept, tmp_path / "run", resume=True, on_step=pytest.fail)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A run of two epochs with averaged weights: its folder and its config."""
    config = tiny(model__neuron="ahsar", train__epochs=2, train__ema_decay=0.9)
    folder = tmp_path_factory.mktemp("averaged") / "run"
    train(config, folder)
    return folder, config


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX's")
def test_a_run_that_was_killed_goes_on(tmp_path):
    """Kill -9, between the second epoch's line of metrics and its checkpoint."""
    config = tiny(model__neuron="ahsar", train__epochs=3)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    code = f"""
import os, signal
import tests.integration.test_train  # which registers its data set
from step_ahsar.config import load_config
from step_ahsar.engine import checkpoint, train
save = checkpoint.save
checkpoint.save = lambda folder, kept: save(folder, kept) if kept.epoch == 1 else os.kill(os.getpid(), signal.SIGKILL)
train(load_config({str(tmp_path / "config.yaml")!r}), {str(tmp_path / "killed")!r})
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == -signal.SIGKILL
    assert len(metrics(tmp_path / "killed")) == 2
    train(config, tmp_path / "killed", resume=True)
    train(config, tmp_path / "straight")
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "straight")
    assert last_state(tmp_path / "killed") == last_state(tmp_path / "straight")


@pytest.mark.parametrize("file", ["model.safetensors", "state.pt"])
def test_a_truncated_checkpoint_costs_an_epoch(file, tmp_path, capsys):
    config = tiny(model__neuron="ahsar", train__epochs=3)
    train(config, tmp_path / "straight")
    with pytest.raises(Stop):
        train(config, tmp_path / "damaged", on_step=stop_at(3, 1))
    damaged = tmp_path / "damaged" / "checkpoints" / "epoch-0002" / file
    damaged.write_bytes(damaged.read_bytes()[:100])
    epochs = []
    train(config, tmp_path / "damaged", resume=True, on_epoch=lambda row: epochs.append(row["epoch"]))
    assert epochs == [2, 3]
    assert "epoch-0002 is damaged or incomplete" in capsys.readouterr().err
    assert metrics(tmp_path / "straight") == metrics(tmp_path / "damaged")
    assert last_state(tmp_path / "straight") == last_state(tmp_path / "damaged")


# -- ending early ----------------------------------------------------------------------------------------------------


@pytest.fixture
def judged(monkeypatch):
    """Runs are judged by these metrics, one for each epoch."""
    from step_ahsar.tasks.classification import Accuracy

    def by(*values):
        given = iter(values)
        monkeypatch.setattr(Accuracy, "compute", lambda self: {"acc1": next(given)})

    return by


def test_a_run_ends_when_validation_has_not_improved(judged, tmp_path):
    """Epoch 2 is the best; an equal epoch is no better one. The last value is that of the test set."""
    judged(0.1, 0.5, 0.4, 0.5, 0.7, 0.6)
    result = train(tiny(train__epochs=9, train__patience=2), tmp_path / "run")
    assert [row["metrics"]["acc1"] for row in result["epochs"]] == [0.1, 0.5, 0.4, 0.5]
    assert (result["status"], result["best"]["epoch"]) == ("ok", 2)


def test_patience_starts_anew_with_every_better_epoch(judged, tmp_path):
    judged(0.1, 0.0, 0.2, 0.1, 0.3, 0.0, 0.9, 0.9)
    assert len(train(tiny(train__epochs=6, train__patience=2), tmp_path / "run")["epochs"]) == 6


def test_a_run_that_was_interrupted_at_its_end_is_not_trained_further(judged, tmp_path):
    class Stop(Exception):
        pass

    def stop(row):
        if row["epoch"] == 3:
            raise Stop

    config = tiny(train__epochs=9, train__patience=2)
    judged(0.5, 0.4, 0.3, 0.2, 0.2)
    with pytest.raises(Stop):
        train(config, tmp_path / "run", on_epoch=stop)
    assert len(train(config, tmp_path / "run", resume=True)["epochs"]) == 3


def test_the_test_set_ends_no_run(tmp_path):
    with pytest.raises(UserError, match=r"train.patience needs data.validation: without it the run would be ended by"):
        train(tiny(train__patience=2, data__validation=0), tmp_path / "run")


# -- divergence and other faults -------------------------------------------------------------------------------------


def test_an_absurd_learning_rate(tmp_path):
    with pytest.raises(NonFiniteLoss, match=r"(loss is nan|loss is inf|a weight is not finite) at epoch \d, step \d"):
        train(tiny(train__lr=1e38, train__optimizer="sgd"), tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result["status"] == "failed"
    assert " at epoch " in result["error"]
    assert result["metrics"] is result["step_ms"] is result["threshold_scale"] is None


def test_the_last_good_checkpoint_is_kept(tmp_path, monkeypatch):
    from step_ahsar.tasks.classification import Classification

    config, seen = tiny(train__epochs=3), []
    honest = Classification.loss

    def poisoned(self, model, inputs, targets):
        seen.append(1)
        return honest(self, model, inputs, targets) * (float("nan") if len(seen) == 13 else 1.0)

    monkeypatch.setattr(Classification, "loss", poisoned)
    with pytest.raises(NonFiniteLoss) as error:
        train(config, tmp_path / "run")
    assert (error.value.epoch, error.value.step) == (3, 3)
    assert str(error.value) == read_result(tmp_path / "run")["error"] == "loss is nan at epoch 3, step 3"
    assert len(read_result(tmp_path / "run")["epochs"]) == 2
    monkeypatch.undo()
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
    assert evaluate(tmp_path / "run")["epoch"] == 2
    train(config, tmp_path / "run", resume=True)
    train(config, tmp_path / "straight")
    assert metrics(tmp_path / "run") == metrics(tmp_path / "straight")


def test_a_model_that_is_too_large_for_its_device_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nMore lines.")

    monkeypatch.setattr(sys.modules["step_ahsar.engine.train"], "train_epoch", full)
    words = r"cpu has too little memory for this run: CUDA out of memory\. Tried to allocate 20\.00 GiB\. Each device"
    with pytest.raises(UserError, match=words):
        train(tiny(), tmp_path / "run")


def test_weights_that_are_not_finite_are_not_kept(tmp_path):
    """The last step of an epoch can spoil the weights after its loss was fine."""

    def spoil(event):
        if (event["epoch"], event["step"]) == (2, 5):
            models[0].head.bias.data[0] = float("nan")

    module = sys.modules["step_ahsar.engine.train"]  # step_ahsar.engine.train is also the name of the function
    models, build = [], module.build_model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "build_model", lambda *args: models.append(build(*args)) or models[0])
        with pytest.raises(NonFiniteLoss, match="a weight is not finite at epoch 2, step 5"):
            train(tiny(), tmp_path / "run", on_step=spoil)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["epoch-0001"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model.neuron": "liff"}, "unknown neuron 'liff'"),
        ({"data.img_size": 10}, "cannot take size 10x10"),
        ({"data.name": "torch/cifar10", "data.root": "/nowhere"}, "looked for cifar-10-batches-py in /nowhere"),
        ({"data.batch_size": 200}, "data.batch_size must be <= 162"),
        ({"train.amp": "fp16"}, "train.amp: fp16 needs an accelerator"),
    ],
)
@pytest.mark.skipif(torch.accelerator.is_available(), reason="fp16 is for accelerators")
def test_faults_leave_no_folder_behind(values, words, tmp_path):
    with pytest.raises(UserError) as error:
        train(tiny(values), tmp_path / "run")
    assert words in str(error.value)
    assert not (tmp_path / "run").exists()


# -- everything in a config reaches the place it names ---------------------------------------------------------------

CHANGES = [
    {"train.optimizer": "sgd"},
    {"train.lr": 0.003},
    {"train.weight_decay": 0.5},
    {"train.schedule": "constant"},
    {"train.min_lr": 0.005},
    {"train.warmup_epochs": 1},
    {"train.warmup_epochs": 1, "train.warmup_lr": 0.005},
    {"train.cooldown_epochs": 1},
    {"train.loss": "tet"},
    {"train.label_smoothing": 0.1},
    {"train.mixup": 0.5},
    {"train.cutmix": 0.5},
    {"train.mixup": 0.5, "train.mixup_off_epoch": 1},
    {"train.ema_decay": 0.5},
    {"train.amp": "bf16"},
    {"train.accumulate": 2},
    {"train.clip_grad": 0.1},
    {"train.recalibrate_norms": 2},
    {"train.recalibrate_norms": 5},
    LOUD,
    LOUD | {"train.rate_penalty.budget": 0.05},
    LOUD | {"train.rate_penalty.budget": 0.05, "train.rate_penalty.weight": 5.0},
    LOUD | {"train.rate_penalty.budget": 0.05, "train.rate_penalty.gain": 1.0},
    LOUD | {"train.rate_penalty.budget": 0.05, "train.rate_penalty.most": 0.5},
    {"data.batch_size": 40},
    {"data.interpolation": "bicubic", "data.img_size": 12},
    {"model.time_steps": 3},
    {"model.threshold": 0.5},
    {"model.attn_threshold": 0.25},
    {"model.tau": 3.0},
    {"model.surrogate": "atan"},
    {"model.alpha": 2.0},
    {"model.reset": "soft"},
    {"model.detach_reset": False},
    {"model.args.depth": 2},
    {"model.neuron": "if"},
    {"model.neuron": "ahsar", "ahsar.band": [0.3, 0.5]},
    {"model.neuron": "ahsar", "ahsar.k": 0.1},
    {"model.neuron": "ahsar", "ahsar.calibrate": 0.1},
    {"model.neuron": "ahsar", "ahsar.calibrate": 0.1, "ahsar.calibrate_per": "layer"},
    {"model.neuron": "ahsar", "ahsar.budget": 0.1},
    {"model.neuron": "ahsar", "ahsar.budget": 0.1, "ahsar.shares": {"stem": 2.0}},
    {"model.neuron": "ahsar", "model.base": "if"},
    {"model.neuron": "ahsar"},
]


@pytest.mark.filterwarnings("ignore:thresholds could not be calibrated")  # the tiny model is too small for it
def test_every_key_changes_the_result(tmp_path):
    outcomes = {}
    for i, values in enumerate([{}, *CHANGES]):
        train(tiny(values), tmp_path / str(i))
        rows = metrics(tmp_path / str(i))
        outcomes[json.dumps([(row["train_loss"], row["metrics"], row["firing_rate"]) for row in rows])] = values
    assert len(outcomes) == len(CHANGES) + 1, "some changes gave the result of another"


@pytest.mark.parametrize(("length", "said"), [(29, {"length": 29, "padded_to": 32}), (32, {})])
def test_the_manifest_says_that_series_are_padded(tmp_path, length, said):
    """Fault: nothing but a key of the model's input in the manifest told it."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.normal(size=(60, 2, length)).astype("f4"), y=np.arange(60) % 2)
    series = {"data.name": "series/mine", "data.root": str(tmp_path / "mine.npz"), "model.name": "spikformer_seq_2_64"}
    values = {key: value for key, value in TINY.items() if key != "data.img_size"} | series
    train(Config().with_values(values | {"train.epochs": 1, "data.batch_size": 8}), tmp_path / "run")
    dataset = json.loads((tmp_path / "run" / "manifest.json").read_text())["dataset"]
    assert {key: dataset[key] for key in ("length", "padded_to") if key in dataset} == said

"""The callbacks for Lightning and for transformers' Trainer, in the real libraries."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from step_ahsar.ahsar import AHSARConfig, regulate
from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron

lightning = pytest.importorskip("lightning.pytorch")
transformers = pytest.importorskip("transformers")
from step_ahsar.integrations import lightning as in_lightning  # noqa: E402
from step_ahsar.integrations import transformers as in_transformers  # noqa: E402


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Nothing of accelerate's state, which the Trainer sets, is left for other tests."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


# A law that moves thresholds in every step and whose slow loop depends on the metric.
LAW = AHSARConfig(band=(0.2, 0.4), eta=0.1, leak=0.005, diffusion=0.05, a=1.4, mu=0.05, calibrate=None)
X = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()


class Net(nn.Module):
    """Two layers of LIF neurons over 4 time steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.mlp = nn.Linear(8, 16), nn.Linear(16, 16)
        self.stem_neuron, self.mlp_neuron = create_neuron("lif"), create_neuron("lif")
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_neuron(self.first(x.expand(4, *x.shape)))
        return self.head(self.mlp_neuron(self.mlp(x)).mean(0))


GROUPS = {"stem": "*stem_neuron", "mlp": "*mlp_neuron"}


def metric(epoch: int) -> float:
    """That of an epoch, from 0; a progress that the slow loop looks at."""
    return 0.1 * (epoch + 1)


def by_hand(epochs: int, batch: int = 6, accumulated: int = 1) -> Any:
    """The controller of a plain loop."""
    net = Net()
    controller = regulate(net, GROUPS, LAW)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for epoch in range(epochs):
        for i, (x, y) in enumerate(zip(X.split(batch), Y.split(batch), strict=True), 1):
            (nn.functional.cross_entropy(net(x), y) / accumulated).backward()
            if i % accumulated == 0:
                optimizer.step(), optimizer.zero_grad()
                controller.step()
        controller.epoch_end(metric(epoch))
    return controller


def same(found: Any, expected: Any) -> None:
    theirs, ours = list(found.layers().values()), list(expected.layers().values())
    assert theirs == ours
    assert found.gammas() == expected.gammas()
    assert len({layer["threshold_scale"] for layer in ours}) == 2


# -- Lightning ---------------------------------------------------------------------------------------------------------


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def training_step(self, batch: Any, i: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, i: int) -> None:
        self.net(batch[0])
        self.log("acc", metric(self.current_epoch))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(folder: Path, callback: Any, epochs: int, module: Any = None, resume: str | None = None, **options: Any) -> Any:
    trainer = lightning.Trainer(
        max_epochs=epochs, callbacks=[callback], default_root_dir=folder, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    data = DataLoader(TensorDataset(X, Y), batch_size=6)
    trainer.fit(module or Module(), data, data, ckpt_path=resume)
    return trainer


@pytest.mark.parametrize("accumulated", [1, 2])
def test_lightning_does_what_a_plain_loop_does(accumulated: int, tmp_path: Path) -> None:
    callback = in_lightning.AHSARCallback(LAW, GROUPS, metric="acc")
    trainer = fit(tmp_path, callback, 3, accumulate_grad_batches=accumulated, enable_checkpointing=False)
    expected = by_hand(3, accumulated=accumulated)
    same(callback.controller, expected)
    logged = trainer.logged_metrics
    for group, layer in zip(("stem", "mlp"), expected.layers().values(), strict=True):
        assert logged[f"ahsar/rate/{group}"].item() == pytest.approx(layer["rate"])
        assert logged[f"ahsar/threshold_scale/{group}"].item() == pytest.approx(layer["threshold_scale"])


@pytest.mark.parametrize("accumulated", [1, 2])
def test_lightning_resumes(accumulated: int, tmp_path: Path) -> None:
    options = {"accumulate_grad_batches": accumulated}
    trainer = fit(tmp_path, in_lightning.AHSARCallback(LAW, GROUPS, metric="acc"), 2, **options)
    callback = in_lightning.AHSARCallback(LAW, GROUPS, metric="acc")
    fit(tmp_path, callback, 3, resume=trainer.checkpoint_callback.best_model_path, **options)
    same(callback.controller, by_hand(3, accumulated=accumulated))


def test_lightning_fits_again_and_another_module(tmp_path: Path) -> None:
    callback, module = in_lightning.AHSARCallback(LAW, GROUPS), Module()
    for _ in range(2):
        fit(tmp_path, callback, 1, module, enable_checkpointing=False)
    assert callback.controller.state_dict()["epochs"] == 2
    fit(tmp_path, callback, 1, other := Module(), enable_checkpointing=False)
    assert callback.controller.model is other


def test_lightning_has_no_such_metric(tmp_path: Path) -> None:
    callback = in_lightning.AHSARCallback(metric="accuracy")
    with pytest.raises(UserError, match="validation logged no metric 'accuracy'; logged were acc"):
        fit(tmp_path, callback, 1, enable_checkpointing=False)


def test_an_epoch_without_validation_has_no_metric(tmp_path: Path) -> None:
    """Not the one of the validation before."""
    told: list[float | None] = []
    callback = in_lightning.AHSARCallback(LAW, GROUPS, metric="acc")
    callback.epoch_end = told.append  # type: ignore[method-assign,assignment]  # to hear it
    fit(tmp_path, callback, 4, check_val_every_n_epoch=2, enable_checkpointing=False)
    assert told == [None, pytest.approx(metric(1)), None, pytest.approx(metric(3))]


def test_lightning_tests_what_was_trained_and_goes_on_with_a_controller(tmp_path: Path) -> None:
    trainer = fit(tmp_path, in_lightning.AHSARCallback(LAW, GROUPS), 1)
    scales = {name: t for name, t in trainer.lightning_module.state_dict().items() if name.endswith("threshold_scale")}
    module = Module()
    other = lightning.Trainer(
        callbacks=[in_lightning.AHSARCallback(LAW, GROUPS)], accelerator="cpu", logger=False, enable_progress_bar=False
    )
    other.validate(module, DataLoader(TensorDataset(X, Y)), ckpt_path=trainer.checkpoint_callback.best_model_path)
    assert {name: module.state_dict()[name] for name in scales} == scales
    mine = regulate(again := Module(), GROUPS, LAW)
    callback = in_lightning.AHSARCallback()
    fit(tmp_path, callback, 1, again, enable_checkpointing=False)
    assert callback.controller is mine
    with pytest.raises(UserError, match="under a controller already"):
        fit(tmp_path, in_lightning.AHSARCallback(AHSARConfig(budget=0.1)), 1, again, enable_checkpointing=False)


def test_a_controller_that_runs_by_itself_is_left_to_it(tmp_path: Path) -> None:
    mine = regulate(module := Module(), GROUPS, LAW, auto=True)
    fit(tmp_path, in_lightning.AHSARCallback(), 1, module, enable_checkpointing=False)
    assert mine._steps == 4  # once for each of the optimiser's steps


# -- transformers ------------------------------------------------------------------------------------------------------


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.net(x)
        loss = {} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}
        return loss | {"logits": logits}


def trained(
    folder: Path, callback: Any, epochs: int, resume: Any = None, accumulated: int = 1, eval_dataset: Any = None,
    model_init: Any = None, **options: Any,
) -> Any:  # fmt: skip
    given = {"eval_strategy": "epoch", "save_strategy": "epoch", "logging_strategy": "epoch", **options}
    arguments = transformers.TrainingArguments(
        str(folder), num_train_epochs=epochs, per_device_train_batch_size=6, learning_rate=0.1, optim="sgd",
        lr_scheduler_type="constant", max_grad_norm=0.0, gradient_accumulation_steps=accumulated, use_cpu=True,
        report_to=[], disable_tqdm=True, dataloader_pin_memory=False, **given,
    )  # fmt: skip
    data = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(data)

    trainer = InOrder(
        None if model_init else Classifier(), arguments, train_dataset=data, eval_dataset=eval_dataset or data,
        callbacks=[callback], model_init=model_init,
        compute_metrics=lambda found: {"acc": metric(round(trainer.state.epoch) - 1)},
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("accumulated", [1, 2])
def test_transformers_does_what_a_plain_loop_does(accumulated: int, tmp_path: Path) -> None:
    callback = in_transformers.AHSARCallback(LAW, GROUPS, metric="eval_acc")
    trainer = trained(tmp_path, callback, 3, accumulated=accumulated)
    expected = by_hand(3, accumulated=accumulated)
    same(callback.controller, expected)
    layers = list(expected.layers().values())
    assert all("ahsar/rate/stem" in entry for entry in trainer.state.log_history)
    last = trainer.state.log_history[-1]
    assert last["ahsar/rate/mlp"] == pytest.approx(layers[1]["rate"])
    assert last["ahsar/threshold_scale/stem"] == pytest.approx(layers[0]["threshold_scale"])


def test_transformers_resumes(tmp_path: Path) -> None:
    trained(tmp_path, in_transformers.AHSARCallback(LAW, GROUPS, metric="eval_acc"), 2)
    callback = in_transformers.AHSARCallback(LAW, GROUPS, metric="eval_acc")
    trained(tmp_path, callback, 3, resume=str(tmp_path / "checkpoint-8"))
    same(callback.controller, by_hand(3))


def test_transformers_resumes_from_another_folder_or_says_that_it_does_not(tmp_path: Path) -> None:
    trained(tmp_path / "first", in_transformers.AHSARCallback(LAW, GROUPS, metric="eval_acc"), 2)
    checkpoint = str(tmp_path / "first" / "checkpoint-8")
    callback = in_transformers.AHSARCallback(LAW, GROUPS, metric="eval_acc")
    trained(tmp_path / "second", callback, 3, resume=checkpoint, resume_from_checkpoint=checkpoint)
    same(callback.controller, by_hand(3))
    with pytest.warns(UserWarning, match=r"continues after 8 steps, but AHSAR begins anew: there is no ahsar\.pt in"):
        trained(tmp_path / "third", in_transformers.AHSARCallback(LAW, GROUPS), 3, resume=checkpoint)


def test_evaluations_of_several_sets_and_after_training_are_no_epochs(tmp_path: Path) -> None:
    callback = in_transformers.AHSARCallback(LAW, GROUPS, metric="eval_b_acc")
    data = [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)]
    trainer = trained(tmp_path, callback, 3, eval_dataset={"a": data, "b": data})
    same(callback.controller, by_hand(3))
    trainer.evaluate()
    same(callback.controller, by_hand(3))


@pytest.mark.parametrize("strategy", ["no", "steps"])
def test_epochs_are_counted_however_often_there_is_an_evaluation(strategy: str, tmp_path: Path) -> None:
    callback = in_transformers.AHSARCallback(LAW, GROUPS)
    trained(tmp_path, callback, 3, eval_strategy=strategy, eval_steps=1)
    assert callback.controller.state_dict()["epochs"] == 3


def test_a_model_that_the_trainer_makes_is_regulated(tmp_path: Path) -> None:
    callback = in_transformers.AHSARCallback(LAW, GROUPS, metric="eval_acc")
    trained(tmp_path, callback, 3, model_init=Classifier)
    same(callback.controller, by_hand(3))


def test_transformers_has_no_such_metric(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the evaluation has no metric 'eval_accuracy'; it has .*eval_acc"):
        trained(tmp_path, in_transformers.AHSARCallback(metric="eval_accuracy"), 1)

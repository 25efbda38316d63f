"""Operations of whole tasks: every head of segmentation and detection, events and sequences."""

import pytest
import torch

from step_ahsar.config import load_config
from step_ahsar.data import open_data
from step_ahsar.engine.build import build_model
from step_ahsar.engine.device import create_accelerator
from step_ahsar.engine.evaluate import measure
from step_ahsar.measure import Operations
from step_ahsar.tasks import create_task

pytestmark = pytest.mark.usefixtures("eager")

HEADS = {
    "segmentation": ("fcn", "fpn", "upernet"),
    "detection": ("fcos", "retinanet", "faster_rcnn", "mask_rcnn"),
}
FEW = ["data.train_limit=4", "data.test_limit=3", "data.batch_size=2", "model.threshold=0.2", "model.time_steps=2"]


def counted(config, *overrides):
    config = load_config(config, [*FEW, *overrides])
    data = open_data(config)
    task = create_task(config, data.classes)
    torch.manual_seed(0)
    model = build_model(config.model, task, data.in_chans, data.sizes, data.spec.ndim)
    found = [
        measure(model, task, data.test_batches(), create_accelerator(None), count=count) for count in (False, True)
    ]
    assert found[0].metrics == found[1].metrics  # counting changes nothing
    assert found[0].layers == found[1].layers
    assert isinstance(found[1].operations, Operations)
    return model, found[1].operations


@pytest.mark.parametrize("spiking", [True, False])
@pytest.mark.parametrize(("task", "head"), [(task, head) for task, heads in HEADS.items() for head in heads])
def test_every_head(task, head, spiking):
    model, found = counted(f"{task}/static/digits_scenes", f"head.name={head}", f"head.spiking={str(spiking).lower()}")
    names = {layer.name for layer in found.layers}
    for path, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            assert path in names
    groups = {layer.group for layer in found.layers if layer.macs}
    assert groups == {"stem", "attention", "mlp", "head"}
    masks = [layer for layer in found.layers if layer.kind == "mask"]
    assert len(masks) == 2  # those of the two Q-K attentions, and nothing of what is computed about boxes
    assert found.samples == 3
    assert found.time_steps == 2
    if not spiking:
        # A head that reads means over time is computed once, on every level and proposal.
        assert {layer.steps for layer in found.layers if layer.group == "head" and layer.macs} == {1}


@pytest.mark.parametrize("config", ["segmentation/event/digits_scenes", "classification/sequence/digits_sequence"])
def test_events_and_sequences(config):
    _, found = counted(config)
    assert found.samples == 3
    assert all(0 <= rate <= 1 for layer in found.layers for rate in layer.rates)
    assert found.synaptic_operations > 0

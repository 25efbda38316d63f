"""AHSAR under accelerate, on one device or several; spikes are counted over all processes.

python examples/accelerate_loop.py
accelerate launch examples/accelerate_loop.py                                   # after accelerate config
ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 examples/accelerate_loop.py # two processes on CPUs
"""

import timm
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import step_ahsar.models  # noqa: F401  (registers the models with timm)
from step_ahsar.ahsar import regulate

accelerator = Accelerator(gradient_accumulation_steps=2)
set_seed(0)
digits = load_digits()
images = torch.tensor(digits.images).float().unsqueeze(1) / 16
labels = torch.tensor(digits.target)
accelerator.print(f"{accelerator.num_processes} processes")
data = DataLoader(TensorDataset(images[:1500], labels[:1500]), batch_size=50, shuffle=True)

model = timm.create_model("spikformer_2_64", num_classes=10, in_chans=1, img_size=8, time_steps=2, dim=32, depth=1)
controller = regulate(model)  # before prepare, which wraps the model
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
model, optimizer, data = accelerator.prepare(model, optimizer, data)

for _ in range(3):
    for x, y in data:
        with accelerator.accumulate(model):
            loss = nn.functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if accelerator.sync_gradients:  # the optimiser has made its step
                controller.step()
    controller.epoch_end()

model.eval()
with torch.no_grad():
    found = model(images[1500:].to(accelerator.device)).argmax(1).cpu()
for name, layer in controller.layers().items():
    accelerator.print(f"{name}: rate {layer['rate']:.3f}, threshold x {layer['threshold_scale']:.3f}")
accelerator.print(f"test accuracy: {(found == labels[1500:]).float().mean():.3f}")

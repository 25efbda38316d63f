"""AHSAR in a training loop of your own: a spiking transformer on handwritten digits at a rate that you ask for.

python examples/plain_loop.py
"""

import timm
import torch
from sklearn.datasets import load_digits
from torch import nn

import step_ahsar.models  # noqa: F401  (registers the models with timm)
from step_ahsar.ahsar import AHSARConfig, fold, regulate

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # [N, 1, 8, 8]
labels = torch.tensor(digits.target)
train, test = slice(0, 1500), slice(1500, None)

model = timm.create_model("spikformer_2_64", num_classes=10, in_chans=1, img_size=8, time_steps=2, dim=32, depth=1)
controller = regulate(model, config=AHSARConfig(budget=0.1))  # 0.1 spikes per neuron and time step
controller.calibrate(lambda: model(images[:64]))  # training starts at this rate, whatever the thresholds were
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)

for _ in range(3):
    for batch in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        controller.step()  # after the optimiser's step
    controller.epoch_end()

plain = fold(model).eval()  # plain neurons, the same spikes
with torch.no_grad():
    accuracy = (plain(images[test]).argmax(1) == labels[test]).float().mean()
for name, layer in controller.layers().items():
    print(f"{name} ({layer['group']}): rate {layer['rate']:.3f}, threshold x {layer['threshold_scale']:.3f}")
print(f"test accuracy: {accuracy:.3f}")

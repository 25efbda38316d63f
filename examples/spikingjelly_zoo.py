"""AHSAR in a model of SpikingJelly 2.0: one line.

pip install "spikingjelly>=2"
python examples/spikingjelly_zoo.py
"""

import torch
from sklearn.datasets import load_digits
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.model.spikformer import Spikformer
from torch import nn

from step_ahsar.ahsar import fold, regulate

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images).float().unsqueeze(1) / 16
images = nn.functional.pad(images, (4, 4, 4, 4))  # [N, 1, 16, 16]
labels = torch.tensor(digits.target)

model = Spikformer(
    T=2, in_channels=1, img_size_h=16, img_size_w=16, patch_size=4, num_classes=10, embed_dims=32, num_heads=2, depths=1
)
controller = regulate(model)  # SpikingJelly's own nodes stay
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)

for _ in range(3):
    for batch in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(model(images[batch]).mean(0), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(model)
        controller.step()  # after the optimiser's step

plain = fold(model).eval()  # SpikingJelly's nodes with other v_threshold, no hooks
with torch.no_grad():
    accuracy = (plain(images[1500:]).mean(0).argmax(1) == labels[1500:]).float().mean()
for name, layer in controller.layers().items():
    print(f"{name} ({layer['group']}): rate {layer['rate']:.3f}, threshold x {layer['threshold_scale']:.3f}")
print(f"test accuracy: {accuracy:.3f}")

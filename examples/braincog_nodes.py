"""AHSAR in a network of BrainCog's nodes: one line. In STEP's own trainer: docs/step.md.

pip install braincog==0.2.7.19
python examples/braincog_nodes.py
"""

import torch
from braincog.base.node.node import LIFNode
from sklearn.datasets import load_digits
from torch import Tensor, nn

from step_ahsar.ahsar import fold, regulate

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data).float() / 16
labels = torch.tensor(digits.target)
STEPS = 4


class Net(nn.Module):
    """Two layers in BrainCog's layer-by-layer form, [T*B, C]. Knows nothing of AHSAR."""

    def __init__(self) -> None:
        super().__init__()
        node = {"threshold": 1.0, "step": STEPS, "layer_by_layer": True}
        self.layers = nn.Sequential(
            nn.Linear(64, 128), LIFNode(**node), nn.Linear(128, 128), LIFNode(**node), nn.Linear(128, 10)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``[B, 64]`` to logits."""
        for node in self.layers:
            if isinstance(node, LIFNode):
                node.n_reset()
        return self.layers(x.repeat(STEPS, 1)).unflatten(0, (STEPS, -1)).mean(0)


model = Net()
controller = regulate(model)  # BrainCog's own nodes stay
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for _ in range(5):
    for batch in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        controller.step()  # after the optimiser's step

for node in model.layers:  # its states hold a graph of the last batch, and a model with a graph cannot be copied
    if isinstance(node, LIFNode):
        node.n_reset()
plain = fold(model).eval()
with torch.no_grad():
    accuracy = (plain(images[1500:]).argmax(1) == labels[1500:]).float().mean()
for name, layer in controller.layers().items():
    print(f"{name}: rate {layer['rate']:.3f}, threshold x {layer['threshold_scale']:.3f}")
print(f"test accuracy: {accuracy:.3f}")

"""AHSAR in the releases of SpikingJelly that published repositories still need: one line.

pip install spikingjelly==0.0.0.0.14    # or 0.0.0.0.12, or 2.0
python examples/spikingjelly_old.py
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from step_ahsar.ahsar import fold, regulate

try:
    from spikingjelly.activation_based import functional, neuron
except ImportError:  # before 0.0.0.0.14
    from spikingjelly.clock_driven import functional, neuron

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data).float() / 16
labels = torch.tensor(digits.target)


class Net(nn.Module):
    """Two layers, step by step. Knows nothing of AHSAR."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(64, 128),
            neuron.LIFNode(tau=2.0),
            nn.Linear(128, 128),
            neuron.LIFNode(tau=2.0),
            nn.Linear(128, 10),
        )

    def forward(self, x: Tensor, steps: int = 4) -> Tensor:
        """``[B, 64]`` to logits."""
        return sum(self.layers(x) for _ in range(steps)) / steps


model = Net()
controller = regulate(model)  # SpikingJelly's own nodes stay
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for _ in range(3):
    for batch in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(model)
        controller.step()  # after the optimiser's step

plain = fold(model).eval()  # SpikingJelly's nodes with other v_threshold, no hooks
with torch.no_grad():
    accuracy = (plain(images[1500:]).argmax(1) == labels[1500:]).float().mean()
for name, layer in controller.layers().items():
    print(f"{name}: rate {layer['rate']:.3f}, threshold x {layer['threshold_scale']:.3f}")
print(f"test accuracy: {accuracy:.3f}")

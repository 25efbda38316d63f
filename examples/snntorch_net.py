"""AHSAR in a network of snnTorch: one line.

pip install snntorch
python examples/snntorch_net.py
"""

import snntorch as snn
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from step_ahsar.ahsar import regulate

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data).float() / 16  # [N, 64]
labels = torch.tensor(digits.target)


class Net(nn.Module):
    """Two layers of leaky neurons, step by step, as in snnTorch's tutorials. Knows nothing of AHSAR."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(64, 128), snn.Leaky(beta=0.9)
        self.fc2, self.lif2 = nn.Linear(128, 128), snn.Leaky(beta=0.9)
        self.head = nn.Linear(128, 10)

    def forward(self, x: Tensor, steps: int = 8) -> Tensor:
        """``[B, 64]`` to logits."""
        v1, v2, total = self.lif1.reset_mem(), self.lif2.reset_mem(), 0
        for _ in range(steps):
            s1, v1 = self.lif1(self.fc1(x), v1)
            s2, v2 = self.lif2(self.fc2(s1), v2)
            total = total + self.head(s2)
        return total / steps


model = Net()
controller = regulate(model)  # snnTorch's own neurons stay
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for _ in range(5):
    for batch in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        controller.step()  # after the optimiser's step

model.eval()
with torch.no_grad():
    accuracy = (model(images[1500:]).argmax(1) == labels[1500:]).float().mean()
for name, layer in controller.layers().items():
    print(f"{name}: rate {layer['rate']:.3f}, threshold x {layer['threshold_scale']:.3f}")
print(f"test accuracy: {accuracy:.3f}")

"""AHSAR for a neuron that you wrote yourself: one rule says where its threshold is.

python examples/own_neuron.py
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from step_ahsar.ahsar import ScaleRule, fold, regulate


class Spike(torch.autograd.Function):
    """A step with the gradient of a fast sigmoid."""

    @staticmethod
    def forward(ctx, over):
        """1 where the membrane is over the threshold."""
        ctx.save_for_backward(over)
        return (over >= 0).to(over.dtype)

    @staticmethod
    def backward(ctx, gradient):
        """The surrogate."""
        (over,) = ctx.saved_tensors
        return gradient / (1 + 3 * over.abs()) ** 2


class MyNode(nn.Module):
    """Leaks a half per step, is reset to 0 by a spike. The threshold of 5 is a bad guess on purpose."""

    def __init__(self, v_th: float = 5.0) -> None:
        super().__init__()
        self.v_th = v_th

    def forward(self, x: Tensor) -> Tensor:
        """``[T, B, C]`` to spikes."""
        v, spikes = torch.zeros_like(x[0]), []
        for now in x:
            v = 0.5 * v + now
            spikes.append(Spike.apply(v - self.v_th))
            v = v * (1 - spikes[-1].detach())
        return torch.stack(spikes)


torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data).float() / 16
labels = torch.tensor(digits.target)
model = nn.Sequential(nn.Linear(64, 128), MyNode(), nn.Linear(128, 128), MyNode(), nn.Linear(128, 10))
controller = regulate(model, nodes={MyNode: ScaleRule(threshold="v_th")})
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for _ in range(3):
    for batch in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(model(images[batch].expand(4, -1, -1)).mean(0), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        controller.step()  # after the optimiser's step

plain = fold(model).eval()  # your nodes with another v_th, no hooks
with torch.no_grad():
    accuracy = (plain(images[1500:].expand(4, -1, -1)).mean(0).argmax(1) == labels[1500:]).float().mean()
print("thresholds:", [round(float(node.v_th), 3) for node in plain if isinstance(node, MyNode)])
print(f"test accuracy: {accuracy:.3f}")

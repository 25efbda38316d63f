"""The contenders: one network by this package and by others, with ReLU for neurons, and as its products alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

import step_ahsar.models  # noqa: F401  (registers the models)
from step_ahsar.ahsar import fold, regulate
from step_ahsar.bench.products import products_of
from step_ahsar.bench.timing import Step
from step_ahsar.errors import UserError
from step_ahsar.libraries.adapter import require
from step_ahsar.neurons import SpikingNeuron, normalised

OURS, REGULATED, RELU, PRODUCTS = "step-ahsar", "step-ahsar, ahsar", "ReLU", "products alone"
RIVAL = "SpikingJelly"
_BACKENDS = {"SpikingJelly's neurons": "spikingjelly", "BrainCog's neurons": "braincog"}
TRAINED = (OURS, RIVAL, *_BACKENDS, RELU, PRODUCTS)
_CLASSES = 10


@dataclass(frozen=True)
class Case:
    """A network at one size of input.

    Args:
        name: in the tables.
        model: by its name in timm.
        batch: samples.
        size: pixels along each side.
        args: of the model.
        rival: makes SpikingJelly's own model of the same network from T; None if it has none.
        time_steps: T.
    """

    name: str
    model: str
    batch: int
    size: int = 32
    args: Mapping[str, Any] = field(default_factory=dict)
    rival: Callable[[int], nn.Module] | None = None
    time_steps: int = 4

    @property
    def title(self) -> str:
        """Its name and batch size."""
        return f"{self.name}, batch {self.batch}"


def _spikformer(dim: int, depth: int, heads: int, size: int, time_steps: int) -> nn.Module:
    from spikingjelly.activation_based.model.spikformer import Spikformer

    shape = {"img_size_h": size, "img_size_w": size, "patch_size": 4, "num_classes": _CLASSES}
    return Spikformer(T=time_steps, embed_dims=dim, num_heads=heads, depths=depth, **shape)


def _qkformer(time_steps: int) -> nn.Module:
    from spikingjelly.activation_based.model.qkformer import QKFormer

    return QKFormer(T=time_steps, embed_dims=384, num_heads=(8, 8, 8), depths=(1, 1, 2), num_classes=_CLASSES)


# SpikingJelly pools before the neuron. Of QKFormer it has the form for ImageNet alone.
_POOL_FIRST = {"pool_first": True}
SMALL = Case("Spikformer 2-64, 32x32", "spikformer_2_64", 64, 32, _POOL_FIRST, partial(_spikformer, 64, 2, 2, 32))
CASES = (
    Case("Spikformer 4-384, 32x32", "spikformer_4_384", 8, 32, _POOL_FIRST, partial(_spikformer, 384, 4, 12, 32)),
    Case("QKFormer 4-384, 32x32", "qkformer_4_384", 8),
    Case("QKFormer 4-384, ImageNet's form, 64x64", "qkformer_4_384", 8, 64, {"form": "imagenet"}, _qkformer),
    SMALL,
)
TINY = (Case("Spikformer 2-64, 16x16", "spikformer_2_64", 2, 16, _POOL_FIRST, partial(_spikformer, 64, 2, 2, 16)),)


class _Activation(nn.Module):
    """ReLU in a neuron's place."""

    def forward(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        """``x: [T, B, ...]`` to the same shape."""
        return torch.relu(x if norm is None else normalised(norm, x))


def network(kind: str, case: Case) -> nn.Module:
    """The case's network in training mode, by a contender.

    Raises:
        UserError: a library is not installed, or has no such model.
    """
    torch.manual_seed(0)
    if kind == RIVAL:
        if case.rival is None:
            raise UserError(f"SpikingJelly has no {case.name}")
        require("spikingjelly")
        return case.rival(case.time_steps).train()
    options: dict[str, Any] = {**case.args, "neuron": "ahsar" if kind == REGULATED else "lif"}
    if kind in _BACKENDS:
        options["backend"] = _BACKENDS[kind]
    shape: dict[str, Any] = {"num_classes": _CLASSES, "img_size": case.size, "time_steps": case.time_steps}
    model = timm.create_model(case.model, **shape, **options)
    if kind == RELU:
        for module in list(model.modules()):
            for name, child in module.named_children():
                if isinstance(child, SpikingNeuron):
                    setattr(module, name, _Activation())
    return model.train()


def training_step(kind: str, case: Case, device: torch.device) -> Step:
    """Forward pass, loss, backward pass and AdamW on one batch; of "ahsar" also the controller's step."""
    if kind == PRODUCTS:
        return products_of(training_step(OURS, case, device))
    model = network(kind, case).to(device)
    x, y = _batch(case, device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    controller = regulate(model) if kind == REGULATED else None
    forget = _forget(kind, model)

    def step() -> None:
        forget()
        logits = model(x)
        loss = nn.functional.cross_entropy(logits.mean(0) if logits.ndim == 3 else logits, y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if controller is not None:
            controller.step()

    return step


def inference(kind: str, case: Case, device: torch.device) -> Step:
    """A forward pass in eval mode. This package's networks are folded, norms included."""
    if kind == PRODUCTS:
        return products_of(inference(OURS, case, device))
    model = network(kind, case).to(device)
    x, _ = _batch(case, device)
    forget = _forget(kind, model)
    with torch.no_grad():
        model(x)  # norms have statistics, so the spikes are as many as in training
    model = (model if kind == RIVAL else fold(model, norms=True)).eval()

    @torch.inference_mode()
    def step() -> None:
        forget()
        model(x)

    return step


def _batch(case: Case, device: torch.device) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.batch, 3, case.size, case.size, generator=generator)
    return x.to(device), torch.randint(_CLASSES, (case.batch,), generator=generator).to(device)


def _forget(kind: str, model: nn.Module) -> Step:
    """What the network needs before each batch: SpikingJelly's neurons keep their membranes."""
    if kind != RIVAL:
        return lambda: None
    from spikingjelly.activation_based import functional

    return lambda: functional.reset_net(model)

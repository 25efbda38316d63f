"""EventMix: mixing two recordings, which are separated by a random surface in space and time."""

import torch
import torch.nn.functional as F
from torch import Tensor


def event_mix(
    frames: Tensor, labels: Tensor, num_classes: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """EventMix (Shen, Zhao and Zeng, arXiv 2205.12054).

    A random mask over [T, H, W] decides for each place: where it is 1 a sample keeps its own events, where it is 0 it
    gets those of its partner in a random permutation of the batch. The mask is 0 where a Gaussian with random centre
    and widths is largest, on a share of the volume that is drawn uniformly. The weight of each label is the share of
    the mixed events that come from its sample; a mixed sample without events keeps its own label.

    Args:
        frames: event frames, [T, B, P, H, W].
        labels: class indices [B] or probabilities [B, K].
        num_classes: K.
        generator: random generator on the CPU; None = torch's own.

    Returns:
        Mixed frames [T, B, P, H, W], and probabilities, float32 [B, K].
    """
    time, batch, _, height, width = frames.shape
    own = _mask((time, height, width), generator).to(frames.device)[:, None, None]
    partner = torch.randperm(batch, generator=generator).to(frames.device)
    mine, theirs = frames * own, frames[:, partner] * ~own
    probs = labels.float() if labels.is_floating_point() else F.one_hot(labels, num_classes).float()
    kept, taken = (part.abs().sum((0, 2, 3, 4), dtype=torch.float32) for part in (mine, theirs))
    weight = torch.where(kept + taken > 0, kept / (kept + taken), 1.0)[:, None]
    return mine + theirs, weight * probs + (1 - weight) * probs[partner]


def _mask(shape: tuple[int, int, int], generator: torch.Generator | None) -> Tensor:
    """True outside an ellipsoid, which may extend beyond the volume; [T, H, W]."""
    share, *rest = torch.rand(1 + 2 * len(shape), generator=generator).tolist()
    distance = torch.zeros(())
    for axis, size in enumerate(shape):
        centre, deviation = rest[axis] * size, (0.1 + 0.9 * rest[3 + axis]) * size
        away = ((torch.arange(size) + 0.5 - centre) / deviation) ** 2
        distance = distance.unsqueeze(-1) + away  # minus twice the logarithm of the Gaussian
    nearest = distance.flatten().argsort(stable=True)[: round(share * distance.numel())]
    mask = torch.ones(distance.numel(), dtype=torch.bool)
    mask[nearest] = False
    return mask.view(shape)

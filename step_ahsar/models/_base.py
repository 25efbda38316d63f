"""What every spiking transformer here has in common: inputs over time, feature levels, the head, timm's interface."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.nn.init import trunc_normal_
from torch.utils.checkpoint import checkpoint

from step_ahsar.errors import UserError


class SpikingTransformer(nn.Module):
    """Base of the models: a chain of feature levels over a stream [T, B, C, *S], then mean pooling and a linear head.

    Input ``[B, in_chans, *S]``, shown at each of ``time_steps`` steps (direct encoding), or ``[T, B, in_chans, *S]`` of
    any T. S is (H, W), or (L,) in the 1-d forms. Output: logits ``[B, num_classes]``, or ``[T, B, num_classes]`` with
    ``per_step``. Neurons keep nothing between calls, so T may change from call to call.

    A subclass builds its layers, gives :meth:`levels` (and :meth:`embed` if something comes before the first level),
    fills ``feature_info`` and ends with :meth:`reset_classifier`.

    Args:
        in_chans: channels of the input.
        num_classes: outputs of the head; 0 = no head, pooled features come out.
        img_size: H and W (one number for a square), or L; None = not known yet. Any size that fits is taken later.
        time_steps: T of inputs without a time axis, >= 1.
        per_step: keep the time axis in logits and intermediate features instead of averaging over it.
        global_pool: "avg", or "" for unpooled features (then without a head).
        ndim: 2 for images, 1 for sequences.
        stride: by how much the layers shrink the input in all; sizes must be multiples of it.
        num_features: channels of the last level.

    Raises:
        UserError: an argument out of range, or an input shape that the model cannot take.
    """

    feature_info: list[dict[str, Any]]

    def __init__(
        self,
        *,
        in_chans: int,
        num_classes: int,
        img_size: int | Sequence[int] | None,
        time_steps: int,
        per_step: bool,
        global_pool: str,
        ndim: int,
        stride: int,
        num_features: int,
    ) -> None:
        super().__init__()
        if isinstance(time_steps, bool) or not isinstance(time_steps, int) or time_steps < 1:
            raise UserError(f"time_steps must be an integer >= 1, got {time_steps!r}")
        if in_chans < 1:
            raise UserError(f"in_chans must be >= 1, got {in_chans}")
        if ndim not in (1, 2):
            raise UserError(f"ndim must be 1 (sequences) or 2 (images), got {ndim}")
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.time_steps = time_steps
        self.per_step = per_step
        self.global_pool = global_pool
        self.ndim = ndim
        self.stride = stride
        self.num_features = self.head_hidden_size = num_features
        self.grad_checkpointing = False
        if img_size is not None:
            self._check_size((img_size,) * ndim if isinstance(img_size, int) else tuple(img_size))

    # -- what a subclass says about itself ----------------------------------------------------------------------------

    @property
    def levels(self) -> nn.ModuleList:
        """The feature levels, run in turn."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """What comes before the first level. ``[T, B, in_chans, *S] -> [T, B, C, *S']``."""
        return x

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in_chans, *S]`` or ``[T, B, in_chans, *S]`` to logits ``[B, K]`` (``[T, B, K]`` with ``per_step``)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The last level's stream, with its time axis: ``[T, B, C, *S / stride]``."""
        x = self.embed(self._over_time(x))
        for level in self.levels:
            x = self._run(level, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """``[T, B, C, *S]`` to logits; with ``pre_logits`` to pooled features."""
        if self.global_pool == "avg":
            x = x.flatten(3).mean(3)
        if not self.per_step:
            x = x.mean(0)
        return x if pre_logits else self.head(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str | None = None,
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Features of chosen levels, timm's way.

        Args:
            x: as in :meth:`forward`.
            indices: last n levels if int, these levels if a sequence, all if None.
            norm: of no effect, these models have no final norm.
            stop_early: do not run the levels behind the last chosen one.
            output_fmt: "NCHW" ("NCL" in the 1-d forms), the default, or "NLC".
            intermediates_only: leave out the final stream.

        Returns:
            The levels' features, averaged over time to [B, C, *S], or [T, B, C, *S] with ``per_step``; unless
            ``intermediates_only``, what :meth:`forward_features` returns comes before them.
        """
        channels_first = "NCHW" if self.ndim == 2 else "NCL"
        if output_fmt not in (None, channels_first, "NLC"):
            raise UserError(f"output_fmt must be {channels_first!r} or 'NLC', got {output_fmt!r}")
        take, last = feature_take_indices(len(self.levels), indices)
        features = []
        x = self.embed(self._over_time(x))
        for i, level in enumerate(self.levels[: last + 1] if stop_early else self.levels):
            x = self._run(level, x)
            if i in take:
                level_features = x if self.per_step else x.mean(0)
                features.append(level_features.flatten(-self.ndim).mT if output_fmt == "NLC" else level_features)
        return features if intermediates_only else (x, features)

    def _run(self, level: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(level, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _norms_kept(level)))
        return level(x)

    def _over_time(self, x: Tensor) -> Tensor:
        """Checks the shape and repeats an input without a time axis."""
        has_time = x.ndim == self.ndim + 3
        if not (has_time or x.ndim == self.ndim + 2) or x.shape[-self.ndim - 1] != self.in_chans or not x.shape[0]:
            size = f"{self.in_chans}, {'H, W' if self.ndim == 2 else 'L'}"
            raise UserError(f"{type(self).__name__} takes [B, {size}] or [T, B, {size}], got {list(x.shape)}")
        self._check_size(x.shape[-self.ndim :])
        return x if has_time else x.expand(self.time_steps, *x.shape)

    def _check_size(self, size: Sequence[int]) -> None:
        """Raises UserError unless every stage halves the size without a remainder."""
        if len(size) == self.ndim and all(n > 0 and n % self.stride == 0 for n in size):
            return
        what = "height and width" if self.ndim == 2 else "the length (one number)"
        given = "x".join(str(n) for n in size)
        below = max(size[0] // self.stride, 1) * self.stride
        fitting = " or ".join("x".join([str(n)] * self.ndim) for n in (below, below + self.stride))
        name = type(self).__name__
        raise UserError(
            f"{name} cannot take size {given}: {what} must be a multiple of {self.stride}, such as {fitting}"
        )

    # -- timm's interface ---------------------------------------------------------------------------------------------

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head: weights from a truncated normal of deviation 0.02, bias 0; none for ``num_classes`` 0.

        Raises:
            UserError: an unknown pooling, or a head over unpooled features.
        """
        if global_pool is not None:
            self.global_pool = global_pool
        if self.global_pool not in ("avg", ""):
            raise UserError(f"global_pool must be 'avg' or '', got {self.global_pool!r}")
        if num_classes < 0 or (num_classes and not self.global_pool):
            raise UserError(f"global_pool {self.global_pool!r} cannot go with num_classes {num_classes}")
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes:
            self.head = linear = nn.Linear(self.num_features, num_classes)
            trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops the levels behind the last one chosen, and the head. Returns the chosen levels' indices."""
        take, last = feature_take_indices(len(self.levels), indices)
        pruned = last + 1 < len(self.levels)
        del self.levels[last + 1 :]
        self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_head or pruned:
            self.reset_classifier(0, "")
        return take

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the levels' inputs for the backward pass and compute the rest again."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Nothing beyond what timm leaves out itself: biases, norms, neurons' parameters, all 1-d or 0-d."""
        return set()


@contextmanager
def _norms_kept(module: nn.Module) -> Iterator[None]:
    """Batch norms leave their running averages alone: a recomputed forward must not count a batch twice."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, tracked) in zip(norms, saved, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, None if tracked is None else tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, saved, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked

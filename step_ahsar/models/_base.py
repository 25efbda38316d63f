"""The base class of the spiking transformers: inputs over time, feature levels, the head, timm's interface."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn.init import trunc_normal_
from torch.utils.checkpoint import checkpoint

from step_ahsar import internals
from step_ahsar.errors import UserError, unknown
from step_ahsar.layers import ATTENTIONS, Blueprint, GainNeuron, PatchEmbedding
from step_ahsar.neurons import NORMS, neuron_kind, own_parameters
from step_ahsar.neurons.norms import BATCH_NORMS

STEMS = ("conv", "patch")


class SpikingTransformer(nn.Module):
    """Base class: feature levels in a row over a stream [T, B, C, *S], then mean pooling and a linear head.

    The input is ``[B, in_chans, *S]``, which is repeated for ``time_steps`` time steps (direct encoding), or
    ``[T, B, in_chans, *S]`` with any T. S is (H, W), or (L,) in the 1-d forms. The output is logits ``[B,
    num_classes]``, or ``[T, B, num_classes]`` with ``per_step``. Neurons keep no state between calls, so T may differ
    between calls.

    Sequences may have any length. Zeros are appended up to :meth:`padded_length`, the next length that the layers can
    take; no token is masked.

    With membrane shortcuts the stream, the pooled features and the intermediate features are membranes.

    A subclass builds its layers with ``self.blueprint``, implements :meth:`levels` (and :meth:`embed` if there are
    layers before the first level), fills ``feature_info``, and calls :meth:`build_head` at the end of its constructor.
    Its constructor takes what is its own, and passes all other arguments on.

    Args:
        stride: the factor by which all layers together shrink the input; height and width must be multiples of it.
        num_features: channels of the last level.
        multiple: height and width must be multiples of it; None = of the stride.
        design: what the family decides about its layers: fields of :class:`Blueprint`, such as ``shortcut``.
        published: options of the published neuron, for neurons that have them and unless they are given.
        in_chans: channels of the input.
        num_classes: outputs of the head; 0 = no head, the output is pooled features.
        img_size: H and W (one number for a square), or L; None = not known. A model with weights for each position
            takes this size alone. For others it is only checked, and inputs may have any valid size.
        time_steps: T of inputs without a time axis, >= 1.
        per_step: keep the time axis in logits and intermediate features instead of averaging over it.
        global_pool: "avg", or "" for features that are not pooled, without a head.
        ndim: 2 for images, 1 for sequences.
        stem: "conv", the family's own, or "patch": one linear map of each patch in place of every embedding, to show
            what the convolutions are worth.
        attention: "own", the family's, or to show what it is worth "random", fixed random spikes in place of its
            product, or "none".
        weight_bits: bits of the weights of convolutions and of the head, 2 to 8 (LSQ); None or 32 = full precision.
        norm: name of the norm: "bn", "tdbn", "tebn" or "none". A model with "tebn" is bound to its ``time_steps``.
        neuron: name of the spiking neuron.
        backend: the library that simulates it.
        threshold: firing threshold of every neuron except those behind an attention product or sum; None = the neuron's
            default.
        attn_threshold: threshold of the neurons behind an attention product or sum; None = the family's published
            share of ``threshold``, in most a half.
        neuron_options: further options of the neuron: tau, surrogate, alpha, reset, detach_reset, base, ...

    Raises:
        UserError: an argument out of range, or an input shape that the model cannot take.
    """

    feature_info: list[dict[str, Any]]

    def __init__(
        self,
        *,
        stride: int,
        num_features: int,
        multiple: int | None = None,
        design: Mapping[str, Any] | None = None,
        published: Mapping[str, Any] | None = None,
        in_chans: int = 3,
        num_classes: int = 10,
        img_size: int | Sequence[int] | None = None,
        time_steps: int = 4,
        per_step: bool = False,
        global_pool: str = "avg",
        ndim: int = 2,
        stem: str = "conv",
        attention: str = "own",
        weight_bits: int | None = None,
        norm: str = "bn",
        neuron: str = "lif",
        backend: str = "torch",
        threshold: float | None = None,
        attn_threshold: float | None = None,
        **neuron_options: Any,
    ) -> None:
        super().__init__()
        if isinstance(time_steps, bool) or not isinstance(time_steps, int) or time_steps < 1:
            raise UserError(f"time_steps must be an integer >= 1, got {time_steps!r}")
        if in_chans < 1:
            raise UserError(f"in_chans must be >= 1, got {in_chans}")
        if ndim not in (1, 2):
            raise UserError(f"ndim must be 1 (sequences) or 2 (images), got {ndim}")
        if stem not in STEMS:
            raise unknown("stem", stem, STEMS)
        if attention not in ATTENTIONS:
            raise unknown("attention", attention, ATTENTIONS)
        if attention != "own" and attn_threshold is not None:
            raise UserError(f"attn_threshold has no effect without the family's own attention, got {attention!r}")
        self.stem = stem
        self.in_chans = in_chans
        self.num_classes = num_classes
        self.time_steps = time_steps
        self.per_step = per_step
        self.global_pool = global_pool
        self.ndim = ndim
        self.stride, self.multiple = stride, multiple or stride
        self.num_features = self.head_hidden_size = num_features
        self.grad_checkpointing = False
        known = neuron_kind(neuron, backend, neuron_options.get("base")).options or {}
        options = {name: value for name, value in (published or {}).items() if name in known} | neuron_options
        self.blueprint = Blueprint(
            neuron,
            backend,
            threshold,
            attn_threshold,
            options,
            time_steps,
            NORMS.check(norm),
            weight_bits=weight_bits,
            attention=attention,
            **(design or {}),
        )
        self.img_size = None if img_size is None else self.check_size(img_size)

    # -- for subclasses -----------------------------------------------------------------------------------------------

    @property
    def levels(self) -> nn.ModuleList:
        """The feature levels, in the order in which they run."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """What comes before the first level. ``[T, B, in_chans, *S] -> [T, B, C, *S']``."""
        return x

    @property
    def tokens(self) -> int:
        """Number of positions of the last level for inputs of ``img_size``, for layers with weights for each position.

        Raises:
            UserError: there is no ``img_size``.
        """
        if self.img_size is None:
            raise UserError(f"{type(self).__name__} has weights for each position and needs img_size")
        size = [self.padded_length(self.img_size[0])] if self.ndim == 1 else self.img_size
        return prod(n // self.stride for n in size)

    def padded_length(self, length: int) -> int:
        """The length to which a sequence is padded."""
        return length + -length % self.multiple

    def new_embedding(
        self, make: Callable[[], nn.Module], before: int, after: int, stride: int, *, first: bool = True
    ) -> nn.Module:
        """``make()``, or with the stem "patch" a :class:`PatchEmbedding` of ``stride`` in its place.

        Args:
            make: makes the family's embedding.
            before: channels of its input.
            after: channels of its output.
            stride: the factor by which it shrinks the size.
            first: whether it reads the model's input.
        """
        if self.stem == "conv":
            return make()
        return PatchEmbedding(before, after, self.blueprint, stride=stride, ndim=self.ndim, first=first)

    def new_attention(self, make: Callable[[], nn.Module]) -> nn.Module | None:
        """``make()``, or None if the model is to have no attention."""
        return None if self.blueprint.attention == "none" else make()

    def build_head(self, *, neuron: bool = False, bias: bool = True) -> None:
        """The last layers: the classifier, and with ``neuron`` a neuron that reads the pooled membranes before it."""
        self.head_bias = bias
        self.head_neuron = GainNeuron(self.blueprint.new_neuron("head", self.num_features)) if neuron else nn.Identity()
        self.reset_classifier(self.num_classes)

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, x: Tensor) -> Tensor:
        """``[B, in_chans, *S]`` or ``[T, B, in_chans, *S]`` to logits ``[B, K]`` (``[T, B, K]`` with ``per_step``)."""
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """The output of the last level, with its time axis: ``[T, B, C, *S / stride]``."""
        x = self.embed(self._over_time(x))
        for level in self.levels:
            x = self._run(level, x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """``[T, B, C, *S]`` to logits; with ``pre_logits`` to pooled features."""
        if self.global_pool == "avg":
            x = self.head_neuron(reduce(x, "t b c ... -> t b c", "mean"))
        if not self.per_step:
            x = reduce(x, "t ... -> ...", "mean")
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
        """Features of chosen levels, with timm's interface.

        Args:
            x: as in :meth:`forward`.
            indices: the last n levels (int), these levels (sequence), or all (None).
            norm: without effect: these models have no final norm.
            stop_early: do not run the levels behind the last chosen one.
            output_fmt: "NCHW" ("NCL" in the 1-d forms), the default, or "NLC".
            intermediates_only: return the list of features alone.

        Returns:
            The output of :meth:`forward_features`, unless ``intermediates_only``, and a list with the levels' features,
            averaged over time to [B, C, *S], or [T, B, C, *S] with ``per_step``.
        """
        channels_first = "NCHW" if self.ndim == 2 else "NCL"
        if output_fmt not in (None, channels_first, "NLC"):
            raise UserError(f"output_fmt must be {channels_first!r} or 'NLC', got {output_fmt!r}")
        take, last = internals.take_indices(len(self.levels), indices)
        features = []
        x = self.embed(self._over_time(x))
        for i, level in enumerate(self.levels[: last + 1] if stop_early else self.levels):
            x = self._run(level, x)
            if i in take:
                found = x if self.per_step else x.mean(0)
                axes = "h w" if self.ndim == 2 else "l"
                features.append(rearrange(found, f"... c {axes} -> ... ({axes}) c") if output_fmt == "NLC" else found)
        return features if intermediates_only else (x, features)

    def _run(self, level: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(level, x, use_reentrant=False, context_fn=lambda: (nullcontext(), _norms_kept(level)))
        return level(x)

    def _over_time(self, x: Tensor) -> Tensor:
        """Checks the shape, pads a sequence, and repeats an input without a time axis."""
        has_time = x.ndim == self.ndim + 3
        if not (has_time or x.ndim == self.ndim + 2) or x.shape[-self.ndim - 1] != self.in_chans or not x.shape[0]:
            size = f"{self.in_chans}, {'H, W' if self.ndim == 2 else 'L'}"
            raise UserError(f"{type(self).__name__} takes [B, {size}] or [T, B, {size}], got {list(x.shape)}")
        self.check_size(x.shape[-self.ndim :])
        if self.ndim == 1 and (missing := self.padded_length(x.shape[-1]) - x.shape[-1]):
            x = F.pad(x, (0, missing))
        return x if has_time else x.expand(self.time_steps, *x.shape)

    def check_size(self, size: int | Sequence[int]) -> tuple[int, ...]:
        """The size of inputs, given as ``img_size`` is, as a tuple. Raises UserError if the model cannot take it."""
        size = (size,) * self.ndim if isinstance(size, int) else tuple(size)
        name, given = type(self).__name__, "x".join(str(n) for n in size)
        if len(size) == self.ndim and all(n > 0 for n in size):
            if self.ndim == 1 or all(n % self.multiple == 0 for n in size):
                return size
            below = max(size[0] // self.multiple, 1) * self.multiple
            fitting = " or ".join(f"{n}x{n}" for n in (below, below + self.multiple))
            raise UserError(
                f"{name} cannot take size {given}: height and width must be multiples of {self.multiple}, such as "
                f"{fitting}"
            )
        wanted = "a height and a width, both > 0" if self.ndim == 2 else "a length, one number > 0"
        raise UserError(f"{name} cannot take size {given}: it takes {wanted}")

    # -- timm's interface ---------------------------------------------------------------------------------------------

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Makes a new head, with weights from a truncated normal of standard deviation 0.02 and bias 0.

        With ``num_classes`` 0 there is no head.

        Raises:
            UserError: an unknown pooling, or a head over unpooled features.
        """
        if global_pool is not None:
            self.global_pool = global_pool
        if self.global_pool not in ("avg", ""):
            raise UserError(f"global_pool must be 'avg' or '', got {self.global_pool!r}")
        if num_classes < 0 or (num_classes and not self.global_pool):
            raise UserError(f"global_pool {self.global_pool!r} does not go with num_classes {num_classes}")
        self.num_classes = num_classes
        self.head: nn.Module = nn.Identity()
        if num_classes:
            self.head = linear = nn.Linear(self.num_features, num_classes, bias=self.head_bias)
            trunc_normal_(linear.weight, std=0.02)
            if self.head_bias:
                nn.init.zeros_(linear.bias)
            self.blueprint.quantised(linear)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Removes the levels behind the last chosen one, and the head. Returns the chosen levels' indices."""
        take, last = internals.take_indices(len(self.levels), indices)
        pruned = last + 1 < len(self.levels)
        del self.levels[last + 1 :]
        self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_head or pruned:
            self.head_neuron = nn.Identity()  # it was made for the channels of the last level
            self.reset_classifier(0, "")
        return take

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Keep only the levels' inputs for the backward pass, and recompute the rest there."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """The neurons' own parameters. timm adds biases and norms by itself."""
        return own_parameters(self)


@contextmanager
def _norms_kept(module: nn.Module) -> Iterator[None]:
    """Batch norms do not update their running averages inside: a recomputation must not count a batch twice."""
    norms = [m for m in module.modules() if isinstance(m, BATCH_NORMS)]
    saved = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, tracked) in zip(norms, saved, strict=True):
        norm.momentum, norm.num_batches_tracked = 0.0, None if tracked is None else tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, saved, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked

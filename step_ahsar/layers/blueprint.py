"""What the layers of a model have in common: chosen once for the whole model, handed down to every layer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from torch import nn
from torch.nn.init import kaiming_normal_, trunc_normal_

from step_ahsar.errors import UserError
from step_ahsar.layers.fixed import FixedSpikes
from step_ahsar.layers.pointwise import PointwiseConv1d, PointwiseConv2d
from step_ahsar.layers.quantise import quantise
from step_ahsar.neurons import NeuronKind, SpikingNeuron, create_neuron, create_norm, list_neurons, neuron_kind
from step_ahsar.neurons.norms import Norm
from step_ahsar.neurons.randomness import own_stream

L = TypeVar("L", bound=nn.Module)
Shortcut = Literal["spike", "membrane"]
SHORTCUTS = ("spike", "membrane")
ATTENTIONS = ("own", "random", "none")

CONV: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}
POINTWISE: dict[int, type[nn.Conv1d | nn.Conv2d]] = {1: PointwiseConv1d, 2: PointwiseConv2d}


@dataclass(frozen=True)
class Blueprint:
    """Makes the neurons, norms and convolutions of one model.

    Args:
        neuron: neuron of the registry.
        backend: the library that simulates it.
        threshold: firing threshold of every neuron except those behind an attention product; None = the neuron's
            default.
        attn_threshold: threshold of the neuron behind the attention product; None = ``attn_factor`` times
            ``threshold``.
        options: further options of the neuron (tau, surrogate, alpha, ...), which the registry validates.
        time_steps: T, for neurons and norms with parameters for each time step.
        norm: norm of the registry, see :mod:`step_ahsar.neurons.norms`.
        shortcut: what the residual stream adds: "spike" = branches end with a neuron (SEW), "membrane" = branches begin
            with a neuron and end with a norm (MS).
        conv_std: standard deviation of the initial weights of convolutions; None = PyTorch's default.
        linear_std: the same for linear layers, over tokens. With ``norm`` "none" neither applies: weights are He's,
            normal with a variance of 2 / fan-in, whose outputs are neither silent nor loud in a deep model.
        weight_bits: bits of the weights of convolutions and of the head; None or 32 = they are not quantised.
        attn_factor: the published ratio of the two thresholds.
        attention: "own" = the model's attention, "random" = fixed random spikes in place of its product, "none" = no
            attention.
    """

    neuron: str = "lif"
    backend: str = "torch"
    threshold: float | None = None
    attn_threshold: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    time_steps: int | None = None
    norm: str = "bn"
    shortcut: Shortcut = "spike"
    conv_std: float | None = None
    linear_std: float | None = 0.02
    weight_bits: int | None = None
    attn_factor: float = 0.5
    attention: str = "own"
    _made: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    @property
    def kind(self) -> NeuronKind:
        """The registry's facts about the neuron."""
        return neuron_kind(self.neuron, self.backend, self.options.get("base"))

    @property
    def membrane_shortcut(self) -> bool:
        """Whether the residual stream adds membranes."""
        return self.shortcut == "membrane"

    # -- neurons -------------------------------------------------------------------------------------------------------

    def new_neuron(self, group: str, channels: int, *, factor: float = 1.0) -> SpikingNeuron:
        """A neuron of ``group`` ("stem", "attention", "mlp" or "head") for inputs [T, B, channels, ...].

        Args:
            group: its group.
            channels: of its input.
            factor: its threshold, divided by that of most neurons.
        """
        threshold = self.threshold if factor == 1 else self._threshold * factor
        return self._new_neuron(group, self.neuron, self.backend, self.options, channels, threshold)

    def new_neuron_behind_attention(self, channels: int) -> SpikingNeuron:
        """The neuron behind an attention product, with the threshold ``attn_threshold``."""
        threshold = self._threshold * self.attn_factor if self.attn_threshold is None else self.attn_threshold
        return self._new_neuron("attention", self.neuron, self.backend, self.options, channels, threshold)

    def new_spikes_behind_attention(self, channels: int, everywhere: bool = False) -> nn.Module:
        """:meth:`new_neuron_behind_attention`, or :class:`FixedSpikes` if the attention is "random"."""
        if self.attention != "random":
            return self.new_neuron_behind_attention(channels)
        self._made[0] += 1
        return FixedSpikes(channels, self._made[0], everywhere)

    def new_signed_neuron(self, group: str, channels: int) -> SpikingNeuron:
        """A ternary integrate-and-fire neuron, for inputs whose sign carries information.

        It has the model's threshold and those of the model's options that it knows, and is regulated if the model's
        neuron is. It runs on the model's backend if this has such a neuron, else on "torch".
        """
        backend = self.backend if "ternary_if" in list_neurons(self.backend) else "torch"
        known = neuron_kind("ternary_if", backend).options or {}
        options = {name: value for name, value in self.options.items() if name in known}
        name = "ternary_if"
        if self.kind.regulated:
            name, options = self.neuron, {**options, "base": name}
        return self._new_neuron(group, name, backend, options, channels, self.threshold)

    @property
    def _threshold(self) -> float:
        """The threshold of most neurons, as a number."""
        threshold = self.kind.threshold if self.threshold is None else self.threshold
        if threshold is None:
            raise UserError(f"the default threshold of neuron {self.neuron!r} is not known; set one")
        return threshold

    def _new_neuron(
        self,
        group: str,
        name: str,
        backend: str,
        options: Mapping[str, Any],
        channels: int,
        threshold: float | None,
    ) -> SpikingNeuron:
        known = neuron_kind(name, backend, options.get("base")).options or {}
        sizes = {"time_steps": self.time_steps, "channels": channels}
        given = {name: size for name, size in sizes.items() if name in known} | dict(options)
        if threshold is not None:
            given["threshold"] = threshold
        number, self._made[0] = self._made[0], self._made[0] + 1
        with own_stream(number):
            return create_neuron(name, backend, group=group, **given)

    # -- weights and norms ---------------------------------------------------------------------------------------------

    def new_conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        ndim: int,
        linear: bool = False,
        std: float | None = None,
        **options: Any,
    ) -> nn.Conv1d | nn.Conv2d:
        """A convolution of 1 or 2 spatial dimensions. It is ``linear`` if it stands for a linear layer over tokens.

        Its weights have the standard deviation ``std``, or if that is None the blueprint's: they are drawn from a
        truncated normal distribution, and biases are 0.
        """
        pointwise = kernel_size == 1 and options.get("stride", 1) == 1 and options.get("groups", 1) == 1
        conv = (POINTWISE if pointwise else CONV)[ndim](in_channels, out_channels, kernel_size, **options)
        if std is None:
            std = self.linear_std if linear else self.conv_std
        if self.norm == "none":
            kaiming_normal_(conv.weight)
        elif std is not None:
            trunc_normal_(conv.weight, std=std)
        if conv.bias is not None and (std is not None or self.norm == "none"):
            nn.init.zeros_(conv.bias)
        return self.quantised(conv)

    def quantised(self, layer: L) -> L:
        """The layer, with quantised weights if the model has them."""
        if self.weight_bits is not None:
            quantise(layer, self.weight_bits)
        return layer

    def new_norm(self, channels: int, *, ndim: int, branches: int = 1) -> Norm:
        """A norm of [T, B, channels, *S].

        Args:
            channels: C.
            ndim: spatial dimensions of the norm's input.
            branches: how many outputs of such norms are added, which tdBN takes into account.
        """
        threshold = self._threshold if self.norm == "tdbn" else 1.0
        return create_norm(
            self.norm, channels, ndim=ndim, time_steps=self.time_steps, threshold=threshold, branches=branches
        )

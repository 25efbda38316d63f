"""Counting what a model computes: multiply-accumulates of a dense network, synaptic operations of a spiking one.

Products of tensors are counted where torch dispatches them, whatever module they are in. So none is missed, as those
inside an attention are by counters that know classes of layers. What cannot be counted is refused by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList

from step_ahsar import internals, ranks
from step_ahsar.ahsar.finding import find_layers
from step_ahsar.ahsar.grouping import default_group
from step_ahsar.errors import UserError
from step_ahsar.measure.reading import fan_of, outer, per_axis, reading_of
from step_ahsar.neurons import SpikingNeuron
from step_ahsar.neurons.norms import BATCH_NORMS, ChannelScale


class Uncountable(UserError):
    """A model computes something that cannot be counted."""


@dataclass(frozen=True)
class LayerOperations:
    """Operations of one layer for one sample, summed over its time steps: means over all samples.

    Args:
        name: of the module in the model; " #2" and so on follow if it computes more than one of a kind.
        kind: "conv", "linear", "product" (a matrix product of two tensors neither of which is a weight), "mask" (such a
            product element by element), "sum" (also a mean or an average pool), "norm" (of a kind that no weight can
            take up), or "neuron".
        group: "stem", "attention", "mlp", "head", or None.
        macs: multiply-accumulates of the same layer if all inputs counted. Padding is no input. Of a neuron: those of
            matrix products inside of it, such as a parallel neuron's over time steps.
        synaptic_operations: for each input that is not 0 the number of weights that it meets. Spikes count by their
            value: 3 spikes at once are 3, and so are 3 that were added up. Of a product of tensors: for each spike the
            number of values that it meets and that are not 0. Of a sum: the spikes. Masks add nothing and have none.
        rates: the share of the inputs that are not 0; of both operands if there are two; of the outputs of a neuron.
        analog: whether the inputs are real numbers, so that the layer multiplies. With spikes it only adds. Of a
            neuron: whether there are matrix products inside of it.
        inputs: the number of values, those that are 0 included; of both operands if there are two; of the outputs of a
            neuron.
        outputs: the number of values that are computed.
        weights: the number of the layer's weights, without biases; 0 if it has none.
        steps: the number of time steps at which it is computed, as a mean over its multiply-accumulates. It is 1 for a
            first layer that reads the same image at every time step. Behind the mean over time it is 1, too, also for a
            detection head that runs on several levels.
        updates: membranes that are updated; 0 unless it is a neuron.
        spikes: spikes that are emitted; 0 unless it is a neuron.
    """

    name: str
    kind: str
    group: str | None
    macs: float
    synaptic_operations: float
    rates: tuple[float, ...]
    analog: bool
    inputs: tuple[float, ...]
    outputs: float
    weights: int
    steps: float
    updates: float = 0.0
    spikes: float = 0.0

    @property
    def spikes_per_synapse(self) -> float | None:
        """The mean number of spikes that a synapse gets in one inference; None if the layer has none or multiplies.

        A weight that a convolution uses at several places is as many synapses.
        """
        return None if self.analog or not self.macs else self.synaptic_operations * self.steps / self.macs


class GroupOperations(NamedTuple):
    """Sums over the layers of a group, for one sample; the fields are those of :class:`Operations`."""

    macs: float
    synaptic_operations: float
    updates: float
    spikes: float


@dataclass(frozen=True)
class Operations:
    """Operations of a model for one sample, see :func:`operations`.

    Args:
        layers: in the order in which they are computed.
        time_steps: T.
        samples: the number of samples over which the means are taken.
    """

    layers: tuple[LayerOperations, ...]
    time_steps: int
    samples: int

    @property
    def macs(self) -> float:
        """Multiply-accumulates of the layers with analog inputs. A first layer that reads one image counts once."""
        return sum(layer.macs for layer in self.layers if layer.analog)

    @property
    def macs_repeated(self) -> float:
        """The same, if the first layer were computed at each time step."""
        first = next((layer for layer in self.layers if layer.macs), None)
        again = first.macs * (self.time_steps - 1) if first is not None and first.analog and first.steps == 1 else 0.0
        return self.macs + again

    @property
    def synaptic_operations(self) -> float:
        """Synaptic operations of the layers that read spikes, each of which adds a weight."""
        return sum(layer.synaptic_operations for layer in self.layers if not layer.analog)

    @property
    def dense_macs(self) -> float:
        """Multiply-accumulates of a network of the same shape without spikes, which is computed once."""
        return sum(layer.macs / layer.steps for layer in self.layers if layer.kind != "neuron")

    @property
    def updates(self) -> float:
        """Membranes that are updated."""
        return sum(layer.updates for layer in self.layers)

    @property
    def spikes(self) -> float:
        """Spikes that are emitted. Divided by the updates they are the model's mean firing rate."""
        return sum(layer.spikes for layer in self.layers)

    def groups(self) -> dict[str, GroupOperations]:
        """Operations by group, in the order in which they are computed. Layers without a group are in "other"."""
        found: dict[str, list[LayerOperations]] = {}
        for layer in self.layers:
            found.setdefault(layer.group or "other", []).append(layer)
        return {
            group: GroupOperations(
                sum(layer.macs for layer in layers if layer.analog),
                sum(layer.synaptic_operations for layer in layers if not layer.analog),
                sum(layer.updates for layer in layers),
                sum(layer.spikes for layer in layers),
            )
            for group, layers in found.items()
        }


def operations(model: nn.Module, batches: Iterable[Tensor], *, batch_axis: int = 0) -> Operations:
    """Counts the operations of a model on all inputs, in evaluation mode.

    >>> from step_ahsar.neurons import create_neuron
    >>> class Net(nn.Sequential):
    ...     def forward(self, x):  # [T, B, 3]
    ...         return self[1](self[0](x))
    >>> spikes = torch.tensor([[[1.0, 0.0, 1.0]], [[0.0, 0.0, 0.0]]])
    >>> found = operations(Net(nn.Linear(3, 5), create_neuron("lif")), [spikes], batch_axis=1)
    >>> found.layers[0].macs, found.synaptic_operations, found.updates
    (30.0, 10.0, 10.0)

    Args:
        model: any model.
        batches: inputs of the model.
        batch_axis: the axis of samples: 0 for [B, ...], 1 for [T, B, ...].

    Raises:
        Uncountable: the model computes something that cannot be counted; its name and module are told.
    """
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), OperationMeter(model) as meter:
            for inputs in batches:
                with meter.batch(inputs.shape[batch_axis]):
                    model(inputs)
    finally:
        model.train(training)
    return meter.operations()


_Key = tuple[str, str, int]  # a module's name, the kind of operation, and which one of this kind it is
_Axes = tuple[int, ...]  # number of samples in the batch, then the axes of an input in front of its channels


@dataclass
class _Count:
    """What one layer has computed so far, over all samples."""

    kind: str
    calls: Counter[_Axes] | None  # multiply-accumulates by the axes of the input; None if it has the model's time steps
    analog: bool
    macs: int
    synaptic: float
    nonzero: list[int]  # of each operand
    sizes: list[int]
    outputs: int
    weights: int = 0
    updates: int = 0
    spikes: float = 0.0
    rows: int = 0  # the first axis of the input, over all calls

    def add(self, other: _Count) -> None:
        """Adds what the same layer has computed for other samples."""
        if self.calls is not None and other.calls is not None:
            self.calls += other.calls
        self.analog = self.analog or other.analog
        self.macs += other.macs
        self.rows += other.rows
        self.synaptic += other.synaptic
        self.outputs += other.outputs
        self.updates += other.updates
        self.spikes += other.spikes
        self.nonzero = [a + b for a, b in zip(self.nonzero, other.nonzero, strict=True)]
        self.sizes = [a + b for a, b in zip(self.sizes, other.sizes, strict=True)]


_Counting = Callable[["OperationMeter", nn.Module, Sequence[Any], Any], _Count | None]


@dataclass
class _Call:
    """A module whose forward pass is running."""

    name: str
    module: nn.Module
    inputs: torch.Size  # the shape of its first argument
    ordinals: Counter[_Counting] = field(default_factory=Counter)


class OperationMeter:
    """Counts the operations of ``model`` for what runs inside :meth:`batch`; use it as a context manager.

    Its hooks run behind those that were registered before.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._neurons = find_layers(model)
        self._names = {id(module): name for name, module in model.named_modules()}
        self._spike_values = sorted({1.0} | {neuron.spike_value for neuron in self._neurons.values()}, reverse=True)
        self._watch = internals.OperatorWatch(self._count)
        self._hooks: list[Any] = []
        self._calls: list[_Call] = []
        self._off = 0  # depth inside of modules whose products are not counted
        self._inside: list[int] = []  # multiply-accumulates so far of each neuron that is being computed
        self._counts: dict[_Key, _Count] = {}
        steps = {getattr(model.get_submodule(name), "step_mode", "m") for name in self._neurons}
        self._is_single_step = "s" in steps  # SpikingJelly's neurons may be called for each time step
        self._has_groups = any(isinstance(n, SpikingNeuron) and n.group for n in self._neurons.values())
        self._samples, self._size, self._steps = 0, 0, 1

    def __enter__(self) -> OperationMeter:
        neurons = {self._model.get_submodule(name) for name in self._neurons}
        before: Callable[..., None]
        after: Callable[..., None]
        for module in self._model.modules():
            if module in neurons:
                before, after = self._enter_neuron, self._leave_neuron
            elif isinstance(module, _QUIET):
                before, after = self._pause, self._resume
            else:
                before, after = self._enter, self._leave
            self._hooks.append(module.register_forward_pre_hook(before))
            self._hooks.append(module.register_forward_hook(after, always_call=True))
        tensors = (*self._model.parameters(), *self._model.buffers())
        self._weights = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    @contextmanager
    def batch(self, size: int) -> Iterator[None]:
        """Counts what runs in the block as the work for ``size`` samples."""
        self._samples, self._size = self._samples + size, size
        self._calls, self._single_steps = [_Call("", self._model, torch.Size())], dict[str, int]()
        self._off, self._inside = 0, []
        self._watch.start()
        try:
            yield
        finally:
            self._watch.stop()
            self._size = 0

    def join(self) -> None:
        """Adds up the counts of all ranks, each of which has measured other samples."""
        every = ranks.gathered(([*self._counts.items()], self._samples, self._steps))
        self._counts, self._samples = {}, 0
        for counts, samples, steps in every:
            self._samples, self._steps = self._samples + samples, max(self._steps, steps)
            for key, count in counts:
                self._add(key, count)

    def operations(self) -> Operations:
        """The counts so far."""
        layers = tuple(self._layer(key, count) for key, count in self._counts.items())
        return Operations(layers, self._steps, self._samples)

    def _layer(self, key: _Key, count: _Count) -> LayerOperations:
        (path, _, ordinal), n = key, self._samples
        return LayerOperations(
            name=(path or "(model)") + (f" #{ordinal}" if ordinal > 1 else ""),
            kind=count.kind,
            group=self._group(path),
            macs=count.macs / n,
            synaptic_operations=count.synaptic / n,
            rates=tuple(active / size for active, size in zip(count.nonzero, count.sizes, strict=True)),
            analog=count.analog,
            inputs=tuple(size / n for size in count.sizes),
            outputs=count.outputs / n,
            weights=count.weights,
            steps=self._steps_of(count),
            updates=count.updates / n,
            spikes=count.spikes / n,
        )

    def _steps_of(self, count: _Count) -> float:
        """At how many time steps a layer is computed."""
        if not count.calls or not count.macs:
            return self._steps
        if self._is_single_step:  # each layer is called once for each time step
            return min(self._steps, max(1, round(count.rows / self._samples)))
        once = sum(macs / (self._steps if self._holds_time(axes) else 1) for axes, macs in count.calls.items())
        return round(count.macs / once, 6)

    def _holds_time(self, axes: _Axes) -> bool:
        """Whether the axes of an input hold the time steps: [T, B, ...], [T * B, ...], or flattened with others."""
        samples, *front = axes
        both = self._steps * samples
        return front[:2] == [self._steps, samples] or front[0] == both or (len(front) == 1 and front[0] % both == 0)

    def _group(self, path: str) -> str | None:
        """The group of the neurons of the innermost module around a layer that has any."""
        parts = path.split(".") if path else []
        for depth in range(len(parts), 0, -1):
            around = self._model.get_submodule(".".join(parts[:depth]))
            found = {neuron.group for neuron in around.modules() if isinstance(neuron, SpikingNeuron)}
            if len(found) == 1 and None not in found:
                return found.pop()
            if found:
                return default_group(self._model, path)
        # Neurons with groups are those of a backbone, and what is beside it is a head.
        return "head" if self._has_groups else default_group(self._model, path)

    def _add(self, key: _Key, count: _Count) -> None:
        if key in self._counts:
            self._counts[key].add(count)
        else:
            self._counts[key] = count

    # -- where the forward pass is -----------------------------------------------------------------------------------

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        first = inputs[0] if inputs else None
        shape = first.shape if isinstance(first, Tensor) else torch.Size()
        self._calls.append(_Call(self._names[id(module)], module, shape))

    def _leave(self, module: nn.Module, *_: object) -> None:
        while len(self._calls) > 1 and self._calls.pop().module is not module:
            pass  # modules in which an error was raised

    def _pause(self, *_: object) -> None:
        """A norm or a parametrisation starts."""
        self._off += 1
        self._watch.stop()

    def _resume(self, *_: object) -> None:
        self._off -= 1
        if self._size and not self._off:
            self._watch.start()

    def _enter_neuron(self, *_: object) -> None:
        self._inside.append(0)

    def _leave_neuron(self, module: nn.Module, _: object, out: Any) -> None:
        macs = self._inside.pop()
        if not self._size or not isinstance(out, Tensor):
            return
        name = self._names[id(module)]
        steps = len(out)
        if getattr(module, "step_mode", "m") == "s":  # SpikingJelly's, which is called for each time step
            self._single_steps[name] = steps = self._single_steps.get(name, 0) + 1
        self._steps = max(self._steps, steps)
        self._watch.stop()
        read = reading_of(out, [self._neurons[name].spike_value], None, known=True)
        if not self._off:
            self._watch.start()
        size = out.numel()
        count = _Count("neuron", None, macs > 0, macs, float(macs), [read.nonzero], [size], size, 0, size, read.total)
        self._add((name, "neuron", 1), count)

    # -- operators ---------------------------------------------------------------------------------------------------

    def _count(self, operator: str, args: Sequence[Any], out: Any) -> None:
        """An operator has run."""
        counting = _COUNTED.get(operator)
        if self._inside:  # a neuron: what it does to single values is its update
            if counting is OperationMeter._matmul:
                self._inside[-1] += out.numel() * args[-2].shape[-1]
            elif counting is OperationMeter._convolution:
                self._inside[-1] += out.numel() * args[1][0].numel()
            return
        call = self._calls[-1]
        if counting is None:
            refused = any(part in operator for part in _REFUSED) and "upsample" not in operator
            refused |= operator in _PRODUCTS and self._multiplies(call.module, args)
            if refused or not operator.startswith(_KNOWN_LIBRARIES):
                raise Uncountable(
                    f"operations of {operator} in {call.name or type(call.module).__name__} "
                    f"({type(call.module).__name__}) cannot be counted; those of linear layers, convolutions, and "
                    "products of two tensors by @ and * can"
                )
            return
        call.ordinals[counting] += 1
        count = counting(self, call.module, args, out)
        if count is not None:
            count.rows = sum(axes[1] for axes in count.calls or ())
            self._add((call.name, count.kind, call.ordinals[counting]), count)

    def _convolution(self, _: nn.Module, args: Sequence[Any], out: Tensor) -> _Count:
        x, weight, _, stride, padding, dilation, transposed, _, groups = args[:9]
        kernel, sizes = weight.shape[2:], x.shape[2:]
        fans = [
            fan_of(*each, bool(transposed))
            for each in zip(
                *(sizes, out.shape[2:], kernel),
                *(per_axis(setting, len(kernel)) for setting in (stride, padding, dilation)),
                strict=True,
            )
        ]
        fan = outer(fans).to(x.device)  # [*S]: the positions of the output that each position of the input reaches
        channels = out.shape[1] // groups
        read = reading_of(x, self._spike_values, (0, 1))
        reached = (read.amounts * fan).sum().item() * channels
        macs = int(fan.sum()) * x.shape[0] * x.shape[1] * channels
        sizes = [x.numel()], out.numel(), weight.numel()
        calls: Counter[_Axes] = Counter({(self._size, len(x), 0): macs})
        return _Count("conv", calls, read.analog, macs, reached, [read.nonzero], *sizes)

    def _matmul(self, module: nn.Module, args: Sequence[Any], out: Tensor) -> _Count:
        """The product of [..., n, k] and [..., k, m]; ``args`` end with both."""
        a, b = args[-2:]
        macs = a.numel() * b.shape[-1]
        is_weight = [self._is_weight(a), self._is_weight(b) or isinstance(module, _OWN_PRODUCT)]
        if any(is_weight):
            x, meets = (b, a.shape[-2]) if is_weight[0] else (a, b.shape[-1])
            read = reading_of(x, self._spike_values, None)
            sizes = [x.numel()], out.numel(), (a if is_weight[0] else b).numel()
            calls = Counter({self._axes(x): macs})
            return _Count("linear", calls, read.analog, macs, read.total * meets, [read.nonzero], *sizes)
        reads = [reading_of(x, self._spike_values, axis) for x, axis in ((a, -2), (b, -1))]  # amounts [..., k] each
        present = [(x != 0).sum(axis) for x, axis in ((a, -2), (b, -1))]
        # Each spike meets the values of the other operand that are not 0. If both are spikes, those that are fewer.
        ways = [reads[i].amounts * present[1 - i] for i in (0, 1) if not reads[i].analog]
        analog = not ways
        met = min(way.sum().item() for way in ways or [present[0] * present[1]])
        values = [a.numel(), b.numel()]
        return _Count("product", None, analog, macs, met, [r.nonzero for r in reads], values, out.numel())

    def _mask(self, module: nn.Module, args: Sequence[Any], out: Tensor) -> _Count | None:
        """An element-wise product. With numbers and weights it is a scale, which can be part of a layer's weights."""
        if _is_detector(module):
            return None
        if not all(isinstance(x, Tensor) and x.numel() > 1 and x.is_floating_point() for x in args[:2]):
            return None
        if any(self._is_weight(x) or self._is_scale(x, out) for x in args[:2]):
            return None
        reads = [reading_of(x, self._spike_values, None) for x in args[:2]]
        analog = all(read.analog for read in reads)
        products = float(out.count_nonzero()) if analog else 0.0
        sizes = [x.numel() for x in args[:2]]
        return _Count("mask", None, analog, out.numel(), products, [read.nonzero for read in reads], sizes, out.numel())

    def _sum(self, _: nn.Module, args: Sequence[Any], out: Tensor) -> _Count | None:
        """A sum of spikes. Other sums are no part of a network's products, and are not counted."""
        x = args[0]
        if not x.is_floating_point() or self._is_weight(x):
            return None
        read = reading_of(x, self._spike_values, None)
        sizes = [x.numel()], out.numel()
        return None if read.analog else _Count("sum", None, False, 0, read.total, [read.nonzero], *sizes)

    def _norm(self, _: nn.Module, args: Sequence[Any], __: Any) -> _Count | None:
        """A norm by the values themselves, which no weight can take up: a square and a scale of each value."""
        x = args[0]
        if self._is_weight(x):  # a softmax of learnt weights is one of their functions
            return None
        values = int(x.count_nonzero())
        calls = Counter({self._axes(x): 2 * x.numel()})
        return _Count("norm", calls, True, 2 * x.numel(), 2.0 * values, [values], [x.numel()], x.numel())

    def _batch_norm(self, module: nn.Module, args: Sequence[Any], out: Any) -> _Count | None:
        """By running averages it is part of the weights before it; by the values themselves it is not."""
        return self._norm(module, args, out) if args[5] else None

    def _power(self, module: nn.Module, args: Sequence[Any], out: Tensor) -> _Count | None:
        """Of spikes or of real numbers, with themselves or with an exponent."""
        return self._mask(module, (args[0], args[0]), out)

    def _multiplies(self, module: nn.Module, args: Sequence[Any]) -> bool:
        """Whether an operator of ``_PRODUCTS`` has two operands of values; with numbers and weights it is a scale."""
        given = [x for arg in args for x in (arg if isinstance(arg, list | tuple) else [arg]) if isinstance(x, Tensor)]
        values = [x for x in given if x.is_floating_point() and x.numel() > 1 and not self._is_weight(x)]
        return len(values) > 1 and not _is_detector(module)

    def _axes(self, x: Tensor) -> _Axes:
        """The number of samples, then the axes in front of the channels.

        These are the axes of the module's input if ``x`` has as many values, since it may be a flat view of it.
        """
        call = self._calls[-1]
        front = tuple(call.inputs if call.inputs.numel() == x.numel() else x.shape)[:-1]
        if any(_is_detector(each.module) for each in self._calls):
            front = (*front, 0)  # boxes are no time steps
        return (self._size, *(front or (1,)))

    def _is_scale(self, x: Tensor, out: Tensor) -> bool:
        """Whether an operand of an element-wise product is the same for all samples, as a running rate [h, 1, 1] is."""
        return x.ndim < out.ndim and x.shape[0] != self._size

    def _is_weight(self, x: Tensor) -> bool:
        return x.untyped_storage().data_ptr() in self._weights


# Modules whose only product is that of their input and their weight, which may be quantised and then is no parameter.
_OWN_PRODUCT = (nn.Linear, nn.Conv1d, nn.Conv2d)

# Modules inside of which nothing is counted: norms in evaluation are part of the weights before them, and what a
# parametrisation computes depends on weights alone.
_QUIET = (*BATCH_NORMS, ChannelScale, ParametrizationList)

_COUNTED: dict[str, _Counting] = {
    "aten::convolution": OperationMeter._convolution,
    "aten::mm": OperationMeter._matmul,
    "aten::addmm": OperationMeter._matmul,
    "aten::bmm": OperationMeter._matmul,
    "aten::baddbmm": OperationMeter._matmul,
    "aten::mul": OperationMeter._mask,
    "aten::div": OperationMeter._mask,
    "aten::square": OperationMeter._power,
    "aten::pow": OperationMeter._power,
    "aten::native_batch_norm": OperationMeter._batch_norm,
    "aten::_native_batch_norm_legit": OperationMeter._batch_norm,
    "aten::cudnn_batch_norm": OperationMeter._batch_norm,
    "aten::_softmax": OperationMeter._norm,
    "aten::native_group_norm": OperationMeter._norm,
    "aten::native_layer_norm": OperationMeter._norm,
    "aten::sum": OperationMeter._sum,
    "aten::mean": OperationMeter._sum,
    "aten::avg_pool1d": OperationMeter._sum,
    "aten::avg_pool2d": OperationMeter._sum,
    "aten::avg_pool3d": OperationMeter._sum,
    "aten::_adaptive_avg_pool2d": OperationMeter._sum,
    "aten::_adaptive_avg_pool3d": OperationMeter._sum,
}

# Parts of the names of operators with products inside.
_REFUSED = (
    *("mm", "matmul", "conv", "dot", "attention", "attn", "transformer", "lstm", "gru", "rnn", "linear", "einsum"),
    *("trilinear", "cdist", "fft", "addmv", "::mv", "addr", "outer", "prod", "matrix_exp", "grid_sampler"),
    *("embedding_bag", "prelu", "pow_", "square_"),
)
# Operators that multiply values by each other, or by numbers and weights, in place or by rules of their own.
_PRODUCTS = {
    *("aten::mul_", "aten::div_", "aten::addcmul", "aten::addcmul_", "aten::addcdiv", "aten::addcdiv_", "aten::lerp"),
    *("aten::lerp_", "aten::_foreach_mul", "aten::_foreach_mul_", "aten::_foreach_div", "aten::_foreach_div_"),
}
_KNOWN_LIBRARIES = ("aten::", "prim::", "prims::", "torchvision::", "profiler::")


def _is_detector(module: nn.Module) -> bool:
    """Whether what the module itself computes is about boxes. Its layers are modules of their own."""
    kinds = [kind for each in (module, *module.children()) for kind in type(each).__mro__]
    return any(
        kind.__module__.startswith(("torchvision.models.detection", "torchvision.ops.poolers")) for kind in kinds
    )

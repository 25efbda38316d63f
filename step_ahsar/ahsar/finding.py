"""Finding the spiking layers of a model, and modules of unknown classes that look like spiking layers."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from step_ahsar.ahsar.grouping import words_of
from step_ahsar.libraries.regulation import NodeLayer, Rules, find_layer
from step_ahsar.neurons import SpikingNeuron

Layer = SpikingNeuron | NodeLayer

# A module looks like a spiking neuron if its class has one of these words in its name, or if it has such an attribute.
# A threshold of a membrane is one of a neuron whatever the class is called; others may have other purposes.
_WORDS = ("lif", "if", "iaf", "eif", "qif", "liaf", "psn", "neuron", "node", "spike", "spikes", "multispike", "spiking")
_ENDINGS = ("lif", "psn", "neuron", "spike")
_NAMES = ("mem_update", "AdEx", "Izhikevich")
_MEMBRANE = ("v_threshold", "v_thresh", "v_th", "vth")
_THRESHOLD = ("threshold", "thresh", "thre", "theta")
# Classes with one of these words handle spikes but are not neurons, unless the last word is one of a neuron.
_OTHERS = ("encoder", "loss", "pool", "norm", "conv", "dropout", "block", "surrogate", "grad")


def find_layers(model: nn.Module, rules: Rules | None = None) -> dict[str, Layer]:
    """Every spiking layer by its name in ``model``. ``rules`` adds classes that belong to no known library."""
    found: dict[str, Layer] = {}
    for name, module in model.named_modules():
        layer = module if isinstance(module, SpikingNeuron) else find_layer(module, rules)
        if layer is not None:
            found[name] = layer
    return found


def find_strangers(model: nn.Module, known: Mapping[str, Layer]) -> dict[str, nn.Module]:
    """Modules of ``model`` that look like spiking neurons and are not among the ``known``, by their names.

    The parts of a neuron do not count. A module around layers with weights, or around known neurons, counts only if no
    module in it looks like a neuron.
    """
    parts = [(name, module) for name, module in model.named_modules() if name and not _in_one_of(name, known)]
    strangers: dict[str, nn.Module] = {}
    for name, module in parts:
        if _in_one_of(name, strangers) or not _looks_like_a_neuron(module):
            continue
        within = [(other, part) for other, part in parts if other.startswith(f"{name}.")]
        around = any(other.startswith(f"{name}.") for other in known)
        if around or (_has_weights(module) and any(_looks_like_a_neuron(part) for _, part in within)):
            continue
        strangers[name] = module
    return strangers


def _in_one_of(name: str, others: Iterable[str]) -> bool:
    return any(name == other or name.startswith(f"{other}.") for other in others)


def _has_weights(module: nn.Module) -> bool:
    return any(p.ndim > 1 for child in module.children() for p in child.parameters())


def _looks_like_a_neuron(module: nn.Module) -> bool:
    name = type(module).__name__
    if type(module).__module__.startswith("torch.nn."):
        return False
    words = words_of(name)
    if name in _NAMES or (words and _is_of_a_neuron(words[-1])):
        return True
    if _has_number(module, _MEMBRANE):
        return True
    if _has_weights(module) or any(word in _OTHERS for word in words):
        return False
    return _has_number(module, _THRESHOLD) or any(_is_of_a_neuron(word) for word in words)


def _has_number(module: nn.Module, attributes: Iterable[str]) -> bool:
    return any(isinstance(getattr(module, each, None), (float, int, Tensor)) for each in attributes)


def _is_of_a_neuron(word: str) -> bool:
    return word in _WORDS or word.endswith(_ENDINGS)

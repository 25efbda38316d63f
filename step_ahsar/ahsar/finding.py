"""Finding the spiking layers of a model, and modules of unknown classes that look like spiking layers."""

from collections.abc import Mapping

from torch import Tensor, nn

from step_ahsar.ahsar.grouping import words_of
from step_ahsar.libraries.regulation import NodeLayer, Rules, find_layer
from step_ahsar.neurons import SpikingNeuron

Layer = SpikingNeuron | NodeLayer

# A module looks like a spiking neuron if its class has one of these words in its name, or if it has such an attribute.
_WORDS = ("lif", "if", "iaf", "psn", "neuron", "node", "spike", "spikes", "multispike", "spiking")
_ENDINGS = ("lif", "psn", "neuron", "spike")
_NAMES = ("mem_update",)
_ATTRIBUTES = ("v_threshold", "v_th", "vth", "threshold", "thresh", "thre")
# Classes with one of these words handle spikes but are not neurons.
_OTHERS = ("encoder", "loss", "pool", "norm", "dropout", "block", "surrogate", "grad")


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

    Modules that contain layers with weights do not count, nor do the parts of a neuron.
    """
    strangers: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name == other or name.startswith(f"{other}.") for other in (*known, *strangers))
        if name and not inside and _looks_like_a_neuron(module):
            strangers[name] = module
    return strangers


def _looks_like_a_neuron(module: nn.Module) -> bool:
    if type(module).__module__.startswith("torch.nn."):
        return False
    if any(p.ndim > 1 for child in module.children() for p in child.parameters()):
        return False
    words = words_of(type(module).__name__)
    if any(word in _OTHERS for word in words):
        return False
    if type(module).__name__ in _NAMES or any(word in _WORDS or word.endswith(_ENDINGS) for word in words):
        return True
    return any(isinstance(getattr(module, name, None), (float, int, Tensor)) for name in _ATTRIBUTES)

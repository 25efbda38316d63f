"""Weights from files for models of the zoo: what fits, what is converted, and what a new model keeps."""

import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from torch import Size, Tensor, nn
from torch.nn.utils import parametrize

from step_ahsar.errors import UserError, shortened
from step_ahsar.models._base import SpikingTransformer

StateDict = dict[str, Tensor]
Shapes = dict[str, Size]  # by the keys of a state dict
Others = Callable[[], Iterable[tuple[str, str, Shapes]]]  # name, family and shapes of each registered model

_NEURON = re.compile(r"(^|\.)neuron\.")  # what a neuron has beside the weights, such as AHSAR's scale
_ORIGINAL, _STEP = "parametrizations.weight.original", "parametrizations.weight.0.step"


def fitted(state_dict: StateDict, model: SpikingTransformer, others: Others) -> StateDict:
    """The weights of a file as ``model`` takes them.

    - Those in the key layout of another library's model are converted.
    - Quantised layers take weights of full precision, with first steps as in a new model.
    - What neurons own beside the weights, and the file lacks, stays as it is in the new model. AHSAR's scales may be in
      the file and not in the model if they are folded, that is 1.

    Warnings say so. The classifier and the first convolution may be of another number of classes and of channels, where
    timm adapts them.

    Args:
        state_dict: the weights.
        model: a new model of the zoo.
        others: the models that may be named as those that fit.

    Raises:
        UserError: weights that do not fit.
    """
    own = model.state_dict()
    given = _quantised(dict(state_dict), model)
    if not any(key in own for key in given if not key.startswith("head.")):
        given = import_module("step_ahsar.libraries.convert").read_weights(state_dict, model)
    given = {key: value for key, value in given.items() if key in own or not _is_folded_scale(key, value)}
    lacking = [key for key in own if key not in given and _NEURON.search(key)]
    given |= {key: own[key] for key in lacking}
    if lacking:
        kinds = sorted({key.rpartition(".")[2] for key in lacking})
        warnings.warn(
            f"the weights hold no {' and no '.join(kinds)} of neurons: {len(lacking)} tensors stay as in a new model",
            stacklevel=2,
        )
    if faults := _misfits(shapes(given), shapes(own), _adapted(model)):
        raise UserError(
            f"the weights do not fit this {type(model).__name__}: {'; '.join(faults)}. {_advice(state_dict, others())}"
        )
    return given


def _is_folded_scale(key: str, value: Tensor) -> bool:
    return key.endswith(".threshold_scale") and value.numel() == 1 and value.item() == 1


def shapes(state_dict: Mapping[str, Tensor]) -> Shapes:
    """The shape of each tensor."""
    return {key: value.shape for key, value in state_dict.items()}


def _quantised(given: StateDict, model: nn.Module) -> StateDict:
    """With weights of full precision as the originals of quantised ones."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight") and f"{name}.weight" in given:
            weight = given.pop(f"{name}.weight")
            rule: Any = module.parametrizations.weight[0]
            given |= {f"{name}.{_ORIGINAL}": weight, f"{name}.{_STEP}": rule.first_step(weight)}
    return given


def _adapted(model: SpikingTransformer) -> tuple[str, ...]:
    """The keys that timm leaves out or adapts."""
    record: Any = model.pretrained_cfg
    keys = ("head.weight", "head.bias") if model.num_classes != record["num_classes"] else ()
    return (*keys, f"{record['first_conv']}.weight") if model.in_chans != record["input_size"][0] else keys


def _misfits(given: Shapes, own: Shapes, adapted: tuple[str, ...] = ()) -> list[str]:
    """What does not fit, for people: the number of each kind, and the first."""
    missing = [key for key in own if key not in given and key not in adapted]
    foreign = [key for key in given if key not in own]
    others = [key for key in own if key in given and key not in adapted and given[key] != own[key]]
    faults = []
    if missing:
        faults.append(f"{len(missing)} of its tensors are missing, {missing[0]!r} first")
    if foreign:
        faults.append(f"{len(foreign)} have no place in it, {foreign[0]!r} first")
    if others:
        key = others[0]
        faults.append(
            f"{len(others)} have another shape, {key!r} first, which is {list(given[key])}, not {list(own[key])}"
        )
    return faults


def _advice(state_dict: StateDict, others: Iterable[tuple[str, str, Shapes]]) -> str:
    """Which models the weights fit."""
    weights = _weights(shapes(state_dict))
    pattern = _pattern(weights)
    fitting: list[str] = []
    alike: list[str] = []
    for name, family, of_model in others:
        own = _weights(of_model)
        if not _misfits(weights, own):
            fitting.append(name)
        elif _pattern(own) == pattern and family not in alike:
            alike.append(family)
    if fitting:
        return f"They fit {shortened(fitting)}, if neuron, norm and classes are those that they were trained with"
    if alike:
        return f"Such keys have models of {' or '.join(alike)}, of another size, norm, weight_bits or time_steps"
    return "Of the registered models, with their own arguments, none has such keys"


def _weights(given: Shapes) -> Shapes:
    """Without the classifier, and what neurons own."""
    return {key: shape for key, shape in given.items() if not _NEURON.search(key) and not key.startswith("head.")}


def _pattern(keys: Iterable[str]) -> set[str]:
    """The keys without what depends on depth, on the norm and on the bits of weights."""
    plain = (key.replace(_ORIGINAL, "weight") for key in keys if not key.endswith((_STEP, ".step_scale")))
    return {re.sub(r"\d+", "*", key) for key in plain}

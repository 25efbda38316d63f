"""Conditions under which a trained model is tested, by name: ``jpeg:3``, ``threshold:0.8``, ``jpeg:3+thresholds``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from step_ahsar.config import Config
from step_ahsar.data import SEVERITIES, DatasetSpec, find_corruption, list_corruptions
from step_ahsar.errors import UserError, unknown
from step_ahsar.registry import Registry
from step_ahsar.robustness.attacking import ATTACKS, check_library
from step_ahsar.robustness.perturbing import add_noise, quantise, scale_thresholds

CLEAN = "clean"
CORRUPTIONS = "corruptions"  # stands for every corruption of the data at every severity
ADAPTED = ("thresholds", "norm")  # what may be adapted to the test data without labels; behind a "+" in a name

Change = Callable[[nn.Module], None]


@dataclass(frozen=True)
class Condition:
    """One condition.

    Args:
        name: such as "jpeg:3".
        settings: keys of the config that it sets.
        change: changes the trained model in place, if it does.
        attack: name of an attack of :mod:`step_ahsar.robustness.attacking`, if it is one.
        size: the largest change of a pixel by the attack, in 1/255.
        adapt: what of the model is adapted to these data, one of :data:`ADAPTED`; None for nothing.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    change: Change | None = None
    attack: str | None = None
    size: float = 0.0
    adapt: str | None = None

    @property
    def of_model(self) -> bool:
        """Whether it is about the model and not about its data alone, so that some models do not have it."""
        return self.change is not None or "model.time_steps" in self.settings or self.adapt is not None


@dataclass(frozen=True)
class Kind:
    """Conditions of one name that differ in a number.

    Args:
        values: what the number is, for people.
        whole: whether it is a whole number.
        least: the smallest number.
        most: the largest one.
        settings: the name of the key of the config that is set to the number.
        change: a function of model and number.
        attack: whether it is an attack on images, and the number its size.
    """

    values: str
    whole: bool = False
    least: float = 0.0
    most: float = math.inf
    settings: str | None = None
    change: Callable[[nn.Module, Any], None] | None = None
    attack: bool = False


CONDITIONS = Registry[Kind]("condition")
CONDITIONS.add("time_steps", Kind("number of time steps T", whole=True, least=1, settings="model.time_steps"))
CONDITIONS.add("threshold", Kind("factor on every threshold", least=1e-3, change=scale_thresholds))
CONDITIONS.add("weight_noise", Kind("noise on weights, relative to their deviation in the layer", change=add_noise))
CONDITIONS.add("weight_bits", Kind("bits of the weights", whole=True, least=2, most=16, change=quantise))
for _name, _attack in ATTACKS.items():
    CONDITIONS.add(_name, Kind(f"{_attack.title}: largest change of a pixel, in 1/255", most=255, attack=True))


def expand(names: Sequence[str], config: Config, spec: DatasetSpec) -> list[Condition]:
    """The conditions with these names, after the clean test set, each once.

    Args:
        names: ``NAME:VALUE``, or ``corruptions`` for every corruption of this kind of data at every severity; with
            ``+thresholds`` or ``+norm`` the model is adapted to the data. ``clean+...`` is the clean test set.
        config: the run's config.
        spec: its data set.

    Raises:
        UserError: a name or a value that does not exist, or one that does not apply to the data or the task.
    """
    found = {CLEAN: Condition(CLEAN)}
    for name in names:
        base, plus, adapt = name.partition("+")
        if plus and adapt not in ADAPTED:
            raise unknown(f"adaptation in condition {name!r}:", adapt, ADAPTED)
        for each in _corruptions(spec) if base == CORRUPTIONS else [base]:
            found.setdefault(each + plus + adapt, _adapted(_condition(each, config, spec), adapt))
    return list(found.values())


def evaluations(name: str) -> int:
    """How many evaluations of the test set take as long as measuring a condition, roughly."""
    kind = name.partition(":")[0]
    # One with its gradient takes about three times as long as one without. Adapting thresholds goes through the data,
    # too, and more than once where they are few.
    return 1 + 3 * ATTACKS[kind].gradients if kind in ATTACKS else 1 + name.endswith("+thresholds")


def check_installed(names: Iterable[str]) -> None:
    """Raises UserError if a library is missing that measuring these conditions needs."""
    if any(name.partition(":")[0] in ATTACKS for name in names):
        check_library()


def _adapted(condition: Condition, adapt: str) -> Condition:
    if not adapt:
        return condition
    name = f"{condition.name}+{adapt}"
    if condition.attack is not None:
        raise UserError(f"condition {name!r} does not apply: attacks are on the model as it was trained")
    return replace(condition, name=name, adapt=adapt)


def _corruptions(spec: DatasetSpec) -> list[str]:
    known = list_corruptions(spec)
    if not known:
        raise UserError(f"corruptions do not apply to dataset {spec.name!r}: there are none for its samples")
    return [f"{name}:{severity}" for name in known for severity in SEVERITIES]


def _condition(text: str, config: Config, spec: DatasetSpec) -> Condition:
    if text == CLEAN:
        return Condition(CLEAN)
    name, _, value = text.partition(":")
    if name in list_corruptions(spec):
        find_corruption(text, spec)
        return Condition(text, {"data.corruption": text})
    if name not in CONDITIONS:
        raise unknown(f"condition of {spec.modality} data", name, [*CONDITIONS, *list_corruptions(spec), CORRUPTIONS])
    kind = CONDITIONS[name]
    number = _number(text, value, kind)
    if kind.attack:
        images = spec.modality == "static" and config.data.encoder == "direct" and config.task == "classification"
        if not images:
            raise UserError(
                f"condition {text!r} does not apply: attacks are for the classification of images without an encoder, "
                f"here it is {config.task} of {spec.modality} data with data.encoder {config.data.encoder!r}"
            )
        return Condition(text, attack=name, size=number)
    if kind.settings is not None:
        return Condition(text, {kind.settings: number})
    assert kind.change is not None
    change = kind.change
    return Condition(text, change=lambda model: change(model, number))


def _number(text: str, value: str, kind: Kind) -> Any:
    try:
        number: float = int(value) if kind.whole else float(value)
    except ValueError:
        number = math.nan
    if not kind.least <= number <= kind.most or math.isinf(number):
        what = "whole number" if kind.whole else "number"
        limits = f">= {kind.least:g}" if math.isinf(kind.most) else f"from {kind.least:g} to {kind.most:g}"
        raise UserError(f"condition {text!r}: its value, {kind.values}, must be a {what} {limits}, got {value!r}")
    return number

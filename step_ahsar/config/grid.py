"""Crossing the axes of a comparison: which combinations of values are cells, and what the cells are called."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from step_ahsar.errors import UserError, unknown

Pattern = Mapping[str, Any]


def cross(
    axes: Mapping[str, Sequence[Any]], where: Sequence[Pattern] = (), leave_out: Sequence[Pattern] = ()
) -> list[tuple[str, dict[str, Any]]]:
    """The cells of a grid: (id, {dotted key: value}), the last axis varying fastest.

    A pattern has a value, or a list of values, for some of the axes. A combination fits if it has one of them on each.

    Args:
        axes: the values of each dotted key.
        where: a combination that fits none of these patterns is left out, if there are any.
        leave_out: a combination that fits one of these patterns is left out.

    Raises:
        UserError: no cell is left, two would have the same id, or a pattern names what is not in the grid.

    >>> cross({"model.neuron": ["lif", "ahsar"], "model.threshold": [None, 2]}, leave_out=[
    ...     {"model.neuron": "ahsar", "model.threshold": 2}
    ... ])  # doctest: +NORMALIZE_WHITESPACE
    [('lif', {'model.neuron': 'lif', 'model.threshold': None}),
     ('lif-threshold2', {'model.neuron': 'lif', 'model.threshold': 2}),
     ('ahsar', {'model.neuron': 'ahsar', 'model.threshold': None})]
    """
    for key, listed in axes.items():
        if twice := [value for i, value in enumerate(listed) if value in listed[:i]]:
            raise UserError(f"compare.grid: the values of {key} must differ from each other, got {twice[0]!r} twice")
    for name, patterns in (("where", where), ("except", leave_out)):
        for i, pattern in enumerate(patterns):
            _check(pattern, axes, f"compare.{name}[{i}]")
    every = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    kept = [
        values
        for values in every
        if (not where or any(_fits(values, pattern) for pattern in where))
        and not any(_fits(values, pattern) for pattern in leave_out)
    ]
    if not kept:
        raise UserError(f"compare.grid makes no cell: where and except leave out all of its {len(every)} combinations")
    varying = [key for key, values in axes.items() if len(values) > 1] or list(axes)
    named: dict[str, dict[str, Any]] = {}
    for values in kept:
        name = name_of((key, values[key]) for key in varying)
        if name in named:
            raise UserError(
                f"compare.grid: two cells would be called {name!r}, {named[name]} and {values}; write one of them in "
                "compare.cells, with an id of its own"
            )
        named[name] = values
    return list(named.items())


def _check(pattern: Pattern, axes: Mapping[str, Sequence[Any]], place: str) -> None:
    for key, wanted in pattern.items():
        if key not in axes:
            raise UserError(f"{place}: {unknown('axis', key, axes)}")
        for value in _listed(wanted):
            if value not in axes[key]:
                raise UserError(f"{place}: {key} has no value {value!r} in the grid; values: {list(axes[key])}")


def _fits(values: Mapping[str, Any], pattern: Pattern) -> bool:
    return all(values[key] in _listed(wanted) for key, wanted in pattern.items())


def _listed(wanted: Any) -> list[Any]:
    return wanted if isinstance(wanted, list) else [wanted]


def name_of(values: Iterable[tuple[str, Any]]) -> str:
    """An id made of values by dotted key.

    >>> name_of([("model.neuron", "lif"), ("model.threshold", 0.5), ("model.tau", None)])
    'lif-threshold0.5'
    """
    parts = [part for key, value in values if (part := _part(key.rpartition(".")[2], value))]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(parts)).lstrip("._-") or "default"


def _part(key: str, value: Any) -> str:
    """What a value adds to an id. A text says enough by itself; null, the default, adds nothing."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return key if value else f"no_{key}"
    if isinstance(value, Mapping):
        return "-".join(part for name, inner in value.items() if (part := _part(name, inner)))
    if isinstance(value, list):
        return key + "x".join(_part("", inner) for inner in value)
    return f"{key}{value:g}"

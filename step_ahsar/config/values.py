"""Plain nested values of a config: merging them, checking their keys, and explaining errors in one line."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import reduce
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from step_ahsar.errors import UserError


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merges ``over`` into ``base``, section by section. Lists are replaced.

    >>> merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})
    {'a': {'b': 3, 'c': 2}}
    """
    merged = dict(base)
    for key, value in over.items():
        known = merged.get(key)
        merged[key] = merge(known, value) if isinstance(known, dict) and isinstance(value, Mapping) else value
    return merged


def merge_values(values: Mapping[str, Any], dotted: Mapping[str, Any], schema: type) -> dict[str, Any]:
    """Merges values by dotted key into nested ones. Raises UserError for a key that ``schema`` does not have."""
    merged = dict(values)
    for key, value in dotted.items():
        *sections, last = key.split(".")
        nested: dict[str, Any] = reduce(lambda inner, name: {name: inner}, reversed(sections), {last: value})
        check_keys(nested, schema)
        merged = merge(merged, nested)
    return merged


def differences(there: Any, here: Any, path: str = "") -> list[str]:
    """In what two nested values differ, a text for each key.

    >>> differences({"model": {"tau": 2.0}, "seed": 1}, {"model": {"tau": 3.0}, "seed": 1})
    ['model.tau is 2.0 there and 3.0 here']
    """
    if not isinstance(there, dict) or not isinstance(here, dict):
        return [] if there == here else [f"{path} is {there!r} there and {here!r} here"]
    keys = sorted({*there, *here})
    return [
        line
        for key in keys
        for line in differences(there.get(key), here.get(key), f"{path}.{key}" if path else str(key))
    ]


def check_keys(values: Mapping[str, Any], schema: type, path: str = "") -> None:
    """Raises UserError for the first key that ``schema`` does not have, with its dotted path and the nearest one."""
    sections = _sections(schema)
    for key, value in values.items():
        full = f"{path}{key}"
        if key not in sections:
            known = [f"{path}{name}" for name in sections]
            # A key of some section that was given outside of it is a more likely cause than a misspelt name.
            inside = [f"{full_name}.{key}" for full_name, keys in _keys_inside(sections, path) if key in keys]
            near = inside or get_close_matches(full, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            raise UserError(f"unknown key {full!r}{hint} known: {', '.join(known)}")
        section = sections[key]
        if section is not None and value is not None:
            if not isinstance(value, Mapping):
                raise UserError(f"{full} is a section with keys of its own, got {value!r}")
            check_keys(value, section, f"{full}.")


def check_types(values: Mapping[str, Any], types: Mapping[str, Any], path: str, strict: bool = True) -> None:
    """Checks values against annotations, as those of a constructor. Values without an annotation are not checked.

    Unless it is ``strict``, values that can be converted pass, such as a list for a tuple.

    Raises:
        UserError: the first one that is of another type, with its key below ``path``.

    >>> check_types({"depth": "two"}, {"depth": int}, "model.args.")
    Traceback (most recent call last):
    step_ahsar.errors.UserError: model.args.depth must be an integer, got 'two'
    """
    declared: dict[str, Any] = {name: (types[name], ...) for name in values if name in types}
    settings = ConfigDict(strict=strict, allow_inf_nan=False, arbitrary_types_allowed=True)
    schema = create_model("Values", __config__=settings, **declared)
    try:
        schema.model_validate({name: values[name] for name in declared})
    except ValidationError as error:
        raise UserError(f"{path}{explain(error, values)}") from None


def explain(error: ValidationError, values: Any) -> UserError:
    """The first fault in one line: the key, what it must be, what it was."""
    fault: Any = error.errors(include_url=False)[0]
    cause = fault.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return cause
    key, got = "", values
    # Follow the location into the values. Its last parts may be pydantic's names of union members, which are skipped.
    for part in fault["loc"]:
        if isinstance(got, Mapping) and part in got:
            key, got = f"{key}.{part}" if key else str(part), got[part]
        elif isinstance(got, list) and isinstance(part, int) and part < len(got):
            key, got = f"{key}[{part}]", got[part]
        elif fault["type"] == "missing":
            return UserError(f"{key}: {part!r} is missing")
    return UserError(f"{key} {_requirement(fault)}, got {got!r}")


def _sections(schema: type) -> dict[str, Any]:
    """The keys of a section; for those that are sections themselves their schema, else None."""
    if issubclass(schema, BaseModel):
        return {field.alias or name: _section(field.annotation) for name, field in schema.model_fields.items()}
    assert is_dataclass(schema)
    return {field.name: None for field in fields(schema)}


def _section(annotation: Any) -> type | None:
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for option in options:
        if isinstance(option, type) and (issubclass(option, BaseModel) or is_dataclass(option)):
            return option
    return None


def _keys_inside(sections: Mapping[str, Any], path: str) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{path}{name}", _sections(section)) for name, section in sections.items() if section is not None]


_COMPARISONS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}
_KINDS = {"int": "an integer", "float": "a number", "bool": "true or false", "string": "a text", "finite": "finite"}


def _requirement(fault: Mapping[str, Any]) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind in _COMPARISONS:
        limit, sign = _COMPARISONS[kind]
        return f"must be {sign} {context[limit]:g}"
    if kind == "literal_error":
        return f"must be one of {context['expected'].replace(' or ', ', ')}"
    if kind == "string_pattern_mismatch":
        return f"must match {context['pattern']}"
    if kind.split("_")[0] in _KINDS:
        return f"must be {_KINDS[kind.split('_')[0]]}"
    return f"is wrong: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested values by dotted key. Lists are values; an empty section has none.

    >>> flat({"train": {"lr": 0.1}, "seed": 0})
    {'train.lr': 0.1, 'seed': 0}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found

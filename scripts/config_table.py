#!/usr/bin/env python
"""Writes docs/config.md, every key of a config with its default and its meaning, from the schema.

python scripts/config_table.py          # after a key was added or described otherwise
"""

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from step_ahsar.ahsar import AHSARConfig
from step_ahsar.config import Config
from step_ahsar.config.schema import CellConfig, EnergyConfig, TransformConfig

DOCUMENT = Path(__file__).parents[1] / "docs" / "config.md"
INTRODUCTION = """# Every key of a config

A config is YAML. `extends:` names another one, by its path or by the name of a packaged one, whose keys hold where this
one has none; `train.lr=5e-4` on the command line overrides a key. Unknown keys and values out of range are refused;
`step-ahsar validate my.yaml` tells which. `null` is the default of whatever the key is about.

This page is written by `scripts/config_table.py`.
"""

Row = tuple[str, str, str]


def page() -> str:
    """The document."""
    sections: dict[str, tuple[str, list[Row]]] = {"": ("What is run.", [])}
    _add(sections, Config, "")
    parts = [INTRODUCTION]
    for name, (meaning, rows) in sections.items():
        title = f"## `{name}`" if name else "## At the top"
        parts.append(f"{title}\n\n{meaning}\n\n| key | default | meaning |\n|---|---|---|")
        parts[-1] += "".join(f"\n| `{key}` | `{default}` | {text} |" for key, default, text in rows) + "\n"
    return "\n".join(parts)


def _add(sections: dict[str, tuple[str, list[Row]]], kind: type[BaseModel], path: str) -> None:
    """Adds the keys of a section, and after them those of the sections in it."""
    later: list[tuple[str, type[BaseModel]]] = []
    for name, field in kind.model_fields.items():
        key = f"{path}.{name}" if path else name
        inner = [each for each in (field.annotation, *get_args(field.annotation)) if _is_section(each)]
        if field.annotation is AHSARConfig:
            sections[key] = _first_line(AHSARConfig), list(_of_dataclass())
            continue
        if inner:
            later.append((f"{key}.NAME" if inner == [EnergyConfig] else key, inner[0]))
        if not inner or field.description:
            default = field.get_default(call_default_factory=True)
            meaning = _with_choices(field.description or "", field.annotation)
            sections[path][1].append((field.alias or name, _shown(default), meaning))
    for key, section in later:
        sections[key] = _first_line(section), []
        _add(sections, section, key)


def _is_section(annotation: Any) -> bool:
    # Cells have any key of a config, transforms whatever arguments they take.
    others = (CellConfig, TransformConfig)
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel) and annotation not in others


def _first_line(described: Any) -> str:
    return _plain(inspect.getdoc(described).split("\n\n")[0])


def _plain(text: str) -> str:
    """A docstring's text as Markdown."""
    return re.sub(r":\w+:`[.]?(\w+)`", r"`\1`", " ".join(text.split())).replace("``", "`")


def _of_dataclass() -> Iterator[Row]:
    """The keys of `ahsar`, whose meanings are in the docstring of its dataclass."""
    text = inspect.getdoc(AHSARConfig).partition("Args:\n")[2].partition("\nRaises:")[0]
    meanings = dict(re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE))
    for field in dataclasses.fields(AHSARConfig):
        default = {} if field.default is dataclasses.MISSING else field.default
        yield field.name, _shown(default), _plain(meanings[field.name]).rstrip(".")


def _shown(default: Any) -> str:
    """As YAML."""
    return json.dumps(default, default=str).strip('"')


def _with_choices(meaning: str, annotation: Any) -> str:
    """The meaning, with the words that are allowed if it does not name them."""
    choices = [
        word
        for each in (annotation, *get_args(annotation))
        if get_origin(each) is Literal
        for word in get_args(each)
        if isinstance(word, str)
    ]
    text = meaning.replace("|", "\\|")
    if choices and not all(word in meaning for word in choices):
        text += ("; " if text else "") + "one of " + ", ".join(f"`{word}`" for word in choices)
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(page(), encoding="utf-8")

"""Registering the zoo with timm: each variant in ``zoo/<family>/variants.yaml`` becomes a model."""

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import timm
import torch
from timm.models import PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from step_ahsar.errors import UserError
from step_ahsar.models._base import SpikingTransformer
from step_ahsar.models._weights import Shapes, fitted, shapes
from step_ahsar.paths import zoo_dir
from step_ahsar.variants import Variant, add_family

_FROM_SUBCLASS = (
    "stride",
    "multiple",
    "num_features",
    "design",
    "published",
)  # arguments of the base class that a family decides
_WEIGHT_SOURCES = ("url", "file", "state_dict", "hf_hub_id")

# Arguments that timm's users and timm's train.py pass to any model, with the value at which they have no effect.
_NEUTRAL = {
    "drop_rate": 0.0,
    "proj_drop_rate": 0.0,
    "attn_drop_rate": 0.0,
    "pos_drop_rate": 0.0,
    "patch_drop_rate": 0.0,
    "drop_path_rate": 0.0,
    "drop_block_rate": 0.0,
}


class _Entry(NamedTuple):
    family: str
    model: type[nn.Module]


_models: dict[str, _Entry] = {}


def list_models(family: str | None = None) -> list[str]:
    """Names of this package's models, for ``timm.create_model``; of one family or of all."""
    return sorted(name for name, entry in _models.items() if family in (None, entry.family))


def model_arguments(name: str) -> dict[str, Any] | None:
    """The arguments of a model's constructor with their types, without the options of its neurons.

    None for a model of another package.
    """
    if name not in _models:
        return None
    found: dict[str, Any] = {}
    for cls in (each for each in _models[name].model.__mro__ if issubclass(each, SpikingTransformer)):
        types = get_type_hints(cls.__init__)
        named = (p.name for p in inspect.signature(cls).parameters.values() if p.kind is p.KEYWORD_ONLY)
        found |= {each: types[each] for each in named if each not in (*_FROM_SUBCLASS, *found)}
    return found


def register_family(family: str, model: type[nn.Module], first_conv: str, zoo: Path | None = None) -> None:
    """Registers the variants of ``family`` with timm, as functions in the module of ``model``.

    Args:
        family: folder of the zoo, which holds variants.yaml.
        model: class of the models. The variants are arguments of its constructor.
        first_conv: path of the first convolution, which timm adapts when weights are loaded for other ``in_chans``.
        zoo: the zoo; None = this package's.
    """
    variants = add_family(family, zoo or zoo_dir())
    module = sys.modules[model.__module__]
    cfgs: dict[str, dict[str, Any] | PretrainedCfg] = {name: _cfg(each, first_conv) for name, each in variants.items()}
    module.default_cfgs = generate_default_cfgs(cfgs)  # type: ignore[attr-defined]  # register_model reads it there
    for name, variant in variants.items():
        register_model(_entry_point(name, model, variant.arguments))
        _models[name] = _Entry(family, model)


def _cfg(variant: Variant, first_conv: str) -> PretrainedCfg:
    """The record in timm of a variant."""
    _, height, width = variant.input_size
    return PretrainedCfg(
        input_size=variant.input_size,
        pool_size=(1 if variant.is_series else height // variant.stride, width // variant.stride),
        num_classes=variant.arguments["num_classes"],
        first_conv=first_conv,
        classifier="head",
        **variant.cfg,
    )


def _entry_point(name: str, model: type[nn.Module], args: Mapping[str, Any]) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        sources = _sources(kwargs)
        if pretrained and not sources:
            raise UserError(
                f"no weights are published for {name!r}; leave out pretrained=True, or name a file of your own with "
                "pretrained_cfg_overlay={'file': ...}"
            )
        if pretrained and (file := sources.get("file")) and not Path(file).exists():
            raise UserError(f"weights for {name!r}: there is no {str(file)!r}")
        kwargs = {**args, **_without_neutral(name, kwargs)}
        channels_first = "NCL" if kwargs.get("ndim") == 1 else "NCHW"
        every_level = {"out_indices": None, "feature_cls": "getter", "output_fmt": channels_first}
        fit = partial(fitted, others=_every_model)
        return build_model_with_cfg(
            model, name, pretrained, feature_cfg=every_level, pretrained_filter_fn=fit, **kwargs
        )

    create.__name__ = create.__qualname__ = name
    create.__module__ = model.__module__
    create.__doc__ = f"The variant {name!r} of :class:`{model.__name__}`. Keyword arguments replace the variant's own."
    setattr(sys.modules[model.__module__], name, create)
    return create


@cache
def _every_model() -> list[tuple[str, str, Shapes]]:
    """Name, family and state dict's shapes of what is registered."""
    found = []
    for name, entry in _models.items():
        with torch.device("meta"):
            found.append((name, entry.family, shapes(timm.create_model(name).state_dict())))
    return found


def _without_neutral(name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Drops arguments of ``_NEUTRAL`` that a model does not have. Raises UserError if their value is not neutral."""
    own = model_arguments(name) or ()
    kept = {}
    for key, value in kwargs.items():
        if key not in _NEUTRAL or key in own:
            kept[key] = value
        elif value not in (None, _NEUTRAL[key]):
            raise UserError(f"model {name!r} has no {key}; leave it at {_NEUTRAL[key]:g}, got {value!r}")
    return kept


def _sources(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Where weights are to be read from, in the words of timm's record."""
    given = kwargs.get("pretrained_cfg")
    if isinstance(given, PretrainedCfg):
        given = {field.name: getattr(given, field.name) for field in fields(given)}
    sources = {**(given if isinstance(given, dict) else {}), **(kwargs.get("pretrained_cfg_overlay") or {})}
    return {source: sources[source] for source in _WEIGHT_SOURCES if sources.get(source)}

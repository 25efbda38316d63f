"""The zoo as timm sees it: each variant of ``models/<family>/variants.yaml`` becomes a registered model."""

import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import yaml
from timm.models import PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from step_ahsar.errors import UserError
from step_ahsar.paths import zoo_dir

_WEIGHT_SOURCES = ("url", "file", "state_dict", "hf_hub_id")
_family_of: dict[str, str] = {}


def list_models(family: str | None = None) -> list[str]:
    """The names of this package's models, of one family if asked for. ``timm.create_model`` takes each of them."""
    return sorted(name for name, of in _family_of.items() if family in (None, of))


def register_family(family: str, model: type[nn.Module], first_conv: str) -> None:
    """Registers the variants of ``family`` with timm, as functions in the module of ``model``.

    Args:
        family: folder of the zoo.
        model: what the variants are made of; their data are its constructor's arguments.
        first_conv: path of the first convolution, which timm adapts when weights are loaded for other ``in_chans``.
    """
    zoo = yaml.safe_load((zoo_dir() / family / "variants.yaml").read_text(encoding="utf-8"))
    module = sys.modules[model.__module__]
    args: dict[str, dict[str, Any]] = {}
    cfgs: dict[str, dict[str, Any] | PretrainedCfg] = {}
    for name, variant in zoo["variants"].items():
        form = zoo["forms"][variant["form"]]
        args[name] = {**form["args"], **variant["args"]}
        cfgs[name] = _cfg(args[name], first_conv, {**zoo["source"], **form["cfg"]})
    module.default_cfgs = generate_default_cfgs(cfgs)  # type: ignore[attr-defined]  # where register_model looks
    for name in args:
        register_model(_entry_point(name, model, args[name]))
        _family_of[name] = family


def _cfg(args: dict[str, Any], first_conv: str, extra: dict[str, Any]) -> PretrainedCfg:
    """What timm notes of a variant. A sequence of length L is noted as an input of size (C, 1, L)."""
    size = args["img_size"]
    return PretrainedCfg(
        input_size=(args["in_chans"], 1 if args.get("ndim") == 1 else size, size),
        num_classes=args["num_classes"],
        first_conv=first_conv,
        classifier="head",
        **extra,
    )


def _entry_point(name: str, model: type[nn.Module], args: dict[str, Any]) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if pretrained and not _has_weights(kwargs):
            raise UserError(
                f"no weights are published for {name!r}; leave out pretrained=True, or name a file of your own with "
                "pretrained_cfg_overlay={'file': ...}"
            )
        kwargs = {**args, **kwargs}
        channels_first = "NCL" if kwargs.get("ndim") == 1 else "NCHW"
        every_level = {"out_indices": None, "feature_cls": "getter", "output_fmt": channels_first}
        return build_model_with_cfg(model, name, pretrained, feature_cfg=every_level, **kwargs)

    create.__name__ = create.__qualname__ = name
    create.__module__ = model.__module__
    create.__doc__ = f"The variant {name!r} of :class:`{model.__name__}`. Keyword arguments replace the variant's own."
    setattr(sys.modules[model.__module__], name, create)
    return create


def _has_weights(kwargs: dict[str, Any]) -> bool:
    given = kwargs.get("pretrained_cfg")
    if isinstance(given, PretrainedCfg):
        given = {field.name: getattr(given, field.name) for field in fields(given)}
    sources = {**(given if isinstance(given, dict) else {}), **(kwargs.get("pretrained_cfg_overlay") or {})}
    return any(sources.get(source) for source in _WEIGHT_SOURCES)

"""A folder that timm loads: config.json, model.safetensors, and a model card for people."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file

from step_ahsar.data import Datasets
from step_ahsar.engine.build import backbone_arguments
from step_ahsar.engine.export.card import OF_THE_START, card
from step_ahsar.engine.opening import Trained, open_trained
from step_ahsar.engine.run import Run
from step_ahsar.errors import UserError
from step_ahsar.files import replacing


def write_folder(run: Run, path: Path, which: str, overrides: Iterable[str], datasets: Datasets | None) -> None:
    """Writes the model of a run, thresholds and their scales included, for ``timm.create_model("local-dir:PATH")``.

    Args:
        run: the run.
        path: the folder.
        which: "last", or "best" by the task's metric.
        overrides: where the data are.
        datasets: the data themselves, if they are the user's own.

    Raises:
        UserError: as :func:`step_ahsar.engine.export`.
    """
    if run.config.task != "classification":
        raise UserError(f"{run.path} is a run of {run.config.task}; timm's models classify")
    trained = open_trained(run, which, overrides, datasets)
    weights = {name: tensor.detach().contiguous() for name, tensor in trained.model.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.mkdir()
            save_file(weights, partial / "model.safetensors", {"format": "pt"})
            (partial / "config.json").write_text(json.dumps(_config(trained), indent=2) + "\n", encoding="utf-8")
            (partial / "README.md").write_text(card(trained), encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error}") from error


def _config(trained: Trained) -> dict[str, Any]:
    """What timm knows of a model outside of its zoo."""
    config, data, model = trained.config, trained.data, trained.model
    made_for = timm.get_pretrained_cfg(config.model.name)
    assert made_for is not None  # the model is one of ours: it was trained
    height, width = (1, data.size) if isinstance(data.size, int) and data.spec.ndim == 1 else _pair(data.size)
    arguments = backbone_arguments(config.model, data.in_chans, data.sizes, data.spec.ndim)
    pretrained = {
        "tag": "",
        "custom_load": False,
        "input_size": [data.in_chans, height, width],
        "num_classes": len(data.classes),
        "pool_size": None,
        "crop_pct": config.data.crop_pct,
        "interpolation": config.data.interpolation,
        "first_conv": made_for.first_conv,
        "classifier": "head",
    }
    if (statistics := data.statistics) is not None:
        pretrained |= {"mean": list(statistics[0]), "std": list(statistics[1])}
    return {
        "architecture": config.model.name,
        "num_classes": len(data.classes),
        "num_features": model.num_features,
        "label_names": list(data.classes),
        "model_args": {key: v for key, v in arguments.items() if v is not None and key not in OF_THE_START},
        "pretrained_cfg": pretrained,
    }


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)

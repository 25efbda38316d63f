"""The model card of an exported model: what it is, what it was trained on, and what was measured."""

from collections.abc import Mapping
from typing import Any

import yaml

from step_ahsar.config import Config
from step_ahsar.engine.opening import Trained
from step_ahsar.models import SpikingTransformer
from step_ahsar.neurons import SpikingNeuron

# Arguments of timm.create_model that say where training began, not what the model is.
OF_THE_START = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
_OF_THIS_MACHINE: Any = {
    "data": {"root", "cache"},
    "model": {"args": set(OF_THE_START)},
    "ahsar": {"thresholds_of"},
    "launch": True,
    "track": True,
}


def card(trained: Trained) -> str:
    """The card in Markdown, with the front matter that model hubs read."""
    config, run = trained.config, trained.run
    manifest, result = run.manifest(), run.result()
    data = manifest["dataset"]
    parts = {
        "Loading it": _loading(trained),
        "Trained on": (
            f"`{data['name']}`: {data['train']:,} samples for training, {data['validation']:,} for validation, "
            f"{data['test']:,} for testing; fingerprint `{data['fingerprint']}`. Seed {manifest['seed']}, "
            f"{trained.epoch} of {config.train.epochs} epochs."
        ),
        "Neurons": _neurons(trained),
        "Measured": _measured(trained, result),
        "Made with": ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
        + f"; commit {manifest['git_commit'] or 'unknown'}. The settings that are not the defaults:\n\n"
        + f"```yaml\n{_settings(config)}```",
    }
    head = "---\ntags:\n- spiking-neural-network\n- spiking-transformer\nlibrary_name: timm\n---\n"
    title = f"# {config.model.name}, {data['name']}\n"
    return "\n".join([head, title, *(f"## {name}\n\n{text}\n" for name, text in parts.items())])


def _settings(config: Config) -> str:
    """As YAML, without where the data are on this machine."""
    given = config.model_dump(mode="json", exclude_defaults=True, exclude=_OF_THIS_MACHINE)
    return yaml.safe_dump(given, sort_keys=False, default_flow_style=None, width=100)


def _loading(trained: Trained) -> str:
    data, time = trained.data, trained.task.batch_axis(trained.inputs())
    shape = "[T, B, {}]" if time else "[B, {}]"
    axes = f"{data.in_chans}, {data.size}" if data.spec.ndim == 1 else f"{data.in_chans}, H, W"
    statistics = data.statistics
    normal = "" if statistics is None else f", normalised by mean {_list(statistics[0])} and std {_list(statistics[1])}"
    return (
        "```python\nimport timm\nimport step_ahsar.models  # registers the architecture with timm\n\n"
        'model = timm.create_model("local-dir:PATH/OF/THIS/FOLDER", pretrained=True).eval()\n```\n\n'
        f"Inputs are {shape.format(axes)}{normal}; outputs are logits [B, {len(data.classes)}]."
    )


def _neurons(trained: Trained) -> str:
    model = trained.config.model
    found = [m for m in trained.model.modules() if isinstance(m, SpikingNeuron)]
    scales: dict[str, list[float]] = {}
    for neuron in found:
        if neuron.threshold_scale is not None:
            scales.setdefault(neuron.group or "all", []).append(neuron.threshold_scale.item())
    thresholds = sorted({round(neuron.threshold, 6) for neuron in found})
    steps = trained.model.time_steps if isinstance(trained.model, SpikingTransformer) else model.time_steps
    text = f"`{model.neuron}` of backend `{model.backend}`, {steps} time steps, thresholds {_list(thresholds)}."
    if scales:
        ranges = (f"{group} {min(values):.3g} to {max(values):.3g}" for group, values in scales.items())
        text += f" AHSAR has scaled them by factors: {', '.join(ranges)}. They are in the state dict."
    return text


def _measured(trained: Trained, result: Mapping[str, Any] | None) -> str:
    if result is None or result["status"] != "ok":
        return "Nothing on the test set: the training has not ended."
    last = trained.epoch == result["epochs"][-1]["epoch"]
    metrics = result["metrics"] if last else result["best"]["metrics"]
    rows = [f"| {name} | {value:.4g} |" for name, value in metrics.items()]
    if last:
        rows += [f"| firing rate, {group} | {rate:.3g} |" for group, rate in result["firing_rate"].items()]
    return "\n".join(["| on the test set | |", "|---|---|", *rows])


def _list(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in values)

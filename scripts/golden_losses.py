#!/usr/bin/env python
"""Records the losses of short seeded runs, bit for bit. A change of the code that should not change results keeps them.

python scripts/golden_losses.py FILE                # trains, and writes FILE
python scripts/golden_losses.py FILE --check        # trains, and says what differs from FILE

Bits depend on the processor and on the versions of torch: compare on one machine. Without STEP_AHSAR_COMPILE=0 the
fused kernels are compiled, as they are by default.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file

from step_ahsar.config import load_config
from step_ahsar.engine import train

_SHORT = ["train.epochs=2", "data.train_limit=256", "data.test_limit=64", "data.validation=0"]
_SCENES = ["train.epochs=1", "data.train_limit=32", "data.test_limit=16", "data.batch_size=8", "data.validation=0"]

RUNS: dict[str, tuple[str, list[str]]] = {
    "digits, lif": ("classification/static/digits", _SHORT),
    "digits, ahsar": ("classification/static/digits", [*_SHORT, "model.neuron=ahsar", "model.threshold=2"]),
    "digits, qkformer, ahsar around plif": (
        "classification/static/qkformer_digits",
        [*_SHORT, "model.neuron=ahsar", "model.base=plif"],
    ),
    "digits, augmentation, mixing, tet, averaging": (
        "classification/static/digits",
        [
            *_SHORT,
            "model.neuron=ahsar",
            "data.scale=[0.8,1.0]",
            "data.color_jitter=0.2",
            "train.mixup=0.3",
            "train.label_smoothing=0.1",
            "train.loss=tet",
            "train.ema_decay=0.9",
            "train.clip_grad=1.0",
            "train.accumulate=2",
            "train.amp=bf16",
        ],
    ),
    "digits, rate code": ("classification/static/rate_coded_digits", _SHORT),
    "digits, T 20, soft reset": (
        "classification/static/digits",
        [*_SHORT, "model.time_steps=20", "model.reset=soft", "model.detach_reset=false"],
    ),
    **{
        f"digits, lif on {backend}": ("classification/static/digits", [*_SHORT, f"model.backend={backend}"])
        for backend in ("spikingjelly", "braincog", "snntorch", "sinabs")
    },
    "digits, ahsar on spikingjelly": (
        "classification/static/digits",
        [*_SHORT, "model.backend=spikingjelly", "model.neuron=ahsar"],
    ),
    **{
        f"digits, {neuron}": ("classification/static/digits", [*_SHORT, f"model.neuron={neuron}"])
        for neuron in ("klif", "clif", "ilif", "rouser", "sliding_psn", "psn", "glif", "hdlif", "ltmd", "cubalif")
    },
    "digits_events, ahsar": ("classification/event/digits_events", [*_SHORT, "model.neuron=ahsar"]),
    "digits_sequence, ahsar": ("classification/sequence/digits_sequence", [*_SHORT, "model.neuron=ahsar"]),
    "digits_sequence in time": ("classification/sequence/digits_sequence_time", _SHORT),
    "scenes, segmentation, spiking head": (
        "segmentation/static/digits_scenes",
        [*_SCENES, "model.neuron=ahsar", "head.spiking=true", "data.scale=[0.5,1.0]"],
    ),
    "scenes, detection of events": ("detection/event/digits_scenes", [*_SCENES, "model.neuron=ahsar"]),
    "scenes, detection of moving pictures": ("detection/sequence/digits_scenes", [*_SCENES, "head.name=mask_rcnn"]),
}


def run(config: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The loss of each epoch, the test metrics, and a hash of the weights after the last epoch."""
    with TemporaryDirectory() as folder:
        result = train(load_config(config, overrides), Path(folder, "run"))
        (last,) = sorted(Path(folder, "run", "checkpoints").iterdir())[-1:]
        weights = load_file(last / "model.safetensors")
    digest = sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return {
        "loss": [epoch["train_loss"].hex() for epoch in result["epochs"]],
        "metrics": {name: value.hex() for name, value in sorted(result["metrics"].items())},
        "weights": digest.hexdigest()[:16],
    }


def main() -> int:
    """1 if something differs, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", default="", help="runs whose names hold this text")
    args = parser.parse_args()
    found = {}
    for name, (config, overrides) in RUNS.items():
        if args.only in name:
            try:
                found[name] = run(config, overrides)
            except Exception as error:  # the error is recorded in place of the losses, and the other runs continue
                found[name] = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
            print(name, found[name].get("loss", found[name]), flush=True)
    if not args.check:
        args.file.write_text(json.dumps(found, indent=1) + "\n")
        return 0
    kept = json.loads(args.file.read_text())
    differing = [name for name in found if found[name] != kept.get(name)]
    for name in differing:
        print(f"differs: {name}\n  was {kept.get(name)}\n  is  {found[name]}")
    print(f"{len(found) - len(differing)} of {len(found)} runs are unchanged")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""Draws docs/depth.png: firing rates by depth, of the neurons on the residual stream, from results/depth.

python scripts/depth_plot.py    # after results/depth has changed
"""

import re
from pathlib import Path
from statistics import mean

import matplotlib.pyplot as plt

from step_ahsar.compare import load

ROOT = Path(__file__).parents[1]
COLOURS = {"lif 0.25": "#9ecae1", "lif 0.5": "#4292c6", "lif 1": "#08519c", "ahsar from 1": "#d95f02"}
NAMES = {"spikingformer_2_64": "Spikingformer", "sdt_2_64": "SDT"}


def rates_of(cell: dict) -> list[float]:
    """The rates of the neurons on the stream after the last epoch, by block, mean over seeds."""
    layers = cell["seeds"][0]["layers"]
    names = [name for name in layers if re.fullmatch(r"blocks\.\d+\.(attn|mlp)\.stream\.neuron", name)]
    return [mean(seed["layers"][name]["rate"][-1] for seed in cell["seeds"]) for name in names]


def main() -> None:
    """Writes the picture."""
    cells = load(ROOT / "results" / "depth")["cells"]
    depths = sorted({cell["settings"]["model.args.depth"] for cell in cells})
    figure, axes = plt.subplots(
        len(NAMES), len(depths), figsize=(10, 5), sharey="row", width_ratios=[d + 1 for d in depths]
    )
    for row, model in zip(axes, NAMES, strict=True):
        for panel, depth in zip(row, depths, strict=True):
            for cell in cells:
                settings = cell["settings"]
                if (settings["model.name"], settings["model.args.depth"]) != (model, depth):
                    continue
                threshold = f"{settings['model.threshold']:g}"
                label = f"ahsar from {threshold}" if cell["regulated"] else f"lif {threshold}"
                rates = rates_of(cell)
                places = [i / 2 + 1 for i in range(len(rates))]
                panel.plot(places, rates, color=COLOURS[label], marker="o", markersize=3, label=label)
            panel.set_title(f"{NAMES[model]}, depth {depth}", fontsize=9)
            panel.set_xticks(range(1, depth + 1))
            panel.set_ylim(0, 0.75)
            panel.grid(alpha=0.3)
    for panel in axes[-1]:
        panel.set_xlabel("block", fontsize=9)
    for row in axes:
        row[0].set_ylabel("firing rate", fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(ROOT / "docs" / "depth.png", dpi=130)


if __name__ == "__main__":
    main()

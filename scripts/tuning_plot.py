#!/usr/bin/env python
"""Draws docs/tuning.png: accuracy of fixed thresholds and of AHSAR for many T and tau, from results/tuning_digits.

python scripts/tuning_plot.py    # after results/tuning_digits has changed
"""

from pathlib import Path

import matplotlib.pyplot as plt

from step_ahsar.compare import load

ROOT = Path(__file__).parents[1]
FIXED = {0.25: "#9ecae1", 0.5: "#4292c6", 1.0: "#08519c", 2.0: "#08306b"}
STARTS = {0.25: "v", 2.0: "^"}


def main() -> None:
    """Writes the picture."""
    found = {}
    for cell in load(ROOT / "results" / "tuning_digits")["cells"]:
        settings = cell["settings"]
        place = settings["model.time_steps"], settings["model.tau"]
        found[cell["regulated"], settings["model.threshold"], place] = 100 * cell["mean"]["metrics"]["acc1"]
    places = sorted({place for _, _, place in found})
    figure, axes = plt.subplots(figsize=(9, 4))
    for threshold, colour in FIXED.items():
        values = [found[False, threshold, place] for place in places]
        axes.plot(values, color=colour, marker="o", markersize=4, linewidth=1, label=f"threshold {threshold:g}")
    for start, marker in STARTS.items():
        values = [found[True, start, place] for place in places]
        axes.plot(
            values, color="#d95f02", marker=marker, markersize=7, linewidth=2, label=f"AHSAR, threshold {start:g} given"
        )
    axes.set_xticks(range(len(places)), [f"{steps}\n{tau:g}" for steps, tau in places])
    axes.set_xlabel("time steps (above) and membrane time constant (below)")
    axes.set_ylabel("test accuracy, %")
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(ROOT / "docs" / "tuning.png", dpi=130)


if __name__ == "__main__":
    main()

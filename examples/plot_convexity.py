"""Score a model's layers and plot the graph convexity of each.

    python examples/plot_convexity.py MODEL CLIPS OUT

Writes OUT/convexity.png beside the full report. Convexity is the share of inner points on shortest
paths between clips of a class that belong to the class (Dorszewski et al. 2024, arXiv 2408.11858).
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import edgeprune


def main(model: str, clips: str, out: str) -> None:
    """Score without removing layers (minutes, not hours), and plot convexity against depth."""
    result = edgeprune.score(model, clips, out, ablation=False)
    figure, axes = plt.subplots(figsize=(7, 4))
    for column, values in result.convexity.items():
        axes.plot(range(len(values)), values, marker="o", label=column)
    axes.set(xlabel="hidden state (0: input of the first layer)", ylabel="graph convexity",
             ylim=(0, 1))  # fmt: skip
    axes.legend(title="label column")
    figure.tight_layout()
    figure.savefig(Path(out) / "convexity.png", dpi=150)
    print(result.headline)


if __name__ == "__main__":
    main(*sys.argv[1:])

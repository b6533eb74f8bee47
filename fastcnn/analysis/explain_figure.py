"""A picture of an explanation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastcnn.analysis.explain import Explanation
from fastcnn.training.figure import TRAIN_COLOUR, literal, new_figure

#: Classes whose probabilities are shown.
SHOWN = 6


def explanation_figure(explained: Explanation, classes: Sequence[str]) -> Any:
    """The picture, saliency, Grad-CAM and occlusion over it, and the likeliest classes.

    On a white ground, so that it is readable on dark pages too.

    Parameters
    ----------
    explained : Explanation
    classes : sequence of str

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(12.5, 3.0)
    figure.set_facecolor("white")
    axes = figure.subplots(1, 5)
    picture = explained.picture.astype(np.float64)
    picture = (picture - picture.min()) / max(float(np.ptp(picture)), 1e-12)
    shown = picture.transpose(1, 2, 0) if len(picture) == 3 else picture.mean(axis=0)
    grey = picture.mean(axis=0)
    largest = max(float(np.abs(explained.occlusion).max()), 1e-12)
    name = classes[explained.label]
    titles = (
        "input",
        f"saliency of {name}",
        f"Grad-CAM of {name}, {explained.layer}",
        f"occlusion, {100 * largest:.0f} % at most",
    )
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(literal(title), fontsize=9)
        ax.set_axis_off()
    axes[0].imshow(shown, cmap="gray")
    axes[1].imshow(explained.saliency, cmap="magma")
    axes[2].imshow(grey, cmap="gray")
    axes[2].imshow(explained.grad_cam, cmap="inferno", alpha=0.55)
    axes[3].imshow(grey, cmap="gray")
    axes[3].imshow(explained.occlusion, cmap="RdBu_r", vmin=-largest, vmax=largest, alpha=0.6)
    order = np.argsort(-explained.probabilities, kind="stable")[:SHOWN][::-1]
    shares = 100 * explained.probabilities[order]
    bars = axes[4].barh([literal(classes[index]) for index in order], shares, color=TRAIN_COLOUR)
    axes[4].bar_label(bars, [f"{share:.1f}" for share in shares], padding=2, fontsize=8)
    axes[4].set_xlim(0, 118)
    axes[4].set_xticks([])
    axes[4].set_title("probability in %", fontsize=9)
    axes[4].tick_params(axis="y", length=0, labelsize=8)
    axes[4].spines[["top", "right", "bottom"]].set_visible(False)
    return figure

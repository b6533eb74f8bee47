"""Figures of the comparison of activations."""

from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.study.heat_map import draw_heat_map
from fastcnn.study.layer_lines import LAYER_COLOURS, draw_legend, style_axes
from fastcnn.study.networks import NAMES
from fastcnn.training.figure import new_figure

if TYPE_CHECKING:
    from fastcnn.study.activations import ActivationResult, Pair


def accuracy_figure(result: "ActivationResult") -> Any:
    """Test accuracy over learning rate and initialisation, one panel a pair of activations."""
    figure = new_figure(9.0, 4.9)
    panels = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
    for axes, pair in zip(panels, result.pairs, strict=False):
        accuracies = np.array(
            [
                [_accuracy(result, pair, name, lr) for lr in result.learning_rates]
                for name in result.inits
            ]
        )
        texts = [[f"{a:.1f}" if np.isfinite(a) else "×" for a in row] for row in accuracies]
        picture = draw_heat_map(
            axes,
            accuracies,
            texts,
            result.inits,
            [f"{lr:g}" for lr in result.learning_rates],
            span=(30.0, 100.0),
        )
        axes.set_title(pair_name(pair), loc="left", fontsize=9)
        axes.label_outer()
    panels[3].tick_params(labelbottom=True)
    panels[7].set_axis_off()
    place = panels[7].inset_axes((0.3, 0.05, 0.1, 0.85))
    figure.supxlabel("learning rate", fontsize=9)
    figure.supylabel("standard deviation of the initial weights", fontsize=9)
    bar = figure.colorbar(picture, cax=place)
    bar.set_label("test accuracy (%)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def flow_figure(result: "ActivationResult") -> Any:
    """Gradient norms and blocked shares of each layer over the steps, a column a pair."""
    pairs = [pair for pair in result.pairs if "leaky" not in pair and pair != ("tanh", "relu")]
    figure = new_figure(9.0, 4.9)
    panels = figure.subplots(2, len(pairs), sharex=True, sharey="row")
    for column, pair in enumerate(pairs):
        probes = result.probed(pair).probes
        steps = [probe.step for probe in probes]
        upper, lower = panels[:, column]
        for layer, colour in LAYER_COLOURS.items():
            norms = [probe.gradient[layer] for probe in probes]
            upper.plot(steps, norms, color=colour, marker="o", markersize=2.5, linewidth=1.3)
        places = list(probes[0].blocked)
        for place, (name, layer) in enumerate(zip(places, LAYER_COLOURS, strict=False)):
            shares = [100.0 * probe.blocked[name] for probe in probes]
            lower.plot(
                steps,
                shares,
                color=LAYER_COLOURS[layer],
                marker="o",
                markersize=2.5,
                linewidth=1.3,
                zorder=3 - 0.1 * place,
            )
        upper.set_title(pair_name(pair).replace(", ", ",\n"), loc="left", fontsize=9)
        upper.set_yscale("log")
        lower.set_xscale("symlog", linthresh=1)
        lower.set_xticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        lower.set_ylim(-4.0, 104.0)
        for axes in (upper, lower):
            style_axes(axes)
            axes.minorticks_off()
    panels[0, 0].set_ylabel("norm of the weight gradient", fontsize=9)
    panels[1, 0].set_ylabel("outputs that pass\nno gradient (%)", fontsize=9)
    figure.supxlabel("step", fontsize=9)
    draw_legend(figure, LAYER_COLOURS)
    return figure


def pair_name(pair: "Pair") -> str:
    """A pair of activations in words for a title."""
    return f"conv {NAMES[pair[0]]}, FC {NAMES[pair[1]]}"


def _accuracy(result: "ActivationResult", pair: "Pair", name: str, lr: float) -> float:
    trajectory = result.grid[pair, name, lr]
    return np.nan if trajectory.diverged else 100.0 * trajectory.scores[-1].test_accuracy

"""Experiment: the report's plateau at chance level, and the size of the initial weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.layers import init
from fastcnn.study.drawing import (
    LAYER_COLOURS,
    MARKED,
    draw_bar,
    draw_heat_map,
    draw_legend,
    style_axes,
)
from fastcnn.study.networks import NAMES, REPORT_LR, Network
from fastcnn.study.section import Figure, Section, Text
from fastcnn.study.setting import Setting
from fastcnn.study.trajectory import Training, Trajectory, follow, running_mean
from fastcnn.training.figure import new_figure

STEPS = 536
#: Standard deviations of the initial weights and biases, two per decade.
DEVIATIONS = tuple(float(f"{10**exponent:.1e}") for exponent in np.arange(-5.0, 0.1, 0.5))
LEARNING_RATES = (0.0005, 0.005, 0.05, 0.5)
ACTIVATIONS = ("relu", "sigmoid")
#: Fraction of the plateau's loss below which it counts as left, for the mean of this many batches.
LEFT, WINDOW = 0.9, 25

#: Largest standard deviation for which gradients follow a power law.
SMALL = 0.01
#: A usual rate of change of weights: about a thousandth of their size per step.
HEALTHY_RATIO = 1e-3


@dataclass(frozen=True)
class UnderfittingResult:
    """Results of the runs.

    Attributes
    ----------
    entropy : float
        Loss in nats of always predicting the class frequencies of the training images: the smallest
        possible without using the image.
    grid : dict
        Trajectories by activation of the fully connected layers, standard deviation and learning
        rate; those of the first learning rate have a probe of the start.
    """

    classes: int
    entropy: float
    grid: dict[tuple[str, float, float], Trajectory]

    def left_at(self, key: tuple[str, float, float]) -> int | None:
        """Steps until the plateau was left; None if never."""
        means = running_mean(self.grid[key].losses, WINDOW)
        below = np.flatnonzero(means < LEFT * self.entropy)
        return int(below[0]) + min(WINDOW, len(self.grid[key].losses)) if len(below) else None

    def final_loss(self, key: tuple[str, float, float]) -> float:
        """Mean training loss of the last batches in nats; NaN if the training diverged."""
        trajectory = self.grid[key]
        return np.nan if trajectory.diverged else float(trajectory.losses[-WINDOW:].mean())

    def norms(self, activation: str, layer: str, of: str) -> np.ndarray:
        """Norm of a layer's ``"gradient"`` or ``"weight"`` at the start, by standard deviation."""
        starts = [self.grid[activation, std, REPORT_LR].probes[0] for std in DEVIATIONS]
        return np.array([getattr(start, of)[layer] for start in starts])


def run(setting: Setting) -> UnderfittingResult:
    """Train from each standard deviation at each learning rate."""
    keys = [(name, std, lr) for name in ACTIVATIONS for std in DEVIATIONS for lr in LEARNING_RATES]
    runs = [
        Training(
            Network(name, weight_init=init.Normal(std), bias_init=init.Normal(std)),
            lr,
            setting.steps(STEPS),
            probed_at=(0,) if lr == REPORT_LR else (),
        )
        for name, std, lr in keys
    ]
    grid = dict(zip(keys, setting.run(follow, runs), strict=True))
    share = np.bincount(setting.train.labels) / len(setting.train)
    share = share[share > 0]
    entropy = float(-(share * np.log(share)).sum())
    return UnderfittingResult(len(setting.train.classes), entropy, grid)


def section(result: UnderfittingResult) -> Section:
    """The experiment in words and figures."""
    return Section(
        name="underfitting",
        title=Text("Underfitting: the plateau at ln 3", "欠拟合：损失停在 ln 3"),
        findings=[_on_plateau(result), *_on_gradients(result), *_on_its_end(result)],
        figures=[
            Figure(
                "underfitting-plateau",
                lambda: plateau_figure(result),
                Text(
                    f"Training loss (mean of the last {WINDOW} batches). Numbers: the step at "
                    f"which the mean of {WINDOW} batches had fallen below {LEFT:.0%} of the "
                    "plateau; –: it never did; ×: the loss became infinite.",
                    f"训练损失（最后 {WINDOW} 个批次的平均）。数字：{WINDOW} 个批次的平均损失降到"
                    f"平台值的 {LEFT:.0%} 以下时的步数；–：始终没有降到；×：损失变为无穷大。",
                ),
            ),
            Figure(
                "underfitting-start",
                lambda: start_figure(result),
                Text(
                    "Before the first step: norm of each layer's weight gradient, and the size of "
                    f"an update at the report's learning rate {REPORT_LR:g} relative to the "
                    "weight. conv1 and conv2 nearly coincide above.",
                    "第一步之前：各层权重梯度的范数，以及在报告的学习率 "
                    f"{REPORT_LR:g} 下一次更新相对于权重的大小。上排中 conv1 与 conv2 几乎重合。",
                ),
            ),
        ],
    )


def _on_plateau(result: UnderfittingResult) -> Text:
    stuck = [
        result.final_loss(key)
        for key in result.grid
        if key[1] == DEVIATIONS[0] and not result.grid[key].diverged
    ]
    chance = float(np.log(result.classes))
    low, high = min(stuck), max(stuck)
    if low < LEFT * result.entropy or high > chance / LEFT:
        return Text(
            f"From a standard deviation of {DEVIATIONS[0]:g} the loss ends between "
            f"{low:.4f} and {high:.4f}: not all of these runs are on a plateau.",
            f"标准差为 {DEVIATIONS[0]:g} 时，最终损失在 {low:.4f} 与 {high:.4f} 之间："
            "并非所有训练都停留在平台上。",
        )
    return Text(
        f"The plateau is there: from a standard deviation of {DEVIATIONS[0]:g} the loss "
        f"ends between {low:.4f} and {high:.4f} at every learning rate up to "
        f"{LEARNING_RATES[-1]:g}. Chance is ln {result.classes} = {chance:.4f}; knowing how "
        f"frequent the classes are gives {result.entropy:.4f}.",
        f"平台确实存在：标准差为 {DEVIATIONS[0]:g} 时，在不超过 "
        f"{LEARNING_RATES[-1]:g} 的所有学习率下，最终损失都在 {low:.4f} 与 {high:.4f} 之间。"
        f"随机猜测的损失为 ln {result.classes} = {chance:.4f}；"
        f"只知道各类比例时为 {result.entropy:.4f}。",
    )


def _on_gradients(result: UnderfittingResult) -> list[Text]:
    small = [index for index, std in enumerate(DEVIATIONS) if std <= SMALL]
    powers, clauses, updates = [], [], []
    for layer in LAYER_COLOURS:
        values = result.norms("relu", layer, "gradient")
        powers.append(power_law([DEVIATIONS[index] for index in small], values[small]))
        clauses.append(f"{layer} {values[small[-1]]:.1e}")
        weight = result.norms("relu", layer, "weight")[small[-1]]
        updates.append(REPORT_LR * values[small[-1]] / weight)
    law = ", ".join(
        f"{layer} {power:.1f}" for layer, power in zip(LAYER_COLOURS, powers, strict=True)
    )
    at = DEVIATIONS[small[-1]]
    least = int(np.argmin(updates))
    slowest = list(LAYER_COLOURS)[least]
    listed = ", ".join(clauses)
    return [
        Text(
            f"With ReLU, the gradient at the start is a power of the standard deviation; measured "
            f"exponents up to {SMALL:g}: {law}. Expected are 4, 4, 3, 2, 1: one for each "
            "layer that the gradient comes through, and one where a layer's input is itself as "
            f"small. At {at:g} the norms are {listed}.",
            f"使用 ReLU 时，初始梯度是标准差的幂函数；标准差不超过 {SMALL:g} 时测得的指数：{law}。"
            "预期为 4、4、3、2、1：梯度每经过一层加一，若该层的输入本身也同样小，再加一。"
            f"标准差为 {at:g} 时的范数：{listed}。",
        ),
        Text(
            f"There, a step at the report's learning rate {REPORT_LR:g} changes the weight of "
            f"{slowest} by {updates[least]:.0e} of its size: it would take about "
            f"{1.0 / updates[least]:.0e} steps to move it by as much as it is.",
            f"此时以报告的学习率 {REPORT_LR:g} 更新一步，{slowest} 的权重只改变自身大小的 "
            f"{updates[least]:.0e} 倍：大约要 {1.0 / updates[least]:.0e} 步，"
            "改变量才与权重本身相当。",
        ),
    ]


def _on_its_end(result: UnderfittingResult) -> list[Text]:
    found = []
    for name in ACTIVATIONS:
        window = {
            lr: [std for std in DEVIATIONS if _trains(result, (name, std, lr))]
            for lr in LEARNING_RATES
        }
        en = ", ".join(f"{lr:g}: {_window(stds, 'none')}" for lr, stds in window.items())
        zh = "；".join(f"{lr:g}：{_window(stds, '无')}" for lr, stds in window.items())
        found.append(
            Text(
                f"Standard deviations from which the network with {NAMES[name]} has left the "
                f"plateau by the end, by learning rate: {en}.",
                f"使用 {NAMES[name]} 的网络到训练结束时能离开平台的标准差（按学习率）：{zh}。",
            )
        )
    small = [key for key in result.grid if key[1] < SMALL]
    escaped = sum(_trains(result, key) for key in small)
    at_report = [key for key in result.grid if key[2] == REPORT_LR and _trains(result, key)]
    larger = LEARNING_RATES[-1] / REPORT_LR
    if at_report and not escaped:
        found.append(
            Text(
                "The report's diagnosis and its cure are right: larger initial weights end the "
                f"plateau even at its own learning rate, while a learning rate {larger:.0f} times "
                f"as large does not help any of the {len(small)} runs that start below "
                f"{SMALL:g}.",
                "报告的诊断和对策是正确的：增大初始权重，即使在原来的学习率下也能离开平台；而对于标准差"
                f"小于 {SMALL:g} 的 {len(small)} 次训练，学习率增大到 {larger:.0f} 倍也无济于事。",
            )
        )
    else:
        found.append(
            Text(
                f"At the report's learning rate {len(at_report)} runs leave the plateau; of "
                f"the {len(small)} that start below {SMALL:g}, at any learning rate, {escaped} do.",
                f"在报告的学习率下有 {len(at_report)} 次训练离开平台；标准差小于 {SMALL:g} 的 "
                f"{len(small)} 次训练（任意学习率）中有 {escaped} 次离开。",
            )
        )
    return found


def power_law(x: Sequence[float], y: np.ndarray) -> float:
    """Exponent of the power law through the non-zero points; NaN with fewer than two."""
    seen = y > 0.0
    if seen.sum() < 2:
        return np.nan
    return float(np.polyfit(np.log(np.array(x)[seen]), np.log(y[seen]), 1)[0])


def _trains(result: UnderfittingResult, key: tuple[str, float, float]) -> bool:
    return not result.grid[key].diverged and result.final_loss(key) < LEFT * result.entropy


def _window(stds: list[float], nothing: str) -> str:
    if not stds:
        return nothing
    return f"{stds[0]:.2g}" if len(stds) == 1 else f"{stds[0]:.2g} - {stds[-1]:.2g}"


def plateau_figure(result: UnderfittingResult) -> Any:
    """Final training loss over standard deviation and learning rate, one panel per network."""
    figure = new_figure(9.0, 4.9)
    panels = figure.subplots(2, 1, sharex=True)
    for axes, name in zip(panels, ACTIVATIONS, strict=True):
        cells = [[(name, std, lr) for std in DEVIATIONS] for lr in LEARNING_RATES]
        losses = np.array([[result.final_loss(cell) for cell in row] for row in cells])
        texts = [[_cell(result, cell) for cell in row] for row in cells]
        picture = draw_heat_map(
            axes,
            losses,
            texts,
            [f"{lr:g}" for lr in LEARNING_RATES],
            [_power(std) for std in DEVIATIONS],
            span=(0.0, 1.2),
            cmap="cividis_r",
        )
        axes.set_title(f"FC {NAMES[name]}", loc="left", fontsize=9)
        axes.set_ylabel("learning rate", fontsize=9)
    panels[1].set_xlabel("standard deviation of the initial weights and biases", fontsize=9)
    label = "training loss at the end (nats)"
    draw_bar(figure, picture, label, ax=panels, extend="max", aspect=30, fraction=0.04)
    return figure


def start_figure(result: UnderfittingResult) -> Any:
    """Gradient norms and relative updates of each layer before the first step."""
    figure = new_figure(9.0, 5.6)
    panels = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, name in enumerate(ACTIVATIONS):
        upper, lower = panels[:, column]
        for layer, colour in LAYER_COLOURS.items():
            gradients = result.norms(name, layer, "gradient")
            ratios = REPORT_LR * gradients / result.norms(name, layer, "weight")
            for axes, values in ((upper, gradients), (lower, ratios)):
                seen = np.where(values > 0.0, values, np.nan)
                axes.loglog(DEVIATIONS, seen, color=colour, **MARKED)
        upper.set_title(f"FC {NAMES[name]}", loc="left", fontsize=9)
        upper.axhline(1e-5, color="gray", linestyle=":", linewidth=1)
        lower.axhline(HEALTHY_RATIO, color="gray", linestyle=":", linewidth=1)
        for axes in (upper, lower):
            style_axes(axes)
            axes.minorticks_off()
    said = {"fontsize": 8, "textcoords": "offset points", "color": "gray"}
    panels[0, 0].annotate("the report's 1e-5", (1.0, 1e-5), (-4, -11), ha="right", **said)
    panels[1, 0].annotate("a healthy 1e-3", (1e-5, HEALTHY_RATIO), (0, 4), **said)
    panels[0, 0].set_ylabel("norm of the weight gradient", fontsize=9)
    panels[1, 0].set_ylabel(f"update / weight at lr {REPORT_LR:g}", fontsize=9)
    for axes in panels[1]:
        axes.set_xlabel("standard deviation of the initial weights", fontsize=9)
    draw_legend(figure, LAYER_COLOURS)
    return figure


def _cell(result: UnderfittingResult, key: tuple[str, float, float]) -> str:
    if result.grid[key].diverged:
        return "×"
    left = result.left_at(key)
    return "–" if left is None else str(left)


def _power(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")

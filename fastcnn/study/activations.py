"""Experiment: activations after the fully connected layers and after the convolutions."""

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
from fastcnn.study.section import Figure, Section, Table, Text, spread
from fastcnn.study.setting import Setting, shared
from fastcnn.study.trajectory import PROBE_IMAGES, Training, Trajectory, follow, log_steps
from fastcnn.training.figure import new_figure

#: Two epochs of the report's training images: what sigmoid needs according to the report.
STEPS = 536
LEARNING_RATES = (0.0005, 0.005, 0.05, 0.5)
#: Initialisations by the name of their standard deviation; None for Kaiming and Xavier.
INITS: dict[str, init.Initializer | None] = {
    "0.01": init.Normal(0.01),
    "0.1": init.Normal(0.1),
    "scaled": None,
    "1": init.Normal(1.0),
}
#: Activations after the convolutions and after the fully connected layers.
PAIRS = (
    ("relu", "relu"),
    ("relu", "tanh"),
    ("relu", "sigmoid"),
    ("leaky", "relu"),
    ("tanh", "relu"),
    ("sigmoid", "relu"),
    ("sigmoid", "sigmoid"),
)
#: The cell of the grid whose layers are probed.
PROBED_LR, PROBED_INIT = 0.05, "scaled"
#: Seeds with which the best cell of each pair is repeated.
REPEATED_SEEDS = (1, 2)
CONVERGED = 0.95

Pair = tuple[str, str]


@dataclass(frozen=True)
class ActivationResult:
    """Results of the runs.

    Attributes
    ----------
    grid : dict
        Trajectories by pair of activations, initialisation and learning rate.
    best : dict
        The best cell's initialisation and learning rate by pair.
    repeated : dict
        Test accuracies of the best cell by pair, one per seed that did not diverge.
    """

    grid: dict[tuple[Pair, str, float], Trajectory]
    best: dict[Pair, tuple[str, float]]
    repeated: dict[Pair, tuple[float, ...]]

    @property
    def steps(self) -> int:
        """Steps of each training."""
        return next(iter(self.grid.values())).training.steps

    def converged(self, pair: Pair) -> int:
        """Number of cells of a pair that reached :data:`CONVERGED` on the test images."""
        return sum(
            final_accuracy(trajectory) >= CONVERGED
            for key, trajectory in self.grid.items()
            if key[0] == pair
        )

    def probed(self, pair: Pair) -> Trajectory:
        """The trajectory whose layers were probed."""
        return self.grid[pair, PROBED_INIT, PROBED_LR]


def final_accuracy(trajectory: Trajectory) -> float:
    """Final test accuracy as a fraction; 0 for a diverged training."""
    return 0.0 if trajectory.diverged else trajectory.scores[-1].test_accuracy


def run(setting: Setting) -> ActivationResult:
    """Train each pair of activations at each learning rate from each initialisation."""
    steps = setting.steps(STEPS)
    keys = [(pair, name, lr) for pair in PAIRS for name in INITS for lr in LEARNING_RATES]
    probed = {(PROBED_INIT, PROBED_LR): log_steps(steps, 9)}
    runs = [_training(pair, name, lr, steps, probed.get((name, lr), ())) for pair, name, lr in keys]
    grid = dict(zip(keys, setting.run(follow, runs), strict=True))
    best = {}
    for pair in PAIRS:
        own = [key for key in keys if key[0] == pair]
        _, name, lr = max(own, key=lambda key: final_accuracy(grid[key]))
        best[pair] = (name, lr)
    again = setting.run(
        follow,
        [_training(pair, *best[pair], steps, seed=s) for pair in PAIRS for s in REPEATED_SEEDS],
    )
    repeated = {
        pair: tuple(map(final_accuracy, (grid[pair, *best[pair]], *runs)))
        for pair, runs in shared(PAIRS, again).items()
    }
    return ActivationResult(grid, best, repeated)


def _training(
    pair: Pair, name: str, lr: float, steps: int, probed_at: tuple[int, ...] = (), seed: int = 0
) -> Training:
    network = Network(activation=pair[1], conv_activation=pair[0], weight_init=INITS[name])
    return Training(network, lr, steps, seed=seed, probed_at=probed_at)


def section(result: ActivationResult) -> Section:
    """The experiment in words, figures and a table."""
    rows, cells = [], len(INITS) * len(LEARNING_RATES)
    for pair in PAIRS:
        name, lr = result.best[pair]
        rows.append(
            (
                pair_name(pair),
                spread(result.repeated[pair], 100.0),
                name,
                f"{lr:g}",
                f"{result.converged(pair)} / {cells}",
            )
        )
    return Section(
        name="activations",
        title=Text("Activation functions", "激活函数"),
        findings=[*_on_layers(result), *_on_convolutions(result), *_on_sparsity(result)],
        tables=[
            Table(
                header=[
                    Text("activations", "激活函数"),
                    Text("test accuracy, 3 seeds (range)", "测试准确率，3 个种子（范围）"),
                    Text("initial weights", "初始权重"),
                    Text("learning rate", "学习率"),
                    Text(f"settings above {CONVERGED:.0%}", f"超过 {CONVERGED:.0%} 的设置数"),
                ],
                rows=rows,
                caption=Text(
                    "The best setting of each pair, chosen with one seed and repeated with others.",
                    "每种组合的最佳设置：先用一个种子选出，再换其他种子重复训练。",
                ),
            )
        ],
        figures=[
            Figure(
                "activations-accuracy",
                lambda: accuracy_figure(result),
                Text(
                    f"Test accuracy after {result.steps} steps of plain SGD. Rows: standard "
                    "deviation of the initial weights (scaled: Kaiming before a ReLU, Xavier "
                    "elsewhere). ×: the loss became infinite.",
                    f"普通 SGD 训练 {result.steps} 步后的测试准确率。各行为初始权重的标准差"
                    "（scaled：ReLU 之前用 Kaiming，其余用 Xavier）。×：损失变为无穷大。",
                ),
            ),
            Figure(
                "activations-flow",
                lambda: flow_figure(result),
                Text(
                    "Gradient flow at learning rate "
                    f"{PROBED_LR:g} from scaled weights, on {PROBE_IMAGES} images: above, the norm "
                    "of each layer's weight gradient; below, the share of outputs after each "
                    "layer whose slope is under 5 % of the largest (the zeros of ReLU, saturated "
                    "values of sigmoid and tanh).",
                    f"学习率 {PROBED_LR:g}、缩放初始化时的梯度流（{PROBE_IMAGES} 张图像）：上排为"
                    "各层权重梯度的范数；下排为各层输出中斜率低于最大值 5 % 的比例"
                    "（ReLU 的零输出，sigmoid 和 tanh 的饱和输出）。",
                ),
            ),
        ],
    )


def _on_layers(result: ActivationResult) -> list[Text]:
    """Fully connected layers after ReLU convolutions."""
    means = {
        pair[1]: 100.0 * float(np.mean(result.repeated[pair]))
        for pair in PAIRS
        if pair[0] == "relu"
    }
    order = sorted(means, key=means.__getitem__, reverse=True)
    spread = means[order[0]] - means[order[-1]]
    listed = ", ".join(f"{NAMES[name]} {means[name]:.2f} %" for name in order)
    rates = {name: result.best["relu", name][1] for name in order}
    wants = ", ".join(f"{NAMES[name]} {rates[name]:g}" for name in order)
    return [
        Text(
            f"Activations of the fully connected layers, each at its best setting: {listed}; "
            f"they differ by {spread:.2f} points. Best learning rates: {wants}.",
            f"全连接层的各激活函数在各自最佳设置下：{listed}，相差 {spread:.2f} 个百分点。"
            f"最佳学习率：{wants}。",
        )
    ]


def _on_convolutions(result: ActivationResult) -> list[Text]:
    """The report: sigmoid after the convolutions never converges."""
    pairs = [pair for pair in PAIRS if pair[0] == "sigmoid"]
    converged = sum(map(result.converged, pairs))
    cells = len(pairs) * len(INITS) * len(LEARNING_RATES)
    best = max(float(np.mean(result.repeated[pair])) for pair in pairs)
    relu = result.probed(("relu", "relu")).probes[0].gradient["conv1"]
    sigmoid = result.probed(("sigmoid", "sigmoid")).probes[0].gradient["conv1"]
    at_report = max(
        final_accuracy(result.grid[pair, name, REPORT_LR]) for pair in pairs for name in INITS
    )
    verdict = (
        Text(
            "The report's claim does not hold with correct gradients",
            "梯度正确时，报告的说法不成立",
        )
        if converged
        else Text("The report's claim holds here too", "报告的说法在此同样成立")
    )
    return [
        Text(
            f'"Sigmoid after the convolutions does not converge": {verdict.en}. {converged} of '
            f"{cells} settings pass {CONVERGED:.0%}, the better pair reaches {100 * best:.2f} % "
            "(mean of its seeds).",
            f"“卷积层后使用 sigmoid 不收敛”：{verdict.zh}。{cells} 个设置中有 {converged} 个超过 "
            f"{CONVERGED:.0%}，较好的组合达到 {100 * best:.2f} %（各种子平均）。",
        ),
        Text(
            f"At the report's learning rate {REPORT_LR:g} the best initialisation takes it to "
            f"{100 * at_report:.2f} %. Before the first step, from scaled weights, the gradient of "
            f"conv1 has norm {sigmoid:.2g} with sigmoid everywhere and {relu:.2g} with ReLU "
            f"everywhere: a ratio of {relu / sigmoid:.0f}.",
            f"在报告的学习率 {REPORT_LR:g} 下，最好的初始化可达到 {100 * at_report:.2f} %。"
            f"缩放初始化时，第一步之前 conv1 的梯度范数：全部用 sigmoid 时为 {sigmoid:.2g}，"
            f"全部用 ReLU 时为 {relu:.2g}，相差 {relu / sigmoid:.0f} 倍。",
        ),
    ]


def _on_sparsity(result: ActivationResult) -> list[Text]:
    """The report: ReLU suits convolution because its activations are sparse."""
    probes = result.probed(("relu", "relu")).probes
    first, last = probes[0].zeros, probes[-1].zeros
    layers = dict(zip(first, ("conv1", "conv2", "fc1", "fc2"), strict=True))
    shares = {layers[key]: (100 * first[key], 100 * last[key]) for key in first}
    en = ", ".join(f"{layer} {a:.0f} to {b:.0f} %" for layer, (a, b) in shares.items())
    zh = "，".join(f"{layer} 由 {a:.0f} % 变为 {b:.0f} %" for layer, (a, b) in shares.items())
    sparse = result.repeated["relu", "relu"]
    dense = {name: result.repeated[name, "relu"] for name in ("leaky", "tanh")}
    level = all(max(runs) >= min(sparse) for runs in dense.values())
    compared = ", ".join(
        f"{NAMES[name]} {spread(runs, 100.0)}" for name, runs in {"relu": sparse, **dense}.items()
    )
    return [
        Text(
            f"Share of zeros after the layers of the ReLU network, at the start and end: {en}.",
            f"ReLU 网络各层输出中零的比例（训练前后）：{zh}。",
        ),
        Text(
            "The report explains by sparsity why ReLU suits convolution. Leaky ReLU and tanh "
            f"after the convolutions have no zeros; test accuracy in percent: {compared}. "
            + (
                "Their ranges overlap that of ReLU: the accuracy does not depend on zeros."
                if level
                else "At least one of them stays below ReLU's range, as the report would expect."
            ),
            "报告认为稀疏性是 ReLU 适合卷积的原因。卷积层后的 leaky ReLU 和 tanh 没有零输出，"
            f"测试准确率（%）：{compared}。"
            + (
                "它们的范围与 ReLU 重叠：准确率并不依赖于零输出。"
                if level
                else "其中至少一种低于 ReLU 的范围，与报告的预期一致。"
            ),
        ),
    ]


def accuracy_figure(result: ActivationResult) -> Any:
    """Test accuracy over learning rate and initialisation, one panel per pair of activations."""
    figure = new_figure(9.0, 4.9)
    panels = figure.subplots(2, 4, sharex=True, sharey=True).ravel()
    for axes, pair in zip(panels, PAIRS, strict=False):
        keys = [[(pair, name, lr) for lr in LEARNING_RATES] for name in INITS]
        found = [[result.grid[key].final("test_accuracy") for key in row] for row in keys]
        accuracies = 100.0 * np.array(found)
        texts = [[f"{a:.1f}" if np.isfinite(a) else "×" for a in row] for row in accuracies]
        picture = draw_heat_map(
            axes,
            accuracies,
            texts,
            list(INITS),
            [f"{lr:g}" for lr in LEARNING_RATES],
            span=(30.0, 100.0),
        )
        axes.set_title(pair_name(pair), loc="left", fontsize=9)
        axes.label_outer()
    panels[3].tick_params(labelbottom=True)
    panels[7].set_axis_off()
    place = panels[7].inset_axes((0.3, 0.05, 0.1, 0.85))
    figure.supxlabel("learning rate", fontsize=9)
    figure.supylabel("standard deviation of the initial weights", fontsize=9)
    draw_bar(figure, picture, "test accuracy (%)", cax=place)
    return figure


def flow_figure(result: ActivationResult) -> Any:
    """Gradient norms and blocked shares of each layer over the steps, one column per pair."""
    pairs = [pair for pair in PAIRS if "leaky" not in pair and pair != ("tanh", "relu")]
    figure = new_figure(9.0, 4.9)
    panels = figure.subplots(2, len(pairs), sharex=True, sharey="row")
    for column, pair in enumerate(pairs):
        probes = result.probed(pair).probes
        steps = [probe.step for probe in probes]
        upper, lower = panels[:, column]
        for layer, colour in LAYER_COLOURS.items():
            norms = [probe.gradient[layer] for probe in probes]
            upper.plot(steps, norms, color=colour, **MARKED)
        named = zip(probes[0].blocked, LAYER_COLOURS.values(), strict=False)
        for place, (name, colour) in enumerate(named):
            shares = [100.0 * probe.blocked[name] for probe in probes]
            lower.plot(steps, shares, color=colour, zorder=3 - 0.1 * place, **MARKED)
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


def pair_name(pair: Pair) -> str:
    """A pair of activations in words for a title."""
    return f"conv {NAMES[pair[0]]}, FC {NAMES[pair[1]]}"

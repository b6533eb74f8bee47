"""Experiment: what the report's wrong gradients do to a training."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.data.dataset import Dataset
from fastcnn.errors import FastcnnError
from fastcnn.execution import forward
from fastcnn.models import report_cnn
from fastcnn.study.networks import NAMES, REPORT_LR
from fastcnn.study.section import Figure, Section, Table, Text
from fastcnn.study.setting import Setting
from fastcnn.study.wrong_formulas import gradient_errors, train_with
from fastcnn.training.blas import blas_threads
from fastcnn.training.curves import new_figure
from fastcnn.training.pool import run_jobs

STEPS, LONG_STEPS, BATCH = 400, 1340, 64
FAIR_LR = 0.05
#: Formulas that are wrong, by activation of the fully connected layers.
SETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "sigmoid": (
        (), ("sigmoid",), ("convolution",), ("relu",), ("sigmoid", "convolution", "relu"),
    ),
    "relu": ((), ("convolution",), ("relu",), ("convolution", "relu")),
}  # fmt: skip
#: Okabe-Ito colours, by the number of wrong formulas and the first of them.
COLOURS = {
    (0, ""): "#0072B2", (1, "sigmoid"): "#D55E00", (1, "convolution"): "#009E73",
    (1, "relu"): "#E69F00", (2, "convolution"): "#CC79A7", (3, "sigmoid"): "#CC79A7",
}  # fmt: skip
#: A collapse, as the report saw one: the loss falls below LEARNED, and rises from there by RISE.
LEARNED, RISE = 0.8, 0.3
#: Steps that are averaged before jumps are looked for: single batches vary.
SMOOTH = 10


@dataclass(frozen=True)
class Case:
    """One training: activation, wrong formulas, learning rate and steps."""

    activation: str
    wrong: tuple[str, ...]
    lr: float
    steps: int


@dataclass(frozen=True)
class Outcome:
    """What a training gave; the accuracy is 0 where the loss did not stay finite."""

    losses: np.ndarray
    overflows: int
    test_accuracy: float

    @property
    def collapse(self) -> tuple[float, float] | None:
        """The least loss, once something was learned, and that to which it rose."""
        smooth = smoothed(self.losses)
        after = smooth - np.minimum.accumulate(smooth)
        risen = np.flatnonzero((after > RISE) & (np.minimum.accumulate(smooth) < LEARNED))
        return (
            (float(smooth[: risen[0]].min()), float(smooth[risen[0] :].max()))
            if risen.size
            else None
        )


@dataclass(frozen=True)
class WrongGradients:
    """Errors of the formulas, and outcomes of the trainings."""

    errors: dict[str, float]
    outcomes: dict[Case, Outcome]


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Means of consecutive steps, as far as the loss is finite."""
    losses = losses[np.isfinite(losses)]
    return (
        np.convolve(losses, np.ones(SMOOTH) / SMOOTH, "valid") if losses.size >= SMOOTH else losses
    )


def run(setting: Setting) -> WrongGradients:
    """Train with every set of formulas, at the report's and at a fair learning rate."""
    cases = [
        Case("sigmoid", wrong, REPORT_LR, setting.steps(LONG_STEPS))
        for wrong in (SETS["sigmoid"][1], SETS["sigmoid"][-1])
    ] + [
        Case(activation, wrong, lr, setting.steps(STEPS))
        for activation, sets in SETS.items()
        for wrong in sets
        for lr in (REPORT_LR, FAIR_LR)
    ]
    outcomes: dict[Case, Outcome] = {}
    for index, outcome in run_jobs(_train, cases, (setting.train, setting.test)):
        if outcome is None:
            raise FastcnnError(f"the process of {cases[index]} ended unexpectedly")
        outcomes[cases[index]] = outcome
    return WrongGradients(gradient_errors(), {case: outcomes[case] for case in cases})


def _train(case: Case, train: Dataset, test: Dataset) -> Outcome:
    generator = np.random.default_rng(0)
    epochs = -(-case.steps * BATCH // len(train))
    order = np.concatenate([generator.permutation(len(train)) for _ in range(epochs)])
    order = order[: case.steps * BATCH]
    images = train.normalisation.apply(train.images[order])
    model = report_cnn(case.activation, seed=0)
    with blas_threads(1):
        losses, overflows = train_with(
            model, case.wrong, images.reshape(-1, BATCH, *images.shape[1:]),
            train.labels[order].reshape(-1, BATCH), case.lr,
        )  # fmt: skip
        if not np.isfinite(losses).all():
            return Outcome(losses, overflows, 0.0)
        logits = forward(model, test.normalisation.apply(test.images), backend="im2col")
    return Outcome(losses, overflows, float((logits.argmax(axis=1) == test.labels).mean()))


def section(result: WrongGradients) -> Section:
    """The experiment in words, a table and a figure."""
    rows = [
        (
            NAMES[case.activation], _formulas(case.wrong), f"{case.lr:g}", f"{case.steps}",
            f"{100 * outcome.test_accuracy:.2f}" if outcome.test_accuracy else "×",
            "×" if np.isnan(outcome.losses).any() else f"{np.nanmean(outcome.losses[-20:]):.3f}",
            _rise(outcome), f"{outcome.overflows}",
        )
        for case, outcome in result.outcomes.items()
    ]  # fmt: skip
    return Section(
        name="wrong_gradients",
        title=Text("The report's wrong gradients", "报告中错误的梯度"),
        findings=[
            _on_formulas(result), _on_the_sigmoid(result), _on_the_jump(result),
            _on_convolution(result),
        ],
        tables=[
            Table(
                header=[
                    Text("FC activation", "全连接层激活函数"), Text("wrong", "错误的公式"),
                    Text("learning rate", "学习率"), Text("steps", "步数"),
                    Text("test accuracy, %", "测试准确率，%"),
                    Text("loss at the end", "最终损失"), Text("collapse", "崩溃"),
                    Text("steps with overflow", "溢出的步数"),
                ],
                rows=rows,
                caption=Text(
                    "Plain SGD on batches of 64, the same weights and order of images throughout. "
                    f"A collapse: the loss, once below {LEARNED:g}, rises by {RISE:g} and more "
                    f"(means of {SMOOTH} steps). ×: it became infinite.",
                    f"普通 SGD，每批 64 张，初始权重和图像顺序都相同。崩溃：损失（{SMOOTH} 步平均）"
                    f"低于 {LEARNED:g} 之后又上升 {RISE:g} 以上。×：损失变为无穷大。",
                ),
            )
        ],
        figures=[
            Figure(
                "wrong-gradients-loss", lambda: loss_figure(result),
                Text(
                    f"Training loss (mean of {SMOOTH} steps) with each wrong formula. Dotted: "
                    "guessing, ln 3. A line that ends early became infinite.",
                    f"使用各错误公式时的训练损失（{SMOOTH} 步平均）。点线为随机猜测 ln 3。"
                    "提前结束的曲线表示损失变为无穷大。",
                ),
            )
        ],
    )  # fmt: skip


def _formulas(wrong: tuple[str, ...]) -> str:
    return " + ".join(wrong) or "none"


def _on_formulas(result: WrongGradients) -> Text:
    errors = result.errors
    return Text(
        "Error against finite differences, relative to the largest gradient: sigmoid "
        f"dy (1 - dy) {errors['sigmoid']:.1f}, convolution turned over the wrong axes "
        f"{errors['convolution']:.1f}. ReLU with >= differs at exactly 0 alone, there by "
        f"{errors['relu']:.0f}.",
        f"与有限差分相比的误差（相对最大梯度）：sigmoid 的 dy (1 - dy) 为 {errors['sigmoid']:.1f}，"
        f"沿错误轴旋转的卷积为 {errors['convolution']:.1f}。ReLU 的 >= 只在恰好为 0 处不同，"
        f"差 {errors['relu']:.0f}。",
    )


def _accuracy(result: WrongGradients, activation: str, wrong: tuple[str, ...], lr: float) -> float:
    """Test accuracy in per cent of the shortest such training."""
    found = [
        (case.steps, 100 * outcome.test_accuracy)
        for case, outcome in result.outcomes.items()
        if (case.activation, case.wrong, case.lr) == (activation, wrong, lr)
    ]
    return min(found)[1]


def _on_the_sigmoid(result: WrongGradients) -> Text:
    """What the wrong sigmoid gradient does at either learning rate."""
    steps = min(case.steps for case in result.outcomes)
    numbers = [
        _accuracy(result, "sigmoid", wrong, lr)
        for lr in (REPORT_LR, FAIR_LR)
        for wrong in ((), ("sigmoid",))
    ]
    low, high = (f"{right:.2f} / {wrong:.2f} %" for right, wrong in (numbers[:2], numbers[2:]))
    return Text(
        f"Sigmoid in the fully connected layers, right / wrong gradient, {steps} steps: {low} of "
        f"the test images at the report's {REPORT_LR:g}, {high} at {FAIR_LR:g}. The wrong one "
        "passes the gradient on nearly unscaled, where the right one takes at most a quarter: it "
        "acts as a larger learning rate.",
        f"全连接层使用 sigmoid，{steps} 步后正确 / 错误梯度的测试准确率：报告的学习率 "
        f"{REPORT_LR:g} 下 {low}，{FAIR_LR:g} 下 {high}。错误的公式几乎原样传递梯度，"
        "而正确的梯度最多只有四分之一：其效果相当于更大的学习率。",
    )


def _on_the_jump(result: WrongGradients) -> Text:
    """Does the wrong sigmoid gradient explain the jump from 0.2 to 4.4 and the overflows?"""
    with_it = [outcome for case, outcome in result.outcomes.items() if "sigmoid" in case.wrong]
    without = [outcome for case, outcome in result.outcomes.items() if "sigmoid" not in case.wrong]
    collapses = [sum(one.collapse is not None for one in group) for group in (with_it, without)]
    overflows = [sum(one.overflows > 0 for one in group) for group in (with_it, without)]
    explained = collapses[0] > 0 and collapses[1] == 0
    verdict = (
        ("it explains a loss that rises late", "可以解释损失的后期上升")
        if explained
        else ("it does not explain a loss that rises late", "不能解释损失的后期上升")
    )
    warned = (
        ("overflows came with it", "并伴随溢出") if overflows[0] > overflows[1]
        else ("it does not explain the overflow warnings", "不能解释溢出警告")
    )  # fmt: skip
    examples = [one.collapse for one in with_it if one.collapse is not None]
    seen = f" (from {examples[0][0]:.2f} to {examples[0][1]:.2f}, say)" if examples else ""
    shown = f"（例如从 {examples[0][0]:.2f} 升到 {examples[0][1]:.2f}）" if examples else ""
    return Text(
        f"The loss collapses late in {collapses[0]} of {len(with_it)} trainings with the wrong "
        f"sigmoid gradient{seen} and in {collapses[1]} of {len(without)} without it; overflows "
        f"occur in {overflows[0]} and {overflows[1]}. The wrong formula: {verdict[0]}; "
        f"{warned[0]}. The report's loss went from 0.2 to 4.4.",
        f"使用错误 sigmoid 梯度的 {len(with_it)} 次训练中有 {collapses[0]} 次在后期崩溃{shown}，"
        f"其余 {len(without)} 次中有 {collapses[1]} 次；出现溢出的分别为 {overflows[0]} 次和 "
        f"{overflows[1]} 次。错误的公式{verdict[1]}，{warned[1]}。报告中损失从 0.2 升到 4.4。",
    )


def _rise(outcome: Outcome) -> str:
    found = outcome.collapse
    return "-" if found is None else f"{found[0]:.2f} to {found[1]:.2f}"


def _on_convolution(result: WrongGradients) -> Text:
    """What accuracy the wrong convolution costs."""
    parts = []
    for activation in SETS:
        for lr in (REPORT_LR, FAIR_LR):
            right, wrong = (
                _accuracy(result, activation, which, lr) for which in ((), ("convolution",))
            )
            parts.append(f"{NAMES[activation]}, {lr:g}: {right:.2f} / {wrong:.2f} %")
    listed = "; ".join(parts)
    return Text(
        f"Test accuracy with the right and with the wrong gradient of the convolution: {listed}.",
        f"卷积梯度正确 / 错误时的测试准确率：{listed}。",
    )


def loss_figure(result: WrongGradients) -> Any:
    """Training loss over the steps, by activation and learning rate."""
    figure = new_figure(9.0, 5.4)
    panels = figure.subplots(2, 2, sharey=True)
    for row, activation in zip(panels, SETS, strict=True):
        for axes, lr in zip(row, (REPORT_LR, FAIR_LR), strict=True):
            axes.axhline(np.log(3), color="grey", linestyle=":", linewidth=1)
            for wrong in SETS[activation]:
                colour = COLOURS[len(wrong), wrong[0] if wrong else ""]
                longest = max(
                    (c for c in result.outcomes if (c.activation, c.wrong, c.lr)
                     == (activation, wrong, lr)), key=lambda c: c.steps,
                )  # fmt: skip
                losses = result.outcomes[longest].losses
                axes.plot(smoothed(losses), color=colour, linewidth=1.3,
                          label=_formulas(wrong))  # fmt: skip
            axes.set_title(f"FC {NAMES[activation]}, learning rate {lr:g}", loc="left", fontsize=9)
            axes.set_yscale("log")
            axes.grid(alpha=0.25)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xlabel("step", fontsize=8)
        row[0].set_ylabel("cross-entropy (nats)", fontsize=8)
        row[1].legend(frameon=False, fontsize=7, title="wrong", title_fontsize=7)
    return figure

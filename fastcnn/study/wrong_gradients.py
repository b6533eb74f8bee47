"""Experiment: effects of the report's wrong gradients on training."""

from dataclasses import dataclass

import numpy as np

from fastcnn.data.dataset import Dataset
from fastcnn.execution import predict_logits
from fastcnn.execution.workers import one_blas_thread
from fastcnn.layers import init
from fastcnn.study.networks import NAMES, REPORT_LR, Network
from fastcnn.study.section import Figure, Section, Table, Text, spread
from fastcnn.study.setting import Setting
from fastcnn.study.trajectory import running_mean
from fastcnn.study.wrong_formulas import gradient_errors, train_with
from fastcnn.study.wrong_gradients_figure import loss_figure

BATCH = 64
FAIR_LR = 0.05
#: A collapse, as observed in the report: the loss falls below LEARNED, then rises by RISE.
LEARNED, RISE = 0.8, 0.3
#: Steps averaged before collapses are detected: single batches vary.
SMOOTH = 10
#: The smallest and the largest loss around the report's collapse.
REPORTED = (0.2, 4.4)

Formulas = tuple[str, ...]
SIGMOID: tuple[Formulas, ...] = (
    (),
    ("sigmoid",),
    ("convolution",),
    ("relu",),
    ("sigmoid", "convolution", "relu"),
)
RELU: tuple[Formulas, ...] = ((), ("convolution",), ("relu",), ("convolution", "relu"))


@dataclass(frozen=True)
class Plan:
    """Trainings that differ only in their formulas and seeds.

    Attributes
    ----------
    activation, conv_activation : str
        Activations after the fully connected layers, and after the convolutions: ReLU or the same.
    deviation : float, optional
        Standard deviation of the initial weights; by default as in
        :func:`~fastcnn.models.report_cnn`.
    steps : int
        Training steps of each, with correct and with wrong formulas.
    sets : tuple of tuple of str
        Wrong formulas.
    """

    activation: str
    conv_activation: str
    deviation: float | None
    lr: float
    steps: int
    sets: tuple[Formulas, ...]
    seeds: tuple[int, ...]

    @property
    def name(self) -> str:
        """A short description of activations, initial weights and learning rate."""
        conv = "" if self.conv_activation == "relu" else "conv and "
        std = "" if self.deviation is None else f", std {self.deviation:g}"
        return f"{conv}FC {NAMES[self.activation]}{std}, lr {self.lr:g}"


#: 1,340 steps are the report's five epochs. Its cure for a loss that stayed at ln 3 was a larger
#: variance of the initial weights, which it does not state: at its learning rate the network with
#: sigmoids leaves ln 3 from a standard deviation of 0.3 on.
PLANS = {
    "sigmoid": Plan("sigmoid", "relu", None, REPORT_LR, 1340, SIGMOID, (0, 1)),
    "large": Plan("sigmoid", "relu", 0.3, REPORT_LR, 804, (*SIGMOID[:2], SIGMOID[-1]), (0, 1, 2)),
    "sigmoid_fair": Plan("sigmoid", "relu", None, FAIR_LR, 400, SIGMOID, (0, 1)),
    "relu": Plan("relu", "relu", None, REPORT_LR, 400, RELU, (0, 1)),
    "relu_fair": Plan("relu", "relu", None, FAIR_LR, 400, RELU, (0, 1)),
    "everywhere": Plan("sigmoid", "sigmoid", 1.0, REPORT_LR, 804, ((), SIGMOID[-1]), (0, 1)),
}


@dataclass(frozen=True)
class Case:
    """One training."""

    plan: str
    wrong: Formulas
    seed: int
    steps: int


@dataclass(frozen=True)
class Outcome:
    """Result of a training; the accuracy is 0 if the loss did not stay finite."""

    losses: np.ndarray
    overflows: int
    test_accuracy: float

    @property
    def collapse(self) -> tuple[float, float] | None:
        """The smallest loss once something was learned, and the largest of a later step."""
        smooth = smoothed(self.losses)
        least = np.minimum.accumulate(smooth)
        risen = np.flatnonzero((smooth - least > RISE) & (least < LEARNED))
        if not risen.size:
            return None
        return float(least[risen[0]]), float(np.nanmax(self.losses[risen[0] :]))

    @property
    def final_loss(self) -> float:
        """Mean of the last steps; NaN if the loss did not stay finite."""
        return float(self.losses[-2 * SMOOTH :].mean())


@dataclass(frozen=True)
class WrongGradients:
    """Errors of the formulas, and outcomes of the runs."""

    errors: dict[str, float]
    outcomes: dict[Case, Outcome]

    def of(self, plan: str, wrong: Formulas) -> list[Outcome]:
        """Outcomes of a plan with some formulas, one per seed."""
        return [
            outcome
            for case, outcome in self.outcomes.items()
            if (case.plan, case.wrong) == (plan, wrong)
        ]

    def accuracy(self, plan: str, wrong: Formulas) -> float:
        """Mean test accuracy over the seeds in percent."""
        return 100.0 * float(np.mean([one.test_accuracy for one in self.of(plan, wrong)]))

    def steps(self, plan: str) -> int:
        """Steps of each training of a plan."""
        return next(case.steps for case in self.outcomes if case.plan == plan)


def smoothed(losses: np.ndarray) -> np.ndarray:
    """Running means of the steps while the loss is finite."""
    return running_mean(losses[np.isfinite(losses)], SMOOTH)


#: Chinese names of sets of formulas whose names are words.
CHINESE = {"none": "无", "convolution": "卷积", "all three": "三个", "conv. + relu": "卷积 + relu"}


def formulas_name(wrong: Formulas) -> str:
    """A short name of a set of wrong formulas."""
    if len(wrong) > 1:
        return "all three" if "sigmoid" in wrong else "conv. + relu"
    return wrong[0] if wrong else "none"


def run(setting: Setting) -> WrongGradients:
    """Train with every set of formulas and seed of every plan."""
    cases = [
        Case(name, wrong, seed, setting.steps(plan.steps))
        for name, plan in PLANS.items()
        for wrong in plan.sets
        for seed in (plan.seeds[:1] if setting.quick else plan.seeds)
    ]
    outcomes = dict(zip(cases, setting.run(_train, cases), strict=True))
    return WrongGradients(gradient_errors(), outcomes)


def _train(case: Case, train: Dataset, test: Dataset) -> Outcome:
    plan = PLANS[case.plan]
    generator = np.random.default_rng(case.seed)
    epochs = -(-case.steps * BATCH // len(train))
    order = np.concatenate([generator.permutation(len(train)) for _ in range(epochs)])
    order = order[: case.steps * BATCH]
    images = train.preprocessing.apply(train.images[order])
    draw = None if plan.deviation is None else init.Normal(plan.deviation)
    network = Network(plan.activation, plan.conv_activation, weight_init=draw)
    model = network.build(len(train.classes), case.seed)
    with one_blas_thread():
        seen = train_with(
            model,
            case.wrong,
            images.reshape(-1, BATCH, *images.shape[1:]),
            train.labels[order].reshape(-1, BATCH),
            plan.lr,
        )
        if not np.isfinite(seen.losses).all():
            return Outcome(seen.losses, seen.overflows, 0.0)
        logits = predict_logits(model, test.preprocessing.apply(test.images), threads=1)
    right = logits.argmax(axis=1) == test.labels
    return Outcome(seen.losses, seen.overflows, float(right.mean()))


def section(result: WrongGradients) -> Section:
    """The experiment in words, a table and a figure."""
    return Section(
        name="wrong_gradients",
        title=Text("The report's wrong gradients", "报告中错误的梯度"),
        findings=[
            _on_formulas(result),
            _on_the_sigmoid(result),
            _on_the_jump(result),
            _on_overflows(result),
            _on_sigmoid_everywhere(result),
            _on_convolution(result),
        ],
        tables=[_table(result)],
        figures=[
            Figure(
                "wrong-gradients-loss",
                lambda: loss_figure(result, PLANS, smoothed),
                Text(
                    f"Training loss with each wrong formula, one seed: pale, of each step; full, "
                    f"the mean of {SMOOTH}. The broad blue line is the right gradient, on which "
                    "some of the others lie. Dotted: guessing, ln 3. std: standard deviation of "
                    "the initial weights, where they are not scaled (Kaiming, Xavier).",
                    f"使用各错误公式时的训练损失（一个种子）：浅色为每一步，深色为 {SMOOTH} "
                    "步平均。较宽的蓝线使用正确的梯度，部分曲线与它重合。"
                    "点线为随机猜测的损失 ln 3。"
                    "std 为初始权重的标准差（未注明时为 Kaiming、Xavier 缩放初始化）。",
                ),
            )
        ],
    )


def _collapse(counts: tuple[int, int], highest: tuple[float, float]) -> Text:
    """Number of collapsed runs, and the worst of them."""
    least, most = (f"{value:.2f}" for value in highest)
    return Text(
        f"{counts[0]} of {counts[1]}: {least} to {most}",
        f"{counts[1]} 次中 {counts[0]} 次：{least} 升到 {most}",
    )


def _table(result: WrongGradients) -> Table:
    rows: list[tuple[str | Text, ...]] = []
    for name, plan in PLANS.items():
        for wrong in plan.sets:
            label = formulas_name(wrong)
            outcomes = result.of(name, wrong)
            collapses = [one.collapse for one in outcomes if one.collapse is not None]
            highest = max(collapses, key=lambda pair: pair[1], default=None)
            counts = len(collapses), len(outcomes)
            rows.append(
                (
                    plan.name,
                    Text(label, CHINESE.get(label, label)),
                    f"{result.steps(name):,}",
                    spread([one.test_accuracy for one in outcomes], 100.0),
                    " / ".join(
                        "×" if np.isnan(one.final_loss) else f"{one.final_loss:.2f}"
                        for one in outcomes
                    ),
                    _collapse(counts, highest) if highest else "-",
                    f"{sum(one.overflows for one in outcomes):,}",
                )
            )
    return Table(
        header=[
            Text("training", "训练"),
            Text("wrong", "错误的公式"),
            Text("steps", "步数"),
            Text("test accuracy, %", "测试准确率（%）"),
            Text("loss at the end", "最终损失"),
            Text("collapses", "崩溃"),
            Text("overflows", "溢出"),
        ],
        rows=rows,
        caption=Text(
            "Plain SGD on batches of 64; with each seed the same weights and order of images for "
            "all formulas. Accuracy: mean over seeds (range); 0 where the loss became infinite "
            f"(×). A collapse: the loss (mean of {SMOOTH} steps), once below {LEARNED:g}, rises by "
            f"{RISE:g} and more; from its least to the highest of a single step, the worst seed. "
            "Overflows: steps in which the report's 1 / (1 + exp(-x)) would have been infinite "
            "inside, in double precision; of all seeds.",
            "普通 SGD，每批 64 张；同一种子下各公式的初始权重和图像顺序相同。准确率为各种子的平均"
            f"（范围），损失变为无穷大（×）时记为 0。崩溃：损失（{SMOOTH} 步平均）低于 {LEARNED:g} "
            f"之后又上升 {RISE:g} 以上；表中列出最严重的种子，从最小值到单步最大值。溢出：报告的 "
            "1 / (1 + exp(-x)) 在双精度下计算 exp 会溢出的步数，各种子合计。",
        ),
    )


def _on_formulas(result: WrongGradients) -> Text:
    errors = result.errors
    return Text(
        "Error against finite differences, relative to the largest gradient: sigmoid "
        f"dy (1 - dy) {errors['sigmoid']:.1f}, convolution turned over the wrong axes "
        f"{errors['convolution']:.1f}. ReLU with >= differs only at exactly 0, by "
        f"{errors['relu']:.0f}.",
        f"与有限差分相比的误差（相对最大梯度）：sigmoid 的 dy (1 - dy) 为 {errors['sigmoid']:.1f}，"
        f"卷积核沿错误的轴旋转时为 {errors['convolution']:.1f}。ReLU 写成 >= 只在输入恰好为 0 "
        f"时有差别，差值为 {errors['relu']:.0f}。",
    )


def _on_the_sigmoid(result: WrongGradients) -> Text:
    """Effect of the wrong sigmoid gradient at both learning rates."""
    least, last = (
        [
            float(np.mean([take(one) for one in result.of("sigmoid", wrong)]))
            for wrong in ((), ("sigmoid",))
        ]
        for take in (lambda one: float(smoothed(one.losses).min()), lambda one: one.final_loss)
    )
    fair = [result.accuracy("sigmoid_fair", wrong) for wrong in ((), ("sigmoid",))]
    return Text(
        f"Sigmoid in the fully connected layers, right / wrong gradient, "
        f"{result.steps('sigmoid'):,} steps at the report's {REPORT_LR:g}: the loss falls to "
        f"{least[0]:.2f} / {least[1]:.2f} and ends at {last[0]:.2f} / {last[1]:.2f}; at "
        f"{FAIR_LR:g} {fair[0]:.2f} / {fair[1]:.2f} % of the test images are right. The wrong one "
        "passes the gradient on nearly unscaled, where the right one takes at most a quarter: it "
        "acts as a larger learning rate, and still pushes units that are saturated.",
        f"全连接层使用 sigmoid，梯度正确 / 错误时，以报告的学习率 {REPORT_LR:g} 训练 "
        f"{result.steps('sigmoid'):,} 步：损失最低降到 {least[0]:.2f} / {least[1]:.2f}，最终为 "
        f"{last[0]:.2f} / {last[1]:.2f}；学习率 {FAIR_LR:g} 时测试准确率为 {fair[0]:.2f} / "
        f"{fair[1]:.2f} %。错误的公式几乎原样传递梯度，而正确的梯度最多只有四分之一：其效果"
        "相当于更大的学习率，而且对已经饱和的单元也照样更新。",
    )


def _groups(result: WrongGradients) -> tuple[list[Outcome], list[Outcome]]:
    """Trainings of networks with sigmoids, with and without their wrong gradient."""
    pairs = [
        (case, one)
        for case, one in result.outcomes.items()
        if PLANS[case.plan].activation == "sigmoid"
    ]
    return (
        [one for case, one in pairs if "sigmoid" in case.wrong],
        [one for case, one in pairs if "sigmoid" not in case.wrong],
    )


def _on_the_jump(result: WrongGradients) -> Text:
    """Does the wrong sigmoid gradient explain the jump from 0.2 to 4.4?"""
    with_it, without = _groups(result)
    found = [[one.collapse for one in group if one.collapse] for group in (with_it, without)]
    seen = {one.collapse: PLANS[case.plan].name for case, one in result.outcomes.items()}
    low, high = REPORTED
    stated = f"{low:g} to {high:g}", f"从 {low:g} 升到 {high:g}"
    highest = max(found[0], key=lambda pair: pair[1], default=None)
    if highest is None or found[1]:
        verdict = Text(
            f"So it does not explain the report's jump from {stated[0]}.",
            f"因此，它不能解释报告中损失{stated[1]}的突变。",
        )
    elif highest[0] <= 2 * low and highest[1] >= 0.75 * high:
        verdict = Text(
            f"So it can explain the report's jump from {stated[0]}: the highest here goes from "
            f"{highest[0]:.2f} to {highest[1]:.2f} ({seen[highest]}).",
            f"因此，它可以解释报告中损失{stated[1]}的突变：此处最大的一次从 {highest[0]:.2f} "
            f"升到 {highest[1]:.2f}（{seen[highest]}）。",
        )
    else:
        verdict = Text(
            f"So it can explain a loss that rises late, but not as far as the report's, from "
            f"{stated[0]}: the highest here goes from {highest[0]:.2f} to {highest[1]:.2f} "
            f"({seen[highest]}).",
            f"因此，它可以解释损失在后期上升，但达不到报告中{stated[1]}的程度：此处最大的一次从 "
            f"{highest[0]:.2f} 升到 {highest[1]:.2f}。",
        )
    return Text(
        f"Of the networks with sigmoids, the loss collapses after it had fallen in {len(found[0])} "
        f"of {len(with_it)} runs with the wrong sigmoid gradient and in {len(found[1])} of "
        f"{len(without)} with the right one, from the same weights and for as many steps. "
        f"{verdict.en}",
        "使用 sigmoid 的网络中，损失下降之后又崩溃的情况："
        f"sigmoid 梯度错误的 {len(with_it)} 次训练中有 {len(found[0])} 次，"
        f"梯度正确的 {len(without)} 次中有 {len(found[1])} 次（初始权重和步数相同）。"
        f"{verdict.zh}",
    )


def _on_overflows(result: WrongGradients) -> Text:
    """Does it explain the warnings of exp?"""
    counts = [sum(one.overflows > 0 for one in group) for group in _groups(result)]
    with_it, without = map(len, _groups(result))
    verdict = (
        Text("so it can explain the report's warnings", "因此它可以解释报告中的警告")
        if counts[0] > 0 and counts[1] == 0
        else Text("so it does not explain the report's warnings", "因此它不能解释报告中的警告")
    )
    return Text(
        f"Overflow in the report's exp(-x): in {counts[0]} of {with_it} runs with the wrong "
        f"sigmoid gradient, in {counts[1]} of {without} with the right one; {verdict.en}.",
        f"报告的 exp(-x) 发生溢出：sigmoid 梯度错误的 {with_it} 次训练中有 {counts[0]} 次，"
        f"梯度正确的 {without} 次中有 {counts[1]} 次；{verdict.zh}。",
    )


def _on_sigmoid_everywhere(result: WrongGradients) -> Text:
    """The report: with sigmoid after the convolutions nothing converged, and exp overflowed."""
    plan = PLANS["everywhere"]
    right, wrong = (result.accuracy("everywhere", which) for which in plan.sets)
    overflows = [sum(one.overflows for one in result.of("everywhere", s)) for s in plan.sets]
    return Text(
        f"Sigmoid after the convolutions too, initial standard deviation {plan.deviation:g}, "
        f"{result.steps('everywhere'):,} steps at {plan.lr:g}: {right:.2f} % of the test images "
        f"with right gradients and {wrong:.2f} % with the report's three; steps with overflow "
        f"{overflows[0]:,} and {overflows[1]:,}.",
        f"卷积层之后也使用 sigmoid，初始标准差 {plan.deviation:g}，学习率 {plan.lr:g}，训练 "
        f"{result.steps('everywhere'):,} 步：梯度正确时测试准确率为 {right:.2f} %，使用报告的三个"
        f"公式时为 {wrong:.2f} %；溢出的步数分别为 {overflows[0]:,} 和 {overflows[1]:,}。",
    )


def _on_convolution(result: WrongGradients) -> Text:
    """Loss of accuracy due to the wrong convolution gradient."""
    parts, costs = [], []
    for name in ("sigmoid", "sigmoid_fair", "relu", "relu_fair"):
        right, wrong = (result.accuracy(name, which) for which in ((), ("convolution",)))
        parts.append(f"{PLANS[name].name}: {right:.2f} / {wrong:.2f} %")
        costs.append(right - wrong)
    listed = "; ".join(parts)
    return Text(
        "Test accuracy with the right / the wrong gradient of the convolution, mean of the seeds: "
        f"{listed}. At most it costs {max(costs):.2f} points: of all weights, only those of the "
        "first convolution get a wrong gradient by it.",
        f"卷积梯度正确 / 错误时的测试准确率（各种子平均）：{listed}。最多降低 {max(costs):.2f} "
        "个百分点，因为受影响的只有第一个卷积层的权重。",
    )

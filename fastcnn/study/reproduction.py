"""Experiment: the report's network as the report trains it, over several seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from fastcnn.errors import counted
from fastcnn.execution import gradients
from fastcnn.models import report_cnn
from fastcnn.study.drawing import draw_legend, draw_spread, style_axes
from fastcnn.study.networks import NAMES, REPORT_LR
from fastcnn.study.section import Figure, Section, Table, Text, spread
from fastcnn.study.setting import Setting, shared
from fastcnn.timing import timed
from fastcnn.training.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure
from fastcnn.training.recipe import Recipe
from fastcnn.training.sweeps import sweep

SEEDS, EPOCHS, BATCH = 10, 5, 64
ACTIVATIONS = ("sigmoid", "relu")
#: Learning rate and momentum by name: the report's, and one that suits the network.
RATES = {"report": (REPORT_LR, 0.0), "fair": (0.02, 0.9)}
#: Training and test accuracy stated in the report, in percent.
STATED = {"sigmoid": (91.94, 94.73), "relu": (94.40, 95.55)}
#: Number of images on which the nested loops are timed.
LOOPED = 4
COLUMNS = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True)
class Reproduction:
    """Curves of all runs.

    Attributes
    ----------
    curves : dict
        By activation and rate, then by column: ndarray of shape (seeds, epochs).
    images : int
        Training images.
    looped : float
        Seconds per image of the nested loops, forward and backward.
    """

    curves: dict[tuple[str, str], dict[str, np.ndarray]]
    images: int
    looped: float

    @property
    def seeds(self) -> int:
        """Number of runs of each kind."""
        return len(self.curves["relu", "fair"]["seconds"])

    def epochs_to(self, key: tuple[str, str], accuracy: float) -> list[int | None]:
        """For each seed, the first epoch at which the test accuracy reaches a fraction."""
        reached = self.curves[key]["test_accuracy"] >= accuracy
        return [int(row.argmax()) + 1 if row.any() else None for row in reached]


def run(setting: Setting) -> Reproduction:
    """Train with each activation, rate and seed."""
    seeds = range(2 if setting.quick else SEEDS)
    epochs = 1 if setting.quick else EPOCHS
    settings = [
        {"activation": activation, "lr": lr, "momentum": momentum, "seed": seed}
        for activation in ACTIVATIONS
        for lr, momentum in RATES.values()
        for seed in seeds
    ]
    base = Recipe(epochs=epochs, batch_size=BATCH, validation=0)
    results = sweep(setting.train, settings, test=setting.test, base=base)
    trials = sorted(setting.counted(results, len(settings)), key=lambda trial: trial.number)
    curves = {
        key: {
            name: np.array([_column(trial.epochs, name, epochs) for trial in own])
            for name in (*COLUMNS, "seconds")
        }
        for key, own in shared(list(product(ACTIVATIONS, RATES)), trials).items()
    }
    return Reproduction(curves, len(setting.train), _time_loops(setting))


def _time_loops(setting: Setting) -> float:
    """Seconds per image of the report's nested loops, with correct gradients."""
    some = setting.train.subset(slice(0, LOOPED))
    model = report_cnn(seed=0, num_classes=len(some.classes))
    model.preprocessing = some.preprocessing
    _, seconds = timed(partial(gradients, model, some.images, some.labels, backend="reference"))
    return seconds / len(some)


def _column(records: Sequence[dict[str, Any]], name: str, epochs: int) -> list[float]:
    """A column of a training; NaN from the point of divergence on."""
    values = [float(record[name]) for record in records]
    return values + [float("nan")] * (epochs - len(values))


def section(result: Reproduction) -> Section:
    """The experiment in words, a table and a figure."""
    rows, findings = [], []
    for activation in ACTIVATIONS:
        for rate, (lr, momentum) in RATES.items():
            key = (activation, rate)
            final = {name: 100 * result.curves[key][name][:, -1] for name in COLUMNS}
            rows.append(
                (
                    NAMES[activation],
                    f"{lr:g}" + (f", {momentum:g}" if momentum else ""),
                    f"{spread(final['train_accuracy'])} / {STATED[activation][0]:.2f}",
                    f"{spread(final['test_accuracy'])} / {STATED[activation][1]:.2f}",
                    *(_epochs(result.epochs_to(key, share)) for share in (0.95, 0.99)),
                    f"{np.nanmedian(result.curves[key]['seconds']):.3f}",
                )
            )
        findings.append(_finding(result, activation))
    findings.append(_on_time(result))
    return Section(
        name="reproduction",
        title=Text("The report's network, reproduced", "复现报告中的网络"),
        findings=findings,
        tables=[
            Table(
                header=[
                    Text("FC activation", "全连接层激活函数"),
                    Text("learning rate, momentum", "学习率、动量"),
                    Text("train accuracy / report's, %", "训练准确率 / 报告值（%）"),
                    Text("test accuracy / report's, %", "测试准确率 / 报告值（%）"),
                    Text("epochs to 95 %", "达到 95 % 所需轮数"),
                    Text("epochs to 99 %", "达到 99 % 所需轮数"),
                    Text("time per epoch, s", "每轮用时（秒）"),
                ],
                rows=rows,
                caption=Text(
                    f"After {result.curves['relu', 'fair']['seconds'].shape[1]} epochs of batches "
                    f"of {BATCH}: mean over {result.seeds} seeds (least to largest). Training "
                    "accuracy is that of the epoch's batches, each before its update. Epochs to "
                    "95 and 99 % of the test images, and time: medians; in brackets how many seeds "
                    "get there, if not all do; -: none.",
                    f"每批 {BATCH} 张，训练 {result.curves['relu', 'fair']['seconds'].shape[1]} 轮"
                    f"（epoch）之后：{result.seeds} 个种子的平均值（最小值-最大值）。"
                    "训练准确率为该轮各批次在参数更新前的准确率的平均值。"
                    "测试准确率达到 95 % 和 99 % 所需的轮数以及用时均为中位数；"
                    "并非所有种子都达到时，括号内为达到的种子数；- 表示均未达到。",
                ),
            )
        ],
        figures=[
            Figure(
                "reproduction-curves",
                lambda: curves_figure(result),
                Text(
                    f"The four curves: mean over {result.seeds} seeds, and the range of all of "
                    "them. Losses are drawn on a logarithmic scale.",
                    f"四条曲线：{result.seeds} 个种子的平均值与范围。损失采用对数刻度。",
                ),
            )
        ],
    )


def _on_time(result: Reproduction) -> Text:
    """Time per epoch, and that of the loops; the report only says that sigmoid took longer."""
    sigmoid, relu = (
        float(np.nanmedian([result.curves[activation, rate]["seconds"] for rate in RATES]))
        for activation in ACTIVATIONS
    )
    minutes = result.images * result.looped / 60
    return Text(
        f"An epoch of {result.images:,} images takes {sigmoid:.3f} s with sigmoid and {relu:.3f} s "
        "with ReLU, on one core, with a training on each other core. Nested loops in Python, "
        f"as the report has them, would take {counted(round(minutes), 'minute')} (computed from "
        f"{1000 * result.looped:.0f} ms for an image). The report states that an epoch with "
        "sigmoid took about half a minute longer.",
        f"在单核上（其余各核同时进行其他训练），训练一轮（{result.images:,} 张图像）使用 sigmoid "
        f"需 {sigmoid:.3f} 秒，使用 ReLU 需 {relu:.3f} 秒。"
        f"若像报告那样用 Python 嵌套循环，每轮约需 {minutes:.0f} 分钟"
        f"（由每张图像 {1000 * result.looped:.0f} 毫秒推算）。"
        "报告只提到使用 sigmoid 时每轮大约多花半分钟。",
    )


def _finding(result: Reproduction, activation: str) -> Text:
    """Accuracy with correct gradients, and that stated in the report."""
    stated = STATED[activation][1]
    values = {rate: 100 * result.curves[activation, rate]["test_accuracy"][:, -1] for rate in RATES}
    report, fair = (float(np.nanmean(values[rate])) for rate in RATES)
    name = NAMES[activation]
    above = np.nanmin(values["fair"]) > stated
    verdict = ("above", "也高于") if above else ("not above", "不高于")
    return Text(
        f"{name}: {report:.2f} % of the test images are right at the report's learning rate, "
        f"{fair:.2f} % at a fair one; the worst seed of these is {verdict[0]} the report's "
        f"{stated:.2f} %.",
        f"{name}：采用报告的学习率时测试准确率为 {report:.2f} %，采用合适的学习率时为 "
        f"{fair:.2f} %；后者最差的种子{verdict[1]}报告的 {stated:.2f} %。",
    )


def _epochs(reached: Sequence[int | None]) -> str:
    """The median epoch, and the number of seeds that reach it if not all do."""
    known = [epoch for epoch in reached if epoch is not None]
    if not known:
        return "-"
    some = f" ({len(known)} / {len(reached)})" if len(known) < len(reached) else ""
    return f"{float(np.median(known)):g}{some}"


def curves_figure(result: Reproduction) -> Any:
    """Training and test loss and accuracy, one row per activation."""
    figure = new_figure(9.0, 5.4)
    panels = figure.subplots(len(ACTIVATIONS), 4, sharex=True)
    for row, activation in zip(panels, ACTIVATIONS, strict=True):
        for axes, column in zip(row, COLUMNS, strict=True):
            part, kind = column.split("_")
            scale = 100.0 if kind == "accuracy" else 1.0
            colour = TRAIN_COLOUR if part == "train" else TEST_COLOUR
            for rate, line in (("report", "--"), ("fair", "-")):
                values = scale * result.curves[activation, rate][column].T
                epochs = range(1, len(values) + 1)
                draw_spread(axes, epochs, values, colour, line=line)
            if kind == "accuracy":
                axes.axhline(STATED[activation][part == "test"], color="grey", linestyle=":")
                axes.set_ylim(top=100.5)
            else:
                axes.set_yscale("log")
            axes.set_title(f"{NAMES[activation]}: {part} {kind}", loc="left", fontsize=9)
            axes.set_ylabel(
                "accuracy (%)" if kind == "accuracy" else "cross-entropy (nats)", fontsize=8
            )
            style_axes(axes)
            axes.set_xticks(epochs)
    for axes in panels[-1]:
        axes.set_xlabel("epoch", fontsize=8)
    (report, _), (fair, momentum) = RATES.values()
    lines = {
        f"the report's learning rate {report:g}": "--",
        f"a fair one: {fair:g}, momentum {momentum:g}": "-",
        "final accuracy that the report states": ":",
    }
    grey = {name: {"color": "grey", "linestyle": line} for name, line in lines.items()}
    draw_legend(figure, grey)
    return figure

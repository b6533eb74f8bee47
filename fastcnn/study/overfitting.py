"""Experiment: fewer training images, remedies, and a network without convolutions."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.data.augment import PRESETS
from fastcnn.study.drawing import draw_legend, draw_spread, style_axes
from fastcnn.study.networks import Network
from fastcnn.study.section import Figure, Section, Table, Text
from fastcnn.study.setting import Setting, shared
from fastcnn.study.trajectory import Training, Trajectory, follow, log_steps
from fastcnn.training.figure import TEST_COLOUR, TRAIN_COLOUR, new_figure

#: Steps of each training, regardless of its number of images.
STEPS = 500
SIZES = (50, 100, 200, 500, 1000, 2000, 5000)
SEEDS = (0, 1, 2)
LR, MOMENTUM = 0.02, 0.9
DROPOUT, WEIGHT_DECAY = 0.5, 0.005
#: The variants; all but "dense" are the report's network with ReLU.
VARIANTS = {
    "cnn": Text("CNN", "CNN"),
    "dropout": Text("CNN, dropout", "CNN，dropout"),
    "decay": Text("CNN, weight decay", "CNN，权重衰减"),
    "augment": Text("CNN, augmentation", "CNN，数据增强"),
    "dense": Text("fully connected", "全连接"),
}
COLOURS = {
    "cnn": "#0072B2",
    "dropout": "#E69F00",
    "decay": "#CC79A7",
    "augment": "#009E73",
    "dense": "#D55E00",
}
#: Losses below this, at the limit of single precision, are drawn at this value.
LEAST_LOSS = 2e-7
#: Largest number of images for which remedies are judged.
FEW = 500


@dataclass(frozen=True)
class OverfittingResult:
    """Results of the runs.

    Attributes
    ----------
    sizes : tuple of int
        Numbers of training images.
    parameters : dict
        Numbers of parameters of "cnn" and "dense".
    runs : dict
        Trajectories, one for each seed, by variant and number of images.
    """

    sizes: tuple[int, ...]
    parameters: dict[str, int]
    runs: dict[tuple[str, int], list[Trajectory]]

    @property
    def steps(self) -> int:
        """Steps of each training."""
        return next(iter(self.runs.values()))[0].training.steps

    def final(self, variant: str, name: str) -> np.ndarray:
        """:meth:`~fastcnn.study.trajectory.Trajectory.final` of all, shape (sizes, seeds)."""
        runs = [self.runs[variant, size] for size in self.sizes]
        return np.array([[one.final(name) for one in of_size] for of_size in runs])

    def gap(self, variant: str) -> np.ndarray:
        """Test loss minus training loss in nats, shape (sizes, seeds)."""
        return self.final(variant, "test_loss") - self.final(variant, "train_loss")

    def errors(self, variant: str) -> np.ndarray:
        """Test errors in percent, shape (sizes, seeds)."""
        return 100.0 * (1.0 - self.final(variant, "test_accuracy"))


def run(setting: Setting) -> OverfittingResult:
    """Train each variant on each number of images with each seed."""
    steps = setting.steps(STEPS)
    everything = len(setting.train)
    sizes = (*(size for size in SIZES if size < everything), everything)
    keys = [(variant, size) for variant in VARIANTS for size in sizes]
    found = setting.run(
        follow, [_training(variant, size, steps, seed) for variant, size in keys for seed in SEEDS]
    )
    runs = shared(keys, found)
    parameters = {
        name: _network(name).build(len(setting.train.classes), 0).parameter_vector.size
        for name in ("cnn", "dense")
    }
    return OverfittingResult(sizes, parameters, runs)


def _network(variant: str) -> Network:
    return Network(
        dropout=DROPOUT if variant == "dropout" else 0.0, convolutions=variant != "dense"
    )


def _training(variant: str, images: int, steps: int, seed: int) -> Training:
    return Training(
        _network(variant),
        LR,
        steps,
        images,
        momentum=MOMENTUM,
        seed=seed,
        weight_decay=WEIGHT_DECAY if variant == "decay" else 0.0,
        augment=PRESETS["digits"] if variant == "augment" else None,
        evaluated_at=log_steps(steps, 8),
    )


def section(result: OverfittingResult) -> Section:
    """The experiment in words, a table and a figure."""
    sizes = [f"{size:,}" for size in result.sizes]
    return Section(
        name="overfitting",
        title=Text("Overfitting", "过拟合"),
        findings=[_on_size(result), *_on_remedies(result), *_on_convolutions(result)],
        tables=[
            Table(
                header=[
                    Text("test errors (%)", "测试错误率（%）"),
                    *(Text(size, size) for size in sizes),
                ],
                rows=[
                    (
                        VARIANTS[variant],
                        *(f"{value:.2f}" for value in result.errors(variant).mean(axis=1)),
                    )
                    for variant in VARIANTS
                ],
                caption=Text(
                    f"Mean of {len(SEEDS)} seeds by number of training images.",
                    f"各列为训练图像的数量；{len(SEEDS)} 个种子的平均值。",
                ),
            )
        ],
        figures=[
            Figure(
                "overfitting-gap",
                lambda: gap_figure(result),
                Text(
                    f"Loss after {result.steps} steps, mean and range of {len(SEEDS)} seeds, "
                    "and the test errors. Each seed draws its own images; all runs take "
                    "the same number of steps. Both axes are logarithmic; losses below 2e-7 "
                    "are drawn there.",
                    f"训练 {result.steps} 步后的损失（{len(SEEDS)} 个种子的平均与范围）"
                    "以及测试错误率。每个种子抽取不同的图像，所有训练的步数相同。"
                    "两轴均为对数刻度；小于 2e-7 的损失按 2e-7 画出。",
                ),
            )
        ],
    )


def _on_size(result: OverfittingResult) -> Text:
    few, many = result.sizes[0], result.sizes[-1]
    gap, errors = result.gap("cnn").mean(axis=1), result.errors("cnn").mean(axis=1)

    def turns_up(one: Trajectory) -> bool:
        return one.scores[-1].test_loss > 1.2 * min(scores.test_loss for scores in one.scores)

    runs = {size: [one for one in result.runs["cnn", size] if one.scores] for size in result.sizes}
    turned = [size for size, own in runs.items() if np.mean(list(map(turns_up, own))) > 0.5]
    en = f"the test loss has turned up again for {', '.join(f'{size:,}' for size in turned)} images"
    zh = f"图像数为 {'、'.join(f'{size:,}' for size in turned)} 时又回升"
    return Text(
        f"The report's network on {few:,} images: {errors[0]:.2f} % test errors, and a test loss "
        f"{gap[0]:.3f} nats above the training loss; on {many:,}: {errors[-1]:.2f} % and "
        f"{gap[-1]:.3f}. By the end of the training "
        + (
            f"{en}, by more than a fifth of its least."
            if turned
            else "the test loss has not turned up by a fifth at any size."
        ),
        f"报告的网络在 {few:,} 张图像上：测试错误率 {errors[0]:.2f} %，测试损失比训练损失高 "
        f"{gap[0]:.3f} nat；在 {many:,} 张图像上：{errors[-1]:.2f} % 和 {gap[-1]:.3f}。训练结束时，"
        + (
            f"测试损失在{zh}，超过其最小值的五分之一。"
            if turned
            else "任何图像数下测试损失的回升都不超过五分之一。"
        ),
    )


def _on_remedies(result: OverfittingResult) -> list[Text]:
    few = [index for index, size in enumerate(result.sizes) if size <= FEW]
    plain = result.errors("cnn")
    found = []
    for remedy in ("dropout", "decay", "augment"):
        with_it = result.errors(remedy)
        a, b = float(plain[few].mean()), float(with_it[few].mean())
        better = int((with_it[few] < plain[few]).sum())
        last, first = float(with_it[-1].mean()), float(plain[-1].mean())
        gap, without = float(result.gap(remedy)[few].mean()), float(result.gap("cnn")[few].mean())
        name = VARIANTS[remedy]
        found.append(
            Text(
                f"{name.en}: {b:.2f} % test errors instead of {a:.2f} % on up to {FEW} images "
                f"(fewer in {better} of {plain[few].size} pairs of runs), gap {gap:.3f} instead of "
                f"{without:.3f} nats; on all images {last:.2f} % instead of {first:.2f} %.",
                f"{name.zh}：训练图像不超过 {FEW} 张时，测试错误率由 {a:.2f} % 变为 {b:.2f} %"
                f"（{plain[few].size} 对训练中有 {better} 对更低），损失差距由 {without:.3f} 变为 "
                f"{gap:.3f} nat；使用全部图像时，错误率由 {first:.2f} % 变为 {last:.2f} %。",
            )
        )
    return found


def _on_convolutions(result: OverfittingResult) -> list[Text]:
    """The report: locality and pooling keep a CNN from overfitting."""
    fewer = result.errors("cnn") < result.errors("dense")
    smaller = result.gap("cnn") < result.gap("dense")
    errors = [float(result.errors(name).mean()) for name in ("cnn", "dense")]
    worse = [
        f"{size:,}" for size, row in zip(result.sizes, smaller, strict=True) if row.mean() < 0.5
    ]
    share_errors, share_gap = float(fewer.mean()), float(smaller.mean())
    if min(share_errors, share_gap) >= 0.9:
        en, zh = "The claim that a CNN overfits less holds here", "CNN 更不易过拟合的说法在此成立"
    elif share_errors >= 0.7 and share_gap >= 0.5:
        en = "The claim that a CNN overfits less holds for most sizes, not for all"
        zh = "CNN 更不易过拟合的说法在大多数情况下成立，但并非总是如此"
    else:
        en, zh = (
            "The claim that a CNN overfits less is not borne out",
            "CNN 更不易过拟合的说法未得到证实",
        )
    where = f" (the gap is no smaller for {', '.join(worse)} images)" if worse else ""
    ort = f"（图像数为 {'、'.join(worse)} 时差距没有变小）" if worse else ""
    return [
        Text(
            f"{en}: against a fully connected network of {result.parameters['dense']:,} parameters "
            f"(the CNN has {result.parameters['cnn']:,}), on the same images, the CNN makes fewer "
            f"test errors in {fewer.sum()} of {fewer.size} pairs of runs ({errors[0]:.2f} % "
            f"instead of {errors[1]:.2f} % on average) and has the smaller gap in "
            f"{smaller.sum()}{where}.",
            f"{zh}：与参数量为 {result.parameters['dense']:,} 的全连接网络相比（CNN 为 "
            f"{result.parameters['cnn']:,}），在相同图像上，{fewer.size} 对训练中 CNN 有 "
            f"{fewer.sum()} 对测试错误更少（平均 {errors[0]:.2f} %，"
            f"全连接网络 {errors[1]:.2f} %），有"
            f" {smaller.sum()} 对损失差距更小{ort}。",
        )
    ]


def gap_figure(result: OverfittingResult) -> Any:
    """Training and test loss, and test error, over the number of training images."""
    figure = new_figure(9.0, 5.4)
    panels = figure.subplots(2, 3).ravel()
    for axes, (variant, name) in zip(panels, VARIANTS.items(), strict=False):
        for split, colour in (("train", TRAIN_COLOUR), ("test", TEST_COLOUR)):
            losses = np.maximum(result.final(variant, f"{split}_loss"), LEAST_LOSS)
            draw_spread(axes, result.sizes, losses, colour)
        axes.set_title(name.en, loc="left", fontsize=9)
        axes.set_yscale("log")
        axes.set_ylim(1e-7, 2.0)
    errors = panels[5]
    for variant, colour in COLOURS.items():
        draw_spread(errors, result.sizes, result.errors(variant), colour, band=False)
    errors.set_yscale("log")
    errors.set_title("test errors (%)", loc="left", fontsize=9)
    for axes in panels:
        axes.set_xscale("log")
        style_axes(axes)
        axes.minorticks_off()
    low, high = errors.get_ylim()
    ticks = [tick for tick in (0.2, 0.5, 1, 2, 5, 10, 20) if low < tick < high]
    errors.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    draw_legend(
        panels[0], {"training": TRAIN_COLOUR, "test": TEST_COLOUR}, loc="lower right", ncols=1
    )
    draw_legend(
        errors,
        {VARIANTS[key].en: colour for key, colour in COLOURS.items()},
        loc="upper right",
        ncols=1,
    )
    for axes in (panels[0], panels[3]):
        axes.set_ylabel("cross-entropy (nats)", fontsize=9)
    figure.supxlabel("training images", fontsize=9)
    return figure

"""A look into one trained network: its mistakes, filters, and the maps of an image."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.analysis.figures import mistakes_figure
from fastcnn.analysis.metrics import confusion_matrix
from fastcnn.backends import im2col
from fastcnn.data.dataset import Dataset
from fastcnn.execution.parts import run_forward
from fastcnn.models import report_cnn
from fastcnn.study.drawing import draw_bar, draw_heat_map
from fastcnn.study.networks import NAMES
from fastcnn.study.section import Figure, Section, Text
from fastcnn.study.setting import Setting
from fastcnn.training.figure import new_figure
from fastcnn.training.fit import fit

EPOCHS = 5
#: The last one is examined.
ACTIVATIONS = ("sigmoid", "relu")
#: Nodes whose feature maps are shown.
SHOWN = ("relu1", "pool1", "relu2", "pool2")


@dataclass(frozen=True)
class Gallery:
    """A trained network's outputs.

    Attributes
    ----------
    probabilities : ndarray, shape (N, classes)
    confusions : dict of str to ndarray, shape (classes, classes)
        Counts by true and predicted class, of the network with each activation.
    filters : ndarray, shape (channels, 3, 3)
        Weight of the first convolution.
    image : ndarray, shape (H, W)
    maps : dict of str to ndarray, shape (channels, H, W)
        Outputs of :data:`SHOWN` for the image.
    """

    test: Dataset
    probabilities: np.ndarray
    confusions: dict[str, np.ndarray]
    filters: np.ndarray
    image: np.ndarray
    maps: dict[str, np.ndarray]


def run(setting: Setting) -> Gallery:
    """Train the report's networks, and examine the one with ReLU."""
    train, test = setting.train, setting.test
    epochs = 1 if setting.quick else EPOCHS
    classes = len(train.classes)
    confusions = {}
    for activation in ACTIVATIONS:
        model = report_cnn(activation, seed=0, num_classes=classes)
        fit(model, train, None, epochs=epochs, diagnose=False)
        probabilities = model.predict_proba(test.images)
        confusions[activation] = confusion_matrix(
            test.labels, probabilities.argmax(axis=1), classes
        )
    first = int(np.flatnonzero(test.labels == 2)[0])
    graph = model.graph()
    x = model.preprocessing.apply(test.images[first : first + 1])
    outputs = run_forward(graph, model.state_dict(), x, im2col)
    maps = {
        node.name: output[0]
        for node, output in zip(graph.nodes, outputs, strict=True)
        if node.name in SHOWN
    }
    filters = model.state_dict()["conv1.weight"][:, 0].copy()
    return Gallery(test, probabilities, confusions, filters, test.images[first, 0], maps)


def section(result: Gallery) -> Section:
    """The network in words and figures."""
    confusion = result.confusions["relu"]
    wrong = int(confusion.sum() - np.trace(confusion))
    off = confusion - np.diag(np.diag(confusion))
    true, found = np.unravel_index(int(off.argmax()), off.shape)
    names = result.test.classes
    zeros = ", ".join(f"{name} {100 * np.mean(m == 0):.0f} %" for name, m in result.maps.items())
    return Section(
        name="gallery",
        title=Text("Inside a trained network", "训练好的网络里有什么"),
        findings=[
            Text(
                f"With ReLU, {wrong} of {len(result.test):,} test images are wrong; the most "
                f"frequent mistake is a {names[true]} taken for a {names[found]} ({off.max()} "
                "times).",
                f"使用 ReLU 时，{len(result.test):,} 张测试图像中有 {wrong} 张识别错误；"
                f"最常见的错误是把 {names[true]} 认作 {names[found]}（{off.max()} 次）。",
            ),
            Text(
                f"Zeros in the maps of the image shown: {zeros}.",
                f"下图所示图像的各层特征图中，零所占的比例：{zeros}。",
            ),
        ],
        figures=[
            Figure(
                "gallery-confusion",
                lambda: confusions_figure(result),
                Text(
                    f"Test images by true and predicted digit, after {EPOCHS} epochs, by the "
                    "activation of the fully connected layers.",
                    f"训练 {EPOCHS} 轮后测试图像的混淆矩阵，每种全连接层激活函数一个。",
                ),
            ),
            Figure(
                "gallery-filters",
                lambda: filters_figure(result.filters),
                Text(
                    "The four 3x3 filters of the first convolution with their weights; purple is "
                    "positive, orange negative.",
                    "第一个卷积层的四个 3×3 滤波器及其权重；紫色为正，橙色为负。",
                ),
            ),
            Figure(
                "gallery-maps",
                lambda: maps_figure(result),
                Text(
                    "One test image through the layers: after each rectifier and each pooling, "
                    "every map on its own scale from 0.",
                    "一张测试图像经过各层后的特征图（每个 ReLU 和每个池化层之后）；"
                    "每幅图的颜色从 0 到它自身的最大值。",
                ),
            ),
            Figure(
                "gallery-mistakes",
                lambda: mistakes_figure(result.test, result.probabilities),
                Text(
                    "The worst mistakes of the network with ReLU, with its confidence in percent.",
                    "使用 ReLU 的网络错得最厉害的图像，百分数为它的置信度。",
                ),
            ),
        ],
    )


def confusions_figure(result: Gallery) -> Any:
    """A confusion matrix per activation: colours show shares of the true class."""
    figure = new_figure(9.0, 3.6)
    panels = figure.subplots(1, len(result.confusions), sharey=True)
    for axes, (activation, confusion) in zip(panels, result.confusions.items(), strict=True):
        share = 100.0 * confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
        picture = draw_heat_map(
            axes,
            share,
            [[f"{count:,}" for count in row] for row in confusion],
            result.test.classes,
            result.test.classes,
            span=(0.0, 100.0),
            fontsize=9.0,
        )
        wrong = int(confusion.sum() - np.trace(confusion))
        axes.set_title(f"FC {NAMES[activation]}: {wrong} wrong", loc="left", fontsize=9)
        axes.set_xlabel("predicted digit", fontsize=9)
    panels[0].set_ylabel("true digit", fontsize=9)
    draw_bar(figure, picture, "share of the true digit (%)", ax=panels)
    return figure


def filters_figure(filters: np.ndarray) -> Any:
    """The filters side by side, with their weights."""
    figure = new_figure(9.0, 2.5)
    most = float(np.abs(filters).max())
    for index, (axes, weights) in enumerate(
        zip(figure.subplots(1, len(filters)), filters, strict=True)
    ):
        axes.imshow(weights, cmap="PuOr", vmin=-most, vmax=most)
        for (row, column), weight in np.ndenumerate(weights):
            ink = "white" if abs(weight) > 0.6 * most else "black"
            axes.text(column, row, f"{weight:.2f}", ha="center", va="center", fontsize=8, color=ink)
        axes.set_title(f"filter {index + 1}", fontsize=9)
        axes.set_axis_off()
    return figure


def maps_figure(result: Gallery) -> Any:
    """A row for each layer, a column for each channel."""
    columns = max(len(maps) for maps in result.maps.values())
    figure = new_figure(9.0, 6.0)
    panels = figure.subplots(1 + len(result.maps), columns)
    rows = [("image", result.image[None]), *result.maps.items()]
    for line, (name, maps) in zip(panels, rows, strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, values in zip(line, maps, strict=False):
            axes.imshow(values, cmap="cividis", vmin=0)
        line[0].set_title(f"{name}, {maps.shape[1]}x{maps.shape[2]}", fontsize=9, loc="left")
    return figure

"""Figures of data sets and of a model's results."""

from typing import Any

import numpy as np

from fastcnn.data.dataset import Dataset
from fastcnn.errors import counted
from fastcnn.training.figure import literal, new_figure


def confusion_figure(confusion: np.ndarray, classes: tuple[str, ...]) -> Any:
    """The confusion matrix: colours show shares of the true class, numbers are counts."""
    size = max(3.6, 0.55 * len(classes) + 1.8)
    figure = new_figure(size + 0.8, size)
    axes = figure.subplots()
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), count in np.ndenumerate(confusion):
        if count:
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    ticks = range(len(classes))
    names = [literal(name) for name in classes]
    axes.set_xticks(ticks, names, rotation=45 if max(map(len, classes)) > 3 else 0)
    axes.set_yticks(ticks, names)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    figure.colorbar(picture, label="share of the true class", shrink=0.85)
    return figure


def mistakes_figure(data: Dataset, probabilities: np.ndarray, most: int = 24) -> Any:
    """The misclassified images with the highest confidence."""
    predictions = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predictions != data.labels)
    wrong = wrong[np.argsort(-probabilities[wrong, predictions[wrong]])][:most]
    captions = [
        f"{data.classes[data.labels[i]]} taken for {data.classes[predictions[i]]}\n"
        f"{100 * probabilities[i, predictions[i]]:.1f} %"
        for i in wrong
    ]
    return _grid(data, wrong, captions, "Surest mistakes" if len(wrong) else "No mistakes")


def samples_figure(data: Dataset, count: int = 60, seed: int = 0) -> Any:
    """Some images of a data set with their classes."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(data), size=min(count, len(data)), replace=False)
    chosen = chosen[np.argsort(data.labels[chosen], kind="stable")]
    captions = [data.classes[data.labels[i]] for i in chosen]
    return _grid(data, chosen, captions, f"{data.name}: {counted(len(data), 'image')}")


def _grid(data: Dataset, indices: np.ndarray, captions: list[str], title: str) -> Any:
    columns = 12 if all(len(text) < 4 for text in captions) else 6
    rows = max(1, -(-len(indices) // columns))
    figure = new_figure(9.0, 0.5 + rows * (9.0 / columns + (0.25 if columns == 12 else 0.4)))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.suptitle(literal(title), fontsize=11)
    for axes in panels:
        axes.set_axis_off()
    for axes, index, caption in zip(panels, indices, captions, strict=False):
        image = data.images[index]
        picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        axes.imshow(picture, cmap="gray", interpolation="nearest")
        axes.set_title(literal(caption), fontsize=8)
    return figure

"""Explanations of predictions: which parts of a picture they depend on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.arguments import as_count, as_number, plain_array
from fastcnn.backends import get_backend
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.execution.checks import as_batch
from fastcnn.execution.input_gradients import Objective, gradient_at, input_gradient
from fastcnn.execution.layer_outputs import layer_place
from fastcnn.layers import Model
from fastcnn.layers.connections import as_model
from fastcnn.losses import Loss
from fastcnn.notebook import brief
from fastcnn.scalars import plain
from fastcnn.training.figure import TRAIN_COLOUR, literal, new_figure

#: Number of classes whose probabilities a figure shows.
SHOWN = 6


def saliency(model: Model, x: Any, y: Any = None, *, backend: str | None = None) -> np.ndarray:
    """Magnitude of the gradient of a class's logit for each pixel, maximum over channels.

    Parameters
    ----------
    model : Model
    x : array_like, shape (N, C, H, W)
    y : array_like of int, shape (N,), optional
        Classes; by default the most probable one of each picture.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, H, W)
        In the units of :func:`fastcnn.input_gradient`.

    References
    ----------
    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", arXiv:1312.6034.
    """
    _check_maps(model, x)
    found = input_gradient(model, x, y, of="logit", backend=backend)
    return np.abs(found).max(axis=1)


def grad_cam(
    model: Model, x: Any, y: Any = None, *, layer: str | None = None, backend: str = "im2col"
) -> np.ndarray:
    """Grad-CAM: where the maps of a layer support a class.

    The layer's maps, each weighted by the mean of the logit's gradient over it, summed, rectified,
    and interpolated to the size of the picture.

    Parameters
    ----------
    model : Model
    x : array_like, shape (N, C, H, W)
    y : array_like of int, shape (N,), optional
        Classes; by default the most probable one of each picture.
    layer : str, optional
        By default the last with output maps of more than one pixel.
    backend : {"im2col", "reference"}
        The engine does not keep the gradients of layers.

    Returns
    -------
    ndarray, shape (N, H, W)
        Non-negative; all zeros if nothing supports the class.

    Raises
    ------
    ConfigurationError
        If there is no such layer, or its outputs are not maps.

    References
    ----------
    Selvaraju et al., "Grad-CAM", arXiv:1610.02391.
    """
    x = _check_maps(model, x)
    graph = model.graph(x.shape[1:])
    if layer is None:
        layer = _last_maps(model, x)
    place = layer_place(graph, layer)
    if len(graph.nodes[place].output_shape) != 3:
        raise ConfigurationError(
            f"grad_cam: the output of layer {layer!r} has shape {graph.nodes[place].output_shape}, "
            "not (C, H, W)"
        )
    if backend == "lanes":
        raise ConfigurationError("grad_cam: backend must be im2col or reference")
    objective = Objective(model, graph, y, "logit", None)
    _, gradient, maps = gradient_at(model, x, graph, objective, place, backend)
    weights = gradient.mean(axis=(2, 3), keepdims=True)
    found = np.maximum((weights * maps).sum(axis=1, keepdims=True), 0.0).astype(np.float64)
    resized: np.ndarray = get_backend("im2col").interpolate(found, x.shape[2:], None, "bilinear")
    return resized[:, 0]


def occlusion(
    model: Model,
    x: Any,
    y: Any = None,
    *,
    size: int | None = None,
    stride: int | None = None,
    value: float | None = None,
    backend: str | None = None,
) -> np.ndarray:
    """Decrease of a class's probability when a square of the picture is covered.

    Parameters
    ----------
    model : Model
    x : array_like, shape (N, C, H, W)
    y : array_like of int, shape (N,), optional
        Classes; by default the most probable one of each picture.
    size : int, optional
        Side of the square; by default about a sixth of the picture's side.
    stride : int, optional
        Pixels between squares; by default half of the side.
    value : float, optional
        Value of the covering square, in the units of ``x``; by default each channel's mean over the
        picture.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, H, W)
        At each pixel, the mean over the squares that cover it; negative where covering helps.

    References
    ----------
    Zeiler and Fergus, "Visualizing and understanding convolutional networks", arXiv:1311.2901.
    """
    x = _check_maps(model, x)
    height, width = x.shape[2:]
    size = max(1, round(min(height, width) / 6)) if size is None else size
    size = as_count("occlusion", "size", size)
    stride = as_count("occlusion", "stride", max(1, size // 2) if stride is None else stride)
    if value is not None:
        value = as_number("occlusion", "value", value)
        if x.dtype == np.uint8 and not 0.0 <= value <= 255.0:
            raise ConfigurationError(f"occlusion: value must lie in 0..255, got {value!r}")
    if size > min(height, width) or stride > size:
        raise ConfigurationError(
            f"occlusion: size must be at most {min(height, width)} and stride at most size, got "
            f"{size} and {stride}"
        )
    places = [
        (top, left)
        for top in _starts(height, size, stride)
        for left in _starts(width, size, stride)
    ]
    maps = np.zeros((len(x), height, width))
    graph = model.graph(x.shape[1:])
    objective = Objective(model, graph, y, "logit", None)
    logits = model.logits(x, backend=backend)
    classes = objective.classes(logits)
    softmax = get_backend("im2col").softmax
    before = softmax(logits, 1)
    for index, (picture, label) in enumerate(zip(x, classes, strict=True)):
        cover = picture.mean(axis=(1, 2), keepdims=True) if value is None else value
        covered = np.repeat(picture[None], len(places), axis=0)
        for each, (top, left) in zip(covered, places, strict=True):
            each[:, top : top + size, left : left + size] = cover
        falls = before[index, label] - softmax(model.logits(covered, backend=backend), 1)[:, label]
        counts = np.zeros((height, width))
        for fall, (top, left) in zip(falls, places, strict=True):
            maps[index, top : top + size, left : left + size] += fall
            counts[top : top + size, left : left + size] += 1
        maps[index] /= counts
    return maps


def fgsm(
    model: Model,
    x: Any,
    y: Any,
    epsilon: float,
    *,
    bounds: tuple[float, float] | None = None,
    loss: Loss | None = None,
    backend: str | None = None,
) -> np.ndarray:
    """Adversarial examples: one step of fixed size along the sign of the loss's gradient.

    Parameters
    ----------
    model : Model
    x : array_like, shape (N, ...)
    y : array_like
        Their true classes or targets.
    epsilon : float
        Change of each pixel, in the units of ``x``: for bytes, in grey levels out of 255.
    bounds : (float, float), optional
        Least and largest value of a pixel; by default 0 and 255 for bytes, none for others.
    loss : Loss, optional
        By default cross-entropy.
    backend : str, optional

    Returns
    -------
    ndarray, shape (N, ...)
        In the type of ``x``; bytes are rounded.

    References
    ----------
    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples",
    arXiv:1412.6572.
    """
    if (epsilon := as_number("fgsm", "epsilon", epsilon)) < 0.0:
        raise ConfigurationError(f"fgsm: epsilon must be a number of at least 0, got {epsilon!r}")
    if (bounds := plain(bounds)) is not None:
        pair = isinstance(bounds, (tuple, list)) and len(bounds) == 2
        low, high = (as_number("fgsm", "bounds", each) for each in bounds) if pair else (1.0, 0.0)
        if low > high:
            raise ConfigurationError(
                f"fgsm: bounds must be the least and the largest value, got {bounds!r}"
            )
    if as_model(model).takes > 1:
        raise ShapeError("fgsm: the model has several inputs")
    x = as_batch(model, x)
    slope = np.sign(input_gradient(model, x, y, of="loss", loss=loss, backend=backend))
    moved = x.astype(np.result_type(np.float32, x.dtype)) + epsilon * slope
    is_bytes = x.dtype == np.uint8
    if bounds is None and is_bytes:
        bounds = (0, 255)
    if bounds is not None:
        moved = np.clip(moved, *bounds)
    return (np.rint(moved) if is_bytes else moved).astype(x.dtype)


@dataclass(frozen=True)
class Explanation:
    """A network's prediction for one picture, and its explanation.

    Attributes
    ----------
    picture : ndarray, shape (C, H, W)
    label : int
        The class that is explained.
    probabilities : ndarray, shape (classes,)
    saliency, grad_cam, occlusion : ndarray, shape (H, W)
    layer : str
        The layer of Grad-CAM.
    """

    picture: np.ndarray
    label: int
    probabilities: np.ndarray
    saliency: np.ndarray
    grad_cam: np.ndarray
    occlusion: np.ndarray
    layer: str

    __repr__ = brief


def explain(
    model: Model,
    picture: Any,
    label: int | None = None,
    *,
    layer: str | None = None,
    backend: str | None = None,
) -> Explanation:
    """Explain one picture: :func:`saliency`, :func:`grad_cam` and :func:`occlusion` of a class.

    Parameters
    ----------
    model : Model
    picture : array_like, shape (C, H, W)
    label : int, optional
        The class; by default the most probable one.
    layer : str, optional
        The layer of Grad-CAM, by default the last that has maps.
    backend : str, optional
        Backend of everything except Grad-CAM.
    """
    x = _check_maps(model, plain_array("picture", picture)[None])
    shares = model.predict_proba(x, backend=backend)[0]
    y = np.array([shares.argmax() if label is None else label])
    layer = _last_maps(model, x) if layer is None else layer
    operations = "im2col" if backend in (None, "lanes") else backend
    return Explanation(
        x[0],
        int(y[0]),
        shares,
        saliency(model, x, y, backend=backend)[0],
        grad_cam(model, x, y, layer=layer, backend=operations)[0],
        occlusion(model, x, y, backend=backend)[0],
        layer,
    )


def explanation_figure(explained: Explanation, classes: Sequence[str]) -> Any:
    """The picture, overlays of saliency, Grad-CAM and occlusion, and the most likely classes.

    On a white background, so that it is readable on dark pages too.

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


def _check_maps(model: Model, x: Any) -> np.ndarray:
    if as_model(model).takes > 1:
        raise ShapeError("the model has several inputs: explanations are of one picture")
    x = as_batch(model, x)
    if x.ndim != 4:
        raise ShapeError(f"explanations are of pictures (N, C, H, W), got shape {x.shape}")
    return x


def _last_maps(model: Model, x: np.ndarray) -> str:
    for node in reversed(model.graph(x.shape[1:]).nodes):
        if len(node.output_shape) == 3 and min(node.output_shape[1:]) > 1:
            return node.name
    raise ConfigurationError("grad_cam: no layer of the network has maps of more than one pixel")


def _starts(length: int, size: int, stride: int) -> list[int]:
    """First pixels of squares that together cover a whole side."""
    return sorted({*range(0, length - size, stride), length - size})

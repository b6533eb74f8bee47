"""Backward passes as the report prints them, for the study alone.

They stand in for the im2col backend's and are registered nowhere: no model and no setting of a
training leads here.
"""

import warnings
from typing import Any

import numpy as np

from fastcnn.analysis.gradcheck import check_gradient
from fastcnn.backends import im2col
from fastcnn.execution.passes import run_backward, run_forward
from fastcnn.layers import Sequential

#: The report's section on derivations; see docs/derivations.md for what is right.
NAMES = ("sigmoid", "convolution", "relu")
UNIT = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)


class PrintedOperations:
    """The im2col backend with some formulas of the report.

    Parameters
    ----------
    wrong : tuple of str
        Of :data:`NAMES`.
    """

    def __init__(self, wrong: tuple[str, ...]) -> None:
        self._wrong = wrong

    def __getattr__(self, name: str) -> Any:
        return getattr(im2col, name)

    def sigmoid_backward(self, grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The report's code: ``dy * (1 - dy)``, which knows nothing of x."""
        if "sigmoid" in self._wrong:
            return grad_output * (1 - grad_output)
        return im2col.sigmoid_backward(grad_output, x)

    def relu_backward(self, grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The report's code: ``dy * (x >= 0)``, so that zeros pass the gradient."""
        if "relu" in self._wrong:
            return grad_output * (x >= 0)
        return im2col.relu_backward(grad_output, x)

    def conv2d_backward(
        self,
        grad_output: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> tuple[np.ndarray, ...]:
        """The report's code turns the kernel by ``np.rot90`` twice, in the layout (Cin, KH, KW,
        Cout): that reverses input channels and rows instead of rows and columns."""
        geometry = (stride, padding, dilation, groups)
        first = x.shape[1] == 1  # nobody asks for the gradient of the images
        mask = (not first and "convolution" not in self._wrong, True, True)
        grad_x, *rest = im2col.conv2d_backward(grad_output, x, weight, *geometry, mask)
        if first:
            grad_x = np.zeros_like(x)
        elif "convolution" in self._wrong:
            turned = weight[:, ::-1, :, ::-1]
            grad_x = im2col.conv2d_backward(
                grad_output, x, turned, *geometry, (True, False, False)
            )[0]
        return grad_x, *rest


def gradient_errors() -> dict[str, float]:
    """Error of each formula against finite differences in float64, relative to the gradient."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 4, 6, 6))
    weight = generator.standard_normal((8, 4, 3, 3))
    # Half of the points on the kink, where the report's text and PyTorch have slope 0.
    kinks = np.where(generator.random((4, 8)) < 0.5, 0.0, 1.0)
    operations = PrintedOperations(NAMES)
    checked = {
        "sigmoid": check_gradient(im2col.sigmoid, operations.sigmoid_backward, x[0]),
        "convolution": check_gradient(
            lambda x: im2col.conv2d(x, weight, None, *UNIT),
            lambda dy, x: operations.conv2d_backward(dy, x, weight, *UNIT)[0],
            x,
        ),
    }
    errors = {name: row.error for name, row in checked.items()}
    ones = np.ones_like(kinks)
    apart = operations.relu_backward(ones, kinks) - im2col.relu_backward(ones, kinks)
    return errors | {"relu": float(np.abs(apart).max())}


def train_with(
    model: Sequential, wrong: tuple[str, ...], images: np.ndarray, labels: np.ndarray, lr: float
) -> tuple[np.ndarray, int]:
    """Plain SGD on consecutive batches, in place.

    Parameters
    ----------
    images : ndarray, shape (steps, batch, C, H, W)
    labels : ndarray, shape (steps, batch)

    Returns
    -------
    losses : ndarray, shape (steps,)
        NaN from where it stopped being finite.
    overflows : int
        Steps in which numpy would have warned of an overflow.
    """
    from fastcnn import functional as F

    operations: Any = PrintedOperations(wrong)
    graph, state, vector = model.graph(), model.state_dict(), model.parameter_vector
    gradient = {key: np.empty_like(value) for key, value in model.named_parameters().items()}
    losses, overflows = np.full(len(images), np.nan), 0
    for step, (x, y) in enumerate(zip(images, labels, strict=True)):
        with warnings.catch_warnings(record=True) as warned, np.errstate(over="warn"):
            warnings.simplefilter("always")
            outputs = run_forward(graph, state, x, operations, True, 0, step)
            loss = F.cross_entropy(outputs[-1], y, backend="im2col")
            if not np.isfinite(loss):
                return losses, overflows + 1
            slope = F.cross_entropy_backward(1.0, outputs[-1], y, backend="im2col")
            run_backward(graph, state, x, outputs, slope, operations, gradient, True, 0, step)
            for key, value in model.named_parameters().items():
                value -= vector.dtype.type(lr) * gradient[key]
        losses[step] = loss
        overflows += any("overflow" in str(warning.message) for warning in warned)
    return losses, overflows

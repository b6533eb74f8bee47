"""Backward passes as printed in the report, only for the study.

They replace those of a backend and are not registered anywhere: no model and no training setting
can select them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.analysis.gradcheck import check_gradient
from fastcnn.backends import get_backend, im2col
from fastcnn.execution.parts import run_backward, run_forward
from fastcnn.execution.step import Step
from fastcnn.layers import Sequential

#: The report's section on derivations; see docs/derivations.md for the correct formulas.
NAMES = ("sigmoid", "convolution", "relu")
UNIT = ((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
#: exp of more than this is infinite in double precision, which numpy and the report use.
LARGEST_EXPONENT = float(np.log(np.finfo(np.float64).max))
#: Correct operations that dominate the time use lanes, which is several times faster.
FAST = {"conv2d", "max_pool2d", "max_pool2d_backward"}


class PrintedOperations:
    """The im2col backend with some formulas of the report.

    Parameters
    ----------
    wrong : tuple of str
        Members of :data:`NAMES`.

    Attributes
    ----------
    exponent : float
        The largest argument of exp in the report's forward pass ``1 / (1 + exp(-x))``.
    """

    def __init__(self, wrong: tuple[str, ...]) -> None:
        self._wrong = wrong
        self._lanes = get_backend("lanes")
        self.exponent = -np.inf

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lanes if name in FAST else im2col, name)

    def sigmoid(self, x: np.ndarray) -> np.ndarray:
        """The correct value, without overflow; records whether the report's would overflow."""
        self.exponent = max(self.exponent, -float(x.min()))
        return im2col.sigmoid(x)

    def sigmoid_backward(self, grad_output: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The report's code: ``dy * (1 - dy)``, which does not use x."""
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
        first = x.shape[1] == 1  # the gradient of the images is not needed
        mask = (not first and "convolution" not in self._wrong, True, True)
        grad_x, *rest = self._lanes.conv2d_backward(grad_output, x, weight, *geometry, mask)
        if first:
            grad_x = np.zeros_like(x)
        elif "convolution" in self._wrong:
            turned = weight[:, ::-1, :, ::-1]
            grad_x = self._lanes.conv2d_backward(
                grad_output, x, np.ascontiguousarray(turned), *geometry, (True, False, False)
            )[0]
        return grad_x, *rest


def gradient_errors() -> dict[str, float]:
    """Error of each formula against finite differences in float64, relative to the gradient."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((2, 4, 6, 6))
    weight = generator.standard_normal((8, 4, 3, 3))
    # Half of the points at the kink, where the report's text and PyTorch have slope 0.
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


@dataclass(frozen=True)
class Steps:
    """Measurements of each step of a training.

    Attributes
    ----------
    losses : ndarray, shape (steps,)
        NaN once they are no longer finite.
    exponents : ndarray, shape (steps,)
        :attr:`PrintedOperations.exponent` of each step that was taken, else -inf.
    """

    losses: np.ndarray
    exponents: np.ndarray

    @property
    def overflows(self) -> int:
        """Steps in which the report's sigmoid would have warned of an overflow in exp."""
        return int((self.exponents > LARGEST_EXPONENT).sum())


def train_with(
    model: Sequential, wrong: tuple[str, ...], images: np.ndarray, labels: np.ndarray, lr: float
) -> Steps:
    """Plain SGD on consecutive batches, in place, until the loss is not finite.

    Parameters
    ----------
    images : ndarray, shape (steps, batch, C, H, W)
    labels : ndarray, shape (steps, batch)
    """
    from fastcnn import functional as F

    graph, state, vector = model.graph(), model.state_dict(), model.parameter_vector
    gradient = {key: np.zeros_like(value) for key, value in model.named_parameters().items()}
    seen = Steps(np.full(len(images), np.nan), np.full(len(images), -np.inf))
    for step, (x, y) in enumerate(zip(images, labels, strict=True)):
        operations: Any = PrintedOperations(wrong)
        with np.errstate(all="ignore"):
            now = Step(training=True, number=step)
            outputs = run_forward(graph, state, x, operations, now)
            loss = F.cross_entropy(outputs[-1], y, backend="im2col")
            seen.exponents[step] = operations.exponent
            if not np.isfinite(loss):
                return seen
            slope = F.cross_entropy_backward(1.0, outputs[-1], y, backend="im2col")
            for value in gradient.values():
                value.fill(0)  # gradients are accumulated
            run_backward(graph, state, x, outputs, slope, operations, gradient, now)
            for key, value in model.named_parameters().items():
                value -= vector.dtype.type(lr) * gradient[key]
        seen.losses[step] = loss
    return seen

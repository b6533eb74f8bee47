"""Softmax and its logarithm."""

from typing import ClassVar

from fastcnn.backends.graph import Shape
from fastcnn.errors import ConfigurationError, ShapeError
from fastcnn.layers.base import Layer
from fastcnn.scalars import is_integer

__all__ = ["LogSoftmax", "Softmax"]


class Softmax(Layer):
    """Probabilities along one dimension: ``exp(x_i) / sum exp(x_j)``.

    A network trained with :class:`~fastcnn.losses.CrossEntropyLoss` must not end with it: that loss
    expects logits.

    Parameters
    ----------
    dim : int
        The dimension of a batch along which probabilities sum to 1: 1 for features or channels, -1
        for the last. Not 0, the samples.
    """

    operation: ClassVar[str] = "softmax"
    passed: ClassVar[tuple[str, ...]] = ("dim",)
    always_shown: ClassVar[tuple[str, ...]] = passed
    flops_each: ClassVar[int] = 4

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        owner = type(self).__name__
        if not is_integer(dim) or dim == 0:
            raise ConfigurationError(
                f"{owner}: dim must be an integer, and not 0, the samples; got {dim!r}"
            )
        self.dim = int(dim)

    def output_shape(self, input_shape: Shape) -> Shape:
        if not -len(input_shape) <= self.dim <= len(input_shape):
            raise ShapeError(
                f"has dim={self.dim}, samples of shape {tuple(input_shape)} have "
                f"dimensions 1 to {len(input_shape)}"
            )
        return tuple(input_shape)


class LogSoftmax(Softmax):
    """Logarithm of the softmax along one dimension: ``x_i - log(sum exp(x_j))``.

    Parameters
    ----------
    dim : int
        As in :class:`Softmax`.
    """

    operation: ClassVar[str] = "log_softmax"

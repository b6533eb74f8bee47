"""Element-wise activations."""

from typing import ClassVar

from fastcnn.layers.base import Layer


class ReLU(Layer):
    """Rectified linear unit, ``max(0, x)``; the gradient at 0 is 0, as in PyTorch.

    Examples
    --------
    >>> ReLU().output_shape((4, 28, 28))
    (4, 28, 28)
    """

    operation: ClassVar[str] = "relu"


class Sigmoid(Layer):
    """Logistic function, ``1 / (1 + exp(-x))``, computed without overflow."""

    operation: ClassVar[str] = "sigmoid"


class Tanh(Layer):
    """Hyperbolic tangent."""

    operation: ClassVar[str] = "tanh"

"""Normalisations within each sample, in terms of one over any sets of elements.

What differs between backends is how one set is normalised: value by value, or over whole arrays.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastcnn.backends.sample_sets import sets_of

Gradients = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SampleNorms:
    """The operations of a backend.

    Attributes
    ----------
    normalised : callable
        ``normalised(x, sets, weight, bias, eps, centred=True)``.
    gradients : callable
        ``gradients(grad_output, x, sets, weight, eps, centred=True)`` returns those of x, and of
        weight and bias in one dimension.
    """

    normalised: Callable[..., np.ndarray]
    gradients: Callable[..., Gradients]

    def layer_norm(
        self,
        x: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        normalized_shape: tuple[int, ...],
        eps: float,
    ) -> np.ndarray:
        """A set is what the last dimensions hold, of the shape ``normalized_shape``."""
        sets = sets_of("layer_norm", {"normalized_shape": normalized_shape}, x.shape[1:])
        return self.normalised(x, sets, weight, bias, eps)

    def layer_norm_backward(
        self,
        grad_output: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray | None,
        normalized_shape: tuple[int, ...],
        eps: float,
    ) -> Gradients:
        """Gradients of x, weight and bias."""
        sets = sets_of("layer_norm", {"normalized_shape": normalized_shape}, x.shape[1:])
        grad_x, *grads = self.gradients(grad_output, x, sets, weight, eps)
        return grad_x, grads[0].reshape(normalized_shape), grads[1].reshape(normalized_shape)

    def rms_norm(
        self,
        x: np.ndarray,
        weight: np.ndarray | None,
        normalized_shape: tuple[int, ...],
        eps: float,
    ) -> np.ndarray:
        """Sets as in :func:`layer_norm`; no mean is taken away."""
        sets = sets_of("rms_norm", {"normalized_shape": normalized_shape}, x.shape[1:])
        return self.normalised(x, sets, weight, None, eps, centred=False)

    def rms_norm_backward(
        self,
        grad_output: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray | None,
        normalized_shape: tuple[int, ...],
        eps: float,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of x and weight."""
        sets = sets_of("rms_norm", {"normalized_shape": normalized_shape}, x.shape[1:])
        grad_x, grad_weight, _ = self.gradients(grad_output, x, sets, weight, eps, centred=False)
        return grad_x, grad_weight.reshape(normalized_shape)

    def group_norm(
        self,
        x: np.ndarray,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        num_groups: int,
        eps: float,
    ) -> np.ndarray:
        """A set is all pixels of the channels of a group; a weight belongs to a channel."""
        sets = sets_of("group_norm", {"num_groups": num_groups}, x.shape[1:])
        return self.normalised(x, sets, weight, bias, eps)

    def group_norm_backward(
        self,
        grad_output: np.ndarray,
        x: np.ndarray,
        weight: np.ndarray | None,
        num_groups: int,
        eps: float,
    ) -> Gradients:
        """Gradients of x, weight and bias."""
        sets = sets_of("group_norm", {"num_groups": num_groups}, x.shape[1:])
        return self.gradients(grad_output, x, sets, weight, eps)

    def layer_norm2d(
        self, x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
    ) -> np.ndarray:
        """A set is the channels of one pixel."""
        return self.normalised(x, sets_of("layer_norm2d", {}, x.shape[1:]), weight, bias, eps)

    def layer_norm2d_backward(
        self, grad_output: np.ndarray, x: np.ndarray, weight: np.ndarray | None, eps: float
    ) -> Gradients:
        """Gradients of x, weight and bias."""
        return self.gradients(grad_output, x, sets_of("layer_norm2d", {}, x.shape[1:]), weight, eps)

"""One table of wrong arguments and the required message of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcnn import functional as F
from fastcnn.errors import ConfigurationError, ShapeError

X = np.zeros((2, 4, 5, 5))
W = np.zeros((6, 4, 3, 3))

BAD: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    (F.conv2d, (X.astype(int), W), {}, ConfigurationError, "x must be float32 or float64"),
    (F.conv2d, (X[0], W), {}, ShapeError, r"x must have 4 dimensions, got shape \(4, 5, 5\)"),
    (F.conv2d, (X, W.astype("f")), {}, ConfigurationError, "weight is float32 but x is float64"),
    (F.conv2d, (X, W[:, :3]), {}, ShapeError, r"takes 3 input channels.*\(2, 4, 5, 5\) has 4"),
    (F.conv2d, (X, W, np.zeros(5)), {}, ShapeError, r"bias must have shape \(6,\), got \(5,\)"),
    (F.conv2d, (X, np.zeros((6, 4, 7, 3))), {}, ShapeError, "size 7 .* larger than the padded"),
    (F.conv2d, (X, W), {"groups": 4}, ConfigurationError, "groups=4 must divide"),
    (F.conv2d, (X, W), {"groups": 0}, ConfigurationError, "groups must be a positive"),
    (F.conv2d, (X, W), {"stride": 0}, ConfigurationError, "stride must be an integer"),
    (F.conv2d, (X, W), {"stride": (1, 2, 3)}, ConfigurationError, "stride must be an integer"),
    (F.conv2d, (X, W), {"stride": 1.5}, ConfigurationError, "stride must be an integer"),
    (F.conv2d, (X, W), {"stride": 10**30}, ConfigurationError, "of at most 16,777,216"),
    (F.conv2d, (X, W), {"padding": 2**62}, ConfigurationError, "of at most 16,777,216"),
    (F.conv2d, (X, W), {"groups": 10**30}, ConfigurationError, "of at most 2,147,483,647"),
    (F.conv2d, (X, W), {"stride": [[1], [2, 3]]}, ConfigurationError, "stride must be an integer"),
    (F.avg_pool2d, (X, 2), {"divisor_override": 10**30}, ConfigurationError, "of at most"),
    (F.adaptive_avg_pool2d, (X, 2**62), {}, ConfigurationError, "of at most 16,777,216"),
    (F.interpolate, (X, 10**30), {}, ConfigurationError, "of at most 16,777,216"),
    (F.pad, (X, 10**30), {}, ConfigurationError, "of at most 16,777,216"),
    (F.layer_norm, (X, [[4], [5, 5]]), {}, ConfigurationError, "normalized_shape must be"),
    (F.batch_norm, (X,), {"training": "False"}, ConfigurationError, "training must be True or"),
    (F.dropout, (X, 0.5), {"key": "7"}, ConfigurationError, "key must lie in 0"),
    (F.conv2d_backward, (np.zeros((2, 6, 3, 3)), X, W), {"output_mask": True}, ConfigurationError,
     "output_mask must be three of True or False"),
    (F.cross_entropy, (np.zeros((2, 3)), [0, 1]), {"sample_weight": ["a", "b"]},
     ConfigurationError, "sample_weight must be numbers"),
    (F.cross_entropy_backward, ("", np.zeros((2, 3)), [0, 1]), {}, ConfigurationError,
     "grad_output must be a finite number"),
    (F.mse, (np.zeros((2, 3)), [["a"] * 3] * 2), {}, ConfigurationError, "target must be numbers"),
    (F.mse_backward, (None, np.zeros((2, 3)), np.zeros((2, 3))), {}, ConfigurationError,
     "grad_output must be a finite number"),
    (F.conv2d, (X, W), {"padding": -1}, ConfigurationError, "padding must be an integer"),
    (F.conv2d, (X, W), {"padding": "full"}, ConfigurationError, 'must be "valid", "same"'),
    (F.conv2d, (X, W), {"padding": "same", "stride": 2}, ConfigurationError, "needs stride 1"),
    (F.conv2d, (X[:0], W), {}, ShapeError, "x is empty"),
    (F.conv2d, (X, W), {"backend": "cuda"}, ConfigurationError, "backend must be one of"),
    (F.conv2d_backward, (np.zeros((2, 6, 5, 5)), X, W), {}, ShapeError,
     r"grad_output has shape \(2, 6, 5, 5\), the forward pass gives \(2, 6, 3, 3\)"),
    (F.max_pool2d, (X, 6), {}, ShapeError, "larger than the padded input of size 5"),
    (F.max_pool2d, (X, 2), {"padding": 2}, ConfigurationError, "at most half the kernel"),
    (F.avg_pool2d, (X, 0), {}, ConfigurationError, "kernel_size must be an integer"),
    (F.max_pool2d_backward, (X, X, 2), {}, ShapeError, "the forward pass gives"),
    (F.linear, (np.zeros((2, 3)), np.zeros((4, 5))), {}, ShapeError, "has 3 features.*takes 5"),
    (F.linear_backward, (np.zeros((2, 3)), np.zeros((2, 5)), np.zeros((4, 5))), {}, ShapeError,
     r"\(2, 3\), the forward pass gives \(2, 4\)"),
    (F.conv_transpose2d, (X, W), {}, ShapeError, r"takes 6 input channels in 1 groups.* has 4"),
    (F.conv_transpose2d, (X, W[:4]), {"output_padding": 1}, ConfigurationError,
     r"output_padding \(1, 1\) must be below the stride \(1, 1\)"),
    (F.conv_transpose2d, (X, W[:4]), {"padding": 4}, ShapeError, "leaves nothing of a map of size"),
    (F.conv_transpose2d, (X, W[:4], np.zeros(2)), {}, ShapeError, r"bias must have shape \(4,\)"),
    (F.conv_transpose2d_backward, (X, X, W[:4]), {}, ShapeError, r"gives \(2, 4, 7, 7\)"),
    (F.adaptive_avg_pool2d, (X, 0), {}, ConfigurationError, "output_size must be an integer"),
    (F.adaptive_avg_pool2d, (X, (1, 2, 3)), {}, ConfigurationError, "an integer or a pair"),
    (F.dropout2d, (X[0], 0.5), {"key": 0}, ShapeError, "x must have 4 dimensions"),
    (F.batch_norm, (X[:, 0, 0, 0],), {}, ShapeError, r"must be \(N, C\) or \(N, C, H, W\)"),
    (F.batch_norm, (X[:1, :, :1, :1],), {}, ShapeError, "more than one value per channel"),
    (F.batch_norm, (X, np.zeros(4)), {}, ConfigurationError, "must be given together"),
    (F.batch_norm, (X, None, None, np.zeros(5)), {}, ShapeError, r"weight must have shape \(4,\)"),
    (F.batch_norm, (X,), {"eps": 0}, ConfigurationError, "eps must be a finite number above 0"),
    (F.add, (X, X[:, :1]), {}, ShapeError, r"x has shape \(2, 4, 5, 5\), other \(2, 1, 5, 5\)"),
    (F.subtract, (X, X[:, :1]), {}, ShapeError, r"subtract: x has shape"),
    (F.multiply, (X, X[:, :2]), {}, ShapeError, r"multiply: expects two inputs of equal shape, or"),
    (F.multiply, (X, X[:1]), {}, ShapeError, r"multiply: x has shape \(2, 4, 5, 5\)"),
    (F.concat, (), {}, ShapeError, "at least one array"),
    (F.concat, (X, X[:, :, :3]), {}, ShapeError, "concat: expects inputs that differ in their"),
    (F.concat, (X, X[:1]), {}, ShapeError, "with the same N"),
    (F.add, (X, X.astype("f")), {}, ConfigurationError, "other is float32 but x is float64"),
    (F.dropout, (X, 1.5), {"key": 0}, ConfigurationError, "between 0 and 1, got 1.5"),
    (F.dropout, (X, 0.5), {"key": -1}, ConfigurationError, "key must lie in"),
    (F.cross_entropy, (np.zeros((2, 3)), [0, 3]), {}, ConfigurationError, r"0..2, got 0..3"),
    (F.cross_entropy, (np.zeros((2, 3)), [0]), {}, ShapeError, r"integers of shape \(2,\)"),
    (F.cross_entropy, (np.zeros((2, 3)), [0.5, 1.0]), {}, ShapeError, "must be integers"),
    (F.cross_entropy, (np.zeros((2, 3)), np.zeros((2, 2))), {}, ShapeError,
     r"probabilities have shape \(2, 2\), logits \(2, 3\)"),
    (F.cross_entropy, (np.zeros((2, 3)), np.ones((2, 3))), {}, ConfigurationError, "sum to 1"),
    (F.cross_entropy, (np.zeros((2, 3)), [0, 1], 1.1), {}, ConfigurationError, "label_smoothing"),
    (F.mse, (np.zeros((2, 3)), np.zeros((3, 2))), {}, ShapeError, "target has shape"),
    (F.cross_entropy, (np.zeros((2, 3)), [0, 1]), {"sample_weight": [1.0]}, ShapeError,
     r"sample_weight must have shape \(2,\), got \(1,\)"),
    (F.mse, (np.zeros((2, 3)), np.zeros((2, 3))), {"sample_weight": [1.0, -1.0]},
     ConfigurationError, "at least 0"),
    (F.mse, (np.zeros((2, 3)), np.zeros((2, 3))), {"sample_weight": [0.0, 0.0]},
     ConfigurationError, "not all 0"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "args", "kwargs", "error", "message"), BAD)
def test_bad_input(
    call: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        call(*args, **kwargs)

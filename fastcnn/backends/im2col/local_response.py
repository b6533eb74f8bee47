"""Local response normalisation over whole arrays."""

import numpy as np


def local_response_norm(
    x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """``y_c = x_c / d_c^beta`` with ``d_c = k + alpha / size * sum of x_j^2``.

    j runs over the channels from ``c - size // 2`` on, ``size`` of them, that there are.
    """
    return x * _divisors(x, size, alpha, k) ** x.dtype.type(-beta)


def local_response_norm_backward(
    grad_output: np.ndarray, x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """``dx_i = dy_i d_i^-beta - 2 alpha beta / size x_i sum of dy_c x_c d_c^(-beta - 1)``.

    The sum is over those c in whose window i is.
    """
    divisors = _divisors(x, size, alpha, k)
    direct = grad_output * divisors ** x.dtype.type(-beta)
    through = _window_sums(direct * x / divisors, size, (size - 1) // 2)
    return direct - x.dtype.type(2.0 * alpha * beta / size) * x * through


def _divisors(x: np.ndarray, size: int, alpha: float, k: float) -> np.ndarray:
    return x.dtype.type(k) + x.dtype.type(alpha / size) * _window_sums(x * x, size, size // 2)


def _window_sums(values: np.ndarray, size: int, before: int) -> np.ndarray:
    """Sums over ``size`` channels, of which the first is ``before`` channels back."""
    channels, sums = values.shape[1], np.zeros_like(values)
    for shift in range(max(-before, 1 - channels), min(size - before, channels)):
        first, last = max(0, -shift), min(channels, channels - shift)
        sums[:, first:last] += values[:, first + shift : last + shift]
    return sums

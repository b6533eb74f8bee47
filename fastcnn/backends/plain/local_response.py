"""Local response normalisation."""

import numpy as np

from fastcnn.backends.plain.sums import total


def local_response_norm(
    x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """``y_c = x_c / d_c^beta`` with ``d_c = k + alpha / size * sum of x_j^2``.

    j runs over the ``size`` channels from ``c - size // 2`` on, as far as they exist.
    """
    return x * _divisors(x, size, alpha, k) ** x.dtype.type(-beta)


def local_response_norm_backward(
    grad_output: np.ndarray, x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """``dx_i = dy_i d_i^-beta - 2 alpha beta / size x_i sum of dy_c x_c d_c^(-beta - 1)``.

    The sum is over those c whose window contains i.
    """
    divisors = _divisors(x, size, alpha, k)
    direct = grad_output * divisors ** x.dtype.type(-beta)
    through = _window_sums(direct * x / divisors, size, (size - 1) // 2)
    return direct - x.dtype.type(2.0 * alpha * beta / size) * x * through


def _divisors(x: np.ndarray, size: int, alpha: float, k: float) -> np.ndarray:
    return x.dtype.type(k) + x.dtype.type(alpha / size) * _window_sums(x * x, size, size // 2)


def _window_sums(values: np.ndarray, size: int, before: int) -> np.ndarray:
    """Sums over windows of ``size`` channels that begin ``before`` channels earlier."""
    channels, sums = values.shape[1], np.zeros_like(values)
    for shift in range(max(-before, 1 - channels), min(size - before, channels)):
        first, last = max(0, -shift), min(channels, channels - shift)
        sums[:, first:last] += values[:, first + shift : last + shift]
    return sums


def local_response_norm_loops(
    x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """``y_c = x_c / d_c^beta`` with ``d_c = k + alpha / size * sum of x_j^2``.

    j runs over the ``size`` channels from ``c - size // 2`` on, as far as they exist.
    """
    y = np.empty(x.shape, x.dtype)
    for place in np.ndindex(x.shape):
        y[place] = float(x[place]) * _divisor(x, place, size, alpha, k) ** -beta
    return y


def local_response_norm_backward_loops(
    grad_output: np.ndarray, x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """``dx_i = dy_i d_i^-beta - 2 alpha beta / size x_i sum of dy_c x_c d_c^(-beta - 1)``.

    The sum is over those c whose window contains i.
    """
    shares, grad_x = np.empty(x.shape), np.empty(x.shape, x.dtype)
    divisors = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        divisors[place] = _divisor(x, place, size, alpha, k)
        product = float(grad_output[place]) * float(x[place])
        shares[place] = product * divisors[place] ** (-beta - 1.0)
    factor = 2.0 * alpha * beta / size
    for place in np.ndindex(x.shape):
        n, i, *pixel = place
        windows = [c for c in range(x.shape[1]) if i in _window(c, size, x.shape[1])]
        through = total(float(shares[(n, c, *pixel)]) for c in windows)
        direct = float(grad_output[place]) * float(divisors[place] ** -beta)
        grad_x[place] = direct - factor * float(x[place]) * through
    return grad_x


def _window(c: int, size: int, channels: int) -> range:
    first = c - size // 2
    return range(max(first, 0), min(first + size, channels))


def _divisor(x: np.ndarray, place: tuple[int, ...], size: int, alpha: float, k: float) -> float:
    n, c, *pixel = place
    near = (float(x[(n, j, *pixel)]) for j in _window(c, size, x.shape[1]))
    divisor = k + alpha / size * total(value * value for value in near)
    return np.float64(x.dtype.type(divisor))

"""Weight initialisers: small descriptions that draw an array for a given parameter shape.

Fans follow PyTorch: for a weight of shape ``(out, in, ...)``, ``fan_in = in * prod(...)`` and
``fan_out = out * prod(...)``; for a grouped convolution ``in`` is the channels of one group.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from fastcnn.arguments import as_dtype, as_flag
from fastcnn.errors import ConfigurationError
from fastcnn.layers.allocation import claim

Distribution = Literal["normal", "uniform"]


__all__ = [
    "Constant",
    "Dirac",
    "Initializer",
    "Kaiming",
    "Normal",
    "Uniform",
    "Xavier",
    "fans",
    "whitening_filters",
]


class Initializer(Protocol):
    """Draws the initial value of one parameter."""

    def __call__(self, shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        """Return a float64 array of ``shape``."""
        ...


def check_initializer(name: str, value: Any) -> None:
    """Refuse values that are not initialisers."""
    if not callable(value) or isinstance(value, type):
        raise ConfigurationError(
            f"{name} must be an initialiser, such as fastcnn.layers.init.Normal(0.1), Kaiming(), "
            f"Xavier() or Constant(0.0), got {value!r}"
        )


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Number of inputs and outputs connected by a weight array: ``(fan_in, fan_out)``.

    Parameters
    ----------
    shape : sequence of int
        ``(out, in, ...)`` of the weight.

    Raises
    ------
    ConfigurationError
        If ``shape`` has fewer than two dimensions.
    """
    if len(shape) < 2:
        raise ConfigurationError(f"fans need a weight of two or more dimensions, got {shape}")
    receptive_field = math.prod(shape[2:])
    return shape[1] * receptive_field, shape[0] * receptive_field


def _draw(
    shape: Sequence[int], std: float, distribution: Distribution, generator: np.random.Generator
) -> np.ndarray:
    if distribution == "normal":
        return generator.normal(0.0, std, size=tuple(shape))
    bound = math.sqrt(3.0) * std
    return generator.uniform(-bound, bound, size=tuple(shape))


@dataclass(frozen=True)
class Kaiming:
    """He initialisation: standard deviation ``gain / sqrt(fan_in)``.

    Parameters
    ----------
    distribution : {"normal", "uniform"}
    negative_slope : float
        Slope of the rectifier for negative inputs; ``sqrt(5)`` gives PyTorch's default weights.

    References
    ----------
    He, Zhang, Ren and Sun, "Delving deep into rectifiers", arXiv:1502.01852, section 2.2.
    """

    distribution: Distribution = "normal"
    negative_slope: float = 0.0

    def __call__(self, shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        """Draw an array of ``shape``."""
        gain = math.sqrt(2.0 / (1.0 + self.negative_slope**2))
        return _draw(shape, gain / math.sqrt(fans(shape)[0]), self.distribution, generator)


@dataclass(frozen=True)
class Xavier:
    """Glorot initialisation: standard deviation ``gain * sqrt(2 / (fan_in + fan_out))``.

    Parameters
    ----------
    distribution : {"normal", "uniform"}
    gain : float
        Larger for layers whose activation makes values smaller: 5/3 for tanh.

    References
    ----------
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, equation 16.
    """

    distribution: Distribution = "uniform"
    gain: float = 1.0

    def __call__(self, shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        """Draw an array of ``shape``."""
        return _draw(
            shape, self.gain * math.sqrt(2.0 / sum(fans(shape))), self.distribution, generator
        )


@dataclass(frozen=True)
class Normal:
    """Gaussian values of a given standard deviation (the report's underfitting study).

    Parameters
    ----------
    std : float
        Standard deviation, at least 0.
    mean : float
    """

    std: float
    mean: float = 0.0

    def __post_init__(self) -> None:
        if not (self.std >= 0 and math.isfinite(self.std)):
            raise ConfigurationError(f"Normal: std must be finite and >= 0, got {self.std}")

    def __call__(self, shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        """Draw an array of ``shape``."""
        return generator.normal(self.mean, self.std, size=tuple(shape))


@dataclass(frozen=True)
class Uniform:
    """Values drawn uniformly from ``[-bound, bound)``.

    Parameters
    ----------
    bound : float
    """

    bound: float

    def __call__(self, shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        """Draw an array of ``shape``."""
        return generator.uniform(-self.bound, self.bound, size=tuple(shape))


@dataclass(frozen=True)
class Constant:
    """The same value everywhere.

    Parameters
    ----------
    value : float
    """

    value: float = 0.0

    def __call__(self, shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        """Return an array of ``shape`` filled with :attr:`value`."""
        return np.full(tuple(shape), self.value)


@dataclass(frozen=True)
class Dirac:
    """The first filters each copy one input channel.

    Filter ``k`` is 1 at the centre of input channel ``k`` and 0 elsewhere, one filter per channel.

    Parameters
    ----------
    others : Initializer, optional
        Draws the other filters; by default the one of layers.

    References
    ----------
    Zagoruyko and Komodakis, arXiv:1706.00388; ``torch.nn.init.dirac_`` of the first ``in`` filters,
    as in airbench (Jordan, arXiv:2404.00498).
    """

    others: Initializer | None = None

    def __call__(self, shape: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        """Draw an array of ``shape``."""
        if len(shape) < 3:
            raise ConfigurationError(f"Dirac is for weights of convolutions, got {tuple(shape)}")
        weight = (self.others or DEFAULT_WEIGHT)(shape, generator)
        count = min(shape[0], shape[1])
        weight[:count] = 0.0
        middle = tuple(size // 2 for size in shape[2:])
        for channel in range(count):
            weight[(channel, channel, *middle)] = 1.0
        return weight


def whitening_filters(samples: np.ndarray, size: int = 2, eps: float = 5e-4) -> np.ndarray:
    """Whitening filters: their outputs are uncorrelated over the patches of some samples.

    They are the eigenvectors of the patches' second moment matrix, in descending order of
    eigenvalues and each divided by the square root of its eigenvalue plus ``eps``, followed by
    their negatives.

    Parameters
    ----------
    samples : ndarray, shape (N, C, H, W)
        As read by the network's first layer, that is, normalised.
    size : int
        Height and width of a patch.
    eps : float
        Keeps filters of patches that hardly vary small.

    Returns
    -------
    ndarray of float64, shape (2 * C * size * size, C, size, size)

    Raises
    ------
    ConfigurationError
        If there is no patch of that size.

    References
    ----------
    Jordan, arXiv:2404.00498, section 3.1; after Page's "How to train your ResNet", part 8.
    """
    if samples.ndim != 4 or not 1 <= size <= min(samples.shape[2:]) or not len(samples):
        raise ConfigurationError(
            f"whitening needs samples (N, C, H, W) of at least {size} x {size} pixels, got "
            f"{samples.shape}"
        )
    N, C, H, W = samples.shape
    rows, columns = H - size + 1, W - size + 1
    parts = [
        samples[:, :, y : y + rows, x : x + columns].astype(np.float64)
        for y in range(size)
        for x in range(size)
    ]
    flat = np.stack(parts, 2).reshape(N, C * size * size, rows * columns)
    moments = np.einsum("npk,nqk->pq", flat, flat, optimize=True) / (N * rows * columns)
    values, vectors = np.linalg.eigh(moments)
    filters = (vectors / np.sqrt(values + eps)).T[::-1].reshape(-1, C, size, size)
    return np.concatenate([filters, -filters])


#: PyTorch's default for Conv2d and Linear weights: uniform with bound ``1 / sqrt(fan_in)``.
DEFAULT_WEIGHT = Kaiming("uniform", negative_slope=math.sqrt(5.0))


def default_bias(weight_shape: Sequence[int]) -> Uniform:
    """PyTorch's default for a bias: uniform with bound ``1 / sqrt(fan_in)`` of its weight."""
    return Uniform(1.0 / math.sqrt(fans(weight_shape)[0]))


def generator_of(seed: Any) -> np.random.Generator:
    """The random number generator of a seed.

    Raises
    ------
    ConfigurationError
        If it is not a seed.
    """
    try:
        if isinstance(seed, (bool, np.bool_)):
            raise TypeError
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise ConfigurationError(
            "seed must be an integer of at least 0, a SeedSequence, a Generator or None, got "
            f"{seed!r}"
        ) from None


def draw_weight_and_bias(
    weight_shape: Sequence[int],
    bias: bool,
    weight_init: Initializer | None,
    bias_init: Initializer | None,
    seed: "int | np.random.SeedSequence | np.random.Generator | None",
    dtype: Any,
    outputs: int | None = None,
) -> dict[str, np.ndarray]:
    """Draw the parameters of a layer with a weight and optionally a bias, in that order.

    The bias has ``outputs`` elements, by default as many as the weight has rows.
    """
    for name, given in (("weight_init", weight_init), ("bias_init", bias_init)):
        if given is not None:
            check_initializer(name, given)
    claim(weight_shape)
    generator, dtype = generator_of(seed), as_dtype("a layer", dtype)
    draw = weight_init or DEFAULT_WEIGHT
    parameters = {"weight": _drawn("weight_init", draw, weight_shape, generator, dtype)}
    if as_flag("a layer", "bias", bias):
        draw = bias_init or default_bias(weight_shape)
        shape = (outputs or weight_shape[0],)
        parameters["bias"] = _drawn("bias_init", draw, shape, generator, dtype)
    return parameters


def _drawn(
    name: str, draw: Any, shape: Sequence[int], generator: np.random.Generator, dtype: np.dtype
) -> np.ndarray:
    """The array drawn by an initialiser, which may be a user's function."""
    try:
        drawn = np.asarray(draw(tuple(shape), generator))
    except TypeError as error:
        raise ConfigurationError(
            f"{name} must take a shape and a numpy.random.Generator: {error}"
        ) from error
    if drawn.dtype.kind not in "fiu" or drawn.shape != tuple(shape):
        raise ConfigurationError(
            f"{name} must return numbers of shape {tuple(shape)}, "
            f"got an array of {drawn.dtype} of shape {drawn.shape}"
        )
    with np.errstate(over="ignore"):
        made = drawn.astype(dtype)
    if not np.isfinite(made).all():
        raise ConfigurationError(f"{name} must return numbers that are finite in {dtype}")
    return made

"""Every function of fastcnn.functional as a call on one array, with PyTorch's equivalent."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastcnn import functional as F
from fastcnn.layers.activation import LAYERS
from fastcnn.operations import elementwise_operations
from tests.operations.conftest import random_array

SHAPE = (2, 3, 6, 6)
FEATURES = 3 * 6 * 6
CLASSES = np.array([0, 5])


@dataclass(frozen=True, eq=False)
class Call:
    """A function of the package, its arguments, and PyTorch's equivalent.

    Attributes
    ----------
    name : str
        The function; its gradient is ``name + "_backward"``.
    others : tuple of array
        Arrays after ``x``.
    arguments : dict
        Keyword arguments of both functions.
    flat : bool
        Whether ``x`` has the shape (N, features).
    torch : str
        PyTorch's function with the same semantics.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    others: tuple[Any, ...] = ()
    flat: bool = False
    torch: str = ""

    def __str__(self) -> str:
        chosen = ",".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.name}({chosen})"

    def arrays(self, x: np.ndarray) -> list[Any]:
        """The function's array arguments, in the dtype of ``x``."""
        x = x.reshape(len(x), -1) if self.flat else x
        return [x, *(o.astype(x.dtype) if o.dtype.kind == "f" else o for o in self.others)]

    def forward(self, backend: str, *arrays: Any) -> np.ndarray:
        """The function's result."""
        function, named = getattr(F, self.name), {}
        if self in SETS:
            x, *weights = arrays
            arrays, named = (x,), dict(zip(("weight", "bias"), weights, strict=False))
        return np.asarray(function(*arrays, **named, **self.arguments, backend=backend))

    def backward(self, backend: str, grad_output: Any, *arrays: Any) -> tuple[np.ndarray, ...]:
        """The gradients."""
        function: Callable[..., Any] = getattr(F, f"{self.name}_backward")
        # The gradient does not take arrays after x and the weight, such as a bias.
        if self in PRODUCTS:
            arrays = arrays[:2]
        if self in SETS:
            x, *weight = arrays[:2]
            named = dict(zip(("weight",), weight, strict=False))
            results = function(grad_output, x, **named, **self.arguments, backend=backend)
        else:
            results = function(grad_output, *arrays, **self.arguments, backend=backend)
        return results if isinstance(results, tuple) else (results,)


_WEIGHT, _BIAS = random_array((4, 3, 3, 3), 1), random_array((4,), 2)
_MEAN, _VARIANCE = random_array((3,), 3), random_array((3,), 4) ** 2
_ONE_HOT = np.eye(FEATURES)[CLASSES]


def _elementwise() -> list[Call]:
    """Every element-wise operation, with the arguments of its record's cases."""
    calls = []
    for record in elementwise_operations():
        for case in record.cases:
            layer = LAYERS[record.name](**case)
            others = tuple(random_array(value.shape, 1) for value in layer.parameters.values())
            calls.append(Call(record.name, layer.arguments, others))
    return calls


ELEMENTWISE = _elementwise()
#: Operations for which PyTorch rounds a constant in the gradient to float32.
ROUNDED = ("hardsigmoid",)
POOLINGS = [
    *(Call("adaptive_avg_pool2d", {"output_size": size}) for size in (1, 2, 4, 5, (3, 1))),
    Call("max_pool2d", {"kernel_size": 2}),
    Call("max_pool2d", {"kernel_size": 3, "stride": 1, "padding": 1}),
    Call("avg_pool2d", {"kernel_size": 2}),
    Call("avg_pool2d", {"kernel_size": 3, "stride": 2, "padding": 1}),
    Call("avg_pool2d", {"kernel_size": 3, "padding": 1, "count_include_pad": False}),
]
NORMS = [
    Call("batch_norm", {"training": True}),
    Call("batch_norm", others=(_MEAN, _VARIANCE)),
    Call("batch_norm", others=(_MEAN, np.array([np.inf, 0.0, -1.0]))),
    Call("batch_norm", others=(np.array([np.inf, -np.inf, np.nan]), _VARIANCE)),
]
_OF_MAP = tuple(random_array((3, 6, 6), seed) for seed in (5, 6))
_OF_CHANNELS = tuple(random_array((3,), seed) for seed in (5, 6))
SAMPLE_NORMS = [
    Call("layer_norm", {"normalized_shape": (3, 6, 6)}, _OF_MAP),
    Call("layer_norm", {"normalized_shape": (6, 6), "eps": 0.1}),
    Call("layer_norm", {"normalized_shape": 6}, (_OF_MAP[0][0, 0], _OF_MAP[1][0, 0])),
    Call("layer_norm", {"normalized_shape": FEATURES}, flat=True),
    Call("rms_norm", {"normalized_shape": (3, 6, 6), "eps": 1e-5}, _OF_MAP[:1]),
    Call("rms_norm", {"normalized_shape": 6, "eps": 0.1}),
    Call("layer_norm2d", {}, _OF_CHANNELS),
    Call("layer_norm2d", {"eps": 0.1}),
    Call("group_norm", {"num_groups": 1}, _OF_CHANNELS),
    Call("group_norm", {"num_groups": 3, "eps": 0.1}),
    Call("group_norm", {"num_groups": 12}, flat=True),
]
RESPONSES = [
    Call("local_response_norm", {"size": 3, "alpha": 0.5}),
    Call("local_response_norm", {"size": 2, "alpha": 0.5, "beta": 0.6, "k": 1.5}),
    Call("local_response_norm", {"size": 9, "alpha": 2.0, "beta": 1.5}),
]
SOFTMAXES = [
    Call(name, {"dim": dim}, flat=flat)
    for name in ("softmax", "log_softmax")
    for dim, flat in ((1, False), (-1, False), (2, False), (1, True))
]
#: Operations that reduce over sets of a sample's elements.
SETS = [*SAMPLE_NORMS, *RESPONSES, *SOFTMAXES]
PRODUCTS = [
    Call("conv2d", {"padding": 1}, (_WEIGHT, _BIAS)),
    Call("conv2d", {"stride": 2}, (_WEIGHT, _BIAS)),
    Call("conv_transpose2d", {"stride": 2}, (_WEIGHT[:3], random_array((3,), 5))),
    Call("linear", {}, (random_array((5, FEATURES), 6), random_array((5,), 7)), flat=True),
]
LOSSES = [
    Call("cross_entropy", {"label_smoothing": 0.0}, (CLASSES,), flat=True),
    Call("cross_entropy", {"label_smoothing": 0.1}, (CLASSES,), flat=True),
    Call("cross_entropy", {}, (_ONE_HOT,), flat=True),
    Call("mse", {}, (random_array(SHAPE, 8),), torch="mse_loss"),
]
CALLS = [*ELEMENTWISE, *POOLINGS, *NORMS, *SETS, *PRODUCTS, *LOSSES]


def torch_function(call: Call) -> Any:
    """PyTorch's function of a call; for :data:`SETS` with its arguments."""
    import torch

    functions = torch.nn.functional
    arguments = dict(call.arguments)

    def of_pixels(x: Any, weight: Any = None, bias: Any = None) -> Any:
        last = x.permute(0, 2, 3, 1)
        eps = arguments.get("eps", 1e-6)
        return functions.layer_norm(last, last.shape[3:], weight, bias, eps).permute(0, 3, 1, 2)

    def of_sets(x: Any, weight: Any = None, bias: Any = None) -> Any:
        named = {"weight": weight, "bias": bias} if weight is not None else {}
        named = {key: value for key, value in named.items() if value is not None}
        if np.ndim(arguments.get("normalized_shape", ())) == 0:
            arguments["normalized_shape"] = (arguments["normalized_shape"],)
        return getattr(functions, call.name)(x, **named, **arguments)

    if call.name == "layer_norm2d":
        return of_pixels
    if call in SETS:
        return of_sets
    named = {
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "mse": functions.mse_loss,
        "scale": lambda x, weight: x * weight.reshape(-1, *(1,) * (x.ndim - 2)),
    }
    return named.get(call.name) or getattr(functions, call.name)

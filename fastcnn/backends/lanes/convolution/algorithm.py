"""What an algorithm of convolution says of itself: where it can be used, and where it is fast."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from fastcnn.backends.lanes.convolution.geometry import ConvGeometry
from fastcnn.backends.lanes.planning.buffers import Halo


class Part(Enum):
    """A part of a convolution: forward, its input's gradient, its weights' gradient.

    A transposed convolution has the first two exchanged.
    """

    PRODUCT = "product"
    TRANSPOSE = "transpose"
    GRADIENT = "gradient"


@dataclass(frozen=True)
class Algorithm:
    """A way to compute a convolution; its rows are in ``rows.py`` of the folder of its name."""

    #: Also of its folder.
    name: str
    #: ``fits(g, part)``: whether it computes this part of a convolution.
    fits: Callable[[ConvGeometry, Part], bool]
    #: ``pays(g, part)``: whether it measured faster there than those after it in the list.
    pays: Callable[[ConvGeometry, Part], bool]
    #: ``input_halo(g)``: zeros that the product and the weights' gradient read around the input.
    input_halo: Callable[[ConvGeometry], Halo]
    #: ``gradient_halo(g, part)``: zeros that the transpose, or the weights' gradient, reads around
    #: the gradient of the output.
    gradient_halo: Callable[[ConvGeometry, Part], Halo]
    #: Whether its rows take the whole batch, which all threads share out among them.
    shares_batch: bool = False
    #: Whether the product's rows can add another map to what they store.
    adds: bool = False
    #: ``sums_biases(g)``: whether its rows of the weights' gradient also make that of the biases.
    sums_biases: Callable[[ConvGeometry], bool] = lambda g: False
    #: ``unpools(g)``: whether its rows of both gradients take that of what 2x2 max-pooling made of
    #: the output, and send it to the winners as they read it. Then they sum biases, too.
    unpools: Callable[[ConvGeometry], bool] = lambda g: False

"""Dropout."""

from typing import ClassVar

from fastcnn.arguments import as_share
from fastcnn.backends.graph import Shape
from fastcnn.layers.base import Layer, check_samples

__all__ = ["Dropout", "Dropout2d"]


class Dropout(Layer):
    """Inverted dropout: in training, zero each element with probability ``p``, scale the rest.

    The mask comes from a counter-based generator keyed by (seed, step, layer), so it is the same
    in every backend and for every number of threads. Outside training the layer is the identity.

    Parameters
    ----------
    p : float
        Probability of an element to be zeroed, ``0 <= p <= 1``.

    References
    ----------
    Srivastava et al., "Dropout", JMLR 15 (2014), section 10 for the inverted form.
    """

    operation: ClassVar[str] = "dropout"
    passed: ClassVar[tuple[str, ...]] = ("p",)
    always_shown: ClassVar[tuple[str, ...]] = passed

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = as_share(type(self).__name__, "p", p)


class Dropout2d(Dropout):
    """Dropout of whole channels, since neighbouring pixels of a map are strongly correlated.

    Parameters
    ----------
    p : float
        Probability of a channel of a sample to be zeroed, ``0 <= p <= 1``.

    References
    ----------
    Tompson et al., "Efficient object localization using convolutional networks",
    arXiv:1411.4280, section 3.2.
    """

    operation: ClassVar[str] = "dropout2d"

    def output_shape(self, input_shape: Shape) -> Shape:
        check_samples(input_shape, ("H", "W"))
        return tuple(input_shape)

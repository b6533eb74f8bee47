"""Dropout."""

from typing import Any, ClassVar

from fastcnn.errors import ConfigurationError
from fastcnn.layers.base import Layer


class Dropout(Layer):
    """Inverted dropout: in training, zero each element with probability ``p``, scale the rest.

    The mask comes from a counter-based generator keyed by (seed, step, layer), so it is the same
    in every backend and for every number of threads. Outside training the layer is the identity.

    Parameters
    ----------
    p : float
        Probability of an element to be zeroed, ``0 <= p < 1``.

    References
    ----------
    Srivastava et al., "Dropout", JMLR 15 (2014), section 10 for the inverted form.
    """

    operation: ClassVar[str] = "dropout"

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ConfigurationError(f"Dropout: p must be at least 0 and below 1, got {p!r}")
        self.p = float(p)

    @property
    def arguments(self) -> dict[str, Any]:
        """The rate ``p``."""
        return {"p": self.p}

    def extra_repr(self) -> str:
        """The arguments shown by ``repr``."""
        return f"p={self.p}"

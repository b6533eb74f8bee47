"""Operations as functions: check the arguments, pick the backend, compute.

Arrays are NCHW, float32 or float64, all of the same type; results are new arrays of that type and
inputs are never modified. ``backend`` is one of :data:`fastcnn.backends.BACKENDS`. Mismatched
shapes raise a ``ShapeError``, other invalid arguments a ``ConfigurationError``. References are
given in the layers of :mod:`fastcnn.layers`.
"""

from fastcnn.operations import (
    dropouts,
    joins,
    losses,
    norms,
    piecewise,
    pooling,
    products,
    sample_norms,
    sampling,
    smooth,
    softmaxes,
    transposed,
)
from fastcnn.operations.dropouts import *
from fastcnn.operations.forms import described
from fastcnn.operations.joins import *
from fastcnn.operations.losses import *
from fastcnn.operations.norms import *
from fastcnn.operations.piecewise import *
from fastcnn.operations.pooling import *
from fastcnn.operations.products import *
from fastcnn.operations.sample_norms import *
from fastcnn.operations.sampling import *
from fastcnn.operations.smooth import *
from fastcnn.operations.softmaxes import *
from fastcnn.operations.transposed import *

__all__ = [
    name
    for module in (
        dropouts,
        joins,
        losses,
        norms,
        piecewise,
        pooling,
        products,
        sample_norms,
        sampling,
        smooth,
        softmaxes,
        transposed,
    )
    for name in module.__all__
]

for _name in sorted(__all__, key=lambda name: not name.endswith("_backward")):
    _own = globals()[_name.removesuffix("_backward")] if _name.endswith("_backward") else None
    globals()[_name].__doc__ = described(globals()[_name], _own)

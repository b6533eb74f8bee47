"""Operations as functions: check the arguments, pick the backend, compute.

Arrays are NCHW, float32 or float64, all of one type; results are new arrays of that type and
inputs are never changed. ``backend`` is one of :data:`fastcnn.backends.BACKENDS`. Shapes that do
not fit raise a ``ShapeError``, other arguments that make no sense a ``ConfigurationError``. Sources
are named by the layers of :mod:`fastcnn.layers`.
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
)
from fastcnn.operations.dropouts import *
from fastcnn.operations.forms import docstring_of, sections_of
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

__all__: list[str] = []
__all__ += dropouts.__all__
__all__ += joins.__all__
__all__ += losses.__all__
__all__ += norms.__all__
__all__ += piecewise.__all__
__all__ += pooling.__all__
__all__ += products.__all__
__all__ += sample_norms.__all__
__all__ += sampling.__all__
__all__ += smooth.__all__
__all__ += softmaxes.__all__

for _form in map(globals().__getitem__, __all__):
    _form.__doc__ = docstring_of(sections_of(_form.__doc__))

"""Train small convolutional networks on a CPU, fast: numpy and numba, nothing to compile.

>>> import fastcnn
>>> model = fastcnn.models.report_cnn(seed=0)
>>> train, test = fastcnn.data.load("digits012")
>>> history = fastcnn.fit(model, train, test, epochs=5)  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Public names and the module of each, imported at first use: ``import fastcnn`` stays cheap.
_EXPORTS = {
    "AvgPool2d": "fastcnn.layers",
    "Conv2d": "fastcnn.layers",
    "Dropout": "fastcnn.layers",
    "Flatten": "fastcnn.layers",
    "Linear": "fastcnn.layers",
    "MaxPool2d": "fastcnn.layers",
    "ReLU": "fastcnn.layers",
    "ELU": "fastcnn.layers",
    "GELU": "fastcnn.layers",
    "LeakyReLU": "fastcnn.layers",
    "SiLU": "fastcnn.layers",
    "Softplus": "fastcnn.layers",
    "Add": "fastcnn.layers",
    "Residual": "fastcnn.layers",
    "BatchNorm1d": "fastcnn.layers",
    "BatchNorm2d": "fastcnn.layers",
    "AdaptiveAvgPool2d": "fastcnn.layers",
    "GlobalAvgPool2d": "fastcnn.layers",
    "ConvTranspose2d": "fastcnn.layers",
    "Dropout2d": "fastcnn.layers",
    "Sequential": "fastcnn.layers",
    "Sigmoid": "fastcnn.layers",
    "Tanh": "fastcnn.layers",
    "CrossEntropyLoss": "fastcnn.losses",
    "MSELoss": "fastcnn.losses",
    "gradients": "fastcnn.execution",
    "plan": "fastcnn.execution",
    "fit": "fastcnn.training",
    "History": "fastcnn.training",
    "gradcheck": "fastcnn.analysis.gradcheck",
    "compare_backends": "fastcnn.analysis.compare",
    "Dataset": "fastcnn.data",
}

_MODULES = (
    "analysis", "backends", "data", "errors", "estimators", "functional", "layers", "losses",
    "models", "optim", "training",
)  # fmt: skip

__all__ = [*_EXPORTS, *_MODULES, "__version__"]

if TYPE_CHECKING:
    from fastcnn import (
        analysis,
        backends,
        data,
        errors,
        estimators,
        functional,
        layers,
        losses,
        models,
        optim,
        training,
    )
    from fastcnn.analysis.compare import compare_backends
    from fastcnn.analysis.gradcheck import gradcheck
    from fastcnn.data import Dataset
    from fastcnn.execution import gradients
    from fastcnn.execution.plan import plan as plan
    from fastcnn.layers import (
        ELU,
        GELU,
        AdaptiveAvgPool2d,
        Add,
        AvgPool2d,
        BatchNorm1d,
        BatchNorm2d,
        Conv2d,
        ConvTranspose2d,
        Dropout,
        Dropout2d,
        Flatten,
        GlobalAvgPool2d,
        LeakyReLU,
        Linear,
        MaxPool2d,
        ReLU,
        Residual,
        Sequential,
        Sigmoid,
        SiLU,
        Softplus,
        Tanh,
    )
    from fastcnn.losses import CrossEntropyLoss, MSELoss
    from fastcnn.training import History
    from fastcnn.training.fit import fit as fit


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(import_module(_EXPORTS[name]), name)
    elif name in _MODULES:
        value = import_module(f"fastcnn.{name}")
    else:
        raise AttributeError(f"module 'fastcnn' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Train small convolutional networks on a CPU, fast: numpy and numba, nothing to compile.

>>> import fastcnn
>>> model = fastcnn.models.report_cnn(seed=0)
>>> train, test = fastcnn.data.load("digits012")
>>> history = fastcnn.fit(model, train, test, epochs=5)  # doctest: +SKIP
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0"

#: Public names and the module of each, imported at first use: ``import fastcnn`` stays cheap.
#: The layers are public too: the classes that ``fastcnn.layers`` lists.
_EXPORTS = {
    "BCEWithLogitsLoss": "fastcnn.losses",
    "CrossEntropyLoss": "fastcnn.losses",
    "FocalLoss": "fastcnn.losses",
    "HuberLoss": "fastcnn.losses",
    "L1Loss": "fastcnn.losses",
    "MSELoss": "fastcnn.losses",
    "NLLLoss": "fastcnn.losses",
    "SigmoidFocalLoss": "fastcnn.losses",
    "SmoothL1Loss": "fastcnn.losses",
    "conv_algorithm": "fastcnn.backends.lanes",
    "gradients": "fastcnn.execution",
    "input_gradient": "fastcnn.execution.input_gradients",
    "from_definition": "fastcnn.layers.definition",
    "to_definition": "fastcnn.layers.description",
    "load": "fastcnn.layers.saved",
    "plan": "fastcnn.execution",
    "session": "fastcnn.execution",
    "fit": "fastcnn.training",
    "evaluate": "fastcnn.training",
    "lr_find": "fastcnn.training",
    "cross_validate": "fastcnn.training",
    "History": "fastcnn.training",
    "gradcheck": "fastcnn.analysis.gradcheck",
    "compare_backends": "fastcnn.analysis.compare",
    "Dataset": "fastcnn.data",
}

_MODULES = (
    "analysis",
    "backends",
    "data",
    "distributed",
    "errors",
    "estimators",
    "functional",
    "interop",
    "kernel",
    "layers",
    "losses",
    "models",
    "optim",
    "recipes",
    "training",
    "transfer",
)

if TYPE_CHECKING:
    from fastcnn import (
        analysis,
        backends,
        data,
        distributed,
        errors,
        estimators,
        functional,
        interop,
        kernel,
        layers,
        losses,
        models,
        optim,
        recipes,
        training,
        transfer,
    )
    from fastcnn.analysis.compare import compare_backends
    from fastcnn.analysis.gradcheck import gradcheck
    from fastcnn.backends.lanes import conv_algorithm as conv_algorithm
    from fastcnn.data import Dataset
    from fastcnn.execution import gradients
    from fastcnn.execution.input_gradients import input_gradient as input_gradient
    from fastcnn.execution.plan import plan as plan
    from fastcnn.execution.session import session as session
    from fastcnn.layers import *
    from fastcnn.layers.activation import *
    from fastcnn.layers.definition import from_definition as from_definition
    from fastcnn.layers.description import to_definition as to_definition
    from fastcnn.layers.saved import load as load
    from fastcnn.losses import (
        BCEWithLogitsLoss,
        CrossEntropyLoss,
        FocalLoss,
        HuberLoss,
        L1Loss,
        MSELoss,
        NLLLoss,
        SigmoidFocalLoss,
        SmoothL1Loss,
    )
    from fastcnn.training import History
    from fastcnn.training.cross_validation import cross_validate as cross_validate
    from fastcnn.training.evaluation import evaluate as evaluate
    from fastcnn.training.fit import fit as fit
    from fastcnn.training.lr_finder import lr_find as lr_find


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        value = getattr(import_module(_EXPORTS[name]), name)
    elif name in _MODULES:
        value = import_module(f"fastcnn.{name}")
    elif name == "__all__":
        # ``from fastcnn import *`` must not need scikit-learn.
        modules = (module for module in _MODULES if module != "estimators")
        value = [*_EXPORTS, *modules, *_layer_names(), "__version__"]
    elif name[:1].isupper() and name in _layer_names():
        value = getattr(import_module("fastcnn.layers"), name)
    else:
        raise AttributeError(f"module 'fastcnn' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *__getattr__("__all__")})


def _layer_names() -> list[str]:
    return [name for name in import_module("fastcnn.layers").__all__ if name[0].isupper()]

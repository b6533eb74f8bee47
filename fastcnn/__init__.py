"""Train small convolutional networks on a CPU, fast, with numpy and numba and without a C compiler.

>>> import fastcnn
>>> model = fastcnn.models.report_cnn(seed=0)
>>> train, test = fastcnn.data.load("digits012")
>>> history = fastcnn.fit(model, train, test, epochs=5)  # doctest: +SKIP
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "1.0.0"

#: What is public: subpackages, each of which lists its own names, and names by their module. The
#: layers are public too: the classes that ``fastcnn.layers`` lists.
_PUBLIC = {
    "": (
        "analysis",
        "backends",
        "benchmark",
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
        "serve",
        "training",
        "transfer",
    ),
    "analysis": ("compare_backends",),
    "analysis.gradcheck": ("gradcheck",),
    "backends.lanes": ("conv_algorithm",),
    "data": ("Dataset",),
    "execution": ("gradients",),
    "execution.input_gradients": ("input_gradient",),
    "execution.plan": ("plan",),
    "execution.session": ("session",),
    "layers.definition": ("from_definition",),
    "layers.description": ("to_definition",),
    "layers.saved": ("load",),
    "losses": (
        "BCEWithLogitsLoss",
        "CrossEntropyLoss",
        "FocalLoss",
        "HuberLoss",
        "L1Loss",
        "MSELoss",
        "NLLLoss",
        "SigmoidFocalLoss",
        "SmoothL1Loss",
    ),
    "training": ("History", "cross_validate", "evaluate", "fit", "lr_find"),
}


def door(package: str, names: Mapping[str, tuple[str, ...]]) -> tuple[Callable, Callable, list]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of a package that imports names at first use.

    Parameters
    ----------
    package : str
    names : mapping of str to tuple of str
        The public names by their module; those of ``""`` are modules themselves.
    """
    modules = {name: module for module, some in names.items() for name in some}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{modules[name] or name}")
        value = getattr(module, name) if modules[name] else module
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: sorted({*vars(sys.modules[package]), *modules}), sorted(modules)


if TYPE_CHECKING:
    from fastcnn import analysis as analysis
    from fastcnn import backends as backends
    from fastcnn import benchmark as benchmark
    from fastcnn import data as data
    from fastcnn import distributed as distributed
    from fastcnn import errors as errors
    from fastcnn import estimators as estimators
    from fastcnn import functional as functional
    from fastcnn import interop as interop
    from fastcnn import kernel as kernel
    from fastcnn import layers as layers
    from fastcnn import losses as losses
    from fastcnn import models as models
    from fastcnn import optim as optim
    from fastcnn import recipes as recipes
    from fastcnn import serve as serve
    from fastcnn import training as training
    from fastcnn import transfer as transfer
    from fastcnn.analysis import compare_backends as compare_backends
    from fastcnn.analysis.gradcheck import gradcheck as gradcheck
    from fastcnn.backends.lanes import conv_algorithm as conv_algorithm
    from fastcnn.data import Dataset as Dataset
    from fastcnn.execution import gradients as gradients
    from fastcnn.execution.input_gradients import input_gradient as input_gradient
    from fastcnn.execution.plan import plan as plan
    from fastcnn.execution.session import session as session
    from fastcnn.layers import *
    from fastcnn.layers.definition import from_definition as from_definition
    from fastcnn.layers.description import to_definition as to_definition
    from fastcnn.layers.saved import load as load
    from fastcnn.losses import BCEWithLogitsLoss as BCEWithLogitsLoss
    from fastcnn.losses import CrossEntropyLoss as CrossEntropyLoss
    from fastcnn.losses import FocalLoss as FocalLoss
    from fastcnn.losses import HuberLoss as HuberLoss
    from fastcnn.losses import L1Loss as L1Loss
    from fastcnn.losses import MSELoss as MSELoss
    from fastcnn.losses import NLLLoss as NLLLoss
    from fastcnn.losses import SigmoidFocalLoss as SigmoidFocalLoss
    from fastcnn.losses import SmoothL1Loss as SmoothL1Loss
    from fastcnn.training import History as History
    from fastcnn.training import cross_validate as cross_validate
    from fastcnn.training import evaluate as evaluate
    from fastcnn.training import fit as fit
    from fastcnn.training import lr_find as lr_find

    __all__: list[str]
else:
    _get, _dir, _names = door(__name__, _PUBLIC)

    def _layer_names() -> list[str]:
        return [name for name in import_module("fastcnn.layers").__all__ if name[0].isupper()]

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            # ``from fastcnn import *`` must not need scikit-learn.
            without = (name for name in _names if name != "estimators")
            return [*without, *_layer_names(), "__version__"]
        if name[:1].isupper() and name not in _names and name in _layer_names():
            return globals().setdefault(name, getattr(import_module("fastcnn.layers"), name))
        return _get(name)

    def __dir__() -> list[str]:
        return sorted({*_dir(), *__getattr__("__all__")})

"""Functional forms: they check what is given and let a backend compute, and so do the gradients'.

The two forms of an operation differ in little, so that of the gradient is made from the other.
"""

import inspect
from collections.abc import Callable
from typing import Any, Concatenate, NamedTuple, ParamSpec

import numpy as np

from fastcnn.arguments import as_gradient
from fastcnn.backends import get_backend

P = ParamSpec("P")


class Checked(NamedTuple):
    """What an operation is given, as backends take it.

    Attributes
    ----------
    arguments : dict
        What is passed by name. The gradient's function does not take a ``bias``.
    output : tuple of int
        Shape of the result.
    """

    arrays: tuple[np.ndarray, ...]
    arguments: dict[str, Any]
    output: tuple[int, ...]


#: Takes a function's name, for messages, and what the function was given, but for the backend.
Check = Callable[..., Checked]
#: What the gradient of an operation with weight and bias is.
OF_PARAMETERS = "``(grad_x, grad_weight, grad_bias)``."


class _Gradient(NamedTuple):
    """What stands for the backend where a functional form is called for its gradient."""

    grad_output: Any
    backend: str | None


def computed(name: str, check: Check, backend: Any, *given: Any) -> Any:
    """What a backend computes of what a functional form was given, or of that its gradient."""
    if not isinstance(backend, _Gradient):
        arrays, arguments, _ = check(name, *given)
        return _of_backend(backend, name)(*arrays, **arguments)
    name = f"{name}_backward"
    arrays, arguments, output = check(name, *given)
    arguments.pop("bias", None)
    grad = as_gradient(name, backend.grad_output, arrays[0], output)
    made = _of_backend(backend.backend, name)(grad, *arrays, **arguments)
    if isinstance(made, tuple):
        return tuple(_apart(each, grad) for each in made)
    return _apart(made, grad)


def gradient_of(function: Callable[P, Any], what: str = "") -> Callable[Concatenate[Any, P], Any]:
    """The functional form of an operation's gradient.

    It takes ``grad_output``, and then what the operation's own form takes, but for a ``bias``, on
    which no gradient depends. The results are new arrays, as all functional forms give them.

    Parameters
    ----------
    function : function
        The operation's form: it calls :func:`computed`.
    what : str
        What the gradient is, for the docstring.
    """
    name, form = f"{function.__name__}_backward", inspect.signature(function)
    names = list(form.parameters)
    bias = names.index("bias") if "bias" in names else None

    def backward(grad_output: Any, *args: Any, backend: str | None = None, **kwargs: Any) -> Any:
        if "bias" in kwargs:
            raise TypeError(f"{name}() got an unexpected keyword argument 'bias'")
        if bias is not None and len(args) > bias:
            args = (*args[:bias], None, *args[bias:])
        called: Any = function
        return called(*args, backend=_Gradient(grad_output, backend), **kwargs)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = inspect.Parameter("grad_output", kind, annotation=Any)
    rest = [own for own in form.parameters.values() if own.name != "bias"]
    backward.__name__ = backward.__qualname__ = name
    backward.__module__ = function.__module__
    of = f"Gradient of :func:`{function.__name__}`"
    backward.__doc__ = f"{of}: {what}" if what else f"{of} at its input ``x``."
    backward.__signature__ = form.replace(  # type: ignore[attr-defined]
        parameters=[first, *rest], return_annotation=Any
    )
    return backward


def axes_of(name: str) -> int:
    """Dimensions of the maps that a function takes: 1 for ``conv1d_backward``, else 2."""
    return 1 if name.removesuffix("_backward").endswith("1d") else 2


def _of_backend(backend: str | None, name: str) -> Callable[..., Any]:
    """A backend's function; those of maps take sequences, too."""
    found: Callable[..., Any] = getattr(get_backend(backend), name.replace("1d", "2d"))
    return found


def _apart(made: np.ndarray, grad_output: np.ndarray) -> np.ndarray:
    """A gradient in memory of its own: that of a sum is the output's itself."""
    return made.copy() if np.may_share_memory(made, grad_output) else made

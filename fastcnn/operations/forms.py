"""Functional forms: they check what is given and let a backend compute, and so do the gradients'.

The two forms of an operation differ in little, so that of the gradient is made from the other.
"""

import inspect
import re
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
#: What the gradient of an operation with weight and bias gives.
OF_PARAMETERS = "grad_x, grad_weight, grad_bias"

#: Sections of a functional form's docstring, and what they say where it leaves them out.
_SECTIONS = {
    "Parameters": "x : array_like, of any shape\nbackend : str, optional",
    "Returns": "ndarray, of the shape of ``x``",
    "Raises": "ShapeError\n    If the shapes do not fit.\n"
    "ConfigurationError\n    If an argument makes no sense, or the types differ.",
    "References": "",
}


def sections_of(docstring: str | None) -> dict[str, str]:
    """What a functional form's docstring says before its sections, by "", and in each of them."""
    pattern = rf"^({'|'.join(_SECTIONS)})\n-+\n"
    summary, *rest = re.split(pattern, inspect.cleandoc(docstring or ""), flags=re.MULTILINE)
    given = {title: text.strip() for title, text in zip(rest[::2], rest[1::2], strict=True)}
    return {"": summary.strip()} | _SECTIONS | given


def docstring_of(sections: dict[str, str]) -> str:
    """The docstring of all sections that say something."""
    return "\n\n".join(
        f"{title}\n{'-' * len(title)}\n{text}" if title else text
        for title, text in sections.items()
        if text
    )


class _Gradient(NamedTuple):
    """What stands for the backend where an operation's form is called for its gradient.

    So Python itself matches the arguments with the form's parameters, in the least time.
    """

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


def gradient_of(
    function: Callable[P, Any], what: str = "", gives: str = "grad_x"
) -> Callable[Concatenate[Any, P], Any]:
    """The functional form of an operation's gradient.

    It takes ``grad_output``, and then what the operation's own form takes, but for a ``bias``, on
    which no gradient depends. The results are new arrays, as all functional forms give them.

    Parameters
    ----------
    function : function
        The operation's form, which calls :func:`computed`, and whose docstring describes its
        parameters.
    what, gives : str
        How the gradient is computed, and the names of its parts, for the docstring.
    """
    of = function.__name__
    name, form = f"{of}_backward", inspect.signature(function)
    first = inspect.Parameter(
        "grad_output", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Any
    )
    rest = [own for own in form.parameters.values() if own.name != "bias"]
    signature = form.replace(parameters=[first, *rest], return_annotation=Any)
    names = list(form.parameters)
    bias = names.index("bias") if "bias" in names else len(names)

    def backward(grad_output: Any, *args: Any, backend: str | None = None, **kwargs: Any) -> Any:
        called: Any = function
        own = args if len(args) <= bias else (*args[:bias], None, *args[bias:])
        try:
            if "bias" in kwargs:
                raise TypeError
            return called(*own, backend=_Gradient(grad_output, backend), **kwargs)
        except TypeError:
            try:
                signature.bind(grad_output, *args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{name}(): {error}") from None
            raise

    backward.__name__ = backward.__qualname__ = name
    backward.__module__ = function.__module__
    backward.__signature__ = signature  # type: ignore[attr-defined]
    parameters = re.sub(
        r"^bias : .*\n", "", sections_of(function.__doc__)["Parameters"], flags=re.M
    )
    sections = {
        "": f"Gradient of :func:`{of}`" + (f": {what}" if what else "."),
        "Parameters": "grad_output : array_like\n    Gradient of the loss with respect to what "
        f":func:`{of}` gives, of its shape and type.\n" + parameters.replace(", bias :", " :"),
        "Returns": f"{gives} : ndarray\n    Each of the shape of what it is the gradient of.",
    }
    backward.__doc__ = docstring_of(sections)
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

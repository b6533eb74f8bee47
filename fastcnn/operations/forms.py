"""Functional forms: they check the arguments, and call a backend."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastcnn.arguments import as_gradient
from fastcnn.backends import get_backend


class Checked(NamedTuple):
    """Checked arguments of an operation, in the form that backends accept.

    Attributes
    ----------
    arguments : dict
        Keyword arguments. The gradient function has no ``bias``.
    output : tuple of int
        Shape of the result.
    """

    arrays: tuple[np.ndarray, ...]
    arguments: dict[str, Any]
    output: tuple[int, ...]


#: Called with a function's name, for messages, and its arguments except the backend.
Check = Callable[..., Checked]
#: Default sections of a functional form's docstring.
_SECTIONS = {
    "Parameters": "x : array_like, of any shape\nbackend : str, optional",
    "Returns": "ndarray, of the shape of ``x``",
    "Raises": "ShapeError\n    If the shapes do not match.\n"
    "ConfigurationError\n    If an argument is invalid, or the types differ.",
    "References": "",
}


def sections_of(docstring: str | None) -> dict[str, str]:
    """The sections of a functional form's docstring by title; "" for the text before them."""
    pattern = rf"^({'|'.join(_SECTIONS)})\n-+\n"
    summary, *rest = re.split(pattern, inspect.cleandoc(docstring or ""), flags=re.MULTILINE)
    given = {title: text.strip() for title, text in zip(rest[::2], rest[1::2], strict=True)}
    return {"": summary.strip()} | _SECTIONS | given


def described(form: Callable[..., Any], own: Callable[..., Any] | None) -> str:
    """A functional form's docstring, with defaults for missing sections.

    A gradient's parameters are described in the operation's ``own`` form.
    """
    sections = sections_of(form.__doc__)
    if own is not None and sections["Parameters"] == _SECTIONS["Parameters"]:
        taken = re.sub(r"^bias : .*\n", "", sections_of(own.__doc__)["Parameters"], flags=re.M)
        sections["Parameters"] = (
            "grad_output : array_like\n    Gradient of the loss with respect to what "
            f":func:`{own.__name__}` gives, of its shape and type.\n"
            + taken.replace(", bias :", " :")
        )
    return "\n\n".join(
        f"{title}\n{'-' * len(title)}\n{text}" if title else text
        for title, text in sections.items()
        if text
    )


def computed(name: str, check: Check, backend: str | None, *given: Any) -> Any:
    """Check a functional form's arguments, and compute its result with a backend."""
    arrays, arguments, _ = check(name, *given)
    return _of_backend(backend, name)(*arrays, **arguments)


def gradient(name: str, check: Check, backend: str | None, grad_output: Any, *given: Any) -> Any:
    """Check a gradient's arguments, and compute it with a backend; returns new arrays."""
    name = f"{name}_backward"
    arrays, arguments, output = check(name, *given)
    arguments.pop("bias", None)
    grad = as_gradient(name, grad_output, arrays[0], output)
    made = _of_backend(backend, name)(grad, *arrays, **arguments)
    if isinstance(made, tuple):
        return tuple(_apart(each, grad) for each in made)
    return _apart(made, grad)


def axes_of(name: str) -> int:
    """Dimensions of a function's maps: 1 for ``conv1d_backward``, otherwise 2."""
    return 1 if name.removesuffix("_backward").endswith("1d") else 2


def _of_backend(backend: str | None, name: str) -> Callable[..., Any]:
    """A backend's function; those for maps also handle sequences."""
    found: Callable[..., Any] = getattr(get_backend(backend), name.replace("1d", "2d"))
    return found


def _apart(made: np.ndarray, grad_output: np.ndarray) -> np.ndarray:
    """A gradient in separate memory: that of a sum is the output's gradient itself."""
    return made.copy() if np.may_share_memory(made, grad_output) else made

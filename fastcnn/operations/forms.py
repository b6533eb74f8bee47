"""Functional forms: they check what is given, and let a backend compute."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastcnn.arguments import as_gradient
from fastcnn.backends import get_backend


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


def described(form: Callable[..., Any], own: Callable[..., Any] | None) -> str:
    """A functional form's docstring with the sections that it leaves out.

    A gradient's parameters are described where those of the operation's ``own`` form are.
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
    """What a backend computes of what a functional form was given."""
    arrays, arguments, _ = check(name, *given)
    return _of_backend(backend, name)(*arrays, **arguments)


def gradient(name: str, check: Check, backend: str | None, grad_output: Any, *given: Any) -> Any:
    """What a backend computes of the gradient of an operation's output: new arrays."""
    name = f"{name}_backward"
    arrays, arguments, output = check(name, *given)
    arguments.pop("bias", None)
    grad = as_gradient(name, grad_output, arrays[0], output)
    made = _of_backend(backend, name)(grad, *arrays, **arguments)
    if isinstance(made, tuple):
        return tuple(_apart(each, grad) for each in made)
    return _apart(made, grad)


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

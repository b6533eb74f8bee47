"""Functional forms: they check the arguments, and call a backend."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastcnn.arguments import as_flag, as_gradient
from fastcnn.backends import get_backend
from fastcnn.errors import ConfigurationError


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
        if "output_mask" in inspect.signature(form).parameters:
            sections["Parameters"] += (
                "\noutput_mask : tuple of bool\n"
                "    Whether to compute the gradients of input, weight and bias."
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


def gradient_form(
    form: Callable[..., Any], check: Check, about: str = "", *, has_mask: bool = False
) -> Callable[..., Any]:
    """The functional form of a gradient: of ``grad_output`` and all but ``bias`` of ``form``'s.

    ``about`` is the end of its docstring's first sentence. With ``has_mask`` it also takes
    ``output_mask``, which selects gradients. It returns new arrays.
    """
    name, parameters = f"{form.__name__}_backward", inspect.signature(form).parameters
    names = [each for each in parameters if each != "backend"]
    taken = [each for each in parameters.values() if each.name != "bias"]
    kind, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    taken.insert(0, inspect.Parameter("grad_output", kind))
    if has_mask:
        taken.append(inspect.Parameter("output_mask", keyword, default=(True, True, True)))
    signature = inspect.Signature(taken)

    def backward(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        arrays, arguments, output = check(name, *map(given.get, names))
        arguments.pop("bias", None)
        grad = as_gradient(name, given["grad_output"], arrays[0], output)
        if has_mask:
            arguments["output_mask"] = _as_mask(name, given["output_mask"])
        made = _of_backend(given["backend"], name)(grad, *arrays, **arguments)
        if isinstance(made, tuple):
            return tuple(_apart(each, grad) for each in made)
        return _apart(made, grad)

    parts = [f"grad_{each}" for each in ("x", "other", "weight", "bias") if each in parameters]
    returns = f"{', '.join(parts)} : ndarray{', or None' if has_mask else ''}"
    if len(parts) < 2:
        returns = _SECTIONS["Returns"] if parts else "tuple of ndarray, one for each input"
    summary = f"Gradient of :func:`{form.__name__}`{about and f': {about}'}."
    backward.__doc__ = f"{summary}\n\nReturns\n-------\n{returns}"
    backward.__name__ = backward.__qualname__ = name
    backward.__module__ = form.__module__
    backward.__signature__ = signature  # type: ignore[attr-defined]
    return backward


def _as_mask(name: str, output_mask: Any) -> tuple[bool, ...]:
    if not isinstance(output_mask, (tuple, list)) or len(output_mask) != 3:
        raise ConfigurationError(
            f"{name}: output_mask must be three of True or False, got {output_mask!r}"
        )
    return tuple(as_flag(name, "output_mask", each) for each in output_mask)


def axes_of(name: str) -> int:
    """Dimensions of a function's maps: 1 for ``conv1d_backward``, otherwise 2."""
    return 1 if name.removesuffix("_backward").endswith("1d") else 2


def _of_backend(backend: str | None, name: str) -> Callable[..., Any]:
    """A backend's function; those for maps also handle sequences."""
    found: Callable[..., Any] = getattr(get_backend(backend), name.replace("1d", "2d"))
    return found


def _apart(made: np.ndarray | None, grad_output: np.ndarray) -> np.ndarray | None:
    """A gradient in separate memory: that of a sum is the output's gradient itself."""
    if made is None or not np.may_share_memory(made, grad_output):
        return made
    return made.copy()

"""How an option is declared, checked and described."""

import inspect
import operator
import sys
import textwrap
import typing
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from types import NoneType
from typing import Any

import numpy as np

from fastcnn.errors import ConfigurationError
from fastcnn.scalars import MOST_COUNT, is_integer

#: Types that a command line can express.
PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Declaration:
    """Properties of an option other than its name, type and default.

    Attributes
    ----------
    help : str
        For ``help(fit)`` and ``fastcnn train --help``.
    choices : collection of str
        Accepted words, if restricted.
    least, above, below : float or None
        Bounds of a number: ``least`` is inclusive, ``above`` and ``below`` are exclusive.
    most : int or None
        The largest accepted integer.
    part : str
        Part of a run's config in which it is recorded: "training" unchanged; "loss", "optimizer" or
        "schedule" as an argument of that object; "" if it does not affect results.
    """

    help: str
    choices: Collection[str] = ()
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: int | None = MOST_COUNT
    part: str = "training"


def option(default: Any, help: str, **more: Any) -> Any:
    """A field that is an option; ``more`` are attributes of :class:`Declaration`."""
    return field(default=default, metadata={"option": Declaration(help, **more)})


def declarations(options: type) -> dict[str, Declaration]:
    """The declaration of each option of a class, by name."""
    return {
        each.name: each.metadata["option"] for each in fields(options) if "option" in each.metadata
    }


def plain_type(hint: Any) -> Any:
    """The type of an option on a command line; None if it accepts only objects."""
    return next((kind for kind in (hint, *typing.get_args(hint)) if kind in PLAIN), None)


def check_value(name: str, value: Any, hint: Any, declared: Declaration) -> None:
    """Refuse a value of the wrong type or out of bounds; the message names accepted values."""
    allowed = typing.get_args(hint) or (hint,)
    if value is None and NoneType in allowed:
        return
    kind = plain_type(hint)
    if kind is None:
        return  # an object, which is checked where it is used
    passed = (kind, NoneType) if kind is str else (*PLAIN, NoneType)
    others = [each for each in allowed if each not in passed]
    if declared.choices:
        if isinstance(value, str) and value in declared.choices:
            return
        if kind is str and others and not isinstance(value, str):
            return  # as above
        if kind is str:
            raise ConfigurationError(
                f"{name} must be one of {', '.join(declared.choices)}, got {value!r}"
            )
    if object in others and not isinstance(value, (*PLAIN, np.number)):
        return  # as above
    good, words = _is(value, kind, others)
    limits = [
        (f"{word} {bound:g}", partial(holds, bound))
        for word, bound, holds in (
            ("of at least", declared.least, operator.le),
            ("above", declared.above, operator.lt),
            ("below", declared.below, operator.gt),
        )
        if bound is not None
    ]
    if good and kind in (int, float):
        good = all(holds(value) for _, holds in limits)
    if good and kind is int and declared.most is not None and value > declared.most:
        good = False
        limits.append((f"at most {declared.most:,}", partial(operator.ge, declared.most)))
    if not good:
        said = " ".join([words, " and ".join(limit for limit, _ in limits)]).strip()
        if declared.choices:
            said += f" or {' or '.join(declared.choices)}"
        raise ConfigurationError(f"{name} must be {said}, got {value!r}")


def _is(value: Any, kind: type, others: list[Any]) -> tuple[bool, str]:
    """Whether a value has a type, and the name of that type in words."""
    truth = isinstance(value, (bool, np.bool_))
    if kind is bool:
        return truth, "True or False"
    if kind is int:
        return is_integer(value), "an integer"
    if kind is float:
        number = isinstance(value, (int, float, np.integer, np.floating)) and not truth
        return number and abs(value) <= sys.float_info.max, "a finite number"
    kinds = [typing.get_origin(each) or each for each in others]
    known = {Sequence: "a list", int: "an integer", dict: "a dictionary"}
    named = [
        known.get(each) or f"a{'n' if each.__name__[0] in 'AEIO' else ''} {each.__name__}"
        for each in kinds
    ]
    return isinstance(value, (str, *kinds)), " or ".join(["text", *named])


def signature_of(function: Callable[..., Any], options: type) -> inspect.Signature:
    """A function's signature with ``**options`` replaced by a class's fields."""
    own = inspect.signature(function)
    hints = typing.get_type_hints(options)
    positional = [
        each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    keywords = [
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=hints[each.name],
        )
        for each in fields(options)
    ]
    return own.replace(parameters=[*positional, *keywords])


def documentation_of(options: type) -> str:
    """The fields of a class as entries of a numpydoc section."""
    hints, lines, indent = typing.get_type_hints(options), [], " " * 4
    for each in fields(options):
        declared = each.metadata["option"]
        allowed = typing.get_args(hints[each.name]) or (hints[each.name],)
        words = [getattr(kind, "__name__", str(kind)) for kind in allowed if kind is not NoneType]
        if declared.choices:
            words[words.index("str")] = "{" + ", ".join(map(repr, declared.choices)) + "}"
        optional = ", optional" if each.default is None else ""
        default = "" if each.default in (None, ()) else f" (default {each.default!r})"
        lines.append(f"{each.name} : {' or '.join(words)}{optional}{default}")
        lines += textwrap.wrap(declared.help, 92, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)

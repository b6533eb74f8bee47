"""Losses, optimisers and schedules by name: what is accepted, and how a run records it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from fastcnn.errors import ConfigurationError
from fastcnn.scalars import plain


@dataclass(frozen=True)
class Named:
    """Objects of one kind that can be given by name.

    Attributes
    ----------
    what : str
        The argument's name in messages.
    table : mapping of str to class
        Dataclasses by name.
    members : tuple of str
        Members that an object of this kind must have; methods end in ``()``.
    example : str
        An example object, for messages.
    defaults : mapping
        By name, default arguments of training that differ from the class's own.
    around : mapping of str to class
        Further classes allowed in descriptions, which cannot be made from a name alone.
    """

    what: str
    table: Mapping[str, Any]
    members: tuple[str, ...]
    example: str
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    around: Mapping[str, Any] = field(default_factory=dict)

    def get(self, value: Any, **numbers: Any) -> Any:
        """The object with a name, or the object itself.

        Parameters
        ----------
        value : str or object
        **numbers
            Arguments of an object given by name; None for the default.

        Raises
        ------
        ConfigurationError
            If it is neither, or an argument has no effect with it.
        """
        given = {name: number for name, number in numbers.items() if number is not None}
        if isinstance(value, str) and value in self.table:
            for name in given:
                takers = [key for key, kind in self.table.items() if name in _arguments(kind)]
                if value not in takers:
                    raise ConfigurationError(
                        f"{name} has no effect with the {self.what} {value}: it belongs to "
                        f"{', '.join(takers)}"
                    )
            return self.table[value](**{**self.defaults.get(value, {}), **given})
        if isinstance(value, (str, type)) or not all(_has(value, name) for name in self.members):
            names = ", ".join(self.table)
            other = "" if isinstance(value, str) else f", or an object such as {self.example}"
            raise ConfigurationError(f"{self.what} must be one of {names}{other}, got {value!r}")
        if given:
            raise ConfigurationError(
                f"{', '.join(given)}: no effect with {self.what}={value!r}: set it there"
            )
        return value

    def describe(self, value: Any) -> dict[str, Any]:
        """An object in JSON types: its name and arguments."""
        names = {kind: name for name, kind in {**self.table, **self.around}.items()}
        name = names.get(type(value), type(value).__name__)
        if not is_dataclass(value):
            return {"name": name, "repr": repr(value)}
        arguments = {
            each.name: self._described(getattr(value, each.name))
            for each in fields(value)
            if each.compare
        }
        return {"name": name, **arguments}

    def _described(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return [self._described(each) for each in value]
        if is_dataclass(value) or all(_has(value, name) for name in self.members):
            return self.describe(value)
        return plain(value)

    def from_description(self, description: Mapping[str, Any]) -> Any:
        """The object of a description made by :meth:`describe`.

        Raises
        ------
        ConfigurationError
            If its class is not one of this package.
        """
        arguments = {key: self._restored(own) for key, own in description.items()}
        kind: Any = {**self.table, **self.around}.get(str(arguments.pop("name", None)))
        try:
            return kind(**arguments)
        except TypeError:
            raise ConfigurationError(
                f"{self.what} {description!r} is not one of {', '.join(self.table)}"
            ) from None

    def _restored(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self._restored(each) for each in value)
        return self.from_description(value) if isinstance(value, dict) else value


def _has(value: Any, member: str) -> bool:
    found = getattr(value, member.removesuffix("()"), None)
    return found is not None and callable(found) >= member.endswith("()")


def _arguments(kind: Any) -> set[str]:
    return {each.name for each in fields(kind)}

"""Identifiers of C for the arrays of layers."""

from collections.abc import Iterable


def identifier(key: str) -> str:
    """A state key or a layer's path as part of a C identifier."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in key)


def label(key: str, keys: Iterable[str]) -> str:
    """A key as part of an identifier that no other key has: ``a.b`` and ``a_b`` look alike in C."""
    alike = [other for other in keys if identifier(other) == identifier(key)]
    place = alike.index(key)
    return f"{identifier(key)}_{place + 1}" if place else identifier(key)

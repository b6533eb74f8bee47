"""TOML writing: Python's standard library can only read it."""

import json
import re
from collections.abc import Mapping
from typing import Any

BARE = re.compile(r"[A-Za-z0-9_-]+")
#: Line length above which a list gets one line per entry.
WIDTH = 100


def toml_text(tables: Mapping[str, Any]) -> str:
    """TOML text of tables, as read by ``tomllib``: one section per table of the first level.

    Parameters
    ----------
    tables : mapping
        Text, numbers, booleans, lists and mappings with text as keys.

    Raises
    ------
    TypeError
        If a value is of another type.
    """
    plain = [f"{key(k)} = {_value(v)}" for k, v in tables.items() if not isinstance(v, Mapping)]
    parts = ["\n".join(plain)] if plain else []
    for name, table in tables.items():
        if isinstance(table, Mapping):
            lines = [f"{key(k)} = {_value(v)}" for k, v in table.items()]
            parts.append("\n".join([f"[{key(name)}]", *lines]))
    return "\n\n".join(parts) + "\n"


def key(name: str) -> str:
    """A key, in quotes where it needs them."""
    return name if BARE.fullmatch(name) else json.dumps(name)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        entries = [_value(each) for each in value]
        line = "[" + ", ".join(entries) + "]"
        if len(line) < WIDTH or not any(isinstance(each, Mapping) for each in value):
            return line
        return "[\n" + "".join(f"  {entry},\n" for entry in entries) + "]"
    if isinstance(value, (bool, str)):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (int, float)):
        return repr(value)
    raise TypeError(f"TOML has no {type(value).__name__}: {value!r}")

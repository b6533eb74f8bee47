"""The page in which one draws a picture for a network."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

import fastcnn
from fastcnn.data.pictures import Pictures
from fastcnn.errors import counted


def part(name: str) -> str:
    """A file of the page."""
    return (files("fastcnn.interop.html_page") / "page" / name).read_text(encoding="utf-8")


def title_of(rule: Pictures, classes: Sequence[str]) -> str:
    """What one draws: a digit, if the classes are digits and the pictures are grey."""
    digits = rule.shape[0] == 1 and bool(classes) and set(classes) <= set("0123456789")
    return "Draw a digit" if digits else "Draw or drop a picture"


def drawing_page(
    rule: Pictures,
    classes: Sequence[str],
    parameters: int,
    *,
    title: str,
    name: str = "",
    **elements: str,
) -> str:
    """The page, with its ``policy``, ``style`` and ``scripts`` as elements, and a ``footer``."""
    words = [
        f"{name}{counted(parameters, 'parameter')}",
        *([counted(len(classes), "class")] if classes else []),
        rule.describe(),
    ]
    return Template(part("index.html")).substitute(
        elements, version=fastcnn.__version__, title=escape(title), facts=escape("; ".join(words))
    )

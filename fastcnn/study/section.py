"""Sections of the page: text in English and Chinese, figures and tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Text:
    """A text in two languages; the report's readers read Chinese."""

    en: str
    zh: str


@dataclass(frozen=True)
class Figure:
    """A figure with its caption.

    Attributes
    ----------
    name : str
        Name of the file.
    draw : callable
        Makes a matplotlib figure in the current style; called for both the light and the dark
        style.
    """

    name: str
    draw: Callable[[], Any]
    caption: Text


@dataclass(frozen=True)
class Table:
    """A table with its caption; the first column is text, the others are numbers."""

    header: Sequence[Text]
    rows: Sequence[Sequence[str | Text]]
    caption: Text


@dataclass(frozen=True)
class Section:
    """One experiment.

    Attributes
    ----------
    name : str
        The section's anchor on the page.
    findings : sequence of Text
        Sentences with the measured results.
    """

    name: str
    title: Text
    findings: Sequence[Text]
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()


def spread(values: Sequence[float] | np.ndarray, scale: float = 1.0) -> str:
    """Mean, minimum and maximum of all that are not NaN, times a factor."""
    scaled = scale * np.asarray(values)
    return f"{np.nanmean(scaled):.2f} ({np.nanmin(scaled):.2f}-{np.nanmax(scaled):.2f})"

"""A study as one self-contained HTML page, and its figures as files."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import product
from pathlib import Path
from string import Template

from fastcnn.files import atomic_write
from fastcnn.study.chinese import translate
from fastcnn.study.section import Figure, Section, Table, Text
from fastcnn.training.figure import THEMES, family_with, png, theme


@dataclass(frozen=True)
class Drawn:
    """A section as HTML, with its figures."""

    name: str
    title: Text
    html: str


def write_page(sections: Sequence[Drawn], out: Path, facts: Sequence[Text]) -> Path:
    """Write ``index.html``; returns its path.

    Parameters
    ----------
    out : Path
        The folder, which is made with ``figures/`` if it is missing.
    facts : sequence of Text
        The basis of the study.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    (out / "figures").mkdir(parents=True, exist_ok=True)
    links = "".join(
        f'<li><a href="#{section.name}">{_both(section.title)}</a></li>' for section in sections
    )
    body = "".join(section.html for section in sections)
    template = Template((files("fastcnn.study") / "page.html").read_text(encoding="utf-8"))
    page = template.substitute(
        links=links, sections=body, facts="".join(f"<p>{_both(fact)}</p>" for fact in facts)
    )
    atomic_write(out / "index.html", page.encode())
    return out / "index.html"


def draw_section(section: Section, out: Path) -> Drawn:
    """Draw a section's figures into the folder of the page."""
    findings = "".join(f"<li>{_both(finding)}</li>" for finding in section.findings)
    html = (
        f'<section id="{section.name}"><h2>{_both(section.title)}</h2><ul>{findings}</ul>'
        + "".join(map(_table, section.tables))
        + "".join(_figure(figure, out / "figures") for figure in section.figures)
        + "</section>"
    )
    return Drawn(section.name, section.title, html)


def _table(table: Table) -> str:
    header = "".join(f"<th>{_both(cell)}</th>" for cell in table.header)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return (
        f'<figure><div class="scroll"><table><thead><tr>{header}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        f"<figcaption>{_both(table.caption)}</figcaption></figure>"
    )


def _cell(cell: str | Text) -> str:
    return _both(cell) if isinstance(cell, Text) else escape(cell)


def _figure(figure: Figure, folder: Path) -> str:
    images = ""
    # Without a font that has Chinese characters, both languages show the English figure.
    languages = ("en", "zh") if family_with("学习率") else ("",)
    for name, language in product(THEMES, languages):
        content = draw(figure, name, language)
        atomic_write(folder / f"{figure.name}-{name}{'-zh' * (language == 'zh')}.png", content)
        caption = figure.caption.zh if language == "zh" else figure.caption.en
        images += (
            f'<img class="{name} {language}" alt="{escape(caption, quote=True)}" '
            f'src="data:image/png;base64,{base64.b64encode(content).decode()}">'
        )
    return (
        f'<figure><div class="scroll">{images}</div>'
        f"<figcaption>{_both(figure.caption)}</figcaption></figure>"
    )


def draw(figure: Figure, colours: str, language: str) -> bytes:
    """A figure as PNG in the colours of a page, light or dark, and in one of its languages."""
    with theme(colours):
        drawn = figure.draw()
        if language == "zh":
            translate(drawn)
        return png(drawn)


def _chinese(words: str) -> str:
    """Convert separators between numbers and names from English to Chinese."""
    for english, chinese in ((" %", "%"), (", ", "，"), ("; ", "；"), (": ", "：")):
        words = words.replace(english, chinese)
    return words


def _both(text: Text) -> str:
    """Both languages, of which the page shows one."""
    if text.en == text.zh:
        return escape(text.en)
    return "".join(
        f'<span class="{name}" lang="{name}">{escape(words)}</span>'
        for name, words in (("en", text.en), ("zh", _chinese(text.zh)))
    )

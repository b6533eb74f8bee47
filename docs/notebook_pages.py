"""Notebooks as pages of the site: cells are run, with what they print and draw below them."""

import base64
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

import matplotlib as mpl
from docutils import nodes
from myst_parser.parsers.sphinx_ import MystParser
from notebook_cells import Output, cells, run_cell


def markdown(text: str, name: str) -> str:
    """A notebook as Markdown, with the output of each cell."""
    names: dict[str, Any] = {"__name__": "__main__"}
    parts = []
    with tempfile.TemporaryDirectory() as folder, chdir(folder), mpl.rc_context():
        mpl.use("Agg")
        for place, (kind, source) in enumerate(cells(text)):
            if kind == "markdown":
                parts.append(source)
            else:
                output = run_cell(source, names, f"{name}, cell {place}")
                parts += [_fenced("python", source), *_shown(output)]
            if place == 0:
                parts.append(f"{{download}}`Download this notebook <{name}>`.")
    return "\n\n".join(parts)


def _shown(output: Output) -> list[str]:
    parts = [_fenced("text", output.printed)] if output.printed else []
    pictures = list(output.figures)
    if hasattr(output.value, "_repr_png_"):
        pictures.append(output.value._repr_png_())
    elif hasattr(output.value, "_repr_html_"):
        table = output.value._repr_html_().replace("<table", '<table class="docutils"', 1)
        parts.append(_fenced("{raw} html", f'<div class="table-wrapper">{table}</div>'))
    elif output.value is not None:
        parts.append(_fenced("text", repr(output.value)))
    for picture in pictures:
        data = base64.b64encode(picture).decode()
        image = f'<p><img alt="What the cell above draws" src="data:image/png;base64,{data}"></p>'
        parts.append(_fenced("{raw} html", image))
    return parts


def _fenced(language: str, text: str) -> str:
    return f"````{language}\n{text.rstrip()}\n````"


class NotebookParser(MystParser):
    """Reads a notebook as the Markdown that it makes."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Fill the document."""
        super().parse(markdown(inputstring, Path(document["source"]).name), document)


def setup(app: Any) -> dict[str, bool]:
    """Register notebooks as sources of pages."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": False}

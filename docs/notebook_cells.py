"""The cells of a notebook, run from top to bottom."""

import ast
import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Output:
    """What a cell gave: its printed lines, the value of its last line, and figures as PNG files."""

    printed: str
    value: Any
    figures: list[bytes]


def cells(text: str) -> list[tuple[str, str]]:
    """Kind and source of each cell of a notebook."""
    return [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]


def run_cell(source: str, names: dict[str, Any], where: str) -> Output:
    """Run the code of a cell as Jupyter would; ``where`` is its place in a traceback."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    value = None
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, where, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
    return Output(
        printed.getvalue(), None if source.rstrip().endswith(";") else value, _figures(names)
    )


def _figures(names: dict[str, Any]) -> list[bytes]:
    """The open figures of pyplot, which are closed."""
    if "plt" not in names:
        return []
    pictures = []
    for number in names["plt"].get_fignums():
        buffer = io.BytesIO()
        names["plt"].figure(number).savefig(buffer, dpi=120, bbox_inches="tight")
        pictures.append(buffer.getvalue())
    names["plt"].close("all")
    return pictures

"""A model as a table: shapes, parameters and FLOPs of its layers."""

from dataclasses import dataclass

from fastcnn.backends.graph import Shape
from fastcnn.layers.builder import GraphBuilder
from fastcnn.notebook import html_table
from fastcnn.text_table import text_table

COLUMNS = ("layer", "", "output shape", "parameters", "FLOPs")


@dataclass(frozen=True)
class SummaryRow:
    """One line of a summary."""

    name: str
    description: str
    output_shape: Shape
    parameters: int
    flops: int


def summary_rows(builder: GraphBuilder) -> list[SummaryRow]:
    """One line per node; shared parameters are counted at their first use."""
    counted: dict[str, str] = {}
    rows = []
    for node, layer in zip(builder.nodes, builder.layers, strict=True):
        keys = node.parameters
        owners = dict.fromkeys(counted[key] for key in keys.values() if key in counted)
        rows.append(
            SummaryRow(
                node.name,
                repr(layer) + (f", shared with {', '.join(owners)}" if owners else ""),
                node.output_shape,
                sum(layer.parameters[k].size for k, key in keys.items() if key not in counted),
                layer.flops(*node.input_shapes),
            )
        )
        for key in keys.values():
            counted.setdefault(key, node.name)
    return rows


def text_summary(builder: GraphBuilder) -> str:
    """The summary for a terminal."""
    *rows, total = _cells(builder)
    return text_table(COLUMNS, rows, left=3, footer=total)


def html_summary(builder: GraphBuilder, caption: str) -> str:
    """The summary for a notebook."""
    *rows, total = _cells(builder)
    return html_table(COLUMNS, rows, caption=caption, left=3, footer=total)


def _cells(builder: GraphBuilder) -> list[tuple[str, ...]]:
    """The lines of a summary, with the totals last."""
    rows = summary_rows(builder)
    parameters, flops = (
        sum(getattr(row, name) for row in rows) for name in ("parameters", "flops")
    )
    return [
        *(
            (
                row.name,
                row.description,
                str(row.output_shape),
                f"{row.parameters:,}",
                f"{row.flops:,}",
            )
            for row in rows
        ),
        ("total", "", "", f"{parameters:,}", f"{flops:,}"),
    ]

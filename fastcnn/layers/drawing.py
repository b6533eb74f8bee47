"""Drawings of networks as SVG: boxes in rows, from the inputs down to the outputs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path

from fastcnn.backends.graph import INPUT, Graph, Shape
from fastcnn.errors import ConfigurationError, counted
from fastcnn.files import atomic_write, expanded
from fastcnn.layers.builder import GraphBuilder

#: Heights, distances and character width, in pixels.
BOX_HEIGHT, ROW, GAP, LETTER, MARGIN, TRACK = 38, 62, 18, 6.4, 12, 8
#: Sweeps over the rows that order the boxes, and that align them.
SWEEPS = 24
#: Fill and edge of boxes, by a part of their operation's name; the first match applies.
COLOURS = (
    ("input", ("#eceff4", "#66718a")),
    ("conv", ("#dbe8fb", "#3f6fb5")),
    ("linear", ("#e6dffa", "#6a4fb0")),
    ("norm", ("#d9f2ee", "#2f8577")),
    ("pool", ("#fdebd3", "#b5762a")),
    ("dropout", ("#f1f1f1", "#8a8a8a")),
    ("flatten", ("#f1f1f1", "#8a8a8a")),
    ("add", ("#fbdede", "#b14848")),
    ("subtract", ("#fbdede", "#b14848")),
    ("multiply", ("#fbdede", "#b14848")),
    ("concat", ("#fbdede", "#b14848")),
    ("", ("#e2f3d8", "#56883a")),
)


@dataclass(frozen=True)
class Drawing:
    """A drawing of a network, displayed by notebooks.

    Attributes
    ----------
    svg : str
    """

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> None:
        """Write it to a file.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        ConfigurationError
            If its name does not end in ``.svg``.
        OSError
            If it cannot be written.
        """
        path = expanded(path)
        if path.suffix.lower() != ".svg":
            raise ConfigurationError(f"{path}: pictures of networks are .svg files")
        atomic_write(path, self.svg.encode())


@dataclass
class _Item:
    """A box, or with width ``TRACK`` the point where an edge crosses a row."""

    row: int
    width: float
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    x: float = 0.0


@dataclass(frozen=True)
class _Box:
    title: str
    text: str
    operation: str
    hint: str


def draw(builder: GraphBuilder, caption: str) -> Drawing:
    """The drawing of a graph."""
    graph = builder.build()
    boxes, sources = _boxes(builder, graph)
    items, paths = _laid_out(boxes, sources)
    return Drawing(_svg(boxes, items, paths, caption))


def _shape(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _boxes(builder: GraphBuilder, graph: Graph) -> tuple[list[_Box], list[list[int]]]:
    """Boxes of inputs, nodes and outputs, and the predecessors of each."""
    boxes: list[_Box] = []
    sources: list[list[int]] = []
    box_of: dict[int, int] = {}
    if not graph.inputs:
        boxes.append(_Box("input", _shape(graph.input_shape), "input", "the model's input"))
        sources.append([])
        box_of[INPUT] = 0
    hidden = _hidden(graph)
    for index, (node, layer) in enumerate(zip(graph.nodes, builder.layers, strict=True)):
        if index in hidden:
            continue
        is_input = node.operation == "input_part"
        numbers = sum(value.size for value in layer.parameters.values())
        hint = f"{node.name}: {layer!r}, {counted(numbers, 'parameter')}"
        text = (
            _shape(node.output_shape)
            if is_input
            else (f"{type(layer).__name__} → {_shape(node.output_shape)}")
        )
        box_of[index] = len(boxes)
        boxes.append(_Box(node.name, text, node.operation, hint))
        sources.append([] if is_input else [box_of[source] for source in node.inputs])
    for name, source, shape in _outputs(graph):
        boxes.append(_Box(name, _shape(shape), "input", "an output of the model"))
        sources.append([box_of[source]])
    return boxes, sources


def _hidden(graph: Graph) -> set[int]:
    """Nodes that only pack several outputs into one array."""
    if not graph.outputs:
        return set()
    last = len(graph.nodes) - 1
    made = {source for _, source, _ in _outputs(graph)}
    return {last, *(source for source in graph.nodes[last].inputs if source not in made)}


def _outputs(graph: Graph) -> list[tuple[str, int, Shape]]:
    """Name, node and shape of each output."""
    if not graph.outputs:
        return [("output", len(graph.nodes) - 1, graph.output_shape)]
    found = []
    for port, source in zip(graph.outputs, graph.nodes[-1].inputs, strict=True):
        if graph.nodes[source].output_shape != port.shape:
            (source,) = graph.nodes[source].inputs
        found.append((port.name, source, port.shape))
    return found


def _laid_out(
    boxes: Sequence[_Box], sources: Sequence[Sequence[int]]
) -> tuple[list[_Item], list[list[int]]]:
    """Items for the boxes, then for the edges that cross rows; and the items of each edge's path.

    Rows by the longest path from an input, order by the mean position of neighbours: Sugiyama,
    Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", 1981.
    """
    rows = [0] * len(boxes)
    for index, reads in enumerate(sources):
        rows[index] = 1 + max((rows[source] for source in reads), default=-1)
    for index in reversed(range(len(boxes))):
        readers = [rows[other] for other, reads in enumerate(sources) if index in reads]
        if not sources[index] and readers:
            rows[index] = min(readers) - 1
    items = [_Item(row, _width(box)) for row, box in zip(rows, boxes, strict=True)]
    paths: list[list[int]] = []
    for index, reads in enumerate(sources):
        for source in reads:
            path = [source]
            for row in range(rows[source] + 1, rows[index]):
                items.append(_Item(row, TRACK))
                path.append(len(items) - 1)
            path.append(index)
            paths.append(path)
            for upper, lower in pairwise(path):
                items[upper].below.append(lower)
                items[lower].above.append(upper)
    by_row: list[list[int]] = [[] for _ in range(max(rows) + 1)]
    for index, item in enumerate(items):
        by_row[item.row].append(index)
    _order(items, by_row)
    for _ in range(SWEEPS):
        for each in (*by_row, *reversed(by_row)):
            _move(items, each)
    return items, paths


def _width(box: _Box) -> float:
    return max(80.0, LETTER * max(len(box.title) * 1.08, len(box.text)) + 18)


def _order(items: list[_Item], by_row: list[list[int]]) -> None:
    """Sort each row by the mean positions of neighbours."""
    place = {index: float(at) for row in by_row for at, index in enumerate(row)}
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in by_row if down else reversed(by_row):
            near = {index: items[index].above if down else items[index].below for index in row}
            row.sort(
                key=lambda index, near=near: (  # type: ignore[misc]
                    sum(place[n] for n in near[index]) / len(near[index])
                    if near[index]
                    else place[index]
                )
            )
            for at, index in enumerate(row):
                place[index] = at - (len(row) - 1) / 2


def _move(items: list[_Item], row: list[int]) -> None:
    """Align a row's items with their neighbours, as closely as order and widths allow.

    Minimises the sum of squared deviations: an isotonic regression, by pooling adjacent violators.
    """
    offsets, wanted = [0.0], []
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (items[left].width + items[right].width) / 2 + GAP)
    for index, offset in zip(row, offsets, strict=True):
        near = [items[n].x for n in (*items[index].above, *items[index].below)]
        wanted.append((sum(near) / len(near) if near else items[index].x) - offset)
    pools: list[tuple[float, int]] = []
    for value in wanted:
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (b, m), (a, n) = pools.pop(), pools.pop()
            pools.append(((a * n + b * m) / (n + m), n + m))
    places = [value for value, count in pools for _ in range(count)]
    for index, place, offset in zip(row, places, offsets, strict=True):
        items[index].x = place + offset


def _svg(
    boxes: Sequence[_Box], items: Sequence[_Item], paths: Iterable[list[int]], caption: str
) -> str:
    left = min(item.x - item.width / 2 for item in items) - MARGIN
    right = max(item.x + item.width / 2 for item in items) + MARGIN
    width, height = right - left, (1 + max(i.row for i in items)) * ROW - (ROW - BOX_HEIGHT)
    height += 2 * MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.1f} {height:.1f}" font-family="system-ui, sans-serif" '
        f'role="img" aria-label="{escape(caption)}">',
        f"<title>{escape(caption)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<g fill="none" stroke="#8a93a5" stroke-width="1.4">',
    ]
    ways = ([items[index] for index in path] for path in paths)
    lines += [f'<path d="{_curve(way, left)}"/>' for way in ways]
    lines.append("</g>")
    for box, item in zip(boxes, items, strict=False):
        fill, edge = next(colours for word, colours in COLOURS if word in box.operation)
        x, y = item.x - left, MARGIN + item.row * ROW
        lines += [
            f"<g><title>{escape(box.hint)}</title>",
            f'<rect x="{x - item.width / 2:.1f}" y="{y}" width="{item.width:.1f}" '
            f'height="{BOX_HEIGHT}" rx="6" fill="{fill}" stroke="{edge}"/>',
            f'<text x="{x:.1f}" y="{y + 16}" text-anchor="middle" font-size="12" '
            f'font-weight="600" fill="#1c2230">{escape(box.title)}</text>',
            f'<text x="{x:.1f}" y="{y + 30}" text-anchor="middle" font-size="11" '
            f'fill="#3d4557">{escape(box.text)}</text></g>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _curve(way: Sequence[_Item], left: float) -> str:
    """An edge between boxes, vertical where it crosses a row."""
    first = way[0]
    x, y = first.x - left, float(MARGIN + first.row * ROW + BOX_HEIGHT)
    parts = [f"M{x:.1f} {y:.1f}"]
    for item in way[1:]:
        to, top = item.x - left, float(MARGIN + item.row * ROW)
        half = (y + top) / 2
        parts.append(f"C{x:.1f} {half:.1f} {to:.1f} {half:.1f} {to:.1f} {top:.1f}")
        x, y = to, top
        if item is not way[-1]:
            y = top + BOX_HEIGHT
            parts.append(f"L{x:.1f} {y:.1f}")
    return " ".join(parts)

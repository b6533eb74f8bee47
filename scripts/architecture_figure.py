"""Draw the rooms of the package: ``.venv/bin/python scripts/architecture_figure.py``."""

import ast
import io
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from fastcnn.files import atomic_write
from fastcnn.training.figure import new_figure

ROOT = Path(__file__).resolve().parent.parent
PACKAGE, PICTURE = ROOT / "fastcnn", ROOT / "docs" / "images" / "architecture.svg"
MODULES = {path.stem for path in PACKAGE.iterdir()}
#: Rooms that are drawn separately, not as a part of ``backends``.
BACKENDS = {"lanes", "im2col", "reference"}
#: Single files that any room may import, and two that only re-export.
SMALL = {
    "arguments",
    "cores",
    "forks",
    "errors",
    "extras",
    "files",
    "named",
    "notebook",
    "scalars",
    "text_table",
    "timing",
    "weights",
    "__init__",
    "__main__",
}
#: ``model.predict`` imports the runner when it is called; see tests/test_architecture.py.
LATE = {("layers", "execution")}
COLOURS = {
    "#0072B2": ("describe", {"layers", "losses", "models", "operations", "optim", "data"}),
    "#B34700": ("compute", {"backends", "codegen", "execution", *BACKENDS}),
    "#00735C": ("use", set()),
}
Edges = dict[str, set[str]]


def room(parts: tuple[str, ...]) -> str:
    """The room of a module, from its path within the package."""
    names = [part.removesuffix(".py") for part in parts]
    return names[1] if names[0] == "backends" and {*names[1:2]} & BACKENDS else names[0]


def imports() -> Edges:
    """The rooms that each room imports."""
    edges: Edges = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        here = room(path.relative_to(PACKAGE).parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _names(node):
                there = room(name)
                if here != there and not {here, there} & SMALL and (here, there) not in LATE:
                    edges[here].add(there)
    return {name: edges[name] for name in sorted({*edges, *set().union(*edges.values())})}


def _names(node: ast.AST) -> list[tuple[str, ...]]:
    """The modules of the package that a statement imports, without the package's own name."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    parts = [tuple(name.split(".")[1:]) for name in names if name.startswith("fastcnn.")]
    return [part for part in parts if part and part[0] in MODULES]


def reached(edges: Edges, name: str) -> set[str]:
    """All rooms below one."""
    return edges[name].union(*(reached(edges, below) for below in edges[name]))


def arrows(edges: Edges) -> Edges:
    """The imports without those implied by others (the transitive reduction)."""
    return {
        name: {
            below
            for below in edges[name]
            if not any(below in reached(edges, other) for other in edges[name] - {below})
        }
        for name in edges
    }


def storeys(edges: Edges) -> list[list[str]]:
    """The rooms of each level, the lowest first: each directly below the lowest that imports it."""

    def height(name: str) -> int:
        return 1 + max((height(below) for below in edges[name]), default=-1)

    def level(name: str) -> int:
        above = [level(other) for other in edges if name in edges[other]]
        return min(above) - 1 if above else height(name)

    rows: dict[int, list[str]] = defaultdict(list)
    for name in edges:
        rows[level(name)].append(name)
    return [rows[row] for row in sorted(rows)]


def layout(edges: Edges) -> tuple[dict[str, tuple[float, int]], list[list[str]]]:
    """Positions of the rooms, and the arrows as the positions that they pass."""
    rows = storeys(edges)
    level = {name: row for row, names in enumerate(rows) for name in names}
    paths = []
    for name, below in arrows(edges).items():
        for other in sorted(below):
            # An arrow over several levels gets a position of its own in those between.
            between = {f"{name}>{other}>{row}": row for row in range(level[other] + 1, level[name])}
            for place, at in between.items():
                rows[at].append(place)
            paths.append([name, *reversed(between), other])
    near: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        for first, second in pairwise(path):
            near[first].append(second)
            near[second].append(first)
    x = {name: float(place) for row in rows for place, name in enumerate(row)}
    for turn in range(60):
        for row in (*rows, *reversed(rows)):
            wanted = {name: _mean([x[each] for each in near[name]]) for name in row}
            if turn < 30:
                row.sort(key=wanted.__getitem__)
            x |= _apart(row, wanted)
    return {name: (x[name], row) for row, names in enumerate(rows) for name in names}, paths


def _mean(values: list[float]) -> float:
    return sum(values) / max(len(values), 1)


def _apart(row: list[str], wanted: dict[str, float]) -> dict[str, float]:
    """Positions close to the desired ones, in the row's order, that do not overlap."""
    from_left, from_right = dict(wanted), dict(wanted)
    for first, second in pairwise(row):
        from_left[second] = max(from_left[second], from_left[first] + _between(first, second))
    for second, first in pairwise(reversed(row)):
        from_right[first] = min(from_right[first], from_right[second] - _between(first, second))
    return {name: (from_left[name] + from_right[name]) / 2 for name in row}


def _between(first: str, second: str) -> float:
    return sum(0.12 if ">" in name else 0.5 for name in (first, second))


def figure() -> Any:
    """The figure: rooms as boxes, imports as arrows that point down."""
    from matplotlib.patches import FancyBboxPatch, Patch

    edges = imports()
    places, paths = layout(edges)
    left, right = (find(x for name, (x, _) in places.items()) for find in (min, max))
    drawn = new_figure(6.2, 5.6, layout=None)
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.set_xlim(left - 0.55, right + 0.55)
    axes.set_ylim(-0.5, max(row for _, row in places.values()) + 0.5)
    for path in paths:
        points = [places[name] for name in path]
        xs, ys = [x for x, _ in points], [float(row) for _, row in points]
        ys[0] -= 0.22
        axes.plot(
            xs[:-1] + xs[-1:],
            [*ys[:-1], ys[-1] + 0.26],
            color="#888888",
            linewidth=0.9,
            zorder=1,
            gid=f"arrow:{path[0]}:{path[-1]}",
        )
        axes.plot(xs[-1], ys[-1] + 0.27, marker="v", color="#888888", markersize=4, zorder=1)
    for name in edges:
        x, row = places[name]
        colour = next(c for c, (_, names) in COLOURS.items() if name in names or not names)
        axes.add_patch(
            FancyBboxPatch(
                (x - 0.41, row - 0.18),
                0.82,
                0.36,
                boxstyle="round,pad=0.04",
                facecolor=colour,
                edgecolor="white",
                gid=f"room:{name}",
                zorder=2,
            )
        )
        axes.text(x, row - 0.01, name, color="white", fontsize=8, ha="center", va="center")
    axes.legend(
        handles=[Patch(color=colour, label=label) for colour, (label, _) in COLOURS.items()],
        loc="upper left",
        fontsize=8,
        frameon=False,
    )
    axes.set_axis_off()
    return drawn


def main() -> None:
    """Write the figure."""
    import matplotlib

    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fastcnn"}):
        figure().savefig(stream, format="svg", metadata={"Date": None}, facecolor="white")
    text = "\n".join(line.rstrip() for line in stream.getvalue().decode().splitlines())
    atomic_write(PICTURE, f"{text}\n".encode())


if __name__ == "__main__":
    main()

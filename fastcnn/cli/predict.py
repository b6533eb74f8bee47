"""``fastcnn predict``."""

import csv
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len, set_cell_size
from rich.table import Column, Table

from fastcnn.cli.arguments import Invert, RunFolder
from fastcnn.cli.lines import complain
from fastcnn.cli.screen import Screen, number_columns
from fastcnn.errors import sentence

if TYPE_CHECKING:
    import numpy as np

    from fastcnn.data import Pictures
    from fastcnn.data.images import Picture
    from fastcnn.errors import DataError


#: Probabilities shown on a line: those of ten classes do not fit on a terminal.
LIKELIEST = 3
#: Number of pictures up to which loading the engine's program and kernels does not pay off.
FEW = 100
#: Values that fit on a line.
VALUES = 4


def predict(
    run: RunFolder,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURE...",
            help="PNG, JPEG, WebP, GIF, BMP or TIFF files, or folders of them.",
        ),
    ],
    invert: Invert = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help=f"Show the probabilities of all classes, not only the {LIKELIEST} most likely.",
        ),
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print comma-separated values, one line per picture.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per picture.")
    ] = False,
    backend: Annotated[
        str | None,
        typer.Option(
            help="reference, im2col or lanes; by default im2col, which starts faster, for up to "
            f"{FEW} pictures, and lanes for more."
        ),
    ] = None,
) -> None:
    """Classify pictures with a trained network, or predict values for them.

    Pictures are converted as in training (size, colour, scale); the output says how. Folders are
    searched recursively. The exit status is 1 if some pictures cannot be read, and 2 if none can.

    Examples:

      fastcnn predict RUN digit.png

      fastcnn predict RUN scans --csv > scans.csv
    """
    import numpy as np

    from fastcnn.errors import ConfigurationError
    from fastcnn.functional import sigmoid, softmax
    from fastcnn.training import Run

    if as_csv + as_json + every > 1:
        raise ConfigurationError(
            "--csv, --json and --all exclude each other: the first two print everything"
        )
    opened = Run.open(run)
    paths, passed = _pictures(images)
    model = opened.load_model()
    rule = opened.normalisation.rule_for_pictures(model.input_shape)
    shape = model.graph().output_shape
    if model.gives > 1:
        raise ConfigurationError(f"{run}: the network has {model.gives} outputs: use Python")
    if len(shape) != 1:
        raise ConfigurationError(f"{run}: the network outputs arrays of shape {shape}: use Python")
    paths, read, refused = _read(paths, rule, invert)
    backend = backend or ("im2col" if len(read) <= FEW else None)
    outputs = model.logits(np.stack([picture.pixels for picture in read]), backend=backend)
    values = not model.predicts_classes
    if model.predicts in ("label", "labels"):
        outputs = sigmoid(outputs, backend="im2col")
    names = opened.classes
    if values:
        numbered = tuple(f"value {index}" for index in range(shape[0]))
        names = numbered if len(numbered) > 1 else ("value",)
    numbers = outputs if values else softmax(outputs, backend="im2col")
    if as_json:
        for path, row, picture in zip(paths, numbers, read, strict=True):
            answer: dict[str, Any] = {"values": row.tolist()}
            if not values:
                answer = {"class": names[int(row.argmax())]}
                answer["probabilities"] = dict(zip(names, map(float, row), strict=True))
            typer.echo(json.dumps({"image": str(path), **answer, "done": picture.done}))
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["image", *([] if values else ["class"]), *names])
        for path, row in zip(paths, numbers, strict=True):
            best = [] if values else [names[int(row.argmax())]]
            writer.writerow([path, *best, *(f"{value:.6g}" for value in row)])
    else:
        console = Screen()
        shown = _shown(paths, images)
        if values:
            console.show(_values(shown, numbers, names))
        elif every:
            console.show(_downwards(shown, _ranked(numbers, names), "class"))
        else:
            console.show(_likeliest(shown, _ranked(numbers, names), console.width))
        if len(paths) > 1 and not values:
            counts = Counter(names[index] for index in numbers.argmax(axis=1).tolist())
            shares = ", ".join(f"{name} ({count:,})" for name, count in counts.most_common())
            console.say(f"{len(paths):,} pictures: {shares}")
        if passed:
            console.say(f"skipped: {passed}", style="yellow")
        _print_changes(console, shown, read)
    _complain(refused)
    if refused:
        raise typer.Exit(1)


def _read(
    paths: list[Path], rule: "Pictures", invert: bool | None
) -> "tuple[list[Path], list[Picture], list[DataError]]":
    """The paths of pictures that can be read, the pictures, and the errors of the others.

    Raises the last of these if no picture can be read.
    """
    from fastcnn.data import read_picture
    from fastcnn.errors import DataError

    readable, read, refused = [], [], []
    for path in paths:
        try:
            read.append(read_picture(path, rule, invert=invert))
            readable.append(path)
        except DataError as error:
            refused.append(error)
    if not read:
        _complain(refused[:-1])
        raise refused[-1]
    return readable, read, refused


def _complain(refused: "list[DataError]") -> None:
    for error in refused:
        complain(f"error: {sentence(error)}")


def _shown(paths: list[Path], given: list[Path]) -> list[str]:
    """Names of pictures in a table: relative to the folder, if a folder was given."""
    folder = given[0] if len(given) == 1 and given[0].is_dir() else None
    return [str(path if folder is None else path.relative_to(folder)) for path in paths]


def _pictures(given: list[Path]) -> tuple[list[Path], str]:
    """The given files and those in given folders, and what was skipped in the folders."""
    from fastcnn.data.folders import Found, describe_passed, pictures_in

    paths, folders = [], Found()
    for path in given:
        paths += pictures_in(path, folders) if path.is_dir() else [path]
    return paths, describe_passed([folders]) if folders.passed else ""


def _values(images: list[str], numbers: "np.ndarray", names: tuple[str, ...]) -> Table:
    cells = [[f"{value:.6g}" for value in row] for row in numbers]
    if len(names) > VALUES:
        return _downwards(images, [list(zip(names, row, strict=True)) for row in cells], "")
    table = Table(Column("image", overflow="fold"), *number_columns(*names))
    for image, row in zip(images, cells, strict=True):
        table.add_row(image, *row)
    return table


def _ranked(numbers: "np.ndarray", names: tuple[str, ...]) -> list[list[tuple[str, str]]]:
    """The classes of each image with their probabilities, most likely first."""
    return [
        [(names[index], f"{100 * row[index]:.1f} %") for index in (-row).argsort(kind="stable")]
        for row in numbers
    ]


def _likeliest(images: list[str], rows: list[list[tuple[str, str]]], width: int) -> Table:
    """One line per image, with as many of the most likely classes as fit next to its name."""
    titles = ("class", "second", "third")[: min(LIKELIEST, len(rows[0]))]
    columns = [_aligned([row[place] for row in rows]) for place in range(len(titles))]
    lines = list(zip(images, *columns, strict=True))
    needed = [3 + max(map(len, column)) for column in zip(("image", *titles), *lines, strict=True)]
    while len(needed) > 2 and 1 + sum(needed) > width:
        needed.pop()
    table = Table(*(Column(title, overflow="fold") for title in ("image", *titles)[: len(needed)]))
    for line in lines:
        table.add_row(*line[: len(needed)])
    return table


def _aligned(cells: list[tuple[str, str]]) -> list[str]:
    """Names and probabilities, aligned in columns."""
    name, share = (max(map(cell_len, column)) for column in zip(*cells, strict=True))
    return [f"{set_cell_size(one, name)}  {other:>{share}}" for one, other in cells]


def _downwards(images: list[str], rows: list[list[tuple[str, str]]], title: str) -> Table:
    """One line per value: many of them do not fit the width of a terminal."""
    table = Table(
        Column("image", overflow="fold"),
        Column(title, overflow="fold"),
        Column("probability" if title else "", justify="right"),
    )
    for image, row in zip(images, rows, strict=True):
        for index, (name, number) in enumerate(row):
            table.add_row("" if index else image, name, number)
        table.add_section()
    return table


def _print_changes(console: Screen, images: list[str], read: "list[Picture]") -> None:
    """Report how the pictures were converted, grouping those converted the same way."""
    treated: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for image, picture in zip(images, read, strict=True):
        treated[picture.done].append(image)
    for done, names_of in treated.items():
        names = names_of[0] if len(names_of) == 1 else f"{len(names_of)} pictures"
        if done:
            console.say(f"{names}: {', '.join(done)}")
